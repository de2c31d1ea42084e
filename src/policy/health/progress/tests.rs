//! The rules of state changes, by example and for any history of a target.

use proptest::prelude::*;

use super::*;
use crate::base::clock::Moment;

const THRESHOLDS: Thresholds = Thresholds { healthy: 3, unhealthy: 2, connect_failures: Some(3) };

/// `+` a pass, `-` a failure, `d` a request to drain instead of either, `x` a failed dial, `o` a
/// successful dial of traffic, `r` one beside a check; the states after each, a second apart.
#[track_caller]
fn check(events: &str, states: &str) {
    let mut progress = Progress::default();
    let (mut got, mut now) = (String::new(), Moment::now().monotonic);
    for event in events.chars() {
        now += Duration::from_secs(1);
        progress.observe(&event_of(event), THRESHOLDS, now);
        got.push(match progress.state() {
            State::Initial => 'i',
            State::Healthy if progress.is_suspect() => 's',
            State::Healthy => 'h',
            State::Unhealthy => 'u',
        });
    }
    assert_eq!(got, states, "after {events}");
}

#[test]
fn the_first_pass_makes_a_new_target_healthy() {
    check("+", "h");
    check("-+", "ih");
}

#[test]
fn thresholds_count_results_in_a_row() {
    check("+-+--", "hhhhu");
    check("--++-+++", "iuuuuuuh");
}

#[test]
fn a_request_to_drain_instead_of_a_result_breaks_both_runs() {
    check("d+ddd", "ihhhh");
    check("-d-+", "iiih");
    check("+-d--", "hhhhu");
    check("--++d+++", "iuuuuuuh");
}

#[test]
fn a_target_that_flaps_below_its_threshold_keeps_its_state() {
    check("+-+-+-+-+-+", "hhhhhhhhhhh");
    check("--+-++-++-+", "iuuuuuuuuuu");
}

#[test]
fn each_status_code_is_kept_once_and_at_most_ten_are() {
    let (mut progress, now) = (Progress::default(), Moment::now().monotonic);
    for got in (500..530).chain(500..530) {
        let event = HealthEvent::Failed(Failure::ResponseCodeMismatch { got });
        progress.observe(&event, THRESHOLDS, now);
    }
    assert_eq!(progress.codes(), (500..510).collect::<Vec<_>>());
    progress.observe(&HealthEvent::Passed, THRESHOLDS, now);
    assert!(progress.codes().is_empty());
}

fn histories() -> impl Strategy<Value = Vec<char>> {
    let event = prop_oneof![Just('+'), Just('-'), Just('d'), Just('x'), Just('o'), Just('r')];
    proptest::collection::vec(event, 0..60)
}

fn event_of(letter: char) -> HealthEvent {
    match letter {
        '+' => HealthEvent::Passed,
        '-' => HealthEvent::Failed(Failure::Timeout),
        'd' => HealthEvent::Waived,
        'x' => HealthEvent::ConnectFailed,
        'r' => HealthEvent::Reached,
        _ => HealthEvent::Connected,
    }
}

/// The number of `counted` events at the end of a history, of the events in `seen` alone.
fn run(history: &[char], counted: char, seen: &str) -> usize {
    let events = history.iter().rev().filter(|letter| seen.contains(**letter));
    events.take_while(|letter| **letter == counted).count()
}

proptest! {
    /// The complete rule, stated for histories instead of steps.
    #[test]
    fn a_state_changes_only_by_its_history(
        history in histories(),
        healthy in 1_u32..=10,
        unhealthy in 1_u32..=10,
        connect_failures in proptest::option::of(1_u32..=5),
    ) {
        let thresholds = Thresholds { healthy, unhealthy, connect_failures };
        let (mut progress, mut now) = (Progress::default(), Moment::now().monotonic);
        for end in 1..=history.len() {
            let (history, before) = (&history[..end], progress.state());
            // All within less than the time for which a target must refuse before that alone
            // counts.
            now += Duration::from_millis(400);
            let changed = progress.observe(&event_of(history[end - 1]), thresholds, now);
            let after = progress.state();
            prop_assert_eq!(changed, before != after);
            let passes = run(history, '+', "+-d");
            let failures = run(history, '-', "+-d");
            let lost = run(history, 'x', "xor");
            let reached = |run: usize, bound: u32| run >= bound as usize;
            match (before, after) {
                (State::Initial, State::Healthy) => prop_assert!(passes == 1),
                (State::Unhealthy, State::Healthy) => prop_assert!(reached(passes, healthy)),
                (State::Initial | State::Healthy, State::Unhealthy) => {
                    prop_assert!(reached(failures, unhealthy));
                    prop_assert!(progress.failure().is_some());
                }
                (before, after) => prop_assert_eq!(before, after),
            }
            let doubted = connect_failures.is_some_and(|bound| reached(lost, bound));
            prop_assert_eq!(progress.is_suspect(), doubted && after == State::Healthy);
            // The converse: these histories must change the state.
            if history[end - 1] == '+' && before == State::Initial {
                prop_assert_eq!(after, State::Healthy);
            }
            if reached(failures, unhealthy) {
                prop_assert_eq!(after, State::Unhealthy);
            }
        }
    }

    /// A request to drain instead of a result never changes a state, whatever came before.
    #[test]
    fn a_request_to_drain_changes_no_state(history in histories()) {
        let (mut progress, now) = (Progress::default(), Moment::now().monotonic);
        for letter in history {
            progress.observe(&event_of(letter), THRESHOLDS, now);
        }
        let before = progress.state();
        for _ in 0..20 {
            prop_assert!(!progress.observe(&HealthEvent::Waived, THRESHOLDS, now));
        }
        prop_assert_eq!(progress.state(), before);
        prop_assert!(progress.is_checked());
    }
}

