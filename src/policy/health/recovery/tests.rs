//! Recoveries by example, and a property: each of them ends.

use super::*;
use crate::base::clock::Moment;
use proptest::prelude::*;

const LIMITS: Limits = Limits {
    recovery: Duration::from_secs(30),
    window: Duration::from_secs(10),
    grace: Duration::from_secs(5),
};

/// `u` not known, `h` healthy, `f` its latest check failed, `d` down, `p` down and its latest check
/// passed, `D` and `H` the same while it drains, `-` gone.
fn targets(states: &str) -> Vec<GroupMember> {
    let targets = (0..).zip(states.chars()).filter(|(_, letter)| *letter != '-');
    let target = |(key, letter): (u64, char)| GroupMember {
        key,
        state: match letter.to_ascii_lowercase() {
            'u' => CheckedState::Unknown,
            'h' => CheckedState::Serving,
            'f' => CheckedState::Failing,
            'p' => CheckedState::Passing,
            _ => CheckedState::Down,
        },
        drains: letter.is_ascii_uppercase(),
    };
    targets.map(target).collect()
}

/// Returns true if no target serves, as a group of `minimum_healthy = 1` counts.
fn none_serves(states: &str) -> bool {
    !states.contains(['u', 'h', 'f', 'H'])
}

/// Evaluations of one group at these seconds, with the keys of the targets in recovery after each.
#[track_caller]
fn check(fail_open: bool, looks: &[(u64, &str, &str)]) {
    let (mut recovery, begun) = (Recovery::default(), Moment::now().monotonic);
    for (seconds, states, expected) in looks {
        let open = fail_open && none_serves(states);
        recovery.check(&targets(states), open, LIMITS, begun + Duration::from_secs(*seconds));
        let keys = (0..states.len() as u64).filter(|key| recovery.has(*key));
        let got: String = keys.map(|key| key.to_string()).collect();
        assert_eq!(got, *expected, "at {seconds} s, {states}, of {looks:?}");
    }
}

#[test]
fn a_group_that_leaves_fail_open_recovers_until_each_has_passed() {
    check(
        true,
        &[
            (0, "hhh", ""),
            (1, "ddd", "012"),
            (90, "ddd", "012"),
            (91, "hdd", "12"),
            (92, "hpd", "12"),
            (96, "hhd", "2"),
            (97, "hhh", ""),
        ],
    );
    // A target that never comes back leaves 30 s after the first that passed.
    check(true, &[(0, "hhh", ""), (1, "ddd", "012"), (91, "hdd", "12"), (120, "hhd", "2")]);
    check(true, &[(0, "hhh", ""), (1, "ddd", "012"), (91, "hdd", "12"), (121, "hhd", "")]);
}

#[test]
fn half_of_a_group_that_fails_within_the_window_recovers() {
    check(false, &[(0, "hhhh", ""), (1, "dhhh", ""), (11, "ddhh", "01"), (12, "hhhh", "")]);
    // Less than half; alone; too slowly for one outage.
    check(false, &[(0, "hhhhh", ""), (1, "ddhhh", "")]);
    check(false, &[(0, "h", ""), (1, "d", ""), (2, "h", "")]);
    check(false, &[(0, "hh", ""), (1, "dh", "")]);
    check(false, &[(0, "hhhh", ""), (1, "dhhh", ""), (12, "ddhh", ""), (23, "dddh", "")]);
    // Targets that were down before do not take part, those that fail later do.
    check(false, &[(0, "dhhhh", ""), (1, "dddhh", "12"), (3, "ddddh", "123")]);
}

#[test]
fn the_time_runs_from_the_first_pass_or_from_the_failure_if_others_serve() {
    check(false, &[(0, "hhhh", ""), (1, "ddhh", "01"), (30, "ddhh", "01"), (31, "ddhh", "")]);
    check(false, &[(0, "hhhh", ""), (1, "ddhh", "01"), (25, "hdhh", "1"), (54, "hdhh", "1")]);
    check(false, &[(0, "hhhh", ""), (1, "ddhh", "01"), (25, "hdhh", "1"), (55, "hdhh", "")]);
    // No target serves, so none could take the clients.
    check(false, &[(0, "hh", ""), (1, "dd", "01"), (500, "dd", "01"), (501, "hd", "1")]);
    check(false, &[(0, "hh", ""), (1, "dd", "01"), (501, "pd", "01"), (531, "hd", "")]);
}

#[test]
fn a_target_that_passes_at_the_end_gets_time_for_its_other_checks() {
    let begun = [(0, "hhhh", ""), (1, "ddhh", "01"), (10, "hdhh", "1")];
    check(false, &[&begun[..], &[(40, "hdhh", "")]].concat());
    check(false, &[&begun[..], &[(40, "hphh", "1"), (44, "hphh", "1"), (45, "hphh", "")]].concat());
    check(false, &[&begun[..], &[(40, "hphh", "1"), (41, "hdhh", ""), (42, "hphh", "")]].concat());
    check(true, &[(0, "hh", ""), (1, "dd", "01"), (2, "hd", "1"), (32, "hp", "1"), (37, "hp", "")]);
}

