//! Listeners and rules: who connects where, and which group their requests go to.

use super::answers::response_fields;
use super::resolved;
use crate::config::node::{Node, Table, Value};
use crate::config::problem::{Problem, Problems};
use crate::config::settings::{Action, FixedResponse, Limits, Listener, ListenerTimeouts, Rule};
use crate::ground::cidr::AddressSet;
use crate::ground::name::Name;
use crate::policy::headers::desync::Mitigation;
use crate::policy::headers::forwarded::ForwardedForMode;
use crate::policy::headers::response::ResponseFields;
use crate::policy::routing::pattern::Pattern;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Every listener.
pub(super) fn listeners(file: &Table, problems: &mut Problems) -> Vec<Listener> {
    let mut taken: BTreeMap<SocketAddr, &Node> = BTreeMap::new();
    let mut listeners = Vec::new();
    for (name, node) in file.table("listener").entries() {
        let table = node.table();
        for address in table.list("address") {
            let Ok(parsed) = address.text().parse::<SocketAddr>() else { continue };
            // Port 0 is whichever is free, another each time.
            if let Some(other) = taken.insert(parsed, address).filter(|_| parsed.port() != 0) {
                // Listeners come by name here; the first is the one that stands above.
                let (first, address) = if other.span.start < address.span.start {
                    (other, address)
                } else {
                    (address, other)
                };
                let title = format!("{parsed} is listened on twice");
                let problem = Problem::at(address.span.clone(), title);
                problems.push(problem.other(first.span.clone(), "the first"));
            }
        }
        let default = table.get("default").and_then(|default| match &default.value {
            Value::Table(action) => answer(default, action, problems),
            _ => resolved(default, file, "target_group", problems).map(Action::Forward),
        });
        if !table.knows("default") && !everything_is_taken(file, name) {
            let title = format!("`listener.{name}` answers 404 to what no rule takes");
            let help = "name a group in `default`, or answer with `default = { respond = {...} }`";
            problems.push(Problem::at(node.key.clone(), title).help(help).warning());
        }
        let fields = response_fields(table, problems);
        listeners.extend(Name::new(name).map(|name| listener(name, table, default, fields)));
    }
    if file.get("listener").is_some_and(|node| node.written) && listeners.is_empty() {
        let problem = Problem::anywhere("there is no listener");
        problems.push(problem.help("write at least one `[listener.NAME]`"));
    }
    listeners
}

fn listener(
    name: Name,
    table: &Table,
    default: Option<Action>,
    response_fields: ResponseFields,
) -> Listener {
    let (timeouts, limits) = (table.table("timeouts"), table.table("limits"));
    let or_never = |key| Some(timeouts.duration(key)).filter(|time| !time.is_zero());
    Listener {
        name,
        addresses: table.list("address").iter().filter_map(|a| a.text().parse().ok()).collect(),
        default,
        allow_from: addresses(table.list("allow_from")),
        trusted_proxies: addresses(table.list("trusted_proxies")),
        x_forwarded_for: match table.text("x_forwarded_for") {
            "preserve" => ForwardedForMode::Preserve,
            "remove" => ForwardedForMode::Remove,
            _ => ForwardedForMode::Append,
        },
        client_port: table.flag("client_port"),
        preserve_host: table.flag("preserve_host"),
        drop_invalid_headers: table.flag("drop_invalid_headers"),
        desync_mitigation: match table.text("desync_mitigation") {
            "monitor" => Mitigation::Monitor,
            "strictest" => Mitigation::Strictest,
            _ => Mitigation::Defensive,
        },
        response_fields,
        debug_headers: table.flag("debug_headers"),
        timeouts: ListenerTimeouts {
            header_read: timeouts.duration("header_read"),
            idle: timeouts.duration("idle"),
            request: or_never("request"),
            max_lifetime: or_never("max_lifetime"),
        },
        limits: Limits {
            header_bytes: limits.number("header_bytes"),
            headers: limits.number("headers"),
            body_bytes: limits.nonzero("body_bytes"),
            connections: limits.number("connections"),
        },
    }
}

fn addresses(list: &[Node]) -> AddressSet {
    let range = |node: &Node| {
        let one = || node.text().parse::<IpAddr>().ok().map(IpNet::from);
        node.text().parse::<IpNet>().ok().or_else(one)
    };
    AddressSet::new(list.iter().filter_map(range).collect())
}

