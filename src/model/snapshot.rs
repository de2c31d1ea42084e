//! The immutable configuration, with every table that a request needs.
//!
//! An exchange keeps the snapshot it began with. Groups, rules and targets are addressed by their
//! index in it; indexes are never used outside of it.

use super::affinity::{Affinity, Cookie};
use super::forward::{Forward, GroupSticky};
use super::live::{GroupState, TargetState};
use super::target_registry::TargetRegistry;
use crate::base::name::Name;
use crate::config::settings::{self, Algorithm, Config, Failback, FixedResponse, TargetAddress};
use crate::policy::affinity::keys::Keyring;
use crate::policy::affinity::token::{GroupKey, Kind, MAX_PINS, TargetKey};
use crate::policy::balance::round_robin::WrrSchedule;
use crate::policy::routing::host_table::HostTable;
use crate::policy::routing::redirect::Redirect;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The immutable configuration with its tables.
#[derive(Debug)]
pub struct Snapshot {
    /// Listeners, in the order of the configuration.
    pub listeners: Box<[Listener]>,
    /// Rules, in the order they are tried.
    pub rules: Box<[Rule]>,
    /// Groups, sorted by name.
    pub groups: Box<[Group]>,
    /// Names of all cookies that the groups write, twins included.
    pub cookie_names: Box<[Box<str>]>,
    /// The keys that seal and open tokens.
    pub keyring: Arc<Keyring>,
    /// Zone of this balancer.
    pub zone: Option<Name>,
    /// Sorted by key: a binary search of a few numbers is faster than hashing one.
    lifetimes: Lifetimes,
}

/// A listener and its rules.
#[derive(Debug)]
pub struct Listener {
    /// The configured settings.
    pub settings: settings::Listener,
    /// Indexes of its rules, in order, by host.
    pub rules: HostTable,
    /// The action for requests that match no rule; `None` is 404.
    pub default: Option<Action>,
}

/// A rule with its action resolved.
#[derive(Debug)]
pub struct Rule {
    /// The configured settings.
    pub settings: settings::Rule,
    /// The resolved action.
    pub action: Action,
}

/// The action of a rule or listener.
#[derive(Clone, Debug)]
pub enum Action {
    /// Send the request to a group.
    Forward(Forward),
    /// Answer with a fixed response.
    Respond(FixedResponse),
    /// Redirect the client.
    Redirect(Redirect),
}

/// A group with its tables.
#[derive(Debug)]
pub struct Group {
    /// The configured settings.
    pub settings: settings::Group,
    /// Key of the group in tokens.
    pub key: GroupKey,
    /// Its targets, sorted by id.
    pub targets: Box<[Target]>,
    /// The precomputed round robin.
    pub schedule: WrrSchedule,
    /// The client key; `None` if the group is not sticky.
    pub affinity: Option<Affinity>,
    /// Live state of the group.
    pub state: Arc<GroupState>,
    /// True if a host name with `expand = true` has never had an address, so that a pin to an
    /// unknown target may be a pin to one of its addresses.
    pub awaits_names: bool,
    /// True if more groups share the cookie than a token holds pins, so that a pin may be pushed
    /// out.
    pub is_crowded: bool,
    by_key: Box<[(TargetKey, usize)]>,
    by_route: Box<[(Box<str>, usize)]>,
}

/// A target at an address.
#[derive(Debug)]
pub struct Target {
    /// Id of the target, unique in the group.
    pub id: Name,
    /// Key of the target in tokens.
    pub key: TargetKey,
    /// Address of the target; `None` while its host name has never had one.
    pub address: Option<SocketAddr>,
    /// The first whole second, since 1970, after this process saw the host name change its address;
    /// older pins may have been made by another machine.
    pub address_since: Option<u64>,
    /// The address as text, for the log.
    pub address_text: Option<Box<str>>,
    /// The host name in the configuration, if it is not an address.
    pub host: Option<Box<str>>,
    /// Weight, 0 to 999.
    pub weight: u16,
    /// Zone of the target.
    pub zone: Option<Name>,
    /// The suffix that the application appends to a session id.
    pub route: Box<str>,
    /// True if the file has `state = "drain"`.
    pub drain: bool,
    /// If the host name lists the address no more: end of the hold, as time since 1970. The target
    /// drains from then on.
    pub held_until: Option<Duration>,
    /// Live state of the target.
    pub state: Arc<TargetState>,
}

