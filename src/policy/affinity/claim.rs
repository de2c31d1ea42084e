//! A claim: what the cookies of one request say to one group at one moment, and what they are to
//! say from then on. Moments are seconds since 1970, read from the wall clock, for other nodes and
//! the next process judge the same pins.

use super::Refresh;
use super::cookie::{pieces, value_of};
use super::keys::Keyring;
use super::token::{Contents, Defect, GroupKey, Kind, MAX_PINS, Opened, Pin, Seed, TargetKey};

/// How many different tokens of one request are opened. A browser sends two, which are most often
/// equal; more are leftovers of other paths and domains, or a client that wants to see us hash.
pub const MAX_OPENED: usize = 4;

/// How many seconds a pin may be ahead of our clock before it is written again whatever `refresh`
/// says, and the difference is told: what clocks that are kept by NTP never reach.
pub const MAX_AHEAD: u32 = 60;

/// What ALB writes in place of a shard it does not need; it is no pin and no defect either.
const REMOVED: &[u8] = b"_remove_";

/// The names under which a group's tokens come.
#[derive(Clone, Copy, Debug)]
pub struct CookieNames<'a> {
    /// The cookie itself.
    pub main: &'a str,
    /// Its CORS twin, where one is written. Of pins that are equally new the twin's counts, for it is
    /// the one a browser sends in every context.
    pub twin: Option<&'a str>,
}

/// What opens tokens: a keyring, or what remembers the tokens it opened.
pub trait Opener {
    /// Opens a token.
    ///
    /// # Errors
    /// As [`Keyring::open`].
    fn open(&self, kind: Kind, text: &[u8]) -> Result<Opened, Defect>;

    /// How long the pins of a group (a rule) live; `None` where no such group is known, as to a
    /// keyring alone. Asked where several tokens hold more pins than one can.
    fn lifetime_of(&self, _kind: Kind, _group: GroupKey) -> Option<u32> {
        None
    }
}

impl Opener for Keyring {
    fn open(&self, kind: Kind, text: &[u8]) -> Result<Opened, Defect> {
        self.open(kind, text)
    }
}

/// What the cookies of one request say to one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// There is no token.
    None,
    /// There are tokens, none opens, and the first has this defect.
    Unusable(Defect),
    /// A token opened, or several did and this one decides.
    Opened {
        /// The seed of the one that decides, and of every group the newest pin of all that opened: at
        /// most [`MAX_PINS`], the least missed left out. No time in it is ahead of our clock.
        contents: Contents,
        /// Whether the one that decides was sealed with the key that seals now.
        first_key: bool,
        /// By how many seconds the furthest of all pins was ahead of our clock, before it was read as
        /// now.
        ahead: u32,
        /// What it holds for this group.
        pin: PinState,
    },
    /// No token: a value the client sends anyway stands for it, and this is its seed.
    Key(Seed),
}

impl Claim {
    /// Becomes what a token that opened says to `group`.
    #[inline]
    fn hold(&mut self, opened: &Opened, group: GroupKey, lifetime: u32, now: u64) {
        let Opened { contents, first_key } = *opened;
        *self = Self::Opened { contents, first_key, ahead: 0, pin: PinState::Absent };
        if let Self::Opened { contents, ahead, pin, .. } = self {
            *ahead = contents.keep_times_to(now);
            *pin = state(contents.pin(group), lifetime, now);
        }
    }

    /// Where the client stands in every ranking, if that is known.
    pub fn seed(&self) -> Option<Seed> {
        match self {
            Self::Opened { contents, .. } => Some(contents.seed()),
            Self::Key(seed) => Some(*seed),
            Self::None | Self::Unusable(_) => None,
        }
    }

    /// The pin in force for the group that was asked about.
    pub fn held(&self) -> Option<Pin> {
        match self {
            Self::Opened { pin: PinState::Held(pin), .. } => Some(*pin),
            _ => None,
        }
    }

    /// All that was in the tokens that opened.
    pub fn contents(&self) -> Option<&Contents> {
        match self {
            Self::Opened { contents, .. } => Some(contents),
            Self::None | Self::Unusable(_) | Self::Key(_) => None,
        }
    }

    /// By how many seconds another node's clock is ahead of ours, where that is more than
    /// [`MAX_AHEAD`].
    pub fn clock_ahead(&self) -> Option<u32> {
        match self {
            Self::Opened { ahead, .. } if *ahead > MAX_AHEAD => Some(*ahead),
            _ => None,
        }
    }
}

/// What a token holds for one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinState {
    /// Nothing; the seed says where the client belongs.
    Absent,
    /// A pin that is in force.
    Held(Pin),
    /// A pin that is too old.
    Expired,
}