/// Whether a rule of this listener has no condition, so that nothing is left over.
fn everything_is_taken(file: &Table, listener: &str) -> bool {
    file.list("rule").iter().map(Node::table).any(|rule| {
        let here = rule.get("listeners").is_none()
            || rule.list("listeners").iter().any(|named| named.text() == listener);
        let any = |key, wildcards: &[&str]| {
            let patterns = rule.list(key);
            patterns.is_empty() || patterns.iter().any(|one| wildcards.contains(&one.text()))
        };
        here && any("hosts", &["*"]) && any("paths", &["*", "/*"])
    })
}

/// Every rule, in order.
pub(super) fn rules(file: &Table, problems: &mut Problems) -> Vec<Rule> {
    let mut names: BTreeMap<String, &Node> = BTreeMap::new();
    let mut rules = Vec::new();
    for (index, node) in file.list("rule").iter().enumerate() {
        let table = node.table();
        let name = table.get("name");
        let text = name.map_or_else(|| format!("rule-{}", index + 1), |name| name.text().into());
        let place = name.unwrap_or(node);
        if let Some(first) = names.insert(text.clone(), place) {
            let problem = Problem::at(place.span.clone(), format!("two rules are named `{text}`"));
            problems.push(problem.other(first.span.clone(), "the first"));
        }
        let listeners = table.get("listeners").map(|list| {
            let named = table.list("listeners");
            if named.is_empty() {
                let problem = Problem::at(list.span.clone(), "this rule holds for no listener");
                problems.push(problem.help("leave `listeners` out, and it holds for all"));
            }
            named.iter().filter_map(|one| resolved(one, file, "listener", problems)).collect()
        });
        let patterns = |key, pattern: fn(&str) -> Option<Pattern>| {
            table.list(key).iter().filter_map(|one| pattern(one.text())).collect()
        };
        let (hosts, paths) = (patterns("hosts", Pattern::host), patterns("paths", Pattern::path));
        let action = action(node, file, problems);
        if let (Some(name), Some(action)) = (Name::new(&text), action) {
            rules.push(Rule { name, listeners, hosts, paths, action });
        }
    }
    rules
}

fn action(rule: &Node, file: &Table, problems: &mut Problems) -> Option<Action> {
    let table = rule.table();
    match (table.get("forward"), table.get("respond")) {
        (Some(forward), None) => forwarded(forward, file, problems),
        (None, Some(_)) => answer(rule, table, problems),
        (Some(forward), Some(respond)) => {
            let title = "a rule does one thing: `forward` or `respond`";
            let problem = Problem::at(respond.key.clone(), title);
            problems.push(problem.other(forward.key.clone(), "it already does this"));
            None
        }
        (None, None) if ["forward", "respond", "redirect"].iter().any(|key| table.knows(key)) => {
            None
        }
        (None, None) => {
            let problem = Problem::at(rule.span.clone(), "this rule does nothing");
            problems
                .push(problem.help("write `forward = \"GROUP\"` or `respond = { status = 404 }`"));
            None
        }
    }
}

fn forwarded(forward: &Node, file: &Table, problems: &mut Problems) -> Option<Action> {
    let Value::Table(shares) = &forward.value else {
        return resolved(forward, file, "target_group", problems).map(Action::Forward);
    };
    let mut groups = Vec::new();
    for (name, share) in shares.entries() {
        let named =
            Node { span: share.key.clone(), value: Value::Text(name.into()), ..share.clone() };
        groups.push(resolved(&named, file, "target_group", problems));
    }
    let problem = match groups.len() {
        1 => return groups.pop().flatten().map(Action::Forward),
        0 => Problem::at(forward.span.clone(), "`forward` names no group"),
        _ => Problem::at(forward.span.clone(), "`forward` to several groups is not supported yet"),
    };
    problems.push(problem.help("name one group: `forward = \"GROUP\"`"));
    None
}

/// The fixed answer in `table`, which is the value of `node`.
fn answer(node: &Node, table: &Table, problems: &mut Problems) -> Option<Action> {
    let Some(written) = table.get("respond") else {
        if !table.knows("redirect") && !table.knows("respond") {
            let problem = Problem::at(node.span.clone(), "nothing is done here");
            problems.push(problem.help("name a group, or write `{ respond = { status = 404 } }`"));
        }
        return None;
    };
    let respond = written.table();
    let status = respond.get("status")?;
    let number: u16 = respond.number("status");
    if (300..400).contains(&number) {
        let title = format!("{number} cannot be a fixed answer");
        problems.push(Problem::at(status.span.clone(), title).label("a 2xx, 4xx or 5xx"));
    }
    let (content_type, body) = (respond.text("content_type").into(), respond.text("body").into());
    Some(Action::Respond(FixedResponse { status: number, content_type, body }))
}
