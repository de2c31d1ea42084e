//! Checks one value against its kind.

use super::{Reader, under};
use crate::config::keys::{Kind, Span};
use crate::config::nearest::nearest;
use crate::config::node::{Node, Table, Value};
use crate::config::problem::Problem;
use crate::config::quantity::{self, Defect};
use std::ops::Range;
use toml::Spanned;
use toml::de::DeValue;

impl Reader<'_> {
    /// Converts the value to its kind; `None` after recording a problem.
    pub(super) fn value(
        &mut self,
        kind: &Kind,
        written: &Spanned<DeValue<'_>>,
        path: &str,
    ) -> Option<Node> {
        let span = written.span();
        let name = &called(path);
        let raw = written.get_ref();
        let (chosen, raw) = alternative(kind, raw);
        let value = match (chosen, raw) {
            (Kind::Text(form), DeValue::String(text)) if (form.fits)(text) => {
                Some(Value::Text(text.to_string()))
            }
            (Kind::Bool, DeValue::Boolean(flag)) => Some(Value::Bool(*flag)),
            (Kind::Integer(min, max), DeValue::Integer(number)) => {
                let read = u64::from_str_radix(&number.as_str().replace('_', ""), number.radix());
                match read {
                    Ok(number) if (*min..=*max).contains(&number) => Some(Value::Integer(number)),
                    _ => self.out_of_range(name, kind, &span),
                }
            }
            (Kind::Duration(bounds), DeValue::String(text)) => {
                self.duration(name, kind, bounds, text, &span)
            }
            (Kind::Size { zero, min, max }, DeValue::String(text)) => match quantity::size(text) {
                Ok(0) if *zero => Some(Value::Size(0)),
                Ok(size) if (*min..=*max).contains(&size) => Some(Value::Size(size)),
                Ok(_) => self.out_of_range(name, kind, &span),
                Err(Defect::NoUnit) => self.no_unit(name, &of_bytes(text), &span),
                Err(Defect::Unreadable) => self.wrong(name, kind, raw, &span),
            },
            (Kind::Duration(_), DeValue::Integer(number)) => {
                self.no_unit(name, &format!("{}s", number.as_str()), &span)
            }
            (Kind::Size { .. }, DeValue::Integer(number)) => {
                self.no_unit(name, &of_bytes(number.as_str()), &span)
            }
            (Kind::Word(words), DeValue::String(text)) => {
                match words.iter().find(|(word, _)| word == text) {
                    Some((word, true)) => Some(Value::Word(word)),
                    Some((word, false)) => {
                        let title = format!("{name} \"{word}\" is not supported yet");
                        self.record(Problem::at(span.clone(), title))
                    }
                    None => self.unknown_word(name, kind, words, text, &span),
                }
            }
            (Kind::List(inner) | Kind::OneOrMany(inner), DeValue::Array(array)) => {
                if array.is_empty() && matches!(kind, Kind::OneOrMany(_)) {
                    let title = format!("{name} is an empty list");
                    return self.record(
                        Problem::at(span, title).help(format!("it must be {}", inner.expects())),
                    );
                }
                // Refused values are left out, so that the rest is still checked.
                Some(Value::List(
                    array
                        .iter()
                        .filter_map(|one| self.value(inner, one, &format!("{path}[]")))
                        .collect(),
                ))
            }
            (Kind::OneOrMany(inner), _) => {
                self.value(inner, written, path).map(|one| Value::List(vec![one]))
            }
            (Kind::Table(keys), DeValue::Table(table)) => {
                Some(Value::Table(self.table(keys, table, &span, path)))
            }
            (Kind::Named(_) | Kind::Map(..), DeValue::Table(_)) => self.named(chosen, raw, path),
            _ => self.wrong(name, kind, raw, &span),
        };
        Some(Node { key: span.clone(), span, written: true, value: value? })
    }

    /// Reads a table whose names the operator chooses.
    fn named(&mut self, kind: &Kind, raw: &DeValue<'_>, path: &str) -> Option<Value> {
        let mut named = Table::default();
        for (key, value) in raw.as_table()? {
            let (form, inner) = match kind {
                Kind::Named(keys) => (&crate::config::keys::NAME, Kind::Table(keys)),
                Kind::Map(form, inner) => (*form, **inner),
                _ => return None,
            };
            if !(form.fits)(key.get_ref()) {
                let title = format!("`{}` is not a valid name", key.get_ref());
                self.problems
                    .push(Problem::at(key.span(), title).help(format!("it must be {}", form.what)));
            } else if let Some(node) = self.value(&inner, value, &under(path, key.get_ref())) {
                named.insert(key.get_ref(), Node { key: key.span(), ..node });
            } else {
                named.refuse(key.get_ref());
            }
        }
        Some(Value::Table(named))
    }

    fn duration(
        &mut self,
        name: &str,
        kind: &Kind,
        bounds: &Span,
        text: &str,
        span: &Range<usize>,
    ) -> Option<Value> {
        match quantity::duration(text) {
            Ok(time) if time.is_zero() && bounds.zero => Some(Value::Duration(time)),
            Ok(time) if (bounds.min..=bounds.max).contains(&time) => Some(Value::Duration(time)),
            Ok(_) => self.out_of_range(name, kind, span),
            Err(Defect::NoUnit) => self.no_unit(name, &format!("{text}s"), span),
            Err(Defect::Unreadable) => {
                let title = format!("{name} must be {}", kind.expects());
                let help = "whole numbers, each with its unit: ms, s, m, h, d, as in \"1h30m\"";
                self.record(Problem::at(span.clone(), title).help(help))
            }
        }
    }

    fn no_unit(&mut self, name: &str, with_unit: &str, span: &Range<usize>) -> Option<Value> {
        let title = format!("{name} has no unit");
        self.record(Problem::at(span.clone(), title).label(format!("for example \"{with_unit}\"")))
    }

    fn out_of_range(&mut self, name: &str, kind: &Kind, span: &Range<usize>) -> Option<Value> {
        let title = format!("{name} is out of range");
        self.record(Problem::at(span.clone(), title).label(format!("must be {}", kind.expects())))
    }

    fn unknown_word(
        &mut self,
        name: &str,
        kind: &Kind,
        words: &[(&'static str, bool)],
        text: &str,
        span: &Range<usize>,
    ) -> Option<Value> {
        let title = format!("{name} cannot be \"{}\"", text.escape_debug());
        let mut problem = Problem::at(span.clone(), title);
        if let Some(meant) = nearest(text, words.iter().map(|(word, _)| *word)) {
            problem = problem.label(format!("did you mean \"{meant}\"?"));
        }
        self.record(problem.help(format!("it must be {}", kind.expects())))
    }

    fn wrong(
        &mut self,
        name: &str,
        kind: &Kind,
        raw: &DeValue<'_>,
        span: &Range<usize>,
    ) -> Option<Value> {
        let title = format!("{name} must be {}", kind.expects());
        let problem = Problem::at(span.clone(), title);
        let of_its_type = matches!(alternative(kind, raw), (chosen, _) if takes(chosen, raw));
        if of_its_type {
            return self.record(problem);
        }
        self.record(problem.label(format!("this is {}", type_of(raw))))
    }

    fn record<T>(&mut self, problem: Problem) -> Option<T> {
        self.problems.push(problem);
        None
    }
}

/// Chooses the kind of a value if several are accepted: the first that accepts its type; a kind of
/// words only if no other kind of text remains.
fn alternative<'k, 'v, 'i>(kind: &'k Kind, raw: &'v DeValue<'i>) -> (&'k Kind, &'v DeValue<'i>) {
    let Kind::Either(kinds) = kind else { return (kind, raw) };
    let is_word = |kind: &&Kind| match (kind, raw.as_str()) {
        (Kind::Word(words), Some(text)) => words.iter().any(|(word, _)| *word == text),
        _ => takes(kind, raw),
    };
    let chosen = kinds.iter().find(is_word).or_else(|| kinds.iter().find(|kind| takes(kind, raw)));
    (chosen.unwrap_or(kind), raw)
}

