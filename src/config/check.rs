//! From what is written to what is meant: names resolved, ranges and conflicts held, problems
//! collected.

mod cookies;
mod group;
mod listener;
mod process;

use super::problem::{Problem, nearest};
use super::reader::{Node, Table, Value};
use super::settings::{Action, Config, FixedResponse, Rule};
use crate::ground::cidr::AddressSet;
use crate::ground::name::Name;
use crate::policy::routing::pattern::Pattern;
use ipnet::IpNet;
use std::net::IpAddr;
use std::path::Path;

/// What came of a check. There is a configuration whenever there are no problems.
pub(super) struct Checked {
    pub(super) config: Option<Config>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

/// What the parts of a check share.
struct Check<'f> {
    base: &'f Path,
    groups: Vec<String>,
    listeners: Vec<String>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

/// Checks the whole file; `problems` are those the reader found.
pub(super) fn check(file: &Table, base: &Path, problems: Vec<Problem>) -> Checked {
    let names = |key| file.named(key).iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let mut check = Check {
        base,
        groups: names("target_group"),
        listeners: names("listener"),
        problems,
        warnings: Vec::new(),
    };
    if check.listeners.is_empty() {
        check.absent("there is no listener", "[listener.web]\naddress = \"127.0.0.1:8080\"");
    }
    let runtime = check.runtime(file.table("runtime"));
    let keys = check.keys(file.table("affinity"));
    let log = check.log(file.table("log"));
    let groups = check.groups(file, runtime.as_ref().is_some_and(|runtime| runtime.zone.is_some()));
    let rules = check.rules(file.list("rule"));
    let listeners = check.all_listeners(file, &rules);
    check.warn_of_unused_groups(file, &rules, &listeners);
    let config = runtime.zip(log).map(|(runtime, log)| Config {
        runtime,
        keys,
        log,
        listeners,
        rules,
        groups,
    });
    Checked { config, problems: check.problems, warnings: check.warnings }
}

impl Check<'_> {
    fn absent(&mut self, title: &str, example: &str) {
        self.problems
            .push(Problem::new(None, title, "").help(format!("write for example\n{example}")));
    }

    fn problem(&mut self, node: Option<&Node>, title: impl Into<String>, label: impl Into<String>) {
        let span = node.and_then(|node| node.span.clone());
        self.problems.push(Problem::new(span, title, label));
    }

    fn rules(&mut self, written: &[Node]) -> Vec<Rule> {
        let mut names: Vec<String> = Vec::new();
        let mut rules = Vec::new();
        for (at, node) in written.iter().enumerate() {
            let Value::Table(rule) = &node.value else { continue };
            let fallback = format!("rule-{}", at + 1);
            let text = rule.text("name").unwrap_or(&fallback).to_owned();
            if names.contains(&text) {
                self.problem(
                    rule.get("name"),
                    format!("two rules are called `{text}`"),
                    "here again",
                );
            }
            names.push(text.clone());
            let action = self.action_of_rule(rule, node);
            let (hosts, paths) = (
                self.patterns(rule, "hosts", Pattern::host),
                self.patterns(rule, "paths", Pattern::path),
            );
            let listeners = self.listeners_of_rule(rule);
            if let (Some(name), Some(action)) = (Name::new(&text), action) {
                rules.push(Rule { name, listeners, hosts, paths, action });
            }
        }
        rules
    }

    fn listeners_of_rule(&mut self, rule: &Table) -> Option<Vec<Name>> {
        rule.get("listeners")?;
        let mut listeners = Vec::new();
        for node in rule.list("listeners") {
            let Value::Text(text) = &node.value else { continue };
            if !self.listeners.contains(text) {
                let problem = Problem::new(
                    node.span.clone(),
                    format!("there is no listener `{text}`"),
                    "unknown",
                );
                let near = nearest(text, self.listeners.iter().map(String::as_str));
                self.problems.push(match near {
                    Some(near) => problem.help(format!("did you mean `{near}`?")),
                    None => problem,
                });
            }
            listeners.extend(Name::new(text));
        }
        Some(listeners)
    }

    fn action_of_rule(&mut self, rule: &Table, whole: &Node) -> Option<Action> {
        let forward = rule.get("forward");
        match (forward, rule.table("respond")) {
            (Some(forward), None) => self.forward(forward),
            (None, Some(respond)) => self.respond(respond).map(Action::Respond),
            (Some(_), Some(_)) => {
                self.problem(forward, "a rule does one thing", "both forward and respond");
                None
            }
            // Already refused, as not supported yet.
            (None, None) if rule.get("redirect").is_some() => None,
            (None, None) => {
                let named = rule.get("name").unwrap_or(whole);
                let problem = Problem::new(named.span.clone(), "the rule does nothing", "this one");
                self.problems
                    .push(problem.help("say `forward = \"a group\"` or `respond = {...}`"));
                None
            }
        }
    }

