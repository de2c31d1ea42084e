//! `[target_group.NAME.health]`: health checks and the responses that pass.

use super::fill;
use crate::config::node::{Table, Value};
use crate::config::problem::{Problem, Problems};
use crate::config::quantity::duration_text;
use crate::config::settings::{GRPC_HEALTH_PATH, Health, HealthProtocol, Protocol};
use crate::policy::health::matcher::Matcher;
use std::time::Duration;

/// Default path and status of gRPC checks: status 12 (unimplemented) comes only from a gRPC server
/// (AWS, "Health checks for your target groups").
const GRPC_PATH: &str = "/AWS.ALB/healthcheck";
const GRPC_MATCHER: &str = "12";

/// Fills in defaults that depend on the group.
pub(super) fn derive(health: &mut Table, over_tls: bool, group_is_grpc: bool) {
    let protocol = match (group_is_grpc, over_tls) {
        (true, _) => "grpc",
        (false, true) => "https",
        (false, false) => "http",
    };
    fill(health, "protocol", Value::Word(protocol));
    let is_grpc = health.text("protocol") == "grpc";
    fill(health, "path", Value::Text(if is_grpc { GRPC_PATH } else { "/" }.to_owned()));
    let matcher = match (is_grpc, health.text("path")) {
        (false, _) => "200",
        // A server of this method answers with status OK, and reports its health in the message.
        (true, GRPC_HEALTH_PATH) => "0",
        (true, _) => GRPC_MATCHER,
    };
    fill(health, "matcher", Value::Text(matcher.to_owned()));
    let timeout = health.duration("interval").min(Duration::from_secs(5));
    fill(health, "timeout", Value::Duration(timeout));
}

/// The `health` table of a group.
pub(super) fn health(group: &Table, spoken: Protocol, problems: &mut Problems) -> Option<Health> {
    let table = group.table("health");
    let (interval, timeout) = (table.duration("interval"), table.duration("timeout"));
    if let Some(written) = table.written("timeout").filter(|_| timeout > interval) {
        let title = "health check `timeout` is longer than `interval`";
        let label = format!("at most {}, the `interval`", duration_text(interval));
        problems.push(Problem::at(written.span.clone(), title).label(label));
    }
    let protocol = match table.text("protocol") {
        "tcp" => HealthProtocol::Tcp,
        "https" => HealthProtocol::Https,
        "grpc" => HealthProtocol::Grpc,
        _ => HealthProtocol::Http,
    };
    if protocol == HealthProtocol::Grpc {
        fits_grpc(table, spoken, problems);
    }
    let matcher = matcher(table, protocol, problems)?;
    let drain_on_404 = table.flag("drain_on_404");
    if let Some(written) = table.get("matcher").filter(|_| drain_on_404 && matcher.accepts(404)) {
        let title = "404 cannot both pass a health check and request a drain";
        let problem = Problem::at(written.span.clone(), title);
        problems.push(problem.help("remove 404 from `matcher`, or remove `drain_on_404`"));
    }
    Some(Health {
        protocol,
        path: table.text("path").into(),
        port: table.nonzero("port"),
        interval,
        timeout,
        fast_interval: table.duration("fast_interval"),
        healthy_threshold: table.number("healthy_threshold"),
        unhealthy_threshold: table.number("unhealthy_threshold"),
        matcher,
        body: table.get("body").map(|body| body.text().into()),
        drain_on_404,
        connect_failures: table.table("passive").nonzero("connect_failures"),
    })
}

/// The codes that pass; `None` if they are no codes of this protocol.
fn matcher(table: &Table, protocol: HealthProtocol, problems: &mut Problems) -> Option<Matcher> {
    let text = table.text("matcher");
    let (read, other, codes) = match protocol {
        HealthProtocol::Grpc => (Matcher::grpc(text), "http", "gRPC status codes are 0 to 99"),
        _ => (Matcher::http(text), "grpc", "HTTP status codes that can pass are 100 to 499"),
    };
    if let (None, Some(written)) = (&read, table.written("matcher")) {
        let title = format!("not status codes of `{}` health checks", table.text("protocol"));
        let problem = Problem::at(written.span.clone(), title).label(codes);
        problems.push(problem.help(format!("change them, or set `protocol = \"{other}\"`")));
    }
    read
}

/// Records what does not fit gRPC checks: a group over HTTP/1.1, and keys for other checks.
fn fits_grpc(table: &Table, spoken: Protocol, problems: &mut Problems) {
    if let Some(written) = table.written("protocol").filter(|_| !spoken.is_http2()) {
        let title = "gRPC health checks need HTTP/2, but this group uses HTTP/1.1";
        let problem = Problem::at(written.span.clone(), title);
        problems.push(problem.help("set the group's `protocol` to \"grpc\" or \"http2\""));
    }
    let mut refuse = |key: &str, title: &str| {
        if let Some(written) = table.written(key) {
            let problem = Problem::at(written.span.clone(), title);
            problems
                .push(problem.help("remove it, or set the health check's `protocol = \"http\"`"));
        }
    };
    refuse("body", "`body` does not work with gRPC health checks");
    if table.flag("drain_on_404") {
        refuse("drain_on_404", "`drain_on_404` does not work with gRPC health checks");
    }
}
