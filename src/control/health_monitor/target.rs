//! One monitored target: the time of its next check, the results of its checks and its traffic, and
//! the log messages about its changes.

use crate::base::log_throttle::LogThrottle;
use crate::base::name::Name;
use crate::config::settings::target_tls::TargetTls;
use crate::config::settings::{Group as GroupSettings, HealthProtocol};
use crate::control::probe::{Probe, Reach};
use crate::model::live::{Availability, Drain, Health, TargetState};
use crate::model::snapshot;
use crate::net::tls::Connectors;
use crate::policy::health::progress::{
    Failure, HealthEvent, Progress, REFUSING_FOR, State, Thresholds,
};
use crate::policy::health::recovery::{CheckedState, Limits};
use crate::policy::health::target_health::{HealthState, Reason, Registration, TargetHealth};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A monitored target.
pub(super) struct MonitoredTarget {
    group: Name,
    id: Name,
    state: Arc<TargetState>,
    pub(super) progress: Progress,
    thresholds: Thresholds,
    /// `None` for a host name without an address.
    probe: Option<Probe>,
    /// Address and TLS of its traffic, if the checks do not test them: they use another port, or no
    /// TLS.
    reach: Option<Reach>,
    recovery: Limits,
    /// True if it is unhealthy, but keeps its clients while its group is in recovery.
    pub(super) is_recovering: bool,
    /// True if it has become suspect and has not been checked since.
    is_urgent: bool,
    last_urgent: Option<Instant>,
    suspected_at: Option<Instant>,
    suspicion_log: LogThrottle,
    suspicion_logged: bool,
    interval: Duration,
    fast_interval: Duration,
    pub(super) deregistration_delay: Duration,
    pub(super) last_check: Option<Instant>,
    pub(super) is_being_checked: bool,
    pub(super) first_failure_logged: bool,
    logged_state: HealthState,
}

impl MonitoredTarget {
    /// Creates a target without any results.
    pub(super) fn of(
        group: &GroupSettings,
        target: &snapshot::Target,
        connectors: &mut Connectors,
    ) -> Self {
        let health = &group.health;
        let probe = target.address.map(|mut address| {
            // A check on another port reaches another listener, which serves no clients.
            let send_proxy =
                group.send_proxy.filter(|_| health.port.is_none_or(|port| port == address.port()));
            let traffic = address;
            if let Some(port) = health.port {
                address.set_port(port);
            }
            let http2 = group.protocol.is_http2();
            let over_tls = match health.protocol {
                HealthProtocol::Https => true,
                HealthProtocol::Grpc => group.tls.is_some(),
                HealthProtocol::Http | HealthProtocol::Tcp => false,
            };
            let host = target.host.as_deref();
            let anyone = || TargetTls::ANYONE.peer(host, address.ip(), http2);
            let tls = over_tls.then(|| match target.state.tls() {
                Some(peer) => connectors.whole(peer),
                None => connectors.whole(&anyone()),
            });
            let tells_of_traffic = address == traffic && over_tls == target.state.tls().is_some();
            let reach = (!tells_of_traffic).then(|| Reach {
                address: traffic,
                tls: target.state.tls().map(|peer| connectors.whole(peer)),
                http2,
                send_proxy: group.send_proxy,
                timeout: health.timeout,
            });
            let probe = Probe { address, health: health.clone(), tls, http2, send_proxy };
            (probe, reach)
        });
        let (probe, reach) = match probe {
            Some((probe, reach)) => (Some(probe), reach),
            None => (None, None),
        };
        let fast = health.fast_interval.min(health.interval);
        let to_be_healthy = fast.saturating_add(health.timeout) * health.healthy_threshold;
        let progress = match probe {
            Some(_) => Progress::default(),
            // Without an address it cannot serve, and there is nothing to check.
            None => Progress::down(Failure::Unresolved),
        };
        Self {
            group: group.name.clone(),
            id: target.id.clone(),
            state: Arc::clone(&target.state),
            progress,
            thresholds: Thresholds {
                healthy: health.healthy_threshold,
                unhealthy: health.unhealthy_threshold,
                connect_failures: health.connect_failures,
            },
            probe,
            reach,
            recovery: Limits::of(group.recovery, health.interval, to_be_healthy),
            is_recovering: false,
            is_urgent: false,
            last_urgent: None,
            suspected_at: None,
            suspicion_log: LogThrottle::default(),
            suspicion_logged: false,
            interval: health.interval,
            fast_interval: health.fast_interval,
            deregistration_delay: group.deregistration_delay,
            last_check: None,
            is_being_checked: false,
            first_failure_logged: false,
            logged_state: HealthState::Initial,
        }
    }

