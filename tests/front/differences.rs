//! The list of expected differences, and the report of unexpected ones.

use super::outcome::{Outcome, aspect_of};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use toml::{Table, Value};

/// Differences of one kind that are printed in full, unless all are requested.
const SHOWN: usize = 5;

struct Entry {
    cases: Vec<(String, usize)>,
    aspects: Option<Vec<String>>,
    old: Option<Vec<String>>,
    new: Option<Vec<String>>,
    statuses: Option<Vec<u16>>,
    requests: Option<usize>,
    end: Option<String>,
    outcome: Option<String>,
    old_statuses: Option<Vec<u16>>,
    old_requests: Option<usize>,
    old_end: Option<String>,
}

pub struct Differences(Vec<Entry>);

const KEYS: [&str; 12] = [
    "cases",
    "reason",
    "aspects",
    "old",
    "new",
    "statuses",
    "requests",
    "end",
    "outcome",
    "old_statuses",
    "old_requests",
    "old_end",
];

impl Differences {
    pub fn parse(text: &str) -> Self {
        let table: Table = text.parse().expect("differences.toml");
        let list = table.get("difference").and_then(Value::as_array).cloned().unwrap_or_default();
        Self(list.iter().map(|entry| Entry::of(entry.as_table().unwrap())).collect())
    }

    /// Compares, and reports the faults; empty if there are none.
    pub fn compare(
        &mut self,
        recorded: &HashMap<String, Outcome>,
        found: &[(String, Outcome)],
        is_all: bool,
    ) -> String {
        let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut faults = String::new();
        let mut wanted = 0;
        for (name, new) in found {
            let Some(old) = recorded.get(name) else {
                let text = format!("{name}\n{}", plain(new, "  new "));
                kinds.entry("cases that are not in the record".to_owned()).or_default().push(text);
                continue;
            };
            if old == new {
                continue;
            }
            let aspects = differing(old, new);
            if self.excuse(name, old, new) {
                wanted += 1;
                continue;
            }
            let list: Vec<_> = aspects.iter().map(String::as_str).collect();
            let kind = format!(
                "statuses {:?} -> {:?}, requests {} -> {}: {}",
                old.statuses(),
                new.statuses(),
                old.requests(),
                new.requests(),
                list.join(", ")
            );
            kinds.entry(kind).or_default().push(side_by_side(name, old, new));
        }
        let names: BTreeSet<&str> = found.iter().map(|(name, _)| &**name).collect();
        let mut gone: Vec<_> =
            recorded.keys().filter(|name| !names.contains(name.as_str())).collect();
        gone.sort();
        for name in gone.iter().take(20) {
            let _ = writeln!(faults, "{name} stands in the record and is no case");
        }
        for entry in self.0.iter().filter(|_| is_all) {
            for (pattern, _) in entry.cases.iter().filter(|(_, count)| *count == 0) {
                let _ = writeln!(
                    faults,
                    "differences.toml: `{pattern}` matches no difference; take it out"
                );
            }
        }
        if kinds.is_empty() && faults.is_empty() {
            eprintln!("{} cases, {wanted} wanted differences", found.len());
            return String::new();
        }
        let shown =
            if std::env::var_os("STAYPUT_FRONT_ALL").is_some() { usize::MAX } else { SHOWN };
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort_by_key(|(_, cases)| std::cmp::Reverse(cases.len()));
        let mut report = String::new();
        for (kind, cases) in &kinds {
            let _ = writeln!(report, "== {} x {kind}", cases.len());
            for case in cases.iter().take(shown) {
                let _ = writeln!(report, "{case}");
            }
            if cases.len() > shown {
                let _ = writeln!(
                    report,
                    "   and {} more: {}\n",
                    cases.len() - shown,
                    cases[shown..]
                        .iter()
                        .take(40)
                        .map(|case| case.lines().next().unwrap())
                        .collect::<Vec<_>>()
                        .join(" ")
                );
            }
        }
        let _ = writeln!(report, "== by kind");
        for (kind, cases) in &kinds {
            let _ = writeln!(report, "{:6} {kind}", cases.len());
        }
        let total: usize = kinds.iter().map(|(_, cases)| cases.len()).sum();
        let _ = writeln!(
            report,
            "{total} differences that nothing excuses, {wanted} that are wanted, of {} cases",
            found.len()
        );
        report + &faults
    }
}

