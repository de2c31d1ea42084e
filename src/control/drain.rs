//! Targets that leave: since when each drains, and whether its deregistration delay is over. The
//! clock starts when a running balancer first sees the target draining and survives a restart.

use super::state_dir::StateDir;
use crate::ground::clock::Moment;
use crate::model::live::Drain;
use crate::model::snapshot::{Snapshot, Target};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const FILE: &str = "drains.json";

/// Draining targets by `group/id`.
pub(super) struct Drains {
    since: BTreeMap<String, u64>,
    over: BTreeSet<String>,
    state_dir: Option<StateDir>,
}

impl Drains {
    /// Takes up the clocks that an earlier process left. A file that cannot be read is no reason
    /// not to serve: the clocks start anew, and a line says so.
    pub(super) fn load(state_dir: Option<StateDir>) -> Self {
        let text = state_dir.as_ref().and_then(|dir| dir.read(FILE));
        let since = text.map(|text| match serde_json::from_str::<Map<String, Value>>(&text) {
            Ok(clocks) => {
                clocks.into_iter().filter_map(|(name, since)| Some((name, since.as_u64()?))).collect()
            }
            Err(error) => {
                tracing::warn!(file = FILE, %error, "drain clocks could not be read and start anew");
                BTreeMap::new()
            }
        });
        Self { since: since.unwrap_or_default(), over: BTreeSet::new(), state_dir }
    }

    /// Starts clocks, stops those of targets that stay after all, and notes whose delay is over.
    pub(super) fn advance(&mut self, snapshot: &Snapshot, now: Moment) {
        let mut draining = BTreeSet::new();
        let mut changed = false;
        for group in &snapshot.groups {
            let delay = group.settings.deregistration_delay;
            for target in group.targets.iter().filter(|target| target.drain) {
                let name = name(group.name(), target);
                let since = *self.since.entry(name.clone()).or_insert_with(|| {
                    changed = true;
                    tracing::info!(target = name, ?delay, "draining begins");
                    now.unix_seconds()
                });
                let is_over = now.wall >= Duration::from_secs(since) + delay;
                if is_over && self.over.insert(name.clone()) {
                    tracing::info!(target = name, "draining is over: its pinned clients move");
                }
                draining.insert(name);
            }
        }
        let before = self.since.len();
        self.since.retain(|name, _| draining.contains(name));
        self.over.retain(|name| draining.contains(name));
        if changed || before != self.since.len() {
            self.save();
        }
    }

    /// Whether a target drains.
    pub(super) fn state(&self, group: &str, target: &Target) -> Drain {
        match target.drain {
            false => Drain::No,
            true if self.over.contains(&name(group, target)) => Drain::Over,
            true => Drain::Running,
        }
    }

    fn save(&self) {
        let clocks: Map<String, Value> =
            self.since.iter().map(|(name, since)| (name.clone(), Value::from(*since))).collect();
        if let Some(dir) = &self.state_dir
            && let Err(error) = dir.write(FILE, Value::Object(clocks).to_string().as_bytes())
        {
            tracing::warn!(file = FILE, %error, "drain clocks will start anew after a restart");
        }
    }
}

fn name(group: &str, target: &Target) -> String {
    format!("{group}/{}", target.id)
}
