//! The words as a test: refused words, first words of doc comments, test names, names in docs.

use super::{files_below, is_rs, nothing_is_wrong};
use std::fs;
use std::path::{Path, PathBuf};

/// Refused words, each with the reason. A word in lower case is refused in either case and in the
/// plural, in prose and as a part of a name. A word with a capital is refused as a name; one that
/// ends with `_` is refused at the beginning of a name.
const REFUSED: [(&str, &str); 70] = [
    ("nobody", "not for connections or targets: write `no client`, `no target`, `none`"),
    ("whoever", "name the client, the target or the connection"),
    ("whom", "begin a sentence with the subject: `the target that gets the client`"),
    ("whomever", "name the client or the target"),
    ("everyone", "write `all clients`, `all targets`"),
    ("everybody", "write `all clients`, `all targets`"),
    ("goodbye", "write GOAWAY, close_notify or close frame"),
    ("for ever", "write `without a limit` or `until` and the event"),
    ("borne", "write `allowed` or `tolerated`, with the bound"),
    ("newcomer", "write `new client`: one without a pin"),
    ("stranger", "write `another client` or `untrusted peer`"),
    ("MOST_", "bounds are `MAX_`"),
    ("LONGEST_", "bounds are `MAX_`"),
    ("LARGEST_", "bounds are `MAX_`"),
    ("LEAST_", "bounds are `MIN_`"),
    ("SHORTEST_", "bounds are `MIN_`"),
    ("FEWEST_", "bounds are `MIN_`"),
    // Former names of types, functions and constants, which text may still use.
    ("Workplace", "the type is `WorkerCtx`"),
    ("Story", "the type is `LogEntry`"),
    ("Remembered", "the type is `TokenCache`"),
    ("AsItIs", "the type is `LiveView`"),
    ("Assumed", "the type is `AssumedState`"),
    ("Noticing", "the type is `RecordingDraw`"),
    ("Desk", "the type is `Connections`"),
    ("Lease", "the type is `UpstreamLease`"),
    ("TargetSide", "the type is `UpstreamLease`"),
    ("Announcement", "the type is `ProxyHeader`"),
    ("OnBehalfOf", "the type is `ProxySource`"),
    ("Introduction", "the type is `ForwardedValues`"),
    ("shake_hands", "the function is `tls_handshake`"),
    ("Paced", "the type is `BudgetedReader`"),
    ("begin_mute", "the function is `pause`"),
    ("Outflow", "the type is `SendBudget`"),
    ("Queued", "the type is `BudgetedBuf`"),
    ("Conduct", "the type is `FloodGuard`"),
    ("is_talkative", "the function is `is_mostly_control_frames`"),
    ("IDLE_TALK", "the constant is `CONTROL_ALLOWANCE`"),
    ("FIRST_WORDS", "the constant is `CONTROL_ALLOWANCE`"),
    ("say_goodbye", "the function is `send_goaway`"),
    ("GOODBYE", "the constant is `GOAWAY_GRACE`"),
    ("let_go", "the name is `released`"),
    ("Way", "the type is `DialConfig`"),
    ("InLine", "the type is `QueueGuard`"),
    ("wait_in_line", "write `wait_for_permit`"),
    ("Trouble", "the type is `RequestError`"),
    ("BrokenOff", "the type is `BodyError`"),
    ("WatchedStream", "the type is `CountedStream`"),
    ("left_behind", "the name is `reclaimed`"),
    ("Seldom", "the type is `LogThrottle`"),
    ("may_tell", "the function is `should_log`"),
    ("take_in", "the function is `apply`"),
    ("Roster", "the type is `TargetRegistry`"),
    ("Picture", "the type is `SnapshotRef`"),
    ("TargetLive", "the type is `TargetState`"),
    ("GroupLive", "the type is `GroupState`"),
    ("Sessions", "the type is `SessionSketch`"),
    ("Standing", "the types are `GroupHealth`, `AnomalyState` and `Validity`"),
    ("NOBODY", "the constant is `Tried::EMPTY`"),
    ("Carrier", "the type is `StickinessKey`"),
    ("Accompanied", "the type is `AppCookie`"),
    ("Companion", "the type is `AppCookie`"),
    ("Renewal", "the type is `CookieUpdate`"),
    ("Choosing", "the type is `RuleGroups`"),
    ("Placing", "the type is `Placer`"),
    ("Wish", "the type is `DrainRequest`"),
    ("Newcomers", "the type is `WeightController`"),
    ("Strangers", "the type is `UnknownKeyMonitor`"),
    ("Share", "the type is `WeightFraction`"),
    ("Cycle", "the type is `WrrSchedule`"),
    ("Refusal", "the type is `RejectReason`"),
];

