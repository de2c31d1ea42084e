//! The reported form of a target's health: state, reason code and description, in ALB's words (AWS,
//! API reference of Elastic Load Balancing, "TargetHealth"; the descriptions are modelled on its
//! own).

use super::progress::{Failure, Progress, State};
use std::fmt;

/// A target's membership in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registration {
    /// It was added, and no check of it has begun.
    Registering,
    /// It is in the group.
    Registered,
    /// It drains or was removed, and its deregistration delay runs.
    Deregistering,
    /// Its deregistration delay is over.
    Deregistered,
}

/// The reported state of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HealthState {
    /// Not yet known.
    Initial,
    /// It serves.
    Healthy,
    /// It does not serve.
    Unhealthy,
    /// It is leaving the group.
    Draining,
    /// It is leaving and does not serve the clients pinned to it. The API has this word for Network
    /// Load Balancers; ALB does not need it, because its clients do not stay.
    UnhealthyDraining,
    /// It has left the group.
    Unused,
}

/// The reason for a target's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// No check of it has begun.
    RegistrationInProgress,
    /// Too few checks to decide.
    InitialHealthChecking,
    /// The status or the text of the response.
    ResponseCodeMismatch,
    /// No complete response in time.
    Timeout,
    /// No connection, or no HTTP on it.
    FailedHealthChecks,
    /// It is draining.
    DeregistrationInProgress,
    /// Its deregistration delay is over.
    NotRegistered,
}

/// The state of a target with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TargetHealth {
    /// The reported state.
    pub state: HealthState,
    /// The reason code; `None` for a healthy target.
    pub reason: Option<Reason>,
    /// The reason as text for people; empty for a healthy target.
    pub description: String,
}

impl TargetHealth {
    /// Combines membership and checks.
    pub(crate) fn of(registration: Registration, progress: &Progress) -> Self {
        let state = HealthState::of(registration, progress);
        let (reason, description) = match (state, progress.failure()) {
            (HealthState::Initial, _) => match registration {
                Registration::Registering => (
                    Some(Reason::RegistrationInProgress),
                    "Target registration is in progress".to_owned(),
                ),
                _ => (
                    Some(Reason::InitialHealthChecking),
                    "Initial health checks in progress".to_owned(),
                ),
            },
            (HealthState::Unhealthy | HealthState::UnhealthyDraining, Some(failure)) => {
                (Some(Reason::of(failure)), description(failure, progress.codes()))
            }
            (HealthState::Draining, _) => (
                Some(Reason::DeregistrationInProgress),
                "Target deregistration is in progress".to_owned(),
            ),
            (HealthState::Unused, _) => {
                (Some(Reason::NotRegistered), "Target is not registered".to_owned())
            }
            (HealthState::Healthy | HealthState::Unhealthy | HealthState::UnhealthyDraining, _) => {
                (None, String::new())
            }
        };
        Self { state, reason, description }
    }
}

impl HealthState {
    /// The state alone, to detect a change without making the description.
    pub(crate) fn of(registration: Registration, progress: &Progress) -> Self {
        match (registration, progress.state()) {
            (Registration::Deregistered, _) => Self::Unused,
            (Registration::Deregistering, State::Unhealthy) => Self::UnhealthyDraining,
            (Registration::Deregistering, _) => Self::Draining,
            (_, State::Initial) => Self::Initial,
            (_, State::Healthy) => Self::Healthy,
            (_, State::Unhealthy) => Self::Unhealthy,
        }
    }

    /// ALB's word for the state.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Draining => "draining",
            Self::UnhealthyDraining => "unhealthy.draining",
            Self::Unused => "unused",
        }
    }
}

impl Reason {
    fn of(failure: &Failure) -> Self {
        match failure {
            Failure::Timeout => Self::Timeout,
            Failure::ResponseCodeMismatch { .. } | Failure::ResponseStringMismatch => {
                Self::ResponseCodeMismatch
            }
            Failure::FailedHealthChecks { .. } | Failure::Traffic | Failure::Unresolved => {
                Self::FailedHealthChecks
            }
        }
    }

