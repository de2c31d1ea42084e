//! The files of `config/`, the pages written from the declarations, and what is said of bad files.
//! With `UPDATE=1` it writes what it would compare.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use stayput::config::{self, Loaded, manual};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let is_toml = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "toml");
    let mut files: Vec<PathBuf> = entries.filter(is_toml).collect();
    files.sort();
    assert!(!files.is_empty(), "{folder} is empty");
    files
}

/// Compares a file with what it should hold, or writes it.
#[track_caller]
fn holds(path: &Path, expected: &str) {
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, expected).unwrap();
        return;
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(found, expected, "{} is out of date: set UPDATE=1", path.display());
}

fn parse(text: &str, origin: &str) -> Result<Loaded, config::Problems> {
    config::parse(text, origin, &root().join("config"))
}

#[test]
fn the_pages_are_what_the_declarations_say() {
    holds(&root().join("config/complete.toml"), &manual::sample());
    holds(&root().join("docs/configuration.md"), &manual::reference());
}

#[test]
fn every_sample_passes_without_a_warning_and_its_meaning_means_the_same() {
    for path in files("config") {
        let loaded = config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(loaded.warnings.list().is_empty(), "{}", loaded.warnings);
        let effective = loaded.effective();
        let again = parse(&effective, "effective").unwrap_or_else(|problems| panic!("{problems}"));
        let unmarked = |text: &str| text.replace("  # default", "");
        assert_eq!(unmarked(&again.effective()), unmarked(&effective), "{}", path.display());
        let spoken = |config: &config::settings::Config| format!("{config:?}");
        assert_eq!(spoken(&again.config), spoken(&loaded.config), "{}", path.display());
    }
}

/// What may be said when one commented line of the complete sample is made to count: it is for
/// later, or it needs a file or its neighbours.
const EXPECTED: [&str; 3] =
    ["is not supported yet", "cannot read the key", "the rule does nothing"];

#[test]
fn every_alternative_of_the_complete_sample_can_be_made_to_count() {
    let sample = manual::sample();
    let lines: Vec<&str> = sample.lines().collect();
    let mut tried = 0;
    for (at, line) in lines.iter().enumerate() {
        let Some(alternative) = line.strip_prefix("# ").filter(|line| is_alternative(line)) else {
            continue;
        };
        tried += 1;
        let text = with_alternative(&lines, at, alternative);
        if let Err(problems) = parse(&text, "complete.toml") {
            for problem in problems.list() {
                let fine = EXPECTED.iter().any(|expected| problem.title.contains(expected));
                assert!(fine, "line {}: {alternative}\n{problems}", at + 1);
            }
        }
    }
    assert!(tried > 50, "only {tried} alternatives were found");
}

/// Whether a comment is a line of TOML: `key = value` whose key is a bare word.
fn is_alternative(line: &str) -> bool {
    let Some((key, value)) = line.split_once(" = ") else { return false };
    let is_key =
        key.bytes().all(|byte| byte.is_ascii_lowercase() || b"_0123456789".contains(&byte));
    is_key && toml::from_str::<toml::Table>(&format!("x = {value}")).is_ok()
}

/// The sample in which this line counts, under its own headings if those are comments too.
fn with_alternative(lines: &[&str], at: usize, alternative: &str) -> String {
    let heading = lines[..at].iter().rev().find_map(|line| heading(line)).unwrap_or_default();
    let is_above = |name: &str| heading == name || heading.starts_with(&format!("{name}."));
    let mut text: Vec<&str> = lines.to_vec();
    text[at] = alternative;
    for line in &mut text[..at] {
        if self::heading(line).is_some_and(is_above) {
            *line = line.trim_start_matches("# ");
        }
    }
    text.join("\n")
}

/// The name in a heading, be it a comment or not.
fn heading(line: &str) -> Option<&str> {
    let line = line.strip_prefix("# ").unwrap_or(line);
    let is_heading = line.starts_with('[') && line.ends_with(']');
    is_heading.then(|| line.trim_matches(['[', ']']))
}

#[test]
fn what_is_said_of_a_bad_file_is_settled() {
    for path in files("tests/fixtures/config/invalid") {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        // Relative paths, so that a message does not hold the name of this machine's folders.
        let base = Path::new("tests/fixtures/config/invalid");
        let Err(problems) = config::parse(&text, name, base) else {
            panic!("{name} has no error in it")
        };
        holds(&path.with_extension("txt"), &format!("{problems}\n"));
        let repeated = problems.list().iter().any(|problem| problem.title.is_empty());
        assert!(!repeated, "{problems}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_reader_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0usize..40, ".{0,6}"), 1..8)
    ) {
        let mut text = manual::sample();
        for (place, removed, added) in changes {
            let mut from = place.index(text.len());
            while !text.is_char_boundary(from) { from -= 1; }
            let mut to = (from + removed).min(text.len());
            while !text.is_char_boundary(to) { to += 1; }
            text.replace_range(from..to, &added);
        }
        if let Err(problems) = parse(&text, "mutated") {
            prop_assert!(!problems.list().is_empty());
            // Rendering finds the lines of every span, so it must not panic either.
            prop_assert!(!problems.to_string().is_empty());
        }
    }
}
