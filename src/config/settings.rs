//! The checked configuration: names resolved, ranges checked, defaults filled in. Other code uses
//! these values without further checks; the syntax of the file is in `keys.rs`.

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
    /// `[affinity]`: the configured keys in their order, the first seals; empty if the table is
    /// absent, and then a key is generated.
    pub keys: Vec<Key>,
    /// `[log]`
    pub log: Log,
    /// `[listener.*]`, in the file's order of names.
    pub listeners: Vec<Listener>,
    /// `[[rule]]`, in order: the first match wins.
    pub rules: Vec<Rule>,
    /// `[target_group.*]`, sorted by name, so that the order in the file changes nothing.
    pub groups: Vec<Group>,
    /// The cookies that groups and rules write, with the listeners that lead to them; sorted by
    /// name.
    pub cookies: Vec<WrittenCookie>,
}

/// `[runtime]`
#[derive(Clone, Debug)]
pub struct Runtime {
    /// Number of workers; `None` is one per core.
    pub workers: Option<usize>,
    /// Zone of this balancer.
    pub zone: Option<Name>,
    /// Maximum time for requests in flight to finish after SIGTERM.
    pub drain_timeout: Duration,
    /// Time after SIGTERM in which new connections are still accepted.
    pub pre_drain_delay: Duration,
    /// `state_dir`; if `None`, `run` chooses one.
    pub state_dir: Option<PathBuf>,
}

/// `[listener.NAME]`
#[derive(Clone, Debug)]
pub struct Listener {
    /// Name of the listener.
    pub name: Name,
    /// Listening addresses; never empty.
    pub addresses: Vec<SocketAddr>,
    /// Action for requests that match no rule. `None` (404) if none is written and there are
    /// several groups.
    pub default: Option<Action>,
    /// True if `redirect_to` is set: only rules that name this listener apply to it.
    pub only_named_rules: bool,
    /// Addresses that may connect.
    pub allow_from: AddressSet,
    /// Peers whose X-Forwarded-* fields and PROXY headers are believed.
    pub trusted_proxies: AddressSet,
    /// True if connections open with a PROXY header; `trusted_proxies` is then not empty.
    pub proxy_protocol: bool,
    /// Treatment of X-Forwarded-For.
    pub x_forwarded_for: ForwardedForMode,
    /// True if the appended X-Forwarded-For entry includes the client's port.
    pub client_port: bool,
    /// True if Host reaches the target as sent; else it is normalised as by ALB.
    pub preserve_host: bool,
    /// True if fields are dropped whose names have characters other than letters, digits and `-`.
    pub drop_invalid_headers: bool,
    /// Treatment of requests that two servers may read differently.
    pub desync_mitigation: Mitigation,
    /// `response_headers` and `server`: header fields set in every response.
    pub response_fields: ResponseFields,
    /// True if responses carry x-stayput-verdict and x-stayput-target.
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
    /// Time from accept, or a request's first byte, to the end of its head.
    pub header_read: Duration,
    /// Time without a byte in either direction.
    pub idle: Duration,
    /// Time from the complete head to the last request byte; `None` is no limit.
    pub request: Option<Duration>,
    /// Age after which the connection closes with the next response; `None` is never.
    pub max_lifetime: Option<Duration>,
}

/// `limits` of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum size of a request head, in bytes.
    pub header_bytes: usize,
    /// Maximum number of header fields in a request.
    pub headers: usize,
    /// Maximum size of a request body, in bytes; `None` is no limit.
    pub body_bytes: Option<u64>,
    /// Maximum number of open client connections of this listener.
    pub connections: u32,
    /// Maximum number of concurrent requests on one HTTP/2 connection.
    pub streams: u32,
}

/// `[[rule]]`
#[derive(Clone, Debug)]
pub struct Rule {
    /// Name of the rule; without a name, `rule-N` counted from 1.
    pub name: Name,
    /// Listeners of the rule; `None` is all listeners that accept rules without `listeners`.
    pub listeners: Option<Vec<Name>>,
    /// Conditions on a request.
    pub conditions: Conditions,
    /// Changes to the request before it is forwarded.
    pub rewrite: Option<Rewrite>,
    /// The action for matching requests.
    pub action: Action,
}

impl Rule {
    /// Returns true if the rule applies to this listener.
    pub fn holds_for(&self, listener: &Listener) -> bool {
        match &self.listeners {
            Some(names) => names.contains(&listener.name),
            None => !listener.only_named_rules,
        }
    }
}

