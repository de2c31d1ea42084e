//! The monitored targets: starts checks that are due, follows changes of the snapshot, and tracks
//! the state of the groups.

mod target;

use super::drain::Drains;
use super::{Event, probe};
use crate::base::log_throttle::LogThrottle;
use crate::base::name::Name;
use crate::decide::group_health::GroupHealth;
use crate::model::live::Drain;
use crate::model::snapshot::{Group, Snapshot};
use crate::net::tls::Connectors;
use crate::policy::affinity::token::GroupKey;
use crate::policy::health::progress::HealthEvent;
use crate::policy::health::recovery::{self, Change, Recovery};
use std::collections::HashMap;
use std::io;
use std::time::Instant;
use target::MonitoredTarget;
use tokio::sync::mpsc;

/// Every target of the published snapshot, by its generation: the result of a check of a removed
/// target must not count for the target that reuses its slot.
pub(super) struct HealthMonitor {
    targets: HashMap<u64, MonitoredTarget>,
    /// Targets of earlier snapshots, until their deregistration delay is over. Bounded by the
    /// number of targets removed within one delay.
    gone: HashMap<u64, Gone>,
    connectors: Connectors,
    answers: mpsc::Sender<Event>,
    conditions: HashMap<String, Condition>,
    recoveries: HashMap<GroupKey, Recovery>,
    skipped: u64,
    skip_log: LogThrottle,
}

/// Condition of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Usual,
    /// Too few targets are healthy, and all are used.
    FailsOpen,
    /// All usable targets are draining.
    OnlyDraining,
}

/// A target that is in no group any more.
struct Gone {
    target: MonitoredTarget,
    since: Instant,
    /// True if its delay was over before it was removed.
    has_left: bool,
}

impl HealthMonitor {
    pub(super) fn new(answers: mpsc::Sender<Event>) -> Self {
        Self {
            targets: HashMap::new(),
            gone: HashMap::new(),
            connectors: Connectors::default(),
            answers,
            conditions: HashMap::new(),
            recoveries: HashMap::new(),
            skipped: 0,
            skip_log: LogThrottle::default(),
        }
    }

    /// Monitors the targets of this snapshot and no others. Known targets keep their state; removed
    /// targets get their deregistration delay to finish.
    pub(super) fn follow(&mut self, snapshot: &Snapshot, now: Instant) {
        let is_there = |key: &GroupKey| snapshot.groups.iter().any(|group| group.key == *key);
        self.recoveries.retain(|key, _| is_there(key));
        let mut before = std::mem::take(&mut self.targets);
        for group in &snapshot.groups {
            for target in &group.targets {
                let generation = target.state.generation;
                let returned = || self.gone.remove(&generation).map(|gone| gone.target.returned());
                let fresh = MonitoredTarget::of(&group.settings, target, &mut self.connectors);
                let kept = match before.remove(&generation).or_else(returned) {
                    Some(known) => known.continued_as(fresh),
                    None => fresh,
                };
                self.targets.insert(generation, kept);
            }
        }
        let gone = before.into_iter();
        self.gone.extend(gone.map(|(at, target)| {
            let has_left = target.has_left();
            (at, Gone { target, since: now, has_left })
        }));
    }

    /// Starts the checks that are due, except those that are still running.
    pub(super) fn check_what_is_due(&mut self, now: Instant) {
        for (&generation, target) in &mut self.targets {
            let Some((probe, reach)) = target.probe_if_due(now) else { continue };
            let answers = self.answers.clone();
            tokio::task::spawn_local(async move {
                let outcome = probe::ask(&probe).await;
                let reached = match &reach {
                    Some(reach) if outcome.is_ok() => probe::reach(reach).await,
                    _ => None,
                };
                // This fails only while the process stops.
                let _ = answers.send(Event::Checked { generation, outcome, reached }).await;
            });
        }
    }

    /// Name of a monitored target, as `group/id`.
    pub(super) fn name(&self, generation: u64) -> Option<String> {
        self.targets.get(&generation).map(MonitoredTarget::name)
    }

    /// Applies an event to a target; true if the published state changes.
    pub(super) fn observe(&mut self, generation: u64, event: &HealthEvent, now: Instant) -> bool {
        let Some(target) = self.targets.get_mut(&generation) else { return false };
        let has_changed = target.observe(event, now);
        if target.is_urgent() {
            self.check_what_is_due(now);
        }
        has_changed
    }

    /// Returns true if checks of the target use the address and TLS of its traffic.
    pub(super) fn is_checked_as_traffic(&self, generation: u64) -> bool {
        self.targets.get(&generation).is_some_and(MonitoredTarget::is_checked_as_traffic)
    }