    fn forward(&mut self, node: &Node) -> Option<Action> {
        let (name, at) = match &node.value {
            Value::Text(name) => (name, node),
            Value::Named(shares) => match shares.as_slice() {
                [(name, at)] => (name, at),
                [] => {
                    self.problem(Some(node), "`forward` names no group", "empty");
                    return None;
                }
                _ => {
                    self.problem(
                        Some(node),
                        "several groups in `forward` are not supported yet",
                        "this release forwards to one",
                    );
                    return None;
                }
            },
            _ => return None,
        };
        self.group(name, at).map(Action::Forward)
    }

    /// A group that exists.
    fn group(&mut self, name: &str, node: &Node) -> Option<Name> {
        if self.groups.iter().any(|known| known == name) {
            return Name::new(name);
        }
        let title = format!("there is no target group `{name}`");
        let problem = Problem::new(node.span.clone(), title, "unknown");
        let near = nearest(name, self.groups.iter().map(String::as_str));
        self.problems.push(match near {
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None if self.groups.is_empty() => problem.help("write a [target_group.NAME]"),
            None => problem.help(format!("there are: {}", self.groups.join(", "))),
        });
        None
    }

    fn respond(&mut self, respond: &Table) -> Option<FixedResponse> {
        const LONGEST_BODY: usize = 1_024;
        let status = respond.number::<u16>("status");
        let body = respond.text("body").unwrap_or_default();
        if !matches!(status / 100, 2 | 4 | 5) {
            self.problem(respond.get("status"), "out of range", "must be a 2xx, 4xx or 5xx");
            return None;
        }
        if body.chars().count() > LONGEST_BODY {
            self.problem(respond.get("body"), "the body is too long", "at most 1,024 characters");
            return None;
        }
        if matches!(status, 204 | 205 | 304) && !body.is_empty() {
            self.problem(respond.get("body"), format!("a {status} has no body"), "leave it out");
            return None;
        }
        let content_type = respond.word("content_type").to_owned();
        Some(FixedResponse { status, content_type, body: body.to_owned() })
    }

    fn patterns(
        &mut self,
        table: &Table,
        key: &str,
        compile: fn(&str) -> Option<Pattern>,
    ) -> Vec<Pattern> {
        let mut patterns = Vec::new();
        for node in table.list(key) {
            let Value::Text(text) = &node.value else { continue };
            match compile(text) {
                Some(pattern) => patterns.push(pattern),
                None => {
                    let title = format!("`{text}` is no pattern for `{key}`");
                    let help = match key {
                        "paths" => {
                            "1 to 128 characters, from `/`, without `#`; `*` and `?` are wildcards"
                        }
                        _ => "1 to 128 letters, digits, `.`, `-`; `*` and `?` are wildcards",
                    };
                    let problem = Problem::new(node.span.clone(), title, "here").help(help);
                    self.problems.push(problem);
                }
            }
        }
        patterns
    }

    /// Ranges and single addresses.
    fn addresses(&mut self, table: &Table, key: &str) -> AddressSet {
        let mut ranges = Vec::new();
        for node in table.list(key) {
            let Value::Text(text) = &node.value else { continue };
            let range = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            match range {
                Ok(range) => ranges.push(range),
                Err(_) => {
                    let title = format!("`{text}` is no range of addresses");
                    let problem = Problem::new(node.span.clone(), title, "here");
                    self.problems.push(
                        problem.help("write for example \"192.0.2.0/24\" or \"2001:db8::1\""),
                    );
                }
            }
        }
        AddressSet::new(ranges)
    }

    fn warn_of_unused_groups(
        &mut self,
        file: &Table,
        rules: &[Rule],
        listeners: &[super::settings::Listener],
    ) {
        let actions = rules.iter().map(|rule| &rule.action);
        let actions =
            actions.chain(listeners.iter().filter_map(|listener| listener.default.as_ref()));
        let used: Vec<&str> = actions
            .filter_map(|action| match action {
                Action::Forward(group) => Some(group.as_str()),
                Action::Respond(_) => None,
            })
            .collect();
        for (name, node) in file.named("target_group") {
            if !used.contains(&name.as_str()) {
                let title = format!("nothing goes to target group `{name}`");
                self.warnings.push(Problem::new(
                    node.span.clone(),
                    title,
                    "no rule and no default names it",
                ));
            }
        }
    }
}
