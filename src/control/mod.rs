//! Layer 9: one thread for slow, rare or privileged work. It alone writes health and publishes
//! snapshots. All its events are in one enum, handled by one match.

mod certificates;
mod clocks;
mod drain;
mod health_monitor;
pub(crate) mod probe;
pub(crate) mod resolve;
pub(crate) mod state_dir;
mod weight_controller;

use crate::base::clock::Moment;
use crate::config::settings::Config;
use crate::model::published::Published;
use crate::model::report::Report;
use crate::model::snapshot::{Group, Resolutions, Snapshot};
use crate::model::target_registry::TargetRegistry;
use crate::net::tls::certificates::Certificates;
use crate::observe::counters::Counters;
use crate::policy::affinity::keys::Keyring;
use crate::policy::health::drain_request::DrainRequest;
use crate::policy::health::progress::{Failure, HealthEvent};
use clocks::Clocks;
use health_monitor::HealthMonitor;
use probe::{ProbeError, ProbeResult};
use resolve::{Resolved, Resolver};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use weight_controller::WeightController;

pub(crate) use drain::Drains;

/// Interval at which the thread checks for due work: checks, drains, host names.
const TICK: Duration = Duration::from_millis(50);
/// Maximum number of queued results of checks and of the resolver.
const MAX_QUEUE: usize = 1_024;

/// The inputs of the control thread.
pub(crate) struct Parts {
    /// The configuration of the process.
    pub config: Config,
    /// The keys that seal and open tokens.
    pub keyring: Arc<Keyring>,
    /// The holder of the current snapshot, with the first one in it.
    pub published: Published,
    /// Addresses of host names at the time of the first snapshot.
    pub resolutions: Resolutions,
    /// Resolver of host names.
    pub resolver: Resolver,
    /// Live state of the first snapshot.
    pub registry: TargetRegistry,
    /// Reports of workers about targets.
    pub reports: mpsc::Receiver<Report>,
    /// Counters of the workers.
    pub counters: Vec<Arc<Counters>>,
    /// Certificates of the listeners.
    pub certificates: Vec<Arc<Certificates>>,
    /// Draining targets, as found by [`Drains::begin`].
    pub drains: Drains,
    /// Set to `true` when every target's first check has had its result.
    pub ready: watch::Sender<bool>,
}

/// All events that wake the thread.
#[derive(Debug)]
enum Event {
    Tick,
    Checked {
        generation: u64,
        outcome: Result<ProbeResult, ProbeError>,
        /// Result of the dial of the traffic address beside the check.
        reached: Option<bool>,
    },
    Reported(Report),
    Resolved(Resolved),
    Stop,
}

/// Runs until `stop` is `true`. Needs a local runtime.
pub(crate) async fn run(parts: Parts, mut stop: watch::Receiver<bool>) {
    let Parts { config, keyring, published, resolutions, registry, .. } = parts;
    let Parts { mut reports, counters, certificates, drains, ready, resolver, .. } = parts;
    let (answers, mut answered) = mpsc::channel(MAX_QUEUE);
    let snapshot = published.current();
    let mut control = Control {
        monitor: HealthMonitor::new(answers.clone()),
        drains,
        weights: WeightController::default(),
        resolutions,
        names: resolve::HostNames::of(&config, resolver, answers),
        unknown_keys: UnknownKeyMonitor::default(),
        clocks: Clocks::default(),
        expiry: certificates::Expiry::new(certificates, Moment::now()),
        config,
        keyring,
        published,
        registry,
        counters,
        ready,
    };
    control.monitor.follow(&snapshot, Moment::now().monotonic);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let event = tokio::select! {
            _ = tick.tick() => Event::Tick,
            Some(event) = answered.recv() => event,
            Some(report) = reports.recv() => Event::Reported(report),
            _ = stop.changed() => Event::Stop,
        };
        let now = Moment::now();
        match event {
            Event::Tick => control.tick(now),
            Event::Checked { generation, outcome, reached } => match outcome {
                Ok(answer) => control.answered(generation, answer, reached, now),
                Err(ProbeError::Failed(failure)) => {
                    control.observe(generation, &HealthEvent::Failed(failure), now);
                }
                Err(ProbeError::Shortage(error)) => {
                    control.monitor.skipped(generation, &error, now.monotonic);
                }
            },
            Event::Reported(Report::ConnectFailed(state)) => {
                control.observe(state.generation, &HealthEvent::ConnectFailed, now);
            }
            Event::Reported(Report::Connected(state)) => {
                control.observe(state.generation, &HealthEvent::Connected, now);
            }
            Event::Resolved(resolved) => control.resolved(resolved, now),
            Event::Stop => return,
        }
    }
}

