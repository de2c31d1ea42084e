//! What is printed where: data on standard output, messages on standard error, colours only for
//! eyes that see them.

use std::io::{IsTerminal, Write};

/// A line of data. A reader that has gone away (`stayput explain | head`) is no failure.
pub(super) fn data(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A line for the operator.
pub(super) fn message(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Whether messages may be coloured: on a terminal, unless NO_COLOR is set (no-color.org).
pub(super) fn messages_are_coloured() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !refused
}