#[test]
fn failed_dials_make_a_target_suspect_and_only_failed_checks_unhealthy() {
    check("+xxoxxxxxx", "hhhhhhssss");
    check("+xxx+++--", "hhhsssssu");
    // A successful dial ends it, of traffic or beside a check; a check at another port does not.
    check("+xxxo", "hhhsh");
    check("+xxxr+", "hhhshh");
    check("+xxx+-+", "hhhssss");
    // A target that is healthy again by its checks is suspect as before until a dial succeeds.
    check("+xxx--+++r", "hhhssuuush");
    // A suspect target that is not known yet stays `initial`.
    check("xxx+", "iiis");
}

/// A target after these events, this many seconds apart.
fn after(seconds: u64, events: &str) -> Progress {
    let (mut progress, mut now) = (Progress::default(), Moment::now().monotonic);
    for event in events.chars() {
        now += Duration::from_secs(seconds);
        progress.observe(&event_of(event), THRESHOLDS, now);
    }
    progress
}

#[test]
fn a_target_that_refuses_traffic_for_30_s_while_checks_pass_is_failing() {
    let state = |seconds, events: &str| {
        let progress = after(seconds, events);
        assert_eq!(progress.is_disputed(), progress.state() == State::Unhealthy);
        progress.state()
    };
    for (seconds, events, expected) in [
        (5, "+x+x+x+x", State::Unhealthy),
        (5, "+x+x+x+", State::Healthy),
        // A check that connects does not end it, a dial of traffic does.
        (5, "+x+xr+x+", State::Healthy),
        (3, "+xr+xr+xr+xr+x", State::Unhealthy),
        (5, "+x+x+o+x", State::Healthy),
        // No check has passed meanwhile, or the last has failed.
        (5, "+xxxxxxxx", State::Healthy),
        (5, "+x+x+x-x", State::Healthy),
        // One old refusal, then no dials.
        (20, "+x+x+x+x", State::Healthy),
        (40, "+xx+x", State::Healthy),
    ] {
        assert_eq!(state(seconds, events), expected, "{events}");
    }
}

#[test]
fn a_disputed_target_is_healthy_after_30_s_in_which_all_dials_succeed() {
    let disputed = "+x+x+x+x";
    for (events, expected) in [
        ("++++++", State::Unhealthy),
        ("+++++++", State::Healthy),
        ("++++-+++++++", State::Healthy),
        ("++++-++++++", State::Unhealthy),
        // Refused dials meanwhile change nothing: the check beside them is reported as failed.
        ("x-x-x-", State::Unhealthy),
        // Traffic itself shows that it serves: the threshold is enough.
        ("o+++", State::Healthy),
        ("o++", State::Unhealthy),
    ] {
        assert_eq!(after(5, &format!("{disputed}{events}")).state(), expected, "{events}");
    }
}

#[test]
fn traffic_changes_no_state_if_connect_failures_is_off() {
    let deaf = Thresholds { connect_failures: None, ..THRESHOLDS };
    let (mut progress, mut now) = (Progress::default(), Moment::now().monotonic);
    for event in "+x+x+x+x+x+x+x+xxxxx".chars() {
        now += Duration::from_secs(5);
        progress.observe(&event_of(event), deaf, now);
        assert!(!progress.is_suspect() && !progress.awaits_connect() && !progress.wants_dial());
    }
    assert_eq!(progress.state(), State::Healthy);
}

#[test]
fn an_unsettled_state_is_checked_sooner() {
    let after = |events: &[HealthEvent]| {
        let (mut progress, now) = (Progress::default(), Moment::now().monotonic);
        for event in events {
            progress.observe(event, THRESHOLDS, now);
        }
        progress.is_unsettled()
    };
    let failed = || HealthEvent::Failed(Failure::Timeout);
    assert!(after(&[]));
    assert!(!after(&[HealthEvent::Passed]));
    assert!(after(&[HealthEvent::Passed, failed()]));
    assert!(!after(&[failed(), failed()]));
    assert!(after(&[failed(), failed(), HealthEvent::Passed]));
    let by_traffic = [
        HealthEvent::Passed,
        HealthEvent::ConnectFailed,
        HealthEvent::ConnectFailed,
        HealthEvent::ConnectFailed,
    ];
    assert!(after(&by_traffic));
}

#[test]
fn a_group_fails_open_below_its_count_or_its_percentage() {
    for (serving, registered, count, percent, open) in [
        (0, 3, 1, 0, true),
        (1, 3, 1, 0, false),
        (0, 0, 1, 0, true),
        (4, 10, 1, 50, true),
        (5, 10, 1, 50, false),
        (2, 10, 3, 10, true),
        (3, 10, 3, 30, false),
        (3, 10, 3, 31, true),
        (0, 10, 0, 0, false),
        (u32::MAX, u32::MAX, 1, 100, false),
    ] {
        let got = fails_open(true, serving, registered, count, percent);
        assert_eq!(got, open, "{serving} of {registered}");
        assert!(!fails_open(false, serving, registered, count, percent));
    }
}
