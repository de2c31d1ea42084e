//! The file of outcomes: each distinct outcome once, and for each case the number of its outcome.

use super::outcome::{Outcome, hash};
use std::collections::{BTreeMap, HashMap};

pub struct Record;

const TOP: &str = "# Made by `UPDATE=1 STAYPUT_FRONT_BINARY=... cargo test --test front`; see main.rs.\n\
                   # First which case came to which outcome, then the outcomes. `name/3-7` are five cases.\n";

/// First and last number of equal cases; `None` for a name without a number.
type Range = Option<(usize, usize)>;

/// Splits `stem/7` into its two parts.
fn numbered(name: &str) -> Option<(&str, usize)> {
    let (stem, number) = name.rsplit_once('/')?;
    Some((stem, number.parse().ok()?))
}

impl Record {
    pub fn render(outcomes: &[(String, Outcome)]) -> String {
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        // For each case, the configurations by their outcome.
        let mut order: Vec<&str> = Vec::new();
        let mut cases: HashMap<&str, Vec<(String, Vec<&str>)>> = HashMap::new();
        for (name, outcome) in outcomes {
            let text: String =
                outcome.0.iter().map(|(key, value)| format!("  {key} {value}\n")).collect();
            let id = hash(text.as_bytes());
            let before = known.insert(id.clone(), text.clone());
            assert!(before.is_none_or(|before| before == text), "two outcomes have one hash");
            let (config, case) = name.split_once('/').expect("a configuration");
            let under = cases.entry(case).or_insert_with(|| {
                order.push(case);
                Vec::new()
            });
            match under.iter_mut().find(|(known, _)| *known == id) {
                Some((_, configs)) => configs.push(config),
                None => under.push((id, vec![config])),
            }
        }
        let mut lines: Vec<(&str, Range, String)> = Vec::new();
        let mut last_of = HashMap::new();
        for case in order {
            let under =
                cases[case].iter().map(|(id, configs)| format!("{}={id}", configs.join(",")));
            let text = under.collect::<Vec<_>>().join(" ");
            let number = numbered(case);
            if let Some((stem, number)) = number {
                let last = last_of.get(stem).map(|at: &usize| &mut lines[*at]);
                if let Some((_, Some((_, to)), last_text)) = last
                    && *to + 1 == number
                    && *last_text == text
                {
                    *to = number;
                    continue;
                }
                last_of.insert(stem, lines.len());
            }
            match number {
                Some((stem, number)) => lines.push((stem, Some((number, number)), text)),
                None => lines.push((case, None, text)),
            }
        }
        let mut text = TOP.to_owned();
        for (name, range, under) in lines {
            text.push_str(&match range {
                None => format!("{name} {under}\n"),
                Some((from, to)) if from == to => format!("{name}/{from} {under}\n"),
                Some((from, to)) => format!("{name}/{from}-{to} {under}\n"),
            });
        }
        for (id, outcome) in known {
            text.push_str(&format!("@{id}\n{outcome}"));
        }
        text
    }

    pub fn parse(text: &str) -> HashMap<String, Outcome> {
        let mut known: HashMap<&str, Outcome> = HashMap::new();
        let mut current = "";
        let mut cases = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some(id) = line.strip_prefix('@') {
                current = id;
                known.insert(id, Outcome::default());
            } else if let Some(part) = line.strip_prefix("  ") {
                let (key, value) = part.split_once(' ').unwrap_or((part, ""));
                let outcome = known.get_mut(current).expect("an outcome without its id");
                outcome.0.push((key.to_owned(), value.to_owned()));
            } else {
                cases.push(line.split_once(' ').expect("a case and what came of it"));
            }
        }
        let mut record = HashMap::new();
        for (name, under) in cases {
            let (stem, last) = name.rsplit_once('/').expect("a name with a group");
            let range = last.split_once('-').and_then(|(from, to)| {
                Some((from.parse::<usize>().ok()?, to.parse::<usize>().ok()?))
            });
            let names: Vec<String> = match range {
                Some((from, to)) => (from..=to).map(|at| format!("{stem}/{at}")).collect(),
                None => vec![name.to_owned()],
            };
            for part in under.split(' ') {
                let (configs, id) = part.split_once('=').expect("configurations and an outcome");
                let outcome = known.get(id).unwrap_or_else(|| panic!("{name}: no outcome {id}"));
                for (config, name) in configs
                    .split(',')
                    .flat_map(|config| names.iter().map(move |name| (config, name)))
                {
                    let name = format!("{config}/{name}");
                    let before = record.insert(name.clone(), outcome.clone());
                    assert!(before.is_none(), "{name} stands there twice");
                }
            }
        }
        record
    }
}
