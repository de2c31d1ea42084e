//! A claim: what the cookies of one request say to one group at one moment.

use super::Refresh;
use super::cookie;
use super::keys::Keyring;
use super::token::{Contents, Defect, GroupKey, Kind, Pin, Seed, TargetKey};

/// The most tokens of one request that are opened: the CORS twin and the main cookie, each once
/// more for a cookie of the same name on another path or domain. The rest are ignored, so that
/// thousands of cookies cost no hashing.
pub const MOST_OPENED: usize = 4;

/// How far ahead of this clock a pin may be and still count as issued now: two nodes' clocks may
/// disagree by so much.
pub const CLOCK_TOLERANCE: u64 = 60;

/// The names under which a group's token comes back.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// The main cookie.
    pub main: &'a str,
    /// Its CORS twin, which wins where both are sent (AWS, "Sticky sessions").
    pub twin: Option<&'a str>,
}

/// What the cookies say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// There is no token.
    None,
    /// There is one, and it does not open.
    Unusable(Defect),
    /// There is one that opens.
    Opened {
        /// What is in it.
        contents: Contents,
        /// Whether the key that seals opened it.
        first_key: bool,
        /// What it says of this group.
        pin: PinState,
    },
}

/// What a good token says of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinState {
    /// Nothing.
    Absent,
    /// The client is bound to a target.
    Held(Pin),
    /// It was, too long ago or too far ahead.
    Expired,
}

/// Reads a claim: the twin's values in order, then the main cookie's; the first that opens and
/// holds an unexpired pin for this group, else the first that opens, else the defect of the first.
/// `lines` gives the values of all Cookie fields, each time it is asked.
pub fn find<'a, Lines: Iterator<Item = &'a [u8]>>(
    lines: impl Fn() -> Lines,
    names: Names<'_>,
    keyring: &Keyring,
    kind: Kind,
    group: GroupKey,
    lifetime: u32,
    now: u64,
) -> Claim {
    let twin = names.twin.into_iter().flat_map(|name| cookie::values(lines(), name));
    let texts = twin.chain(cookie::values(lines(), names.main));
    let mut best = Claim::None;
    for text in texts.take(MOST_OPENED) {
        match keyring.open(kind, text) {
            Ok(opened) => {
                let pin = state_of(opened.contents.pin(group), lifetime, now);
                let (contents, first_key) = (opened.contents, opened.first_key);
                let claim = Claim::Opened { contents, first_key, pin };
                if matches!(pin, PinState::Held(_)) {
                    return claim;
                }
                if !matches!(best, Claim::Opened { .. }) {
                    best = claim;
                }
            }
            Err(defect) if best == Claim::None => best = Claim::Unusable(defect),
            Err(_) => {}
        }
    }
    best
}

fn state_of(pin: Option<Pin>, lifetime: u32, now: u64) -> PinState {
    match pin {
        None => PinState::Absent,
        Some(pin) if is_alive(&pin, lifetime, now) => PinState::Held(pin),
        Some(_) => PinState::Expired,
    }
}

fn is_alive(pin: &Pin, lifetime: u32, now: u64) -> bool {
    let issued_at = u64::from(pin.issued_at);
    issued_at <= now + CLOCK_TOLERANCE && now.saturating_sub(issued_at) < u64::from(lifetime)
}

/// Whether a pin that hit is to be written again.
pub fn due(refresh: Refresh, pin: &Pin, lifetime: u32, now: u64) -> bool {
    match refresh {
        Refresh::EachResponse => true,
        Refresh::HalfLife => {
            now.saturating_sub(u64::from(pin.issued_at)) >= u64::from(lifetime.div_ceil(2))
        }
        Refresh::Never => false,
    }
}

