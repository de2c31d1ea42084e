//! Stickiness: its kind and cookie, and agreement of groups that share a cookie name.

use crate::config::node::{Node, Table, Value};
use crate::config::problem::{Problem, Problems};
use crate::config::settings::{CookieSettings, Stickiness, StickinessKey};
use crate::policy::affinity::app_cookie::companion_name;
use crate::policy::affinity::token::MAX_PINS;
use crate::policy::affinity::{
    CorsTwin, Lifetime, OnUnavailable, Refresh, SameSite, SecureAttribute,
};
use http::HeaderName;
use std::collections::BTreeMap;

const KINDS: [&str; 4] = ["lb_cookie", "app_cookie", "route", "header"];

/// Keys in which groups with the same cookie name must agree: a browser keeps one cookie per name,
/// and its attributes must not depend on which group answered last.
const SHARED: [&str; 7] =
    ["path", "domain", "secure", "http_only", "same_site", "partitioned", "cors_twin"];

/// Stickiness of a group; `None` if it is off.
pub(super) fn stickiness(group: &Table, problems: &mut Problems) -> Option<Stickiness> {
    let table = group.table("stickiness");
    let key = key(table, problems);
    let stickiness = Stickiness {
        key: key?,
        cookie: cookie(table),
        hide_from_target: table.flag("hide_from_target"),
        guard_cache: table.flag("guard_cache"),
        on_unavailable: match table.text("on_unavailable") {
            "strict" => OnUnavailable::Strict,
            _ => OnUnavailable::Move,
        },
    };
    table.flag("enabled").then_some(stickiness)
}

/// The kind of stickiness that the file sets, with its settings; `lb_cookie` if it sets none.
fn key(table: &Table, problems: &mut Problems) -> Option<StickinessKey> {
    one_kind(table, problems);
    let kind = kind(table);
    let settings = table.table(kind);
    Some(match kind {
        "app_cookie" => {
            let (name, companion) = (settings.get("name")?, settings.get("companion")?);
            not_the_balancers(name, problems);
            unreserved(companion, &["AWSALBTG"], "AWSALBAPP", problems);
            StickinessKey::AppCookie {
                name: name.text().into(),
                companion: companion.text().into(),
                lifetime: lifetime(settings, problems),
                adopt: settings.flag("adopt"),
            }
        }
        "route" => StickinessKey::Route {
            cookie: settings.get("cookie")?.text().into(),
            separator: settings.text("separator").into(),
        },
        "header" => StickinessKey::Header(HeaderName::try_from(settings.get("name")?.text()).ok()?),
        _ => {
            if let Some(name) = settings.get("name") {
                unreserved(name, &["AWSALBTG", "AWSALBAPP"], "AWSALB", problems);
            }
            let lifetime = lifetime(settings, problems);
            StickinessKey::LbCookie { name: settings.text("name").into(), lifetime }
        }
    })
}

/// Name of the written kind; default `lb_cookie`.
pub(super) fn kind(table: &Table) -> &'static str {
    KINDS.into_iter().find(|kind| table.written(kind).is_some()).unwrap_or("lb_cookie")
}

/// Removes the default of `lb_cookie` if another kind is written.
pub(super) fn only_one_kind(table: &mut Table) {
    if kind(table) != "lb_cookie" && table.written("lb_cookie").is_none() {
        table.remove("lb_cookie");
    }
}

fn lifetime(settings: &Table, problems: &mut Problems) -> Lifetime {
    match settings.get("duration").map(|node| &node.value) {
        Some(Value::Duration(duration)) => {
            whole_seconds(settings, problems);
            Lifetime::For(*duration)
        }
        _ => Lifetime::Session,
    }
}

/// Checks that the `duration` of a table is whole seconds, the resolution of tokens.
pub(super) fn whole_seconds(settings: &Table, problems: &mut Problems) {
    if let Some(node) = settings.written("duration")
        && settings.duration("duration").subsec_nanos() > 0
    {
        let title = "a cookie's duration must be whole seconds";
        problems.push(Problem::at(node.span.clone(), title));
    }
}

/// Attributes of a group's cookies.
pub(super) fn cookie(table: &Table) -> CookieSettings {
    CookieSettings {
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
        // A placeholder: `check/cookies.rs` sets it when it knows all groups and rules that write
        // this cookie.
        is_secure: false,
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
    }
}

fn one_kind(table: &Table, problems: &mut Problems) {
    let mut written: Vec<_> =
        KINDS.iter().filter_map(|kind| Some((*kind, table.written(kind)?))).collect();
    written.sort_by_key(|(_, node)| node.key.start);
    if let [(first, at), (second, again), ..] = written[..] {
        let title = format!("`{first}` and `{second}` exclude each other");
        let problem = Problem::at(again.key.clone(), title).label("a second kind of stickiness");
        let problem = problem.other(at.key.clone(), "the first");
        problems
            .push(problem.help("set exactly one of `lb_cookie`, `app_cookie`, `route`, `header`"));
    }
}

/// Refuses the names that this balancer uses for other cookies.
fn unreserved(name: &Node, others: &[&str], usual: &str, problems: &mut Problems) {
    let text = name.text();
    let why = if others.iter().any(|prefix| text.starts_with(prefix)) {
        "another kind of balancer cookie has this name"
    } else if text.ends_with("CORS") {
        "the CORS twin of another cookie has this name"
    } else {
        return;
    };
    let problem = Problem::at(name.span.clone(), format!("the cookie name `{text}` is reserved"));
    problems.push(problem.label(why).help(format!("the usual name is \"{usual}\"")));
}

