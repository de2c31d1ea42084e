//! The rules of the code as a test: the imports of each folder, restricted names, the size of
//! files, and words.

// A test may stop at the first error.
#![allow(clippy::unwrap_used)]

#[path = "house/messages.rs"]
mod messages;
#[path = "house/words.rs"]
mod words;

use std::fs;
use std::path::{Path, PathBuf};

/// Folders of `src` and their layers. A file imports folders of lower layers, and its own.
const LAYERS: [(&str, u8); 13] = [
    ("base", 0),
    ("http1", 1),
    ("policy", 2),
    ("config", 3),
    ("model", 4),
    ("decide", 5),
    ("observe", 6),
    ("net", 7),
    ("proxy", 8),
    ("control", 9),
    ("server", 10),
    ("worker", 10),
    ("cli", 11),
];

/// Folders up to this layer use no runtime, no files and no sockets.
const PURE_UP_TO: u8 = 2;

/// Imports within one layer that are allowed, with the reason.
const NEIGHBOURS: [(&str, &str, &str); 1] =
    [("server", "worker", "the server starts the workers; both are in one layer")];

/// Names that are restricted to some places: the name, the places, and the reason.
const AT_HOME: [(&str, &str, &str); 11] = [
    ("clap", "cli/", "only the command line parses arguments"),
    ("arc_swap", "model/published.rs", "snapshots are published by one swap"),
    ("Instant::now", "base/clock.rs", "time is passed in"),
    ("SystemTime::now", "base/clock.rs", "time is passed in"),
    ("hyper", "control/ cli/", "only checks and the demo's replicas use it"),
    ("rustls", "net/tls policy/tls/", "one place configures TLS and its cryptography"),
    ("tokio_rustls", "net/tls", "the same"),
    ("toml", "config/ cli/", "only the configuration file is TOML"),
    ("annotate_snippets", "config/problem.rs", "one place renders errors with carets"),
    ("unsafe", "nowhere", "no code needs it"),
    // Outside of Linux there is no timerfd, and the alarm uses tokio's timers.
    ("tokio::time", "server.rs control/ cli/ net/timer/alarm.rs", NO_TIME_DRIVER),
];

/// The reason for keeping tokio's timers out of workers' code; they would panic there, too.
const NO_TIME_DRIVER: &str = "a worker's runtime has no time driver, which costs every turn of the event loop: use \
                              net::timer";

/// Names that pure folders must not use.
const ABOVE_THE_BASE: [&str; 7] =
    ["tokio", "hyper", "std::fs", "std::net::Tcp", "std::net::Udp", "std::thread", "socket2"];

/// Lines of code a file may have before its tests.
const MAX_LINES: usize = 500;

struct Source {
    /// Relative to `src`.
    path: String,
    text: String,
}

impl Source {
    fn room(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap()
    }

    /// Lines of code: without the tests at the end, and without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(at, line)| (at + 1, line));
        lines
            .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(at, line)| (at, line.split(" // ").next().unwrap_or(line)))
    }

    fn at(&self, line: usize) -> String {
        format!("src/{}:{line}", self.path)
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = files_below(&root).into_iter().filter(|path| is_rs(path));
    let read = |path: PathBuf| Source {
        text: fs::read_to_string(&path).unwrap(),
        path: path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(),
    };
    // A `tests.rs` holds the tests of the file that its folder is named after.
    let sources: Vec<Source> =
        files.map(read).filter(|source| !source.path.ends_with("/tests.rs")).collect();
    assert!(sources.len() > 50, "only {} files were found", sources.len());
    sources
}

fn is_rs(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| if path.is_dir() { files_below(&path) } else { vec![path] };
    entries.flat_map(below).collect()
}

/// True if `word` occurs in a line as a whole word.
fn names(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part)
    })
}

