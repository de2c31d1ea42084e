//! Host names of targets: asked again and again, and what was last known kept when the resolver
//! has nothing to say.

use super::{LONGEST_QUEUE, Wake};
use crate::config::settings::{Config, TargetAddress};
use crate::model::snapshot::Resolutions;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How often a name is asked for: HAProxy's `hold valid`. The system's resolver tells no lifetime.
const INTERVAL: Duration = Duration::from_secs(10);

type HostPort = (String, u16);

/// What the resolver said of one name.
#[derive(Debug)]
pub(super) struct Resolved {
    name: HostPort,
    addresses: Vec<SocketAddr>,
}

/// The names to ask for.
pub(super) struct Names {
    names: BTreeMap<HostPort, bool>,
    asked: BTreeSet<HostPort>,
    under_way: BTreeSet<HostPort>,
    told: BTreeSet<HostPort>,
    last: Option<Instant>,
    answers: mpsc::Sender<Wake>,
}

impl Names {
    pub(super) fn of(config: &Config, answers: mpsc::Sender<Wake>) -> Self {
        debug_assert!(answers.max_capacity() == LONGEST_QUEUE);
        let targets = config.groups.iter().flat_map(|group| &group.targets);
        let names = targets.filter_map(|target| match &target.address {
            TargetAddress::Host { host, port, expand } => Some(((host.clone(), *port), *expand)),
            TargetAddress::Socket(_) => None,
        });
        Self {
            names: names.collect(),
            asked: BTreeSet::new(),
            under_way: BTreeSet::new(),
            told: BTreeSet::new(),
            last: None,
            answers,
        }
    }

    /// Whether every name has had its first answer.
    pub(super) fn all_are_asked(&self) -> bool {
        self.names.keys().all(|name| self.asked.contains(name))
    }

    /// Asks for all names when it is time; a name whose answer is still awaited is not asked twice.
    pub(super) fn ask_if_due(&mut self, now: Instant) {
        if self.last.is_some_and(|last| now < last + INTERVAL) {
            return;
        }
        self.last = Some(now);
        for name in self.names.keys() {
            if !self.under_way.insert(name.clone()) {
                continue;
            }
            let (name, answers) = (name.clone(), self.answers.clone());
            tokio::task::spawn_local(async move {
                let found = tokio::net::lookup_host((name.0.as_str(), name.1)).await;
                let mut addresses: Vec<_> = found.map(Iterator::collect).unwrap_or_default();
                addresses.sort_unstable();
                addresses.dedup();
                // The loop is gone only when the process is leaving.
                let _ = answers.send(Wake::Resolved(Resolved { name, addresses })).await;
            });
        }
    }

    /// Notes that an answer came, and tells the operator once what it means.
    pub(super) fn note_asked(&mut self, resolved: &Resolved) {
        let Resolved { name, addresses } = resolved;
        self.under_way.remove(name);
        self.asked.insert(name.clone());
        let expands = self.names.get(name).copied().unwrap_or_default();
        let (host, count) = (name.0.as_str(), addresses.len());
        let worth_telling = count == 0 || (count > 1 && !expands);
        if !worth_telling || !self.told.insert(name.clone()) {
            return;
        }
        if count == 0 {
            tracing::warn!(host, "the name has no address: what was last known stays in use");
        } else {
            tracing::warn!(
                host,
                count,
                using = %addresses[0],
                "the name has several addresses and one is used: set expand = true to make each a target"
            );
        }
    }
}

/// Takes an answer in; true if what is in use changed. The address in use stays first while the
/// name still lists it; else the lowest is. An empty answer changes nothing.
pub(super) fn take_in(resolutions: &mut Resolutions, resolved: Resolved) -> bool {
    let Resolved { name, mut addresses } = resolved;
    if addresses.is_empty() {
        return false;
    }
    let before = resolutions.get(&name);
    if let Some(in_use) = before.and_then(|known| known.first())
        && let Some(place) = addresses.iter().position(|address| address == in_use)
    {
        let in_use = addresses.remove(place);
        addresses.insert(0, in_use);
    }
    if before == Some(&addresses) {
        return false;
    }
    resolutions.insert(name, addresses);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(addresses: &[&str]) -> Resolved {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Resolved { name: ("app.internal".into(), 80), addresses }
    }

    #[test]
    fn the_address_in_use_stays_while_it_is_listed_and_silence_changes_nothing() {
        let mut known = Resolutions::new();
        let mut in_use = |addresses: &[&str]| {
            take_in(&mut known, resolved(addresses));
            known.values().next().unwrap()[0].to_string()
        };
        assert_eq!(in_use(&["10.0.0.2:80", "10.0.0.3:80"]), "10.0.0.2:80");
        assert_eq!(in_use(&["10.0.0.1:80", "10.0.0.2:80"]), "10.0.0.2:80");
        assert_eq!(in_use(&[]), "10.0.0.2:80");
        assert_eq!(in_use(&["10.0.0.1:80", "10.0.0.3:80"]), "10.0.0.1:80");
    }
}
