//! Resolves the host names of targets again and again. Without an answer, the last known addresses
//! stay.

use super::{Event, MAX_QUEUE};
use crate::base::clock::Moment;
use crate::base::name::Name;
use crate::config::settings::{Config, TargetAddress, TargetSettings};
use crate::model::snapshot::{Listed, Resolution, Resolutions};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, io, thread};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Interval between two queries of a name, as HAProxy's `hold valid`. The system's resolver reports
/// no TTL.
const INTERVAL: Duration = Duration::from_secs(10);

/// Maximum wait for the first answers at the start: targets with addresses must not wait for a
/// resolver that is down.
const FIRST_WAIT: Duration = Duration::from_secs(5);

type HostPort = (String, u16);

/// A resolver of host names, with its interval.
#[derive(Clone)]
pub struct Resolver {
    /// `None` is the system's resolver.
    table: Option<Arc<Table>>,
    interval: Duration,
}

/// A resolver function of the caller, for a host and its port.
type Table = dyn Fn(&str, u16) -> Vec<SocketAddr> + Send + Sync;

impl Resolver {
    /// Creates the system's resolver.
    pub fn of_system() -> Self {
        Self { table: None, interval: INTERVAL }
    }

    /// Creates a resolver from a function of the caller, with this interval. The function must not
    /// block.
    pub fn of(
        interval: Duration,
        table: impl Fn(&str, u16) -> Vec<SocketAddr> + Send + Sync + 'static,
    ) -> Self {
        Self { table: Some(Arc::new(table)), interval }
    }

    /// Queries one name.
    async fn ask(self, name: HostPort) -> Resolved {
        let (host, port) = (name.0.as_str(), name.1);
        let addresses = match &self.table {
            Some(table) => table(host, port),
            None => {
                let found = tokio::net::lookup_host((host, port)).await;
                found.map(Iterator::collect).unwrap_or_default()
            }
        };
        Resolved::of(name, addresses)
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_system = self.table.is_none();
        let mut shown = f.debug_struct("Resolver");
        shown.field("of_system", &of_system).field("interval", &self.interval).finish()
    }
}

/// The resolver's answer for one name.
#[derive(Debug)]
pub(super) struct Resolved {
    name: HostPort,
    addresses: Vec<SocketAddr>,
}

impl Resolved {
    /// Sorts the addresses: their order has no meaning, and resolvers rotate it.
    pub(super) fn of(name: HostPort, mut addresses: Vec<SocketAddr>) -> Self {
        addresses.sort_unstable();
        addresses.dedup();
        Self { name, addresses }
    }
}

/// The host names to query.
pub(super) struct HostNames {
    names: BTreeMap<HostPort, bool>,
    asked: BTreeSet<HostPort>,
    under_way: BTreeSet<HostPort>,
    logged: BTreeSet<HostPort>,
    last: Option<Instant>,
    resolver: Resolver,
    answers: mpsc::Sender<Event>,
}

impl HostNames {
    pub(super) fn of(config: &Config, resolver: Resolver, answers: mpsc::Sender<Event>) -> Self {
        debug_assert!(answers.max_capacity() == MAX_QUEUE);
        Self {
            names: names_of(config),
            asked: BTreeSet::new(),
            under_way: BTreeSet::new(),
            logged: BTreeSet::new(),
            last: None,
            resolver,
            answers,
        }
    }

    /// Returns true if every name has had its first answer.
    pub(super) fn all_are_asked(&self) -> bool {
        self.names.keys().all(|name| self.asked.contains(name))
    }

    /// Queries all names if it is time, except those whose answer is still awaited.
    pub(super) fn ask_if_due(&mut self, now: Instant) {
        if self.last.is_some_and(|last| now < last + self.resolver.interval) {
            return;
        }
        self.last = Some(now);
        for name in self.names.keys() {
            if !self.under_way.insert(name.clone()) {
                continue;
            }
            let (name, answers) = (name.clone(), self.answers.clone());
            let resolver = self.resolver.clone();
            tokio::task::spawn_local(async move {
                // This fails only while the process stops.
                let _ = answers.send(Event::Resolved(resolver.ask(name).await)).await;
            });
        }
    }