    /// Returns true if only traffic made the target unhealthy, while its checks pass.
    pub(super) fn is_disputed(&self, generation: u64) -> bool {
        self.targets.get(&generation).is_some_and(MonitoredTarget::is_disputed)
    }

    /// Records that a check was skipped because this process lacks a resource. The next check comes
    /// at its usual time; the target's state stays.
    pub(super) fn skipped(&mut self, generation: u64, error: &io::Error, now: Instant) {
        let Some(target) = self.targets.get_mut(&generation) else { return };
        target.is_being_checked = false;
        self.skipped += 1;
        if self.skip_log.allow(now) {
            let skipped = self.skipped;
            tracing::warn!(
                %error,
                skipped,
                "health checks skipped: this process is out of file descriptors, ports or memory; \
                 raise its limits (LimitNOFILE=, ulimit -n) or lower limits.connections"
            );
        }
    }

    /// Publishes the states for the workers, and logs changes.
    pub(super) fn publish(&mut self, snapshot: &Snapshot, drains: &Drains, now: Instant) {
        self.gone.retain(|_, gone| {
            let is_over = gone.has_left || now >= gone.since + gone.target.deregistration_delay;
            gone.target.publish(if is_over { Drain::Over } else { Drain::Running });
            !is_over
        });
        for group in &snapshot.groups {
            let zone = snapshot.zone.as_ref();
            let health = GroupHealth::of(group, zone, |target| {
                let known = self.targets.get(&target.state.generation);
                known.map_or_else(
                    || target.state.availability(),
                    |known| known.availability(drains.state(group.name(), target)),
                )
            });
            self.recover(group, zone, drains, health.fails_open(group), now);
            // Fail-open is published before the last healthy target turns unhealthy, and ends after
            // the first is healthy again: between the two, a request would find no target and get
            // 503.
            let open = health.fails_open(group);
            if open {
                group.state.set_fails_open(true);
            }
            for target in &group.targets {
                if let Some(known) = self.targets.get_mut(&target.state.generation) {
                    known.publish(drains.state(group.name(), target));
                }
            }
            group.state.set_fails_open(open);
            let condition = match open {
                _ if health.registered == 0 && health.draining > 0 => Condition::OnlyDraining,
                true => Condition::FailsOpen,
                false => Condition::Usual,
            };
            self.log_condition(group, condition, health);
        }
    }

    /// Decides which unhealthy targets of the group keep their clients.
    fn recover(
        &mut self,
        group: &Group,
        zone: Option<&Name>,
        drains: &Drains,
        fails_open: bool,
        now: Instant,
    ) {
        let mut limits = None;
        let mut members = Vec::with_capacity(group.targets.len());
        for target in &group.targets {
            let may_be_used = group.settings.cross_zone || target.zone.as_ref() == zone;
            let drain = drains.state(group.name(), target);
            let Some(known) = self.targets.get(&target.state.generation) else { continue };
            if may_be_used && drain != Drain::Over && target.address.is_some() {
                limits = Some(known.recovery());
                let drains = drain == Drain::Running;
                members.push(recovery::GroupMember {
                    key: target.state.generation,
                    state: known.checked_state(),
                    drains,
                });
            }
        }
        let Some(limits) = limits else { return };
        let recovery = self.recoveries.entry(group.key).or_default();
        let change = recovery.check(&members, fails_open, limits, now);
        for target in &group.targets {
            let generation = target.state.generation;
            if let Some(known) = self.targets.get_mut(&generation) {
                known.is_recovering = recovery.has(generation);
            }
        }
        let group = group.name();
        match change {
            Change::None => {}
            Change::Begun(targets) => tracing::info!(
                group,
                targets,
                "group recovering: pinned clients keep targets that are down until these pass \
                 their health checks or target_group.*.recovery is over"
            ),
            Change::Over(0) => tracing::info!(group, "group recovery complete, no target is down"),
            Change::Over(down) => tracing::warn!(
                group,
                down,
                "group recovery timed out: clients of targets that are still down move"
            ),
        }
    }