    /// Takes the settings of a new snapshot and keeps the results. A running check still counts,
    /// and the next one is due as before.
    pub(super) fn continued_as(self, fresh: Self) -> Self {
        let Self { probe, reach, thresholds, interval, fast_interval, recovery, .. } = fresh;
        let Self { group, id, state, deregistration_delay, .. } = fresh;
        Self {
            group,
            id,
            state,
            probe,
            reach,
            thresholds,
            interval,
            fast_interval,
            recovery,
            deregistration_delay,
            ..self
        }
    }

    /// Returns the target to a group. A check that ran when it was removed has no receiver.
    pub(super) fn returned(self) -> Self {
        Self { is_being_checked: false, ..self }
    }

    /// Name as `group/id`.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.group, self.id)
    }

    /// Returns true if its first check has had its result or its time-out.
    pub(super) fn is_checked(&self) -> bool {
        self.probe.is_none() || self.progress.is_checked()
    }

    /// The check to start, if one is due and none is running, and the traffic address to dial
    /// besides.
    pub(super) fn probe_if_due(&mut self, now: Instant) -> Option<(Probe, Option<Reach>)> {
        let probe = self.probe.as_ref()?;
        let fast = self.fast_interval.min(self.interval);
        let is_fast = self.progress.is_unsettled() || self.is_recovering;
        let interval = if is_fast { fast } else { self.interval };
        let due = self.is_urgent || self.last_check.is_none_or(|last| now >= last + interval);
        if !due || self.is_being_checked {
            return None;
        }
        if std::mem::take(&mut self.is_urgent) {
            self.last_urgent = Some(now);
        }
        self.is_being_checked = true;
        self.last_check = Some(now);
        let reach = self.reach.clone().filter(|_| self.progress.wants_dial());
        Some((probe.clone(), reach))
    }

    /// Returns true if its checks use the address and TLS of its traffic.
    pub(super) fn is_checked_as_traffic(&self) -> bool {
        self.reach.is_none()
    }

    /// Returns true if only traffic made it unhealthy.
    pub(super) fn is_disputed(&self) -> bool {
        self.progress.is_disputed()
    }

    /// Applies an event; true if the published state changes.
    pub(super) fn observe(&mut self, event: &HealthEvent, now: Instant) -> bool {
        // A check that connected before traffic failed gives no current information.
        let is_stale = self.suspected_at.zip(self.last_check).is_some_and(|(at, last)| at > last);
        if matches!(event, HealthEvent::Reached) && is_stale {
            return false;
        }
        let before = self.traffic_state();
        let was_disputed = self.progress.is_disputed();
        if let HealthEvent::Passed | HealthEvent::Failed(_) | HealthEvent::Waived = event {
            self.is_being_checked = false;
        }
        if let HealthEvent::Failed(failure) = event {
            self.log_first_failure(failure);
        }
        let has_changed = self.progress.observe(event, self.thresholds, now);
        if self.progress.is_suspect() && !before.0 {
            self.suspected_at = Some(now);
            // At most one check more than those at the fast interval, however often it becomes
            // suspect.
            let fast = self.fast_interval.min(self.interval);
            self.is_urgent = self.last_urgent.is_none_or(|last| now >= last + fast);
        }
        if self.progress.is_disputed() && !was_disputed {
            self.log_dispute();
        }
        has_changed || before != self.traffic_state()
    }

    /// The published state of its traffic.
    fn traffic_state(&self) -> (bool, bool) {
        (self.progress.is_suspect(), self.progress.awaits_connect())
    }

    /// Returns true if a check must start at once.
    pub(super) fn is_urgent(&self) -> bool {
        self.is_urgent
    }

    /// The state of its checks, for its group's recovery.
    pub(super) fn checked_state(&self) -> CheckedState {
        match self.progress.state() {
            State::Initial => CheckedState::Unknown,
            State::Healthy if self.progress.is_failing() => CheckedState::Failing,
            State::Healthy => CheckedState::Serving,
            State::Unhealthy if self.progress.is_passing() => CheckedState::Passing,
            State::Unhealthy => CheckedState::Down,
        }
    }

    /// The bounds of its group's recovery.
    pub(super) fn recovery(&self) -> Limits {
        self.recovery
    }

    /// Its availability, with this drain state.
    pub(super) fn availability(&self, drain: Drain) -> Availability {
        let health = match self.progress.state() {
            State::Initial => Health::Initial,
            State::Healthy if self.progress.is_suspect() => Health::Suspect,
            State::Healthy => Health::Healthy,
            State::Unhealthy => Health::Unhealthy,
        };
        let recovering = self.is_recovering && health == Health::Unhealthy;
        Availability { health, drain, recovering }
    }

    /// Returns true if the end of its deregistration delay is published.
    pub(super) fn has_left(&self) -> bool {
        self.state.availability().drain == Drain::Over
    }

    /// Publishes the state for the workers, and logs a change.
    pub(super) fn publish(&mut self, drain: Drain) {
        self.state.set_availability(self.availability(drain));
        self.state.set_awaits_connect(self.progress.awaits_connect());
        self.log_suspicion();
        let registration = match drain {
            Drain::No | Drain::Held if self.last_check.is_none() => Registration::Registering,
            Drain::No | Drain::Held => Registration::Registered,
            Drain::Running => Registration::Deregistering,
            Drain::Over => Registration::Deregistered,
        };
        let state = HealthState::of(registration, &self.progress);
        let before = std::mem::replace(&mut self.logged_state, state);
        if before != state {
            self.log_state_change(before, &TargetHealth::of(registration, &self.progress));
        }
    }

    fn log_state_change(&self, before: HealthState, health: &TargetHealth) {
        let (group, target) = (self.group.as_str(), self.id.as_str());
        let (from, to) = (before.word(), health.state.word());
        let reason = health.reason.map(Reason::code);
        let description = Some(health.description.as_str()).filter(|text| !text.is_empty());
        match health.state {
            HealthState::Unhealthy | HealthState::UnhealthyDraining => {
                tracing::warn!(
                    group,
                    target,
                    from,
                    to,
                    reason,
                    description,
                    "target health changed"
                );
            }
            _ => tracing::info!(
                group,
                target,
                from,
                to,
                reason,
                description,
                "target health changed"
            ),
        }
    }

    /// Logs that it is suspect, at most once a minute, and then that it is no longer suspect.
    fn log_suspicion(&mut self) {
        let is_suspect = self.progress.is_suspect();
        if is_suspect == self.suspicion_logged {
            return;
        }
        let (group, target) = (self.group.as_str(), self.id.as_str());
        if !is_suspect {
            self.suspicion_logged = false;
            tracing::info!(group, target, "target no longer suspect");
        } else if self.suspected_at.is_some_and(|at| self.suspicion_log.allow(at)) {
            self.suspicion_logged = true;
            tracing::warn!(
                group,
                target,
                "target suspect: traffic connections fail; new clients avoid it, pinned clients \
                 stay until its health checks fail"
            );
        }
    }

    fn log_dispute(&self) {
        let (group, target) = (self.group.as_str(), self.id.as_str());
        let checked = self.probe.as_ref().map(|probe| probe.address.to_string());
        let traffic = self.reach.as_ref().map(|reach| reach.address.to_string());
        tracing::warn!(
            group,
            target,
            checked,
            traffic,
            refused_for = ?REFUSING_FOR,
            "checks_and_traffic_disagree: health checks pass, but every traffic connection failed; \
             the target counts as unhealthy. Set health.port, health.protocol and tls to match the \
             traffic, and find what refuses connections: a full listen queue, a firewall, another \
             process on the port"
        );
    }

    /// Logs the expected and the actual result of the first failed check, once.
    fn log_first_failure(&mut self, failure: &Failure) {
        if std::mem::replace(&mut self.first_failure_logged, true) {
            return;
        }
        let Some(probe) = &self.probe else { return };
        let health = &probe.health;
        let asked = match health.protocol {
            HealthProtocol::Http => format!("GET {}", health.path),
            HealthProtocol::Https => format!("GET {} over TLS", health.path),
            HealthProtocol::Grpc => format!("gRPC call {}", health.path),
            HealthProtocol::Tcp => "TCP connect".to_owned(),
        };
        let message = match failure {
            Failure::ResponseCodeMismatch { got } => format!(
                "health check failed: {asked} returned {got}, expected {}; check health.path and \
                 health.matcher",
                health.matcher
            ),
            Failure::ResponseStringMismatch => format!(
                "health check failed: the response to {asked} does not contain \"{}\"; check \
                 health.body",
                health.body.as_deref().unwrap_or_default()
            ),
            Failure::Timeout => {
                format!(
                    "health check failed: no response to {asked} within {:?}; check the target and \
                     health.timeout",
                    health.timeout
                )
            }
            other => format!("health check failed: {asked} at {}: {other}", probe.address),
        };
        tracing::warn!(target = self.name(), "{message}");
    }
}