fn takes(kind: &Kind, raw: &DeValue<'_>) -> bool {
    match kind {
        Kind::Text(_) | Kind::Word(_) => raw.is_str(),
        // A bare number is accepted here, so that the message can ask for its unit.
        Kind::Duration(_) | Kind::Size { .. } => raw.is_str() || raw.is_integer(),
        Kind::Bool => raw.is_bool(),
        Kind::Integer(..) => raw.is_integer(),
        Kind::List(_) => raw.is_array(),
        Kind::OneOrMany(inner) => raw.is_array() || takes(inner, raw),
        Kind::Table(_) | Kind::Named(_) | Kind::Map(..) => raw.is_table(),
        Kind::Either(kinds) => kinds.iter().any(|kind| takes(kind, raw)),
    }
}

/// The last key of a path as written in a message; for a list, one of its values.
fn called(path: &str) -> String {
    let name = path.rsplit('.').next().unwrap_or(path);
    match name.strip_suffix("[]") {
        Some(list) => format!("each of `{list}`"),
        None => format!("`{name}`"),
    }
}

/// Suggestion for a bare number that counts bytes, in the largest suitable unit.
fn of_bytes(number: &str) -> String {
    number.parse().map_or_else(|_| format!("{number}B"), quantity::size_text)
}

fn type_of(raw: &DeValue<'_>) -> &'static str {
    match raw {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "`true` or `false`",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
