//! The log messages of the program match the list in `docs/messages.md`.

use super::{files_below, is_rs};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Messages that are not literals of a `tracing` macro: the file, the level, and the literal there.
const COMPOSED: [(&str, &str, &str); 9] = [
    ("control/certificates.rs", "warn", "certificate of {names} {validity}"),
    (
        "control/health_monitor/target.rs",
        "warn",
        "health check failed: {asked} returned {got}, expected {}; check health.path and \
         health.matcher",
    ),
    (
        "control/health_monitor/target.rs",
        "warn",
        "health check failed: the response to {asked} does not contain \\\"{}\\\"; check \
         health.body",
    ),
    (
        "control/health_monitor/target.rs",
        "warn",
        "health check failed: no response to {asked} within {:?}; check the target and \
         health.timeout",
    ),
    ("control/health_monitor/target.rs", "warn", "health check failed: {asked} at {}: {other}"),
    (
        "proxy/upstream/attempt.rs",
        "warn",
        "TLS handshake with a target failed; check its certificate and target_group.*.tls",
    ),
    (
        "proxy/upstream/attempt.rs",
        "warn",
        "target does not speak HTTP/2; check target_group.*.protocol and .tls",
    ),
    (
        "observe/messages.rs",
        "warn",
        "WARN {dropped} log messages dropped: standard error did not accept them\\n",
    ),
    ("observe/messages.rs", "error", "ERROR thread '{name}': {panic}{more}{backtrace}"),
];

/// A level and a message, with `...` for its variable parts.
type Message = (String, String);

#[test]
fn docs_messages_lists_every_log_message_and_no_other() {
    let (source, page) = (messages_of_source(), messages_of_page());
    let missing: Vec<_> = source.difference(&page).collect();
    let gone: Vec<_> = page.difference(&source).collect();
    assert!(missing.is_empty(), "not in docs/messages.md: {missing:#?}");
    assert!(gone.is_empty(), "in docs/messages.md, but not in src: {gone:#?}");
}

fn messages_of_source() -> BTreeSet<Message> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut messages, mut composed) = (BTreeSet::new(), BTreeSet::new());
    for path in files_below(&root).into_iter().filter(|path| is_rs(path)) {
        let file = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for (level, message) in logged(code) {
            if message.starts_with('{') && message.ends_with('}') {
                composed.insert(file.clone());
            } else {
                messages.insert((level, shown(&message)));
            }
        }
        for (_, level, literal) in COMPOSED.iter().filter(|(place, ..)| *place == file) {
            assert!(literals(code).contains(&(*literal).to_owned()), "{file} lacks {literal:?}");
            messages.insert(((*level).to_owned(), shown(literal)));
        }
    }
    assert!(messages.len() > 40, "only {} messages were found", messages.len());
    for file in composed {
        assert!(COMPOSED.iter().any(|(place, ..)| *place == file), "{file}: not in COMPOSED");
    }
    messages
}

/// The first two columns of the tables: the message in backquotes, and its levels.
fn messages_of_page() -> BTreeSet<Message> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/messages.md");
    let text = fs::read_to_string(page).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    rows.flat_map(|(message, rest)| {
        let levels = rest.split(" | ").next().unwrap().split(", ");
        levels.map(|level| (level.to_owned(), message.to_owned()))
    })
    .collect()
}

/// The level of each call of a `tracing` macro, and its last literal, which is the message.
fn logged(code: &str) -> Vec<Message> {
    let calls = code.match_indices("tracing::").filter_map(|(at, path)| {
        let (level, rest) = code[at + path.len()..].split_once("!(")?;
        let is_level = ["error", "warn", "info", "debug", "trace"].contains(&level);
        is_level.then(|| (level.to_owned(), literals(&rest[..end_of_call(rest)]).pop().unwrap()))
    });
    calls.collect()
}

/// The position of the parenthesis that closes the call before `text`.
fn end_of_call(text: &str) -> usize {
    let (mut depth, mut in_literal, mut escaped) = (1, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => in_literal = !in_literal,
            '(' if !in_literal => depth += 1,
            ')' if !in_literal => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The string literals of code as written, with continued lines joined.
fn literals(code: &str) -> Vec<String> {
    let (mut found, mut rest) = (Vec::new(), code);
    while let Some(begin) = rest.find('"') {
        // `'"'` is a character, and `// "` a comment.
        let line = rest[..begin].rsplit('\n').next().unwrap();
        if rest[..begin].ends_with('\'') && rest[begin + 1..].starts_with('\'') {
            rest = &rest[begin + 2..];
            continue;
        }
        if line.trim_start().starts_with("//") {
            rest = rest[begin..].split_once('\n').map_or("", |(_, next)| next);
            continue;
        }
        let text = &rest[begin + 1..];
        let mut escaped = false;
        let end = text.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let end = end.unwrap_or(text.len());
        let mut lines = text[..end].split("\\\n");
        let first = lines.next().unwrap().to_owned();
        found.push(lines.fold(first, |joined, line| joined + line.trim_start()));
        rest = text.get(end + 1..).unwrap_or_default();
    }
    found
}

/// A literal as the page shows it.
fn shown(literal: &str) -> String {
    let plain = literal.replace("\\\"", "\"").replace("\\n", "");
    let plain = plain.trim_start_matches("WARN ").trim_start_matches("ERROR ");
    let mut parts = plain.split('{');
    let first = parts.next().unwrap().to_owned();
    let joined = parts.fold(first, |text, part| text + "..." + part.split_once('}').unwrap().1);
    joined.replace("......", "...").replace("......", "...")
}
