//! TOML's types against the declared kinds, and the words for both.

use super::Kind;
use toml::de::DeValue;

/// Whether a value's type is one the kind takes, whatever it says.
pub(super) fn fits(kind: &Kind, raw: &DeValue<'_>) -> bool {
    match kind {
        Kind::Text | Kind::Name | Kind::Duration { .. } | Kind::Size { .. } | Kind::Word(_) => {
            raw.is_str()
        }
        Kind::Bool => raw.is_bool(),
        Kind::Integer { .. } => raw.is_integer(),
        Kind::List(_) | Kind::Ordered(_) => raw.is_array(),
        Kind::Table { .. } | Kind::Named(_) | Kind::Map(_) => raw.is_table(),
        Kind::Either(kinds) => kinds.iter().any(|kind| fits(kind, raw)),
    }
}

pub(super) fn found(raw: &DeValue<'_>) -> &'static str {
    match raw {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

pub(super) fn wanted(kind: &Kind) -> String {
    match kind {
        Kind::Text => "text".to_owned(),
        Kind::Name => "a name".to_owned(),
        Kind::Bool => "true or false".to_owned(),
        Kind::Integer { .. } => "a whole number".to_owned(),
        Kind::Duration { .. } => "a duration with its unit, as \"30s\"".to_owned(),
        Kind::Size { .. } => "a size with its unit, as \"64KiB\"".to_owned(),
        Kind::Word(_) => "one of its words".to_owned(),
        Kind::List(_) | Kind::Ordered(_) => "a list".to_owned(),
        Kind::Table { .. } | Kind::Named(_) | Kind::Map(_) => "a table".to_owned(),
        Kind::Either(kinds) => kinds.iter().map(wanted).collect::<Vec<_>>().join(" or "),
    }
}
