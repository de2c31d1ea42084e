//! Which token decides, when a pin expires, and which pins a cookie keeps.

use std::cell::Cell;

use proptest::prelude::*;

use super::*;
use crate::base::secret::Secret;
use crate::policy::affinity::keys::Key;

const NOW: u64 = 1_767_225_600;
const DAY: u32 = 86_400;
const HERE: GroupKey = GroupKey(1);
const NAMES: CookieNames<'_> = CookieNames { main: "AWSALB", twin: Some("AWSALBCORS") };

fn ring(ids: &[u8]) -> Keyring {
    let key = |&id| Key { id, material: Secret::new(vec![id; 32]) };
    Keyring::new(&ids.iter().map(key).collect::<Vec<_>>()).unwrap()
}

fn pin(group: u32, target: u64, age: i64) -> Pin {
    let issued_at = (NOW as i64 - age) as u32;
    Pin { group: GroupKey(group), target: TargetKey(target), issued_at }
}

fn token(pin: Pin) -> String {
    ring(&[1]).seal(Kind::Lb, &Contents::new(Seed(7), pin)).as_str().to_owned()
}

fn claim(lines: &[&str]) -> Claim {
    let lines = lines.iter().map(|line| line.as_bytes());
    find(lines, NAMES, &ring(&[2, 1]), Kind::Lb, HERE, DAY, NOW)
}

/// The target of the pin in force, or a word for another claim.
fn outcome(claim: Claim) -> String {
    match claim {
        Claim::None => "none".into(),
        Claim::Unusable(defect) => format!("{defect:?}"),
        Claim::Key(seed) => format!("{seed:?}"),
        Claim::Opened { pin: PinState::Held(pin), .. } => format!("held {}", pin.target.0),
        Claim::Opened { pin, contents, .. } => format!("{pin:?} {}", contents.pins()[0].target.0),
    }
}

#[test]
fn the_deciding_token_is_the_one_the_documented_order_gives() {
    let good = |target| token(pin(1, target, 10));
    let (old, other) = (token(pin(1, 8, 90_000)), token(pin(2, 9, 10)));
    let (a, b) = (good(1), good(2));
    let forged = format!("{}{}", &a[..55], if a.ends_with('A') { 'B' } else { 'A' });
    let foreign = ring(&[3]).seal(Kind::Lb, &Contents::new(Seed(7), pin(1, 1, 0)));
    let foreign = foreign.as_str();
    let check = |line: String, expected: &str| {
        assert_eq!(outcome(claim(&[&line])), expected, "{line}");
        // The same cookies as HTTP/2 sends them, one line each.
        let cookie_parts: Vec<_> = line.split("; ").collect();
        assert_eq!(outcome(claim(&cookie_parts)), expected, "{line}");
    };
    check(String::new(), "none");
    check("b=1; AWSALB2=x; xAWSALB=y".into(), "none");
    check(format!("AWSALB={a}"), "held 1");
    // Equally new pins: the twin's, then the first in the line.
    check(format!("AWSALB={a}; AWSALBCORS={b}"), "held 2");
    check(format!("AWSALBCORS={b}; AWSALB={a}"), "held 2");
    check(format!("AWSALB={a}; AWSALB={b}"), "held 1");
    check(format!("AWSALBCORS={b}; AWSALBCORS={a}"), "held 2");
    // Else the newer pin, in any place.
    let (newer, newest) = (token(pin(1, 3, 9)), token(pin(1, 4, 8)));
    check(format!("AWSALB={newer}; AWSALBCORS={b}"), "held 3");
    check(format!("AWSALBCORS={b}; AWSALB={newer}"), "held 3");
    check(format!("AWSALB={newer}; AWSALB={a}"), "held 3");
    check(format!("AWSALB={a}; AWSALB={newer}"), "held 3");
    check(format!("AWSALBCORS={newer}; AWSALB={a}"), "held 3");
    check(format!("AWSALB={a}; AWSALBCORS={b}; AWSALB={newest}; AWSALBCORS={newer}"), "held 4");
    check(format!("AWSALB={newest}; AWSALBCORS={other}; AWSALB={old}; AWSALB={newer}"), "held 4");
    check(format!("AWSALB={a}; AWSALBCORS={old}"), "held 1");
    check(format!("AWSALB={a}; AWSALBCORS={other}"), "held 1");
    check(format!("AWSALB={a}; AWSALBCORS=junk; AWSALBCORS={forged}"), "held 1");
    check(format!("AWSALB={old}; AWSALBCORS={other}"), "Absent 9");
    check(format!("AWSALB={other}; AWSALBCORS={old}"), "Expired 8");
    check(format!("AWSALB={old}; AWSALBCORS={forged}"), "Expired 8");
    check(format!("AWSALB={forged}; AWSALBCORS=junk"), "Malformed");
    check(format!("AWSALB=junk; AWSALBCORS={forged}"), "Forged");
    check(format!("AWSALB=junk; AWSALBCORS={foreign}"), "UnknownKey");
    check(format!("AWSALB=\"{a}\""), "Malformed");
    check("AWSALB=".into(), "Malformed");
    // Equal texts count once, so that duplicates displace no other.
    check(format!("{}AWSALB={newer}", format!("AWSALB={a}; ").repeat(4)), "held 3");
    check(format!("{}AWSALB={newer}", format!("AWSALBCORS={a}; ").repeat(4)), "held 3");
    // Four are opened, the twin's first; a fifth is not read.
    check(format!("AWSALB={a}; AWSALBCORS=1; AWSALBCORS=2; AWSALBCORS=3"), "held 1");
    check(
        format!("AWSALB={a}; AWSALBCORS=1; AWSALBCORS=2; AWSALBCORS=3; AWSALBCORS=4"),
        "Malformed",
    );
    check(format!("AWSALB=1; AWSALB=2; AWSALB=3; AWSALB=4; AWSALB={a}"), "Malformed");
}

