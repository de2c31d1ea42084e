//! Which token counts, when a pin is over, and which pins a cookie keeps.

use proptest::prelude::*;

use super::*;
use crate::ground::secret::Secret;
use crate::policy::affinity::keys::Key;

const NOW: u64 = 1_767_225_600;
const DAY: u32 = 86_400;
const HERE: GroupKey = GroupKey(1);
const NAMES: Names<'_> = Names { main: "AWSALB", twin: Some("AWSALBCORS") };

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

/// The target that is held, or the word for what else there is.
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
fn the_token_that_counts_is_the_one_the_order_says() {
    let good = |target| token(pin(1, target, 10));
    let (old, other) = (token(pin(1, 8, 90_000)), token(pin(2, 9, 10)));
    let (a, b) = (good(1), good(2));
    let forged = format!("{}{}", &a[..55], if a.ends_with('A') { 'B' } else { 'A' });
    let foreign = ring(&[3]).seal(Kind::Lb, &Contents::new(Seed(7), pin(1, 1, 0)));
    let foreign = foreign.as_str();
    let check = |line: String, expected: &str| {
        assert_eq!(outcome(claim(&[&line])), expected, "{line}");
        // The same cookies as HTTP/2 sends them, a line for each.
        let crumbs: Vec<_> = line.split("; ").collect();
        assert_eq!(outcome(claim(&crumbs)), expected, "{line}");
    };
    check(String::new(), "none");
    check("b=1; AWSALB2=x; xAWSALB=y".into(), "none");
    check(format!("AWSALB={a}"), "held 1");
    check(format!("AWSALB={a}; AWSALBCORS={b}"), "held 2");
    check(format!("AWSALBCORS={b}; AWSALB={a}"), "held 2");
    check(format!("AWSALB={a}; AWSALB={b}"), "held 1");
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
    // Four are opened, the twin's first; a fifth is not looked at.
    check(format!("AWSALB={a}; AWSALBCORS=1; AWSALBCORS=2; AWSALBCORS=3"), "held 1");
    check(
        format!("AWSALB={a}; AWSALBCORS=1; AWSALBCORS=2; AWSALBCORS=3; AWSALBCORS=4"),
        "Malformed",
    );
    check(format!("AWSALB=1; AWSALB=2; AWSALB=3; AWSALB=4; AWSALB={a}"), "Malformed");
}

#[test]
fn without_a_twin_its_name_means_nothing() {
    let line = format!("AWSALBCORS={}", token(pin(1, 1, 0)));
    let names = Names { main: "AWSALB", twin: None };
    let lines = [line.as_bytes()].into_iter();
    assert_eq!(find(lines, names, &ring(&[1]), Kind::Lb, HERE, DAY, NOW), Claim::None);
}

#[test]
fn an_unused_shard_of_a_companion_is_no_token() {
    let find = |kind| {
        let names = Names { main: "AWSALBAPP-0", twin: None };
        let lines = [&b"AWSALBAPP-0=_remove_"[..]].into_iter();
        find(lines, names, &ring(&[1]), kind, HERE, DAY, NOW)
    };
    assert_eq!(find(Kind::App), Claim::None);
    assert_eq!(find(Kind::Lb), Claim::Unusable(Defect::Malformed));
}

#[test]
fn a_pin_ends_to_the_second_and_may_be_a_minute_ahead() {
    let check = |age: i64, expected: &str| {
        let line = format!("AWSALB={}", token(pin(1, 5, age)));
        assert_eq!(outcome(claim(&[&line])), expected, "{age}");
    };
    check(0, "held 5");
    check(i64::from(DAY) - 1, "held 5");
    check(i64::from(DAY), "Expired 5");
    check(-60, "held 5");
    check(-61, "Expired 5");
}

#[test]
fn the_key_that_opened_is_told() {
    let contents = Contents::new(Seed(7), pin(1, 1, 0));
    for (id, first) in [(2, true), (1, false)] {
        let line = format!("AWSALB={}", ring(&[id]).seal(Kind::Lb, &contents).as_str());
        let Claim::Opened { first_key, .. } = claim(&[&line]) else { panic!("not opened") };
        assert_eq!(first_key, first);
    }
}

#[test]
fn a_pin_is_rewritten_as_refresh_says_and_resealed_for_the_key_alone() {
    use Refresh::{EachResponse, HalfLife, Never};
    use Rewrite::{Leave, Renew, Reseal};
    let check = |refresh, age, first_key, expected| {
        let done = rewrite(refresh, pin(1, 1, age), first_key, 100, NOW);
        assert_eq!(done, expected, "{refresh:?} {age} {first_key}");
    };
    check(EachResponse, 0, true, Renew);
    check(HalfLife, 49, true, Leave);
    check(HalfLife, 50, true, Renew);
    check(HalfLife, -60, true, Leave);
    check(Never, 99, true, Leave);
    check(EachResponse, 0, false, Renew);
    check(HalfLife, 49, false, Reseal);
    check(Never, 99, false, Reseal);
}

fn known(_: GroupKey) -> Option<u32> {
    Some(DAY)
}

/// Contents of eight pins, for groups 10 to 17, of these ages.
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
fn a_ninth_pin_takes_the_place_of_the_least_missed() {
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
    check([1, 2, 3, 9, 5, 6, 7, -100], &[], 17);
}

#[test]
fn a_pin_of_the_same_group_is_replaced_and_nothing_else_touched() {
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
fn the_cookie_lives_as_long_as_the_last_pin_that_anyone_knows() {
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
    // A minute ahead counts as now, further ahead not at all.
    check([0, -60, 0, 0, 0, 0, 0, 0], 500);
    check([0, -61, 0, 0, 0, 0, 0, 0], 100);
}

proptest! {
    /// Two groups behind one cookie name answer in parallel: an answer may be made from a token
    /// that another answer has replaced by then. A pin may be lost to that, but never the seed,
    /// and the next request to the group makes it again; nothing grows and nothing is mixed up.
    #[test]
    fn two_groups_survive_a_hundred_crossing_renewals(
        steps in prop::collection::vec((any::<bool>(), any::<bool>()), 100),
    ) {
        let ring = ring(&[1]);
        // Where the ranking of the seed sends the client, whichever group it asks.
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
            // A crossing answer was made from the token as it was one answer before.
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

    #[test]
    fn renewing_never_loses_this_groups_pin_and_never_holds_more_than_eight(
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
