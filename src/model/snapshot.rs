//! One immutable picture of the configuration, with every table a request needs built ahead.
//!
//! An exchange keeps the picture it began with. Groups, rules and targets are named by their index
//! in it; indexes never leave it.

use super::live::{GroupLive, TargetLive};
use super::roster::Roster;
use crate::config::settings::{self, Config, FixedResponse, Stickiness, TargetAddress};
use crate::ground::name::Name;
use crate::policy::affinity::cookie::{Attributes, SetCookieTemplate};
use crate::policy::affinity::keys::Keyring;
use crate::policy::affinity::token::{GroupKey, TargetKey};
use crate::policy::balance::round_robin::Cycle;
use crate::policy::routing::host_table::HostTable;
use arc_swap::{ArcSwap, Cache};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

/// The picture.
#[derive(Debug)]
pub struct Snapshot {
    /// Listeners, in the order of the configuration.
    pub listeners: Box<[Listener]>,
    /// Rules, in the order they are tried.
    pub rules: Box<[Rule]>,
    /// Groups, sorted by name.
    pub groups: Box<[Group]>,
    /// The names of all cookies the groups write, twins too.
    pub cookie_names: Box<[Box<str>]>,
    /// What seals and opens tokens.
    pub keyring: Arc<Keyring>,
    /// Where this balancer stands.
    pub zone: Option<Name>,
    /// By key, in its order: a search among a few numbers beats hashing one.
    lifetimes: Box<[(GroupKey, u32)]>,
}

/// The current picture, replaced by one swap.
#[derive(Clone, Debug)]
pub struct Published(Arc<ArcSwap<Snapshot>>);

impl Published {
    /// Publishes the first picture.
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        Self(Arc::new(ArcSwap::new(snapshot)))
    }

    /// Puts another picture in its place; exchanges under way keep theirs.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        self.0.store(snapshot);
    }

    /// The current picture, for those who ask seldom.
    pub fn current(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// A reader for those who ask with every request: while nothing is published it costs one load
    /// of a shared pointer.
    pub fn reader(&self) -> Reader {
        Reader(Cache::new(Arc::clone(&self.0)))
    }
}

/// One worker's way to the current picture.
#[derive(Debug)]
pub struct Reader(Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>);

/// A picture as one worker's exchanges share it. All workers' exchanges would write to the one
/// count of an [`Arc`] with every request; this count is the worker's own.
pub type Picture = Rc<Arc<Snapshot>>;

impl Reader {
    /// The current picture: the one last given out, unless another was published since.
    pub fn current(&mut self, last: &mut Option<Picture>) -> Picture {
        let current = self.0.load();
        match last {
            Some(last) if Arc::ptr_eq(last, current) => Rc::clone(last),
            _ => Rc::clone(last.insert(Rc::new(Arc::clone(current)))),
        }
    }
}

/// A listener and the rules that hold for it.
#[derive(Debug)]
pub struct Listener {
    /// As configured.
    pub settings: settings::Listener,
    /// Indexes of its rules, in order, by host.
    pub rules: HostTable,
    /// What no rule took; `None` is 404.
    pub default: Option<Action>,
}

/// A rule with its action resolved.
#[derive(Debug)]
pub struct Rule {
    /// As configured.
    pub settings: settings::Rule,
    /// What is done.
    pub action: Action,
}

/// What is done with a request.
#[derive(Clone, Debug)]
pub enum Action {
    /// It goes to the group of this index.
    Forward(usize),
    /// It is answered here.
    Respond(FixedResponse),
}

/// A group with its tables.
#[derive(Debug)]
pub struct Group {
    /// As configured.
    pub settings: settings::Group,
    /// Its name in a token.
    pub key: GroupKey,
    /// Its targets, sorted by id.
    pub targets: Box<[Target]>,
    /// The precomputed round robin.
    pub cycle: Cycle,
    /// The cookie it writes, where it is sticky.
    pub cookie: Option<Cookie>,
    /// What changes about it.
    pub live: Arc<GroupLive>,
    /// A name of it that is to be expanded has never had an address, so that a pin to a target that
    /// is not here may be a pin to one of that name's.
    pub awaits_names: bool,
    by_key: Box<[(TargetKey, usize)]>,
}

