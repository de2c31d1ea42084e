//! Tests that did not run because a program is missing. Each such test adds a line to a file that
//! belongs to this run. `what_did_not_run`, which cargo runs last, reads the file.
//!
//! The test harness has no state for a test that is skipped at run time, and counts it as passed.

#![allow(dead_code, reason = "one target writes, another reads")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The prefix of a file's name; the run follows.
const PREFIX: &str = "skipped-";
/// Age from which another run's file counts as left over.
const ABANDONED: Duration = Duration::from_secs(24 * 3_600);

/// The directory of all runs' files.
pub fn directory() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// An id of this run: all its test programs have one parent, cargo, which is identified by its
/// process id and, as ids are reused, its start time.
pub fn run() -> String {
    let parent = std::os::unix::process::parent_id();
    let stat = fs::read_to_string(format!("/proc/{parent}/stat")).unwrap_or_default();
    // The 2nd field, the program's name in parentheses, may contain blanks (proc(5)), so count from
    // its end: the start time, field 22, is the 20th after it.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let began = after_name.split_ascii_whitespace().nth(19).unwrap_or("0");
    format!("{parent}-{began}")
}

/// Records that the test of this thread does not run.
pub fn note(directory: &Path, run: &str, what: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("main");
    let path = directory.join(format!("{PREFIX}{run}"));
    // One write, so that the lines of two threads do not mix.
    let line = format!("{what}\t{test}\n");
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(line.as_bytes())).expect("target/tmp can be written");
}

/// Returns the summary of this run, and removes its file and those of runs that broke off.
pub fn take(directory: &Path, run: &str) -> String {
    let own = directory.join(format!("{PREFIX}{run}"));
    let summary = summary(&fs::read_to_string(&own).unwrap_or_default());
    let _ = fs::remove_file(own);
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()).filter(is_abandoned) {
        let _ = fs::remove_file(path);
    }
    summary
}

fn is_abandoned(path: &PathBuf) -> bool {
    let is_one = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
    let age = fs::metadata(path).and_then(|it| it.modified()).map(|it| it.elapsed());
    is_one && age.is_ok_and(|age| age.is_ok_and(|age| age > ABANDONED))
}

/// One line: the number, the missing programs, and how to install them.
pub fn summary(noted: &str) -> String {
    let mut tests: BTreeMap<&str, BTreeSet<(&str, usize)>> = BTreeMap::new();
    let mut all = BTreeSet::new();
    for (at, line) in noted.lines().enumerate() {
        let (what, test) = line.split_once('\t').unwrap_or((line, "main"));
        // With one thread all tests are called `main`, and each line is one test.
        let test = (test, if test == "main" { at } else { 0 });
        // A test that lacks two programs is listed with the first.
        if all.insert(test) {
            tests.entry(what).or_default().insert(test);
        }
    }
    let why = tests.iter().map(|(what, tests)| {
        let remedy = remedy(what).map(|remedy| format!(": {remedy}")).unwrap_or_default();
        format!("{what} ({}){remedy}", tests.len())
    });
    match all.len() {
        0 => "stayput: no test was skipped".to_owned(),
        1 => format!("stayput: 1 test was skipped; missing: {}", why.collect::<String>()),
        count => {
            let why = why.collect::<Vec<_>>().join("; ");
            format!("stayput: {count} tests were skipped; missing: {why}")
        }
    }
}

/// The command that installs a program on Debian, as `.ci/run` does.
fn remedy(what: &str) -> Option<String> {
    let package = match what {
        "nginx" => "nginx-light",
        "h2load" => "nghttp2-client",
        "curl" | "haproxy" | "openssl" | "chromium" => what,
        "unshare" => "util-linux",
        what if what.starts_with("Python ") => return Some("run .ci/run once".to_owned()),
        _ => return None,
    };
    Some(format!("apt-get install {package}"))
}
