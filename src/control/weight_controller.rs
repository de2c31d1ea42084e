//! The values for placing new clients that change with time: the weight fractions of targets in
//! slow start or with more failures than the others, and the sessions of each target.

use crate::base::clock::Moment;
use crate::config::settings::Algorithm;
use crate::model::live::{Drain, Health};
use crate::model::session_sketch::SessionSketch;
use crate::model::snapshot::{Group, Snapshot, Target};
use crate::policy::affinity::token::GroupKey;
use crate::policy::balance::anomaly::{self, Judgement};
use crate::policy::balance::slow_start::{self, Observation, Stage};
use crate::policy::health::progress::State;
use std::collections::HashMap;
use std::time::Duration;

/// Interval at which sessions are counted anew. Clients placed in between are added one by one.
const RECOUNT: Duration = Duration::from_secs(1);

/// Assumed lifetime of a session if the application keeps it in its own cookie.
const USUAL_LIFETIME: Duration = Duration::from_hours(24);

/// State of the groups that use any of this; targets are identified by their generation.
#[derive(Default)]
pub(super) struct WeightController {
    began: Option<Moment>,
    starts: HashMap<GroupKey, HashMap<u64, Stage>>,
    judged: HashMap<GroupKey, Judged>,
    counted: HashMap<GroupKey, Counted>,
}

struct Judged {
    last: Moment,
    states: HashMap<u64, anomaly::AnomalyState>,
}

struct Counted {
    last: Moment,
    aged: Moment,
}

impl WeightController {
    /// Drops groups that no longer exist.
    pub(super) fn follow(&mut self, snapshot: &Snapshot) {
        let is_there = |key: &GroupKey| snapshot.groups.iter().any(|group| group.key == *key);
        self.starts.retain(|key, _| is_there(key));
        self.judged.retain(|key, _| is_there(key));
        self.counted.retain(|key, _| is_there(key));
    }

    /// Does the work that is due. Reads health and drains as published just before.
    pub(super) fn tick(&mut self, snapshot: &Snapshot, now: Moment) {
        let clock = now.since(*self.began.get_or_insert(now));
        for group in &snapshot.groups {
            let settings = &group.settings;
            match settings.slow_start {
                Some(duration) => self.start_slowly(group, clock, duration),
                None => drop(self.starts.remove(&group.key)),
            }
            match settings.anomaly_mitigation {
                Some(interval) => self.judge(group, now, interval),
                None => drop(self.judged.remove(&group.key)),
            }
            if settings.algorithm == Algorithm::LeastSessions {
                self.count(group, now);
            }
        }
    }

    fn start_slowly(&mut self, group: &Group, clock: Duration, duration: Duration) {
        // Targets present when the group, or its slow start, begins are founders: they skip it
        // unless their first checks fail.
        let is_known = self.starts.contains_key(&group.key);
        let before = self.starts.entry(group.key).or_default();
        let stage = |target: &Target| match before.get(&target.state.generation) {
            Some(stage) => *stage,
            None if is_known => Stage::Waiting,
            None => Stage::Founding,
        };
        let seen = |target: &Target| {
            let availability = target.state.availability();
            Observation {
                state: state(availability.health),
                takes_unpinned: availability.drain == Drain::No && target.weight > 0,
            }
        };
        let targets = group.targets.iter();
        let mut targets: Vec<_> = targets.map(|target| (stage(target), seen(target))).collect();
        slow_start::advance(&mut targets, clock, duration);
        let stages = group.targets.iter().zip(targets).map(|(target, (stage, _))| {
            let generation = target.state.generation;
            let was_ramping = matches!(before.get(&generation), Some(Stage::Ramping { .. }));
            match stage {
                Stage::Ramping { .. } if !was_ramping => {
                    let target = name(group, target);
                    tracing::info!(target, ?duration, "slow start began");
                }
                Stage::Full if was_ramping => {
                    tracing::info!(target = name(group, target), "slow start ended");
                }
                _ => {}
            }
            target.state.set_weight_fraction(stage.share(clock, duration));
            (generation, stage)
        });
        *before = stages.collect();
    }