/// First words that turn a doc comment into a question. Begin with the subject, `Returns`,
/// `Reports` or `True if`.
const QUESTIONS: [&str; 8] = ["What", "Who", "Whom", "Whose", "Whether", "Where", "How", "Why"];

const TEXT: [&str; 7] = ["rs", "md", "toml", "txt", "py", "sh", "yaml"];

/// Paths whose content is data, or the list of words itself.
const EXEMPT: [&str; 4] =
    ["tests/house/words.rs", "tests/front/recorded.txt", "tests/vectors", "fuzz/target"];

/// A text with its path from the root of the repository.
struct Page {
    path: String,
    text: String,
}

impl Page {
    fn lines(&self) -> impl Iterator<Item = (String, &str)> {
        self.text.lines().enumerate().map(|(at, line)| (format!("{}:{}", self.path, at + 1), line))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(path: &Path) -> Option<Page> {
    let name = path.strip_prefix(root()).unwrap().to_str()?.to_owned();
    let mut text = fs::read_to_string(path).ok()?;
    if name == "CHANGELOG.md" {
        // Later sections are of releases, and are not written again.
        let mut ends = text.match_indices("\n## ").map(|(at, _)| at).skip(1);
        if let Some(end) = ends.next() {
            text.truncate(end);
        }
    }
    Some(Page { path: name, text })
}

fn pages_below(folders: &[&str]) -> Vec<Page> {
    let paths = folders.iter().map(|name| root().join(name)).filter(|path| path.exists());
    let files = paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] });
    let is_text =
        |path: &PathBuf| path.extension().is_some_and(|end| TEXT.iter().any(|known| end == *known));
    let pages = files.filter(is_text).filter_map(|path| page(&path));
    pages.filter(|page| !EXEMPT.iter().any(|path| page.path.starts_with(path))).collect()
}

/// True if `line` holds the word. A name that is an English word too (`Share`) counts in prose only
/// if it is in backquotes.
fn holds_refused(line: &str, is_prose: bool, word: &str) -> bool {
    let is_name = word.contains(|c: char| c.is_uppercase() || c == '_');
    let is_english = is_name && word.chars().skip(1).all(|c| c.is_lowercase());
    let is_part = |c: char| c.is_alphanumeric() || is_name && c == '_';
    let line = if is_name { line.to_owned() } else { line.to_ascii_lowercase() };
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        let after = if is_name { after } else { after.strip_prefix('s').unwrap_or(after) };
        let is_whole = word.ends_with('_') || !after.starts_with(is_part);
        let is_meant = !(is_english && is_prose) || before.ends_with('`');
        !before.ends_with(is_part) && is_whole && is_meant
    })
}

