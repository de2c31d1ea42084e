//! The parts of a request's target (RFC 9112 section 3.2), as byte ranges of the text as sent:
//! bytes that no URI allows are forwarded unchanged.

use super::facts::Facts;
use std::ops::Range;

/// The form of a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// `/path?query`
    #[default]
    Origin,
    /// `http://host/path?query`
    Absolute,
    /// `*`
    Asterisk,
    /// Anything else, including the form of CONNECT, which the balancer does not support.
    Other,
}

/// The parts of a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    /// Its form.
    pub form: Form,
    /// The authority of an absolute form.
    pub authority: Range<usize>,
    /// The path; empty if an absolute form has none.
    pub path: Range<usize>,
    /// The part between the first `?` and a fragment, if present.
    pub query: Option<Range<usize>>,
}

/// Kinds of bytes. 0: bytes of a URI (RFC 3986 section 2). 1: other visible bytes, `"<>\^`,
/// backtick and `{|}`. 2: `?` and `#`. 3: bytes that are not visible.
static KIND: [u8; 256] = {
    let mut table = [3; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        table[byte] = match byte as u8 {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => 1,
            b'?' | b'#' => 2,
            _ => 0,
        };
        byte += 1;
    }
    table
};

/// Splits a target and records its odd spellings.
pub(crate) fn split(target: &[u8], facts: &mut Facts) -> Parts {
    let (form, authority, begins) = match target {
        [b'/', ..] => (Form::Origin, 0..0, 0),
        b"*" => (Form::Asterisk, 0..0, 0),
        _ => match scheme_length(target) {
            Some(length) => {
                let rest = &target[length..];
                let is_end = |byte: &u8| matches!(byte, b'/' | b'?' | b'#');
                let end = length + rest.iter().position(is_end).unwrap_or(rest.len());
                (Form::Absolute, length..end, end)
            }
            None => (Form::Other, 0..0, 0),
        },
    };
    let mut query = None;
    let mut end = target.len();
    let mut odd = Facts::NONE;
    // Most targets hold only plain bytes, up to the query if there is one.
    let rest = target.get(begins..).unwrap_or_default();
    let plain = rest.iter().position(|&byte| KIND[usize::from(byte)] != 0);
    let plain = begins + plain.unwrap_or(rest.len());
    for (at, &byte) in target.iter().enumerate().skip(plain) {
        match KIND[usize::from(byte)] {
            0 => {}
            2 if byte == b'#' => {
                facts.record(Facts::FRAGMENT);
                end = at;
                break;
            }
            2 => {
                query.get_or_insert(at);
            }
            1 => odd.record(Facts::ODD_TARGET),
            _ => odd.record(Facts::BAD_TARGET),
        }
    }
    facts.record(odd);
    let path = begins..query.unwrap_or(end);
    Parts { form, authority, path, query: query.map(|at| at + 1..end) }
}

/// The length of `http://` or of another scheme with its `://` (RFC 3986 section 3.1).
fn scheme_length(target: &[u8]) -> Option<usize> {
    let colon = target
        .iter()
        .position(|&byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')))?;
    let is_scheme = target.first().is_some_and(u8::is_ascii_alphabetic);
    (is_scheme && target[colon..].starts_with(b"://")).then_some(colon + 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(target: &str) -> (Form, &str, &str, Option<&str>, Facts) {
        let mut facts = Facts::default();
        let parts = split(target.as_bytes(), &mut facts);
        let query = parts.query.map(|query| &target[query]);
        (parts.form, &target[parts.authority], &target[parts.path], query, facts)
    }

    #[test]
    fn a_target_is_split_without_changing_its_bytes() {
        let none = Facts::NONE;
        for (target, form, authority, path, query, facts) in [
            ("/", Form::Origin, "", "/", None, none),
            ("/a?b=c?d", Form::Origin, "", "/a", Some("b=c?d"), none),
            ("/a?", Form::Origin, "", "/a", Some(""), none),
            ("//a/b", Form::Origin, "", "//a/b", None, none),
            ("*", Form::Asterisk, "", "*", None, none),
            ("http://h", Form::Absolute, "h", "", None, none),
            ("http://h?x=1", Form::Absolute, "h", "", Some("x=1"), none),
            ("HTTPS://u@h:8/a?b", Form::Absolute, "u@h:8", "/a", Some("b"), none),
            ("h:80", Form::Other, "", "h:80", None, none),
            ("**", Form::Other, "", "**", None, none),
            ("/a#b?c", Form::Origin, "", "/a", None, Facts::FRAGMENT),
            ("/a?b#c", Form::Origin, "", "/a", Some("b"), Facts::FRAGMENT),
            ("/\"<a>`", Form::Origin, "", "/\"<a>`", None, Facts::ODD_TARGET),
            ("/{a}|b^\\", Form::Origin, "", "/{a}|b^\\", None, Facts::ODD_TARGET),
        ] {
            assert_eq!(parts(target), (form, authority, path, query, facts), "{target}");
        }
    }
}
