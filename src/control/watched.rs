//! The targets under watch: when each is checked next, what its checks and its traffic say, and
//! the words in which a change is told.

use super::drain::Drains;
use super::probe::Question;
use super::{Wake, probe};
use crate::config::settings::{Group as GroupSettings, HealthProtocol};
use crate::decide::standing::Standing;
use crate::ground::seldom::Seldom;
use crate::model::live::{Availability, Drain, Health};
use crate::model::snapshot::{Group, Snapshot};
use crate::policy::health::progress::{Event, Failure, Progress, State, Thresholds};
use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Every target of the published snapshot, by its generation: the answer of a check that was asked
/// of a target now gone must not count for the one that has its slot.
pub(super) struct Watched {
    targets: HashMap<u64, Target>,
    answers: mpsc::Sender<Wake>,
    conditions: HashMap<String, Condition>,
    skipped: u64,
    skipping_told: Seldom,
}

/// What is unusual about a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Usual,
    /// Too few are healthy, and all are used.
    FailsOpen,
    /// Nobody is left but targets that drain.
    OnlyDraining,
}

struct Target {
    name: String,
    progress: Progress,
    thresholds: Thresholds,
    question: Option<Question>,
    interval: Duration,
    fast_interval: Duration,
    last_check: Option<Instant>,
    is_being_checked: bool,
    first_failure_told: bool,
}

impl Watched {
    pub(super) fn new(answers: mpsc::Sender<Wake>) -> Self {
        Self {
            targets: HashMap::new(),
            answers,
            conditions: HashMap::new(),
            skipped: 0,
            skipping_told: Seldom::default(),
        }
    }

    /// Watches the targets of this picture and no others; those already watched keep their state.
    pub(super) fn follow(&mut self, snapshot: &Snapshot) {
        let mut before = std::mem::take(&mut self.targets);
        for group in &snapshot.groups {
            for target in &group.targets {
                let generation = target.live.generation;
                let fresh = Target::of(&group.settings, target);
                let watched = match before.remove(&generation) {
                    Some(known) => known.continued_as(fresh),
                    None => fresh,
                };
                self.targets.insert(generation, watched);
            }
        }
    }

    /// Starts the checks whose time has come. A check that is still running is not started twice.
    pub(super) fn check_what_is_due(&mut self, now: Instant) {
        for (&generation, target) in &mut self.targets {
            let Some(question) = &target.question else { continue };
            let unsettled = target.progress.is_unsettled();
            let fast = target.fast_interval.min(target.interval);
            let interval = if unsettled { fast } else { target.interval };
            let due = target.last_check.is_none_or(|last| now >= last + interval);
            if !due || target.is_being_checked {
                continue;
            }
            target.is_being_checked = true;
            target.last_check = Some(now);
            let (question, answers) = (question.clone(), self.answers.clone());
            tokio::task::spawn_local(async move {
                let outcome = probe::ask(&question).await;
                // The loop is gone only when the process is leaving.
                let _ = answers.send(Wake::Checked { generation, outcome }).await;
            });
        }
    }

    /// Takes in what happened to a target; true if that changed what is to be published.
    pub(super) fn observe(&mut self, generation: u64, event: &Event) -> bool {
        let Some(target) = self.targets.get_mut(&generation) else { return false };
        let was_suspect = target.progress.is_suspect();
        if let Event::Passed | Event::Failed(_) = event {
            target.is_being_checked = false;
        }
        if let Event::Failed(failure) = event {
            target.tell_first_failure(failure);
        }
        let transition = target.progress.observe(event, target.thresholds);
        if let Some(transition) = &transition {
            let (from, to) = (transition.from.word(), transition.to.word());
            match transition.to {
                State::Unhealthy => {
                    tracing::warn!(
                        target = target.name,
                        from,
                        to,
                        reason = transition.reason,
                        "health"
                    );
                }
                State::Healthy | State::Initial => {
                    tracing::info!(target = target.name, from, to, "health");
                }
            }
        }
        transition.is_some() || was_suspect != target.progress.is_suspect()
    }

    /// Takes in that a check could not be made for want of something of ours. It is made again when
    /// the next is due; what is known of the target stays.
    pub(super) fn skipped(&mut self, generation: u64, error: &io::Error, now: Instant) {
        let Some(target) = self.targets.get_mut(&generation) else { return };
        target.is_being_checked = false;
        self.skipped += 1;
        if self.skipping_told.may(now) {
            let skipped = self.skipped;
            tracing::warn!(
                %error,
                skipped,
                "checks are skipped: this process lacks descriptors, ports or memory; raise its \
                 limits (LimitNOFILE=, ulimit -n) or lower limits.connections"
            );
        }
    }

