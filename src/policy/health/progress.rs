//! A target's way between states: results of checks and of traffic in, state and transition out.
//! States and reason codes are ALB's (AWS, "Health checks for your target groups").

use std::fmt;

/// What is known of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No check has passed and too few have failed to tell.
    Initial,
    /// It serves.
    Healthy,
    /// It does not.
    Unhealthy,
}

impl State {
    /// ALB's word.
    pub fn word(self) -> &'static str {
        match self {
            State::Initial => "initial",
            State::Healthy => "healthy",
            State::Unhealthy => "unhealthy",
        }
    }
}

/// Why a check failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No whole answer in time.
    Timeout,
    /// Another status than the matcher accepts.
    ResponseCodeMismatch {
        /// The status that came.
        got: u16,
    },
    /// The answer lacks the wanted text.
    ResponseStringMismatch,
    /// No connection, or no HTTP on it.
    FailedHealthChecks {
        /// What the system or the parser said.
        cause: String,
    },
    /// Connections made for traffic failed.
    Traffic,
    /// The host name has no address.
    Unresolved,
}

impl Failure {
    /// ALB's reason code.
    pub fn reason(&self) -> &'static str {
        match self {
            Failure::Timeout => "Target.Timeout",
            Failure::ResponseCodeMismatch { .. } | Failure::ResponseStringMismatch => {
                "Target.ResponseCodeMismatch"
            }
            Failure::FailedHealthChecks { .. } | Failure::Traffic | Failure::Unresolved => {
                "Target.FailedHealthChecks"
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Timeout => f.write_str("no answer in time"),
            Failure::ResponseCodeMismatch { got } => write!(f, "got {got}"),
            Failure::ResponseStringMismatch => f.write_str("the answer lacks the wanted text"),
            Failure::FailedHealthChecks { cause } => f.write_str(cause),
            Failure::Traffic => f.write_str("connections for traffic failed"),
            Failure::Unresolved => f.write_str("the host name has no address"),
        }
    }
}

/// How many results in a row change the state.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// Passes that bring an unhealthy target back.
    pub healthy: u32,
    /// Failures that take one out.
    pub unhealthy: u32,
    /// Failed connections in traffic that take one out; `None` is never.
    pub connect_failures: Option<u32>,
}

/// What happened to a target.
#[derive(Clone, Debug)]
pub enum Event {
    /// A check passed.
    Passed,
    /// A check failed.
    Failed(Failure),
    /// Traffic could not connect.
    ConnectFailed,
    /// Traffic was answered.
    Answered,
}

/// A change of state, with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state before.
    pub from: State,
    /// The state now.
    pub to: State,
    /// ALB's reason code; empty for healthy.
    pub reason: &'static str,
}

/// A target's state and the run of results that may change it.
#[derive(Clone, Debug)]
pub struct Progress {
    state: State,
    passes: u32,
    failures: u32,
    connect_failures: u32,
    checked: bool,
    by_traffic: bool,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            state: State::Initial,
            passes: 0,
            failures: 0,
            connect_failures: 0,
            checked: false,
            by_traffic: false,
        }
    }
}

impl Progress {
    /// The state now.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether the first check has had its result or its time-out.
    pub fn is_checked(&self) -> bool {
        self.checked
    }

    /// Whether traffic has failed since it last succeeded.
    pub fn is_suspect(&self) -> bool {
        self.connect_failures > 0
    }

    /// Whether the state is not settled, so that the next check comes sooner: not known yet, marked
    /// down by traffic, or on its way to another state.
    pub fn is_unsettled(&self) -> bool {
        match self.state {
            State::Initial => true,
            State::Healthy => self.failures > 0 || self.connect_failures > 0,
            State::Unhealthy => self.by_traffic || self.passes > 0,
        }
    }

    /// Takes one event in.
    pub fn observe(&mut self, event: &Event, thresholds: Thresholds) -> Option<Transition> {
        match event {
            Event::Passed => {
                self.checked = true;
                self.failures = 0;
                self.passes = self.passes.saturating_add(1);
                // The first pass makes a new target healthy, whatever the threshold.
                let enough = self.state == State::Initial || self.passes >= thresholds.healthy;
                if enough { self.become_state(State::Healthy, "") } else { None }
            }
            Event::Failed(failure) => {
                self.checked = true;
                self.passes = 0;
                self.failures = self.failures.saturating_add(1);
                let enough = self.failures >= thresholds.unhealthy;
                if enough { self.become_state(State::Unhealthy, failure.reason()) } else { None }
            }
            Event::ConnectFailed => {
                self.connect_failures = self.connect_failures.saturating_add(1);
                let bound = thresholds.connect_failures?;
                if self.connect_failures < bound || self.state == State::Unhealthy {
                    return None;
                }
                self.by_traffic = true;
                self.passes = 0;
                self.become_state(State::Unhealthy, Failure::Traffic.reason())
            }
            Event::Answered => {
                self.connect_failures = 0;
                None
            }
        }
    }

    fn become_state(&mut self, to: State, reason: &'static str) -> Option<Transition> {
        let from = self.state;
        if from == to {
            return None;
        }
        self.state = to;
        if to == State::Healthy {
            self.by_traffic = false;
            self.connect_failures = 0;
        }
        self.passes = 0;
        self.failures = 0;
        Some(Transition { from, to, reason })
    }
}

/// Whether a group's health is to be ignored: it wants that, and fewer than so many of its targets
/// serve. Targets not yet known count as healthy. `registered` are all that could serve.
pub fn fails_open(wanted: bool, serving: u32, registered: u32, count: u32, percent: u8) -> bool {
    let too_few = serving < count;
    // In whole numbers: serving / registered < percent / 100.
    let too_small_a_share = u64::from(serving) * 100 < u64::from(registered) * u64::from(percent);
    wanted && (too_few || too_small_a_share)
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds =
        Thresholds { healthy: 3, unhealthy: 2, connect_failures: Some(3) };

    /// `+` a pass, `-` a failure, `x` a failed connection, `o` an answer; the states after each.
    #[track_caller]
    fn check(events: &str, states: &str) {
        let mut progress = Progress::default();
        let mut got = String::new();
        for event in events.chars() {
            let event = match event {
                '+' => Event::Passed,
                '-' => Event::Failed(Failure::Timeout),
                'x' => Event::ConnectFailed,
                _ => Event::Answered,
            };
            progress.observe(&event, THRESHOLDS);
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
        ] {
            let got = fails_open(true, serving, registered, count, percent);
            assert_eq!(got, open, "{serving} of {registered}");
            assert!(!fails_open(false, serving, registered, count, percent));
        }
    }
}