/// The action of a rule or listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send the request to one of these groups.
    Forward(Forward),
    /// Answer with a fixed response.
    Respond(FixedResponse),
    /// Redirect the client.
    Redirect(Redirect),
}

/// `failback`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failback {
    /// A client returns to its own group as soon as that can serve again.
    Return,
    /// A client stays in the other group.
    Stay,
}

/// `forward`, `group_stickiness`, `failover` and `failback`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The groups, which all exist, with their weights, 0 to 999; sorted by name, never empty.
    pub groups: Vec<(Name, u16)>,
    /// Group stickiness; `None` if it is off.
    pub stickiness: Option<GroupStickiness>,
    /// True if a group without a usable target leaves its share to the other groups.
    pub failover: bool,
    /// Treatment of failed-over clients once their own group has a usable target again.
    pub failback: Failback,
}

impl Forward {
    /// Forwards to one group.
    pub fn to(group: Name) -> Self {
        let groups = vec![(group, 1)];
        Self { groups, stickiness: None, failover: false, failback: Failback::Return }
    }
}

/// `group_stickiness`: keeps a client with the group that its rule chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStickiness {
    /// Lifetime of a pin to a group.
    pub lifetime: Lifetime,
    /// Attributes of the group cookie: those of the first sticky group by name.
    pub cookie: CookieSettings,
}

/// `respond = { status, content_type, body }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedResponse {
    /// Status from 200 to 599: 2xx, 4xx or 5xx.
    pub status: u16,
    /// The Content-Type, if there is a body.
    pub content_type: String,
    /// The body, at most 1,024 characters (ALB's bound).
    pub body: String,
}

/// `[target_group.NAME]`
#[derive(Clone, Debug)]
pub struct Group {
    /// Name of the group.
    pub name: Name,
    /// Protocol towards the targets.
    pub protocol: Protocol,
    /// Algorithm that chooses a target for a new client.
    pub algorithm: Algorithm,
    /// Interval at which the failures of the targets are compared; `None` if mitigation is off.
    pub anomaly_mitigation: Option<Duration>,
    /// Time until a new target gets its whole share of new clients; `None` if slow start is off.
    pub slow_start: Option<Duration>,
    /// TLS towards the targets; `None` if connections are plain.
    pub tls: Option<TargetTls>,
    /// Its targets, sorted by id.
    pub targets: Vec<TargetSettings>,
    /// Maximum time for a drained or removed target to finish.
    pub deregistration_delay: Duration,
    /// Time for which an address is held after its host name stops listing it, before it drains.
    pub hold: Duration,
    /// Treatment of pinned clients of a draining target.
    pub draining_pins: DrainingPins,
    /// True if all targets are used when too few are healthy.
    pub fail_open: bool,
    /// Time after an outage in which clients keep their targets; zero if recovery is off.
    pub recovery: Duration,
    /// Minimum of healthy targets, below which the group fails open.
    pub minimum_healthy: MinimumHealthy,
    /// Maximum number of requests in flight per target; `None` is no cap.
    pub max_in_flight_per_target: Option<u32>,
    /// True if targets of other zones are used too.
    pub cross_zone: bool,
    /// True if requests to a target name the client's successor.
    pub announce_successor: bool,
    /// True if a tunnel ends when its client's pin has moved.
    pub tunnels_follow: bool,
    /// Version of the PROXY header on connections to targets; `None` if none is sent.
    pub send_proxy: Option<proxy_protocol::Version>,
    /// Stickiness of the group; `None` if it is off.
    pub stickiness: Option<Stickiness>,
    /// `[target_group.NAME.health]`
    pub health: Health,
    /// `[target_group.NAME.upstream]`
    pub upstream: Upstream,
}

/// Protocol towards the targets.
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
    /// Returns true if connections are HTTP/2.
    pub fn is_http2(self) -> bool {
        self != Self::Http1
    }
}

/// Algorithm that chooses a target for a client without a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// In turn, by weight.
    RoundRobin,
    /// The target with the fewest requests in flight for its weight.
    LeastOutstandingRequests,
    /// At random, by weight.
    WeightedRandom,
    /// The target that has seen the fewest clients for its weight.
    LeastSessions,
}

impl Group {
    /// Maximum number of requests in flight per target, if they are counted: for a cap, or because
    /// the algorithm compares them. `None` if they are not counted.
    pub fn in_flight_bound(&self) -> Option<u32> {
        let compared = self.algorithm == Algorithm::LeastOutstandingRequests;
        self.max_in_flight_per_target.or(compared.then_some(u32::MAX))
    }
}