    fn log_condition(&mut self, group: &Group, condition: Condition, health: GroupHealth) {
        let GroupHealth { healthy, registered, .. } = health;
        let before = self.conditions.insert(group.name().to_owned(), condition);
        if condition == before.unwrap_or(Condition::Usual) {
            return;
        }
        let group = group.name();
        match condition {
            Condition::FailsOpen => {
                tracing::warn!(
                    group,
                    healthy,
                    registered,
                    "fail_open: too few healthy targets, all targets are used"
                );
            }
            Condition::OnlyDraining => {
                tracing::warn!(group, "only_draining: no other target is left for new clients");
            }
            Condition::Usual => {
                tracing::info!(
                    group,
                    healthy,
                    registered,
                    "group recovered, fail_open or only_draining ended"
                )
            }
        }
    }

    /// Returns true if every target's first check has had its result or its time-out.
    pub(super) fn all_are_checked(&self) -> bool {
        self.targets.values().all(MonitoredTarget::is_checked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Moment;
    use crate::config;
    use crate::model::snapshot::Resolutions;
    use crate::model::target_registry::TargetRegistry;
    use crate::policy::affinity::keys::{Key, Keyring};
    use crate::policy::health::progress::State;
    use std::sync::Arc;

    fn build_snapshot(registry: &mut TargetRegistry) -> Snapshot {
        build_snapshot_with("127.0.0.1:1", registry)
    }

    fn build_snapshot_with(target: &str, registry: &mut TargetRegistry) -> Snapshot {
        let text = format!(
            "[listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\n\
             targets = [\"{target}\"]\n"
        );
        let config = config::parse(&text, "test.toml", "/".as_ref()).unwrap().config;
        let keyring = Arc::new(Keyring::new(&[Key::generate([7; 32])]).unwrap());
        Snapshot::build(&config, keyring, &Resolutions::new(), registry).unwrap()
    }

    #[test]
    fn a_new_snapshot_starts_no_check_early_and_logs_nothing_twice() {
        let mut registry = TargetRegistry::default();
        let first = build_snapshot(&mut registry);
        let mut monitor = HealthMonitor::new(mpsc::channel(1).0);
        let now = Moment::now().monotonic;
        monitor.follow(&first, now);
        for target in monitor.targets.values_mut() {
            target.last_check = Some(now);
            target.is_being_checked = true;
            target.first_failure_logged = true;
        }
        monitor.follow(&build_snapshot(&mut registry), now);
        let target = monitor.targets.values().next().unwrap();
        assert_eq!(target.last_check, Some(now));
        assert!(target.is_being_checked && target.first_failure_logged);
    }

    #[test]
    fn a_removed_target_has_left_after_its_delay_unless_it_returns() {
        let mut registry = TargetRegistry::default();
        let (first, without) =
            (build_snapshot(&mut registry), build_snapshot_with("127.0.0.1:2", &mut registry));
        let state = Arc::clone(&first.groups[0].targets[0].state);
        let (mut monitor, drains) = (HealthMonitor::new(mpsc::channel(1).0), Drains::load(None));
        let begun = Moment::now().monotonic;
        let delay = first.groups[0].settings.deregistration_delay;
        let after = |share: f64| begun + delay.mul_f64(share);
        let drain_at = |monitor: &mut HealthMonitor, snapshot: &Snapshot, now: Instant| {
            monitor.follow(snapshot, now);
            monitor.publish(snapshot, &drains, now);
            state.availability().drain
        };
        monitor.follow(&first, begun);
        assert_eq!(drain_at(&mut monitor, &first, begun), Drain::No);
        assert_eq!(drain_at(&mut monitor, &without, begun), Drain::Running);
        assert_eq!(drain_at(&mut monitor, &without, after(0.9)), Drain::Running);
        assert_eq!(drain_at(&mut monitor, &first, after(0.9)), Drain::No);
        assert_eq!(drain_at(&mut monitor, &without, after(1.0)), Drain::Running);
        assert_eq!(drain_at(&mut monitor, &without, after(1.9)), Drain::Running);
        assert_eq!(drain_at(&mut monitor, &without, after(2.0)), Drain::Over);
        assert!(monitor.gone.is_empty());
    }

    #[test]
    fn a_skipped_check_does_not_change_the_target() {
        let mut monitor = HealthMonitor::new(mpsc::channel(1).0);
        monitor.follow(&build_snapshot(&mut TargetRegistry::default()), Moment::now().monotonic);
        let (&generation, target) = monitor.targets.iter_mut().next().unwrap();
        target.is_being_checked = true;
        let error = io::Error::from_raw_os_error(nix::libc::EMFILE);
        monitor.skipped(generation, &error, Moment::now().monotonic);
        let target = &monitor.targets[&generation];
        assert!(!target.is_being_checked && !target.progress.is_checked());
        assert_eq!((target.progress.state(), monitor.skipped), (State::Initial, 1));
    }
}
