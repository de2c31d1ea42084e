//! The declaration of every configuration key: its kind, bounds, default and description. The
//! reader, the manual and the complete sample are generated from these tables.

mod forms;
mod group;
mod health;
mod listener;
mod process;
mod rule;
mod stickiness;
mod upstream;

pub(super) use forms::{NAME, host_and_port, https_port};

use super::quantity::{duration_text, size_text};
use std::time::Duration;

/// The keys at the top level of the file.
pub(super) static FILE: &[Key] = &[
    Key::new("runtime", Kind::Table(process::RUNTIME), "Settings of the process.").or("{}"),
    Key::new(
        "affinity",
        Kind::Table(process::AFFINITY),
        "Keys that seal pins. If you leave this table out, one key is generated once and kept in \
         `state_dir`, so that pins survive a restart. Set it when several nodes share clients.",
    ),
    Key::new(
        "admin",
        Kind::Table(process::ADMIN),
        "Admin interface. If you leave this table out, there is none.",
    )
    .later(),
    Key::new("log", Kind::Table(process::LOG), "Log level and access log.").or("{}"),
    Key::new(
        "listener",
        Kind::Named(listener::LISTENER),
        "Addresses where clients connect, by name.",
    )
    .required(),
    Key::new(
        "rule",
        Kind::List(&Kind::Table(rule::RULE)),
        "Routing rules, tried in order; the first match wins. All conditions of a rule must match; \
         within a list, one value must match. You can write at most 10000 rules and 1000 values \
         per list; ALB allows fewer.",
    )
    .or("[]"),
    Key::new(
        "target_group",
        Kind::Named(group::GROUP),
        "Groups of replicas that serve the same application, by name.",
    )
    .required(),
];

/// The declaration of one key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// Name of the key in the file.
    pub(super) name: &'static str,
    /// Accepted kind of value.
    pub(super) kind: Kind,
    /// Default value, as TOML; `None` if the key is absent by default.
    pub(super) default: Option<&'static str>,
    /// Description of a default that depends on other keys.
    pub(super) derived: Option<&'static str>,
    /// Example value, as TOML, for a key without a default.
    pub(super) example: Option<&'static str>,
    /// Description of the key in the manual.
    pub(super) manual: &'static str,
    /// True if the key may be omitted.
    pub(super) optional: bool,
    /// True if the feature exists; if false, only the default is accepted.
    pub(super) supported: bool,
}

/// A kind of value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Text of this form.
    Text(&'static Form),
    /// `true` or `false`.
    Bool,
    /// An integer between these two, inclusive.
    Integer(u64, u64),
    /// A duration within these bounds.
    Duration(Span),
    /// A size in bytes: between `min` and `max`, or 0 if `zero` is true.
    Size {
        /// True if `"0"` is accepted, meaning no limit.
        zero: bool,
        /// The minimum, in bytes.
        min: u64,
        /// The maximum, in bytes.
        max: u64,
    },
    /// One of these words; the flag is true if the word is supported.
    Word(&'static [(&'static str, bool)]),
    /// A list of values of this kind.
    List(&'static Kind),
    /// A value of this kind, or a list of them that is not empty.
    OneOrMany(&'static Kind),
    /// A table with these keys.
    Table(&'static [Key]),
    /// A table of tables with these keys; the operator chooses the names.
    Named(&'static [Key]),
    /// A table of values of this kind; the operator chooses the names, which have this form.
    Map(&'static Form, &'static Kind),
    /// The first of these kinds that accepts the type of the written value.
    Either(&'static [Kind]),
}

/// The bounds of a duration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// True if `"0s"` is accepted although it is below `min`.
    pub(super) zero: bool,
    /// The minimum.
    pub(super) min: Duration,
    /// The maximum.
    pub(super) max: Duration,
}

/// A syntax for texts.
#[derive(Debug)]
pub(super) struct Form {
    /// Description of the form, to follow "must be".
    pub(super) what: &'static str,
    /// Returns true if a text has this form.
    pub(super) fits: fn(&str) -> bool,
}

impl Key {
    /// Creates a supported, optional key without a default.
    const fn new(name: &'static str, kind: Kind, manual: &'static str) -> Self {
        Self {
            name,
            kind,
            default: None,
            derived: None,
            example: None,
            manual,
            optional: true,
            supported: true,
        }
    }

    /// Sets the default.
    const fn or(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    /// Describes a default that depends on other keys.
    const fn derived(self, words: &'static str) -> Self {
        Self { derived: Some(words), ..self }
    }

    /// Sets the example.
    const fn eg(self, example: &'static str) -> Self {
        Self { example: Some(example), ..self }
    }

    /// Makes the key mandatory.
    const fn required(self) -> Self {
        Self { optional: false, ..self }
    }

    /// Marks the key as not supported yet.
    const fn later(self) -> Self {
        Self { supported: false, ..self }
    }
}

impl Kind {
    /// The words with this support flag.
    fn words(&self, supported: bool) -> Vec<&'static str> {
        let Kind::Word(words) = self else { return Vec::new() };
        words.iter().filter(|(_, built)| *built == supported).map(|(word, _)| *word).collect()
    }

    /// A sentence about the words that are not supported yet; `None` if there are none.
    pub(super) fn not_yet(&self) -> Option<String> {
        let words = quoted(self.words(false));
        (!words.is_empty()).then(|| format!(" Not yet: {}.", words.join(", ")))
    }

    /// Description of the accepted values, to follow "must be".
    pub(super) fn expects(&self) -> String {
        match self {
            Kind::Text(form) => form.what.into(),
            Kind::Bool => "`true` or `false`".into(),
            Kind::Integer(min, u64::MAX) => format!("a whole number of at least {min}"),
            Kind::Integer(min, max) => format!("a whole number from {min} to {max}"),
            Kind::Duration(span) => format!("a duration {}", span.bounds()),
            Kind::Size { zero, min, max } => {
                let zero = if *zero { "\"0\" or " } else { "" };
                format!("{zero}a size from {} to {}", size_text(*min), size_text(*max))
            }
            Kind::Word(_) => quoted(self.words(true)).join(" or "),
            Kind::List(_) => "a list".into(),
            Kind::OneOrMany(one) => format!("{} or a list of such", one.expects()),
            Kind::Table(_) | Kind::Named(_) | Kind::Map(..) => "a table".into(),
            Kind::Either(kinds) => {
                kinds.iter().map(Kind::expects).collect::<Vec<_>>().join(", or ")
            }
        }
    }
}

fn quoted(words: Vec<&str>) -> Vec<String> {
    words.iter().map(|word| format!("\"{word}\"")).collect()
}

impl Span {
    /// Text of the bounds, for example `from 1s to 7d`.
    pub(super) fn bounds(&self) -> String {
        let zero = if self.zero { "of 0s, or " } else { "" };
        format!("{zero}from {} to {}", duration_text(self.min), duration_text(self.max))
    }
}

const fn secs(min: u64, max: u64) -> Kind {
    millis(min * 1_000, max * 1_000)
}

const fn millis(min: u64, max: u64) -> Kind {
    let (min, max) = (Duration::from_millis(min), Duration::from_millis(max));
    Kind::Duration(Span { zero: false, min, max })
}

/// One hour, in seconds.
const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
