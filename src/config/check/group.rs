//! Target groups: who is in them, how they leave, and how they are asked.

use super::{Check, Problem};
use crate::config::reader::{Node, Table, Value};
use crate::config::settings::{
    Algorithm, DrainingPins, Group, Health, HealthProtocol, MinimumHealthy, Target, TargetAddress,
    Upstream,
};
use crate::ground::name::Name;
use crate::policy::health::matcher::Matcher;
use std::net::SocketAddr;
use std::time::Duration;

/// ALB's default time-out of a check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

impl Check<'_> {
    pub(super) fn groups(&mut self, file: &Table, has_zone: bool) -> Vec<Group> {
        let mut groups = Vec::new();
        for (name, node) in file.named("target_group") {
            let Value::Table(table) = &node.value else { continue };
            if !table.bool("cross_zone") && !has_zone {
                let problem = Problem::new(
                    table.span("cross_zone"),
                    "`cross_zone = false` needs to know this balancer's zone",
                    "here",
                );
                self.problems.push(problem.help("set runtime.zone"));
            }
            groups.extend(self.target_group(name, node, table));
        }
        self.agree_on_cookies(file, &groups);
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        groups
    }

    fn target_group(&mut self, name: &str, node: &Node, table: &Table) -> Option<Group> {
        let targets = self.targets(name, node, table);
        let health = self.health(table.table("health")?);
        let stickiness = self.stickiness(table.table("stickiness")?);
        let minimum = table.table("minimum_healthy")?;
        let cap: u32 = table.number("max_in_flight_per_target");
        Some(Group {
            name: Name::new(name)?,
            algorithm: Algorithm::RoundRobin,
            targets,
            deregistration_delay: table.duration("deregistration_delay")?,
            draining_pins: match table.word("draining_pins") {
                "move" => DrainingPins::Move,
                _ => DrainingPins::Stay,
            },
            fail_open: table.bool("fail_open"),
            minimum_healthy: MinimumHealthy {
                count: minimum.number("count"),
                percent: minimum.number("percent"),
            },
            max_in_flight_per_target: Some(cap).filter(|cap| *cap > 0),
            cross_zone: table.bool("cross_zone"),
            stickiness: stickiness?,
            health: health?,
            upstream: upstream(table.table("upstream")?)?,
        })
    }

    fn targets(&mut self, group: &str, node: &Node, table: &Table) -> Vec<Target> {
        /// ALB's quota, and the bound of the tables that are built of it.
        const MOST: usize = 10_000;
        let written = table.list("targets");
        if table.get("targets").is_none() {
            let title = format!("target group `{group}` has no targets");
            let problem = Problem::new(node.span.clone(), title, "this one");
            self.problems.push(problem.help("write `targets = [\"127.0.0.1:3001\"]`"));
        }
        if written.len() > MOST {
            self.problem(table.get("targets"), "too many targets", "at most 10,000 in a group");
        }
        let mut targets: Vec<Target> = Vec::new();
        let mut ids = std::collections::HashSet::new();
        let mut addresses = std::collections::HashSet::new();
        for node in written.iter().take(MOST) {
            let Some(target) = self.target(node) else { continue };
            if !ids.insert(target.id.clone()) {
                let at = id_node(node);
                self.problem(
                    Some(at),
                    format!("two targets of `{group}` have the id `{}`", target.id),
                    "here again",
                );
            } else if !addresses.insert(target.address.to_string()) {
                let title = format!("two targets of `{group}` are at {}", target.address);
                self.problem(Some(address_node(node)), title, "here again");
            }
            targets.push(target);
        }
        targets.sort_by(|a, b| a.id.cmp(&b.id));
        targets
    }

    fn target(&mut self, node: &Node) -> Option<Target> {
        let nothing = Table::default();
        let (text, table) = match &node.value {
            Value::Text(text) => (text.as_str(), &nothing),
            Value::Table(table) => match table.text("address") {
                Some(text) => (text, table),
                None => {
                    self.problem(Some(node), "a target needs an `address`", "here");
                    return None;
                }
            },
            _ => return None,
        };
        let Some(address) = target_address(text, table.bool("expand")) else {
            let title = format!("`{text}` is no address of a target");
            let problem = Problem::new(address_node(node).span.clone(), title, "here");
            let help = "write an address or a host name with its port, as \"10.0.0.11:3000\" or \"app.internal:3000\"";
            self.problems.push(problem.help(help));
            return None;
        };
        let id = table.text("id").unwrap_or(text);
        let Some(id) = Name::target_id(id) else {
            let title = format!("`{id}` is no id");
            let problem = Problem::new(id_node(node).span.clone(), title, "here");
            self.problems.push(
                problem.help("1 to 64 of letters, digits, `.`, `_`, `-`, `:`, `@`, `/`, `[`, `]`"),
            );
            return None;
        };
        if table.bool("expand") && matches!(address, TargetAddress::Socket(_)) {
            self.problem(
                table.get("expand"),
                "`expand` goes with a host name",
                "this is an address",
            );
        }
        let weight = if table.get("weight").is_some() { table.number("weight") } else { 1 };
        let zone = table.text("zone").and_then(Name::new);
        Some(Target { id, address, weight, zone, drain: table.word("state") == "drain" })
    }

    fn health(&mut self, table: &Table) -> Option<Health> {
        let interval = table.duration("interval")?;
        let timeout = table.duration("timeout").unwrap_or(CHECK_TIMEOUT.min(interval));
        if timeout > interval {
            let problem = Problem::new(
                table.span("timeout"),
                "a check must be over before the next",
                "longer than `interval`",
            );
            self.problems.push(problem);
        }
        let text = table.text("matcher").unwrap_or_default();
        let matcher = Matcher::http(text);
        if matcher.is_none() {
            let title = format!("`{text}` is no matcher");
            let problem = Problem::new(table.span("matcher"), title, "here");
            self.problems
                .push(problem.help("codes from 100 to 499: \"200\", \"200,202\", \"200-299\""));
        }
        let path = table.text("path").unwrap_or("/");
        let is_path =
            path.starts_with('/') && path.len() <= 1_024 && path.parse::<http::Uri>().is_ok();
        if !is_path {
            let title = format!("`{path}` is no path");
            let problem = Problem::new(table.span("path"), title, "here");
            self.problems.push(problem.help("1 to 1,024 characters, from `/`; a query may follow"));
        }
        let failures: u32 = table.table("passive")?.number("connect_failures");
        Some(Health {
            protocol: match table.word("protocol") {
                "tcp" => HealthProtocol::Tcp,
                _ => HealthProtocol::Http,
            },
            path: path.to_owned(),
            port: table.integer("port").and_then(|port| u16::try_from(port).ok()),
            interval,
            timeout,
            fast_interval: table.duration("fast_interval")?,
            healthy_threshold: table.number("healthy_threshold"),
            unhealthy_threshold: table.number("unhealthy_threshold"),
            matcher: matcher?,
            body: table.text("body").map(str::to_owned),
            connect_failures: Some(failures).filter(|failures| *failures > 0),
        })
    }
}

