//! Stickiness: which cookie, and that groups which share its name agree about it.

use crate::config::node::{Node, Table, Value};
use crate::config::problem::{Problem, Problems};
use crate::config::settings::Stickiness;
use crate::policy::affinity::{
    CorsTwin, Lifetime, OnUnavailable, Refresh, SameSite, SecureAttribute,
};
use std::collections::BTreeMap;

const KINDS: [&str; 4] = ["lb_cookie", "app_cookie", "route", "header"];

/// What groups must have in common where their cookies have: a browser keeps one of each name, and
/// which one it keeps must not depend on who answered last.
const SHARED: [&str; 7] =
    ["path", "domain", "secure", "http_only", "same_site", "partitioned", "cors_twin"];

/// A group's stickiness; `None` when it is off.
pub(super) fn stickiness(group: &Table, problems: &mut Problems) -> Option<Stickiness> {
    let table = group.table("stickiness");
    one_kind(table, problems);
    let cookie = table.table("lb_cookie");
    if let Some(name) = cookie.get("name") {
        unreserved(name, problems);
    }
    attributes(table, problems);
    let duration = cookie.get("duration");
    let lifetime = match duration.map(|node| &node.value) {
        Some(Value::Duration(duration)) => {
            if let (Some(node), 1..) = (cookie.written("duration"), duration.subsec_nanos()) {
                let title = "a cookie's life is whole seconds";
                problems.push(Problem::at(node.span.clone(), title));
            }
            Lifetime::For(*duration)
        }
        _ => Lifetime::Session,
    };
    let stickiness = Stickiness {
        cookie: cookie.text("name").into(),
        lifetime,
        refresh: match table.text("refresh") {
            "half_life" => Refresh::HalfLife,
            "never" => Refresh::Never,
            _ => Refresh::EachResponse,
        },
        cors_twin: match table.text("cors_twin") {
            "always" => CorsTwin::Always,
            "never" => CorsTwin::Never,
            _ => CorsTwin::Secure,
        },
        secure: match table.text("secure") {
            "always" => SecureAttribute::Always,
            "never" => SecureAttribute::Never,
            _ => SecureAttribute::Auto,
        },
        http_only: table.flag("http_only"),
        same_site: match table.text("same_site") {
            "lax" => SameSite::Lax,
            "strict" => SameSite::Strict,
            "none" => SameSite::None,
            _ => SameSite::Unset,
        },
        path: table.text("path").into(),
        domain: table.get("domain").map(|domain| domain.text().into()),
        partitioned: table.flag("partitioned"),
        hide_from_target: table.flag("hide_from_target"),
        guard_cache: table.flag("guard_cache"),
        on_unavailable: match table.text("on_unavailable") {
            "strict" => OnUnavailable::Strict,
            _ => OnUnavailable::Move,
        },
    };
    table.flag("enabled").then_some(stickiness)
}

fn one_kind(table: &Table, problems: &mut Problems) {
    let mut written: Vec<_> =
        KINDS.iter().filter_map(|kind| Some((*kind, table.written(kind)?))).collect();
    written.sort_by_key(|(_, node)| node.key.start);
    if let [(first, at), (second, again), ..] = written[..] {
        let title = format!("`{first}` and `{second}` exclude each other");
        let problem = Problem::at(again.key.clone(), title).label("a second kind of stickiness");
        let problem = problem.other(at.key.clone(), "the first");
        problems.push(
            problem.help("write exactly one of `lb_cookie`, `app_cookie`, `route`, `header`"),
        );
    }
}

/// The names this balancer gives to other cookies cannot be a pin's.
fn unreserved(name: &Node, problems: &mut Problems) {
    let text = name.text();
    let other = ["AWSALBTG", "AWSALBAPP"].iter().any(|prefix| text.starts_with(prefix));
    let why = if other {
        "another kind of the balancer's cookies is called so"
    } else if text.ends_with("CORS") {
        "the twin of another cookie would be called so"
    } else {
        return;
    };
    let problem = Problem::at(name.span.clone(), format!("the cookie name `{text}` is reserved"));
    problems.push(problem.label(why).help("the usual name is \"AWSALB\""));
}

/// What browsers refuse to keep is worth a warning: it looks like stickiness that does not work.
fn attributes(table: &Table, problems: &mut Problems) {
    if table.text("secure") != "never" {
        return;
    }
    let same_site = table.written("same_site").filter(|node| node.text() == "none");
    let partitioned = table.written("partitioned").filter(|_| table.flag("partitioned"));
    for node in same_site.into_iter().chain(partitioned) {
        let title = "browsers drop such a cookie unless it is `Secure`";
        let problem = Problem::at(node.span.clone(), title);
        problems.push(problem.help("write `secure = \"auto\"` or \"always\"").warning());
    }
}

/// Holds that groups whose cookies share a name agree about them.
pub(super) fn agreement(file: &Table, problems: &mut Problems) {
    let mut first_of: BTreeMap<&str, (&str, &Table)> = BTreeMap::new();
    for (group, node) in file.table("target_group").entries() {
        let table = node.table().table("stickiness");
        let cookie = table.table("lb_cookie").text("name");
        if !table.flag("enabled") || cookie.is_empty() {
            continue;
        }
        let (other, theirs) = *first_of.entry(cookie).or_insert((group, table));
        for key in SHARED.iter().filter(|key| table.get(key) != theirs.get(key)) {
            // One of the two is written, for they differ.
            let (ours, first) = (table.written(key), theirs.written(key));
            let Some(place) = ours.or(first) else { continue };
            let title =
                format!("groups `{other}` and `{group}` disagree about `{key}` of `{cookie}`");
            let mut problem = Problem::at(place.span.clone(), title);
            if let (Some(_), Some(first)) = (ours, first) {
                problem = problem.other(first.span.clone(), format!("as `{other}` has it"));
            }
            let help = "a browser keeps one cookie of a name: let them agree, or give one a name \
                        of its own with `lb_cookie = { name = \"...\" }`";
            problems.push(problem.help(help));
        }
    }
}
