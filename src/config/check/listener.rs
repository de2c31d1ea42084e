//! Listeners: where they listen, and what no rule takes.

use super::{Check, Problem};
use crate::config::reader::{Node, Table, Value};
use crate::config::settings::{Action, Limits, Listener, ListenerTimeouts, Rule};
use crate::ground::name::Name;
use crate::policy::headers::forwarded::ForwardedForMode;
use std::net::SocketAddr;
use std::time::Duration;

impl Check<'_> {
    pub(super) fn all_listeners(&mut self, file: &Table, rules: &[Rule]) -> Vec<Listener> {
        let mut taken: Vec<SocketAddr> = Vec::new();
        let mut listeners = Vec::new();
        for (name, node) in file.named("listener") {
            let Value::Table(table) = &node.value else { continue };
            let addresses = self.listening_addresses(name, node, table, &mut taken);
            let default = self.default_of(table);
            let catches_all = |rule: &Rule| {
                let holds = |names: &Vec<Name>| names.iter().any(|held| held.as_str() == name);
                rule.hosts.is_empty()
                    && rule.paths.is_empty()
                    && rule.listeners.as_ref().is_none_or(holds)
            };
            if default.is_none() && self.groups.len() > 1 && !rules.iter().any(catches_all) {
                let title = format!("listener `{name}` has no default");
                let problem =
                    Problem::new(node.span.clone(), title, "what no rule takes is answered 404");
                self.warnings.push(problem.help("write `default = \"a group\"`"));
            }
            let listener = Name::new(name).and_then(|name| {
                Some(Listener {
                    name,
                    addresses,
                    default,
                    allow_from: self.addresses(table, "allow_from"),
                    trusted_proxies: self.addresses(table, "trusted_proxies"),
                    x_forwarded_for: match table.word("x_forwarded_for") {
                        "preserve" => ForwardedForMode::Preserve,
                        "remove" => ForwardedForMode::Remove,
                        _ => ForwardedForMode::Append,
                    },
                    debug_headers: table.bool("debug_headers"),
                    timeouts: timeouts(table.table("timeouts")?)?,
                    limits: limits(table.table("limits")?),
                })
            });
            listeners.extend(listener);
        }
        listeners
    }

    fn listening_addresses(
        &mut self,
        name: &str,
        node: &Node,
        table: &Table,
        taken: &mut Vec<SocketAddr>,
    ) -> Vec<SocketAddr> {
        let written: Vec<&Node> = match table.get("address") {
            Some(Node { value: Value::List(list), .. }) => list.iter().collect(),
            Some(one) => vec![one],
            None => Vec::new(),
        };
        if written.is_empty() {
            let title = format!("listener `{name}` listens nowhere");
            let problem = Problem::new(node.span.clone(), title, "this one");
            self.problems.push(problem.help("write `address = \"127.0.0.1:8080\"`"));
        }
        let mut addresses = Vec::new();
        for node in written {
            let Value::Text(text) = &node.value else { continue };
            match text.parse::<SocketAddr>() {
                Ok(address) if address.port() != 0 && taken.contains(&address) => {
                    self.problem(
                        Some(node),
                        format!("{address} is taken by a listener above"),
                        "here again",
                    );
                }
                Ok(address) => {
                    taken.push(address);
                    addresses.push(address);
                }
                Err(_) => {
                    let title = format!("`{text}` is no address to listen on");
                    let problem = Problem::new(node.span.clone(), title, "here");
                    self.problems
                        .push(problem.help("write for example \"0.0.0.0:80\" or \"[::]:80\""));
                }
            }
        }
        addresses
    }

    fn default_of(&mut self, table: &Table) -> Option<Action> {
        match table.get("default") {
            None => match self.groups.as_slice() {
                [only] => Name::new(only).map(Action::Forward),
                _ => None,
            },
            Some(node) => match &node.value {
                Value::Text(group) => self.group(group, node).map(Action::Forward),
                Value::Table(default) => match default.table("respond") {
                    Some(respond) => self.respond(respond).map(Action::Respond),
                    None => {
                        self.problem(
                            Some(node),
                            "`default` does nothing",
                            "name a group, or say { respond = {...} }",
                        );
                        None
                    }
                },
                _ => None,
            },
        }
    }
}

fn timeouts(table: &Table) -> Option<ListenerTimeouts> {
    let unless_zero = |key| table.duration(key).filter(|duration| *duration > Duration::ZERO);
    Some(ListenerTimeouts {
        header_read: table.duration("header_read")?,
        idle: table.duration("idle")?,
        request: unless_zero("request"),
        max_lifetime: unless_zero("max_lifetime"),
    })
}

fn limits(table: &Table) -> Limits {
    Limits {
        header_bytes: usize::try_from(table.size("header_bytes")).unwrap_or(usize::MAX),
        headers: table.number("headers"),
        body_bytes: Some(table.size("body_bytes")).filter(|bytes| *bytes > 0),
        connections: table.number("connections"),
    }
}