/// The names and the prepared text of a group's cookie.
#[derive(Debug)]
pub struct Cookie {
    /// The main cookie's name.
    pub name: Box<str>,
    /// Its CORS twin's name.
    pub twin: Box<str>,
    /// All but the token and the date.
    pub template: SetCookieTemplate,
}

/// A target at an address.
#[derive(Debug)]
pub struct Target {
    /// Its id in the group.
    pub id: Name,
    /// Its name in a token.
    pub key: TargetKey,
    /// Where it is; `None` while its host name has never had an address.
    pub address: Option<SocketAddr>,
    /// The same as text, for the log.
    pub address_text: Option<Box<str>>,
    /// The host name that stands in the file for it.
    pub host: Option<Box<str>>,
    /// Its share.
    pub weight: u16,
    /// Where it stands.
    pub zone: Option<Name>,
    /// The file says `state = "drain"`.
    pub drain: bool,
    /// What changes about it.
    pub live: Arc<TargetLive>,
}

/// The addresses host names have now; the first one is the one in use.
pub type Resolutions = BTreeMap<(String, u16), Vec<SocketAddr>>;

/// Two names whose truncated hashes are equal, so that a token could not tell them apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Collision {
    /// The first name.
    pub one: String,
    /// The second.
    pub other: String,
}