/// Reads a group's claim from the `Cookie` lines of a request. Candidates are the twin's values in
/// order, then the main name's, equal ones once. Of those that open and hold a pin in force, the one
/// whose pin was issued last decides, the first of equally new ones; else the first that opens; else
/// the defect of the first counts.
pub fn find<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
    names: CookieNames<'_>,
    opener: &impl Opener,
    kind: Kind,
    group: GroupKey,
    lifetime: u32,
    now: u64,
) -> Claim {
    let mut found = Claim::None;
    find_into(&mut found, lines, names, opener, kind, group, lifetime, now);
    found
}

/// The same where the claim is to be, which is [`Claim::None`] before: it is large, and a request's
/// is on its way through several structs.
#[expect(clippy::too_many_arguments, reason = "where it goes, and what find takes")]
pub fn find_into<'a>(
    found: &mut Claim,
    lines: impl Iterator<Item = &'a [u8]>,
    names: CookieNames<'_>,
    opener: &impl Opener,
    kind: Kind,
    group: GroupKey,
    lifetime: u32,
    now: u64,
) {
    for text in candidates(lines, names, kind).texts() {
        match opener.open(kind, text) {
            Ok(opened) if matches!(found, Claim::Opened { .. }) => {
                let mut later = Claim::None;
                later.hold(&opened, group, lifetime, now);
                let lifetime_of = |key| opener.lifetime_of(kind, key);
                *found = joined(*found, later, group, now, lifetime_of);
            }
            Ok(opened) => found.hold(&opened, group, lifetime, now),
            Err(defect) if matches!(found, Claim::None) => *found = Claim::Unusable(defect),
            Err(_) => {}
        }
    }
}

/// What two tokens of one request say to `group` together; `earlier` stood first.
// Out of the way of the clients that bring one token, or the same twice.
#[cold]
fn joined(
    earlier: Claim,
    later: Claim,
    group: GroupKey,
    now: u64,
    lifetime_of: impl Fn(GroupKey) -> Option<u32>,
) -> Claim {
    let issued_at = |claim: &Claim| claim.held().map(|pin| pin.issued_at);
    let later_decides = issued_at(&later) > issued_at(&earlier);
    let (mut decides, other) = if later_decides { (later, earlier) } else { (earlier, later) };
    if let (
        Claim::Opened { contents, ahead, .. },
        Claim::Opened { contents: others, ahead: others_ahead, .. },
    ) = (&mut decides, other)
    {
        *ahead = others_ahead.max(*ahead);
        let is_newer = |pin: Pin, held: Pin| match later_decides {
            true => pin.issued_at >= held.issued_at,
            false => pin.issued_at > held.issued_at,
        };
        // What there is to say of `group` the deciding token has said.
        for &pin in others.pins().iter().filter(|pin| pin.group != group) {
            if contents.pin(pin.group).is_some_and(|held| !is_newer(pin, held)) {
                continue;
            }
            if let Err(pin) = contents.put(pin) {
                let missed = |pin: &Pin| missed(pin, now, &lifetime_of);
                let place = least_missed(contents, group, now, &lifetime_of);
                if missed(&pin) > missed(&contents.pins()[place]) {
                    contents.put_instead_of(place, pin);
                }
            }
        }
    }
    decides
}

/// What a token that holds this pin for a group says now.
pub fn state(pin: Option<Pin>, lifetime: u32, now: u64) -> PinState {
    match pin {
        None => PinState::Absent,
        Some(pin) if in_force(pin, lifetime, now) => PinState::Held(pin),
        Some(_) => PinState::Expired,
    }
}

/// The first different texts, in order.
#[derive(Default)]
struct Candidates<'a> {
    texts: [&'a [u8]; MAX_OPENED],
    /// 0..=MAX_OPENED.
    count: usize,
}

impl<'a> Candidates<'a> {
    #[inline]
    fn add(&mut self, text: &'a [u8]) {
        if self.count < MAX_OPENED && !self.texts().contains(&text) {
            self.texts[self.count] = text;
            self.count += 1;
        }
    }

    #[inline]
    fn texts(&self) -> &[&'a [u8]] {
        &self.texts[..self.count]
    }
}

/// The twin's texts, then the main name's, from one pass over the lines: of each the first
/// [`MAX_OPENED`] different ones, and no more of both together.
#[inline]
fn candidates<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
    names: CookieNames<'_>,
    kind: Kind,
) -> Candidates<'a> {
    let [mut twins, mut mains] = [Candidates::default(), Candidates::default()];
    let removed = |text: &[u8]| kind == Kind::App && text == REMOVED;
    for line in lines {
        // A line of nothing but semicolons has a piece for every byte.
        for piece in pieces(line).filter(|piece| !piece.is_empty()) {
            if let Some(text) = value_of(piece, names.main) {
                if !removed(text) {
                    mains.add(text);
                }
            } else if let Some(text) = names.twin.and_then(|twin| value_of(piece, twin))
                && !removed(text)
            {
                twins.add(text);
            }
        }
    }
    if twins.count == 0 {
        return mains;
    }
    mains.texts().iter().for_each(|text| twins.add(text));
    twins
}

