//! A claim: what the cookies of one request hold for one group at one moment, and what the response
//! should write. Moments are seconds since 1970 of the wall clock, because other nodes and the next
//! process judge the same pins.

use super::Refresh;
use super::cookie::{pieces, value_of};
use super::keys::Keyring;
use super::token::{Contents, Defect, GroupKey, Kind, MAX_PINS, Opened, Pin, Seed, TargetKey};

/// The maximum number of different tokens of one request that are opened. A browser sends two,
/// usually equal; more are leftovers of other paths and domains, or an attempt to cost hashing
/// time.
pub const MAX_OPENED: usize = 4;

/// Seconds that a pin may be ahead of our clock. Beyond that it is written again whatever `refresh`
/// is, and the difference is logged. Clocks kept by NTP never reach it.
pub const MAX_AHEAD: u32 = 60;

/// ALB writes this in place of a shard it does not need; it is neither a pin nor a defect.
const REMOVED: &[u8] = b"_remove_";

/// The cookie names that carry a group's tokens.
#[derive(Clone, Copy, Debug)]
pub struct CookieNames<'a> {
    /// The affinity cookie.
    pub main: &'a str,
    /// Its CORS twin, if one is written. Of equally new pins the twin's counts, because a browser
    /// sends the twin in every context.
    pub twin: Option<&'a str>,
}

/// Opens tokens: a keyring, or a cache of the tokens it opened.
pub trait Opener {
    /// Opens a token.
    ///
    /// # Errors
    /// As [`Keyring::open`].
    fn open(&self, kind: Kind, text: &[u8]) -> Result<Opened, Defect>;

    /// The lifetime of the pins of a group (a rule) in seconds; `None` if the group is unknown, as
    /// it is to a keyring alone. Needed if several tokens hold more pins than one can.
    fn lifetime_of(&self, _kind: Kind, _group: GroupKey) -> Option<u32> {
        None
    }
}

impl Opener for Keyring {
    fn open(&self, kind: Kind, text: &[u8]) -> Result<Opened, Defect> {
        self.open(kind, text)
    }
}

/// The content of one request's cookies for one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// There is no token.
    None,
    /// There are tokens, but none opens; this is the defect of the first.
    Unusable(Defect),
    /// One token opened, or several did and this one decides.
    Opened {
        /// The seed of the deciding token, and the newest pin of each group from all tokens that
        /// opened: at most [`MAX_PINS`], the least needed left out. No time in it is ahead of our
        /// clock.
        contents: Contents,
        /// True if the deciding token was sealed with the key that seals now.
        first_key: bool,
        /// Seconds that the furthest of all pins was ahead of our clock, before its time was set to
        /// now.
        ahead: u32,
        /// The state of this group's pin.
        pin: PinState,
    },
    /// No token: a value that the client sends anyway gives this seed.
    Key(Seed),
}

impl Claim {
    /// Sets the claim from an opened token, for `group`.
    #[inline]
    fn hold(&mut self, opened: &Opened, group: GroupKey, lifetime: u32, now: u64) {
        let Opened { contents, first_key } = *opened;
        *self = Self::Opened { contents, first_key, ahead: 0, pin: PinState::Absent };
        if let Self::Opened { contents, ahead, pin, .. } = self {
            *ahead = contents.keep_times_to(now);
            *pin = state(contents.pin(group), lifetime, now);
        }
    }

    /// The client's seed, if it is known.
    pub fn seed(&self) -> Option<Seed> {
        match self {
            Self::Opened { contents, .. } => Some(contents.seed()),
            Self::Key(seed) => Some(*seed),
            Self::None | Self::Unusable(_) => None,
        }
    }

    /// The pin in force for the group of the claim.
    pub fn held(&self) -> Option<Pin> {
        match self {
            Self::Opened { pin: PinState::Held(pin), .. } => Some(*pin),
            _ => None,
        }
    }

    /// The joined contents of the tokens that opened.
    pub fn contents(&self) -> Option<&Contents> {
        match self {
            Self::Opened { contents, .. } => Some(contents),
            Self::None | Self::Unusable(_) | Self::Key(_) => None,
        }
    }

    /// Seconds that another node's clock is ahead of ours, if more than [`MAX_AHEAD`].
    pub fn clock_ahead(&self) -> Option<u32> {
        match self {
            Self::Opened { ahead, .. } if *ahead > MAX_AHEAD => Some(*ahead),
            _ => None,
        }
    }
}

/// The state of a token's pin for one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinState {
    /// There is no pin; the seed gives the client's ranking.
    Absent,
    /// The pin is in force.
    Held(Pin),
    /// The pin is older than its lifetime.
    Expired,
}

