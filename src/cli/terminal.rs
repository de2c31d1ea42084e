//! Output streams: data on standard output, messages on standard error, colours only on a terminal.

use std::io::{IsTerminal, Write};

/// Prints a line of data. A closed reader (`stayput explain | head`) is no failure.
pub(super) fn data(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints a line for the operator.
pub(super) fn message(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Returns true if messages may be coloured: on a terminal, unless NO_COLOR is set (no-color.org).
pub(super) fn messages_are_coloured() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !refused
}
