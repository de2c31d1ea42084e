//! Instructions by function and by source file, from a dump of callgrind.
//!
//! The format is that of valgrind's manual, "Callgrind Format Specification": `fn=` and `fl=` set
//! the function and file, `fi=` and `fe=` the file of inlined code; a line with a position and a
//! cost counts for these, and the line after `calls=` for the callee and all below it.

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::path::Path;

#[derive(Default)]
pub(crate) struct Profile {
    /// Instructions of each function, by its name.
    functions: HashMap<String, Cost>,
    /// Instructions of each source file, including its inlined code.
    files: HashMap<String, u64>,
}

#[derive(Clone, Copy, Default)]
struct Cost {
    own: u64,
    /// Instructions with all callees. Functions entered before the counts were zeroed are not among
    /// the callers, and a recursive function is counted at each level.
    with_callees: u64,
}

/// `(4) name` gives a number a name, and `(4)` alone refers to it from then on.
#[derive(Default)]
struct Names(HashMap<String, String>);

impl Names {
    fn resolve(&mut self, text: &str) -> String {
        let Some((number, name)) = text.split_once(')') else { return text.to_owned() };
        let name = name.trim();
        if !name.is_empty() {
            self.0.insert(number.to_owned(), name.to_owned());
        }
        self.0.get(number).cloned().unwrap_or_default()
    }
}

impl Profile {
    pub(crate) fn read(dump: &Path) -> Result<Self, Box<dyn Error>> {
        Ok(Self::parse(&fs::read_to_string(dump)?))
    }

    fn parse(text: &str) -> Self {
        let mut profile = Self::default();
        let (mut functions, mut files) = (Names::default(), Names::default());
        let (mut function, mut file) = (String::new(), String::new());
        let mut is_call = false;
        for line in text.lines() {
            if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
                let cost = line.split(' ').nth(1).and_then(|cost| cost.parse().ok()).unwrap_or(0);
                let of = profile.functions.entry(function.clone()).or_default();
                of.with_callees += cost;
                if !is_call {
                    of.own += cost;
                    *profile.files.entry(file.clone()).or_default() += cost;
                }
                is_call = false;
            } else if let Some((word, value)) = line.split_once('=') {
                match word {
                    "fn" => function = functions.resolve(value),
                    "cfn" => drop(functions.resolve(value)),
                    "fl" | "fi" | "fe" => file = files.resolve(value),
                    "cfl" | "cfi" => drop(files.resolve(value)),
                    "calls" => is_call = true,
                    _ => {}
                }
            }
        }
        profile
    }

    /// Instructions of the functions whose names `is_meant` accepts.
    pub(crate) fn own(&self, is_meant: impl Fn(&str) -> bool) -> u64 {
        let meant = self.functions.iter().filter(|(name, _)| is_meant(name));
        meant.map(|(_, cost)| cost.own).sum()
    }

    /// The most expensive functions and files, in instructions a request.
    pub(crate) fn print(&self, requests: usize) {
        const LINES: usize = 60;
        let costs = |of: fn(&Cost) -> u64| -> Vec<(&str, u64)> {
            self.functions.iter().map(|(name, cost)| (name.as_str(), of(cost))).collect()
        };
        let own = costs(|cost| cost.own);
        let files = self.files.iter().map(|(name, &cost)| (name.as_str(), cost)).collect();
        let all: u64 = own.iter().map(|(_, cost)| cost).sum();
        println!("\n{:.0} instructions a request", all as f64 / requests as f64);
        for (title, mut rows) in [
            ("by function, without what it called", own),
            ("by function, with all it called", costs(|cost| cost.with_callees)),
            ("by source file, inlined code where it was written", files),
        ] {
            rows.sort_unstable_by_key(|(_, cost)| std::cmp::Reverse(*cost));
            println!("\n{title}:");
            for (name, cost) in rows.into_iter().take(LINES) {
                let each = cost as f64 / requests as f64;
                println!("{each:10.1} {:5.1} %  {name}", 100.0 * cost as f64 / all as f64);
            }
        }
    }
}
