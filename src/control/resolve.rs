//! Host names of targets: asked again and again, and what was last known kept when the resolver
//! has nothing to say.

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

/// How often a name is asked for: HAProxy's `hold valid`. The system's resolver tells no lifetime.
const INTERVAL: Duration = Duration::from_secs(10);

/// How long a start waits for the first answers. A resolver that is down must not keep the targets
/// down that have addresses.
const FIRST_WAIT: Duration = Duration::from_secs(5);

type HostPort = (String, u16);

/// What is asked for the addresses of host names, and how often.
#[derive(Clone)]
pub struct Resolver {
    /// `None` is the system's.
    table: Option<Arc<Table>>,
    interval: Duration,
}

/// Answers of a caller's own, for a host and its port.
type Table = dyn Fn(&str, u16) -> Vec<SocketAddr> + Send + Sync;

impl Resolver {
    /// The system's resolver.
    pub fn of_system() -> Self {
        Self { table: None, interval: INTERVAL }
    }

    /// Answers that the caller makes, asked for this often. They are had on the spot, so they must
    /// not block.
    pub fn of(
        interval: Duration,
        table: impl Fn(&str, u16) -> Vec<SocketAddr> + Send + Sync + 'static,
    ) -> Self {
        Self { table: Some(Arc::new(table)), interval }
    }

    /// Asks once.
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

/// What the resolver said of one name.
#[derive(Debug)]
pub(super) struct Resolved {
    name: HostPort,
    addresses: Vec<SocketAddr>,
}

impl Resolved {
    /// The order of an answer means nothing, and resolvers turn it.
    pub(super) fn of(name: HostPort, mut addresses: Vec<SocketAddr>) -> Self {
        addresses.sort_unstable();
        addresses.dedup();
        Self { name, addresses }
    }
}

/// The names to ask for.
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

    /// Whether every name has had its first answer.
    pub(super) fn all_are_asked(&self) -> bool {
        self.names.keys().all(|name| self.asked.contains(name))
    }

    /// Asks for all names when it is time; a name whose answer is still awaited is not asked twice.
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
                // The loop is gone only when the process is leaving.
                let _ = answers.send(Event::Resolved(resolver.ask(name).await)).await;
            });
        }
    }

    /// Takes an answer in; true if another picture is needed for it.
    pub(super) fn apply(
        &self,
        resolutions: &mut Resolutions,
        resolved: Resolved,
        now: Moment,
    ) -> bool {
        let expands = self.names.get(&resolved.name).copied().unwrap_or_default();
        apply(resolutions, resolved, expands, now)
    }

    /// Notes that an answer came, and tells the operator once what it means.
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

/// What the host names of a configuration stand for, asked all at once and waited for no longer
/// than `FIRST_WAIT`. Before this nobody may be served: a pin to an address of a name that is not
/// known yet would look like a pin to a target that is gone.
///
/// # Errors
/// When the system gives no thread or no runtime.
pub fn first(config: &Config, resolver: &Resolver) -> io::Result<Resolutions> {
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
        // A resolver that hangs must not hold the start up.
        runtime.shutdown_background();
        Ok(resolutions)
    };
    // A thread of its own, for the caller may stand in a runtime already.
    let asking = thread::Builder::new().name("names".to_owned()).spawn(collect)?;
    asking.join().unwrap_or_else(|_| Err(io::Error::other("DNS resolver panicked")))
}

/// The host names of a configuration, and whether every address of one becomes a target.
fn names_of(config: &Config) -> BTreeMap<HostPort, bool> {
    let mut names = BTreeMap::new();
    for target in config.groups.iter().flat_map(|group| &group.targets) {
        if let TargetAddress::Host { host, port, expand } = &target.address {
            *names.entry((host.clone(), *port)).or_default() |= *expand;
        }
    }
    names
}

/// The most addresses of a name that are kept though it lists them no more.
const MAX_UNLISTED: usize = 64;

