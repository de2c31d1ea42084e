//! `[target_group.NAME.health]`: health checks of targets.

use crate::policy::health::matcher::Matcher;
use std::time::Duration;

/// `[target_group.NAME.health]`
#[derive(Clone, Debug)]
pub struct Health {
    /// Protocol of the check.
    pub protocol: HealthProtocol,
    /// Request path, with its query.
    pub path: String,
    /// Port of the check; `None` is the port for traffic.
    pub port: Option<u16>,
    /// Time between two checks.
    pub interval: Duration,
    /// Maximum time for a response.
    pub timeout: Duration,
    /// Time between two checks while the state is not settled.
    pub fast_interval: Duration,
    /// Number of passed checks in a row that make a target healthy.
    pub healthy_threshold: u32,
    /// Number of failed checks in a row that make a target unhealthy.
    pub unhealthy_threshold: u32,
    /// Status codes with which a check passes.
    pub matcher: Matcher,
    /// Text that the response must contain.
    pub body: Option<String>,
    /// True if status 404 drains the target.
    pub drain_on_404: bool,
    /// Number of failed connections for traffic in a row that make a target unhealthy; `None` is
    /// never.
    pub connect_failures: Option<u32>,
}

/// The method of gRPC's own health checks ("GRPC Health Checking Protocol").
pub const GRPC_HEALTH_PATH: &str = "/grpc.health.v1.Health/Check";

/// Protocol of a health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthProtocol {
    /// `GET path`.
    Http,
    /// `GET path` over TLS: with the group's `tls`, or without verification if it has none.
    Https,
    /// A gRPC call to `path` over HTTP/2, with TLS if the group has `tls`.
    Grpc,
    /// A TCP connection, without a request.
    Tcp,
}