#[test]
fn words_that_do_not_read_at_once_are_refused() {
    let mut faults = Vec::new();
    let folders = ["src", "tests", "benches", "fuzz", "examples", "docs", "config"];
    let pages = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"];
    let pages = pages_below(&[&folders[..], &pages].concat());
    assert!(pages.len() > 200, "only {} files were read", pages.len());
    for page in pages {
        let lower = page.text.to_ascii_lowercase();
        let met = REFUSED.iter().filter(|(word, _)| lower.contains(&word.to_ascii_lowercase()));
        let met: Vec<_> = met.collect();
        for (at, line) in page.lines().filter(|_| !met.is_empty()) {
            let is_prose = !page.path.ends_with(".rs") || line.trim_start().starts_with("//");
            let found = met.iter().filter(|(word, _)| holds_refused(line, is_prose, word));
            faults.extend(found.map(|(word, why)| format!("{at}: \"{word}\": {why}")));
        }
    }
    nothing_is_wrong(faults);
}

#[test]
fn a_refused_word_is_found_in_prose_and_in_names_and_not_within_words() {
    for (line, word, expected) in [
        ("/// Nobody waits.", "nobody", true),
        ("fn it_stops_nobody_else() {", "nobody", true),
        ("two strangers meet", "stranger", true),
        ("the strangest of all", "stranger", false),
        ("const MOST_BYTES: usize = 1;", "MOST_", true),
        ("const ALMOST_ALL: usize = 1;", "MOST_", false),
        ("fn of(roster: &Roster) {", "Roster", true),
        ("let roster = 1;", "Roster", false),
        ("struct RosterLike;", "Roster", false),
        ("/// The `Roster` of targets.", "Roster", true),
        ("/// Roster of targets.", "Roster", false),
        ("/// The TargetSide of it.", "TargetSide", true),
        ("it goes on for ever.", "for ever", true),
        ("for every client", "for ever", false),
    ] {
        let is_prose = line.starts_with("///");
        assert_eq!(holds_refused(line, is_prose, word), expected, "{line}");
    }
}

/// The first word of the doc comment that begins at `line`, if one does.
fn doc_opening<'a>(before: &str, line: &'a str) -> Option<&'a str> {
    let line = line.trim_start();
    let mark = ["/// ", "//! "].into_iter().find(|mark| line.starts_with(mark))?;
    let goes_on = before.trim_start().starts_with(mark.trim_end());
    let word = line[mark.len()..].split(|c: char| !c.is_alphanumeric()).next()?;
    (!goes_on).then_some(word)
}

#[test]
fn a_doc_comment_does_not_begin_with_a_question_word() {
    let mut faults = Vec::new();
    for page in pages_below(&["src", "tests", "benches", "fuzz", "examples"]) {
        let mut before = "";
        for (at, line) in page.lines().filter(|_| page.path.ends_with(".rs")) {
            let opening = doc_opening(before, line).filter(|word| QUESTIONS.contains(word));
            faults.extend(opening.map(|word| format!("{at}: begins with \"{word}\"")));
            before = line;
        }
    }
    nothing_is_wrong(faults);
}

#[test]
fn only_the_first_line_of_a_doc_comment_counts_as_its_beginning() {
    for (before, line, expected) in [
        ("", "//! How it works.", Some("How")),
        ("    /// One,", "    /// Who is two.", None),
        ("", "    /// Who's there.", Some("Who")),
        ("/// One", "// How", None),
        ("", "/// `What` is a type.", Some("")),
        ("//! The file.", "/// Where it is.", Some("Where")),
    ] {
        assert_eq!(doc_opening(before, line), expected, "{line}");
    }
}