/// Current addresses by host name and port. The first address is the one in use.
pub type Resolutions = BTreeMap<(String, u16), Resolution>;

/// The addresses of one host name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// The address in use, then the others.
    pub addresses: Vec<Listed>,
    /// The first whole second, since 1970, after this process saw the address in use change.
    pub changed_at: Option<u64>,
}

/// One address of a host name, which may be a target of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The socket address.
    pub address: SocketAddr,
    /// Time, since 1970, at which the host name stopped listing it.
    pub unlisted_since: Option<Duration>,
    /// The groups in which it has failed to answer since then.
    pub gone_from: Vec<Name>,
}

/// Two names with equal truncated hashes, which a token could not distinguish.
#[derive(Debug, PartialEq, Eq)]
pub struct Collision {
    /// The first name.
    pub one: String,
    /// The second name.
    pub other: String,
}

impl fmt::Display for Collision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` and `{}` have the same hash in a token; rename one", self.one, self.other)
    }
}

impl std::error::Error for Collision {}

impl Snapshot {
    /// Builds the snapshot of a checked configuration. Targets in the registry keep their live
    /// state.
    ///
    /// # Errors
    /// If a token could not distinguish two names.
    pub fn build(
        config: &Config,
        keyring: Arc<Keyring>,
        resolutions: &Resolutions,
        registry: &mut TargetRegistry,
    ) -> Result<Self, Collision> {
        let groups = config.groups.iter().map(|group| Group::build(group, resolutions, registry));
        let mut groups = groups.collect::<Result<Box<[_]>, _>>()?;
        record_crowds(&mut groups);
        let index: HashMap<&str, usize> =
            groups.iter().enumerate().map(|(at, group)| (group.name(), at)).collect();
        let mut action = |action: &settings::Action, rule: &Name| match action {
            settings::Action::Forward(forward) => {
                Forward::build(forward, rule, &index, registry).map(Action::Forward)
            }
            settings::Action::Respond(response) => Some(Action::Respond(response.clone())),
            settings::Action::Redirect(redirect) => Some(Action::Redirect(redirect.clone())),
        };
        // A checked configuration forwards only to groups that exist; an unresolved rule would be
        // skipped here rather than stop the process.
        let mut rules: Box<[Rule]> = config
            .rules
            .iter()
            .filter_map(|rule| {
                let action = action(&rule.action, &rule.name)?;
                Some(Rule { settings: rule.clone(), action })
            })
            .collect();
        let mut forwards: Vec<_> = rules
            .iter_mut()
            .filter_map(|rule| match &mut rule.action {
                Action::Forward(forward) => Some((&rule.settings.name, forward)),
                Action::Respond(_) | Action::Redirect(_) => None,
            })
            .collect();
        Forward::agree(&mut forwards);
        let listeners = config.listeners.iter().map(|listener| Listener {
            settings: listener.clone(),
            rules: rules_of(&rules, listener),
            default: listener.default.as_ref().and_then(|default| action(default, &listener.name)),
        });
        let listeners = listeners.collect();
        let lifetimes = lifetimes(&groups, &rules)?;
        let group_cookies = rules.iter().filter_map(|rule| Some(&*rule.sticky()?.cookie));
        let cookies = groups.iter().filter_map(Group::cookie).chain(group_cookies);
        let mut cookie_names: Vec<Box<str>> = cookies
            .flat_map(|cookie| [Some(cookie.name.clone()), cookie.twin.clone()])
            .flatten()
            .collect();
        cookie_names.sort_unstable();
        cookie_names.dedup();
        Ok(Self {
            listeners,
            rules,
            groups,
            cookie_names: cookie_names.into(),
            keyring,
            zone: config.runtime.zone.clone(),
            lifetimes,
        })
    }

    /// Lifetime in seconds of the pins for a group (or rule) in tokens of this kind; `None` if it
    /// is unknown or no longer sticky in this way.
    pub fn lifetime_of(&self, kind: Kind, group: GroupKey) -> Option<u32> {
        let at = self.lifetimes.binary_search_by_key(&(kind, group), |&(key, _)| key).ok()?;
        Some(self.lifetimes[at].1)
    }

    /// Index of the group with this name.
    pub fn group_named(&self, name: &str) -> Option<usize> {
        self.groups.iter().position(|group| group.name() == name)
    }
}

/// Marks the groups whose cookie is shared by more groups than a token has pins.
fn record_crowds(groups: &mut [Group]) {
    let mut sharing: BTreeMap<(Kind, Box<str>), usize> = BTreeMap::new();
    for cookie in groups.iter().filter_map(Group::cookie) {
        *sharing.entry((cookie.kind, cookie.name.clone())).or_default() += 1;
    }
    for group in groups {
        let of = |cookie: &Cookie| sharing[&(cookie.kind, cookie.name.clone())];
        group.is_crowded = group.cookie().map(of).is_some_and(|count| count > MAX_PINS);
    }
}

fn rules_of(rules: &[Rule], listener: &settings::Listener) -> HostTable {
    let rules = rules.iter().enumerate().filter(|(_, rule)| rule.settings.holds_for(listener));
    HostTable::new(rules.map(|(at, rule)| (at, rule.settings.conditions.hosts.as_slice())))
}

/// Lifetimes of pins in seconds, by the group or rule of the pin.
type Lifetimes = Box<[((Kind, GroupKey), u32)]>;

fn lifetimes(groups: &[Group], rules: &[Rule]) -> Result<Lifetimes, Collision> {
    let mut names: HashMap<GroupKey, &str> = HashMap::new();
    let mut lifetimes = Vec::new();
    for group in groups {
        if let Some(other) = names.insert(group.key, group.name()) {
            return Err(Collision { one: other.into(), other: group.name().into() });
        }
        if let Some(cookie) = group.cookie() {
            lifetimes.push(((cookie.kind, group.key), cookie.lifetime.seconds()));
        }
    }
    names.clear();
    for rule in rules {
        let (name, Some(sticky)) = (rule.settings.name.as_str(), rule.sticky()) else { continue };
        if let Some(other) = names.insert(sticky.key, name) {
            return Err(Collision { one: other.into(), other: name.into() });
        }
        // A stand-in pin lives as long as the pin it stands in for; if stand-ins are no longer
        // remembered, it is the first pin to be dropped.
        let lifetime = sticky.cookie.lifetime.seconds();
        lifetimes.push(((Kind::Group, sticky.key), lifetime));
        if remembers_stand_in(rule) {
            if let Some(other) = names.insert(sticky.stand_in, name) {
                return Err(Collision { one: other.into(), other: name.into() });
            }
            lifetimes.push(((Kind::Group, sticky.stand_in), lifetime));
        }
    }
    lifetimes.sort_unstable();
    Ok(lifetimes.into())
}

fn remembers_stand_in(rule: &Rule) -> bool {
    match &rule.action {
        Action::Forward(forward) => forward.failover && forward.failback == Failback::Return,
        Action::Respond(_) | Action::Redirect(_) => false,
    }
}

impl Rule {
    /// Group stickiness of the action, if any.
    pub fn sticky(&self) -> Option<&GroupSticky> {
        match &self.action {
            Action::Forward(forward) => forward.sticky.as_ref(),
            Action::Respond(_) | Action::Redirect(_) => None,
        }
    }
}

impl Group {
    fn build(
        settings: &settings::Group,
        resolutions: &Resolutions,
        registry: &mut TargetRegistry,
    ) -> Result<Self, Collision> {
        let mut targets: Vec<Target> = settings
            .targets
            .iter()
            .flat_map(|target| targets_of(settings, target, resolutions))
            .map(|Meant { id, address, target, held_until, since }| Target {
                key: TargetKey::of(settings.name.as_str(), id.as_str()),
                state: registry.target(
                    &settings.name,
                    &id,
                    address,
                    settings.upstream.max_connections,
                    settings.tls.as_ref().zip(address).map(|(tls, address)| {
                        let http2 = settings.protocol.is_http2();
                        tls.peer(target.address.host(), address.ip(), http2)
                    }),
                ),
                route: target.route.as_deref().unwrap_or(id.as_str()).into(),
                id,
                address,
                address_since: since,
                address_text: address.map(|address| address.to_string().into()),
                host: target.address.host().map(Into::into),
                weight: target.weight,
                zone: target.zone.clone(),
                drain: target.drain,
                held_until,
            })
            .collect();
        for target in &targets {
            if settings.algorithm == Algorithm::LeastSessions {
                target.state.count_sessions();
            }
            if settings.anomaly_mitigation.is_some() {
                target.state.count_requests();
            }
        }
        targets.sort_by(|a, b| a.id.cmp(&b.id));
        let mut by_key = BTreeMap::new();
        for (at, target) in targets.iter().enumerate() {
            if let Some(other) = by_key.insert(target.key, at) {
                let name = |id: &Name| format!("{}/{id}", settings.name);
                return Err(Collision { one: name(&targets[other].id), other: name(&target.id) });
            }
        }
        let awaits_names = settings.targets.iter().any(|target| match &target.address {
            TargetAddress::Host { host, port, expand: true } => {
                !resolutions.contains_key(&(host.clone(), *port))
            }
            _ => false,
        });
        let weights: Vec<u16> = targets.iter().map(|target| target.weight).collect();
        let mut by_route: Vec<_> =
            targets.iter().enumerate().map(|(at, target)| (target.route.clone(), at)).collect();
        by_route.sort_unstable();
        Ok(Self {
            by_route: by_route.into(),
            key: GroupKey::of(settings.name.as_str()),
            schedule: WrrSchedule::new(&weights),
            affinity: settings.stickiness.as_ref().map(Affinity::of),
            state: registry.group(&settings.name),
            awaits_names,
            is_crowded: false,
            targets: targets.into(),
            by_key: by_key.into_iter().collect(),
            settings: settings.clone(),
        })
    }

    /// Name of the group.
    pub fn name(&self) -> &str {
        self.settings.name.as_str()
    }

    /// Index of the target that a pin names, if it is still in the group.
    pub fn target_of(&self, key: TargetKey) -> Option<usize> {
        let at = self.by_key.binary_search_by_key(&key, |&(key, _)| key).ok()?;
        Some(self.by_key[at].1)
    }

    /// The cookie that the group writes; `None` if it is not sticky by a cookie.
    pub fn cookie(&self) -> Option<&Cookie> {
        match &self.affinity {
            Some(Affinity::Cookie(cookie)) => Some(cookie),
            _ => None,
        }
    }

    /// Index of the target with this route.
    pub fn target_of_route(&self, route: &[u8]) -> Option<usize> {
        let at = self.by_route.binary_search_by_key(&route, |(route, _)| route.as_bytes()).ok()?;
        Some(self.by_route[at].1)
    }

    /// Index of the target with this id.
    pub fn target_named(&self, id: &str) -> Option<usize> {
        self.targets.iter().position(|target| target.id.as_str() == id)
    }
}

/// One target, as derived from an entry of `targets`.
struct Meant<'t> {
    id: Name,
    address: Option<SocketAddr>,
    target: &'t settings::TargetSettings,
    held_until: Option<Duration>,
    since: Option<u64>,
}

/// The targets of one entry of `targets` now: the entry itself, the address in use of its host
/// name, or, with `expand`, each address under an id of its own.
fn targets_of<'t>(
    group: &settings::Group,
    target: &'t settings::TargetSettings,
    resolutions: &Resolutions,
) -> Vec<Meant<'t>> {
    let meant = |id, address, held_until, since| Meant { id, address, target, held_until, since };
    let (host, port, expand) = match &target.address {
        TargetAddress::Socket(address) => {
            return vec![meant(target.id.clone(), Some(*address), None, None)];
        }
        TargetAddress::Host { host, port, expand } => (host, *port, *expand),
    };
    let resolution = resolutions.get(&(host.clone(), port));
    let addresses = resolution.map_or(&[][..], |resolution| &resolution.addresses);
    if expand && !addresses.is_empty() {
        let written = |address: &SocketAddr| {
            let taken = TargetAddress::Socket(*address);
            group.targets.iter().any(|other| other.address == taken)
        };
        // An address that is also configured under its own id is that target.
        let own = addresses
            .iter()
            .filter(|listed| !written(&listed.address) && !listed.gone_from.contains(&group.name));
        return own
            .map(|listed| {
                let id = Name::expanded(target.id.as_str(), listed.address);
                let held_until = listed.unlisted_since.map(|since| since + group.hold);
                meant(id, Some(listed.address), held_until, None)
            })
            .collect();
    }
    let address = addresses.first().map(|listed| listed.address);
    let since = resolution.and_then(|resolution| resolution.changed_at);
    vec![meant(target.id.clone(), address, None, since)]
}
