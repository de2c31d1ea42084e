//! Every key of the file, declared once: its kind, bounds, default and what the manual says of it.
//! The reader, the manual and the complete sample are made from these tables.

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

/// The top of the file.
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

/// One key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// As it is written.
    pub(super) name: &'static str,
    /// What may stand behind it.
    pub(super) kind: Kind,
    /// TOML of the value it has when it is not written; `None`: absent.
    pub(super) default: Option<&'static str>,
    /// Words for a default that depends on other keys.
    pub(super) derived: Option<&'static str>,
    /// TOML of a value to show where there is no default.
    pub(super) example: Option<&'static str>,
    /// What it is for.
    pub(super) manual: &'static str,
    /// False: it must be written.
    pub(super) optional: bool,
    /// False: only its default is taken, for what it asks is not built yet.
    pub(super) supported: bool,
}

/// What may stand behind a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Text of a form.
    Text(&'static Form),
    /// `true` or `false`.
    Bool,
    /// A whole number between the two, both included.
    Integer(u64, u64),
    /// A duration.
    Duration(Span),
    /// A size in bytes: 0 where `zero`, else between the two.
    Size {
        /// Whether `"0"` is taken, as "none".
        zero: bool,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// One of these words, each with whether it is supported.
    Word(&'static [(&'static str, bool)]),
    /// A list of these.
    List(&'static Kind),
    /// One of these, or a list that is not empty.
    OneOrMany(&'static Kind),
    /// A table of these keys.
    Table(&'static [Key]),
    /// A table of tables under names of the operator's choice.
    Named(&'static [Key]),
    /// A table of values under names of the operator's choice, which are texts of a form.
    Map(&'static Form, &'static Kind),
    /// The first of these that has the type that is written.
    Either(&'static [Kind]),
}

/// The bounds of a duration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// Whether `"0s"` is taken although it is below `min`.
    pub(super) zero: bool,
    /// The shortest.
    pub(super) min: Duration,
    /// The longest.
    pub(super) max: Duration,
}

/// A form of text.
#[derive(Debug)]
pub(super) struct Form {
    /// What it is, after "must be".
    pub(super) what: &'static str,
    /// Whether a text is of the form.
    pub(super) fits: fn(&str) -> bool,
}

impl Key {
    /// A supported key that is absent by default.
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

    /// With a default.
    const fn or(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    /// With a default that depends on other keys.
    const fn derived(self, words: &'static str) -> Self {
        Self { derived: Some(words), ..self }
    }

    /// With an example.
    const fn eg(self, example: &'static str) -> Self {
        Self { example: Some(example), ..self }
    }

    /// It must be written.
    const fn required(self) -> Self {
        Self { optional: false, ..self }
    }

    /// It is declared before it is built.
    const fn later(self) -> Self {
        Self { supported: false, ..self }
    }
}

impl Kind {
    /// The words that are supported, or those that are not yet.
    fn words(&self, supported: bool) -> Vec<&'static str> {
        let Kind::Word(words) = self else { return Vec::new() };
        words.iter().filter(|(_, built)| *built == supported).map(|(word, _)| *word).collect()
    }

    /// The words that are declared before they are built, as a sentence.
    pub(super) fn not_yet(&self) -> Option<String> {
        let words = quoted(self.words(false));
        (!words.is_empty()).then(|| format!(" Not yet: {}.", words.join(", ")))
    }

    /// What is expected, after "must be".
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
    /// `from 1s to 7d`
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

/// In seconds.
const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