/// Refuses an application's cookie with a name of a balancer cookie, as ALB does.
fn not_the_balancers(name: &Node, problems: &mut Problems) {
    if name.text().starts_with("AWSALB") {
        let title = "an application's cookie cannot have a name of a balancer cookie";
        let problem = Problem::at(name.span.clone(), title).label("begins with `AWSALB`");
        problems.push(problem.help("name the cookie the application sets, such as \"JSESSIONID\""));
    }
}

/// Checks that groups with the same cookie name agree, and that no application's cookie has the
/// name of a balancer cookie or twin: each response would replace the session with a token.
pub(super) fn agreement(file: &Table, problems: &mut Problems) {
    let mut first_of: BTreeMap<String, (&str, &Table)> = BTreeMap::new();
    let sticky = || {
        let groups = file.table("target_group").entries();
        let tables = groups.map(|(group, node)| (group, node.table().table("stickiness")));
        tables.filter(|(_, table)| table.flag("enabled"))
    };
    let mut sharing: BTreeMap<String, usize> = BTreeMap::new();
    for (group, table) in sticky() {
        let Some(cookie) = cookie_name(table) else { continue };
        *sharing.entry(cookie.clone()).or_default() += 1;
        let (other, theirs) = *first_of.entry(cookie.clone()).or_insert((group, table));
        if kind(table) != kind(theirs) {
            let place = table.get(kind(table)).map_or(0..0, |node| node.key.clone());
            let title = format!(
                "groups `{other}` and `{group}` use the cookie `{cookie}` for different kinds of \
                 stickiness"
            );
            let help = "set another cookie name in one of them";
            problems.push(Problem::at(place, title).help(help));
            continue;
        }
        for key in SHARED.iter().filter(|key| table.get(key) != theirs.get(key)) {
            disagreement([(other, theirs), (group, table)], key, &cookie, problems);
        }
        mixed_session_durations([(other, theirs), (group, table)], &cookie, problems);
    }
    for (group, table) in sticky() {
        let key = match kind(table) {
            "app_cookie" => "name",
            "route" => "cookie",
            _ => continue,
        };
        let Some(name) = table.table(kind(table)).get(key) else { continue };
        let twin_of = |main: &str| first_of.get(main).filter(|(_, of)| kind(of) == "lb_cookie");
        let twin_of = || name.text().strip_suffix("CORS").and_then(twin_of);
        if let Some((other, _)) = first_of.get(name.text()).or_else(twin_of) {
            let title = format!(
                "the application's cookie of group `{group}` has the name of the balancer cookie \
                 of group `{other}`"
            );
            let help = "name the cookie that the application sets, or rename the balancer cookie";
            problems.push(Problem::at(name.span.clone(), title).help(help));
        }
    }
    for (cookie, count) in sharing.iter().filter(|(_, count)| **count > MAX_PINS) {
        let title = format!(
            "{count} groups share the cookie `{cookie}`, but a token holds {MAX_PINS} pins: a \
             client that uses more than {MAX_PINS} of these groups loses pins (`evicted`)"
        );
        let help = "set another cookie name in some of them: `lb_cookie = { name = \"...\" }` or \
                    `app_cookie = { companion = \"...\" }`";
        problems.push(Problem::anywhere(title).help(help).warning());
    }
}

/// Warns if only one of two groups with a shared cookie has `duration = "session"`: its responses
/// make the other's pins end with the browser session too.
fn mixed_session_durations(
    [(other, theirs), (group, table)]: [(&str, &Table); 2],
    cookie: &str,
    problems: &mut Problems,
) {
    let duration = |table: &Table| table.table(kind(table)).get("duration").cloned();
    let (Some(ours), Some(first)) = (duration(table), duration(theirs)) else { return };
    let is_session = |node: &Node| matches!(node.value, Value::Word(_));
    if is_session(&ours) == is_session(&first) {
        return;
    }
    let place = if ours.written { ours.span } else { first.span };
    let title = format!(
        "groups `{other}` and `{group}` share `{cookie}`, but only one of them has `duration = \
         \"session\"`"
    );
    let help = "its responses make the other's pins end with the browser session too: set a \
                duration in both, or another cookie name in one";
    problems.push(Problem::at(place, title).help(help).warning());
}

/// Name of the cookie that holds a group's pins; `None` if it has none.
pub(super) fn cookie_name(table: &Table) -> Option<String> {
    let name = match kind(table) {
        "lb_cookie" => table.table("lb_cookie").text("name").to_owned(),
        "app_cookie" => companion_name(table.table("app_cookie").text("companion")),
        _ => return None,
    };
    (!name.is_empty()).then_some(name)
}

/// Records that two groups have different attributes for one cookie.
pub(super) fn disagreement(
    [(other, theirs), (group, table)]: [(&str, &Table); 2],
    key: &str,
    cookie: &str,
    problems: &mut Problems,
) {
    // At least one of the two is written, because they differ.
    let (ours, first) = (table.written(key), theirs.written(key));
    let Some(place) = ours.or(first) else { return };
    let title =
        format!("groups `{other}` and `{group}` set different `{key}` for the cookie `{cookie}`");
    let mut problem = Problem::at(place.span.clone(), title);
    if let (Some(_), Some(first)) = (ours, first) {
        problem = problem.other(first.span.clone(), format!("the value of `{other}`"));
    }
    let help = "a browser keeps one cookie per name: set the same value, or another name with \
                `lb_cookie = { name = \"...\" }`";
    problems.push(problem.help(help));
}
