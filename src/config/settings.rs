//! A checked file: every name resolved, every range held, every default filled in. What is written
//! here needs no second look; how it is written in the file is in `keys.rs`.

mod cookies;
mod health;
mod log;
pub mod target_tls;
mod tls;

use crate::base::cidr::AddressSet;
use crate::base::name::Name;
use crate::policy::affinity::keys::Key;
use crate::policy::affinity::{
    CorsTwin, Lifetime, OnUnavailable, Refresh, SameSite, SecureAttribute,
};
use crate::policy::headers::desync::Mitigation;
use crate::policy::headers::forwarded::ForwardedForMode;
use crate::policy::headers::response::ResponseFields;
use crate::policy::proxy_protocol;
use crate::policy::routing::conditions::Conditions;
use crate::policy::routing::redirect::Redirect;
use crate::policy::routing::rewrite::Rewrite;
pub use cookies::{ReachedFrom, WrittenCookie};
pub use health::{GRPC_HEALTH_PATH, Health, HealthProtocol};
use http::HeaderName;
pub use log::{AccessFormat, Level, Log, LogTarget};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use target_tls::TargetTls;

pub use tls::{Alpn, ClientAuth, ListenerTls, TlsVersion};

/// The whole file.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[runtime]`
    pub runtime: Runtime,
    /// `[affinity]`: the configured keys in their order, the first seals; empty when the table is
    /// absent and a key is to be generated.
    pub keys: Vec<Key>,
    /// `[log]`
    pub log: Log,
    /// `[listener.*]`, in the file's order of names.
    pub listeners: Vec<Listener>,
    /// `[[rule]]`, in order: the first match wins.
    pub rules: Vec<Rule>,
    /// `[target_group.*]`, sorted by name, so that the order in the file changes nothing.
    pub groups: Vec<Group>,
    /// The cookies that groups and rules write, each with all that writes it; sorted by name.
    pub cookies: Vec<WrittenCookie>,
}

/// `[runtime]`
#[derive(Clone, Debug)]
pub struct Runtime {
    /// Number of workers; `None` is one per core.
    pub workers: Option<usize>,
    /// Where this balancer stands.
    pub zone: Option<Name>,
    /// How long what is in flight may take to finish after SIGTERM.
    pub drain_timeout: Duration,
    /// How long connections are still accepted after SIGTERM.
    pub pre_drain_delay: Duration,
    /// `state_dir` where it is written; else it is looked for by `run`.
    pub state_dir: Option<PathBuf>,
}

/// `[listener.NAME]`
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its name.
    pub name: Name,
    /// Where it listens; never empty.
    pub addresses: Vec<SocketAddr>,
    /// What no rule took. `None` where nothing is written and there are several groups: 404.
    pub default: Option<Action>,
    /// `redirect_to` is written: only rules that name this listener hold here.
    pub only_named_rules: bool,
    /// Who may connect.
    pub allow_from: AddressSet,
    /// Whose X-Forwarded-* is believed, and whose PROXY headers.
    pub trusted_proxies: AddressSet,
    /// Whether connections open with a PROXY header; `trusted_proxies` is not empty then.
    pub proxy_protocol: bool,
    /// What becomes of X-Forwarded-For.
    pub x_forwarded_for: ForwardedForMode,
    /// Whether the entry that is appended there has the client's port.
    pub client_port: bool,
    /// Whether Host reaches the target as sent; else as ALB normalises it.
    pub preserve_host: bool,
    /// Whether fields with names other than letters, digits and `-` are dropped.
    pub drop_invalid_headers: bool,
    /// How requests that could be read in two ways are met.
    pub desync_mitigation: Mitigation,
    /// `response_headers` and `server`: what every answer says.
    pub response_fields: ResponseFields,
    /// Whether x-stayput-verdict and x-stayput-target are shown.
    pub debug_headers: bool,
    /// `timeouts`
    pub timeouts: ListenerTimeouts,
    /// `limits`
    pub limits: Limits,
    /// `tls`; `None` is a listener of plain HTTP.
    pub tls: Option<ListenerTls>,
}

/// `timeouts` of a listener.
#[derive(Clone, Copy, Debug)]
pub struct ListenerTimeouts {
    /// From accept, or a request's first byte, to the end of its head.
    pub header_read: Duration,
    /// No byte either way.
    pub idle: Duration,
    /// Head complete to last request byte; `None` is no limit.
    pub request: Option<Duration>,
    /// After it the next answer ends the connection; `None` is never.
    pub max_lifetime: Option<Duration>,
}

/// `limits` of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A request's head, in bytes.
    pub header_bytes: usize,
    /// A request's header fields.
    pub headers: usize,
    /// A request's body, in bytes; `None` is no limit.
    pub body_bytes: Option<u64>,
    /// Open client connections of this listener.
    pub connections: u32,
    /// Requests under way at once on one HTTP/2 connection.
    pub streams: u32,
}

