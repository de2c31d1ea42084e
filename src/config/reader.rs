//! Converts text to values of their kinds. A value that does not fit its declaration is recorded,
//! and the reader goes on, so that one pass reports all problems.

mod syntax;
mod value;

use super::keys::{FILE, Key, Kind};
use super::nearest::nearest;
use super::node::{Node, Table};
use super::problem::{Problem, Problems};
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// Reads `text`. The second value is false if its syntax is broken, so that a key that seems to be
/// missing may only be unread.
pub(super) fn read(text: &str, problems: &mut Problems) -> (Table, bool) {
    let (tree, errors) = DeTable::parse_recoverable(text);
    let broken = syntax::record(text, &errors, problems);
    let mut reader = Reader { problems, whole: broken.is_empty() };
    let table = reader.table(FILE, tree.get_ref(), &(0..0), "");
    // The parser's reading of a broken line is not what the operator meant.
    problems.retain(|problem| {
        let on_broken = |span: &Range<usize>| {
            let touches = |line: &Range<usize>| span.start <= line.end && line.start <= span.end;
            !broken.iter().any(touches)
        };
        syntax::is_syntax(problem) || problem.span.as_ref().is_none_or(on_broken)
    });
    (table, broken.is_empty())
}

struct Reader<'p> {
    problems: &'p mut Problems,
    whole: bool,
}

impl Reader<'_> {
    /// Reads a table of declared keys, at `span`. `path` is its path in messages.
    fn table(
        &mut self,
        keys: &[Key],
        table: &DeTable<'_>,
        span: &Range<usize>,
        path: &str,
    ) -> Table {
        let mut read = Table::default();
        let mut meant = Vec::new();
        for (key, value) in table {
            match keys.iter().find(|known| known.name == key.get_ref()) {
                Some(known) => match self.entry(known, key, value, path) {
                    Some(node) => read.insert(known.name, node),
                    None => read.refuse(known.name),
                },
                None => meant.extend(self.unknown_key(keys, key, path)),
            }
        }
        for key in keys {
            let written = table.contains_key(key.name) || meant.contains(&key.name);
            if let (None, Some(default)) = (read.get(key.name), default_of(key)) {
                read.insert(key.name, default.into_default(span));
            }
            if !key.optional && !written && self.whole {
                let place =
                    if path.is_empty() { String::new() } else { format!(" in `{}`", shown(path)) };
                let problem =
                    Problem::at(span.clone(), format!("`{}` is missing{place}", key.name));
                self.problems.push(problem.help(remedy(key)));
            }
        }
        read
    }

    /// Reads one key and its value.
    fn entry(
        &mut self,
        key: &Key,
        name: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
        path: &str,
    ) -> Option<Node> {
        let path = under(path, key.name);
        if key.supported {
            let node = self.value(&key.kind, value, &path)?;
            return Some(Node { key: name.span(), ..node });
        }
        // Problems inside the value of an unsupported key are irrelevant.
        let mut inside = Problems::new("", "");
        let mut reader = Reader { problems: &mut inside, whole: self.whole };
        let node = reader.value(&key.kind, value, &path);
        let node = node.map(|node| Node { key: name.span(), ..node });
        if !inside.is_empty() || default_of(key).is_none() || default_of(key) != node {
            let is_table = value.get_ref().is_table();
            let span = if is_table { name.span() } else { value.span() };
            let title = format!("`{}` is not supported yet", key.name);
            let help = match key.default {
                Some(default) => format!("remove it; the default is {default}"),
                None => "remove it".into(),
            };
            self.problems.push(Problem::at(span, title).help(help));
        }
        node
    }

    /// Records an unknown key; returns the key that was probably meant.
    fn unknown_key(
        &mut self,
        keys: &[Key],
        key: &Spanned<DeString<'_>>,
        path: &str,
    ) -> Option<&'static str> {
        let place = if path.is_empty() {
            "at the top level".into()
        } else {
            format!("in `{}`", shown(path))
        };
        let title = format!("unknown key `{}` {place}", key.get_ref());
        let mut problem = Problem::at(key.span(), title);
        let meant = nearest(key.get_ref(), keys.iter().map(|key| key.name));
        match meant {
            Some(meant) => problem = problem.label(format!("did you mean `{meant}`?")),
            None => {
                let names: Vec<_> = keys.iter().map(|key| format!("`{}`", key.name)).collect();
                problem = problem.help(format!("known keys: {}", names.join(", ")));
            }
        }
        // Under a broken `[header]`, the keys of one table seem to belong to another.
        if self.whole {
            self.problems.push(problem);
        }
        meant
    }
}

/// Joins a path and a key: `listener.web` and `timeouts` give `listener.web.timeouts`.
fn under(path: &str, key: &str) -> String {
    if path.is_empty() { key.into() } else { format!("{path}.{key}") }
}

/// A path, as written in a message.
fn shown(path: &str) -> String {
    path.replace("[]", "")
}

fn remedy(key: &Key) -> String {
    match (key.kind, key.example) {
        (Kind::Named(_), _) => format!("add at least one `[{}.NAME]`", key.name),
        (_, Some(example)) => format!("for example `{} = {example}`", key.name),
        (kind, None) => format!("it must be {}", kind.expects()),
    }
}

/// The value of a key that is not in the file. The declared text is read in the same way as the
/// operator's; a test checks that none is refused.
pub(super) fn default_of(key: &Key) -> Option<Node> {
    let text = key.default?;
    let value = DeValue::parse(text).ok()?;
    let mut problems = Problems::new("", text);
    Reader { problems: &mut problems, whole: true }.value(&key.kind, &value, key.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(keys: &[Key], path: &str) {
        for key in keys {
            let path = under(path, key.name);
            if key.default.is_some() {
                assert!(default_of(key).is_some(), "the default of {path}");
            }
            if let Some(example) = key.example {
                let mut problems = Problems::new("", example);
                let mut reader = Reader { problems: &mut problems, whole: true };
                reader.value(&key.kind, &DeValue::parse(example).unwrap(), &path);
                assert!(problems.is_empty(), "the example of {path}: {problems}");
            }
            check_kind(&key.kind, &path);
        }
    }

    fn check_kind(kind: &Kind, path: &str) {
        match kind {
            Kind::Table(keys) | Kind::Named(keys) => check(keys, path),
            Kind::List(inner) | Kind::OneOrMany(inner) => check_kind(inner, path),
            Kind::Either(kinds) => kinds.iter().for_each(|kind| check_kind(kind, path)),
            _ => {}
        }
    }

    #[test]
    fn every_declared_default_and_example_is_of_its_own_kind() {
        check(FILE, "");
    }
}