/// Treatment of pinned clients of a draining target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainingPins {
    /// Clients stay until the delay is over.
    Stay,
    /// Clients move at once, as with ALB.
    Move,
}

/// `minimum_healthy`: the group fails open below either of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinimumHealthy {
    /// Minimum number of healthy targets.
    pub count: u32,
    /// Minimum percentage of the registered targets; 0 is off.
    pub percent: u8,
}

/// One entry of `targets`.
#[derive(Clone, Debug)]
pub struct TargetSettings {
    /// Id of the target, unique in the group.
    pub id: Name,
    /// Address or host name of the target.
    pub address: TargetAddress,
    /// Weight, 0 to 999; with 0 the target gets no new clients.
    pub weight: u16,
    /// Zone of the target.
    pub zone: Option<Name>,
    /// Suffix that the application appends to a session id; `None` is the id of the target.
    pub route: Option<String>,
    /// `state = "drain"`
    pub drain: bool,
}

/// Address of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetAddress {
    /// A socket address.
    Socket(SocketAddr),
    /// A host name, which is resolved again and again.
    Host {
        /// The host name, lower case.
        host: String,
        /// The port.
        port: u16,
        /// True if each address is a target of its own.
        expand: bool,
    },
}

impl TargetAddress {
    /// The host name; `None` for a socket address.
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
    /// The key by which clients are distinguished.
    pub key: StickinessKey,
    /// Attributes of the balancer's own cookies, if the group has any.
    pub cookie: CookieSettings,
    /// True if the balancer's cookies are removed from requests to targets.
    pub hide_from_target: bool,
    /// True if shared caches are instructed not to store the balancer's Set-Cookie.
    pub guard_cache: bool,
    /// Treatment of a client whose target cannot serve.
    pub on_unavailable: OnUnavailable,
}

/// The key by which clients are distinguished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StickinessKey {
    /// `lb_cookie`: a cookie of the balancer.
    LbCookie {
        /// Name of the cookie.
        name: String,
        /// Lifetime of a pin.
        lifetime: Lifetime,
    },
    /// `app_cookie`: the balancer's companion to the application's cookie.
    AppCookie {
        /// Name of the application's cookie.
        name: String,
        /// Name of the companion without its suffix `-0`.
        companion: String,
        /// Lifetime of a pin.
        lifetime: Lifetime,
        /// True if a request with the application's cookie but no companion is given a companion.
        adopt: bool,
    },
    /// `route`: a suffix that the application appends to its own cookie.
    Route {
        /// Name of the application's cookie.
        cookie: String,
        /// Text before the route.
        separator: String,
    },
    /// `header`: the value of this header field.
    Header(HeaderName),
}

impl StickinessKey {
    /// Lifetime of a pin; `None` for kinds without pins.
    pub fn lifetime(&self) -> Option<Lifetime> {
        match self {
            Self::LbCookie { lifetime, .. } | Self::AppCookie { lifetime, .. } => Some(*lifetime),
            Self::Route { .. } | Self::Header(_) => None,
        }
    }
}

/// Attributes of a cookie of the balancer, and the rules for writing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieSettings {
    /// Condition for writing a valid pin again.
    pub refresh: Refresh,
    /// Condition for writing the CORS twin.
    pub cors_twin: CorsTwin,
    /// Condition for the attribute `Secure`.
    pub secure: SecureAttribute,
    /// Result of `secure`: the same for all groups and rules that write a cookie of this name.
    pub is_secure: bool,
    /// True if `HttpOnly` is set.
    pub http_only: bool,
    /// `SameSite` of the main cookie.
    pub same_site: SameSite,
    /// `Path` of the cookie.
    pub path: String,
    /// `Domain` of the cookie, if any.
    pub domain: Option<String>,
    /// True if `Partitioned` is set.
    pub partitioned: bool,
}

impl Default for CookieSettings {
    /// The defaults of a group's keys.
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
    /// Time from the dial until the connection is ready.
    pub connect: Duration,
    /// Time from the last request byte sent to the response head.
    pub response: Duration,
    /// Time for which an idle connection is kept.
    pub keep_alive: Duration,
    /// Maximum number of connections per target and process; `None` is no bound.
    pub max_connections: Option<u32>,
    /// Maximum number of other targets to try.
    pub retries: u32,
    /// Time for which a pinned request dials its own target again after a refusal; zero is off.
    pub reconnect: Duration,
    /// Time for which a pinned request waits for a slot at its own target; zero is off.
    pub queue: Duration,
}