/// Takes an answer in; true if the address in use changed, or any where each is a target. The
/// address in use stays first while the name still lists it; else the lowest is. An empty answer
/// changes nothing.
fn apply(resolutions: &mut Resolutions, resolved: Resolved, expands: bool, now: Moment) -> bool {
    let Resolved { name, mut addresses } = resolved;
    if addresses.is_empty() {
        return false;
    }
    let before = resolutions.get(&name).cloned().unwrap_or_default();
    let in_use = before.addresses.first().map(|listed| listed.address);
    if let Some(place) = addresses.iter().position(|address| Some(*address) == in_use) {
        // The others keep their order, so that a list that only says the same is the same.
        addresses[..=place].rotate_right(1);
    }
    let is_other = in_use != addresses.first().copied();
    let changed_at = match in_use {
        // The next whole second: pins carry whole seconds, and one of this very second may have been
        // made before. A move that is told once too often costs less than a session lost in silence.
        Some(_) if is_other => Some(now.unix_seconds() + 1),
        _ => before.changed_at,
    };
    let listed = |address| Listed { address, unlisted_since: None, gone_from: Vec::new() };
    let mut all: Vec<_> = addresses.iter().copied().map(listed).collect();
    if expands {
        let left = before.addresses.iter().filter(|known| !addresses.contains(&known.address));
        let mut left: Vec<_> = left.cloned().collect();
        for known in &mut left {
            // A wall clock that was set back must not make a hold endless.
            known.unlisted_since = Some(known.unlisted_since.unwrap_or(now.wall).min(now.wall));
        }
        // The longest unlisted go first; of equal ones the highest, so that it is the same each time.
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

/// Forgets, in one group, an address that does not answer and is not listed; true if it was known.
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

/// How much longer an address is known than its hold and its drain last. A drain begins with the tick
/// that sees its hold end, and that it is over must be told before the target is in no group: else what
/// it still has under way would be given another delay.
const KNOWN_AFTERWARDS: Duration = Duration::from_secs(1);

/// Forgets addresses whose hold and drain are over in every group of their name; true if a group had
/// one of them.
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
            // One that no group has takes none of the places for those that are held.
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
    fn the_address_in_use_stays_while_it_is_listed_and_silence_changes_nothing() {
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
    fn only_what_is_in_use_makes_another_picture() {
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
    fn an_address_that_is_listed_no_more_is_kept_until_it_does_not_answer_or_its_time_is_over() {
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
        // What no group has any more takes no place, and its going is no news.
        apply_at(&mut known, &[c], 26);
        assert!(!forget_the_left(&mut known, &config, later(26)));
        assert_eq!(known.values().next().unwrap().addresses.len(), 2);
        // Held for 30 s, then draining for 60, and known for one more.
        assert!(!forget_the_left(&mut known, &config, later(26 + 90)));
        assert!(forget_the_left(&mut known, &config, later(26 + 91)));
        assert_eq!(known.values().next().unwrap().addresses.len(), 1);
        let many: Vec<_> = (0..100).map(|at| format!("10.0.1.{at}:80")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        apply_at(&mut known, &many, 200);
        assert_eq!(apply_at(&mut known, &[a], 210).len(), 1 + MAX_UNLISTED);
    }

    #[test]
    fn a_wall_clock_that_was_set_back_makes_no_hold_longer() {
        let (mut known, begun) = (Resolutions::new(), Moment::now());
        let ahead = begun.later(Duration::from_hours(1));
        apply(&mut known, resolved(&["10.0.0.1:80", "10.0.0.2:80"]), true, ahead);
        apply(&mut known, resolved(&["10.0.0.2:80"]), true, ahead);
        assert!(apply(&mut known, resolved(&["10.0.0.2:80"]), true, begun));
        let left = known.values().next().unwrap().addresses[1].clone();
        assert_eq!(left.unlisted_since, Some(begun.wall));
    }

    #[test]
    fn when_the_one_address_of_a_name_changed_is_known_and_the_first_answer_is_no_change() {
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