    /// Writes what is known where workers read it.
    pub(super) fn publish(&mut self, snapshot: &Snapshot, drains: &Drains) {
        for group in &snapshot.groups {
            for target in &group.targets {
                let known = self.targets.get(&target.live.generation);
                let drain = drains.state(group.name(), target);
                let unknown = Availability { drain, ..Availability::UNKNOWN };
                let availability = known.map_or(unknown, |known| known.availability(drain));
                target.live.set_availability(availability);
            }
            let zone = snapshot.zone.as_ref();
            let standing = Standing::of(group, zone, |target| target.live.availability());
            let open = standing.fails_open(group);
            group.live.set_fails_open(open);
            let condition = match open {
                _ if standing.registered == 0 && standing.draining > 0 => Condition::OnlyDraining,
                true => Condition::FailsOpen,
                false => Condition::Usual,
            };
            self.tell(group, condition, standing);
        }
    }

    fn tell(&mut self, group: &Group, condition: Condition, standing: Standing) {
        let Standing { healthy, registered, .. } = standing;
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
                    "fail_open: too few are healthy, all are used"
                );
            }
            Condition::OnlyDraining => {
                tracing::warn!(group, "only_draining: nobody else is left for newcomers");
            }
            Condition::Usual => {
                tracing::info!(group, healthy, registered, "the group is well again")
            }
        }
    }

    /// Whether every target's first check has had its result or its time-out.
    pub(super) fn all_are_checked(&self) -> bool {
        let is_checked =
            |target: &Target| target.question.is_none() || target.progress.is_checked();
        self.targets.values().all(is_checked)
    }
}

impl Target {
    fn of(group: &GroupSettings, target: &crate::model::snapshot::Target) -> Self {
        let health = &group.health;
        let question = target.address.map(|address| {
            let mut address = address;
            if let Some(port) = health.port {
                address.set_port(port);
            }
            Question { address, health: health.clone() }
        });
        Self {
            name: format!("{}/{}", group.name, target.id),
            progress: Progress::default(),
            thresholds: Thresholds {
                healthy: health.healthy_threshold,
                unhealthy: health.unhealthy_threshold,
                connect_failures: health.connect_failures,
            },
            question,
            interval: health.interval,
            fast_interval: health.fast_interval,
            last_check: None,
            is_being_checked: false,
            first_failure_told: false,
        }
    }

    /// This target as another picture has it: what is asked may differ, what happened does not. A
    /// check under way still answers for it, and the next is due when it was.
    fn continued_as(self, fresh: Self) -> Self {
        let Self { progress, last_check, is_being_checked, first_failure_told, .. } = self;
        Self { progress, last_check, is_being_checked, first_failure_told, ..fresh }
    }

    fn availability(&self, drain: Drain) -> Availability {
        let health = match self.progress.state() {
            // A name without an address cannot serve, whatever was known of it.
            _ if self.question.is_none() => Health::Unhealthy,
            State::Initial => Health::Initial,
            State::Healthy => Health::Healthy,
            State::Unhealthy => Health::Unhealthy,
        };
        Availability { health, drain, suspect: self.progress.is_suspect() }
    }

    fn tell_first_failure(&mut self, failure: &Failure) {
        if std::mem::replace(&mut self.first_failure_told, true) {
            return;
        }
        let Some(question) = &self.question else { return };
        let health = &question.health;
        let asked = match health.protocol {
            HealthProtocol::Http => format!("GET {}", health.path),
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
        tracing::warn!(target = self.name, "{told}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::ground::clock::Moment;
    use crate::model::roster::Roster;
    use crate::model::snapshot::Resolutions;
    use crate::policy::affinity::keys::{Key, Keyring};
    use std::sync::Arc;

    fn picture(roster: &mut Roster) -> Snapshot {
        let text = "[listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\n\
                    targets = [\"127.0.0.1:1\"]\n";
        let config = config::parse(text, "test.toml", "/".as_ref()).unwrap().config;
        let keyring = Arc::new(Keyring::new(&[Key::generate([7; 32])]).unwrap());
        Snapshot::build(&config, keyring, &Resolutions::new(), roster).unwrap()
    }

    #[test]
    fn another_picture_starts_no_check_that_is_not_due_and_tells_nothing_twice() {
        let mut roster = Roster::default();
        let first = picture(&mut roster);
        let mut watched = Watched::new(mpsc::channel(1).0);
        watched.follow(&first);
        let now = Moment::now().monotonic;
        for target in watched.targets.values_mut() {
            target.last_check = Some(now);
            target.is_being_checked = true;
            target.first_failure_told = true;
        }
        watched.follow(&picture(&mut roster));
        let target = watched.targets.values().next().unwrap();
        assert_eq!(target.last_check, Some(now));
        assert!(target.is_being_checked && target.first_failure_told);
    }

    #[test]
    fn a_check_we_could_not_make_says_nothing_about_the_target() {
        let mut watched = Watched::new(mpsc::channel(1).0);
        watched.follow(&picture(&mut Roster::default()));
        let (&generation, target) = watched.targets.iter_mut().next().unwrap();
        target.is_being_checked = true;
        let error = io::Error::from_raw_os_error(nix::libc::EMFILE);
        watched.skipped(generation, &error, Moment::now().monotonic);
        let target = &watched.targets[&generation];
        assert!(!target.is_being_checked && !target.progress.is_checked());
        assert_eq!((target.progress.state(), watched.skipped), (State::Initial, 1));
    }
}
