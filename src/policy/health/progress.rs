//! A target's way between states: results of checks and of traffic in, state and transition out.
//! The rules are ALB's (AWS, "Health checks for your target groups"); how a state is told is in
//! [`super::target_health`].

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
    /// A check was answered with the wish to be drained instead of a result: the target lives, and
    /// neither becomes healthy by it nor unhealthy.
    Waived,
    /// Traffic could not connect.
    ConnectFailed,
    /// Traffic connected.
    Connected,
}

/// Different status codes of failed checks that are remembered: as many as there can be failures
/// before a target is unhealthy.
const MOST_CODES: usize = 10;

/// A target's state and the run of results that may change it.
#[derive(Clone, Debug)]
pub struct Progress {
    state: State,
    passes: u32,
    failures: u32,
    connect_failures: u32,
    checked: bool,
    by_traffic: bool,
    failure: Option<Failure>,
    codes: Vec<u16>,
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
            failure: None,
            codes: Vec::new(),
        }
    }
}

impl Progress {
    /// A target that cannot even be asked.
    pub fn down(failure: Failure) -> Self {
        Self { state: State::Unhealthy, failure: Some(failure), ..Self::default() }
    }

    /// The state now.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether the first check has had its result or its time-out.
    pub fn is_checked(&self) -> bool {
        self.checked
    }

    /// What failed last. For an unhealthy target, it is why.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// The status codes that failed checks brought since the last that did not fail, each once.
    pub fn codes(&self) -> &[u16] {
        &self.codes
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

    /// Takes one event in; true if the state is another now.
    pub fn observe(&mut self, event: &Event, thresholds: Thresholds) -> bool {
        match event {
            Event::Passed => {
                self.checked = true;
                self.failures = 0;
                self.codes.clear();
                self.passes = self.passes.saturating_add(1);
                // The first pass makes a new target healthy, whatever the threshold.
                let enough = self.state == State::Initial || self.passes >= thresholds.healthy;
                enough && self.become_state(State::Healthy)
            }
            Event::Failed(failure) => {
                self.checked = true;
                self.passes = 0;
                self.failures = self.failures.saturating_add(1);
                self.remember(failure.clone());
                self.failures >= thresholds.unhealthy && self.become_state(State::Unhealthy)
            }
            Event::Waived => {
                self.checked = true;
                self.passes = 0;
                self.failures = 0;
                self.codes.clear();
                false
            }
            Event::ConnectFailed => {
                self.connect_failures = self.connect_failures.saturating_add(1);
                let enough =
                    thresholds.connect_failures.is_some_and(|bound| self.connect_failures >= bound);
                if !enough || self.state == State::Unhealthy {
                    return false;
                }
                self.by_traffic = true;
                self.remember(Failure::Traffic);
                self.become_state(State::Unhealthy)
            }
            Event::Connected => {
                self.connect_failures = 0;
                false
            }
        }
    }

    fn remember(&mut self, failure: Failure) {
        if let Failure::ResponseCodeMismatch { got } = failure
            && !self.codes.contains(&got)
            && self.codes.len() < MOST_CODES
        {
            self.codes.push(got);
        }
        self.failure = Some(failure);
    }

    fn become_state(&mut self, to: State) -> bool {
        if self.state == to {
            return false;
        }
        self.state = to;
        if to == State::Healthy {
            self.by_traffic = false;
            self.connect_failures = 0;
            self.failure = None;
        }
        self.passes = 0;
        self.failures = 0;
        true
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
mod tests;
