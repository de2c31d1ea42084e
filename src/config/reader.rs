//! Reads a file against its declared keys. It notes each problem and goes on, so that an operator
//! sees all of them at once; what is wrong counts as absent from then on.

mod types;

use super::keys::file::ROOT;
use super::keys::{Key, Kind, Word};
use super::problem::{Problem, nearest};
use super::quantity;
use crate::ground::name::Name;
use std::ops::Range;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use types::{fits, found, wanted};

/// A value and where it stands; `None` for a default.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) span: Option<Range<usize>>,
    pub(super) value: Value,
}

/// A value that fits its key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Bool(bool),
    Integer(i64),
    Duration(Duration),
    Size(u64),
    Word(&'static str),
    List(Vec<Node>),
    Table(Table),
    Named(Vec<(String, Node)>),
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// A table whose keys are all known, with defaults filled in.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Table {
    /// In the order of the declaration.
    pub(super) entries: Vec<(&'static str, Node)>,
}

impl Table {
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entries.iter().find(|(name, _)| *name == key).map(|(_, node)| node)
    }

    /// Where a key's value stands, if it was written.
    pub(super) fn span(&self, key: &str) -> Option<Range<usize>> {
        self.get(key)?.span.clone()
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A word of a closed list, or the word that stands for a special duration; empty if absent.
    pub(super) fn word(&self, key: &str) -> &'static str {
        match self.get(key).map(|node| &node.value) {
            Some(Value::Word(word)) => word,
            _ => "",
        }
    }

    pub(super) fn bool(&self, key: &str) -> bool {
        matches!(self.get(key).map(|node| &node.value), Some(Value::Bool(true)))
    }

    pub(super) fn integer(&self, key: &str) -> Option<i64> {
        match self.get(key)?.value {
            Value::Integer(integer) => Some(integer),
            _ => None,
        }
    }

    /// A number that its key's bounds keep within the type; 0 if absent.
    pub(super) fn number<N: TryFrom<i64> + Default>(&self, key: &str) -> N {
        self.integer(key).and_then(|integer| N::try_from(integer).ok()).unwrap_or_default()
    }

    pub(super) fn duration(&self, key: &str) -> Option<Duration> {
        match self.get(key)?.value {
            Value::Duration(duration) => Some(duration),
            _ => None,
        }
    }

    pub(super) fn size(&self, key: &str) -> u64 {
        match self.get(key).map(|node| &node.value) {
            Some(Value::Size(size)) => *size,
            _ => 0,
        }
    }

    pub(super) fn list(&self, key: &str) -> &[Node] {
        match self.get(key).map(|node| &node.value) {
            Some(Value::List(list)) => list,
            _ => &[],
        }
    }

    pub(super) fn table(&self, key: &str) -> Option<&Table> {
        match &self.get(key)?.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    pub(super) fn named(&self, key: &str) -> &[(String, Node)] {
        match self.get(key).map(|node| &node.value) {
            Some(Value::Named(tables)) => tables,
            _ => &[],
        }
    }
}

/// What a file says, as far as it can be read.
pub(super) struct Read {
    pub(super) table: Table,
    /// What is no TOML.
    pub(super) syntax: Vec<Problem>,
    /// What is TOML and fits no key.
    pub(super) problems: Vec<Problem>,
}

/// Reads the text of a file.
pub(super) fn read(text: &str) -> Read {
    let (root, errors) = DeTable::parse_recoverable(text);
    let syntax = errors.iter().map(|error| syntax_problem(text, error.message(), error.span()));
    let syntax = syntax.collect();
    let mut reader = Reader { problems: Vec::new() };
    let table = reader.table(root.get_ref(), ROOT, "");
    Read { table, syntax, problems: reader.problems }
}

fn syntax_problem(text: &str, message: &str, span: Option<Range<usize>>) -> Problem {
    let word = span.clone().and_then(|span| text.get(span)).unwrap_or_default();
    if message.contains("duplicate key") {
        let name = word.trim_matches(['[', ']', '"', ' ']);
        let last = name.rsplit('.').next().unwrap_or(name);
        return Problem::new(span, format!("`{last}` is written twice"), "here again")
            .help(format!("write all of `{last}` in one place"));
    }
    Problem::new(span, format!("this is no TOML: {}", message.trim()), "here")
}

struct Reader {
    problems: Vec<Problem>,
}

impl Reader {
    fn table(&mut self, table: &DeTable<'_>, keys: &'static [Key], path: &str) -> Table {
        for name in table.keys() {
            if !keys.iter().any(|key| key.name == name.get_ref()) {
                self.unknown_key(name, keys, path);
            }
        }
        let mut entries = Vec::new();
        for key in keys {
            let written = table.iter().find(|(name, _)| name.get_ref() == key.name);
            let node = match written {
                Some((name, value)) => self.written(name, value, key, path),
                None => default_of(key),
            };
            if let Some(node) = node {
                entries.push((key.name, node));
            }
        }
        Table { entries }
    }

    fn unknown_key(
        &mut self,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        keys: &'static [Key],
        path: &str,
    ) {
        let place = if path.is_empty() { "the file".to_owned() } else { format!("`{path}`") };
        let title = format!("unknown key `{}`", name.get_ref());
        let problem = Problem::new(Some(name.span()), title, format!("{place} has no such key"));
        let known = keys.iter().map(|key| key.name);
        self.problems.push(match nearest(name.get_ref(), known.clone()) {
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None => problem.help(format!("known here: {}", known.collect::<Vec<_>>().join(", "))),
        });
    }

    /// A value that stands in the file; what does not fit counts as absent once it is noted.
    fn written(
        &mut self,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        key: &'static Key,
        path: &str,
    ) -> Option<Node> {
        let full =
            if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
        let Some(node) = self.value(value, &key.kind, &full) else { return default_of(key) };
        if !key.supported && default_of(key).as_ref() != Some(&node) {
            let title = format!("`{full}` is not supported yet");
            let help = match key.default {
                Some(default) => format!("leave it out, or at its default {default}"),
                None => "leave it out".to_owned(),
            };
            self.problems.push(
                Problem::new(Some(name.span()), title, "this release cannot do that").help(help),
            );
        }
        Some(node)
    }

    fn value(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        kind: &'static Kind,
        path: &str,
    ) -> Option<Node> {
        let span = Some(value.span());
        let raw = value.get_ref();
        let read = match (kind, raw) {
            (Kind::Either(kinds), _) => {
                let kind = kinds.iter().find(|kind| fits(kind, raw)).or_else(|| kinds.last())?;
                return self.value(value, kind, path);
            }
            (Kind::Text, DeValue::String(text)) => Some(Value::Text(text.to_string())),
            (Kind::Name, DeValue::String(text)) => self.name(text, &span),
            (Kind::Bool, DeValue::Boolean(bool)) => Some(Value::Bool(*bool)),
            (Kind::Integer { min, max }, DeValue::Integer(text)) => {
                let integer = i64::from_str_radix(text.as_str(), text.radix()).ok();
                self.within(integer, *min, *max, &span).map(Value::Integer)
            }
            (Kind::Duration { min, max, words }, DeValue::String(text)) => {
                match words.iter().find(|word| **word == text.as_ref()) {
                    Some(word) => Some(Value::Word(word)),
                    None => self.duration(text, *min, *max, &span),
                }
            }
            (Kind::Duration { .. }, DeValue::Integer(number)) => {
                self.lacks_unit("a duration", &format!("{}s", number.as_str()), &span)
            }
            (Kind::Size { min, max }, DeValue::String(text)) => self.size(text, *min, *max, &span),
            (Kind::Size { .. }, DeValue::Integer(number)) => {
                self.lacks_unit("a size", &bytes(number.as_str()), &span)
            }
            (Kind::Word(words), DeValue::String(text)) => self.word(text, words, path, &span),
            (Kind::List(kind), DeValue::Array(array)) => Some(Value::List(
                array.iter().filter_map(|item| self.value(item, kind, path)).collect(),
            )),
            (Kind::Table { keys, .. }, DeValue::Table(table)) => {
                Some(Value::Table(self.table(table, keys, path)))
            }
            (Kind::Ordered(keys), DeValue::Array(array)) => {
                let tables = array.iter().filter_map(|item| self.value_of_table(item, keys, path));
                Some(Value::List(tables.collect()))
            }
            (Kind::Named(keys), DeValue::Table(table)) => {
                let entries = table.iter().filter_map(|(name, value)| {
                    self.name(name.get_ref(), &Some(name.span()))?;
                    let path = format!("{path}.{}", name.get_ref());
                    let mut node = self.value_of_table(value, keys, &path)?;
                    node.span = Some(name.span());
                    Some((name.get_ref().to_string(), node))
                });
                let mut entries: Vec<_> = entries.collect();
                // The parser sorts by name; what is said of the second of two is said of the one
                // that stands below.
                entries.sort_by_key(|(_, node)| node.span.as_ref().map(|span| span.start));
                Some(Value::Named(entries))
            }
            (Kind::Map(kind), DeValue::Table(table)) => {
                let entries = table.iter().filter_map(|(name, value)| {
                    let mut node = self.value(value, kind, path)?;
                    node.span = Some(name.span());
                    Some((name.get_ref().to_string(), node))
                });
                Some(Value::Named(entries.collect()))
            }
            _ => {
                let wanted = wanted(kind);
                let title = format!("`{path}` wants {wanted}");
                let label = format!("this is {}", found(raw));
                self.problems.push(Problem::new(span.clone(), title, label));
                None
            }
        };
        read.map(|value| Node { span, value })
    }

    fn value_of_table(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        keys: &'static [Key],
        path: &str,
    ) -> Option<Node> {
        match value.get_ref() {
            DeValue::Table(table) => {
                let value_span = Some(value.span());
                Some(Node { span: value_span, value: Value::Table(self.table(table, keys, path)) })
            }
            other => {
                let label = format!("this is {}", found(other));
                let title = format!("`{path}` wants a table");
                self.problems.push(Problem::new(Some(value.span()), title, label));
                None
            }
        }
    }

    fn name(&mut self, text: &str, span: &Option<Range<usize>>) -> Option<Value> {
        if Name::new(text).is_none() {
            let help = "1 to 64 of letters, digits, `.`, `_` and `-`";
            let title = format!("`{text}` is no name");
            self.problems.push(Problem::new(span.clone(), title, "here").help(help));
            return None;
        }
        Some(Value::Text(text.to_owned()))
    }

    fn within(
        &mut self,
        integer: Option<i64>,
        min: i64,
        max: i64,
        span: &Option<Range<usize>>,
    ) -> Option<i64> {
        let fits = integer.filter(|integer| (min..=max).contains(integer));
        if fits.is_none() {
            self.out_of_range(format!("{min} to {max}"), span);
        }
        fits
    }

    fn out_of_range(&mut self, range: String, span: &Option<Range<usize>>) {
        let problem = Problem::new(span.clone(), "out of range", format!("must be {range}"));
        self.problems.push(problem);
    }

    fn duration(
        &mut self,
        text: &str,
        min: u64,
        max: u64,
        span: &Option<Range<usize>>,
    ) -> Option<Value> {
        let Some(duration) = quantity::duration(text) else {
            let with_unit = format!("{text}s");
            let examples = "\"250ms\", \"1h30m\", \"7d\"";
            return self.no_quantity("a duration", text, &with_unit, examples, span);
        };
        let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        if !(min..=max).contains(&milliseconds) {
            let write =
                |milliseconds| quantity::write_duration(Duration::from_millis(milliseconds));
            self.out_of_range(format!("{} to {}", write(min), write(max)), span);
            return None;
        }
        Some(Value::Duration(duration))
    }

    fn size(
        &mut self,
        text: &str,
        min: u64,
        max: u64,
        span: &Option<Range<usize>>,
    ) -> Option<Value> {
        let Some(size) = quantity::size(text) else {
            return self.no_quantity("a size", text, &bytes(text), "\"64KiB\", \"1MB\"", span);
        };
        if !(min..=max).contains(&size) {
            let write = quantity::write_size;
            self.out_of_range(format!("{} to {}", write(min), write(max)), span);
            return None;
        }
        Some(Value::Size(size))
    }

    fn no_quantity(
        &mut self,
        what: &str,
        text: &str,
        with_unit: &str,
        examples: &str,
        span: &Option<Range<usize>>,
    ) -> Option<Value> {
        let bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if bare {
            return self.lacks_unit(what, with_unit, span);
        }
        let title = format!("`{text}` is not {what}");
        self.problems.push(
            Problem::new(span.clone(), title, "here").help(format!("write for example {examples}")),
        );
        None
    }

    fn lacks_unit(
        &mut self,
        what: &str,
        with_unit: &str,
        span: &Option<Range<usize>>,
    ) -> Option<Value> {
        let label = format!("write \"{with_unit}\"");
        self.problems.push(Problem::new(span.clone(), format!("{what} needs a unit"), label));
        None
    }

    fn word(
        &mut self,
        text: &str,
        words: &'static [Word],
        path: &str,
        span: &Option<Range<usize>>,
    ) -> Option<Value> {
        match words.iter().find(|word| word.text == text) {
            Some(word) if word.supported => return Some(Value::Word(word.text)),
            Some(_) => {
                let title = format!("`{path} = \"{text}\"` is not supported yet");
                let supported = words.iter().filter(|word| word.supported).map(|word| word.text);
                let help =
                    format!("this release has: {}", supported.collect::<Vec<_>>().join(", "));
                self.problems.push(
                    Problem::new(span.clone(), title, "this release cannot do that").help(help),
                );
            }
            None => {
                let known = words.iter().map(|word| word.text);
                let title = format!("`{path}` has no choice `{text}`");
                let problem = Problem::new(span.clone(), title, "unknown word");
                self.problems.push(match nearest(text, known.clone()) {
                    Some(near) => problem.help(format!("did you mean \"{near}\"?")),
                    None => {
                        problem.help(format!("one of: {}", known.collect::<Vec<_>>().join(", ")))
                    }
                });
            }
        }
        None
    }
}

/// A bare number of bytes with its unit.
fn bytes(number: &str) -> String {
    number.parse().map_or_else(|_| format!("{number}B"), quantity::write_size)
}

/// What an absent key stands for.
fn default_of(key: &'static Key) -> Option<Node> {
    // A default is read like any other value; a test reads them all, so that none has a problem.
    let mut reader = Reader { problems: Vec::new() };
    if let Some(default) = key.default {
        let value = DeValue::parse(default).ok()?;
        let node = reader.value(&value, &key.kind, key.name)?;
        return Some(without_spans(node));
    }
    let nothing = DeTable::new();
    match key.kind {
        Kind::Table { keys, always: true } => {
            Some(Node { span: None, value: Value::Table(reader.table(&nothing, keys, "")) })
        }
        _ => None,
    }
}

fn without_spans(mut node: Node) -> Node {
    node.span = None;
    if let Value::List(list) = &mut node.value {
        let items = std::mem::take(list);
        *list = items.into_iter().map(without_spans).collect();
    }
    node
}