/// The pages of the manual and those at the root.
fn docs() -> Vec<Page> {
    let pages = pages_below(&["docs", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"]);
    let pages: Vec<Page> = pages.into_iter().filter(|page| page.path.ends_with(".md")).collect();
    assert!(pages.len() > 10, "only {} pages were read", pages.len());
    pages
}

/// The fragment by which GitHub links a heading.
fn fragment(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || ['-', '_', ' '].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn has_fragment(text: &str, wanted: &str) -> bool {
    text.contains(&format!("id=\"{wanted}\""))
        || text.lines().any(|line| line.starts_with('#') && fragment(line) == wanted)
}

#[test]
fn every_link_of_the_docs_has_a_target() {
    let (mut faults, mut links) = (Vec::new(), 0);
    for page in docs() {
        let own = root().join(&page.path);
        for (at, line) in page.lines() {
            let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            for link in targets.filter(|link| !link.contains("://")) {
                links += 1;
                let (path, wanted) = link.split_once('#').unwrap_or((link, ""));
                let file = if path.is_empty() { own.clone() } else { own.with_file_name(path) };
                if !file.exists() {
                    faults.push(format!("{at}: there is no {path}"));
                } else if !wanted.is_empty()
                    && !fs::read_to_string(&file).is_ok_and(|text| has_fragment(&text, wanted))
                {
                    faults.push(format!("{at}: {link} names no heading"));
                }
            }
        }
    }
    assert!(links > 50, "only {links} links were found");
    nothing_is_wrong(faults);
}

#[test]
fn every_source_file_that_the_docs_name_exists() {
    let folders = ["src", "tests", "benches", "fuzz", "examples"].map(|name| root().join(name));
    let files = folders.iter().filter(|folder| folder.is_dir()).flat_map(|path| files_below(path));
    let known: Vec<String> =
        files.filter(|path| is_rs(path)).map(|path| path.display().to_string()).collect();
    let (mut faults, mut seen) = (Vec::new(), 0);
    for page in docs() {
        for (at, line) in page.lines() {
            let quoted = line.split('`').skip(1).step_by(2);
            for name in
                quoted.filter(|name| name.ends_with(".rs") && !name.contains([' ', '*', '{']))
            {
                seen += 1;
                if !known.iter().any(|path| path.ends_with(&format!("/{name}"))) {
                    faults.push(format!("{at}: there is no {name}"));
                }
            }
        }
    }
    assert!(seen > 30, "only {seen} names were found");
    nothing_is_wrong(faults);
}

/// The longest name of a test, in letters.
const MAX_TEST_NAME: usize = 70;

/// The tests of a file, with their places.
fn tests_of(page: &Page) -> Vec<(String, &str)> {
    let mut tests = Vec::new();
    let mut is_next = false;
    for (at, line) in page.lines() {
        let line = line.trim();
        is_next |= line == "#[test]";
        let function = line.strip_prefix("fn ").and_then(|rest| rest.split('(').next());
        if let Some(name) = function.filter(|_| is_next) {
            tests.push((at, name));
            is_next = false;
        }
    }
    tests
}

#[test]
fn a_test_name_has_at_most_70_characters() {
    let pages = pages_below(&["src", "tests"]);
    let tests: Vec<_> = pages.iter().flat_map(tests_of).collect();
    assert!(tests.len() > 900, "only {} tests were found", tests.len());
    let long = tests.into_iter().filter(|(_, name)| name.len() > MAX_TEST_NAME);
    nothing_is_wrong(long.map(|(at, name)| format!("{at}: {name}: {}", name.len())).collect());
}

#[test]
fn every_test_that_the_security_page_names_exists() {
    let pages = pages_below(&["src", "tests"]);
    let known: Vec<&str> = pages.iter().flat_map(tests_of).map(|(_, name)| name).collect();
    let page = page(&root().join("docs/security.md")).unwrap();
    let keys = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let (mut faults, mut seen) = (Vec::new(), 0);
    for (at, line) in page.lines() {
        // Names of five words and more that are no keys; metrics, fields and reasons are shorter.
        let is_sentence = |name: &&str| {
            name.matches('_').count() >= 4
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        for name in line.split('`').skip(1).step_by(2).filter(is_sentence) {
            seen += 1;
            if !known.contains(&name) && !keys.contains(name) {
                faults.push(format!("{at}: there is no test {name}"));
            }
        }
    }
    assert!(seen > 15, "only {seen} names were found");
    nothing_is_wrong(faults);
}