    fn judge(&mut self, group: &Group, now: Moment, interval: Duration) {
        let judged = self.judged.entry(group.key);
        let judged = judged.or_insert_with(|| Judged { last: now, states: HashMap::new() });
        if now.since(judged.last) < interval {
            return;
        }
        judged.last = now;
        let known = |target: &Target| judged.states.get(&target.state.generation);
        let sample = |target: &Target| {
            // Taken in any case: results from the time when a target was unhealthy do not count
            // when it is healthy.
            let sample = target.state.request_stats().map(|request_stats| request_stats.take());
            sample.filter(|_| {
                matches!(target.state.availability().health, Health::Healthy | Health::Suspect)
            })
        };
        let mut targets: Vec<_> = group
            .targets
            .iter()
            .map(|target| (known(target).copied().unwrap_or_default(), sample(target)))
            .collect();
        anomaly::check(&mut targets);
        let mut states = HashMap::new();
        for (target, (state, sample)) in group.targets.iter().zip(targets) {
            let before = known(target).map(|known| known.judgement).unwrap_or_default();
            target.state.set_weight_fraction(state.fraction);
            states.insert(target.state.generation, state);
            let (requests, failures) =
                sample.map_or((0, 0), |sample| (sample.requests, sample.failures));
            match (before, state.judgement) {
                (Judgement::Normal, Judgement::Anomalous) => tracing::warn!(
                    target = name(group, target),
                    requests,
                    failures,
                    "target anomalous: it fails more than its peers and gets fewer new clients"
                ),
                (Judgement::Anomalous, Judgement::Normal) => tracing::info!(
                    target = name(group, target),
                    requests,
                    failures,
                    "target no longer anomalous: its share of new clients grows again"
                ),
                _ => {}
            }
        }
        judged.states = states;
    }

    fn count(&mut self, group: &Group, now: Moment) {
        let Some(stickiness) = &group.settings.stickiness else { return };
        let lifetime = stickiness
            .key
            .lifetime()
            .map_or(USUAL_LIFETIME, |lifetime| Duration::from_secs(u64::from(lifetime.seconds())));
        let counted = self.counted.entry(group.key);
        let counted = counted.or_insert(Counted { last: now, aged: now });
        if now.since(counted.last) < RECOUNT.min(lifetime / 4) {
            return;
        }
        counted.last = now;
        let ages = now.since(counted.aged) >= lifetime / 2;
        if ages {
            counted.aged = now;
        }
        for target in &group.targets {
            let Some(sessions) = target.state.session_sketch() else { continue };
            recount(sessions, ages, lost_its_clients(group, target));
        }
    }
}

/// Returns true if the clients of a target move away: its checks fail, and the group is neither
/// fail-open nor in recovery; or its drain is over.
fn lost_its_clients(group: &Group, target: &Target) -> bool {
    let availability = target.state.availability();
    let is_down = availability.health == Health::Unhealthy
        && !availability.recovering
        && !group.state.fails_open();
    is_down || availability.drain == Drain::Over
}

fn recount(sessions: &SessionSketch, ages: bool, lost: bool) {
    if lost {
        sessions.forget();
        return;
    }
    if ages {
        sessions.age();
    }
    sessions.recount();
}

fn name(group: &Group, target: &Target) -> String {
    format!("{}/{}", group.name(), target.id)
}

