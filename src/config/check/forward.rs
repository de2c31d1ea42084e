//! `forward`, `group_stickiness` and `failover` of a rule: to which groups, in which shares, and what
//! keeps a client with one of them.

use super::{resolved, stickiness};
use crate::base::name::Name;
use crate::config::node::{Node, Table, Value};
use crate::config::problem::{Problem, Problems};
use crate::config::settings::{Action, CookieSettings, Failback, Forward, GroupStickiness, Rule};
use crate::policy::affinity::Lifetime;
use crate::policy::affinity::token::MAX_PINS;
use std::time::Duration;

/// Where a rule sends its requests.
pub(super) fn forward(rule: &Node, file: &Table, problems: &mut Problems) -> Option<Forward> {
    let table = rule.table();
    let written = table.get("forward")?;
    let Value::Table(shares) = &written.value else {
        let group = resolved(written, file, "target_group", problems)?;
        let stickiness = group_stickiness(rule, &[group.as_str()], file, problems);
        return Some(Forward { stickiness, ..Forward::to(group) });
    };
    let groups: Vec<Option<(Name, u16)>> = shares
        .entries()
        .map(|(name, share)| {
            let named =
                Node { span: share.key.clone(), value: Value::Text(name.into()), ..share.clone() };
            let group = resolved(&named, file, "target_group", problems)?;
            Some((group, share.table().number("weight")))
        })
        .collect();
    let groups = groups.into_iter().collect::<Option<Vec<_>>>()?;
    if groups.is_empty() {
        let problem = Problem::at(written.span.clone(), "`forward` names no group");
        problems.push(problem.help("name one group: `forward = \"GROUP\"`"));
        return None;
    }
    if groups.iter().all(|(_, weight)| *weight == 0) {
        let title = "all weights are 0: newcomers get 503";
        let problem = Problem::at(written.span.clone(), title);
        problems.push(problem.help("give one group a weight").warning());
    }
    let names: Vec<&str> = groups.iter().map(|(name, _)| name.as_str()).collect();
    let stickiness = group_stickiness(rule, &names, file, problems);
    let failback = match table.text("failback") {
        "stay" => Failback::Stay,
        _ => Failback::Return,
    };
    Some(Forward { stickiness, groups, failover: table.flag("failover"), failback })
}

/// What keeps a client with its group. Where several groups are named and one of them is sticky it
/// is on by itself: clients would change groups and lose their sessions.
fn group_stickiness(
    rule: &Node,
    groups: &[&str],
    file: &Table,
    problems: &mut Problems,
) -> Option<GroupStickiness> {
    let table = rule.table();
    let sticky = groups.iter().find_map(|group| {
        let table = file.table("target_group").table(group).table("stickiness");
        table.flag("enabled").then_some(table)
    });
    let written = table.get("group_stickiness");
    let enabled = match written {
        Some(node) => node.table().flag("enabled"),
        None => groups.len() > 1 && sticky.is_some(),
    };
    if !enabled {
        if let Some(node) = written.filter(|_| groups.len() > 1 && sticky.is_some()) {
            let title = "clients change groups with every request, and lose their sessions";
            let problem = Problem::at(node.span.clone(), title);
            problems.push(problem.help("leave `group_stickiness` on").warning());
        }
        return None;
    }
    if table.get("name").is_none() && !table.knows("name") {
        let title = "a rule that keeps clients with their group needs a `name`";
        let problem = Problem::at(rule.span.clone(), title);
        problems.push(problem.help("write `name = \"...\"`: it is what clients' cookies hold"));
    }
    if let Some(node) = written {
        stickiness::whole_seconds(node.table(), problems);
    }
    let lifetime = written.map_or(USUAL, |node| node.table().duration("duration"));
    let cookie = sticky.map_or_else(CookieSettings::default, stickiness::cookie);
    Some(GroupStickiness { lifetime: Lifetime::For(lifetime), cookie })
}

/// What `group_stickiness` has where it is not written, and what AWS's console fills in.
const USUAL: Duration = Duration::from_hours(1);

/// Holds that the rules which keep clients with their groups write one `AWSALBTG`, for a browser
/// keeps one cookie of a name.
pub(super) fn agreement(rules: &[Rule], file: &Table, problems: &mut Problems) {
    let pins = rules.iter().filter_map(|rule| match &rule.action {
        Action::Forward(Forward { stickiness: Some(_), failover, failback, .. }) => {
            // While another group stands in, that is remembered too.
            Some(1 + usize::from(*failover && *failback == Failback::Return))
        }
        _ => None,
    });
    let pins: usize = pins.sum();
    if pins > MAX_PINS {
        let title = format!(
            "the rules that keep clients with their groups write up to {pins} pins into `AWSALBTG`, \
             and a token holds {MAX_PINS}: clients of more rules than that lose some"
        );
        let help = "let rules that differ in their conditions alone be one rule, or turn \
                    `group_stickiness` off where groups share their sessions";
        problems.push(Problem::anywhere(title).help(help).warning());
    }
    let mut first: Option<(&str, &CookieSettings)> = None;
    for rule in rules {
        let Action::Forward(Forward { stickiness: Some(stickiness), .. }) = &rule.action else {
            continue;
        };
        let (name, theirs) = *first.get_or_insert((rule.name.as_str(), &stickiness.cookie));
        // When it is renewed is each rule's own affair.
        let ours = CookieSettings { refresh: theirs.refresh, ..stickiness.cookie.clone() };
        if ours != *theirs {
            let title = format!("rules `{name}` and `{}` disagree about `AWSALBTG`", rule.name);
            let named = |node: &&Node| node.table().text("name") == rule.name.as_str();
            let place = file.list("rule").iter().find(named).map_or(0..0, |node| node.span.clone());
            problems.push(Problem::at(place, title).help(
                "it is written like the cookie of a rule's first sticky group: let those groups \
                 agree about path, domain, secure, http_only, same_site, partitioned and cors_twin",
            ));
        }
    }
}
