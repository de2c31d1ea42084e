//! One rule: its conditions, its redirect and its rewrite.

use super::routing::addresses;
use crate::config::node::{Node, Table, Value};
use crate::config::problem::{Problem, Problems};
use crate::config::settings::Action;
use crate::policy::routing::conditions::{Conditions, FieldCondition, PairCondition};
use crate::policy::routing::pattern::Pattern;
use crate::policy::routing::redirect::{Port, Redirect, Scheme, Status, Template};
use crate::policy::routing::rewrite::{Defect, Rewrite, Transform};

/// Maximum number of rules. ALB's quota is 100. Each rule that no table skips costs some
/// nanoseconds per request, and more for long paths if it has wildcards in front.
const MAX_RULES: usize = 10_000;

/// Maximum number of values of one condition. ALB accepts 3 to 5.
const MAX_VALUES: usize = 1_000;

/// Records a list of rules that is too long.
pub(super) fn bound(rules: &[Node], problems: &mut Problems) {
    if let Some(beyond) = rules.get(MAX_RULES) {
        let title = format!("more than {MAX_RULES} rules");
        problems.push(Problem::at(beyond.span.clone(), title));
    }
}

/// Records a rule that no listener uses: it names none, and all listeners redirect.
pub(super) fn reach(rule: &Node, file: &Table, problems: &mut Problems) {
    let mut listeners = file.table("listener").entries();
    if !rule.table().knows("listeners")
        && listeners.all(|(_, listener)| listener.table().knows("redirect_to"))
    {
        let title = "this rule applies to no listener: a listener with `redirect_to` must be named \
                     in `listeners`";
        let problem = Problem::at(rule.span.clone(), title);
        problems.push(problem.help("add `listeners = [\"NAME\"]`").warning());
    }
}

/// The conditions of a rule.
pub(super) fn conditions(rule: &Table, problems: &mut Problems) -> Conditions {
    let fields = rule.table("headers");
    let lists = ["hosts", "paths", "methods", "query", "source_ips"];
    let lists = lists.iter().filter_map(|key| rule.get(key)).chain(fields.entries().map(|e| e.1));
    for node in lists {
        if matches!(&node.value, Value::List(list) if list.len() > MAX_VALUES) {
            let title = format!("a condition has at most {MAX_VALUES} values");
            problems.push(Problem::at(node.key.clone(), title).help("split it into several rules"));
        }
    }
    if fields.entries().nth(MAX_VALUES).is_some()
        && let Some(node) = rule.get("headers")
    {
        let title = format!("a rule has at most {MAX_VALUES} header fields");
        problems.push(Problem::at(node.key.clone(), title));
    }
    Conditions {
        hosts: patterns(rule.list("hosts"), Pattern::host),
        paths: patterns(rule.list("paths"), Pattern::path),
        methods: rule.list("methods").iter().map(|method| method.text().into()).collect(),
        source_ips: addresses(rule.list("source_ips")),
        query: rule.list("query").iter().filter_map(|pair| pair_of(pair.table())).collect(),
        headers: fields
            .entries()
            .filter_map(|(name, node)| {
                let Value::List(values) = &node.value else { return None };
                let values = patterns(values, Pattern::field_value);
                Some(FieldCondition { name: name.parse().ok()?, values })
            })
            .collect(),
    }
}

fn patterns(list: &[Node], pattern: fn(&str) -> Option<Pattern>) -> Vec<Pattern> {
    list.iter().filter_map(|one| pattern(one.text())).collect()
}

fn pair_of(pair: &Table) -> Option<PairCondition> {
    let key = pair.get("key").map(|key| Pattern::query(key.text()));
    Some(PairCondition { key: key.flatten(), value: Pattern::query(pair.text("value"))? })
}

/// `redirect = { ... }`
pub(super) fn redirect(written: &Node, problems: &mut Problems) -> Option<Action> {
    let table = written.table();
    let status = table.get("status")?;
    let number: u16 = table.number("status");
    if !matches!(number, 301 | 302 | 303 | 307 | 308) {
        let title = format!("{number} is not a redirect status");
        let problem = Problem::at(status.span.clone(), title);
        problems.push(problem.label("301, 302, 303, 307 or 308"));
    }
    let port = match &table.get("port")?.value {
        Value::Integer(_) => Port::Number(table.number("port")),
        _ => table.text("port").parse().map_or(Port::Same, Port::Number),
    };
    let redirect = Redirect {
        status: Status::Fixed(number),
        scheme: match table.get("scheme")?.text() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => Scheme::Same,
        },
        host: Template::host(table.text("host"))?,
        port,
        path: Template::path(table.text("path"))?,
        query: Template::query(table.get("query")?.text())?,
    };
    let refused = ["scheme", "host", "port", "path"].iter().any(|key| table.refused(key));
    if redirect.changes_nothing() && !refused {
        let title = "redirect loop: this redirect leads to the same URL";
        let help = "change at least one of `scheme`, `host`, `port` and `path`";
        problems.push(Problem::at(written.key.clone(), title).help(help));
    }
    Some(Action::Redirect(redirect))
}

/// `rewrite = { ... }`, which is valid only with `forward`.
pub(super) fn rewrite(rule: &Table, problems: &mut Problems) -> Option<Rewrite> {
    let written = rule.get("rewrite")?;
    if let Some(other) = rule.get("respond").or_else(|| rule.get("redirect")) {
        let title = "`rewrite` needs `forward`";
        let problem = Problem::at(written.key.clone(), title);
        problems.push(problem.other(other.key.clone(), "this rule has no `forward`"));
    }
    let table = written.table();
    if !table.knows("path") && !table.knows("host") {
        let problem = Problem::at(written.key.clone(), "`rewrite` is empty");
        problems.push(problem.help("add `path = { regex = ..., replace = ... }` or `host = ...`"));
    }
    let mut transform = |key, new: fn(&str, &str) -> Result<Transform, Defect>| {
        let table = table.get(key)?.table();
        let (regex, replace) = (table.get("regex")?, table.get("replace")?);
        let defect = match new(regex.text(), replace.text()) {
            Ok(transform) => return Some(transform),
            Err(defect) => defect,
        };
        let (at, name) = match &defect {
            Defect::Regex(_) => (regex, "regex"),
            Defect::Dollar | Defect::NoGroup(_) => (replace, "replace"),
        };
        let title = format!("cannot use `{name}`: {defect}");
        problems.push(Problem::at(at.span.clone(), title));
        None
    };
    Some(Rewrite {
        path: transform("path", Transform::of_path),
        host: transform("host", Transform::of_host),
    })
}
