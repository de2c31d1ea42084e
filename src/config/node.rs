//! The tree of values read from a configuration file: each has its type, its position in the file,
//! and a mark if it is a default.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

/// A value with its place in the file.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Place of the value; for a default, the place of its table.
    pub(super) span: Range<usize>,
    /// Place of the key; in a list, the place of the value.
    pub(super) key: Range<usize>,
    /// True if the value is in the file, false if it is a default.
    pub(super) written: bool,
    /// The value of the node.
    pub(super) value: Value,
}

/// A value that was checked against the type and bounds of its key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Text of a valid form.
    Text(String),
    /// A boolean.
    Bool(bool),
    /// An integer within its bounds.
    Integer(u64),
    /// A duration within its bounds.
    Duration(Duration),
    /// A size in bytes within its bounds.
    Size(u64),
    /// One of the words of its kind.
    Word(&'static str),
    /// A list, in order.
    List(Vec<Node>),
    /// A table, by key.
    Table(Table),
}

/// Compares the values only, not their places.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// Values by key. A key has no entry if the file sets no value or one that was refused, and it has
/// no default or another key excludes the default. A refused file never becomes a configuration, so
/// the getters below may return zero for a key without an entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Table {
    entries: BTreeMap<String, Node>,
    refused: BTreeSet<String>,
}

static EMPTY: Table = Table { entries: BTreeMap::new(), refused: BTreeSet::new() };

impl Node {
    /// The text or word; empty for other kinds.
    pub(super) fn text(&self) -> &str {
        match &self.value {
            Value::Text(text) => text,
            Value::Word(word) => word,
            _ => "",
        }
    }

    /// The table; empty for other kinds.
    pub(super) fn table(&self) -> &Table {
        match &self.value {
            Value::Table(table) => table,
            _ => &EMPTY,
        }
    }

    /// Marks this value and all values in it as defaults of the table at `span`.
    pub(super) fn into_default(mut self, span: &Range<usize>) -> Self {
        self.span = span.clone();
        self.key = span.clone();
        self.written = false;
        self.value = match self.value {
            Value::List(list) => {
                Value::List(list.into_iter().map(|node| node.into_default(span)).collect())
            }
            Value::Table(Table { entries, refused }) => {
                let entries = entries.into_iter();
                let entries = entries.map(|(key, node)| (key, node.into_default(span))).collect();
                Value::Table(Table { entries, refused })
            }
            plain => plain,
        };
        self
    }
}

impl Table {
    /// Inserts a value.
    pub(super) fn insert(&mut self, key: &str, node: Node) {
        self.entries.insert(key.into(), node);
    }

    /// Removes a value.
    pub(super) fn remove(&mut self, key: &str) {
        self.entries.remove(key);
    }

    /// Records that the key is in the file with a refused value.
    pub(super) fn refuse(&mut self, key: &str) {
        self.refused.insert(key.into());
    }

    /// Returns true if the key has a value or was refused.
    pub(super) fn knows(&self, key: &str) -> bool {
        self.entries.contains_key(key) || self.refused.contains(key)
    }

    /// Returns true if the value in the file was refused, so that a default may stand in its place.
    pub(super) fn refused(&self, key: &str) -> bool {
        self.refused.contains(key)
    }

    /// The value behind `key`.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entries.get(key)
    }

    /// The value behind `key`, mutable.
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.entries.get_mut(key)
    }

    /// The value behind `key`, if it is in the file.
    pub(super) fn written(&self, key: &str) -> Option<&Node> {
        self.get(key).filter(|node| node.written)
    }

    /// All entries, sorted by key.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.entries.iter().map(|(key, node)| (key.as_str(), node))
    }

    /// All entries, mutable.
    pub(super) fn entries_mut(&mut self) -> impl Iterator<Item = (&str, &mut Node)> {
        self.entries.iter_mut().map(|(key, node)| (key.as_str(), node))
    }

    /// The text or word behind `key`.
    pub(super) fn text(&self, key: &str) -> &str {
        self.get(key).map_or("", Node::text)
    }

    /// The boolean behind `key`.
    pub(super) fn flag(&self, key: &str) -> bool {
        matches!(self.get(key), Some(Node { value: Value::Bool(true), .. }))
    }

    /// The number or size behind `key`, converted to the type that holds the key's bounds.
    pub(super) fn number<N: TryFrom<u64> + Default>(&self, key: &str) -> N {
        match self.get(key).map(|node| &node.value) {
            Some(Value::Integer(number) | Value::Size(number)) => {
                N::try_from(*number).unwrap_or_default()
            }
            _ => N::default(),
        }
    }

    /// Like [`Table::number`], with `None` for 0.
    pub(super) fn nonzero<N: TryFrom<u64> + Default + PartialEq>(&self, key: &str) -> Option<N> {
        Some(self.number(key)).filter(|number| *number != N::default())
    }

    /// The duration behind `key`.
    pub(super) fn duration(&self, key: &str) -> Duration {
        match self.get(key).map(|node| &node.value) {
            Some(Value::Duration(duration)) => *duration,
            _ => Duration::ZERO,
        }
    }

    /// The table behind `key`.
    pub(super) fn table(&self, key: &str) -> &Table {
        self.get(key).map_or(&EMPTY, Node::table)
    }

    /// The list behind `key`.
    pub(super) fn list(&self, key: &str) -> &[Node] {
        match self.get(key).map(|node| &node.value) {
            Some(Value::List(list)) => list,
            _ => &[],
        }
    }
}