    /// ALB's reason code.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::RegistrationInProgress => "Elb.RegistrationInProgress",
            Self::InitialHealthChecking => "Elb.InitialHealthChecking",
            Self::ResponseCodeMismatch => "Target.ResponseCodeMismatch",
            Self::Timeout => "Target.Timeout",
            Self::FailedHealthChecks => "Target.FailedHealthChecks",
            Self::DeregistrationInProgress => "Target.DeregistrationInProgress",
            Self::NotRegistered => "Target.NotRegistered",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

fn description(failure: &Failure, codes: &[u16]) -> String {
    match failure {
        Failure::Timeout => "Request timed out".to_owned(),
        Failure::ResponseCodeMismatch { .. } => {
            format!("Health checks failed with these codes: {codes:?}")
        }
        other => format!("Health checks failed: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::progress::{HealthEvent, Thresholds};
    use super::*;
    use crate::base::clock::Moment;
    use std::time::Duration;

    #[track_caller]
    fn check(registration: Registration, events: &[HealthEvent], told: [&str; 3]) {
        let thresholds = Thresholds { healthy: 2, unhealthy: 2, connect_failures: Some(1) };
        let mut progress = Progress::default();
        let mut now = Moment::now().monotonic;
        for event in events {
            now += Duration::from_secs(5);
            progress.observe(event, thresholds, now);
        }
        let health = TargetHealth::of(registration, &progress);
        let reason = health.reason.map_or("", Reason::code);
        assert_eq!([health.state.word(), reason, &health.description], told, "{events:?}");
    }

    #[test]
    fn every_state_is_reported_with_albs_reason_and_a_description() {
        use HealthEvent::{ConnectFailed, Passed};
        use Registration::{Deregistered, Deregistering, Registered, Registering};
        let failed = |failure: Failure| HealthEvent::Failed(failure);
        let code = |got| failed(Failure::ResponseCodeMismatch { got });
        let cause = || failed(Failure::FailedHealthChecks { cause: "refused".into() });
        let registering =
            ["initial", "Elb.RegistrationInProgress", "Target registration is in progress"];
        check(Registering, &[], registering);
        let initial = ["initial", "Elb.InitialHealthChecking", "Initial health checks in progress"];
        check(Registered, &[], initial);
        check(Registered, &[code(500)], initial);
        check(Registered, &[Passed], ["healthy", "", ""]);
        check(Registered, &[Passed, code(500)], ["healthy", "", ""]);
        let mismatch = "Target.ResponseCodeMismatch";
        let codes = "Health checks failed with these codes: [503, 500]";
        check(Registered, &[code(503), code(500), code(503)], ["unhealthy", mismatch, codes]);
        let codes = "Health checks failed with these codes: [404]";
        check(
            Registered,
            &[code(503), Passed, code(404), code(404)],
            ["unhealthy", mismatch, codes],
        );
        let text = || failed(Failure::ResponseStringMismatch);
        let lacks = "Health checks failed: the answer lacks the wanted text";
        check(Registered, &[text(), text()], ["unhealthy", mismatch, lacks]);
        let timeout = ["unhealthy", "Target.Timeout", "Request timed out"];
        check(Registered, &[cause(), failed(Failure::Timeout)], timeout);
        let broken = "Target.FailedHealthChecks";
        check(
            Registered,
            &[cause(), cause()],
            ["unhealthy", broken, "Health checks failed: refused"],
        );
        let traffic = "Health checks failed: connections for traffic failed";
        let refused = [&[Passed, ConnectFailed, Passed][..], &vec![ConnectFailed; 4]].concat();
        // A suspect target is healthy: ALB has no other word, and a log line reports it.
        check(Registered, &refused, ["healthy", "", ""]);
        let refused = [&refused[..], &[ConnectFailed]].concat();
        check(Registered, &refused, ["unhealthy", broken, traffic]);
        let draining =
            ["draining", "Target.DeregistrationInProgress", "Target deregistration is in progress"];
        check(Deregistering, &[Passed], draining);
        check(Deregistering, &[], draining);
        let down = ["unhealthy.draining", broken, "Health checks failed: refused"];
        check(Deregistering, &[cause(), cause()], down);
        let unused = ["unused", "Target.NotRegistered", "Target is not registered"];
        check(Deregistered, &[cause(), cause()], unused);
    }

    #[test]
    fn a_name_without_an_address_is_unhealthy_with_that_reason() {
        let health =
            TargetHealth::of(Registration::Registering, &Progress::down(Failure::Unresolved));
        assert_eq!(health.state, HealthState::Unhealthy);
        assert_eq!(health.description, "Health checks failed: the host name has no address");
    }
}