/// Reads a group's claim from the `Cookie` lines of a request. Candidates are the twin's values in
/// order, then the main name's, equal ones once. Of those that open and hold a pin in force, the
/// one whose pin was issued last decides, the first of equally new ones; if none does, the first
/// that opens; if none opens, the defect of the first counts.
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

/// As [`find`], but writes into `found`, which must be [`Claim::None`]. A claim is large and is
/// handed through several structs; this saves the copies.
#[expect(
    clippy::too_many_arguments,
    reason = "the arguments of `find`, and the place for the result"
)]
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

/// Joins two tokens of one request into one claim for `group`; `earlier` came first.
// Cold: most clients send one token, or the same token twice.
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
        // The deciding token alone gives the pin of `group`.
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

/// The state of a pin at `now`.
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

/// The twin's texts and the main name's, from one pass over the lines. At most [`MAX_OPENED`]
/// different texts in all; the twin's come first.
#[inline]
fn candidates<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
    names: CookieNames<'_>,
    kind: Kind,
) -> Candidates<'a> {
    let [mut twins, mut mains] = [Candidates::default(), Candidates::default()];
    let removed = |text: &[u8]| kind == Kind::App && text == REMOVED;
    for line in lines {
        // A line of semicolons alone has a piece for each byte.
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

/// The age of a pin in seconds. A time ahead of our clock is read as now: the pin is authentic, so
/// another node's clock is ahead, or ours is behind.
fn age(pin: Pin, now: u64) -> u64 {
    now.saturating_sub(u64::from(pin.issued_at))
}

/// Age gets no tolerance: a pin of one second is expired after one second.
fn in_force(pin: Pin, lifetime: u32, now: u64) -> bool {
    age(pin, now) < u64::from(lifetime)
}

/// Returns true if half of a pin's lifetime is used.
pub fn is_half_used(pin: Pin, lifetime: u32, now: u64) -> bool {
    age(pin, now) * 2 >= u64::from(lifetime)
}

/// Returns true if a pin in force is due to be written again with a new time.
pub fn due(refresh: Refresh, pin: Pin, lifetime: u32, now: u64) -> bool {
    match refresh {
        Refresh::EachResponse => true,
        Refresh::HalfLife => is_half_used(pin, lifetime, now),
        Refresh::Never => false,
    }
}

/// The change that a response makes to the token of a client that reached its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// Nothing is written.
    Leave,
    /// The same contents are sealed again with the key that seals now. Times stay, except those
    /// that were ahead of our clock, so that a key rotation extends no pin's lifetime, whatever
    /// `refresh` is.
    Reseal,
    /// The pin gets a new time: [`renew`].
    Renew,
}

/// Returns the change that is due for a pin in force. `outdated` means that its token must not stay
/// as it is: another key sealed it, or a pin in it is more than [`MAX_AHEAD`] ahead of our clock.
pub fn rewrite(refresh: Refresh, pin: Pin, outdated: bool, lifetime: u32, now: u64) -> Rewrite {
    match (due(refresh, pin, lifetime, now), outdated) {
        (true, _) => Rewrite::Renew,
        (false, true) => Rewrite::Reseal,
        (false, false) => Rewrite::Leave,
    }
}

/// Returns the contents with a pin for this group and target, made now. Other groups' pins keep
/// their times. `fresh_seed` is for a client without contents. `lifetime_of` gives the known
/// groups.
pub fn renew(
    contents: Option<&Contents>,
    fresh_seed: Seed,
    group: GroupKey,
    target: TargetKey,
    now: u64,
    lifetime_of: impl Fn(GroupKey) -> Option<u32>,
) -> Contents {
    let pin = Pin { group, target, issued_at: u32::try_from(now).unwrap_or(u32::MAX) };
    // One value until the end, so that it is copied once: it is large.
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

/// Index of the pin to drop when all eight places are taken: the oldest of those that are expired
/// or of an unknown group, else the oldest. The pin for `asked`, if there is one, is skipped.
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

/// Sort key: pins to drop come first, that is, expired ones and those of unknown groups, then pins
/// in force; of each, older before newer.
fn missed(pin: &Pin, now: u64, lifetime_of: impl Fn(GroupKey) -> Option<u32>) -> (bool, u32) {
    let serves = lifetime_of(pin.group).is_some_and(|life| in_force(*pin, life, now));
    (serves, pin.issued_at)
}

/// The time at which the last of the pins expires: the cookie's `Expires`. A pin that expired, or
/// whose group is unknown, does not extend it; with no other pin, it is now.
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
