//! How a key of the file is declared. Each key stands once, in the tables of [`file`]; the reader,
//! `config/complete.toml` and `docs/configuration.md` come from there.

pub(super) mod file;
mod group;
mod listener;

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// As TOML; `None` where an absent key means that there is nothing.
    pub(super) default: Option<&'static str>,
    /// As TOML, for keys without a default.
    pub(super) example: Option<&'static str>,
    /// Whether this release acts on it. If not, anything but the default is refused.
    pub(super) supported: bool,
    /// What the manual says.
    pub(super) manual: &'static str,
}

/// What a value may be.
#[derive(Debug)]
pub(super) enum Kind {
    Text,
    /// A name of letters, digits, `.`, `_`, `-`.
    Name,
    Bool,
    Integer {
        min: i64,
        max: i64,
    },
    /// In milliseconds; besides, one of these words.
    Duration {
        min: u64,
        max: u64,
        words: &'static [&'static str],
    },
    Size {
        min: u64,
        max: u64,
    },
    Word(&'static [Word]),
    List(&'static Kind),
    /// A table whose keys are known. With `always`, an absent one is read as an empty one.
    Table {
        keys: &'static [Key],
        always: bool,
    },
    /// Tables by name.
    Named(&'static [Key]),
    /// Tables in order, written `[[name]]`.
    Ordered(&'static [Key]),
    /// Values of one kind by free names.
    Map(&'static Kind),
    /// The first that fits the value's type.
    Either(&'static [Kind]),
}

/// One of a closed list of words.
#[derive(Debug)]
pub(super) struct Word {
    pub(super) text: &'static str,
    pub(super) supported: bool,
}

impl Key {
    const fn new(name: &'static str, kind: Kind, manual: &'static str) -> Self {
        Self { name, kind, default: None, example: None, supported: true, manual }
    }

    const fn default(mut self, text: &'static str) -> Self {
        self.default = Some(text);
        self
    }

    const fn example(mut self, text: &'static str) -> Self {
        self.example = Some(text);
        self
    }

    const fn not_yet(mut self) -> Self {
        self.supported = false;
        self
    }
}

const fn word(text: &'static str) -> Word {
    Word { text, supported: true }
}

const fn later(text: &'static str) -> Word {
    Word { text, supported: false }
}

const fn always(keys: &'static [Key]) -> Kind {
    Kind::Table { keys, always: true }
}

const fn optional(keys: &'static [Key]) -> Kind {
    Kind::Table { keys, always: false }
}

const fn lasting(min: u64, max: u64) -> Kind {
    Kind::Duration { min, max, words: &[] }
}

const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;
const DAY: u64 = 24 * HOUR;

#[cfg(test)]
mod tests {
    use super::*;

    fn every_table(keys: &'static [Key], check: &mut impl FnMut(&'static [Key])) {
        check(keys);
        for key in keys {
            every_kind(&key.kind, check);
        }
    }

    fn every_kind(kind: &'static Kind, check: &mut impl FnMut(&'static [Key])) {
        match kind {
            Kind::Table { keys, .. } | Kind::Named(keys) | Kind::Ordered(keys) => {
                every_table(keys, check);
            }
            Kind::List(kind) | Kind::Map(kind) => every_kind(kind, check),
            Kind::Either(kinds) => kinds.iter().for_each(|kind| every_kind(kind, check)),
            _ => {}
        }
    }

    #[test]
    fn no_table_declares_a_key_twice_and_none_lacks_its_manual() {
        every_table(file::ROOT, &mut |keys| {
            let mut names: Vec<_> = keys.iter().map(|key| key.name).collect();
            names.sort_unstable();
            let count = names.len();
            names.dedup();
            assert_eq!(names.len(), count, "{names:?}");
            assert!(keys.iter().all(|key| key.manual.ends_with('.')), "{names:?}");
        });
    }
}
