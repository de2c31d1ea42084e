//! The state machine of a target's health: results of checks and of traffic in, state and
//! transition out. The rules are ALB's (AWS, "Health checks for your target groups");
//! `super::target_health` has the reported form of a state.

use std::fmt;
use std::time::{Duration, Instant};

/// A target that refused every dial of traffic for this time, while its checks pass, counts as
/// failing; it is healthy again when its checks and a dial of its traffic address have succeeded
/// for this time.
pub const REFUSING_FOR: Duration = Duration::from_secs(30);
/// Refused dials further apart than this do not belong to one run: one old refusal followed by no
/// dials proves nothing. At least four dials make up [`REFUSING_FOR`].
const MAX_GAP: Duration = Duration::from_secs(10);

/// A target's health state by its checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No check has passed, and too few have failed to decide.
    Initial,
    /// The target serves.
    Healthy,
    /// The target does not serve.
    Unhealthy,
}

/// The reason a check failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No complete response in time.
    Timeout,
    /// A status that the matcher does not accept.
    ResponseCodeMismatch {
        /// The received status.
        got: u16,
    },
    /// The response lacks the configured text.
    ResponseStringMismatch,
    /// No connection, or no HTTP on it.
    FailedHealthChecks {
        /// The error of the system or the parser.
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

/// The number of consecutive results that change the state.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// Passes that make an unhealthy target healthy.
    pub healthy: u32,
    /// Failures that make a target unhealthy.
    pub unhealthy: u32,
    /// Failed dials that make a target suspect; `None` disables this, and traffic is ignored.
    pub connect_failures: Option<u32>,
}

/// An event of one target.
#[derive(Clone, Debug)]
pub enum HealthEvent {
    /// A check passed.
    Passed,
    /// A check failed.
    Failed(Failure),
    /// The response to a check asked for draining instead of passing or failing: the target runs,
    /// and the check makes it neither healthy nor unhealthy.
    Waived,
    /// A dial of the traffic address failed: by traffic, or beside a check.
    ConnectFailed,
    /// A dial of traffic succeeded.
    Connected,
    /// A check, or a dial beside one, connected to the address and port of traffic.
    Reached,
}

/// The maximum number of different status codes kept from failed checks: the highest number of
/// failures before a target is unhealthy.
const MAX_CODES: usize = 10;

/// The failed dials since one of traffic succeeded.
#[derive(Clone, Copy, Debug)]
struct Refusals {
    first: Instant,
    latest: Instant,
    count: u32,
    /// True if a check passed meanwhile.
    passed: bool,
}

/// Checks pass, but traffic was refused for [`REFUSING_FOR`].
#[derive(Clone, Copy, Debug, Default)]
struct Disagreement {
    /// The first of the consecutive passes.
    passing_since: Option<Instant>,
}

/// A target's state and the run of results that may change it.
#[derive(Clone, Debug)]
pub struct Progress {
    state: State,
    passes: u32,
    failures: u32,
    connect_failures: u32,
    checked: bool,
    suspect: bool,
    refusals: Option<Refusals>,
    /// Set while traffic alone made it unhealthy, with the time since when checks and dials pass.
    disagreement: Option<Disagreement>,
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
            suspect: false,
            refusals: None,
            disagreement: None,
            failure: None,
            codes: Vec::new(),
        }
    }
}

impl Progress {
    /// The state of a target that cannot be checked.
    pub fn down(failure: Failure) -> Self {
        Self { state: State::Unhealthy, failure: Some(failure), ..Self::default() }
    }

    /// The current state.
    pub fn state(&self) -> State {
        self.state
    }

    /// True if the first check has had its result or its time-out.
    pub fn is_checked(&self) -> bool {
        self.checked
    }

    /// The last failure. For an unhealthy target, it is the reason.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// The status codes of failed checks since the last check that did not fail, each once.
    pub fn codes(&self) -> &[u16] {
        &self.codes
    }

    /// True if it is healthy, but connections of traffic fail.
    pub fn is_suspect(&self) -> bool {
        self.suspect && self.state == State::Healthy
    }

    /// True if a successful dial of traffic would change something.
    pub fn awaits_connect(&self) -> bool {
        self.connect_failures > 0 || self.refusals.is_some()
    }

    /// True if a check must also dial the traffic address, in case the check uses another. No other
    /// connection might ever reach it, because new clients avoid a suspect target, and all clients
    /// one that refused for long.
    pub fn wants_dial(&self) -> bool {
        self.suspect || self.disagreement.is_some()
    }

    /// True if traffic alone made it unhealthy, while its checks pass.
    pub fn is_disputed(&self) -> bool {
        self.disagreement.is_some()
    }