#[test]
fn without_a_twin_its_cookie_is_ignored() {
    let line = format!("AWSALBCORS={}", token(pin(1, 1, 0)));
    let names = CookieNames { main: "AWSALB", twin: None };
    let lines = [line.as_bytes()].into_iter();
    assert_eq!(find(lines, names, &ring(&[1]), Kind::Lb, HERE, DAY, NOW), Claim::None);
}

#[test]
fn an_unused_shard_of_a_companion_is_not_a_token() {
    let find = |kind| {
        let names = CookieNames { main: "AWSALBAPP-0", twin: None };
        let lines = [&b"AWSALBAPP-0=_remove_"[..]].into_iter();
        find(lines, names, &ring(&[1]), kind, HERE, DAY, NOW)
    };
    assert_eq!(find(Kind::App), Claim::None);
    assert_eq!(find(Kind::Lb), Claim::Unusable(Defect::Malformed));
}

#[test]
fn equal_texts_are_opened_once() {
    struct Counting(Keyring, Cell<u32>);
    impl Opener for Counting {
        fn open(&self, kind: Kind, text: &[u8]) -> Result<Opened, Defect> {
            self.1.set(self.1.get() + 1);
            self.0.open(kind, text)
        }
    }
    let (a, b) = (token(pin(1, 1, 10)), token(pin(1, 2, 10)));
    for (line, expected) in [
        (format!("AWSALB={a}"), 1),
        (format!("AWSALB={a}; AWSALBCORS={a}"), 1),
        (format!("AWSALBCORS={a}; AWSALB={a}; AWSALB={a}; AWSALBCORS={a}"), 1),
        (format!("AWSALB={a}; AWSALBCORS={b}; AWSALB={b}; AWSALBCORS={a}"), 2),
        ("AWSALB=junk; AWSALBCORS=junk; AWSALB=junk".to_owned(), 1),
        ("AWSALB=1; AWSALB=2; AWSALBCORS=3; AWSALBCORS=4; AWSALB=5".to_owned(), 4),
    ] {
        let opener = Counting(ring(&[1]), Cell::new(0));
        find([line.as_bytes()].into_iter(), NAMES, &opener, Kind::Lb, HERE, DAY, NOW);
        assert_eq!(opener.1.get(), expected, "{line}");
    }
}

/// A token with this seed and these pins.
fn token_of(seed: u64, pins: &[Pin]) -> String {
    let mut contents = Contents::new(Seed(seed), pins[0]);
    pins[1..].iter().for_each(|pin| contents.put(*pin).unwrap());
    ring(&[1]).seal(Kind::Lb, &contents).as_str().to_owned()
}