/// The folders that a line imports by `crate::room` or `crate::{room, ...}`.
fn rooms_named(line: &str) -> Vec<&str> {
    let after = line.match_indices("crate::").map(|(at, found)| &line[at + found.len()..]);
    after
        .flat_map(|rest| match rest.strip_prefix('{') {
            Some(list) => list.split([',', '}']).map(str::trim).collect::<Vec<_>>(),
            None => vec![rest],
        })
        .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap())
        .filter(|room| LAYERS.iter().any(|(known, _)| known == room))
        .collect()
}

fn layer(room: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == room).map(|(_, layer)| *layer)
}

#[track_caller]
fn nothing_is_wrong(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn every_folder_of_src_has_a_layer() {
    let rooms = sources()
        .into_iter()
        .filter(|source| !["lib.rs", "main.rs", "testing.rs"].contains(&&*source.path));
    let unknown = rooms.filter(|source| layer(source.room()).is_none());
    nothing_is_wrong(
        unknown.map(|source| format!("{} has no entry in LAYERS", source.at(1))).collect(),
    );
}

#[test]
fn imports_point_downward() {
    let mut faults = Vec::new();
    for source in sources() {
        let Some(own) = layer(source.room()) else { continue };
        for (at, line) in source.code() {
            for named in rooms_named(line).into_iter().filter(|named| *named != source.room()) {
                let excused =
                    NEIGHBOURS.iter().any(|(from, to, _)| (*from, *to) == (source.room(), named));
                if layer(named) >= Some(own) && !excused {
                    faults.push(format!(
                        "{} names {named}, which is not a lower layer",
                        source.at(at)
                    ));
                }
            }
        }
    }
    nothing_is_wrong(faults);
}

/// The files of `proxy/` in the order in which they may import: the list in its first doc comment.
fn proxy_order() -> Vec<String> {
    let sources = sources();
    let contents = sources.iter().find(|source| source.path == "proxy/mod.rs").unwrap();
    let rows = contents.text.lines().filter_map(|line| line.strip_prefix("//!   "));
    rows.map(|row| row.split_whitespace().next().unwrap().to_owned()).collect()
}

/// A file's path without `.rs` and `/mod.rs`, below `proxy/`.
fn proxy_file(path: &str) -> Option<&str> {
    let below = path.strip_prefix("proxy/")?.strip_suffix(".rs")?;
    (below != "mod").then(|| below.strip_suffix("/mod").unwrap_or(below))
}

/// Files of `proxy/` that a line names, by `crate::proxy::` or `super::`.
fn proxy_files_named(line: &str, file: &str, files: &[String]) -> Vec<String> {
    let parent = file.rsplit_once('/').map_or(String::new(), |(parent, _)| format!("{parent}/"));
    let own = format!("{file}/");
    let mut named = Vec::new();
    let prefixes = [("crate::proxy::", ""), ("super::", &*parent), ("", &*own)];
    for (prefix, base) in prefixes {
        let uses = match prefix {
            // A file of a folder names its submodules without a prefix.
            "" if !line.trim_start().starts_with("use ") => continue,
            "" => vec![line.trim_start().trim_start_matches("use ")],
            _ => line.match_indices(prefix).map(|(at, _)| &line[at + prefix.len()..]).collect(),
        };
        for rest in uses {
            let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            let path = rest.split(|c| !is_part(c)).next().unwrap().replace("::", "/");
            let longest = files
                .iter()
                .filter(|known| {
                    let path = format!("{base}{path}/");
                    known.starts_with(base) && path.starts_with(&format!("{known}/"))
                })
                .max_by_key(|known| known.len());
            named.extend(longest.cloned());
        }
    }
    named.retain(|known| known != file);
    named
}

#[test]
fn files_of_the_proxy_import_only_files_below_them() {
    let order = proxy_order();
    let place = |file: &str| order.iter().position(|known| known == file);
    let mut faults = Vec::new();
    let mut seen = 0;
    for source in sources() {
        let Some(file) = proxy_file(&source.path) else { continue };
        let Some(own) = place(file) else {
            faults.push(format!("{} is not in the list of src/proxy/mod.rs", source.at(1)));
            continue;
        };
        for (at, line) in source.code() {
            for named in proxy_files_named(line, file, &order) {
                seen += 1;
                if place(&named) < Some(own) {
                    faults.push(format!("{} names {named}, which is above it", source.at(at)));
                }
            }
        }
    }
    assert!(seen > 150, "only {seen} imports were found");
    nothing_is_wrong(faults);
}

#[test]
fn imports_within_the_proxy_are_seen_in_every_form() {
    let files = ["conn", "upstream", "upstream/http1", "h2"].map(str::to_owned);
    for (line, file, expected) in [
        ("use super::conn::Conn;", "h2", &["conn"][..]),
        ("use crate::proxy::upstream::http1::attempt;", "conn", &["upstream/http1"]),
        ("use super::http1::attempt;", "upstream/http2", &["upstream/http1"]),
        ("use super::upstream;", "conn", &["upstream"]),
        ("use http1::attempt;", "upstream", &["upstream/http1"]),
        ("    let x = super::conn::MAX;", "h2", &["conn"]),
        ("use super::connect::Conn;", "h2", &[]),
        ("use std::rc::Rc;", "h2", &[]),
    ] {
        assert_eq!(proxy_files_named(line, file, &files), expected, "{line}");
    }
}

#[test]
fn no_other_http1_codec_serves_requests() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|s| ["net", "proxy", "worker"].contains(&s.room())) {
        let strays = source.code().filter(|(_, line)| names(line, "hyper"));
        faults.extend(strays.map(|(at, _)| {
            format!("{} names hyper: src/http1 reads and writes HTTP/1.1", source.at(at))
        }));
    }
    nothing_is_wrong(faults);
}

