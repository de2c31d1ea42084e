//! Listeners and rules: accepted clients, and the groups to which requests go.

use super::answers::response_fields;
use super::{forward, resolved, rule, tls};
use crate::base::cidr::AddressSet;
use crate::base::name::Name;
use crate::config::keys::https_port;
use crate::config::node::{Node, Table, Value};
use crate::config::problem::{Problem, Problems};
use crate::config::settings::{
    Action, FixedResponse, Forward, Limits, Listener, ListenerTimeouts, ListenerTls, Rule,
};
use crate::policy::headers::desync::Mitigation;
use crate::policy::headers::forwarded::ForwardedForMode;
use crate::policy::headers::response::ResponseFields;
use crate::policy::routing::redirect::Redirect;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// Every listener.
pub(super) fn listeners(file: &Table, base: &Path, problems: &mut Problems) -> Vec<Listener> {
    let mut taken: BTreeMap<SocketAddr, &Node> = BTreeMap::new();
    let mut listeners = Vec::new();
    for (name, node) in file.table("listener").entries() {
        let table = node.table();
        for address in table.list("address") {
            let Ok(parsed) = address.text().parse::<SocketAddr>() else { continue };
            // Port 0 is any free port, another one each time.
            if let Some(other) = taken.insert(parsed, address).filter(|_| parsed.port() != 0) {
                // Listeners come sorted by name here; the first is the one higher up in the file.
                let (first, address) = if other.span.start < address.span.start {
                    (other, address)
                } else {
                    (address, other)
                };
                let title = format!("two listeners have the address {parsed}");
                let problem = Problem::at(address.span.clone(), title);
                problems.push(problem.other(first.span.clone(), "the first"));
            }
        }
        let default = table.get("default").and_then(|default| match &default.value {
            Value::Table(_) => answer(default, problems),
            _ => resolved(default, file, "target_group", problems)
                .map(|group| Action::Forward(Forward::to(group))),
        });
        let default = match table.get("redirect_to") {
            Some(redirect_to) => {
                tls::redirect_reaches_tls(redirect_to, file, problems);
                redirected(redirect_to, table, problems)
            }
            None => default,
        };
        if !table.knows("default")
            && !table.knows("redirect_to")
            && !everything_is_taken(file, name)
        {
            let title = format!("`listener.{name}` answers 404 to requests that no rule matches");
            let help = "set `default` to a group, or to `{ respond = {...} }`";
            problems.push(Problem::at(node.key.clone(), title).help(help).warning());
        }
        if let Some(redirect) = table.table("default").get("redirect") {
            tls::no_redirect_to_http(redirect, &[(name, table)], problems);
        }
        believed_headers(table, problems);
        let fields = response_fields(table, problems);
        let tls = tls::tls(table, base, problems);
        listeners.extend(Name::new(name).map(|name| listener(name, table, default, fields, tls)));
    }
    if file.get("listener").is_some_and(|node| node.written) && listeners.is_empty() {
        let problem = Problem::anywhere("no listener");
        problems.push(problem.help("add at least one `[listener.NAME]`"));
    }
    listeners
}

fn listener(
    name: Name,
    table: &Table,
    default: Option<Action>,
    response_fields: ResponseFields,
    tls: Option<ListenerTls>,
) -> Listener {
    let (timeouts, limits) = (table.table("timeouts"), table.table("limits"));
    let or_never = |key| Some(timeouts.duration(key)).filter(|time| !time.is_zero());
    Listener {
        name,
        addresses: table.list("address").iter().filter_map(|a| a.text().parse().ok()).collect(),
        default,
        only_named_rules: table.get("redirect_to").is_some(),
        allow_from: addresses(table.list("allow_from")),
        trusted_proxies: addresses(table.list("trusted_proxies")),
        proxy_protocol: table.flag("proxy_protocol"),
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
            streams: limits.number("streams"),
        },
        tls,
    }
}

/// The action for `redirect_to`, which is the listener's default.
fn redirected(redirect_to: &Node, listener: &Table, problems: &mut Problems) -> Option<Action> {
    if let Some(default) = listener.written("default") {
        let title = "`default` and `redirect_to` exclude each other";
        let problem = Problem::at(redirect_to.key.clone(), title);
        let problem = problem.other(default.key.clone(), "this would never be used");
        problems.push(problem.help("remove `default`, or add a rule that names the listener"));
    }
    https_port(redirect_to.text()).map(|port| Action::Redirect(Redirect::to_https(port)))
}

/// Checks `proxy_protocol`, with which only trusted proxies may connect.
fn believed_headers(listener: &Table, problems: &mut Problems) {
    if let Some(written) = listener.written("proxy_protocol")
        && listener.flag("proxy_protocol")
        && listener.list("trusted_proxies").is_empty()
        && !listener.refused("trusted_proxies")
    {
        let title = "`proxy_protocol` allows only trusted proxies to connect, but \
                     `trusted_proxies` is empty";
        let problem = Problem::at(written.key.clone(), title);
        problems.push(problem.help("add the balancers in front to `trusted_proxies`"));
    }
}

pub(super) fn addresses(list: &[Node]) -> AddressSet {
    let range = |node: &Node| {
        let one = || node.text().parse::<IpAddr>().ok().map(IpNet::from);
        node.text().parse::<IpNet>().ok().or_else(one)
    };
    AddressSet::new(list.iter().filter_map(range).collect())
}

