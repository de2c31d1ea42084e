//! Generates the complete sample and the reference of every key from the declarations.

use super::effective::has_headings;
use super::keys::{FILE, Key, Kind};

/// Generates `config/complete.toml`, a sample with every key.
pub fn complete() -> String {
    let mut out = String::from(
        "# All keys. Generated from the declarations of the keys: change those, not this file.\n\
         # Values that are not commented out are the defaults, except addresses and targets.\n\
         # `#key = ...` shows a key that has no default, or that another key excludes.\n",
    );
    sample(&mut out, FILE, "", false);
    out
}

/// Generates `docs/configuration.md`, the reference of every key.
pub fn reference() -> String {
    let mut out = String::from(
        "# Configuration\n\n\
         <!-- Generated from the declarations of the keys: change those, not this file. -->\n\n\
         You write the configuration in one TOML file. `stayput check` reports all errors at\n\
         once; unknown keys are errors. Relative paths are relative to the file. Durations are\n\
         whole numbers with units (`ms`, `s`, `m`, `h`, `d`), for example `\"1h30m\"`; sizes have\n\
         the units `B`, `KB`, `MB`, `GB`, `KiB`, `MiB` and `GiB`. Write each table in one place.\n\
         Keys that are marked \"Not supported yet\" accept only their default.\n",
    );
    chapter(&mut out, "the top of the file", "", FILE);
    out
}

/// Writes one table of keys, then its subtables.
fn chapter(out: &mut String, title: &str, path: &str, keys: &[Key]) {
    out.push_str(&format!(
        "\n## {title}\n\n| key | must be | default | |\n| --- | --- | --- | --- |\n"
    ));
    for key in keys {
        let default = match (key.derived, key.default) {
            (Some(words), _) => words.to_owned(),
            (None, Some(text)) => format!("`{text}`"),
            (None, None) if key.optional => "absent".into(),
            (None, None) => "required".into(),
        };
        let words = key.kind.not_yet().unwrap_or_default();
        let later = if key.supported { "" } else { NOT_YET };
        let kind = key.kind.expects().replace('|', "\\|");
        let manual = key.manual.replace('|', "\\|");
        out.push_str(&format!(
            "| `{}` | {kind} | {default} | {manual}{words}{later} |\n",
            key.name
        ));
    }
    for key in keys {
        let path = if path.is_empty() { key.name.into() } else { format!("{path}.{}", key.name) };
        inner(out, &path, &key.kind);
    }
}

fn inner(out: &mut String, path: &str, kind: &Kind) {
    match kind {
        Kind::Table(keys) => chapter(out, &format!("`{path}`"), path, keys),
        Kind::Named(keys) => {
            let path = format!("{path}.NAME");
            chapter(out, &format!("`{path}`"), &path, keys);
        }
        Kind::List(kind) | Kind::OneOrMany(kind) => match kind {
            Kind::Table(keys) => chapter(out, &format!("each of `{path}`"), path, keys),
            _ => inner(out, path, kind),
        },
        Kind::Either(kinds) => kinds.iter().for_each(|kind| inner(out, path, kind)),
        _ => {}
    }
}

/// Writes the keys of a table as a sample; `off` is true if the table itself is commented out.
fn sample(out: &mut String, keys: &[Key], path: &str, off: bool) {
    for key in keys.iter().filter(|key| !headed(key)) {
        prose(out, key);
        let (value, shown) = match (key.default, key.example) {
            (Some(default), _) => (default, true),
            (None, Some(example)) => (example, !key.optional),
            (None, None) => continue,
        };
        let comment = if shown && !off { "" } else { "#" };
        out.push_str(&format!("{comment}{} = {value}\n", key.name));
    }
    for key in keys.iter().filter(|key| headed(key)) {
        let path = if path.is_empty() { key.name.into() } else { format!("{path}.{}", key.name) };
        let off = off || key.default.is_none() && key.optional || !key.supported;
        let (heading, keys) = match &key.kind {
            Kind::Table(keys) => (format!("[{path}]"), *keys),
            Kind::Named(keys) => (format!("[{}]", named(&path)), *keys),
            Kind::List(Kind::Table(keys)) => (format!("[[{path}]]"), *keys),
            _ => continue,
        };
        let off = off || matches!(key.kind, Kind::List(_));
        out.push('\n');
        prose(out, key);
        out.push_str(&format!("{}{heading}\n", if off { "#" } else { "" }));
        sample(out, keys, heading.trim_matches(['[', ']']), off);
    }
}

/// Returns true if the sample gives the key a heading: it is a table, and its example does not show
/// it inline.
fn headed(key: &Key) -> bool {
    has_headings(&key.kind) && key.example.is_none()
}

fn named(path: &str) -> String {
    match path {
        "listener" => "listener.web".into(),
        _ => format!("{path}.app"),
    }
}

fn prose(out: &mut String, key: &Key) {
    let mut text = key.manual.to_owned();
    if let Some(derived) = key.derived {
        text.push_str(&format!(" Default: {derived}."));
    }
    if let Kind::Word(_) | Kind::Duration(_) | Kind::Integer(..) | Kind::Size { .. } = key.kind {
        text.push_str(&format!(" {}.", capital(&key.kind.expects())));
    }
    text.extend(key.kind.not_yet());
    let mut line = String::from("#");
    for word in text.split(' ') {
        if line.len() + word.len() > 98 {
            out.push_str(&format!("{line}\n"));
            line = "#".into();
        }
        line.push_str(&format!(" {word}"));
    }
    out.push_str(&format!("{line}\n"));
    if !key.supported {
        out.push_str(&format!("#{NOT_YET}\n"));
    }
}

const NOT_YET: &str = " Not supported yet.";

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}