/// The seed of the claim of these tokens, and the target and age of each pin in it.
fn joined_from(tokens: &[String]) -> (u64, Vec<(u32, u64, u64)>) {
    let line: Vec<_> = tokens.iter().map(|token| format!("AWSALB={token}")).collect();
    let Claim::Opened { contents, .. } = claim(&[&line.join("; ")]) else { panic!("not opened") };
    let of = |pin: &Pin| (pin.group.0, pin.target.0, NOW - u64::from(pin.issued_at));
    let mut pins: Vec<_> = contents.pins().iter().map(of).collect();
    pins.sort_unstable();
    (contents.seed().0, pins)
}

#[test]
fn a_joined_claim_has_each_groups_newest_pin_and_the_deciding_seed() {
    let check = |tokens: &[&String], seed, pins: &[(u32, u64, u64)]| {
        let tokens: Vec<String> = tokens.iter().map(|token| (*token).clone()).collect();
        assert_eq!(joined_from(&tokens), (seed, pins.to_vec()), "{tokens:?}");
    };
    let a = token_of(1, &[pin(1, 1, 10), pin(2, 20, 50), pin(3, 30, 5)]);
    let b = token_of(2, &[pin(1, 2, 9), pin(2, 21, 40), pin(4, 40, 70)]);
    let all = [(1, 2, 9), (2, 21, 40), (3, 30, 5), (4, 40, 70)];
    check(&[&a, &b], 2, &all);
    check(&[&b, &a], 2, &all);
    check(&[&a], 1, &[(1, 1, 10), (2, 20, 50), (3, 30, 5)]);
    // Equally new pins: the first in the line, whichever token decides.
    let c = token_of(3, &[pin(1, 3, 8), pin(2, 22, 40), pin(5, 50, 1)]);
    check(&[&b, &c], 3, &[(1, 3, 8), (2, 21, 40), (4, 40, 70), (5, 50, 1)]);
    check(&[&c, &b], 3, &[(1, 3, 8), (2, 22, 40), (4, 40, 70), (5, 50, 1)]);
    check(&[&a, &b, &c], 3, &[(1, 3, 8), (2, 21, 40), (3, 30, 5), (4, 40, 70), (5, 50, 1)]);
    // A token without a pin for the group adds its other pins.
    let d = token_of(4, &[pin(6, 60, 1)]);
    check(&[&d, &a], 1, &[(1, 1, 10), (2, 20, 50), (3, 30, 5), (6, 60, 1)]);
    // If no token decides by a pin in force, the first that opens decides.
    let e = token_of(5, &[pin(1, 5, 100_000), pin(7, 70, 1)]);
    check(&[&d, &e], 4, &[(6, 60, 1), (7, 70, 1)]);
}

#[test]
fn of_more_pins_than_a_token_holds_the_least_needed_are_left_out() {
    struct Knowing(Keyring);
    impl Opener for Knowing {
        fn open(&self, kind: Kind, text: &[u8]) -> Result<Opened, Defect> {
            self.0.open(kind, text)
        }

        fn lifetime_of(&self, _: Kind, group: GroupKey) -> Option<u32> {
            (group.0 != 14).then_some(DAY)
        }
    }
    // For this group the oldest pin of all, which is kept.
    let mut first = vec![pin(1, 1, 80_000)];
    first.extend((11..18).map(|group| pin(group, 1, i64::from(group))));
    let second: Vec<_> =
        [(21, 3), (22, 90_000), (23, 4), (24, 50), (16, 2)].map(|(g, age)| pin(g, 2, age)).into();
    let (first, second) = (token_of(1, &first), token_of(2, &second));
    for line in
        [format!("AWSALB={first}; AWSALB={second}"), format!("AWSALB={second}; AWSALB={first}")]
    {
        let lines = [line.as_bytes()].into_iter();
        let claim = find(lines, NAMES, &Knowing(ring(&[1])), Kind::Lb, HERE, DAY, NOW);
        let mut kept = groups(claim.contents().unwrap());
        kept.sort_unstable();
        // 14 is unknown, 22 expired, 24 and then 17 the oldest.
        assert_eq!(kept, [1, 11, 12, 13, 15, 16, 21, 23]);
        assert_eq!(claim.contents().unwrap().pin(GroupKey(16)), Some(pin(16, 2, 2)));
        assert_eq!(claim.held(), Some(pin(1, 1, 80_000)));
    }
}