/// `[[rule]]`
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name, or `rule-N` counted from 1 where none is written.
    pub name: Name,
    /// The listeners it holds for; `None` is all that do not ask for rules that name them.
    pub listeners: Option<Vec<Name>>,
    /// What must hold of a request.
    pub conditions: Conditions,
    /// What the target sees instead, where the action forwards.
    pub rewrite: Option<Rewrite>,
    /// What is done.
    pub action: Action,
}

impl Rule {
    /// Whether it is tried with requests of this listener.
    pub fn holds_for(&self, listener: &Listener) -> bool {
        match &self.listeners {
            Some(names) => names.contains(&listener.name),
            None => !listener.only_named_rules,
        }
    }
}

/// What is done with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes to one of these groups.
    Forward(Forward),
    /// It is answered here.
    Respond(FixedResponse),
    /// The client is sent elsewhere.
    Redirect(Redirect),
}

/// `failback`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failback {
    /// A client is back with its own group as soon as that serves.
    Return,
    /// It stays where it was sent.
    Stay,
}

/// `forward`, `group_stickiness`, `failover` and `failback`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The groups, which exist, each with its share, 0 to 999; sorted by name, never empty.
    pub groups: Vec<(Name, u16)>,
    /// What keeps a client with its group; `None` when that is off.
    pub stickiness: Option<GroupStickiness>,
    /// A group with no usable target hands its share to the others.
    pub failover: bool,
    /// What becomes of those it handed over, once it has one again.
    pub failback: Failback,
}

impl Forward {
    /// To one group.
    pub fn to(group: Name) -> Self {
        let groups = vec![(group, 1)];
        Self { groups, stickiness: None, failover: false, failback: Failback::Return }
    }
}

/// What keeps a client with the group its rule chose for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStickiness {
    /// How long a pin to a group lives.
    pub lifetime: Lifetime,
    /// How its cookie is written: as the first sticky group's, in the order of their names.
    pub cookie: CookieSettings,
}

/// `respond = { status, content_type, body }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedResponse {
    /// 200..=599, a 2xx, 4xx or 5xx.
    pub status: u16,
    /// The Content-Type, where there is a body.
    pub content_type: String,
    /// The body, at most 1,024 characters (ALB's bound).
    pub body: String,
}

/// `[target_group.NAME]`
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name.
    pub name: Name,
    /// What is spoken to targets.
    pub protocol: Protocol,
    /// Who serves newcomers.
    pub algorithm: Algorithm,
    /// How often targets are compared by their failures; `None`: they are not.
    pub anomaly_mitigation: Option<Duration>,
    /// How long a new target's share of newcomers takes to be whole; `None`: it is at once.
    pub slow_start: Option<Duration>,
    /// What is asked of targets over TLS; `None`: connections are plain.
    pub tls: Option<TargetTls>,
    /// Its targets, sorted by id.
    pub targets: Vec<TargetSettings>,
    /// How long a drained or removed target may finish.
    pub deregistration_delay: Duration,
    /// How long an address its name lists no more is held, before it drains.
    pub hold: Duration,
    /// What pinned clients of a draining target do.
    pub draining_pins: DrainingPins,
    /// Use all targets when too few are healthy.
    pub fail_open: bool,
    /// How long clients keep their targets after an outage; zero: they do not.
    pub recovery: Duration,
    /// How few healthy targets are too few.
    pub minimum_healthy: MinimumHealthy,
    /// Requests in flight a target may have; `None` is no cap.
    pub max_in_flight_per_target: Option<u32>,
    /// False: only targets of the balancer's own zone serve.
    pub cross_zone: bool,
    /// The target is told which target would have the client after it.
    pub announce_successor: bool,
    /// A tunnel ends when its client's pin has moved.
    pub tunnels_follow: bool,
    /// How connections to targets say whose they are; `None`: not at all.
    pub send_proxy: Option<proxy_protocol::Version>,
    /// `None` when stickiness is off.
    pub stickiness: Option<Stickiness>,
    /// `[target_group.NAME.health]`
    pub health: Health,
    /// `[target_group.NAME.upstream]`
    pub upstream: Upstream,
}

/// What is spoken to targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// HTTP/2, and gRPC over it.
    Grpc,
}

impl Protocol {
    /// Whether connections are HTTP/2.
    pub fn is_http2(self) -> bool {
        self != Self::Http1
    }
}

/// Who serves a client that has no pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// In turn, by weight.
    RoundRobin,
    /// Whoever has the fewest requests in flight for its weight.
    LeastOutstandingRequests,
    /// At random, by weight.
    WeightedRandom,
    /// Whoever has seen the fewest clients for its weight.
    LeastSessions,
}

impl Group {
    /// How many requests a target may have in flight where they are counted: for a cap, or because
    /// the algorithm compares them. `None`: they are not.
    pub fn in_flight_bound(&self) -> Option<u32> {
        let compared = self.algorithm == Algorithm::LeastOutstandingRequests;
        self.max_in_flight_per_target.or(compared.then_some(u32::MAX))
    }
}

