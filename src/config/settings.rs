//! A checked file: every name resolved, every range held, every default filled in. What is written
//! here needs no second look; how it is written in the file is in `keys.rs`.

use crate::ground::cidr::AddressSet;
use crate::ground::name::Name;
use crate::policy::affinity::keys::Key;
use crate::policy::affinity::{
    CorsTwin, Lifetime, OnUnavailable, Refresh, SameSite, SecureAttribute,
};
use crate::policy::headers::forwarded::ForwardedForMode;
use crate::policy::health::matcher::Matcher;
use crate::policy::routing::pattern::Pattern;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

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

/// `[log]`
#[derive(Clone, Debug)]
pub struct Log {
    /// The least severe level shown.
    pub level: Level,
    /// Where access records go.
    pub access_to: LogTarget,
    /// How an access record is written.
    pub access_format: AccessFormat,
}

/// Severity of the operator's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// An operator must act.
    Error,
    /// They may have to.
    Warn,
    /// A change of state, with its reason.
    Info,
    /// For the developers of Stayput.
    Debug,
    /// As debug, and more.
    Trace,
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Nowhere: no record is made.
    Off,
    /// A file, appended to.
    File(PathBuf),
}

/// How an access record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// One JSON object a line.
    Json,
    /// Application Load Balancer's 34 fields.
    Alb,
    /// Apache's combined log format.
    Combined,
    /// One short line for human eyes.
    Short,
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
    /// Who may connect.
    pub allow_from: AddressSet,
    /// Whose X-Forwarded-* is believed.
    pub trusted_proxies: AddressSet,
    /// What becomes of X-Forwarded-For.
    pub x_forwarded_for: ForwardedForMode,
    /// Whether x-stayput-verdict and x-stayput-target are shown.
    pub debug_headers: bool,
    /// `timeouts`
    pub timeouts: ListenerTimeouts,
    /// `limits`
    pub limits: Limits,
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
}

/// `[[rule]]`
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name, or `rule-N` counted from 1 where none is written.
    pub name: Name,
    /// The listeners it holds for; `None` is all.
    pub listeners: Option<Vec<Name>>,
    /// Host patterns; empty is any host.
    pub hosts: Vec<Pattern>,
    /// Path patterns; empty is any path.
    pub paths: Vec<Pattern>,
    /// What is done.
    pub action: Action,
}

/// What is done with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes to this group, which exists.
    Forward(Name),
    /// It is answered here.
    Respond(FixedResponse),
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
    /// Who serves newcomers.
    pub algorithm: Algorithm,
    /// Its targets, sorted by id.
    pub targets: Vec<Target>,
    /// How long a drained or removed target may finish.
    pub deregistration_delay: Duration,
    /// What pinned clients of a draining target do.
    pub draining_pins: DrainingPins,
    /// Use all targets when too few are healthy.
    pub fail_open: bool,
    /// How few healthy targets are too few.
    pub minimum_healthy: MinimumHealthy,
    /// Requests in flight a target may have; `None` is no cap.
    pub max_in_flight_per_target: Option<u32>,
    /// False: only targets of the balancer's own zone serve.
    pub cross_zone: bool,
    /// `None` when stickiness is off.
    pub stickiness: Option<Stickiness>,
    /// `[target_group.NAME.health]`
    pub health: Health,
    /// `[target_group.NAME.upstream]`
    pub upstream: Upstream,
}

/// Who serves a client that has no pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// In turn, by weight.
    RoundRobin,
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
pub struct Target {
    /// Its id, unique in the group.
    pub id: Name,
    /// Where it is.
    pub address: TargetAddress,
    /// Its share, 0 to 999; 0 takes no newcomers.
    pub weight: u16,
    /// Where it stands.
    pub zone: Option<Name>,
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

impl fmt::Display for TargetAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetAddress::Socket(address) => write!(f, "{address}"),
            TargetAddress::Host { host, port, .. } => write!(f, "{host}:{port}"),
        }
    }
}

/// `[target_group.NAME.stickiness]` of kind `lb_cookie`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stickiness {
    /// The cookie's name.
    pub cookie: String,
    /// How long a pin lives.
    pub lifetime: Lifetime,
    /// When a good pin is written again.
    pub refresh: Refresh,
    /// When the twin is written.
    pub cors_twin: CorsTwin,
    /// When `Secure` is written.
    pub secure: SecureAttribute,
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
    /// The target never sees the balancer's cookies.
    pub hide_from_target: bool,
    /// Shared caches are told not to keep our Set-Cookie.
    pub guard_cache: bool,
    /// What becomes of a client whose target cannot serve.
    pub on_unavailable: OnUnavailable,
}

/// `[target_group.NAME.health]`
#[derive(Clone, Debug)]
pub struct Health {
    /// How a target is asked.
    pub protocol: HealthProtocol,
    /// What is asked for, with its query.
    pub path: String,
    /// The port asked, if not the one that serves.
    pub port: Option<u16>,
    /// Time between two checks.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Time between two checks while the state is not settled.
    pub fast_interval: Duration,
    /// Passes in a row that bring a target back.
    pub healthy_threshold: u32,
    /// Failures in a row that take it out.
    pub unhealthy_threshold: u32,
    /// Accepted status codes.
    pub matcher: Matcher,
    /// Text the answer must contain.
    pub body: Option<String>,
    /// Consecutive failed connections in traffic that take a target out; `None` is never.
    pub connect_failures: Option<u32>,
}

/// How a target is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthProtocol {
    /// `GET path`.
    Http,
    /// Connecting is enough.
    Tcp,
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
}
