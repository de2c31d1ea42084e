//! Target groups: their targets, health checks and connections.

use super::target_tls::target_tls;
use super::{health, name, stickiness};
use crate::base::name::Name;
use crate::config::keys::host_and_port;
use crate::config::node::{Node, Table, Value};
use crate::config::problem::{Problem, Problems};
use crate::config::settings::{
    Algorithm, Alpn, DrainingPins, Group, Listener, MinimumHealthy, Protocol, TargetAddress,
    TargetSettings, Upstream,
};
use crate::policy::proxy_protocol::Version;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

/// Interval of the search for anomalous targets: about every five seconds (AWS, "Automatic Target
/// Weights").
const MITIGATION_INTERVAL: Duration = Duration::from_secs(5);

/// Every group, sorted by name.
pub(super) fn groups(
    file: &Table,
    zone: Option<&Name>,
    base: &Path,
    problems: &mut Problems,
) -> Vec<Group> {
    let named = file.table("target_group");
    if file.get("target_group").is_some() && named.entries().next().is_none() {
        let problem = Problem::anywhere("no target group");
        problems.push(problem.help("add at least one `[target_group.NAME]`"));
    }
    let named = named.entries();
    named.filter_map(|(name, node)| group(name, node, zone, base, problems)).collect()
}

fn group(
    key: &str,
    node: &Node,
    zone: Option<&Name>,
    base: &Path,
    problems: &mut Problems,
) -> Option<Group> {
    let table = node.table();
    let targets = targets(table, problems);
    let cross_zone = table.flag("cross_zone");
    if let Some(written) = table.get("cross_zone").filter(|_| !cross_zone) {
        let problem = |title: &str| Problem::at(written.span.clone(), title);
        match zone {
            None => {
                let title = "`cross_zone = false` needs the zone of this balancer";
                problems.push(problem(title).help("set `zone` in `[runtime]`"));
            }
            Some(zone) if targets.iter().all(|target| target.zone.as_ref() != Some(zone)) => {
                let title = format!("no target of this group is in zone `{zone}`");
                problems.push(problem(&title).help("set `zone` on the targets").warning());
            }
            Some(_) => {}
        }
    }
    let minimum = table.table("minimum_healthy");
    let stickiness = stickiness::stickiness(table, problems);
    let algorithm = algorithm(table, stickiness.is_some(), problems);
    let protocol = match table.text("protocol") {
        "http2" => Protocol::Http2,
        "grpc" => Protocol::Grpc,
        _ => Protocol::Http1,
    };
    if let Some(written) = table.written("send_proxy").filter(|_| protocol.is_http2())
        && table.text("send_proxy") != "off"
    {
        let title = "`send_proxy` does not work with HTTP/2: a connection carries many clients, a \
                     PROXY header names one";
        let problem = Problem::at(written.span.clone(), title);
        problems.push(problem.help("remove it; X-Forwarded-For names the client of each request"));
    }
    Some(Group {
        name: Name::new(key)?,
        protocol,
        algorithm,
        anomaly_mitigation: table.flag("anomaly_mitigation").then_some(MITIGATION_INTERVAL),
        slow_start: Some(table.duration("slow_start")).filter(|time| !time.is_zero()),
        tls: target_tls(table, &targets, base, problems),
        targets,
        deregistration_delay: table.duration("deregistration_delay"),
        hold: table.duration("hold"),
        draining_pins: match table.text("draining_pins") {
            "move" => DrainingPins::Move,
            _ => DrainingPins::Stay,
        },
        fail_open: table.flag("fail_open"),
        recovery: table.duration("recovery"),
        minimum_healthy: MinimumHealthy {
            count: minimum.number("count"),
            percent: minimum.number("percent"),
        },
        max_in_flight_per_target: table.nonzero("max_in_flight_per_target"),
        cross_zone,
        announce_successor: table.flag("announce_successor"),
        tunnels_follow: tunnels_follow(table, stickiness.is_some(), problems),
        send_proxy: match table.text("send_proxy") {
            "v1" => Some(Version::V1),
            "v2" => Some(Version::V2),
            _ => None,
        },
        stickiness,
        health: health::health(table, protocol, problems)?,
        upstream: upstream(table.table("upstream")),
    })
}

