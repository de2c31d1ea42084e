//! What is written from the declarations: the manual, the annotated sample, and what a file means.

use super::Loaded;
use super::keys::file::ROOT;
use super::keys::{Key, Kind};
use super::quantity::{write_duration, write_size};
use super::reader::{Node, Table, Value};
use std::fmt::Write;
use std::time::Duration;

impl Loaded {
    /// The file with every default filled in, as a file that means the same. Secrets stand in
    /// files of their own and are never read into it.
    pub fn effective(&self) -> String {
        let mut out =
            String::from("# What the file means. Lines marked `default` are not written in it.\n");
        write_table(&mut out, &self.effective, ROOT, "");
        out
    }
}

/// Writes the plain values of a table, then its tables under their own headings.
fn write_table(out: &mut String, table: &Table, keys: &'static [Key], path: &str) {
    let (plain, tables): (Vec<_>, Vec<_>) =
        keys.iter().filter_map(|key| Some((key, table.get(key.name)?))).partition(|(key, node)| {
            !matches!(node.value, Value::Table(_))
                && !matches!(key.kind, Kind::Named(_) | Kind::Ordered(_))
        });
    let (plain, inline): (Vec<_>, Vec<_>) = (plain, tables);
    for (key, node) in plain {
        if key.supported {
            let mark = if node.span.is_none() { "  # default" } else { "" };
            let _ = writeln!(out, "{} = {}{mark}", key.name, toml_of(node));
        }
    }
    for (key, node) in inline.into_iter().filter(|(key, _)| key.supported) {
        let full =
            if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
        match (&key.kind, &node.value) {
            (Kind::Named(keys), Value::Named(tables)) => {
                for (name, node) in tables {
                    if let Value::Table(table) = &node.value {
                        let name =
                            if name.contains('.') { format!("\"{name}\"") } else { name.clone() };
                        let full = format!("{full}.{name}");
                        let _ = writeln!(out, "\n[{full}]");
                        write_table(out, table, keys, &full);
                    }
                }
            }
            (Kind::Ordered(keys), Value::List(list)) => {
                for node in list {
                    if let Value::Table(table) = &node.value {
                        let _ = writeln!(out, "\n[[{full}]]");
                        write_table(out, table, keys, &full);
                    }
                }
            }
            (_, Value::Table(table)) => match keys_of(&key.kind) {
                Some(keys) => {
                    let _ = writeln!(out, "\n[{full}]");
                    write_table(out, table, keys, &full);
                }
                None => {}
            },
            _ => {}
        }
    }
}