    /// Applies an answer; true if a new snapshot is needed.
    pub(super) fn apply(
        &self,
        resolutions: &mut Resolutions,
        resolved: Resolved,
        now: Moment,
    ) -> bool {
        let expands = self.names.get(&resolved.name).copied().unwrap_or_default();
        apply(resolutions, resolved, expands, now)
    }

    /// Records that an answer came, and logs once per name that it is empty or has unused
    /// addresses.
    pub(super) fn record_asked(&mut self, resolved: &Resolved) {
        let Resolved { name, addresses } = resolved;
        self.under_way.remove(name);
        self.asked.insert(name.clone());
        let expands = self.names.get(name).copied().unwrap_or_default();
        let (host, count) = (name.0.as_str(), addresses.len());
        let worth_logging = count == 0 || (count > 1 && !expands);
        if !worth_logging || !self.logged.insert(name.clone()) {
            return;
        }
        if count == 0 {
            tracing::warn!(host, "host name has no address, the last known addresses stay in use");
        } else {
            tracing::warn!(
                host,
                count,
                using = %addresses[0],
                "host name has several addresses, only one is used; set expand = true to make each \
                 a target"
            );
        }
    }
}

/// Resolves all host names of a configuration at once, within `FIRST_WAIT`. No client may be served
/// before: a pin to an address of a name not yet known would look like a pin to a removed target.
///
/// # Errors
/// If the system provides no thread or no runtime.
pub(crate) fn first(config: &Config, resolver: &Resolver) -> io::Result<Resolutions> {
    let names = names_of(config);
    if names.is_empty() {
        return Ok(Resolutions::new());
    }
    let resolver = resolver.clone();
    let collect = move || -> io::Result<Resolutions> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let mut resolutions = Resolutions::new();
        let _in_time = runtime.block_on(async {
            let mut answers: JoinSet<_> =
                names.into_keys().map(|name| resolver.clone().ask(name)).collect();
            tokio::time::timeout(FIRST_WAIT, async {
                while let Some(answer) = answers.join_next().await {
                    if let Ok(resolved) = answer {
                        apply(&mut resolutions, resolved, true, Moment::now());
                    }
                }
            })
            .await
        });
        // Does not wait for a resolver that hangs.
        runtime.shutdown_background();
        Ok(resolutions)
    };
    // On a separate thread, since the caller may be inside a runtime.
    let asking = thread::Builder::new().name("names".to_owned()).spawn(collect)?;
    asking.join().unwrap_or_else(|_| Err(io::Error::other("DNS resolver panicked")))
}

/// The host names of a configuration; true if every address of the name becomes a target.
fn names_of(config: &Config) -> BTreeMap<HostPort, bool> {
    let mut names = BTreeMap::new();
    for target in config.groups.iter().flat_map(|group| &group.targets) {
        if let TargetAddress::Host { host, port, expand } = &target.address {
            *names.entry((host.clone(), *port)).or_default() |= *expand;
        }
    }
    names
}

/// Maximum number of unlisted addresses that are kept per name.
const MAX_UNLISTED: usize = 64;

/// Applies an answer; true if the address in use changed, or, with `expands`, any address. The
/// address in use stays first while the name lists it; else the lowest one is first. An empty
/// answer changes nothing.
fn apply(resolutions: &mut Resolutions, resolved: Resolved, expands: bool, now: Moment) -> bool {
    let Resolved { name, mut addresses } = resolved;
    if addresses.is_empty() {
        return false;
    }
    let before = resolutions.get(&name).cloned().unwrap_or_default();
    let in_use = before.addresses.first().map(|listed| listed.address);
    if let Some(place) = addresses.iter().position(|address| Some(*address) == in_use) {
        // The others keep their order, so that an answer with the same addresses gives the same
        // list.
        addresses[..=place].rotate_right(1);
    }
    let is_other = in_use != addresses.first().copied();
    let changed_at = match in_use {
        // The next whole second: pins carry whole seconds, and a pin of this second may be older
        // than the change. One message too many about a move costs less than a session lost without
        // one.
        Some(_) if is_other => Some(now.unix_seconds() + 1),
        _ => before.changed_at,
    };
    let listed = |address| Listed { address, unlisted_since: None, gone_from: Vec::new() };
    let mut all: Vec<_> = addresses.iter().copied().map(listed).collect();
    if expands {
        let left = before.addresses.iter().filter(|known| !addresses.contains(&known.address));
        let mut left: Vec<_> = left.cloned().collect();
        for known in &mut left {
            // If the wall clock is set back, the hold must still end.
            known.unlisted_since = Some(known.unlisted_since.unwrap_or(now.wall).min(now.wall));
        }
        // The longest unlisted are dropped first, and of equal ones the highest, so that the result
        // is deterministic.
        left.sort_by_key(|known| (Reverse(known.unlisted_since), known.address));
        left.truncate(MAX_UNLISTED);
        all.extend(left);
    }
    let resolution = Resolution { addresses: all, changed_at };
    let changed = match expands {
        true => before != resolution,
        false => is_other,
    };
    resolutions.insert(name, resolution);
    changed
}