/// What pinned clients of a draining target do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainingPins {
    /// They stay until the delay is over.
    Stay,
    /// They move at once, as with ALB.
    Move,
}

/// `minimum_healthy`: fewer than either, and the group fails open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinimumHealthy {
    /// So many targets.
    pub count: u32,
    /// So many of a hundred registered targets; 0 is off.
    pub percent: u8,
}

/// One entry of `targets`.
#[derive(Clone, Debug)]
pub struct TargetSettings {
    /// Its id, unique in the group.
    pub id: Name,
    /// Where it is.
    pub address: TargetAddress,
    /// Its share, 0 to 999; 0 takes no newcomers.
    pub weight: u16,
    /// Where it stands.
    pub zone: Option<Name>,
    /// What its application appends to a session's id; `None` is the id of the target.
    pub route: Option<String>,
    /// `state = "drain"`
    pub drain: bool,
}

/// Where a target is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetAddress {
    /// A socket address.
    Socket(SocketAddr),
    /// A host name, asked of the resolver again and again.
    Host {
        /// The name, lower case.
        host: String,
        /// The port.
        port: u16,
        /// `expand = true`: each address is a target of its own.
        expand: bool,
    },
}

impl TargetAddress {
    /// The host name, if it is one.
    pub fn host(&self) -> Option<&str> {
        match self {
            TargetAddress::Socket(_) => None,
            TargetAddress::Host { host, .. } => Some(host),
        }
    }
}

impl fmt::Display for TargetAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetAddress::Socket(address) => write!(f, "{address}"),
            TargetAddress::Host { host, port, .. } => write!(f, "{host}:{port}"),
        }
    }
}

/// `[target_group.NAME.stickiness]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stickiness {
    /// What tells one client from another.
    pub key: StickinessKey,
    /// How the balancer's own cookies are written, where it has any.
    pub cookie: CookieSettings,
    /// The target never sees the balancer's cookies.
    pub hide_from_target: bool,
    /// Shared caches are told not to keep our Set-Cookie.
    pub guard_cache: bool,
    /// What becomes of a client whose target cannot serve.
    pub on_unavailable: OnUnavailable,
}

/// What tells one client from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StickinessKey {
    /// `lb_cookie`: the balancer's own cookie of this name.
    LbCookie {
        /// Its name.
        name: String,
        /// How long a pin lives.
        lifetime: Lifetime,
    },
    /// `app_cookie`: a companion of the application's cookie.
    AppCookie {
        /// The application's cookie.
        name: String,
        /// Ours is called this and `-0`.
        companion: String,
        /// How long a pin lives.
        lifetime: Lifetime,
        /// Whether a request with the application's cookie alone is given a companion.
        adopt: bool,
    },
    /// `route`: what the application appends to its own cookie.
    Route {
        /// The application's cookie.
        cookie: String,
        /// What stands before the route.
        separator: String,
    },
    /// `header`: the value of this field.
    Header(HeaderName),
}

impl StickinessKey {
    /// How long a pin lives, where there is a pin.
    pub fn lifetime(&self) -> Option<Lifetime> {
        match self {
            Self::LbCookie { lifetime, .. } | Self::AppCookie { lifetime, .. } => Some(*lifetime),
            Self::Route { .. } | Self::Header(_) => None,
        }
    }
}

/// How a cookie of the balancer's is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieSettings {
    /// When a good pin is written again.
    pub refresh: Refresh,
    /// When the twin is written.
    pub cors_twin: CorsTwin,
    /// When `Secure` is written.
    pub secure: SecureAttribute,
    /// What `secure` comes to, for everything that writes a cookie of this name.
    pub is_secure: bool,
    /// Whether `HttpOnly` is written.
    pub http_only: bool,
    /// The `SameSite` of the main cookie.
    pub same_site: SameSite,
    /// The cookie's `Path`.
    pub path: String,
    /// The cookie's `Domain`, if any.
    pub domain: Option<String>,
    /// Whether `Partitioned` is written.
    pub partitioned: bool,
}

impl Default for CookieSettings {
    /// As a group that writes none of them has it.
    fn default() -> Self {
        Self {
            refresh: Refresh::EachResponse,
            cors_twin: CorsTwin::Secure,
            secure: SecureAttribute::Auto,
            is_secure: false,
            http_only: true,
            same_site: SameSite::Unset,
            path: "/".to_owned(),
            domain: None,
            partitioned: false,
        }
    }
}

/// `[target_group.NAME.upstream]`
#[derive(Clone, Copy, Debug)]
pub struct Upstream {
    /// Dial to ready.
    pub connect: Duration,
    /// Last request byte sent to response head.
    pub response: Duration,
    /// How long an idle connection is kept.
    pub keep_alive: Duration,
    /// Connections per target and process; `None` is no bound.
    pub max_connections: Option<u32>,
    /// How many other targets may be tried.
    pub retries: u32,
    /// How long a pinned request tries its own target again that refuses; zero is not at all.
    pub reconnect: Duration,
    /// How long a pinned request waits for a place at its own target; zero is not at all.
    pub queue: Duration,
}