fn keys_of(kind: &'static Kind) -> Option<&'static [Key]> {
    match kind {
        Kind::Table { keys, .. } => Some(keys),
        Kind::Either(kinds) => kinds.iter().find_map(keys_of),
        _ => None,
    }
}

/// A value on one line.
fn toml_of(node: &Node) -> String {
    match &node.value {
        Value::Text(text) => quoted(text),
        Value::Word(word) => quoted(word),
        Value::Bool(bool) => bool.to_string(),
        Value::Integer(integer) => integer.to_string(),
        Value::Duration(duration) => quoted(&write_duration(*duration)),
        Value::Size(size) => quoted(&write_size(*size)),
        Value::List(list) => {
            format!("[{}]", list.iter().map(toml_of).collect::<Vec<_>>().join(", "))
        }
        Value::Table(table) => {
            let entries =
                table.entries.iter().map(|(key, node)| format!("{key} = {}", toml_of(node)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        Value::Named(entries) => {
            let entries =
                entries.iter().map(|(key, node)| format!("{} = {}", quoted(key), toml_of(node)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// The reference page: every key, in the order of the file.
pub fn reference() -> String {
    let mut out = String::from(
        "# Configuration\n\n<!-- Written from the declarations in src/config/keys by \
         `UPDATE=1 cargo test --test configuration`; do not edit. -->\n\n\
         One TOML file: `-c FILE`, else `$STAYPUT_CONFIG`, else `/etc/stayput/stayput.toml`. \
         Relative paths are relative to the file. Unknown keys are errors, and `stayput check` \
         reports every error in one pass. Durations (`250ms`, `1h30m`, `7d`) and sizes (`64KiB`, \
         `1MB`) need their unit. Names are 1 to 64 letters, digits, `.`, `_` and `-`.\n\n\
         A key marked *not yet* is read and checked, and refused unless it is at its default.\n",
    );
    reference_of(&mut out, ROOT, "", "");
    out
}

fn reference_of(out: &mut String, keys: &'static [Key], heading: &str, manual: &str) {
    let (tables, plain): (Vec<&Key>, Vec<&Key>) =
        keys.iter().partition(|key| table_of(&key.kind).is_some());
    if !heading.is_empty() {
        let _ = writeln!(out, "\n## `{heading}`\n\n{manual}");
    }
    if !plain.is_empty() {
        let _ = writeln!(out, "\n| key | value | default | meaning |\n| --- | --- | --- | --- |");
    }
    for key in plain {
        let default = match (key.default, key.example) {
            _ if is_needed(heading, key) => "required".to_owned(),
            (Some(default), _) => format!("`{default}`"),
            (None, Some(example)) => format!("absent; e.g. `{}`", example.replace('|', "\\|")),
            (None, None) => "absent".to_owned(),
        };
        let not_yet = if key.supported { "" } else { "*Not yet.* " };
        let _ = writeln!(
            out,
            "| `{}` | {} | {default} | {not_yet}{} |",
            key.name,
            kind_text(&key.kind),
            key.manual
        );
    }
    for key in tables {
        let Some((keys, form)) = table_of(&key.kind) else { continue };
        let parent = heading;
        let inner = parent.trim_matches(['[', ']']);
        let path =
            if inner.is_empty() { key.name.to_owned() } else { format!("{inner}.{}", key.name) };
        let heading = form.replace("PATH", &path);
        let not_yet = if key.supported { "" } else { "*Not yet.* " };
        let says_itself = key.manual.contains("Absent:");
        let absent = match (key.default, key.example, &key.kind) {
            _ if is_needed(parent, key) => " Required.".to_owned(),
            (None, None, _) if says_itself => String::new(),
            (None, Some(example), _) if says_itself => format!(" E.g. `{} = {example}`.", key.name),
            (None, Some(example), _) => {
                format!(" Absent by default; e.g. `{} = {example}`.", key.name)
            }
            (None, None, Kind::Table { always: false, .. }) => " Absent by default.".to_owned(),
            _ => String::new(),
        };
        reference_of(out, keys, &heading, &format!("{not_yet}{}{absent}", key.manual));
    }
}

/// The keys below a kind, and how its heading is written.
fn table_of(kind: &'static Kind) -> Option<(&'static [Key], &'static str)> {
    match kind {
        Kind::Table { keys, .. } => Some((keys, "[PATH]")),
        Kind::Named(keys) => Some((keys, "[PATH.NAME]")),
        Kind::Ordered(keys) => Some((keys, "[[PATH]]")),
        Kind::List(kind) => table_of(kind).map(|(keys, _)| (keys, "[[PATH]]")),
        Kind::Either(kinds) => kinds.iter().find_map(table_of),
        Kind::Map(kind) => table_of(kind).map(|(keys, _)| (keys, "[PATH.NAME]")),
        _ => None,
    }
}

fn kind_text(kind: &Kind) -> String {
    match kind {
        Kind::Text => "text".to_owned(),
        Kind::Name => "a name".to_owned(),
        Kind::Bool => "`true` or `false`".to_owned(),
        Kind::Integer { min, max } => format!("{min} to {max}"),
        Kind::Duration { min, max, words } => {
            let write = |milliseconds| write_duration(Duration::from_millis(milliseconds));
            let words: String = words.iter().map(|word| format!(", or `\"{word}\"`")).collect();
            format!("{} to {}{words}", write(*min), write(*max))
        }
        Kind::Size { min, max: u64::MAX } => format!("a size from {}", write_size(*min)),
        Kind::Size { min, max } => format!("{} to {}", write_size(*min), write_size(*max)),
        Kind::Word(words) => {
            let words = words.iter().map(|word| {
                let later = if word.supported { "" } else { " (not yet)" };
                format!("`\"{}\"`{later}", word.text)
            });
            words.collect::<Vec<_>>().join(", ")
        }
        Kind::List(kind) => format!("a list of: {}", kind_text(kind)),
        Kind::Map(kind) => format!("by name: {}", kind_text(kind)),
        Kind::Table { .. } | Kind::Named(_) | Kind::Ordered(_) => "a table".to_owned(),
        Kind::Either(kinds) => kinds.iter().map(kind_text).collect::<Vec<_>>().join("; or "),
    }
}

/// The annotated sample: a file that passes `check`, with every key at its default. What is absent
/// by default, excludes what is written, or is not supported yet stands behind a `#`.
pub fn sample() -> String {
    let mut out = String::from(
        "# Every key with its default. Written from the declarations in src/config/keys by\n\
         # `UPDATE=1 cargo test --test configuration`; do not edit.\n",
    );
    sample_of(&mut out, ROOT, "", false);
    out
}

/// What the sample gives where there is no default and a file cannot do without.
const NEEDED: [(&str, &str); 2] =
    [("address", "\"127.0.0.1:8080\""), ("targets", "[\"127.0.0.1:3001\", \"127.0.0.1:3002\"]")];

/// Whether a table is refused without this key.
fn is_needed(heading: &str, key: &Key) -> bool {
    matches!(
        (heading, key.name),
        ("[listener.NAME]", "address") | ("[target_group.NAME]", "targets")
    )
}

fn sample_of(out: &mut String, keys: &'static [Key], path: &str, hidden: bool) {
    let is_inline = |key: &Key| {
        matches!(
            key.kind,
            Kind::Table { always: false, .. } | Kind::Either(_) | Kind::List(_) | Kind::Map(_)
        )
    };
    let (tables, plain): (Vec<&Key>, Vec<&Key>) = keys.iter().partition(|key| {
        table_of(&key.kind).is_some()
            && !(is_inline(key) && (key.example.is_some() || key.default.is_some()))
    });
    for key in plain {
        let needed = NEEDED.iter().find(|(name, _)| *name == key.name).map(|(_, value)| *value);
        let needed = needed.filter(|_| {
            key.default.is_none() && (path == "listener.web" || path == "target_group.app")
        });
        let value = key.default.or(needed).or(key.example).unwrap_or("\"\"");
        let off = hidden || !key.supported || (key.default.is_none() && needed.is_none());
        let not_yet = if key.supported { "" } else { " (not yet)" };
        let mark = if off { "# " } else { "" };
        for line in wrapped(&format!("{}{not_yet}", key.manual)) {
            let _ = writeln!(out, "# {line}");
        }
        let _ = writeln!(out, "{mark}{} = {value}", key.name);
    }
    for key in tables {
        let Some((keys, form)) = table_of(&key.kind) else { continue };
        let path =
            if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
        let name = match key.name {
            "listener" => "web",
            "target_group" => "app",
            _ => "name",
        };
        let heading = form.replace("PATH", &path).replace("NAME", name);
        let off = hidden
            || !key.supported
            || !matches!(key.kind, Kind::Table { always: true, .. } | Kind::Named(_));
        let mark = if off { "# " } else { "" };
        let not_yet = if key.supported { "" } else { " (not yet)" };
        out.push('\n');
        for line in wrapped(&format!("{}{not_yet}", key.manual)) {
            let _ = writeln!(out, "# {line}");
        }
        let _ = writeln!(out, "{mark}{heading}");
        sample_of(out, keys, heading.trim_matches(['[', ']']), off);
    }
}

/// Lines of at most so many characters, broken at blanks.
fn wrapped(text: &str) -> Vec<String> {
    const WIDTH: usize = 96;
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if !line.is_empty() && line.len() + 1 + word.len() > WIDTH {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