impl fmt::Display for Collision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` and `{}` have the same hash in a token: rename one", self.one, self.other)
    }
}

impl std::error::Error for Collision {}

impl Snapshot {
    /// Builds the picture of a checked configuration. Targets already on the roster keep their
    /// live half.
    ///
    /// # Errors
    /// When two names cannot be told apart in a token.
    pub fn build(
        config: &Config,
        keyring: Arc<Keyring>,
        resolutions: &Resolutions,
        roster: &mut Roster,
    ) -> Result<Self, Collision> {
        let groups = config.groups.iter().map(|group| Group::build(group, resolutions, roster));
        let groups = groups.collect::<Result<Box<[_]>, _>>()?;
        let index: HashMap<&str, usize> =
            groups.iter().enumerate().map(|(at, group)| (group.name(), at)).collect();
        let action = |action: &settings::Action| match action {
            settings::Action::Forward(group) => {
                index.get(group.as_str()).map(|&at| Action::Forward(at))
            }
            settings::Action::Respond(response) => Some(Action::Respond(response.clone())),
        };
        // A checked configuration forwards to groups that exist; a rule that could not be resolved
        // would be left out here rather than bring the process down.
        let rules: Box<[Rule]> = config
            .rules
            .iter()
            .filter_map(|rule| Some(Rule { settings: rule.clone(), action: action(&rule.action)? }))
            .collect();
        let listeners = config.listeners.iter().map(|listener| Listener {
            settings: listener.clone(),
            rules: rules_of(&rules, &listener.name),
            default: listener.default.as_ref().and_then(action),
        });
        let listeners = listeners.collect();
        let lifetimes = lifetimes(&groups)?;
        let mut cookie_names: Vec<Box<str>> = groups
            .iter()
            .filter_map(|group| group.cookie.as_ref())
            .flat_map(|cookie| [cookie.name.clone(), cookie.twin.clone()])
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

    /// How long pins for a group live; `None` for a group unknown or no longer sticky.
    pub fn lifetime_of(&self, group: GroupKey) -> Option<u32> {
        let at = self.lifetimes.binary_search_by_key(&group, |&(key, _)| key).ok()?;
        Some(self.lifetimes[at].1)
    }

    /// The index of the group of this name.
    pub fn group_named(&self, name: &str) -> Option<usize> {
        self.groups.iter().position(|group| group.name() == name)
    }
}

fn rules_of(rules: &[Rule], listener: &Name) -> HostTable {
    let holds = |rule: &Rule| match &rule.settings.listeners {
        Some(names) => names.contains(listener),
        None => true,
    };
    let hosts = rules.iter().enumerate().filter(|(_, rule)| holds(rule));
    HostTable::new(hosts.map(|(at, rule)| (at, rule.settings.hosts.as_slice())))
}

fn lifetimes(groups: &[Group]) -> Result<Box<[(GroupKey, u32)]>, Collision> {
    let mut names: HashMap<GroupKey, &str> = HashMap::new();
    let mut lifetimes = Vec::new();
    for group in groups {
        if let Some(other) = names.insert(group.key, group.name()) {
            return Err(Collision { one: other.into(), other: group.name().into() });
        }
        if let Some(stickiness) = &group.settings.stickiness {
            lifetimes.push((group.key, stickiness.lifetime.seconds()));
        }
    }
    lifetimes.sort_unstable();
    Ok(lifetimes.into())
}

impl Group {
    fn build(
        settings: &settings::Group,
        resolutions: &Resolutions,
        roster: &mut Roster,
    ) -> Result<Self, Collision> {
        let mut targets: Vec<Target> = settings
            .targets
            .iter()
            .flat_map(|target| targets_of(settings, target, resolutions))
            .map(|(id, address, target)| Target {
                key: TargetKey::of(settings.name.as_str(), id.as_str()),
                live: roster.target(
                    &settings.name,
                    &id,
                    address,
                    settings.upstream.max_connections,
                ),
                id,
                address,
                address_text: address.map(|address| address.to_string().into()),
                host: target.address.host().map(Into::into),
                weight: target.weight,
                zone: target.zone.clone(),
                drain: target.drain,
            })
            .collect();
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
        Ok(Self {
            key: GroupKey::of(settings.name.as_str()),
            cycle: Cycle::new(&weights),
            cookie: settings.stickiness.as_ref().map(Cookie::of),
            live: roster.group(&settings.name),
            awaits_names,
            targets: targets.into(),
            by_key: by_key.into_iter().collect(),
            settings: settings.clone(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.settings.name.as_str()
    }

    /// The index of the target a pin names, if it is still in the group.
    pub fn target_of(&self, key: TargetKey) -> Option<usize> {
        let at = self.by_key.binary_search_by_key(&key, |&(key, _)| key).ok()?;
        Some(self.by_key[at].1)
    }

    /// The index of the target of this id.
    pub fn target_named(&self, id: &str) -> Option<usize> {
        self.targets.iter().position(|target| target.id.as_str() == id)
    }
}

impl Cookie {
    fn of(stickiness: &Stickiness) -> Self {
        let name: Box<str> = stickiness.cookie.as_str().into();
        Self {
            twin: format!("{name}CORS").into(),
            template: SetCookieTemplate::new(Attributes {
                name: &stickiness.cookie,
                path: &stickiness.path,
                domain: stickiness.domain.as_deref(),
                http_only: stickiness.http_only,
                same_site: stickiness.same_site,
                partitioned: stickiness.partitioned,
            }),
            name,
        }
    }
}

/// What one entry of `targets` stands for now: itself, one address of its host name, or, with
/// `expand`, each of them under an id of its own.
fn targets_of<'t>(
    group: &settings::Group,
    target: &'t settings::Target,
    resolutions: &Resolutions,
) -> Vec<(Name, Option<SocketAddr>, &'t settings::Target)> {
    let (host, port, expand) = match &target.address {
        TargetAddress::Socket(address) => {
            return vec![(target.id.clone(), Some(*address), target)];
        }
        TargetAddress::Host { host, port, expand } => (host, *port, *expand),
    };
    let addresses = resolutions.get(&(host.clone(), port)).map_or(&[][..], Vec::as_slice);
    if expand && !addresses.is_empty() {
        let written = |address: &SocketAddr| {
            let taken = TargetAddress::Socket(*address);
            group.targets.iter().any(|other| other.address == taken)
        };
        // An address that also stands in the file under its own id is that target.
        let own = addresses.iter().filter(|address| !written(address));
        return own
            .map(|&address| (Name::expanded(target.id.as_str(), address), Some(address), target))
            .collect();
    }
    vec![(target.id.clone(), addresses.first().copied(), target)]
}