impl Differences {
    /// True if an entry excuses each line in which the outcomes differ.
    fn excuse(&mut self, name: &str, old: &Outcome, new: &Outcome) -> bool {
        let lines = differing_lines(old, new);
        let mut left: Vec<&Line> = lines.iter().collect();
        let mut used = Vec::new();
        for (at, entry) in self.0.iter().enumerate() {
            if entry.is_of(name) && entry.holds(old, new) && lines.iter().any(|l| entry.takes(l)) {
                used.push(at);
                left.retain(|line| !entry.takes(line));
            }
        }
        if !left.is_empty() || lines.is_empty() {
            return false;
        }
        for at in used {
            let named = self.0[at].cases.iter_mut().filter(|(pattern, _)| matches(pattern, name));
            named.for_each(|(_, count)| *count += 1);
        }
        true
    }
}

impl Entry {
    fn of(table: &Table) -> Self {
        for key in table.keys() {
            assert!(KEYS.contains(&&**key), "differences.toml: unknown key `{key}`");
        }
        let text = |key: &str| table.get(key).map(|value| value.as_str().unwrap().to_owned());
        let number = |key: &str| {
            table.get(key).map(|value| usize::try_from(value.as_integer().unwrap()).unwrap())
        };
        let texts = |key: &str| {
            let list = table.get(key)?.as_array().unwrap().iter();
            Some(list.map(|item| item.as_str().unwrap().to_owned()).collect::<Vec<_>>())
        };
        let statuses = |key: &str| {
            let list = table.get(key)?.as_array().unwrap().iter();
            let status = |item: &Value| u16::try_from(item.as_integer().unwrap()).unwrap();
            Some(list.map(status).collect::<Vec<_>>())
        };
        assert!(
            text("reason").is_some_and(|reason| !reason.trim().is_empty()),
            "differences.toml: an entry without its reason"
        );
        let entry = Self {
            cases: texts("cases").expect("cases").into_iter().map(|case| (case, 0)).collect(),
            aspects: texts("aspects"),
            old: texts("old"),
            new: texts("new"),
            statuses: statuses("statuses"),
            requests: number("requests"),
            end: text("end"),
            outcome: text("outcome"),
            old_statuses: statuses("old_statuses"),
            old_requests: number("old_requests"),
            old_end: text("old_end"),
        };
        assert!(
            entry.aspects.is_some()
                || entry.old.is_some()
                || entry.new.is_some()
                || entry.statuses.is_some()
                || entry.requests.is_some()
                || entry.end.is_some()
                || entry.outcome.is_some(),
            "differences.toml: an entry that says nothing of the new outcome"
        );
        entry
    }

    fn is_of(&self, name: &str) -> bool {
        self.cases.iter().any(|(pattern, _)| matches(pattern, name))
    }

    /// True if the entry is about these outcomes.
    fn holds(&self, old: &Outcome, new: &Outcome) -> bool {
        let end = |outcome: &Outcome| outcome.all("end").next().map(str::to_owned);
        self.statuses.as_ref().is_none_or(|said| *said == new.statuses())
            && self.requests.is_none_or(|said| said == new.requests())
            && self.end.as_ref().is_none_or(|said| Some(said) == end(new).as_ref())
            && self.outcome.as_ref().is_none_or(|said| said.trim() == plain(new, "").trim())
            && self.old_statuses.as_ref().is_none_or(|said| *said == old.statuses())
            && self.old_requests.is_none_or(|said| said == old.requests())
            && self.old_end.as_ref().is_none_or(|said| Some(said) == end(old).as_ref())
    }

    /// True if the entry excuses this line; an entry without lines excuses any.
    fn takes(&self, line: &Line) -> bool {
        if self.aspects.is_none() && self.old.is_none() && self.new.is_none() {
            return true;
        }
        let patterns = if line.is_new { &self.new } else { &self.old };
        let fits = |pattern: &String| matches(pattern, &line.text);
        let of_aspect = |aspect: &String| line.text.split(' ').next() == Some(aspect);
        patterns.iter().flatten().any(fits) || self.aspects.iter().flatten().any(of_aspect)
    }
}

/// A line of one outcome that the other does not have.
struct Line {
    is_new: bool,
    /// The aspect, and the value.
    text: String,
}

