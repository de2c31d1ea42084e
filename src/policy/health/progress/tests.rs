//! The rules of a state's change, by example and for any history of a target.

use proptest::prelude::*;

use super::*;

const THRESHOLDS: Thresholds = Thresholds { healthy: 3, unhealthy: 2, connect_failures: Some(3) };

/// `+` a pass, `-` a failure, `d` a wish to drain instead of either, `x` a failed connection, `o` an
/// answer; the states after each.
#[track_caller]
fn check(events: &str, states: &str) {
    let mut progress = Progress::default();
    let mut got = String::new();
    for event in events.chars() {
        progress.observe(&event_of(event), THRESHOLDS);
        got.push(match progress.state() {
            State::Initial => 'i',
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
fn a_wish_to_drain_instead_of_a_result_is_neither_and_breaks_both_runs() {
    check("d+ddd", "ihhhh");
    check("-d-+", "iiih");
    check("+-d--", "hhhhu");
    check("--++d+++", "iuuuuuuh");
}

#[test]
fn a_target_that_flaps_below_its_threshold_stays_as_it_is() {
    check("+-+-+-+-+-+", "hhhhhhhhhhh");
    check("--+-++-++-+", "iuuuuuuuuuu");
}

#[test]
fn codes_are_remembered_each_once_and_no_more_than_there_is_room_for() {
    let mut progress = Progress::default();
    for got in (500..530).chain(500..530) {
        let event = Event::Failed(Failure::ResponseCodeMismatch { got });
        progress.observe(&event, THRESHOLDS);
    }
    assert_eq!(progress.codes(), (500..510).collect::<Vec<_>>());
    progress.observe(&Event::Passed, THRESHOLDS);
    assert!(progress.codes().is_empty());
}

fn histories() -> impl Strategy<Value = Vec<char>> {
    let event = prop_oneof![Just('+'), Just('-'), Just('d'), Just('x'), Just('o')];
    proptest::collection::vec(event, 0..60)
}

fn event_of(letter: char) -> Event {
    match letter {
        '+' => Event::Passed,
        '-' => Event::Failed(Failure::Timeout),
        'd' => Event::Waived,
        'x' => Event::ConnectFailed,
        _ => Event::Connected,
    }
}

/// How many of `counted` a history ends with, when only `seen` are looked at.
fn run(history: &[char], counted: char, seen: &str) -> usize {
    let events = history.iter().rev().filter(|letter| seen.contains(**letter));
    events.take_while(|letter| **letter == counted).count()
}

proptest! {
    /// The whole rule again, said of histories rather than of steps.
    #[test]
    fn a_state_changes_only_as_its_history_says(
        history in histories(),
        healthy in 1_u32..=10,
        unhealthy in 1_u32..=10,
        connect_failures in proptest::option::of(1_u32..=5),
    ) {
        let thresholds = Thresholds { healthy, unhealthy, connect_failures };
        let mut progress = Progress::default();
        for end in 1..=history.len() {
            let (history, before) = (&history[..end], progress.state());
            let changed = progress.observe(&event_of(history[end - 1]), thresholds);
            let after = progress.state();
            prop_assert_eq!(changed, before != after);
            let passes = run(history, '+', "+-d");
            let failures = run(history, '-', "+-d");
            let lost = run(history, 'x', "xo");
            let reached = |run: usize, bound: u32| run >= bound as usize;
            match (before, after) {
                (State::Initial, State::Healthy) => prop_assert!(passes == 1),
                (State::Unhealthy, State::Healthy) => prop_assert!(reached(passes, healthy)),
                (State::Initial | State::Healthy, State::Unhealthy) => {
                    let by_traffic = connect_failures.is_some_and(|bound| reached(lost, bound));
                    prop_assert!(reached(failures, unhealthy) || by_traffic);
                    prop_assert!(progress.failure().is_some());
                }
                (before, after) => prop_assert_eq!(before, after),
            }
            // What is well known cannot be missed either.
            if history[end - 1] == '+' && before == State::Initial {
                prop_assert_eq!(after, State::Healthy);
            }
            if reached(failures, unhealthy) {
                prop_assert_eq!(after, State::Unhealthy);
            }
        }
    }

    /// A wish to drain instead of a result never changes a state, whatever came before it.
    #[test]
    fn a_wish_instead_of_a_result_changes_no_state(history in histories()) {
        let mut progress = Progress::default();
        for letter in history {
            progress.observe(&event_of(letter), THRESHOLDS);
        }
        let before = progress.state();
        for _ in 0..20 {
            prop_assert!(!progress.observe(&Event::Waived, THRESHOLDS));
        }
        prop_assert_eq!(progress.state(), before);
        prop_assert!(progress.is_checked());
    }
}

#[test]
fn three_failed_connections_take_a_target_out_and_only_checks_bring_it_back() {
    check("+xxoxxx", "hhhhhhu");
    check("+xxxoo+++", "hhhuuuuuh");
}

#[test]
fn a_state_that_may_be_changing_is_checked_sooner() {
    let after = |events: &[Event]| {
        let mut progress = Progress::default();
        for event in events {
            progress.observe(event, THRESHOLDS);
        }
        progress.is_unsettled()
    };
    let failed = || Event::Failed(Failure::Timeout);
    assert!(after(&[]));
    assert!(!after(&[Event::Passed]));
    assert!(after(&[Event::Passed, failed()]));
    assert!(!after(&[failed(), failed()]));
    assert!(after(&[failed(), failed(), Event::Passed]));
    let by_traffic =
        [Event::Passed, Event::ConnectFailed, Event::ConnectFailed, Event::ConnectFailed];
    assert!(after(&by_traffic));
}

#[test]
fn a_group_fails_open_below_its_count_or_its_share() {
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
