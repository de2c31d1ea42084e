//! One target under watch: when it is checked next, what its checks and its traffic say, and the
//! words in which a change is told.

use crate::config::settings::target_tls::TargetTls;
use crate::config::settings::{Group as GroupSettings, HealthProtocol};
use crate::control::probe::Question;
use crate::ground::name::Name;
use crate::model::live::{Availability, Drain, Health, TargetLive};
use crate::model::snapshot;
use crate::net::tls::Connectors;
use crate::policy::health::progress::{Event, Failure, Progress, State, Thresholds};
use crate::policy::health::target_health::{Reason, Registration, TargetHealth, TargetState};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The target.
pub(super) struct Target {
    group: Name,
    id: Name,
    live: Arc<TargetLive>,
    pub(super) progress: Progress,
    thresholds: Thresholds,
    /// `None` for a host name that has no address.
    question: Option<Question>,
    interval: Duration,
    fast_interval: Duration,
    pub(super) deregistration_delay: Duration,
    pub(super) last_check: Option<Instant>,
    pub(super) is_being_checked: bool,
    pub(super) first_failure_told: bool,
    state_told: TargetState,
}

impl Target {
    /// A target nothing has happened to yet.
    pub(super) fn of(
        group: &GroupSettings,
        target: &snapshot::Target,
        connectors: &mut Connectors,
    ) -> Self {
        let health = &group.health;
        let question = target.address.map(|mut address| {
            // Another port has another listener behind it, which sees no clients.
            let announced =
                group.send_proxy.filter(|_| health.port.is_none_or(|port| port == address.port()));
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
            let tls = over_tls.then(|| match target.live.tls() {
                Some(peer) => connectors.whole(peer),
                None => connectors.whole(&anyone()),
            });
            Question { address, health: health.clone(), tls, http2, announced }
        });
        let progress = match question {
            Some(_) => Progress::default(),
            // It cannot serve, and there is nothing to ask.
            None => Progress::down(Failure::Unresolved),
        };
        Self {
            group: group.name.clone(),
            id: target.id.clone(),
            live: Arc::clone(&target.live),
            progress,
            thresholds: Thresholds {
                healthy: health.healthy_threshold,
                unhealthy: health.unhealthy_threshold,
                connect_failures: health.connect_failures,
            },
            question,
            interval: health.interval,
            fast_interval: health.fast_interval,
            deregistration_delay: group.deregistration_delay,
            last_check: None,
            is_being_checked: false,
            first_failure_told: false,
            state_told: TargetState::Initial,
        }
    }

    /// This target as another picture has it: what is asked may differ, what happened does not. A
    /// check under way still answers for it, and the next is due when it was.
    pub(super) fn continued_as(self, fresh: Self) -> Self {
        let Self { progress, last_check, is_being_checked, first_failure_told, .. } = self;
        let state_told = self.state_told;
        Self { progress, last_check, is_being_checked, first_failure_told, state_told, ..fresh }
    }

    /// This target, in a group again. A check that was under way when it went answered to nobody.
    pub(super) fn returned(self) -> Self {
        Self { is_being_checked: false, ..self }
    }

    /// `group/id`
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.group, self.id)
    }

    /// Whether its first check has had its result or its time-out.
    pub(super) fn is_checked(&self) -> bool {
        self.question.is_none() || self.progress.is_checked()
    }

    /// What is to be asked, if it is time. A check that is still running is not started twice.
    pub(super) fn question_if_due(&mut self, now: Instant) -> Option<Question> {
        let question = self.question.as_ref()?;
        let fast = self.fast_interval.min(self.interval);
        let interval = if self.progress.is_unsettled() { fast } else { self.interval };
        let due = self.last_check.is_none_or(|last| now >= last + interval);
        if !due || self.is_being_checked {
            return None;
        }
        self.is_being_checked = true;
        self.last_check = Some(now);
        Some(question.clone())
    }

    /// Takes in what happened; true if that changed what is to be published.
    pub(super) fn observe(&mut self, event: &Event) -> bool {
        let was_suspect = self.progress.is_suspect();
        if let Event::Passed | Event::Failed(_) | Event::Waived = event {
            self.is_being_checked = false;
        }
        if let Event::Failed(failure) = event {
            self.tell_first_failure(failure);
        }
        self.progress.observe(event, self.thresholds) || was_suspect != self.progress.is_suspect()
    }

    /// What is known, with this drain.
    pub(super) fn availability(&self, drain: Drain) -> Availability {
        let health = match self.progress.state() {
            State::Initial => Health::Initial,
            State::Healthy if self.progress.is_suspect() => Health::Suspect,
            State::Healthy => Health::Healthy,
            State::Unhealthy => Health::Unhealthy,
        };
        Availability { health, drain, recovering: false }
    }

    /// Writes what is known where workers read it, and tells a state that has changed.
    pub(super) fn publish(&mut self, drain: Drain) {
        self.live.set_availability(self.availability(drain));
        self.live.set_awaits_connect(self.progress.is_suspect());
        let registration = match drain {
            Drain::No if self.last_check.is_none() => Registration::Registering,
            Drain::No => Registration::Registered,
            Drain::Running => Registration::Deregistering,
            Drain::Over => Registration::Deregistered,
        };
        let state = TargetState::of(registration, &self.progress);
        let before = std::mem::replace(&mut self.state_told, state);
        if before != state {
            self.tell(before, &TargetHealth::of(registration, &self.progress));
        }
    }

    fn tell(&self, before: TargetState, health: &TargetHealth) {
        let (group, target) = (self.group.as_str(), self.id.as_str());
        let (from, to) = (before.word(), health.state.word());
        let reason = health.reason.map(Reason::code);
        let description = Some(health.description.as_str()).filter(|text| !text.is_empty());
        match health.state {
            TargetState::Unhealthy | TargetState::UnhealthyDraining => {
                tracing::warn!(group, target, from, to, reason, description, "health");
            }
            _ => tracing::info!(group, target, from, to, reason, description, "health"),
        }
    }

    /// Says once what was wanted and what came.
    fn tell_first_failure(&mut self, failure: &Failure) {
        if std::mem::replace(&mut self.first_failure_told, true) {
            return;
        }
        let Some(question) = &self.question else { return };
        let health = &question.health;
        let asked = match health.protocol {
            HealthProtocol::Http => format!("GET {}", health.path),
            HealthProtocol::Https => format!("GET {} over TLS", health.path),
            HealthProtocol::Grpc => format!("a call of {}", health.path),
            HealthProtocol::Tcp => "a connection".to_owned(),
        };
        let told = match failure {
            Failure::ResponseCodeMismatch { got } => format!(
                "got {got} from {asked}, wanted {}: set health.path or matcher",
                health.matcher
            ),
            Failure::ResponseStringMismatch => format!(
                "the answer to {asked} lacks \"{}\": set health.body",
                health.body.as_deref().unwrap_or_default()
            ),
            Failure::Timeout => {
                format!("no answer to {asked} within {:?}: set health.timeout", health.timeout)
            }
            other => format!("no answer to {asked} from {}: {other}", question.address),
        };
        tracing::warn!(target = self.name(), "{told}");
    }
}