/// Records groups that no client can reach: they need HTTP/2 clients, and no listener accepts
/// HTTP/2.
pub(super) fn can_be_spoken_to(listeners: &[Listener], file: &Table, problems: &mut Problems) {
    let speaks = |listener: &Listener| {
        let tls = listener.tls.as_ref();
        !listener.only_named_rules && tls.is_none_or(|tls| tls.alpn.contains(&Alpn::Http2))
    };
    if listeners.iter().any(speaks) {
        return;
    }
    for (_, group) in file.table("target_group").entries() {
        let protocol = group.table().written("protocol");
        if let Some(written) = protocol.filter(|protocol| protocol.text() != "http1") {
            let title = "no listener offers HTTP/2, so all requests to this group get 464";
            let problem = Problem::at(written.span.clone(), title);
            problems.push(problem.help("add `\"h2\"` to a listener's `tls.alpn`").warning());
        }
    }
}

/// The value of `tunnels_follow`, with a warning if the group has no pins.
fn tunnels_follow(group: &Table, is_sticky: bool, problems: &mut Problems) -> bool {
    let follows = group.flag("tunnels_follow");
    if let Some(written) = group.written("tunnels_follow").filter(|_| follows && !is_sticky) {
        let title = "`tunnels_follow` needs stickiness, which is off in this group";
        let problem = Problem::at(written.span.clone(), title);
        problems.push(problem.help("turn stickiness on, or remove `tunnels_follow`").warning());
    }
    follows
}

/// The algorithm, after checks of the keys that depend on it.
fn algorithm(group: &Table, is_sticky: bool, problems: &mut Problems) -> Algorithm {
    let algorithm = match group.text("algorithm") {
        "least_outstanding_requests" => Algorithm::LeastOutstandingRequests,
        "weighted_random" => Algorithm::WeightedRandom,
        "least_sessions" => Algorithm::LeastSessions,
        _ => Algorithm::RoundRobin,
    };
    let mitigates = group.flag("anomaly_mitigation");
    if let Some(written) = group.written("anomaly_mitigation")
        && (mitigates && algorithm != Algorithm::WeightedRandom)
    {
        let title = "`anomaly_mitigation` needs `algorithm = \"weighted_random\"`";
        let problem = Problem::at(written.span.clone(), title);
        let help = "set `algorithm = \"weighted_random\"`, or remove `anomaly_mitigation`";
        problems.push(problem.help(help));
    }
    let begins_slowly = !group.duration("slow_start").is_zero();
    if let Some(written) = group.written("slow_start")
        && (begins_slowly && algorithm != Algorithm::RoundRobin)
    {
        let title = "`slow_start` needs `algorithm = \"round_robin\"`";
        let problem = Problem::at(written.span.clone(), title);
        let help = "set `algorithm = \"round_robin\"`, or remove `slow_start`";
        problems.push(problem.help(help));
    }
    if let Some(written) = group.written("algorithm")
        && (algorithm == Algorithm::LeastSessions && !is_sticky)
    {
        let title = "`least_sessions` needs stickiness, which is off in this group";
        let problem = Problem::at(written.span.clone(), title);
        let help = "set `algorithm = \"least_outstanding_requests\"`, or turn stickiness on";
        problems.push(problem.help(help));
    }
    algorithm
}