/// How old a pin is. A time ahead of our clock is read as now: the pin is authentic, so that it is
/// another node's clock that is ahead, or ours that is behind.
fn age(pin: Pin, now: u64) -> u64 {
    now.saturating_sub(u64::from(pin.issued_at))
}

/// Age gets no tolerance: a pin of one second is gone after one second.
fn in_force(pin: Pin, lifetime: u32, now: u64) -> bool {
    age(pin, now) < u64::from(lifetime)
}

/// Whether half of a pin's life is used.
pub fn is_half_used(pin: Pin, lifetime: u32, now: u64) -> bool {
    age(pin, now) * 2 >= u64::from(lifetime)
}

/// Whether a pin in force is due to be written again, with a new time.
pub fn due(refresh: Refresh, pin: Pin, lifetime: u32, now: u64) -> bool {
    match refresh {
        Refresh::EachResponse => true,
        Refresh::HalfLife => is_half_used(pin, lifetime, now),
        Refresh::Never => false,
    }
}

/// What an answer does to the token of a client that met its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// Nothing is written.
    Leave,
    /// The same contents are sealed again with the key that seals now. Times stay but for those that
    /// were ahead of our clock, so that a rotation of keys lengthens no pin's life, whatever `refresh`
    /// says.
    Reseal,
    /// The pin gets a new time: [`renew`].
    Renew,
}

/// What is due for a pin in force. `outdated` says that its token must not stay as it is: another key
/// sealed it, or a pin in it is more than [`MAX_AHEAD`] ahead of our clock.
pub fn rewrite(refresh: Refresh, pin: Pin, outdated: bool, lifetime: u32, now: u64) -> Rewrite {
    match (due(refresh, pin, lifetime, now), outdated) {
        (true, _) => Rewrite::Renew,
        (false, true) => Rewrite::Reseal,
        (false, false) => Rewrite::Leave,
    }
}

/// The contents with a pin for this group and target, made now. Other groups' pins keep their
/// times. `fresh_seed` serves a client that has none. `lifetime_of` knows the groups there are.
pub fn renew(
    contents: Option<&Contents>,
    fresh_seed: Seed,
    group: GroupKey,
    target: TargetKey,
    now: u64,
    lifetime_of: impl Fn(GroupKey) -> Option<u32>,
) -> Contents {
    let pin = Pin { group, target, issued_at: u32::try_from(now).unwrap_or(u32::MAX) };
    // One value from here to the end, so that it is copied once: it is large.
    let mut contents = match contents {
        Some(contents) => *contents,
        None => Contents::new(fresh_seed, pin),
    };
    if let Err(pin) = contents.put(pin) {
        let place = least_missed(&contents, group, now, lifetime_of);
        contents.put_instead_of(place, pin);
    }
    contents
}

/// Which of eight pins goes: the oldest of those that serve no request, because they expired or their
/// group is unknown, else the oldest. The pin for `asked`, if there is one, is not looked at.
fn least_missed(
    contents: &Contents,
    asked: GroupKey,
    now: u64,
    lifetime_of: impl Fn(GroupKey) -> Option<u32>,
) -> usize {
    let pins = contents.pins().iter().enumerate().filter(|(_, pin)| pin.group != asked);
    pins.min_by_key(|(_, pin)| missed(pin, now, &lifetime_of))
        .map_or(MAX_PINS - 1, |(place, _)| place)
}

/// How much a pin would be missed: whether it serves, then how new it is.
fn missed(pin: &Pin, now: u64, lifetime_of: impl Fn(GroupKey) -> Option<u32>) -> (bool, u32) {
    let serves = lifetime_of(pin.group).is_some_and(|life| in_force(*pin, life, now));
    (serves, pin.issued_at)
}

/// When the last of the pins inside ends: the cookie's `Expires`. A pin that expired, or whose
/// group is unknown, keeps no cookie alive; with no other, the cookie ends now.
pub fn latest_expiry(
    contents: &Contents,
    lifetime_of: impl Fn(GroupKey) -> Option<u32>,
    now: u64,
) -> u64 {
    let ends = contents.pins().iter().filter_map(|&pin| {
        let lifetime = lifetime_of(pin.group)?;
        Some(now.saturating_sub(age(pin, now)) + u64::from(lifetime))
    });
    ends.fold(now, u64::max)
}

#[cfg(test)]
mod tests;
