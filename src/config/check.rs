//! Turns the values of a file into a configuration: resolves names, finds contradictions, reads
//! files.

mod affinity;
mod answers;
mod cookies;
mod forward;
mod forward_paths;
mod group;
mod health;
mod routing;
mod rule;
mod stickiness;
mod target_tls;
mod tls;

use super::nearest::nearest;
use super::node::{Node, Table, Value};
use super::problem::{Problem, Problems};
use super::settings::{AccessFormat, Config, Level, Log, LogTarget, Runtime};
use crate::base::name::Name;
use std::io;
use std::path::Path;

/// Builds the configuration; valid only if no error was recorded. Paths in it are relative to
/// `base`.
pub(super) fn check(file: &Table, base: &Path, problems: &mut Problems) -> Config {
    let runtime = runtime(file.table("runtime"), base);
    let listeners = routing::listeners(file, base, problems);
    let mut rules = routing::rules(file, problems);
    let mut groups = group::groups(file, runtime.zone.as_ref(), base, problems);
    group::can_be_spoken_to(&listeners, file, problems);
    stickiness::agreement(file, problems);
    forward::agreement(&rules, file, problems);
    let cookies = {
        let paths = forward_paths::forward_paths(&listeners, &rules);
        let cookies = cookies::written(&paths, &rules, &groups);
        cookies::kept_and_sent(&cookies, &paths, file, problems);
        cookies
    };
    cookies::apply(&cookies, &mut rules, &mut groups);
    Config {
        keys: affinity::keys(file, base, problems),
        log: log(file.table("log"), base),
        runtime,
        listeners,
        rules,
        groups,
        cookies,
    }
}

/// Fills in defaults that depend on other keys.
pub(super) fn derive(file: &mut Table) {
    let only_group = match file.table("target_group").entries().collect::<Vec<_>>()[..] {
        [(name, _)] => Some(name.to_owned()),
        _ => None,
    };
    for listener in tables_in(file, "listener") {
        if let Some(group) = &only_group {
            // A listener with `redirect_to` has its own default.
            if !listener.knows("redirect_to") {
                fill(listener, "default", Value::Text(group.clone()));
            }
        }
    }
    for group in tables_in(file, "target_group") {
        for stickiness in table_in(group, "stickiness") {
            stickiness::only_one_kind(stickiness);
        }
        let over_tls = group.get("tls").is_some();
        let is_grpc = group.get("protocol").is_some_and(|protocol| protocol.text() == "grpc");
        for health in table_in(group, "health") {
            health::derive(health, over_tls, is_grpc);
        }
    }
}

fn fill(table: &mut Table, key: &str, value: Value) {
    if table.get(key).is_none() {
        table.insert(key, Node { span: 0..0, key: 0..0, written: false, value });
    }
}

fn tables_in<'t>(table: &'t mut Table, key: &str) -> impl Iterator<Item = &'t mut Table> {
    table_in(table, key).flat_map(|named| {
        named.entries_mut().filter_map(|(_, node)| match &mut node.value {
            Value::Table(table) => Some(table),
            _ => None,
        })
    })
}

fn table_in<'t>(table: &'t mut Table, key: &str) -> impl Iterator<Item = &'t mut Table> {
    table.get_mut(key).into_iter().filter_map(|node| match &mut node.value {
        Value::Table(table) => Some(table),
        _ => None,
    })
}

fn runtime(table: &Table, base: &Path) -> Runtime {
    Runtime {
        workers: table.nonzero("workers"),
        zone: name(table, "zone"),
        drain_timeout: table.duration("drain_timeout"),
        pre_drain_delay: table.duration("pre_drain_delay"),
        state_dir: table.get("state_dir").map(|path| base.join(path.text())),
    }
}

fn log(table: &Table, base: &Path) -> Log {
    let access = table.table("access");
    Log {
        level: match table.text("level") {
            "error" => Level::Error,
            "warn" => Level::Warn,
            "debug" => Level::Debug,
            "trace" => Level::Trace,
            _ => Level::Info,
        },
        access_to: match access.text("to") {
            "stdout" => LogTarget::Stdout,
            "stderr" => LogTarget::Stderr,
            "off" => LogTarget::Off,
            path => LogTarget::File(base.join(path)),
        },
        access_format: match access.text("format") {
            "alb" => AccessFormat::Alb,
            "combined" => AccessFormat::Combined,
            "short" => AccessFormat::Short,
            _ => AccessFormat::Json,
        },
    }
}

fn name(table: &Table, key: &str) -> Option<Name> {
    table.get(key).and_then(|node| Name::new(node.text()))
}

/// Reason why a file cannot be read, in the same words on every system; error numbers differ.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        io::ErrorKind::IsADirectory => "is a directory".into(),
        _ => error.to_string(),
    }
}

/// Returns the name if the file has `[TABLE.NAME]`; else records a problem.
fn resolved(node: &Node, file: &Table, table: &str, problems: &mut Problems) -> Option<Name> {
    let wanted = node.text();
    if file.table(table).knows(wanted) {
        return Name::new(wanted);
    }
    let what = table.replace('_', " ");
    let problem = Problem::at(node.span.clone(), format!("no {what} named `{wanted}`"));
    problems.push(match nearest(wanted, file.table(table).entries().map(|(name, _)| name)) {
        Some(meant) => problem.label(format!("did you mean `{meant}`?")),
        None => problem.help(format!("add `[{table}.{wanted}]`, or use an existing name")),
    });
    None
}