#[test]
fn pure_folders_use_no_runtime_no_files_and_no_threads() {
    let low = sources()
        .into_iter()
        .filter(|source| layer(source.room()).is_some_and(|layer| layer <= PURE_UP_TO));
    let mut faults = Vec::new();
    for source in low {
        for (at, line) in source.code() {
            let named = ABOVE_THE_BASE.iter().filter(|word| line.contains(*word));
            faults.extend(named.map(|word| format!("{} names {word}", source.at(at))));
        }
    }
    nothing_is_wrong(faults);
}

#[test]
fn restricted_names_stay_in_their_files() {
    let mut faults = Vec::new();
    for source in sources() {
        for (word, home, why) in AT_HOME {
            let at_home = home.split(' ').any(|home| source.path.starts_with(home));
            let strays = source.code().filter(|(_, line)| !at_home && names(line, word));
            faults.extend(strays.map(|(at, _)| format!("{} names {word}: {why}", source.at(at))));
        }
    }
    nothing_is_wrong(faults);
}

/// The modules of a crate that a file imports in a group, as in `tokio::{io, time::sleep}`.
fn named_in_groups(code: &str, library: &str) -> Vec<String> {
    let group = format!("{library}::{{");
    let mut named = Vec::new();
    for (at, _) in code.match_indices(&group) {
        let (mut depth, mut part) = (1, String::new());
        for letter in code[at + group.len()..].chars() {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 || depth == 1 && letter == ',' {
                named.push(std::mem::take(&mut part));
            } else {
                part.push(letter);
            }
            if depth == 0 {
                break;
            }
        }
    }
    let first = |part: String| part.trim().split([':', ' ']).next().unwrap().to_owned();
    named.into_iter().map(first).filter(|part| !part.is_empty()).collect()
}

#[test]
fn workers_use_no_timers_of_tokio() {
    let on_workers = |source: &Source| ["net", "proxy", "worker"].contains(&source.room());
    let mut faults = Vec::new();
    for source in sources().into_iter().filter(on_workers) {
        let code: Vec<&str> = source.code().map(|(_, line)| line).collect();
        if named_in_groups(&code.join("\n"), "tokio").iter().any(|part| part == "time") {
            faults.push(format!("{} names tokio::{{time}}: {NO_TIME_DRIVER}", source.at(1)));
        }
    }
    nothing_is_wrong(faults);
}