/// Where a target's id stands: in its table, or it is its address.
fn id_node(node: &Node) -> &Node {
    match &node.value {
        Value::Table(table) => table.get("id").or(table.get("address")).unwrap_or(node),
        _ => node,
    }
}

fn address_node(node: &Node) -> &Node {
    match &node.value {
        Value::Table(table) => table.get("address").unwrap_or(node),
        _ => node,
    }
}

fn target_address(text: &str, expand: bool) -> Option<TargetAddress> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return (address.port() != 0).then_some(TargetAddress::Socket(address));
    }
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    let label = |label: &str| {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(fine)
    };
    let labels = host.strip_suffix('.').unwrap_or(host);
    // Digits and points alone would be an address with a mistake in it.
    let is_name = labels.bytes().any(|byte| byte.is_ascii_alphabetic());
    let fits = is_name && labels.len() <= 253 && labels.split('.').all(label);
    fits.then(|| TargetAddress::Host { host: host.to_ascii_lowercase(), port, expand })
}

fn upstream(table: &Table) -> Option<Upstream> {
    let timeouts = table.table("timeouts")?;
    let most: u32 = table.number("max_connections");
    Some(Upstream {
        connect: timeouts.duration("connect")?,
        response: timeouts.duration("response")?,
        keep_alive: timeouts.duration("keep_alive")?,
        max_connections: Some(most).filter(|most| *most > 0),
        retries: table.number("retries"),
    })
}