/// All such lines; a line that is only at another position is on neither side.
fn differing_lines(old: &Outcome, new: &Outcome) -> Vec<Line> {
    let mut lines = Vec::new();
    for aspect in differing(old, new) {
        let values = |outcome: &Outcome| outcome.all(&aspect).map(str::to_owned).collect();
        let (before, after): (Vec<String>, Vec<String>) = (values(old), values(new));
        let mut left = after.clone();
        let mut gone = before.clone();
        gone.retain(|value| match left.iter().position(|other| other == value) {
            Some(at) => {
                left.remove(at);
                false
            }
            None => true,
        });
        if gone.is_empty() && left.is_empty() {
            (gone, left) = (before, after);
        }
        let line = |is_new| {
            let aspect = &aspect;
            move |value: String| Line { is_new, text: format!("{aspect} {value}") }
        };
        lines.extend(gone.into_iter().map(line(false)));
        lines.extend(left.into_iter().map(line(true)));
    }
    lines
}

/// True if `name` fits `pattern`, in which `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| {
            (0..=name.len()).any(|at| name.is_char_boundary(at) && matches(rest, &name[at..]))
        }),
    }
}

/// Aspects in which two outcomes differ.
fn differing(old: &Outcome, new: &Outcome) -> BTreeSet<String> {
    let aspects = old.0.iter().chain(&new.0).map(|(key, _)| aspect_of(key));
    let aspects: BTreeSet<String> = aspects.collect();
    aspects.into_iter().filter(|aspect| !old.all(aspect).eq(new.all(aspect))).collect()
}

fn plain(outcome: &Outcome, before: &str) -> String {
    outcome.0.iter().map(|(key, value)| format!("{before}{key} {value}\n")).collect()
}

/// The common lines once, the others marked.
fn side_by_side(name: &str, old: &Outcome, new: &Outcome) -> String {
    let mut text = format!("{name}\n");
    let has = |outcome: &Outcome, part: &(String, String)| outcome.0.contains(part);
    for part in &old.0 {
        let mark = if has(new, part) { "        " } else { "    old " };
        let _ = writeln!(text, "{mark}{} {}", part.0, part.1);
    }
    for part in new.0.iter().filter(|part| !has(old, part)) {
        let _ = writeln!(text, "    new {} {}", part.0, part.1);
    }
    text
}

#[test]
fn an_entry_matches_its_own_differences_and_no_others() {
    let outcome = |end: &str, line: &str| {
        Outcome(vec![("end".into(), end.into()), ("answer.1".into(), line.into())])
    };
    let old = outcome("open", "HTTP/1.1 200 OK");
    let new = outcome("closed", "HTTP/1.1 400 Bad Request");
    let recorded = HashMap::from([("d/a/1".to_owned(), old.clone())]);
    let judged = |rest: &str| {
        let list = format!("[[difference]]\nreason = \"r\"\n{rest}");
        Differences::parse(&list).compare(&recorded, &[("d/a/1".into(), new.clone())], true)
    };
    assert_eq!(judged("cases = [\"d/*\"]\nstatuses = [400]"), "");
    assert_eq!(
        judged("cases = [\"d/*/1\"]\naspects = [\"end\", \"answer\"]\nold_end = \"open\""),
        ""
    );
    assert_eq!(
        judged("cases = [\"*\"]\noutcome = \"end closed\\nanswer.1 HTTP/1.1 400 Bad Request\""),
        ""
    );
    // Two entries may share the lines of a case.
    assert_eq!(
        judged(
            "cases = [\"d/*\"]\nold = [\"end open\"]\nnew = [\"end closed\"]\n\
             [[difference]]\nreason = \"r\"\ncases = [\"*\"]\n\
             old = [\"answer * 200 OK\"]\nnew = [\"answer * 400 *\"]"
        ),
        ""
    );
    for other in [
        "cases = [\"d/*\"]\nstatuses = [408]",
        "cases = [\"d/a\"]\nstatuses = [400]",
        "cases = [\"d/*\"]\naspects = [\"end\"]",
        "cases = [\"d/*\"]\nstatuses = [400]\nold_statuses = [204]",
        "cases = [\"d/*\"]\nrequests = 1",
        "cases = [\"*\"]\nold = [\"end open\", \"answer *\"]\nnew = [\"end closed\"]",
        "cases = [\"*\"]\nnew = [\"end *\", \"answer * 400 *\"]",
    ] {
        let report = judged(other);
        assert!(report.contains("1 differences that nothing excuses"), "{other}: {report}");
        assert!(report.contains("matches no difference; take it out"), "{other}: {report}");
    }
    // A pattern without a difference is stale, even beside one that has some.
    let report = judged("cases = [\"d/*\", \"e/*\"]\nstatuses = [400]");
    assert!(report.contains("`e/*` matches no difference"), "{report}");
    let equal = Differences::parse("").compare(&recorded, &[("d/a/1".into(), old)], true);
    assert_eq!(equal, "");
}