/// Returns true if a rule of this listener has no condition, so that no request reaches the
/// default.
fn everything_is_taken(file: &Table, listener: &str) -> bool {
    file.list("rule").iter().map(Node::table).any(|rule| {
        let here = rule.get("listeners").is_none()
            || rule.list("listeners").iter().any(|named| named.text() == listener);
        let any = |key, wildcards: &[&str]| {
            let patterns = rule.list(key);
            patterns.is_empty() || patterns.iter().any(|one| wildcards.contains(&one.text()))
        };
        let asks = |key| match rule.get(key).map(|node| &node.value) {
            Some(Value::List(list)) => !list.is_empty(),
            Some(Value::Table(table)) => table.entries().next().is_some(),
            _ => false,
        };
        let asks_more = ["methods", "headers", "query", "source_ips"].into_iter().any(asks);
        here && any("hosts", &["*"]) && any("paths", &["*", "/*"]) && !asks_more
    })
}

/// Every rule, in order.
pub(super) fn rules(file: &Table, problems: &mut Problems) -> Vec<Rule> {
    let mut names: BTreeMap<String, &Node> = BTreeMap::new();
    let mut rules = Vec::new();
    rule::bound(file.list("rule"), problems);
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
                let problem = Problem::at(list.span.clone(), "this rule applies to no listener");
                problems.push(problem.help("remove `listeners` to apply it to all"));
            }
            named.iter().filter_map(|one| resolved(one, file, "listener", problems)).collect()
        });
        if let Some(redirect) = table.get("redirect") {
            tls::no_redirect_to_http(redirect, &held_for(table, file), problems);
        }
        rule::reach(node, file, problems);
        let conditions = rule::conditions(table, problems);
        let rewrite = rule::rewrite(table, problems);
        let action = action(node, file, problems);
        if let (Some(name), Some(action)) = (Name::new(&text), action) {
            rules.push(Rule { name, listeners, conditions, rewrite, action });
        }
    }
    rules
}

/// The listeners to which a rule applies.
fn held_for<'t>(rule: &Table, file: &'t Table) -> Vec<(&'t str, &'t Table)> {
    let named = rule.get("listeners").map(|_| rule.list("listeners"));
    let listeners = file.table("listener").entries().map(|(name, node)| (name, node.table()));
    let holds = |(name, listener): &(&str, &Table)| match named {
        Some(named) => named.iter().any(|one| one.text() == *name),
        None => !listener.knows("redirect_to"),
    };
    listeners.filter(holds).collect()
}

fn action(rule: &Node, file: &Table, problems: &mut Problems) -> Option<Action> {
    match only(rule.table(), &["forward", "respond", "redirect"], problems) {
        Done::Once("forward", _) => forward::forward(rule, file, problems).map(Action::Forward),
        Done::Once("redirect", redirect) => rule::redirect(redirect, problems),
        Done::Once(_, respond) => fixed(respond, problems),
        Done::Wrong => None,
        Done::Nothing => {
            let problem = Problem::at(rule.span.clone(), "this rule has no action");
            let help = "add `forward = \"GROUP\"`, `respond = { status = 404 }` or `redirect`";
            problems.push(problem.help(help));
            None
        }
    }
}

/// The action keys in a table.
enum Done<'t> {
    Once(&'static str, &'t Node),
    Nothing,
    /// More than one, or a refused one; a problem is recorded.
    Wrong,
}

fn only<'t>(table: &'t Table, keys: &[&'static str], problems: &mut Problems) -> Done<'t> {
    let written = keys.iter().filter_map(|key| Some((*key, table.get(key)?)));
    match written.collect::<Vec<_>>()[..] {
        [(key, node)] => Done::Once(key, node),
        [(_, first), (_, again), ..] => {
            let names: Vec<_> = keys.iter().map(|key| format!("`{key}`")).collect();
            let title = format!("only one action is allowed: {}", names.join(" or "));
            let problem = Problem::at(again.key.clone(), title);
            problems.push(problem.other(first.key.clone(), "the first action"));
            Done::Wrong
        }
        [] if keys.iter().any(|key| table.knows(key)) => Done::Wrong,
        [] => Done::Nothing,
    }
}

/// The action of a listener's `default` that is not a group.
fn answer(default: &Node, problems: &mut Problems) -> Option<Action> {
    match only(default.table(), &["respond", "redirect"], problems) {
        Done::Once("redirect", redirect) => rule::redirect(redirect, problems),
        Done::Once(_, respond) => fixed(respond, problems),
        Done::Wrong => None,
        Done::Nothing => {
            let problem = Problem::at(default.span.clone(), "`default` has no action");
            problems.push(problem.help("name a group, or set `{ respond = { status = 404 } }`"));
            None
        }
    }
}

/// `respond = { ... }`
fn fixed(written: &Node, problems: &mut Problems) -> Option<Action> {
    let respond = written.table();
    let status = respond.get("status")?;
    let number: u16 = respond.number("status");
    if (300..400).contains(&number) {
        let title = format!("{number} cannot be the status of a fixed response");
        problems.push(Problem::at(status.span.clone(), title).label("a 2xx, 4xx or 5xx status"));
    }
    let (content_type, body) = (respond.text("content_type").into(), respond.text("body").into());
    Some(Action::Respond(FixedResponse { status: number, content_type, body }))
}