#[test]
fn a_pin_expires_to_the_second_and_one_ahead_counts_as_issued_now() {
    let check = |age: i64, expected: &str| {
        let line = format!("AWSALB={}", token(pin(1, 5, age)));
        assert_eq!(outcome(claim(&[&line])), expected, "{age}");
    };
    check(0, "held 5");
    check(i64::from(DAY) - 1, "held 5");
    check(i64::from(DAY), "Expired 5");
    for ahead in [1, 60, 61, 90, 86_400, 2_000_000_000] {
        check(-ahead, "held 5");
        let line = format!("AWSALB={}", token(pin(1, 5, -ahead)));
        assert_eq!(claim(&[&line]).held(), Some(pin(1, 5, 0)), "{ahead}");
    }
}

#[test]
fn times_ahead_are_read_as_now_and_reported_beyond_a_minute() {
    let told = |tokens: &[&[Pin]]| {
        let line: Vec<_> =
            tokens.iter().map(|pins| format!("AWSALB={}", token_of(1, pins))).collect();
        let claim = claim(&[&line.join("; ")]);
        let times = claim.contents().unwrap().pins().iter().map(|pin| u64::from(pin.issued_at));
        assert!(times.max() <= Some(NOW), "{claim:?}");
        claim.clock_ahead()
    };
    assert_eq!(told(&[&[pin(1, 1, 0)]]), None);
    assert_eq!(told(&[&[pin(1, 1, -60)]]), None);
    assert_eq!(told(&[&[pin(1, 1, -61)]]), Some(61));
    assert_eq!(told(&[&[pin(1, 1, 5), pin(2, 1, -90)]]), Some(90), "another group's pin");
    assert_eq!(told(&[&[pin(2, 1, -90)]]), Some(90), "without a pin for this group");
    assert_eq!(told(&[&[pin(1, 1, 5)], &[pin(1, 2, 4), pin(2, 1, -90), pin(3, 1, -80)]]), Some(90));
    assert_eq!(told(&[&[pin(1, 1, -200)], &[pin(1, 2, -90)]]), Some(200));
    assert_eq!(claim(&["AWSALB=junk"]).clock_ahead(), None);
}

#[test]
fn two_pins_ahead_of_the_clock_are_equally_new() {
    let line = |one: i64, other: i64| {
        format!("AWSALB={}; AWSALB={}", token(pin(1, 1, one)), token(pin(1, 2, other)))
    };
    for (one, other, expected) in [
        (-90, -70, "held 1"),
        (-70, -90, "held 1"),
        (-5, 0, "held 1"),
        (0, -5, "held 1"),
        (1, -5, "held 2"),
    ] {
        assert_eq!(outcome(claim(&[&line(one, other)])), expected, "{one} {other}");
    }
}

#[test]
fn a_claim_reports_if_the_first_key_opened_the_token() {
    let contents = Contents::new(Seed(7), pin(1, 1, 0));
    for (id, first) in [(2, true), (1, false)] {
        let line = format!("AWSALB={}", ring(&[id]).seal(Kind::Lb, &contents).as_str());
        let Claim::Opened { first_key, .. } = claim(&[&line]) else { panic!("not opened") };
        assert_eq!(first_key, first);
    }
}

#[test]
fn a_pin_is_renewed_by_refresh_and_resealed_for_an_old_key_only() {
    use Refresh::{EachResponse, HalfLife, Never};
    use Rewrite::{Leave, Renew, Reseal};
    let check = |refresh, age, outdated, expected| {
        let done = rewrite(refresh, pin(1, 1, age), outdated, 100, NOW);
        assert_eq!(done, expected, "{refresh:?} {age} {outdated}");
    };
    check(EachResponse, 0, false, Renew);
    check(HalfLife, 49, false, Leave);
    check(HalfLife, 50, false, Renew);
    check(HalfLife, -60, false, Leave);
    check(Never, 99, false, Leave);
    check(EachResponse, 0, true, Renew);
    check(HalfLife, 49, true, Reseal);
    check(Never, 99, true, Reseal);
}

fn known(_: GroupKey) -> Option<u32> {
    Some(DAY)
}

/// Contents of eight pins of these ages, for groups 10 to 17.
fn full(ages: [i64; 8]) -> Contents {
    let mut contents = Contents::new(Seed(7), pin(10, 10, ages[0]));
    for (group, age) in (11..).zip(&ages[1..]) {
        contents.put(pin(group, u64::from(group), *age)).unwrap();
    }
    contents
}

