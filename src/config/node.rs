//! What was read: values of their kinds, each with its place, defaults filled in.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// The value's place; of a default, the place of the table it belongs to.
    pub(super) span: Range<usize>,
    /// The place of its key; in a list the value's own.
    pub(super) key: Range<usize>,
    /// False for a default.
    pub(super) written: bool,
    /// The value.
    pub(super) value: Value,
}

/// A value of a kind.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Text that has its form.
    Text(String),
    /// True or false.
    Bool(bool),
    /// A number within its bounds.
    Integer(u64),
    /// A duration within its bounds.
    Duration(Duration),
    /// A size in bytes within its bounds.
    Size(u64),
    /// One of the words.
    Word(&'static str),
    /// Values in order.
    List(Vec<Node>),
    /// Values by key.
    Table(Table),
}

/// Two values are the same wherever they stand.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// Values by key. A key that is missing was absent and has no default, or was refused; a refused
/// file becomes no configuration, so the getters below may answer with a zero instead.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Table {
    entries: BTreeMap<String, Node>,
    refused: BTreeSet<String>,
}

static EMPTY: Table = Table { entries: BTreeMap::new(), refused: BTreeSet::new() };

impl Node {
    /// The text, or the word.
    pub(super) fn text(&self) -> &str {
        match &self.value {
            Value::Text(text) => text,
            Value::Word(word) => word,
            _ => "",
        }
    }

    /// The table, or an empty one.
    pub(super) fn table(&self) -> &Table {
        match &self.value {
            Value::Table(table) => table,
            _ => &EMPTY,
        }
    }

    /// Says that this and all in it is a default of the table at `span`.
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
    /// Puts a value in.
    pub(super) fn insert(&mut self, key: &str, node: Node) {
        self.entries.insert(key.into(), node);
    }

    /// Takes a value out.
    pub(super) fn remove(&mut self, key: &str) {
        self.entries.remove(key);
    }

    /// Remembers that the key is written, with a value that was refused.
    pub(super) fn refuse(&mut self, key: &str) {
        self.refused.insert(key.into());
    }

    /// Whether the key has a value, or one that was refused.
    pub(super) fn knows(&self, key: &str) -> bool {
        self.entries.contains_key(key) || self.refused.contains(key)
    }

    /// Whether the key has a value that was refused, so that a default stands in its place.
    pub(super) fn refused(&self, key: &str) -> bool {
        self.refused.contains(key)
    }

    /// The value itself.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entries.get(key)
    }

    /// The value itself, to change it.
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.entries.get_mut(key)
    }

    /// The value, if it is written in the file.
    pub(super) fn written(&self, key: &str) -> Option<&Node> {
        self.get(key).filter(|node| node.written)
    }

    /// All of them, sorted by key.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.entries.iter().map(|(key, node)| (key.as_str(), node))
    }

    /// All of them, to change them.
    pub(super) fn entries_mut(&mut self) -> impl Iterator<Item = (&str, &mut Node)> {
        self.entries.iter_mut().map(|(key, node)| (key.as_str(), node))
    }

    /// The text or word behind `key`.
    pub(super) fn text(&self, key: &str) -> &str {
        self.get(key).map_or("", Node::text)
    }

    /// Whether `key` is true.
    pub(super) fn flag(&self, key: &str) -> bool {
        matches!(self.get(key), Some(Node { value: Value::Bool(true), .. }))
    }

    /// The number or size behind `key`, as the type that holds the key's bounds.
    pub(super) fn number<N: TryFrom<u64> + Default>(&self, key: &str) -> N {
        match self.get(key).map(|node| &node.value) {
            Some(Value::Integer(number) | Value::Size(number)) => {
                N::try_from(*number).unwrap_or_default()
            }
            _ => N::default(),
        }
    }

    /// As [`Table::number`], where 0 means none.
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
