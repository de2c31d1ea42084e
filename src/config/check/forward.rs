//! `forward`, `group_stickiness` and `failover` of a rule: its groups, their weights, and group
//! stickiness.

use super::{resolved, stickiness};
use crate::base::name::Name;
use crate::config::node::{Node, Table, Value};
use crate::config::problem::{Problem, Problems};
use crate::config::settings::{Action, CookieSettings, Failback, Forward, GroupStickiness, Rule};
use crate::policy::affinity::Lifetime;
use crate::policy::affinity::token::MAX_PINS;
use std::time::Duration;

/// The groups and stickiness of a rule's `forward`.
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
        problems.push(problem.help("name a group: `forward = \"GROUP\"`"));
        return None;
    }
    if groups.iter().all(|(_, weight)| *weight == 0) {
        let title = "all weights are 0: new clients get 503";
        let problem = Problem::at(written.span.clone(), title);
        problems.push(problem.help("set the weight of one group above 0").warning());
    }
    let names: Vec<&str> = groups.iter().map(|(name, _)| name.as_str()).collect();
    let stickiness = group_stickiness(rule, &names, file, problems);
    let failback = match table.text("failback") {
        "stay" => Failback::Stay,
        _ => Failback::Return,
    };
    Some(Forward { stickiness, groups, failover: table.flag("failover"), failback })
}

/// Group stickiness of a rule. By default it is on if several groups are named and one of them is
/// sticky, because clients would otherwise change groups and lose their sessions.
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
            let title = "clients change groups with every request and lose their sessions";
            let problem = Problem::at(node.span.clone(), title);
            problems.push(problem.help("turn on `group_stickiness`").warning());
        }
        return None;
    }
    if table.get("name").is_none() && !table.knows("name") {
        let title = "a rule with `group_stickiness` needs a `name`";
        let problem = Problem::at(rule.span.clone(), title);
        problems.push(problem.help("add `name = \"...\"`; cookies identify the rule by its name"));
    }
    if let Some(node) = written {
        stickiness::whole_seconds(node.table(), problems);
    }
    let lifetime = written.map_or(USUAL, |node| node.table().duration("duration"));
    let cookie = sticky.map_or_else(CookieSettings::default, stickiness::cookie);
    Some(GroupStickiness { lifetime: Lifetime::For(lifetime), cookie })
}

/// Default duration of `group_stickiness`, as in AWS's console.
const USUAL: Duration = Duration::from_hours(1);

/// Checks that all rules with group stickiness give `AWSALBTG` the same attributes, since they
/// share this cookie, and that their pins fit into its token.
pub(super) fn agreement(rules: &[Rule], file: &Table, problems: &mut Problems) {
    let pins = rules.iter().filter_map(|rule| match &rule.action {
        Action::Forward(Forward { stickiness: Some(_), failover, failback, .. }) => {
            // A group that stands in for another is pinned too.
            Some(1 + usize::from(*failover && *failback == Failback::Return))
        }
        _ => None,
    });
    let pins: usize = pins.sum();
    if pins > MAX_PINS {
        let title = format!(
            "rules with `group_stickiness` write up to {pins} pins into `AWSALBTG`, but a token \
             holds {MAX_PINS}: clients of more rules lose pins"
        );
        let help = "merge rules that differ only in conditions, or turn off `group_stickiness` \
                    where groups share their sessions";
        problems.push(Problem::anywhere(title).help(help).warning());
    }
    let mut first: Option<(&str, &CookieSettings)> = None;
    for rule in rules {
        let Action::Forward(Forward { stickiness: Some(stickiness), .. }) = &rule.action else {
            continue;
        };
        let (name, theirs) = *first.get_or_insert((rule.name.as_str(), &stickiness.cookie));
        // Each rule may have its own `refresh`.
        let ours = CookieSettings { refresh: theirs.refresh, ..stickiness.cookie.clone() };
        if ours != *theirs {
            let title =
                format!("rules `{name}` and `{}` give `AWSALBTG` different attributes", rule.name);
            let named = |node: &&Node| node.table().text("name") == rule.name.as_str();
            let place = file.list("rule").iter().find(named).map_or(0..0, |node| node.span.clone());
            problems.push(Problem::at(place, title).help(
                "it has the attributes of the rule's first sticky group: set the same path, \
                 domain, secure, http_only, same_site, partitioned and cors_twin in those groups",
            ));
        }
    }
}