/// The targets, sorted by id.
fn targets(group: &Table, problems: &mut Problems) -> Vec<TargetSettings> {
    let mut ids: BTreeMap<Name, Range<usize>> = BTreeMap::new();
    let mut addresses: BTreeMap<String, Range<usize>> = BTreeMap::new();
    let mut routes: BTreeMap<String, Range<usize>> = BTreeMap::new();
    let mut targets = Vec::new();
    if let Some(list) = group.get("targets").filter(|_| group.list("targets").is_empty()) {
        let empty = matches!(&list.value, Value::List(list) if list.is_empty());
        if empty && !problems.has_errors() {
            let title = "this group has no targets: all its requests get 503";
            problems.push(Problem::at(list.span.clone(), title).warning());
        }
    }
    for node in group.list("targets") {
        let Some((target, id_at, address_at)) = target(node, problems) else { continue };
        let text = target.address.to_string();
        if let Some(first) = addresses.insert(text.clone(), address_at.clone()) {
            let problem = Problem::at(address_at, format!("two targets have the address {text}"));
            problems.push(problem.other(first, "the first"));
        } else if let Some(first) = ids.insert(target.id.clone(), id_at.clone()) {
            let problem = Problem::at(id_at, format!("two targets have the id `{}`", target.id));
            problems.push(problem.other(first, "the first"));
        } else {
            let (route, route_at) = match node.table().get("route") {
                Some(route) => (route.text(), route.span.clone()),
                None => (target.id.as_str(), id_at),
            };
            if let Some(first) = routes.insert(route.into(), route_at.clone()) {
                let title = format!("two targets have the route `{route}`");
                problems.push(Problem::at(route_at, title).other(first, "the first"));
            }
        }
        targets.push(target);
    }
    targets.sort_by(|a, b| a.id.cmp(&b.id));
    targets
}

/// One target, with the places of its id and its address.
fn target(
    node: &Node,
    problems: &mut Problems,
) -> Option<(TargetSettings, Range<usize>, Range<usize>)> {
    let table = node.table();
    let written = if matches!(node.value, Value::Table(_)) { table.get("address")? } else { node };
    let expand = table.flag("expand");
    let address = match (written.text().parse::<SocketAddr>(), host_and_port(written.text())) {
        (Ok(socket), _) => {
            if let Some(expand) = table.get("expand").filter(|_| expand) {
                let title = "`expand` needs a host name, but this is an IP address";
                problems.push(Problem::at(expand.span.clone(), title).help("remove it"));
            }
            if socket.port() == 0 {
                let problem = Problem::at(written.span.clone(), "a target's port cannot be 0");
                problems.push(problem);
            }
            TargetAddress::Socket(socket)
        }
        (Err(_), Some((host, port))) => TargetAddress::Host { host, port, expand },
        (Err(_), None) => return None,
    };
    if let Some(route) = table.get("route").filter(|_| expand) {
        let title = "`route` cannot be shared by all targets of an expanded host name";
        let problem = Problem::at(route.span.clone(), title);
        problems.push(problem.help("list the addresses one by one, each with its `route`"));
    }
    let id = table.get("id").unwrap_or(written);
    let Some(checked) = Name::target_id(id.text()) else {
        let title = "the address is too long to be the target's id";
        let problem = Problem::at(id.span.clone(), title);
        problems.push(problem.help("set an id: `{ id = \"...\", address = \"...\" }`"));
        return None;
    };
    let target = TargetSettings {
        id: checked,
        address,
        weight: if table.get("weight").is_some() { table.number("weight") } else { 1 },
        zone: name(table, "zone"),
        route: table.get("route").map(|route| route.text().into()),
        drain: table.text("state") == "drain",
    };
    Some((target, id.span.clone(), written.span.clone()))
}

fn upstream(table: &Table) -> Upstream {
    let timeouts = table.table("timeouts");
    Upstream {
        connect: timeouts.duration("connect"),
        response: timeouts.duration("response"),
        keep_alive: timeouts.duration("keep_alive"),
        max_connections: table.nonzero("max_connections"),
        retries: table.number("retries"),
        reconnect: table.duration("reconnect"),
        queue: table.duration("queue"),
    }
}