    /// True if its latest check failed, but too few in a row to make it unhealthy.
    pub fn is_failing(&self) -> bool {
        self.state == State::Healthy && self.failures > 0
    }

    /// True if its latest check passed, but too few in a row to make it healthy.
    pub fn is_passing(&self) -> bool {
        self.state == State::Unhealthy && self.passes > 0
    }

    /// True if the state is not settled, so that the next check comes sooner: not known yet,
    /// suspect or made unhealthy by traffic, or on its way to another state.
    pub fn is_unsettled(&self) -> bool {
        match self.state {
            State::Initial => true,
            State::Healthy => self.failures > 0 || self.suspect,
            State::Unhealthy => self.disagreement.is_some() || self.passes > 0,
        }
    }

    /// Applies one event; returns true if the state changed.
    pub fn observe(&mut self, event: &HealthEvent, thresholds: Thresholds, now: Instant) -> bool {
        match event {
            HealthEvent::Passed => {
                self.checked = true;
                self.failures = 0;
                self.codes.clear();
                self.passes = self.passes.saturating_add(1);
                if let Some(refusals) = &mut self.refusals {
                    refusals.passed = true;
                }
                let is_back = self.disagreement.as_mut().is_none_or(|disagreement| {
                    let since = *disagreement.passing_since.get_or_insert(now);
                    now.saturating_duration_since(since) >= REFUSING_FOR
                });
                // The first pass makes a new target healthy, at any threshold.
                let enough = self.state == State::Initial || self.passes >= thresholds.healthy;
                is_back && enough && self.become_state(State::Healthy)
            }
            HealthEvent::Failed(failure) => {
                self.checked = true;
                self.break_passes();
                self.failures = self.failures.saturating_add(1);
                self.remember(failure.clone());
                self.failures >= thresholds.unhealthy && self.become_state(State::Unhealthy)
            }
            HealthEvent::Waived => {
                self.checked = true;
                self.break_passes();
                self.failures = 0;
                self.codes.clear();
                false
            }
            HealthEvent::ConnectFailed => {
                let Some(bound) = thresholds.connect_failures else { return false };
                self.connect_failures = self.connect_failures.saturating_add(1);
                self.suspect |= self.connect_failures >= bound;
                let refusals = self.refused(now);
                let for_long = refusals.latest.saturating_duration_since(refusals.first);
                let is_enough = refusals.count >= bound && for_long >= REFUSING_FOR;
                let checks_pass =
                    self.state == State::Healthy && self.failures == 0 && refusals.passed;
                if !is_enough || !checks_pass {
                    return false;
                }
                self.remember(Failure::Traffic);
                self.disagreement = Some(Disagreement::default());
                self.become_state(State::Unhealthy)
            }
            HealthEvent::Connected => {
                self.refusals = None;
                self.disagreement = None;
                self.trust();
                false
            }
            HealthEvent::Reached => {
                self.trust();
                false
            }
        }
    }

    fn trust(&mut self) {
        self.connect_failures = 0;
        self.suspect = false;
    }

    fn break_passes(&mut self) {
        self.passes = 0;
        if let Some(disagreement) = &mut self.disagreement {
            disagreement.passing_since = None;
        }
    }

    /// Counts one more failed dial.
    fn refused(&mut self, now: Instant) -> Refusals {
        let begun = Refusals { first: now, latest: now, count: 0, passed: false };
        let in_a_row =
            |refusals: &Refusals| now.saturating_duration_since(refusals.latest) <= MAX_GAP;
        let before = self.refusals.filter(in_a_row).unwrap_or(begun);
        let count = before.count.saturating_add(1);
        *self.refusals.insert(Refusals { latest: now, count, ..before })
    }

    fn remember(&mut self, failure: Failure) {
        if let Failure::ResponseCodeMismatch { got } = failure
            && !self.codes.contains(&got)
            && self.codes.len() < MAX_CODES
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
            self.disagreement = None;
            self.refusals = None;
            self.failure = None;
        }
        self.passes = 0;
        self.failures = 0;
        true
    }
}

/// Returns true if a group fails open: it wants that, and fewer of its targets serve than `count`
/// or `percent` requires. Targets not yet known count as healthy. `registered` counts all that
/// could serve.
pub fn fails_open(wanted: bool, serving: u32, registered: u32, count: u32, percent: u8) -> bool {
    let too_few = serving < count;
    // In integers: serving / registered < percent / 100.
    let too_small_a_share = u64::from(serving) * 100 < u64::from(registered) * u64::from(percent);
    wanted && (too_few || too_small_a_share)
}

#[cfg(test)]
mod tests;