fn state(health: Health) -> State {
    match health {
        Health::Initial => State::Initial,
        Health::Healthy | Health::Suspect => State::Healthy,
        Health::Unhealthy => State::Unhealthy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::model::live::Availability;
    use crate::model::snapshot::Resolutions;
    use crate::model::target_registry::TargetRegistry;
    use crate::policy::affinity::keys::{Key, Keyring};
    use crate::policy::affinity::token::Seed;
    use std::sync::Arc;

    fn build_snapshot(group: &str) -> Snapshot {
        let text = format!(
            "[listener.web]\naddress = '127.0.0.1:0'\n[target_group.app]\n\
             targets = ['127.0.0.1:1', '127.0.0.1:2', '127.0.0.1:3']\n{group}\n"
        );
        let config = config::parse(&text, "test.toml", "/".as_ref()).unwrap().config;
        let keyring = Arc::new(Keyring::new(&[Key::generate([7; 32])]).unwrap());
        Snapshot::build(&config, keyring, &Resolutions::new(), &mut TargetRegistry::default())
            .unwrap()
    }

    fn set(snapshot: &Snapshot, states: [Health; 3]) {
        for (target, health) in snapshot.groups[0].targets.iter().zip(states) {
            target.state.set_availability(Availability { health, ..Availability::UNKNOWN });
        }
    }

    fn shares(snapshot: &Snapshot) -> Vec<u16> {
        snapshot.groups[0]
            .targets
            .iter()
            .map(|target| target.state.weight_fraction().parts())
            .collect()
    }

    use Health::{Healthy, Initial, Unhealthy};

    #[test]
    fn a_returning_target_starts_slowly_and_targets_of_the_start_do_not() {
        let snapshot = build_snapshot("slow_start = '30s'");
        let (mut weights, now) = (WeightController::default(), Moment::now());
        let mut tick = |states: [Health; 3], seconds: u64| {
            set(&snapshot, states);
            weights.tick(&snapshot, now.later(Duration::from_secs(seconds)));
            shares(&snapshot)
        };
        assert_eq!(tick([Initial; 3], 0), [1_024; 3]);
        assert_eq!(tick([Healthy, Initial, Unhealthy], 1), [1_024; 3]);
        assert_eq!(tick([Healthy, Healthy, Healthy], 2), [1_024, 1_024, 0]);
        assert_eq!(tick([Healthy, Healthy, Healthy], 17), [1_024, 1_024, 512]);
        assert_eq!(tick([Healthy, Healthy, Healthy], 32), [1_024; 3]);
    }

    #[test]
    fn a_failing_target_gets_less_weight_at_the_next_check_not_before() {
        let snapshot = build_snapshot("algorithm = 'weighted_random'\nanomaly_mitigation = true");
        set(&snapshot, [Healthy; 3]);
        let (mut weights, now) = (WeightController::default(), Moment::now());
        let mut after = |millis: u64| {
            weights.tick(&snapshot, now.later(Duration::from_millis(millis)));
            shares(&snapshot)
        };
        assert_eq!(after(0), [1_024; 3]);
        for target in &snapshot.groups[0].targets {
            let fails = target.id.as_str() == "127.0.0.1:2";
            (0..50).for_each(|_| target.state.request_stats().unwrap().record(0, fails));
        }
        assert_eq!(after(4_999), [1_024; 3]);
        assert_eq!(after(5_000), [1_024, 32, 1_024]);
        for look in 2..=15 {
            let well = |target: &Target| {
                (0..50).for_each(|_| target.state.request_stats().unwrap().record(0, false));
            };
            snapshot.groups[0].targets.iter().for_each(well);
            assert!((32..=1_024).contains(&after(5_000 * look)[1]));
        }
        assert_eq!(shares(&snapshot), [1_024; 3]);
    }

    #[test]
    fn sessions_are_counted_each_second_and_an_unhealthy_target_has_none() {
        let snapshot = build_snapshot(
            "algorithm = 'least_sessions'\nstickiness = { lb_cookie = { duration = '10s' } }",
        );
        set(&snapshot, [Healthy; 3]);
        let (mut weights, now) = (WeightController::default(), Moment::now());
        let targets = &snapshot.groups[0].targets;
        let sessions = |at: usize| targets[at].state.session_sketch().unwrap();
        let mut counts = |seconds: u64| {
            weights.tick(&snapshot, now.later(Duration::from_secs(seconds)));
            [0, 1, 2].map(|at| sessions(at).count())
        };
        assert_eq!(counts(0), [0; 3]);
        (0..5).for_each(|seed| sessions(0).record(Seed(seed)));
        (5..8).for_each(|seed| sessions(1).record(Seed(seed)));
        assert_eq!(counts(1), [5, 3, 0]);
        set(&snapshot, [Healthy, Unhealthy, Healthy]);
        assert_eq!(counts(2), [5, 0, 0]);
        assert_eq!(counts(6), [5, 0, 0]);
        sessions(0).record(Seed(0));
        assert_eq!(counts(12), [1, 0, 0], "only one has come within a pin's life");
    }

    #[test]
    fn a_group_without_these_settings_is_left_alone() {
        let snapshot = build_snapshot("");
        let mut weights = WeightController::default();
        weights.tick(&snapshot, Moment::now());
        let WeightController { starts, judged, counted, .. } = &weights;
        assert!(starts.is_empty() && judged.is_empty() && counted.is_empty());
        let target = &snapshot.groups[0].targets[0].state;
        assert!(target.session_sketch().is_none() && target.request_stats().is_none());
    }
}
