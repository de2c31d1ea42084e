//! The effective configuration as TOML: all written keys and all defaults.

use super::Loaded;
use super::keys::{FILE, Key, Kind};
use super::node::{Node, Table, Value};
use super::quantity::{duration_text, size_text};

/// Every key in effect, as TOML with the same meaning; keys that are not in the file are marked `#
/// default`. Key files appear by path only, without their content.
pub fn effective(loaded: &Loaded) -> String {
    let mut out = String::new();
    section(&mut out, FILE, &loaded.file, "");
    out
}

/// Writes the plain keys of a table, then its subtables under their own headings, as TOML requires.
fn section(out: &mut String, keys: &[Key], table: &Table, path: &str) {
    for key in keys {
        let Some(node) = table.get(key.name).filter(|_| !has_headings(&key.kind)) else { continue };
        let mark = if node.written { "" } else { "  # default" };
        out.push_str(&format!("{} = {}{mark}\n", key.name, inline(&node.value)));
    }
    for key in keys.iter().filter(|key| has_headings(&key.kind)) {
        let Some(node) = table.get(key.name) else { continue };
        let path = if path.is_empty() { key.name.into() } else { format!("{path}.{}", key.name) };
        match &key.kind {
            Kind::Table(keys) => {
                heading(out, node, &format!("[{path}]"));
                section(out, keys, node.table(), &path);
            }
            Kind::Named(keys) => {
                for (name, node) in node.table().entries() {
                    let path = format!("{path}.{}", bare_or_quoted(name));
                    heading(out, node, &format!("[{path}]"));
                    section(out, keys, node.table(), &path);
                }
            }
            Kind::List(Kind::Table(keys)) => {
                for node in table.list(key.name) {
                    heading(out, node, &format!("[[{path}]]"));
                    section(out, keys, node.table(), &path);
                }
            }
            _ => {}
        }
    }
}

fn heading(out: &mut String, node: &Node, text: &str) {
    let gap = if out.is_empty() { "" } else { "\n" };
    let mark = if node.written { "" } else { "  # default" };
    out.push_str(&format!("{gap}{text}{mark}\n"));
}

/// Returns true if a kind is written under `[headings]`. Of lists, only the rules are; lists of
/// targets and keys are more readable inline.
pub(super) fn has_headings(kind: &Kind) -> bool {
    match kind {
        Kind::Table(_) | Kind::Named(_) => true,
        Kind::List(Kind::Table(keys)) => keys.iter().any(|key| key.name == "forward"),
        _ => false,
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::Text(text) => quoted(text),
        Value::Word(word) => quoted(word),
        Value::Bool(flag) => flag.to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Duration(duration) => quoted(&duration_text(*duration)),
        Value::Size(size) => quoted(&size_text(*size)),
        Value::List(list) => {
            let values: Vec<_> = list.iter().map(|node| inline(&node.value)).collect();
            format!("[{}]", values.join(", "))
        }
        Value::Table(table) => {
            let pair = |(key, node): (&str, &Node)| {
                format!("{} = {}", bare_or_quoted(key), inline(&node.value))
            };
            let pairs: Vec<_> = table.entries().map(pair).collect();
            if pairs.is_empty() { "{}".into() } else { format!("{{ {} }}", pairs.join(", ")) }
        }
    }
}

fn bare_or_quoted(key: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if !key.is_empty() && key.bytes().all(bare) { key.into() } else { quoted(key) }
}

/// Formats a basic string of TOML 1.0: quotes, backslashes and control characters are escaped.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control.is_control() => {
                out.push_str(&format!("\\u{:04X}", u32::from(control)));
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use crate::config::{effective, parse};
    use std::path::Path;

    fn check(text: &str) -> String {
        let parsed = |text: &str| parse(text, "test.toml", Path::new("")).unwrap();
        let loaded = parsed(text);
        let printed = effective(&loaded);
        assert_eq!(parsed(&printed).file, loaded.file, "{printed}");
        printed
    }

    #[test]
    fn the_effective_configuration_parses_to_the_same_settings() {
        check(include_str!("../../config/minimal.toml"));
        let printed = check(
            "[listener.web]\naddress = '[::1]:80'\ndefault = { respond = { status = 404, body = \"a\\\"\\n\\\\\" } }\n\
             [target_group.'a.b']\ntargets = [{ id = 'x', address = 'app.internal:80', expand = true }]\n\
             stickiness = { enabled = false }\n\
             [[rule]]\nhosts = ['*.shop.example']\nforward = { 'a.b' = {} }\n",
        );
        assert!(printed.contains("enabled = false\n"), "{printed}");
        assert!(printed.contains("algorithm = \"round_robin\"  # default\n"), "{printed}");
    }
}
