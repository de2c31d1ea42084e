//! Draining targets: the origin of the request to drain, its start, and the end of the
//! deregistration delay. The file requests a drain with `state = "drain"`, a target in its response
//! to a check. The clock starts when a running balancer first sees the request, and survives a
//! restart.

use super::state_dir::StateDir;
use crate::base::clock::Moment;
use crate::model::live::{Availability, Drain};
use crate::model::snapshot::{Group, Snapshot, Target};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const FILE: &str = "drains.json";

/// Draining targets by `group/id`.
#[derive(Debug)]
pub(crate) struct Drains {
    clocks: BTreeMap<String, Clock>,
    /// Time of the last call of `advance`, since 1970.
    now: Duration,
    state_dir: Option<StateDir>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Clock {
    /// Start of the drain, as time since the Unix epoch; saved in whole milliseconds.
    since: Duration,
    /// True if the target requested the drain. Only a check that passes without the request ends
    /// it.
    wished: bool,
    is_over: bool,
}

impl Clock {
    fn starting(now: Moment, wished: bool) -> Self {
        Self { since: now.wall, wished, is_over: false }
    }
}

impl Drains {
    /// Loads the drains at the start of a process and publishes them before the first client is
    /// served: a target whose drain outlives a restart must get no new clients at any time.
    pub(crate) fn begin(state_dir: Option<StateDir>, snapshot: &Snapshot, now: Moment) -> Self {
        let mut drains = Self::load(state_dir);
        drains.advance(snapshot, now);
        for group in &snapshot.groups {
            for target in &group.targets {
                let drain = drains.state(group.name(), target);
                let availability = Availability { drain, ..target.state.availability() };
                target.state.set_availability(availability);
            }
        }
        drains
    }

    /// Loads the clocks that an earlier process saved. If the file cannot be read, the balancer
    /// serves all the same: the clocks start anew, and a message is logged.
    pub(super) fn load(state_dir: Option<StateDir>) -> Self {
        let text = state_dir.as_ref().and_then(|dir| dir.read(FILE));
        let clocks = text.map(|text| {
            read(&text).unwrap_or_else(|| {
                tracing::warn!(
                    file = FILE,
                    "cannot read the saved drain clocks, draining delays start over"
                );
                BTreeMap::new()
            })
        });
        Self { clocks: clocks.unwrap_or_default(), now: Duration::ZERO, state_dir }
    }

    /// Records whether a target requests a drain; true if that is a change.
    pub(super) fn apply(&mut self, target: &str, wishes: bool, now: Moment) -> bool {
        match self.clocks.get_mut(target) {
            Some(clock) if clock.wished != wishes => clock.wished = wishes,
            None if wishes => {
                self.clocks.insert(target.to_owned(), Clock::starting(now, true));
            }
            Some(_) | None => return false,
        }
        match wishes {
            true => tracing::info!(target, asked_by = "target", "draining began"),
            false => tracing::info!(target, asked_by = "target", "drain request withdrawn"),
        }
        self.save();
        true
    }

    /// Starts clocks, stops those of targets that drain no longer, and marks delays that are over.
    pub(super) fn advance(&mut self, snapshot: &Snapshot, now: Moment) {
        self.now = now.wall;
        let (mut kept, mut changed) = (BTreeMap::new(), false);
        for group in &snapshot.groups {
            let delay = group.settings.deregistration_delay;
            for target in &group.targets {
                let Some(name) = self.name_if_draining(group.name(), target) else { continue };
                let mut clock = self.clocks.remove(&name).unwrap_or_else(|| {
                    changed = true;
                    tracing::info!(target = name, asked_by = "file", ?delay, "draining began");
                    Clock::starting(now, false)
                });
                // If the wall clock is set back, the delay must still end.
                clock.since = clock.since.min(now.wall);
                let is_over = now.wall.saturating_sub(clock.since) >= delay;
                if is_over && !clock.is_over {
                    tracing::info!(
                        target = name,
                        "deregistration delay is over, pinned clients move"
                    );
                }
                clock.is_over = is_over;
                kept.insert(name, clock);
            }
        }
        for (name, clock) in std::mem::take(&mut self.clocks) {
            let is_of = |group: &Group| name.split('/').next() == Some(group.name());
            // The targets of such a group's host names are not known yet: no clock is stopped.
            if snapshot.groups.iter().any(|group| group.awaits_names && is_of(group)) {
                kept.insert(name, clock);
            } else {
                changed = true;
                tracing::info!(
                    target = name,
                    "draining ended, the target is active again or removed"
                );
            }
        }
        self.clocks = kept;
        if changed {
            self.save();
        }
    }