fn groups(contents: &Contents) -> Vec<u32> {
    contents.pins().iter().map(|pin| pin.group.0).collect()
}

#[test]
fn a_ninth_pin_takes_the_place_of_the_least_needed() {
    let check = |ages, unknown: &[u32], gone: u32| {
        let lifetime_of = |group: GroupKey| (!unknown.contains(&group.0)).then_some(DAY);
        let renewed = renew(Some(&full(ages)), Seed(1), HERE, TargetKey(5), NOW, lifetime_of);
        let mut expected: Vec<_> = (10..18).filter(|&group| group != gone).collect();
        expected.push(1);
        assert_eq!(groups(&renewed), expected);
        assert_eq!(renewed.seed(), Seed(7), "the seed stays for the cookie's life");
    };
    check([1, 2, 3, 9, 5, 6, 7, 8], &[], 13);
    check([1, 2, 3, 9, 5, 6, 7, 8], &[11], 11);
    check([1, 2, 3, 9, 5, 6, 7, 8], &[11, 17], 17);
    check([1, 2, 100_000, 200_000, 5, 6, 7, 8], &[11], 13);
    check([1, 2, 3, 9, 5, 6, 7, -100], &[], 13);
}

#[test]
fn replacing_a_groups_pin_changes_no_other_pin() {
    let before = full([1, 2, 3, 100_000, 5, 6, 7, 8]);
    let after = renew(Some(&before), Seed(1), GroupKey(12), TargetKey(99), NOW, |_| None);
    assert_eq!(groups(&after), groups(&before));
    for (before, after) in before.pins().iter().zip(after.pins()) {
        match after.group {
            GroupKey(12) => assert_eq!(*after, pin(12, 99, 0)),
            _ => assert_eq!(after, before),
        }
    }
}

#[test]
fn a_client_without_contents_gets_the_fresh_seed() {
    let made = renew(None, Seed(1), HERE, TargetKey(5), NOW, known);
    assert_eq!(made, Contents::new(Seed(1), pin(1, 5, 0)));
}

#[test]
fn the_cookie_lives_as_long_as_the_last_pin_of_a_known_group() {
    let lifetime_of = |group: GroupKey| {
        [(10, 100), (11, 500)].iter().find_map(|&(known, life)| (known == group.0).then_some(life))
    };
    let check = |ages: [i64; 8], expected: i64| {
        let expiry = latest_expiry(&full(ages), lifetime_of, NOW);
        assert_eq!(expiry as i64 - NOW as i64, expected, "{ages:?}");
    };
    check([0, 0, 0, 0, 0, 0, 0, 0], 500);
    check([0, 450, 0, 0, 0, 0, 0, 0], 100);
    check([0, 600, 0, 0, 0, 0, 0, 0], 100);
    check([900, 900, 0, 0, 0, 0, 0, 0], 0);
    // A pin ahead of the clock was issued now.
    check([0, -60, 0, 0, 0, 0, 0, 0], 500);
    check([0, -9_000, 0, 0, 0, 0, 0, 0], 500);
}

