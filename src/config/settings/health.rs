//! `[target_group.NAME.health]`: how targets are asked.

use crate::policy::health::matcher::Matcher;
use std::time::Duration;

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
    /// Whether 404 asks for a drain.
    pub drain_on_404: bool,
    /// Consecutive failed connections in traffic that take a target out; `None` is never.
    pub connect_failures: Option<u32>,
}

/// The method of gRPC's own health checks ("GRPC Health Checking Protocol").
pub const GRPC_HEALTH_PATH: &str = "/grpc.health.v1.Health/Check";

/// How a target is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthProtocol {
    /// `GET path`.
    Http,
    /// The same over TLS: as the group's `tls` says, or, where it has none, whatever the certificate.
    Https,
    /// A gRPC call to `path`, over HTTP/2, and over TLS where the group has `tls`.
    Grpc,
    /// Connecting is enough.
    Tcp,
}