#[test]
fn modules_imported_in_a_group_are_found() {
    for (code, expected) in [
        ("use tokio::io::AsyncRead;", &[][..]),
        ("use tokio::{io, time};", &["io", "time"]),
        ("use tokio::{\n    io::{AsyncRead, time},\n    time::sleep,\n};", &["io", "time"]),
        ("use tokio::{net as n};\nuse tokio::{time as t};", &["net", "time"]),
    ] {
        assert_eq!(named_in_groups(code, "tokio"), expected, "{code}");
    }
}

#[test]
fn every_file_opens_with_a_module_comment_and_is_short() {
    let mut faults = Vec::new();
    for source in sources() {
        if !source.text.starts_with("//! ") {
            faults.push(format!("{} does not begin with //!", source.at(1)));
        }
        let lines = source.text.lines().take_while(|line| line.trim() != "#[cfg(test)]").count();
        if lines > MAX_LINES {
            faults.push(format!("{} has {lines} lines before its tests", source.at(1)));
        }
    }
    nothing_is_wrong(faults);
}

#[test]
fn no_file_holds_a_to_do_or_points_outside_the_repository() {
    // Concatenated, so that this file passes its own test.
    let banned = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("../sh", "ared"),
        concat!("DESIGN", ".md"),
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders =
        ["src", "tests", "benches", "examples", "config", "docs"].map(|name| root.join(name));
    let pages = ["README.md", "Cargo.toml"].map(|name| root.join(name));
    let files =
        folders.iter().filter(|folder| folder.is_dir()).flat_map(|folder| files_below(folder));
    let mut faults = Vec::new();
    for path in files.chain(pages.into_iter().filter(|page| page.is_file())) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (at, line) in text.lines().enumerate() {
            let found = banned.iter().filter(|word| line.contains(*word));
            faults.extend(found.map(|word| format!("{}:{}: {word}", path.display(), at + 1)));
        }
    }
    nothing_is_wrong(faults);
}

#[test]
fn the_count_of_skipped_tests_is_printed_last() {
    // Cargo runs test targets in the order of their names.
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let entries = fs::read_dir(tests).unwrap().map(|entry| entry.unwrap().path());
    let targets = entries.filter(|path| is_rs(path) || path.join("main.rs").is_file());
    let mut names: Vec<_> =
        targets.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    assert_eq!(names.last().map(String::as_str), Some("what_did_not_run"), "{names:?}");
}

#[test]
fn both_forms_of_a_crate_import_are_seen() {
    assert_eq!(rooms_named("use crate::net::pool::Pool;"), ["net"]);
    assert_eq!(rooms_named("use crate::{proxy, cli::run};"), ["proxy", "cli"]);
    assert_eq!(rooms_named("fn at(x: &crate::model::Group, y: crate::Thing)"), ["model"]);
}

#[test]
fn each_row_of_the_alb_guide_marked_same_names_a_test() {
    let guide =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/from-alb.md")).unwrap();
    let mut code = String::new();
    for folder in ["src", "tests"] {
        read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut code);
    }
    let mut faults = Vec::new();
    let mut rows = 0;
    for line in guide.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        if !cells.contains(&"same") {
            continue;
        }
        rows += 1;
        let last = cells.last().copied().unwrap_or_default();
        let test = last.trim_matches('`');
        if !code.contains(&format!("fn {test}()")) && !code.contains(&format!("fn {test}(\n")) {
            faults.push(format!("{line}: there is no test `{test}`"));
        }
    }
    assert!(rows > 40, "only {rows} rows say the same");
    nothing_is_wrong(faults);
}

fn read_all(folder: &Path, code: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.extension() {
            _ if path.is_dir() => read_all(&path, code),
            Some(extension) if extension == "rs" => {
                code.push_str(&fs::read_to_string(&path).unwrap());
            }
            _ => {}
        }
    }
}