struct Control {
    config: Config,
    keyring: Arc<Keyring>,
    published: Published,
    registry: TargetRegistry,
    resolutions: Resolutions,
    monitor: HealthMonitor,
    drains: Drains,
    weights: WeightController,
    names: resolve::HostNames,
    unknown_keys: UnknownKeyMonitor,
    clocks: Clocks,
    expiry: certificates::Expiry,
    counters: Vec<Arc<Counters>>,
    ready: watch::Sender<bool>,
}

impl Control {
    fn tick(&mut self, now: Moment) {
        let snapshot = self.published.current();
        self.names.ask_if_due(now.monotonic);
        self.drains.advance(&snapshot, now);
        if resolve::forget_the_left(&mut self.resolutions, &self.config, now) {
            self.build_anew(now);
        }
        self.monitor.check_what_is_due(now.monotonic);
        self.publish(now);
        self.unknown_keys.check(&self.counters, now);
        self.clocks.check(&self.counters, now);
        self.expiry.check(now);
        self.signal_ready();
    }

    /// Applies the result of a check. Its request to drain comes first: a target that requests a
    /// drain must get no new clients because it passed.
    fn answered(
        &mut self,
        generation: u64,
        answer: ProbeResult,
        reached: Option<bool>,
        now: Moment,
    ) {
        let ProbeResult { judgement, drain_request } = answer;
        let wants_drain = drain_request.wants_drain(judgement.is_ok());
        if let Some((name, wants)) = self.monitor.name(generation).zip(wants_drain)
            && self.drains.apply(&name, wants, now)
        {
            self.publish(now);
        }
        if reached == Some(true) || self.monitor.is_checked_as_traffic(generation) {
            self.observe(generation, &HealthEvent::Reached, now);
        }
        let is_refused = reached == Some(false) && self.monitor.is_disputed(generation);
        let event = match judgement {
            _ if drain_request == DrainRequest::DrainUnjudged => HealthEvent::Waived,
            Ok(()) if is_refused => HealthEvent::Failed(Failure::Traffic),
            Ok(()) => HealthEvent::Passed,
            Err(failure) => HealthEvent::Failed(failure),
        };
        self.observe(generation, &event, now);
        if reached == Some(false) {
            self.observe(generation, &HealthEvent::ConnectFailed, now);
        }
    }

    fn observe(&mut self, generation: u64, event: &HealthEvent, now: Moment) {
        if self.monitor.observe(generation, event, now.monotonic) {
            self.publish(now);
        }
        if let HealthEvent::ConnectFailed | HealthEvent::Failed(_) = event {
            self.forget_if_unlisted(generation, now);
        }
        self.signal_ready();
    }

    fn publish(&mut self, now: Moment) {
        let snapshot = self.published.current();
        self.monitor.publish(&snapshot, &self.drains, now.monotonic);
        // Now, so that a target that became healthy starts slowly with its first new client.
        self.weights.tick(&snapshot, now);
    }

    fn signal_ready(&mut self) {
        if !*self.ready.borrow() && self.monitor.all_are_checked() && self.names.all_are_asked() {
            // This fails only if no receiver is left.
            let _ = self.ready.send(true);
        }
    }

    /// Applies the resolved addresses of a host name, and publishes a new snapshot if they changed.
    fn resolved(&mut self, resolved: Resolved, now: Moment) {
        self.names.record_asked(&resolved);
        if self.names.apply(&mut self.resolutions, resolved, now) {
            self.build_anew(now);
        }
    }

