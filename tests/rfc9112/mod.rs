//! A plain and slow parser of HTTP/1.1 by its grammar (RFC 9112; RFC 9110 section 5; RFC 3986),
//! against which the codec in `src/http1` is checked. It is written from the RFCs and not from the
//! codec: every line is copied, every list is searched, and nothing is optimised.
//!
//! A parser accepts the leniencies that are allowed. Without any, it accepts the grammar as
//! written.

// Each program that includes this uses a part of it.
#![allow(dead_code)]

pub mod agreement;
pub mod body;
pub mod head;
pub mod uri;

use std::collections::BTreeSet;

/// The result of parsing bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read<T> {
    /// More bytes may make it a message.
    Incomplete,
    /// No message begins like this.
    Refused(&'static str),
    /// One message.
    Whole(T),
}

/// A spelling that the grammar does not have, and that a codec may accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leniency {
    /// LF alone ends a line (RFC 9112 section 2.2 allows this).
    BareLf,
    /// Empty lines before a request line (RFC 9112 section 2.2 asks to ignore one).
    EmptyLinesFirst,
    /// Blanks other than the two single spaces of a request line (RFC 9112 section 3 allows this).
    OddBlanks,
    /// HTTP/1.2 to HTTP/1.9 (RFC 9110 section 2.5 asks to read it as 1.1).
    MinorVersion,
    /// A target with a fragment, which no request target has (RFC 9112 section 3.2).
    Fragment,
    /// A target with a visible byte that RFC 3986 allows in no URI.
    OddTarget,
    /// A target of URI bytes in none of the four forms: a lone `%`, a bracket in a path.
    NoForm,
    /// Blanks between a name and its colon (RFC 9112 section 5.1 forbids them in a request).
    BlankBeforeColon,
    /// `obs-fold` (RFC 9112 section 5.2).
    Folded,
    /// A control byte in a value, read as a space (RFC 9110 section 5.5 allows it).
    ControlInValue,
    /// A byte of `obs-text` in a value. The grammar has it; it is only noted.
    ObsText,
    /// A status line without the space after the code.
    NoReason,
    /// A chunk extension that is text after a `;`, and not names and values.
    ExtensionText,
    /// Blanks after a chunk's size.
    BlankAfterSize,
}

/// Leniencies that are allowed, and those that were needed.
#[derive(Clone, Debug, Default)]
pub struct Leniencies {
    allowed: Vec<Leniency>,
    pub needed: BTreeSet<Leniency>,
}

impl Leniencies {
    pub fn allow(allowed: &[Leniency]) -> Self {
        Self { allowed: allowed.to_vec(), needed: BTreeSet::new() }
    }

    /// Notes that a leniency is needed. Returns true if it is allowed.
    fn need(&mut self, leniency: Leniency) -> bool {
        self.needed.insert(leniency);
        self.allowed.contains(&leniency) || leniency == Leniency::ObsText
    }
}

/// A field: its name as sent, and its value without surrounding blanks.
pub type Field = (String, Vec<u8>);

// RFC 5234 and RFC 9110 section 5.6.

pub fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| is_tchar(byte))
}

pub fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// `HTAB / SP / VCHAR / obs-text`
pub fn is_text(byte: u8) -> bool {
    byte == b'\t' || (0x20..=0x7e).contains(&byte) || byte >= 0x80
}

/// The text without surrounding blanks.
pub fn trim(text: &[u8]) -> &[u8] {
    let Some(first) = text.iter().position(|&byte| !is_blank(byte)) else { return &[] };
    let last = text.iter().rposition(|&byte| !is_blank(byte)).unwrap();
    &text[first..=last]
}

/// The line at `at`: its text, true if CRLF and not LF alone ended it, and the start of the next
/// line.
pub fn line(bytes: &[u8], at: usize) -> Option<(Vec<u8>, bool, usize)> {
    let mut text = Vec::new();
    for (place, &byte) in bytes.iter().enumerate().skip(at) {
        if byte == b'\n' {
            let crlf = text.last() == Some(&b'\r');
            if crlf {
                text.pop();
            }
            return Some((text, crlf, place + 1));
        }
        text.push(byte);
    }
    None
}