    /// Drain state of a target.
    pub(super) fn state(&self, group: &str, target: &Target) -> Drain {
        match self.name_if_draining(group, target) {
            None if target.held_until.is_some() => Drain::Held,
            None => Drain::No,
            Some(name) if self.clocks.get(&name).is_some_and(|clock| clock.is_over) => Drain::Over,
            Some(_) => Drain::Running,
        }
    }

    /// The name of a draining target. In a group without any, which is usual, no string is built.
    fn name_if_draining(&self, group: &str, target: &Target) -> Option<String> {
        let leaves = target.drain || target.held_until.is_some_and(|until| self.now >= until);
        if self.clocks.is_empty() && !leaves {
            return None;
        }
        let name = format!("{group}/{}", target.id);
        let wished = self.clocks.get(&name).is_some_and(|clock| clock.wished);
        (leaves || wished).then_some(name)
    }

    fn save(&self) {
        let clocks = self.clocks.iter().map(|(name, clock)| {
            let since_ms = u64::try_from(clock.since.as_millis()).unwrap_or(u64::MAX);
            (name.clone(), json!({ "since_ms": since_ms, "wished": clock.wished }))
        });
        let text = Value::Object(clocks.collect()).to_string();
        if let Some(dir) = &self.state_dir
            && let Err(error) = dir.write(FILE, text.as_bytes())
        {
            tracing::warn!(file = FILE, %error, "cannot save the drain clocks, draining delays \
                                                 will start over after a restart");
        }
    }
}

/// Parses the output of [`Drains::save`]; `None` for any other text.
fn read(text: &str) -> Option<BTreeMap<String, Clock>> {
    let clocks = serde_json::from_str::<Map<String, Value>>(text).ok()?;
    let clock = |(name, clock): (String, Value)| {
        let since = Duration::from_millis(clock["since_ms"].as_u64()?);
        Some((name, Clock { since, wished: clock["wished"].as_bool()?, is_over: false }))
    };
    clocks.into_iter().map(clock).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::model::snapshot::Resolutions;
    use crate::model::target_registry::TargetRegistry;
    use crate::policy::affinity::keys::{Key, Keyring};
    use std::sync::Arc;

    const DELAY: Duration = Duration::from_secs(100);

    fn snapshot(state: &str) -> Snapshot {
        snapshot_of(&format!("\"127.0.0.1:1\", state = \"{state}\""))
    }

    fn snapshot_of(address_and_more: &str) -> Snapshot {
        let text = format!(
            "[listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\n\
             deregistration_delay = \"100s\"\n\
             targets = [{{ id = \"a\", address = {address_and_more} }}]\n"
        );
        let config = config::parse(&text, "test.toml", "/".as_ref()).unwrap().config;
        let keyring = Arc::new(Keyring::new(&[Key::generate([7; 32])]).unwrap());
        Snapshot::build(&config, keyring, &Resolutions::new(), &mut TargetRegistry::default())
            .unwrap()
    }

    fn state(drains: &Drains, snapshot: &Snapshot) -> Drain {
        drains.state("app", &snapshot.groups[0].targets[0])
    }

    #[test]
    fn a_drain_applies_before_the_first_client_is_served() {
        for (word, drain) in [("drain", Drain::Running), ("active", Drain::No)] {
            let snapshot = snapshot(word);
            Drains::begin(None, &snapshot, Moment::now());
            let target = &snapshot.groups[0].targets[0];
            assert_eq!(target.state.availability().drain, drain);
        }
    }

    #[test]
    fn a_requested_drain_starts_at_once_and_its_delay_never_ends_early() {
        let (mut drains, active) = (Drains::load(None), snapshot("active"));
        let begun = Moment::now();
        drains.advance(&active, begun);
        assert_eq!(state(&drains, &active), Drain::No);
        assert!(drains.apply("app/a", true, begun) && !drains.apply("app/a", true, begun));
        assert_eq!(state(&drains, &active), Drain::Running);
        drains.advance(&active, begun.later(DELAY - Duration::from_millis(1)));
        assert_eq!(state(&drains, &active), Drain::Running);
        drains.advance(&active, begun.later(DELAY));
        assert_eq!(state(&drains, &active), Drain::Over);
        assert!(drains.apply("app/a", false, begun) && !drains.apply("app/a", false, begun));
        assert_eq!(state(&drains, &active), Drain::No);
        drains.advance(&active, begun.later(DELAY));
        assert!(drains.clocks.is_empty());
    }

    #[test]
    fn a_withdrawn_request_does_not_end_or_restart_a_drain_of_the_file() {
        let (mut drains, draining) = (Drains::load(None), snapshot("drain"));
        let begun = Moment::now();
        drains.advance(&draining, begun);
        drains.apply("app/a", true, begun.later(DELAY / 2));
        drains.apply("app/a", false, begun.later(DELAY / 2));
        assert_eq!(state(&drains, &draining), Drain::Running);
        drains.advance(&draining, begun.later(DELAY));
        assert_eq!(state(&drains, &draining), Drain::Over);
    }

    #[test]
    fn a_clock_ahead_of_the_wall_clock_starts_now() {
        let (mut drains, draining) = (Drains::load(None), snapshot("drain"));
        let begun = Moment::now();
        drains.advance(&draining, begun.later(DELAY * 50));
        drains.advance(&draining, begun);
        drains.advance(&draining, begun.later(DELAY));
        assert_eq!(state(&drains, &draining), Drain::Over);
    }

    #[test]
    fn no_clock_stops_while_the_addresses_of_a_host_name_are_unknown() {
        let began = Clock::starting(Moment::now(), true);
        let clocks = ["app/n/10.0.0.1:80", "application/n", "gone/n"];
        let mut drains = Drains::load(None);
        drains.clocks = clocks.map(|name| (name.to_owned(), began)).into();
        drains.advance(&snapshot_of("\"nowhere.invalid:80\", expand = true"), Moment::now());
        assert_eq!(drains.clocks.keys().collect::<Vec<_>>(), ["app/n/10.0.0.1:80"]);
        drains.advance(&snapshot("active"), Moment::now());
        assert!(drains.clocks.is_empty());
    }

    #[test]
    fn saved_clocks_are_read_back_and_any_other_text_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let dir = StateDir::find(Some(place.path())).unwrap();
        let mut drains = Drains::load(dir.clone());
        drains.apply("app/a", true, Moment::now());
        let mut kept = drains.clocks["app/a"];
        kept.since = Duration::from_millis(kept.since.as_millis() as u64);
        assert_eq!(Drains::load(dir).clocks["app/a"], kept);
        let clock = |clock: &str| format!("{{\"app/a\":{clock}}}");
        for bad in ["", "7", "[]", "{\"app/a\"", &clock("7"), &clock("{\"since_ms\":7}")] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let last = clock("{\"since_ms\":18446744073709551615,\"wished\":true}");
        let (mut drains, active) = (Drains::load(None), snapshot("active"));
        drains.clocks = read(&last).unwrap();
        drains.advance(&active, Moment::now());
        assert_eq!(state(&drains, &active), Drain::Running);
    }

    #[test]
    fn an_unlisted_address_is_held_and_then_drains_like_any_target() {
        let (mut drains, mut held) = (Drains::load(None), snapshot("active"));
        let begun = Moment::now();
        held.groups[0].targets[0].held_until = Some(begun.wall + Duration::from_secs(30));
        let mut at = |seconds| {
            let now = begun.later(Duration::from_secs(seconds));
            drains.advance(&held, now);
            state(&drains, &held)
        };
        assert_eq!((at(0), at(29)), (Drain::Held, Drain::Held));
        assert_eq!(at(30), Drain::Running);
        assert_eq!(at(30 + DELAY.as_secs() + 1), Drain::Over);
    }
}