proptest! {
    /// Two groups with one cookie name answer in parallel: a response may be made from a token that
    /// another response has replaced by then. A pin may be lost to that, but never the seed, and
    /// the next request to the group makes the pin again. Nothing grows, and no pin gets another
    /// group's target.
    #[test]
    fn two_groups_survive_a_hundred_crossing_renewals(
        steps in prop::collection::vec((any::<bool>(), any::<bool>()), 100),
    ) {
        let ring = ring(&[1]);
        // The target that the seed's ranking gives, for any group.
        let home = |group: u32| TargetKey(u64::from(group) * 100);
        let open = |jar: &str, group, now| {
            let line = format!("AWSALB={jar}");
            find([line.as_bytes()].into_iter(), NAMES, &ring, Kind::Lb, GroupKey(group), DAY, now)
        };
        let first = renew(None, Seed(7), GroupKey(1), home(1), NOW, known);
        let mut jar = ring.seal(Kind::Lb, &first).as_str().to_owned();
        let mut late = jar.clone();
        for ((second, crossing), now) in steps.into_iter().zip(NOW..) {
            let group = if second { 2 } else { 1 };
            // A crossing response was made from the token of one response before.
            let sent = if crossing { late.clone() } else { jar.clone() };
            let Claim::Opened { contents, pin, .. } = open(&sent, group, now) else {
                return Err(TestCaseError::fail("a token of ours does not open"));
            };
            prop_assert_eq!(contents.seed(), Seed(7));
            prop_assert!(contents.pins().len() <= 2);
            let target = match pin {
                PinState::Held(pin) => pin.target,
                PinState::Absent => home(group),
                PinState::Expired => return Err(TestCaseError::fail("expired")),
            };
            prop_assert_eq!(target, home(group));
            let renewed = renew(Some(&contents), Seed(1), GroupKey(group), target, now, known);
            late = std::mem::replace(&mut jar, ring.seal(Kind::Lb, &renewed).as_str().to_owned());
        }
        // In turn, both pins are in the cookie, whatever crossed before.
        for group in [1, 2] {
            let Claim::Opened { contents, .. } = open(&jar, group, NOW + 100) else { panic!() };
            let both = renew(Some(&contents), Seed(1), GroupKey(group), home(group), NOW + 100, known);
            jar = ring.seal(Kind::Lb, &both).as_str().to_owned();
        }
        for group in [1, 2] {
            let Claim::Opened { pin, .. } = open(&jar, group, NOW + 101) else { panic!() };
            prop_assert!(matches!(pin, PinState::Held(pin) if pin.target == home(group)));
        }
    }

    /// Tokens of any ages, some of nodes whose clocks are ahead, in any order and under both names.
    #[test]
    fn the_newest_pin_decides_and_no_newer_pin_is_lost(
        tokens in prop::collection::vec(
            (any::<bool>(), prop::collection::vec((0..6u32, 0..4u64, -200..200_000i64), 1..4)),
            1..=MAX_OPENED,
        ),
    ) {
        let mut pins: Vec<Pin> = Vec::new();
        let mut line = String::new();
        for (seed, (is_twin, held)) in (0..).zip(&tokens) {
            let mut own: Vec<Pin> = Vec::new();
            for &(group, target, age) in held {
                if own.iter().all(|other| other.group.0 != group) {
                    own.push(pin(group, target, age));
                }
            }
            let name = if *is_twin { "AWSALBCORS" } else { "AWSALB" };
            line.push_str(&format!("{name}={}; ", token_of(seed, &own)));
            pins.extend(own.into_iter().map(|mut pin| {
                pin.issued_at = pin.issued_at.min(NOW as u32);
                pin
            }));
        }
        let claim = claim(&[&line]);
        let newest = |group: GroupKey| {
            pins.iter().filter(|pin| pin.group == group).map(|pin| pin.issued_at).max()
        };
        let in_force = newest(HERE).filter(|at| NOW - u64::from(*at) < u64::from(DAY));
        prop_assert_eq!(claim.held().map(|pin| pin.issued_at), in_force, "{}", line);
        let contents = claim.contents().unwrap();
        for group in (0..6).map(GroupKey).filter(|group| *group != HERE) {
            let held = contents.pin(group);
            prop_assert_eq!(held.map(|pin| pin.issued_at), newest(group), "{}", line);
            prop_assert!(held.is_none_or(|held| pins.contains(&held)));
        }
        let made = renew(Some(contents), Seed(99), HERE, TargetKey(5), NOW, known);
        prop_assert_eq!(made.pin(HERE), Some(pin(1, 5, 0)));
        prop_assert_eq!(made.seed(), contents.seed());
        prop_assert!(made.pins().iter().all(|pin| u64::from(pin.issued_at) <= NOW));
    }

    #[test]
    fn renewing_keeps_this_groups_pin_and_holds_at_most_eight(
        groups in prop::collection::vec((0..20u32, 0..200_000u64), 1..60),
    ) {
        let mut contents: Option<Contents> = None;
        for (group, later) in groups {
            let (now, group) = (NOW + later, GroupKey(group));
            let renewed = renew(contents.as_ref(), Seed(1), group, TargetKey(later), now, known);
            let pin = renewed.pin(group).unwrap();
            prop_assert_eq!((pin.target.0, u64::from(pin.issued_at)), (later, now));
            prop_assert!(renewed.pins().len() <= MAX_PINS);
            let mut seen: Vec<_> = renewed.pins().iter().map(|pin| pin.group).collect();
            seen.sort_unstable();
            seen.dedup();
            prop_assert_eq!(seen.len(), renewed.pins().len());
            contents = Some(renewed);
        }
    }
}
