//! Instructions, which callgrind counts the same on a busy machine as on an idle one.
//!
//! Two counts of Stayput alone, of opening, deciding and sealing and of a whole exchange, are
//! compared with `benches/instructions.txt`. A table of sticky requests through nginx, HAProxy and
//! Stayput is compared with `benches/ratios.txt`, by its ratios to nginx, so that a new compiler or
//! libc counts for both. `.ci/run` fails if a count grew by more than 3 % or a ratio by more than
//! 5 %.
//!
//! ```sh
//! cargo bench --bench instructions                         # all of it
//! cargo bench --bench instructions -- kept tls             # only these
//! cargo bench --bench instructions -- --update             # and write the new counts
//! cargo bench --bench instructions -- --profile kept       # by function and by source file
//! STAYPUT_BENCH_BINARY=/path cargo bench --bench instructions -- kept
//! ```
//!
//! The last command counts another build of Stayput than cargo's own. With the unoptimised program
//! of `cargo build --bench instructions`, run as `target/debug/deps/instructions-* --bench`, it
//! needs no release build of this bench, whose own speed does not matter.
//!
//! valgrind knows no SHA instructions, so SHA-256 is done in software here: some 27,000 of a new
//! connection's instructions, which are a thousand cycles on a machine that has them.
// A bench prints on standard output.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod balancers;
mod callgrind;
#[path = "../throughput/certificate.rs"]
mod certificate;
mod decision;
mod exchange;
mod kept;
mod origin;
mod profile;
mod rows;
mod visits;

use std::error::Error;
use std::process::ExitCode;

use crate::callgrind::Counted;
use crate::kept::Kept;

/// Factor by which a count may grow.
const ROOM: f64 = 1.03;
type Counter = (&'static str, fn() -> Counted);
/// Counts of Stayput alone.
const COUNTERS: [Counter; 2] = [("decision", decision::decision), ("exchange", exchange::exchange)];

/// The command line.
pub(crate) struct Options {
    pub(crate) update: bool,
    profile: bool,
    /// The chosen rows; empty for all.
    chosen: Vec<String>,
}

impl Options {
    pub(crate) fn names(&self, name: &str) -> bool {
        self.chosen.is_empty() || self.chosen.iter().any(|chosen| chosen == name)
    }
}

/// True if all rivals must be installed: `.ci/run` sets this after it has installed them.
pub(crate) fn must_be_installed() -> bool {
    std::env::var_os("STAYPUT_TEST_CLIENTS").is_some()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    if let Some(at) = arguments.iter().position(|argument| argument == decision::DECISIONS) {
        let count = arguments.get(at + 1).and_then(|count| count.parse().ok()).unwrap_or(0);
        decision::decisions(count);
        return ExitCode::SUCCESS;
    }
    if !has("--bench") {
        println!("instructions: nothing to do; run it with: cargo bench --bench instructions");
        return ExitCode::SUCCESS;
    }
    let chosen = arguments.iter().filter(|argument| !argument.starts_with('-')).cloned().collect();
    match run(&Options { update: has("--update"), profile: has("--profile"), chosen }) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("instructions: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<bool, Box<dyn Error>> {
    if !callgrind::is_installed() {
        println!("instructions: skipped, valgrind is not installed");
        return Ok(!must_be_installed());
    }
    if options.profile {
        return rows::profile(options);
    }
    if !rows::are_named(options) && !COUNTERS.iter().any(|(name, _)| options.names(name)) {
        println!("instructions: nothing here is called {}", options.chosen.join(", "));
        return Ok(true);
    }
    let counts = counts(options)?;
    let held = rows::compare(options)? && counts;
    if !held {
        println!("if a growth is meant: cargo bench --bench instructions -- --update, and say why");
    }
    Ok(held)
}

/// Returns false if a count grew too much.
fn counts(options: &Options) -> Result<bool, Box<dyn Error>> {
    let mut kept = Kept::read("instructions.txt")?;
    let mut held = true;
    let counters =
        [("decision", decision::decision as fn() -> _), ("exchange", exchange::exchange)];
    for (name, counter) in counters.into_iter().filter(|(name, _)| options.names(name)) {
        if name == "decision" && cfg!(debug_assertions) {
            println!("decision: skipped, this program was built without optimisation");
            continue;
        }
        let count = counter()?;
        if options.update {
            kept.set(name, &format!("{count:.0}"));
        }
        let before = kept.get(name)?.ok_or("instructions.txt lacks a line")?;
        let ratio = count / before;
        println!("{name}: {count:.0} instructions, {ratio:.3} x what was kept (must <= {ROOM})");
        held &= ratio <= ROOM;
    }
    if options.update {
        kept.write()?;
    }
    Ok(held)
}
