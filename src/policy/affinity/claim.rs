//! A claim: what the cookies of one request say to one group at one moment, and what they are to
//! say from then on. Moments are seconds since 1970, read from the wall clock, for other nodes and
//! the next process judge the same pins.

use super::Refresh;
use super::cookie::{pieces, value_of};
use super::keys::Keyring;
use super::token::{Contents, Defect, GroupKey, Kind, MAX_PINS, Opened, Pin, Seed, TargetKey};

/// How many tokens of one request are opened. A browser sends two; more are leftovers of other
/// paths and domains, or someone who wants to see us hash.
pub const MOST_OPENED: usize = 4;

/// How far ahead a pin may have been written by a node whose clock is fast.
pub const MOST_AHEAD: u64 = 60;

/// What ALB writes in place of a shard it does not need; it is no pin and no defect either.
const REMOVED: &[u8] = b"_remove_";

/// The names under which a group's tokens come.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// The cookie itself.
    pub main: &'a str,
    /// Its CORS twin, where one is written. It counts first, for it is the one a browser sends in
    /// every context.
    pub twin: Option<&'a str>,
}

/// Who opens tokens: a keyring, or one who remembers what it opened.
pub trait Opener {
    /// Opens a token.
    ///
    /// # Errors
    /// As [`Keyring::open`].
    fn open(&self, kind: Kind, text: &[u8]) -> Result<Opened, Defect>;
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
    /// A token opened.
    Opened {
        /// All that is in it, for the other groups' pins are kept.
        contents: Contents,
        /// Whether it was sealed with the key that seals now.
        first_key: bool,
        /// What it holds for this group.
        pin: PinState,
    },
    /// No token: a value the client sends anyway stands for it, and this is its seed.
    Key(Seed),
}

impl Claim {
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

    /// All that was in the token that opened.
    pub fn contents(&self) -> Option<&Contents> {
        match self {
            Self::Opened { contents, .. } => Some(contents),
            Self::None | Self::Unusable(_) | Self::Key(_) => None,
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
    /// A pin that is too old, or too far ahead of our clock.
    Expired,
}

/// Reads a group's claim from the `Cookie` lines of a request. Candidates are the twin's values in
/// order, then the main name's. The first that opens and holds a pin in force wins; else the first
/// that opens; else the defect of the first counts.
pub fn find<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
    names: Names<'_>,
    opener: &impl Opener,
    kind: Kind,
    group: GroupKey,
    lifetime: u32,
    now: u64,
) -> Claim {
    let mut best = Claim::None;
    for text in candidates(lines, names, kind).iter().flat_map(Candidates::texts).take(MOST_OPENED)
    {
        match opener.open(kind, text) {
            Ok(Opened { contents, first_key }) => {
                let pin = state(contents.pin(group), lifetime, now);
                let opened = Claim::Opened { contents, first_key, pin };
                if let PinState::Held(_) = pin {
                    return opened;
                }
                if !matches!(best, Claim::Opened { .. }) {
                    best = opened;
                }
            }
            Err(defect) if best == Claim::None => best = Claim::Unusable(defect),
            Err(_) => {}
        }
    }
    best
}

/// What a token that holds this pin for a group says now.
pub fn state(pin: Option<Pin>, lifetime: u32, now: u64) -> PinState {
    match pin {
        None => PinState::Absent,
        Some(pin) if in_force(pin, lifetime, now) => PinState::Held(pin),
        Some(_) => PinState::Expired,
    }
}

/// The first texts under one name.
#[derive(Default)]
struct Candidates<'a>([Option<&'a [u8]>; MOST_OPENED]);

impl<'a> Candidates<'a> {
    fn add(&mut self, text: &'a [u8]) {
        if let Some(free) = self.0.iter_mut().find(|place| place.is_none()) {
            *free = Some(text);
        }
    }

    fn texts(&self) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().copied().flatten()
    }
}

/// The twin's texts, then the main name's, from one pass over the lines.
fn candidates<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
    names: Names<'_>,
    kind: Kind,
) -> [Candidates<'a>; 2] {
    let [mut twins, mut mains] = [Candidates::default(), Candidates::default()];
    let removed = |text: &[u8]| kind == Kind::App && text == REMOVED;
    // A line of nothing but semicolons has a piece for every byte.
    for piece in lines.flat_map(pieces).filter(|piece| !piece.is_empty()) {
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
    [twins, mains]
}

/// How old a pin is; `None` when it is too far ahead of our clock to be believed.
fn age(pin: Pin, now: u64) -> Option<u64> {
    let issued_at = u64::from(pin.issued_at);
    (issued_at <= now.saturating_add(MOST_AHEAD)).then(|| now.saturating_sub(issued_at))
}

/// Age gets no tolerance: a pin of one second is gone after one second.
fn in_force(pin: Pin, lifetime: u32, now: u64) -> bool {
    age(pin, now).is_some_and(|age| age < u64::from(lifetime))
}

/// Whether a pin in force is due to be written again, with a new time.
pub fn due(refresh: Refresh, pin: Pin, lifetime: u32, now: u64) -> bool {
    match refresh {
        Refresh::EachResponse => true,
        Refresh::HalfLife => age(pin, now).is_none_or(|age| age * 2 >= u64::from(lifetime)),
        Refresh::Never => false,
    }
}

/// What an answer does to the token of a client that met its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// Nothing is written.
    Leave,
    /// The same contents are sealed again with the key that seals now. Times stay, so that a
    /// rotation of keys lengthens no pin's life, whatever `refresh` says.
    Reseal,
    /// The pin gets a new time: [`renew`].
    Renew,
}

/// What is due for a pin in force that was found under `first_key` or another.
pub fn rewrite(refresh: Refresh, pin: Pin, first_key: bool, lifetime: u32, now: u64) -> Rewrite {
    match (due(refresh, pin, lifetime, now), first_key) {
        (true, _) => Rewrite::Renew,
        (false, false) => Rewrite::Reseal,
        (false, true) => Rewrite::Leave,
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
    let Some(mut contents) = contents.copied() else { return Contents::new(fresh_seed, pin) };
    if let Err(pin) = contents.put(pin) {
        let place = least_missed(&contents, now, lifetime_of);
        contents.put_instead_of(place, pin);
    }
    contents
}

/// Which of eight other groups' pins goes: the oldest of those that serve nobody, because they
/// expired or their group is unknown, else the oldest.
fn least_missed(
    contents: &Contents,
    now: u64,
    lifetime_of: impl Fn(GroupKey) -> Option<u32>,
) -> usize {
    let serves = |pin: &Pin| lifetime_of(pin.group).is_some_and(|life| in_force(*pin, life, now));
    let pins = contents.pins().iter().enumerate();
    pins.min_by_key(|(_, pin)| (serves(pin), pin.issued_at))
        .map_or(MAX_PINS - 1, |(place, _)| place)
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
        Some(now - age(pin, now)? + u64::from(lifetime))
    });
    ends.fold(now, u64::max)
}

#[cfg(test)]
mod tests;