    /// Removes an address that is not listed any more, once it does not answer.
    fn forget_if_unlisted(&mut self, generation: u64, now: Moment) {
        let snapshot = self.published.current();
        let unlisted = snapshot.groups.iter().find_map(|group| {
            let mut targets = group.targets.iter();
            let target = targets.find(|target| {
                target.state.generation == generation && target.held_until.is_some()
            })?;
            Some((&group.settings.name, target.address?))
        });
        if let Some((group, address)) = unlisted
            && resolve::forget(&mut self.resolutions, group, address)
        {
            tracing::info!(
                group = group.as_str(),
                %address,
                "target removed: its host name no longer lists the address, and it does not answer"
            );
            self.build_anew(now);
        }
    }

    fn build_anew(&mut self, now: Moment) {
        let keyring = Arc::clone(&self.keyring);
        match Snapshot::build(&self.config, keyring, &self.resolutions, &mut self.registry) {
            Ok(snapshot) => {
                let snapshot = Arc::new(snapshot);
                record_replaced(&self.published.current(), &snapshot);
                self.monitor.follow(&snapshot, now.monotonic);
                self.monitor.publish(&snapshot, &self.drains, now.monotonic);
                self.weights.follow(&snapshot);
                self.published.publish(snapshot);
                self.registry.forget_the_gone();
            }
            Err(collision) => tracing::error!(%collision, "cannot use the new addresses of a host \
                                                           name"),
        }
    }
}

/// Informs targets that another machine has taken over their name, so that their late responses
/// make no pin that looks like a pin to the new machine.
fn record_replaced(before: &Snapshot, after: &Snapshot) {
    let is_one = |group: &&Group| group.targets.iter().any(|target| target.address_since.is_some());
    for group in after.groups.iter().filter(is_one) {
        let Some(known) = before.groups.iter().find(|known| known.key == group.key) else {
            continue;
        };
        for target in &group.targets {
            let Some(since) = target.address_since else { continue };
            // This machine may have been replaced earlier and be the current one again.
            target.state.record_replaced(u64::MAX);
            if let Some(at) = known.target_of(target.key)
                && known.targets[at].state.generation != target.state.generation
            {
                known.targets[at].state.record_replaced(since);
            }
        }
    }
}

/// Detects tokens of unknown keys: a node that seals with a key that this one lacks makes clients
/// move again and again, and no other message would give the reason.
#[derive(Default)]
struct UnknownKeyMonitor {
    since: Option<Moment>,
    before: (u64, u64),
    logged: bool,
}