#[test]
fn the_first_of_several_to_fail_is_not_alone_while_others_fail_checks() {
    check(false, &[(0, "hhh", ""), (1, "fff", ""), (2, "dff", "0"), (3, "ddf", "01")]);
    // They passed: it was alone.
    check(false, &[(0, "hhh", ""), (1, "dff", "0"), (2, "dhf", "0"), (3, "dhh", "")]);
    check(false, &[(0, "hhhhhh", ""), (1, "dfhhhh", "")]);
    check(false, &[(0, "hhh", ""), (1, "fhh", ""), (2, "dhh", "")]);
}

#[test]
fn a_removed_or_draining_target_does_not_count_towards_an_outage() {
    check(false, &[(0, "hhhh", ""), (1, "ddhh", "01"), (2, "d-hh", "0"), (3, "ddhh", "0")]);
    check(false, &[(0, "HHhh", ""), (1, "DDhh", "")]);
    // The clients of a target that drains while it recovers stay, as those of any draining target.
    check(false, &[(0, "hhhh", ""), (1, "ddhh", "01"), (2, "dDhh", "01")]);
    check(true, &[(0, "HH", ""), (1, "DD", ""), (2, "HD", "1"), (3, "HH", "")]);
}

#[test]
fn a_second_outage_has_its_own_time() {
    let first = [(0, "hhhh", ""), (1, "ddhh", "01"), (20, "hhhh", "")];
    check(
        false,
        &[&first[..], &[(25, "ddhh", "01"), (54, "ddhh", "01"), (55, "ddhh", "")]].concat(),
    );
    // A target that fails again and again does not extend the group's recovery.
    check(
        false,
        &[
            (0, "hhhh", ""),
            (1, "ddhh", "01"),
            (10, "hdhh", "1"),
            (15, "ddhh", "01"),
            (20, "hdhh", "1"),
            (35, "ddhh", "01"),
            (40, "ddhh", ""),
        ],
    );
}

#[test]
fn no_target_recovers_if_recovery_is_off() {
    let (mut recovery, now) = (Recovery::default(), Moment::now().monotonic);
    let limits = Limits { recovery: Duration::ZERO, ..LIMITS };
    for (states, open) in [("hhh", false), ("ddd", true), ("hdd", false), ("ddf", false)] {
        assert_eq!(recovery.check(&targets(states), open, limits, now), Change::None);
        assert!((0..3).all(|key| !recovery.has(key)), "{states}");
    }
}

#[test]
fn begin_and_end_are_reported_once() {
    let (mut recovery, begun) = (Recovery::default(), Moment::now().monotonic);
    let mut look = |seconds, states| {
        recovery.check(&targets(states), false, LIMITS, begun + Duration::from_secs(seconds))
    };
    let changes = [(0, "hhhh"), (1, "ddhh"), (2, "ddhh"), (9, "hdhh"), (39, "hdhh"), (40, "hdhh")];
    let changes = changes.map(|(seconds, states)| look(seconds, states));
    use Change::{Begun, None, Over};
    assert_eq!(changes, [None, Begun(2), None, None, Over(1), None]);
    assert_eq!([look(41, "hhhh"), look(42, "dhdh"), look(43, "hhhh")], [None, Begun(2), Over(0)]);
}

proptest! {
    /// After any history, a recovery ends once a target serves and no more targets fail. Only
    /// targets that are down recover, and none does unless two targets were down.
    #[test]
    fn a_recovery_always_ends(
        history in proptest::collection::vec((0_u64..15_000, "[uhfdpHD-]{4}"), 0..40),
        fail_open: bool,
        last in "[hfdp]{4}",
    ) {
        let (mut recovery, mut now) = (Recovery::default(), Moment::now().monotonic);
        for (millis, states) in &history {
            now += Duration::from_millis(*millis);
            recovery.check(&targets(states), fail_open && none_serves(states), LIMITS, now);
            for (key, letter) in (0..).zip(states.chars()) {
                prop_assert!(!recovery.has(key) || "dpD".contains(letter), "{key} of {states}");
            }
        }
        prop_assume!(!none_serves(&last));
        let mut over = 0;
        for second in 0..=60 {
            now += Duration::from_secs(1);
            recovery.check(&targets(&last), false, LIMITS, now);
            over = if (0..4).any(|key| recovery.has(key)) { second } else { over };
        }
        // From the latest failure or pass, which may come with the first of these evaluations.
        prop_assert!(over <= 36, "{over} s");
    }
}