/// Removes an unlisted address that does not answer from one group; true if it was known.
pub(super) fn forget(resolutions: &mut Resolutions, group: &Name, address: SocketAddr) -> bool {
    let all = resolutions.values_mut().flat_map(|resolution| &mut resolution.addresses);
    let left = all.filter(|known| known.address == address && known.unlisted_since.is_some());
    let mut forgotten = false;
    for known in left.filter(|known| !known.gone_from.contains(group)) {
        known.gone_from.push(group.clone());
        forgotten = true;
    }
    forgotten
}

/// Time for which an address is known after its hold and drain. A drain begins at the tick that
/// sees its hold end, and its end must be published before the target leaves its group: otherwise
/// its exchanges in progress would get another delay.
const KNOWN_AFTERWARDS: Duration = Duration::from_secs(1);

/// Removes addresses whose hold and drain are over in every group of their name; true if a group
/// still had one of them.
pub(super) fn forget_the_left(resolutions: &mut Resolutions, config: &Config, now: Moment) -> bool {
    let mut forgotten = false;
    for ((host, port), resolution) in resolutions {
        if resolution.addresses.iter().all(|known| known.unlisted_since.is_none()) {
            continue;
        }
        let is_of = |target: &TargetSettings| {
            matches!(&target.address, TargetAddress::Host { host: own, port: at, .. }
                if own == host && at == port)
        };
        let groups = config.groups.iter().filter(|group| group.targets.iter().any(is_of));
        let most = groups.clone().map(|group| group.hold + group.deregistration_delay).max();
        let most = most.unwrap_or_default() + KNOWN_AFTERWARDS;
        resolution.addresses.retain(|known| {
            let Some(since) = known.unlisted_since else { return true };
            // An address that no group has takes no space from those that are held.
            let has_gone = groups.clone().all(|group| known.gone_from.contains(&group.name));
            let has_left = now.wall.saturating_sub(since) >= most;
            forgotten |= has_left && !has_gone;
            !has_left && !has_gone
        });
    }
    forgotten
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(addresses: &[&str]) -> Resolved {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Resolved { name: ("app.internal".into(), 80), addresses }
    }

    #[test]
    fn the_address_in_use_stays_while_listed_and_an_empty_answer_is_ignored() {
        let mut known = Resolutions::new();
        let mut in_use = |addresses: &[&str]| {
            apply(&mut known, resolved(addresses), false, Moment::now());
            known.values().next().unwrap().addresses[0].address.to_string()
        };
        assert_eq!(in_use(&["10.0.0.2:80", "10.0.0.3:80"]), "10.0.0.2:80");
        assert_eq!(in_use(&["10.0.0.1:80", "10.0.0.2:80"]), "10.0.0.2:80");
        assert_eq!(in_use(&[]), "10.0.0.2:80");
        assert_eq!(in_use(&["10.0.0.1:80", "10.0.0.3:80"]), "10.0.0.1:80");
    }

    #[test]
    fn only_a_change_of_addresses_in_use_needs_a_new_snapshot() {
        let answers = [
            (["10.0.0.2:80", "10.0.0.3:80"], true, true),
            (["10.0.0.1:80", "10.0.0.2:80"], false, true),
            (["10.0.0.1:80", "10.0.0.2:80"], false, false),
            (["10.0.0.1:80", "10.0.0.3:80"], true, true),
        ];
        let (mut one, mut each) = (Resolutions::new(), Resolutions::new());
        for (addresses, changes_one, changes_each) in answers {
            assert_eq!(apply(&mut one, resolved(&addresses), false, Moment::now()), changes_one);
            assert_eq!(apply(&mut each, resolved(&addresses), true, Moment::now()), changes_each);
        }
    }

    #[test]
    fn an_unlisted_address_is_kept_until_it_fails_or_its_time_is_over() {
        let text = "[listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\n\
                    targets = [{ address = \"app.internal:80\", id = \"n\", expand = true }]\n\
                    hold = \"30s\"\nderegistration_delay = \"60s\"\n";
        let config = crate::config::parse(text, "test.toml", "/".as_ref()).unwrap().config;
        let (mut known, begun) = (Resolutions::new(), Moment::now());
        let later = |seconds| begun.later(Duration::from_secs(seconds));
        let apply_at = |known: &mut Resolutions, addresses: &[&str], at: u64| {
            apply(known, resolved(addresses), true, later(at));
            let all = &known.values().next().unwrap().addresses;
            let listed = all.iter().map(|known| (known.address.to_string(), known.unlisted_since));
            listed.collect::<BTreeMap<_, _>>()
        };
        let (a, b, c) = ("10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80");
        assert_eq!(apply_at(&mut known, &[a, b], 0).len(), 2);
        let partly = apply_at(&mut known, &[b, c], 10);
        assert_eq!((partly[a], partly[b]), (Some(later(10).wall), None));
        assert_eq!(
            apply_at(&mut known, &[c], 20)[a],
            Some(later(10).wall),
            "not since it was asked again"
        );
        assert_eq!(apply_at(&mut known, &[a, c], 25)[a], None, "listed again");
        let group = &config.groups[0].name;
        let address = |text: &str| text.parse().unwrap();
        assert!(!forget(&mut known, group, address(a)), "it is listed");
        assert!(forget(&mut known, group, address(b)) && !forget(&mut known, group, address(b)));
        // An address that no group has takes no space, and its removal is no change.
        apply_at(&mut known, &[c], 26);
        assert!(!forget_the_left(&mut known, &config, later(26)));
        assert_eq!(known.values().next().unwrap().addresses.len(), 2);
        // Held for 30 s, then draining for 60 s, and known for one more second.
        assert!(!forget_the_left(&mut known, &config, later(26 + 90)));
        assert!(forget_the_left(&mut known, &config, later(26 + 91)));
        assert_eq!(known.values().next().unwrap().addresses.len(), 1);
        let many: Vec<_> = (0..100).map(|at| format!("10.0.1.{at}:80")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        apply_at(&mut known, &many, 200);
        assert_eq!(apply_at(&mut known, &[a], 210).len(), 1 + MAX_UNLISTED);
    }

    #[test]
    fn a_wall_clock_that_is_set_back_makes_no_hold_longer() {
        let (mut known, begun) = (Resolutions::new(), Moment::now());
        let ahead = begun.later(Duration::from_hours(1));
        apply(&mut known, resolved(&["10.0.0.1:80", "10.0.0.2:80"]), true, ahead);
        apply(&mut known, resolved(&["10.0.0.2:80"]), true, ahead);
        assert!(apply(&mut known, resolved(&["10.0.0.2:80"]), true, begun));
        let left = known.values().next().unwrap().addresses[1].clone();
        assert_eq!(left.unlisted_since, Some(begun.wall));
    }

    #[test]
    fn the_time_of_an_address_change_is_known_and_the_first_is_no_change() {
        let (mut known, begun) = (Resolutions::new(), Moment::now());
        let mut changed = |address: &str, after: u64| {
            let now = begun.later(Duration::from_secs(after));
            apply(&mut known, resolved(&[address]), false, now);
            known.values().next().unwrap().changed_at
        };
        assert_eq!(changed("10.0.0.1:80", 0), None);
        assert_eq!(changed("10.0.0.1:80", 10), None);
        let then = begun.later(Duration::from_secs(20)).unix_seconds();
        let after = changed("10.0.0.2:80", 20).unwrap();
        assert!(
            then < after,
            "a pin of the second in which it changed may be older than the change"
        );
        assert!(then + 1 >= after, "one of the next second is not");
        assert_eq!(changed("10.0.0.2:80", 30), Some(after));
    }
}