impl UnknownKeyMonitor {
    fn check(&mut self, counters: &[Arc<Counters>], now: Moment) {
        let since = *self.since.get_or_insert(now);
        if self.logged || now.since(since) < Duration::from_mins(1) {
            return;
        }
        let sum = |count: fn(&Counters) -> u64| counters.iter().map(|own| count(own)).sum::<u64>();
        let totals = (sum(|own| own.exchanges.value()), sum(|own| own.unknown_keys.value()));
        let (exchanges, unknown) = (totals.0 - self.before.0, totals.1 - self.before.1);
        if unknown * 20 > exchanges {
            tracing::warn!(
                unknown,
                exchanges,
                "unknown_key: more than 5 % of requests bring a token sealed with a key that this \
                 balancer does not have; set the same affinity.keys on all nodes"
            );
            self.logged = true;
        }
        (self.since, self.before) = (Some(now), totals);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::model::live::{Drain, TargetState};
    use crate::model::snapshot::{Listed, Resolution, Target};
    use crate::policy::affinity::keys::Key;
    use std::net::SocketAddr;

    const HELD: &str = "127.0.0.1:1";
    const LISTED: &str = "127.0.0.1:2";

    fn name() -> (String, u16) {
        ("app.internal".to_owned(), 80)
    }

    fn listed(addresses: &[&str]) -> Vec<Listed> {
        let listed = |address: &&str| Listed {
            address: address.parse().unwrap(),
            unlisted_since: None,
            gone_from: Vec::new(),
        };
        addresses.iter().map(listed).collect()
    }

    /// Two groups with one host name, which no longer lists one of its two addresses. No check
    /// runs; the test supplies the events.
    fn control(expand: bool, now: Moment) -> Control {
        let text = format!(
            "[listener.web]\naddress = \"127.0.0.1:0\"\ndefault = \"app\"\n\
             [target_group.app]\n\
             targets = [{{ id = \"n\", address = \"app.internal:80\", expand = {expand} }}]\n\
             [target_group.other]\n\
             targets = [{{ id = \"n\", address = \"app.internal:80\", expand = {expand} }}]\n"
        );
        let config = config::parse(&text, "test.toml", "/".as_ref()).unwrap().config;
        let mut addresses = listed(&[LISTED, HELD]);
        addresses[1].unlisted_since = Some(now.wall);
        let resolution = Resolution { addresses, changed_at: None };
        let resolutions = Resolutions::from([(name(), resolution)]);
        let keyring = Arc::new(Keyring::new(&[Key::generate([7; 32])]).unwrap());
        let mut registry = TargetRegistry::default();
        let snapshot = Snapshot::build(&config, keyring.clone(), &resolutions, &mut registry);
        let snapshot = Arc::new(snapshot.unwrap());
        // The test drops the receiver: results are discarded.
        let (answers, _) = mpsc::channel(MAX_QUEUE);
        let mut control = Control {
            monitor: HealthMonitor::new(answers.clone()),
            drains: Drains::begin(None, &snapshot, now),
            weights: WeightController::default(),
            resolutions,
            names: resolve::HostNames::of(&config, Resolver::of_system(), answers),
            unknown_keys: UnknownKeyMonitor::default(),
            clocks: Clocks::default(),
            expiry: certificates::Expiry::new(Vec::new(), now),
            config,
            keyring,
            published: Published::new(snapshot.clone()),
            registry,
            counters: Vec::new(),
            ready: watch::channel(false).0,
        };
        control.monitor.follow(&snapshot, now.monotonic);
        control.publish(now);
        control
    }

    /// Live state of an address in the published snapshot, per group.
    fn live(control: &Control, address: &str) -> [Option<Arc<TargetState>>; 2] {
        let address: SocketAddr = address.parse().unwrap();
        let snapshot = control.published.current();
        ["app", "other"].map(|name| {
            let group = snapshot.groups.iter().find(|group| group.name() == name)?;
            let is_it = |target: &&Target| target.address == Some(address);
            group.targets.iter().find(is_it).map(|target| Arc::clone(&target.state))
        })
    }

    /// Due checks are spawned as tasks of a local runtime.
    fn in_a_runtime(test: impl FnOnce()) {
        let local = tokio::runtime::LocalOptions::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(local);
        runtime.unwrap().block_on(async { test() });
    }

    #[test]
    fn an_unlisted_address_that_does_not_answer_leaves_its_group_only() {
        let failed = |failure| HealthEvent::Failed(failure);
        let events = [
            (HealthEvent::ConnectFailed, true),
            (failed(Failure::Timeout), true),
            (failed(Failure::FailedHealthChecks { cause: "refused".into() }), true),
            (failed(Failure::ResponseCodeMismatch { got: 503 }), true),
            (failed(Failure::Traffic), true),
            (HealthEvent::Passed, false),
            (HealthEvent::Waived, false),
            (HealthEvent::Reached, false),
            (HealthEvent::Connected, false),
        ];
        in_a_runtime(|| {
            for (event, forgets) in events {
                let now = Moment::now();
                let mut control = control(true, now);
                let [of_app, of_other] = live(&control, HELD).map(Option::unwrap);
                assert_eq!(of_app.availability().drain, Drain::Held);
                let [listed, _] = live(&control, LISTED).map(Option::unwrap);
                control.observe(listed.generation, &event, now);
                assert!(live(&control, LISTED)[0].is_some(), "{event:?}: it is listed");
                control.observe(u64::MAX, &event, now);
                control.observe(of_app.generation, &event, now);
                let [in_app, in_other] = live(&control, HELD);
                assert_eq!(in_app.is_none(), forgets, "{event:?}");
                let stays = in_other.is_some_and(|state| state.generation == of_other.generation);
                assert!(stays, "{event:?}: the other group may reach what this one cannot");
                assert_eq!(
                    control.monitor.name(of_app.generation).is_none(),
                    forgets,
                    "{event:?}: what is forgotten is asked no more"
                );
                // Its exchanges in progress end like those of any removed target.
                let drain = if forgets { Drain::Running } else { Drain::Held };
                assert_eq!(of_app.availability().drain, drain, "{event:?}");
            }
        });
    }

    #[test]
    fn a_removed_address_returns_once_listed_and_then_stays_after_failures() {
        in_a_runtime(|| {
            let now = Moment::now();
            let mut control = control(true, now);
            let [forgotten, _] = live(&control, HELD).map(Option::unwrap);
            control.observe(forgotten.generation, &HealthEvent::ConnectFailed, now);
            let answer = |addresses: &[&str]| {
                let addresses = addresses.iter().map(|address| address.parse().unwrap());
                Resolved::of(name(), addresses.collect())
            };
            // An answer with the same addresses does not bring it back.
            control.resolved(answer(&[LISTED]), now);
            assert!(live(&control, HELD)[0].is_none());
            control.resolved(answer(&[HELD, LISTED]), now);
            let [back, _] = live(&control, HELD).map(Option::unwrap);
            assert_eq!(back.availability().drain, Drain::No);
            control.observe(back.generation, &HealthEvent::ConnectFailed, now);
            assert!(live(&control, HELD)[0].is_some());
        });
    }

    #[test]
    fn an_unlisted_address_is_held_drains_for_one_delay_and_has_left() {
        in_a_runtime(|| {
            let begun = Moment::now();
            let mut control = control(true, begun);
            let [live_half, _] = live(&control, HELD).map(Option::unwrap);
            // Held for 30 s, then draining for 300 s. Each tick is late by a different time.
            let mut seen = Vec::new();
            for tick in 0..9_000_u64 {
                let late = Duration::from_millis(50 * tick + tick * 7 % 40);
                control.tick(begun.later(late));
                let drain = live_half.availability().drain;
                if seen.last().is_none_or(|(last, _)| *last != drain) {
                    seen.push((drain, late.as_secs()));
                }
            }
            let expected = [(Drain::Held, 0), (Drain::Running, 30), (Drain::Over, 330)];
            assert_eq!(seen, expected, "what is under way there is cut once, and not later");
            assert!(live(&control, HELD)[0].is_none() && live(&control, LISTED)[0].is_some());
        });
    }

    #[test]
    fn a_replaced_machine_makes_no_pins_dated_after_until_it_is_back() {
        in_a_runtime(|| {
            let begun = Moment::now();
            let mut control = control(false, begun);
            let mut move_to = |address: &str, after: u64| {
                let [before, _] = live(&control, LISTED);
                let before = before.or_else(|| live(&control, HELD)[0].clone()).unwrap();
                let now = begun.later(Duration::from_secs(after));
                control.resolved(Resolved::of(name(), vec![address.parse().unwrap()]), now);
                let snapshot = control.published.current();
                let target = &snapshot.groups[0].targets[0];
                assert_eq!(target.address_text.as_deref(), Some(address));
                (before, Arc::clone(&target.state), target.address_since, now.unix_seconds())
            };
            for (address, after) in [(HELD, 10), (LISTED, 20), (HELD, 30)] {
                let (old, new, since, now) = move_to(address, after);
                let since = since.unwrap();
                for later in 0..100 {
                    assert!(old.second_of_pin(now + later) < since, "the old machine's, {later}");
                    assert_eq!(new.second_of_pin(now + later), now + later);
                }
                assert!(old.second_of_pin(now - 5) == now - 5);
            }
        });
    }
}