/// What the client is to carry from now on: the old seed and pins, this group's pin in its place.
///
/// Where nine pins would remain, an expired or unknown one goes, the oldest first; where all are
/// good, the oldest goes. Until then even an expired pin stays: its group judges it.
pub fn renew(
    old: Option<&Contents>,
    fresh_seed: Seed,
    group: GroupKey,
    target: TargetKey,
    now: u64,
    lifetime_of: impl Fn(GroupKey) -> Option<u32>,
) -> Contents {
    let pin = Pin { group, target, issued_at: u32::try_from(now).unwrap_or(u32::MAX) };
    let Some(old) = old else { return Contents::new(fresh_seed, pin) };
    let mut contents = *old;
    if contents.put(pin).is_err() {
        let is_good =
            |held: &Pin| lifetime_of(held.group).is_some_and(|life| is_alive(held, life, now));
        let pins = contents.pins().iter().enumerate();
        let oldest = pins.min_by_key(|(_, held)| (is_good(held), held.issued_at));
        if let Some((place, _)) = oldest {
            contents.put_instead_of(place, pin);
        }
    }
    contents
}

/// When the last of the pins ends, in seconds since the Unix epoch: what `Expires` says.
pub fn latest_expiry(
    contents: &Contents,
    lifetime_of: impl Fn(GroupKey) -> Option<u32>,
    now: u64,
) -> u64 {
    let ends = contents.pins().iter().filter_map(|pin| {
        let life = lifetime_of(pin.group)?;
        is_alive(pin, life, now).then(|| u64::from(pin.issued_at) + u64::from(life))
    });
    ends.max().unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::super::keys::Key;
    use super::*;
    use crate::ground::secret::Secret;
    use proptest::prelude::*;

    const NOW: u64 = 1_800_000_000;
    const LIFE: u32 = 3_600;
    const APP: GroupKey = GroupKey(1);
    const API: GroupKey = GroupKey(2);
    const SEED: Seed = Seed(7);

    fn ring(byte: u8) -> Keyring {
        Keyring::new(&[Key { id: 1, material: Secret::new(vec![byte; 32]) }]).unwrap()
    }

    fn pin(group: GroupKey, target: u64, age: i64) -> Pin {
        let issued_at = u32::try_from(NOW as i64 - age).unwrap();
        Pin { group, target: TargetKey(target), issued_at }
    }

    fn token(pins: &[Pin]) -> String {
        let mut contents = Contents::new(SEED, pins[0]);
        pins[1..].iter().for_each(|pin| contents.put(*pin).unwrap());
        ring(1).seal(Kind::Lb, &contents).as_str().to_owned()
    }

    fn claim(line: &str) -> Claim {
        let names = Names { main: "A", twin: Some("ACORS") };
        find(|| [line.as_bytes()].into_iter(), names, &ring(1), Kind::Lb, APP, LIFE, NOW)
    }

    fn held(claim: &Claim) -> Option<u64> {
        match claim {
            Claim::Opened { pin: PinState::Held(pin), .. } => Some(pin.target.0),
            _ => None,
        }
    }

    #[test]
    fn the_twin_wins_over_the_main_cookie() {
        let (one, two) = (token(&[pin(APP, 1, 0)]), token(&[pin(APP, 2, 0)]));
        assert_eq!(held(&claim(&format!("A={one}; ACORS={two}"))), Some(2));
    }

    #[test]
    fn the_first_live_pin_wins_then_the_first_that_opens_then_the_first_defect() {
        let live = token(&[pin(APP, 1, 0)]);
        let old = token(&[pin(APP, 2, 4_000)]);
        let other = token(&[pin(API, 3, 0)]);
        assert_eq!(held(&claim(&format!("A=junk; A={old}; A={live}"))), Some(1));
        let Claim::Opened { pin: state, .. } = claim(&format!("A=junk; A={old}; A={other}")) else {
            panic!("it opens");
        };
        assert_eq!(state, PinState::Expired);
        let foreign = ring(9).seal(Kind::Lb, &Contents::new(SEED, pin(APP, 1, 0)));
        let line = format!("A=junk; A={}", foreign.as_str());
        assert_eq!(claim(&line), Claim::Unusable(Defect::Malformed));
        assert_eq!(claim("B=x"), Claim::None);
    }

    #[test]
    fn no_more_than_four_tokens_are_opened() {
        let live = token(&[pin(APP, 1, 0)]);
        assert_eq!(held(&claim(&format!("A=a; A=b; A=c; A={live}"))), Some(1));
        assert_eq!(held(&claim(&format!("A=a; A=b; A=c; A=d; A={live}"))), None);
    }

    #[test]
    fn age_gets_no_tolerance_and_the_future_gets_a_minute() {
        for (age, alive) in [(0, true), (3_599, true), (3_600, false), (-60, true), (-61, false)] {
            let text = token(&[pin(APP, 1, age)]);
            assert_eq!(held(&claim(&format!("A={text}"))).is_some(), alive, "age {age}");
        }
    }

    #[test]
    fn a_pin_is_due_as_the_group_says() {
        let fresh = pin(APP, 1, 1_799);
        let used = pin(APP, 1, 1_800);
        assert!(due(Refresh::EachResponse, &fresh, LIFE, NOW));
        assert!(!due(Refresh::HalfLife, &fresh, LIFE, NOW));
        assert!(due(Refresh::HalfLife, &used, LIFE, NOW));
        assert!(!due(Refresh::Never, &used, LIFE, NOW));
    }

    #[test]
    fn a_ninth_pin_takes_the_place_of_the_oldest_that_is_no_good() {
        let mut contents = Contents::new(SEED, pin(GroupKey(0), 1, 10));
        for group in 1..8 {
            // Group 5 is unknown, group 3 has expired and is older; all others are good.
            let age = [20, 30, 5_000, 40, 1, 50, 60][group as usize - 1];
            contents.put(pin(GroupKey(group), 1, age)).unwrap();
        }
        let lifetime_of = |group: GroupKey| (group != GroupKey(5)).then_some(LIFE);
        let groups = |contents: &Contents| -> Vec<u32> {
            contents.pins().iter().map(|pin| pin.group.0).collect()
        };
        let ninth = renew(Some(&contents), SEED, GroupKey(8), TargetKey(1), NOW, lifetime_of);
        assert_eq!(groups(&ninth), [0, 1, 2, 4, 5, 6, 7, 8]);
        let tenth = renew(Some(&ninth), SEED, GroupKey(9), TargetKey(1), NOW, lifetime_of);
        assert_eq!(groups(&tenth), [0, 1, 2, 4, 6, 7, 8, 9]);
        let eleventh = renew(Some(&tenth), SEED, GroupKey(10), TargetKey(1), NOW, lifetime_of);
        assert_eq!(groups(&eleventh), [0, 1, 2, 4, 6, 8, 9, 10]);
    }

    #[test]
    fn the_cookie_ends_with_the_last_pin_inside() {
        let mut contents = Contents::new(SEED, pin(APP, 1, 100));
        contents.put(pin(API, 1, 0)).unwrap();
        let lifetime_of = |group| Some(if group == APP { 1_000 } else { 500 });
        assert_eq!(latest_expiry(&contents, lifetime_of, NOW), NOW + 900);
    }

    proptest! {
        #[test]
        fn two_groups_in_one_cookie_survive_a_hundred_crossing_renewals(order in prop::collection::vec(any::<(bool, bool)>(), 100)) {
            // Two requests leave with the same cookie; each answer renews its own group's pin, and
            // whichever answer comes last is what the browser keeps.
            let lifetime_of = |_| Some(LIFE);
            let mut jar = Contents::new(SEED, pin(APP, 1, 0));
            jar.put(pin(API, 2, 0)).unwrap();
            for (step, (crossing, app_last)) in order.into_iter().enumerate() {
                let now = NOW + step as u64;
                let app = renew(Some(&jar), Seed(0), APP, TargetKey(1), now, lifetime_of);
                let base = if crossing { &jar } else { &app };
                let api = renew(Some(base), Seed(0), API, TargetKey(2), now, lifetime_of);
                jar = if crossing && app_last { app } else { api };
                prop_assert_eq!(jar.seed(), SEED);
                prop_assert_eq!(jar.pin(APP).map(|pin| pin.target), Some(TargetKey(1)));
                prop_assert_eq!(jar.pin(API).map(|pin| pin.target), Some(TargetKey(2)));
            }
        }
    }
}
