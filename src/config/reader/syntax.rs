//! Messages for the errors of the TOML parser.

use crate::config::problem::{Problem, Problems};
use std::ops::Range;
use toml::de::Error;

const BROKEN: &str = "invalid TOML";

/// Records at most one error per line, since the other errors of a line follow from the first.
/// Returns the lines that were misread.
pub(super) fn record(text: &str, errors: &[Error], problems: &mut Problems) -> Vec<Range<usize>> {
    let mut lines: Vec<Range<usize>> = Vec::new();
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let line = line_of(text, span.start);
        if !lines.contains(&line) {
            problems.push(problem(text, &line, span, error.message()));
            lines.push(line);
        }
    }
    lines
}

/// Returns true if a problem is a syntax error.
pub(super) fn is_syntax(problem: &Problem) -> bool {
    problem.title.starts_with(BROKEN) || problem.title.ends_with(TWICE)
}

const TWICE: &str = "is written twice";

fn problem(text: &str, line: &Range<usize>, span: Range<usize>, message: &str) -> Problem {
    let twice = message == "duplicate key" || message.starts_with("cannot extend value");
    if message.starts_with("string values must be quoted") {
        let word = text.get(span.clone()).unwrap_or_default();
        let quoted = format!("write \"{}\"", word.escape_debug());
        let label = match word.to_ascii_lowercase().as_str() {
            "yes" | "on" | "true" => format!("{quoted}, or true"),
            "no" | "off" | "false" => format!("{quoted}, or false"),
            _ => quoted,
        };
        return Problem::at(span, format!("{BROKEN}: strings must be quoted")).label(label);
    }
    if !twice {
        return Problem::at(span, format!("{BROKEN}: {message}"));
    }
    let name = text.get(span.clone()).unwrap_or_default().trim_matches(['"', '\'']).to_owned();
    let table = text[line.clone()].trim_start().starts_with('[') || message != "duplicate key";
    let problem = Problem::at(span, format!("`{name}` {TWICE}"));
    if table {
        problem.help(format!("merge both into one table `{name}`"))
    } else {
        problem.help("remove one of them")
    }
}

/// The range of the line around `at`, without its end.
fn line_of(text: &str, at: usize) -> Range<usize> {
    let bytes = text.as_bytes();
    let at = at.min(bytes.len());
    let start = bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let length = bytes[at..].iter().position(|byte| *byte == b'\n');
    start..length.map_or(bytes.len(), |length| at + length)
}
