//! The HTTP/1.1 front over a corpus of raw requests: the bytes that the client and the target get,
//! compared with the record of the former front (`recorded.txt`).
//!
//! * `STAYPUT_FRONT_BINARY=path`: another program than the built one.
//! * `UPDATE=1`: writes the record anew instead of comparing.
//! * `STAYPUT_FRONT_ALL=1`: prints every difference, not five of each kind.
//! * `STAYPUT_FRONT_ONLY=text`: runs only the cases whose names contain this text.
//!
//! An expected difference has an entry with its reason in `differences.toml`.

// A failed set-up ends the test at that line.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]
// The clock is read for one purpose: to end a case that never comes to rest.
#![allow(clippy::disallowed_methods)]
// The report is the purpose of this program.
#![allow(clippy::print_stderr)]

mod balancer;
mod cases;
mod desync;
mod differences;
mod lane;
mod outcome;
mod record;
mod target;

use balancer::{Balancer, Config};
use cases::Case;
use differences::Differences;
use lane::Lane;
use outcome::Outcome;
use record::Record;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/front").join(name)
}

/// Cases that run side by side on one balancer, each on a listener and a target of its own.
const LANES: usize = 4;

/// Outcomes of all cases that belong to this configuration, in the order of the cases.
fn run(config: &Config, cases: &[Case]) -> Vec<(String, Outcome)> {
    let balancer = Balancer::start(config, LANES);
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for mut lane in balancer.lanes() {
            let (next, outcomes) = (&next, &outcomes);
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::SeqCst);
                    let Some(case) = cases.get(at) else { return };
                    let outcome = Lane::run(&mut lane, case);
                    outcomes.lock().unwrap().insert(at, outcome);
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap();
    assert_eq!(outcomes.len(), cases.len());
    let named =
        |(at, outcome): (usize, Outcome)| (format!("{}/{}", config.name, cases[at].name), outcome);
    outcomes.into_iter().map(named).collect()
}

#[test]
fn the_front_answers_and_forwards_as_recorded() {
    let cases = cases::all();
    let only = std::env::var("STAYPUT_FRONT_ONLY").ok();
    let mut found = Vec::new();
    // Two at a time: each balancer has one worker.
    for pair in balancer::CONFIGS.chunks(2) {
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let runs = pair.iter().map(|config| {
                let cases = cases.iter().filter(|case| (config.takes)(case));
                let cases = cases.filter(|case| {
                    only.as_ref()
                        .is_none_or(|only| format!("{}/{}", config.name, case.name).contains(only))
                });
                let cases: Vec<Case> = cases.cloned().collect();
                scope.spawn(move || run(config, &cases))
            });
            let runs: Vec<_> = runs.collect();
            runs.into_iter().flat_map(|run| run.join().unwrap()).collect()
        });
        found.extend(outcomes);
    }
    if std::env::var_os("UPDATE").is_some() {
        assert!(only.is_none(), "a record of some cases would be no record");
        std::fs::write(file("recorded.txt"), Record::render(&found)).unwrap();
        return;
    }
    let text = std::fs::read_to_string(file("recorded.txt")).unwrap();
    let mut recorded = Record::parse(&text);
    if let Some(only) = &only {
        recorded.retain(|name, _| name.contains(only.as_str()));
    } else {
        assert!(found.len() >= 2_000, "only {} cases", found.len());
    }
    let list = std::fs::read_to_string(file("differences.toml")).unwrap();
    let mut differences = Differences::parse(&list);
    let report = differences.compare(&recorded, &found, only.is_none());
    assert!(report.is_empty(), "\n{report}");
}
