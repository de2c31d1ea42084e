//! Cookies as bytes: found in a request without allocating, written into a response.
//!
//! One grammar, RFC 6265 section 5.4 read backwards: all `Cookie` lines are one list, split at `;`,
//! trimmed of spaces and tabs, name and value parted at the first `=` and trimmed again. Nothing is
//! unquoted or percent-decoded, and a comma separates nothing.

use memchr::memchr;

use super::{CorsTwin, SameSite};

/// The values of the cookies of this name, in the order in which they were sent.
pub fn values<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
    name: &str,
) -> impl Iterator<Item = &'a [u8]> {
    lines.flat_map(pieces).filter_map(move |piece| value_of(piece, name))
}

/// The line without the cookies of these names, all else byte for byte as it was. `None` when there
/// is nothing to take out; an empty line when nothing is left, and then the header is to be dropped.
pub fn without(line: &[u8], names: &[impl AsRef<str>]) -> Option<Vec<u8>> {
    let ours = |piece: &[u8]| names.iter().any(|name| value_of(piece, name.as_ref()).is_some());
    pieces(line).any(ours).then(|| {
        let mut kept = Vec::with_capacity(line.len());
        for piece in pieces(line).filter(|piece| !ours(piece)) {
            match kept.is_empty() {
                // The space behind the semicolon that went with the cookies before it.
                true => kept.extend_from_slice(trim_start(piece)),
                false => {
                    kept.push(b';');
                    kept.extend_from_slice(piece);
                }
            }
        }
        kept
    })
}

/// What stands between the semicolons of a line.
pub(super) fn pieces(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let Some(end) = semicolon(line) else { return rest.take() };
        rest = Some(&line[end + 1..]);
        Some(&line[..end])
    })
}

/// `memchr` costs some nanoseconds before it looks at anything; a line of nothing but semicolons
/// would pay them for every byte. The first eight are looked at as one word.
#[inline]
fn semicolon(line: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([0x01; NEAR]);
    const NEAR: usize = 8;
    let Some((near, far)) = line.split_first_chunk::<NEAR>() else {
        return line.iter().position(|&byte| byte == b';');
    };
    let word = u64::from_le_bytes(*near) ^ (ONES * u64::from(b';'));
    // The lowest mark is where the first semicolon is; those above it may be wrong.
    let marks = word.wrapping_sub(ONES) & !word & (ONES << 7);
    if marks != 0 {
        return Some((marks.trailing_zeros() / 8) as usize);
    }
    memchr(b';', far).map(|end| end + NEAR)
}

/// The value of a piece whose name is this one. A name holds no `=`, so the first `=` of the piece
/// is the one behind the name, and the rest need not be searched.
#[inline]
pub(super) fn value_of<'a>(piece: &'a [u8], name: &str) -> Option<&'a [u8]> {
    // A line of thousands of tiny cookies is what this is for; it is right without.
    if piece.len() <= name.len() {
        return None;
    }
    let value = trim_start(piece).strip_prefix(name.as_bytes())?;
    Some(trim(trim_start(value).strip_prefix(b"=")?))
}

fn trim(text: &[u8]) -> &[u8] {
    let mut text = trim_start(text);
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

fn trim_start(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    text
}

/// What a group's cookies have in common.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// The main cookie's name; the twin's is the same with `CORS` behind it.
    pub name: &'a str,
    /// How many seconds the cookie lives in most answers.
    pub usual_age: u32,
    /// `Path`.
    pub path: &'a str,
    /// `Domain`, if any.
    pub domain: Option<&'a str>,
    /// Whether `Secure` is written in the main cookie. The twin's is: browsers drop what says
    /// `SameSite=None` and not `Secure`.
    pub secure: bool,
    /// Whether `HttpOnly` is written.
    pub http_only: bool,
    /// `SameSite` of the main cookie; the twin's is `None` always.
    pub same_site: SameSite,
    /// Whether `Partitioned` is written.
    pub partitioned: bool,
}

/// When a cookie ends, said twice: a client takes `Max-Age` where it knows it (RFC 6265 section
/// 5.3), so that its own clock does not matter.
#[derive(Clone, Copy, Debug)]
pub struct Ending<'a> {
    /// `Expires`.
    pub date: &'a str,
    /// `Max-Age`: the seconds from now to that date.
    pub max_age: u64,
}

/// The values of a group's `Set-Cookie` lines but for what differs from answer to answer, made once
/// with the snapshot. The order is Expires, Max-Age, Path, Domain, Secure, HttpOnly, SameSite,
/// Partitioned.
#[derive(Clone, Debug)]
pub struct SetCookieTemplate {
    main: Line,
    twin: Line,
}

#[derive(Clone, Debug)]
struct Line {
    name: Box<[u8]>,
    /// `Max-Age` as it is in most answers, and all that stands behind it.
    tail: Box<[u8]>,
    usual_age: u64,
    /// Where in `tail` the attributes behind `Max-Age` begin.
    attributes_at: usize,
}

const EXPIRES: &[u8] = b"; Expires=";
const MAX_AGE: &str = "; Max-Age=";

impl SetCookieTemplate {
    /// What the attributes say, in bytes. They were checked with the configuration: a semicolon or
    /// control character in one of them would end up on the wire.
    pub fn new(attributes: Attributes<'_>) -> Self {
        let Attributes { name, usual_age, path, domain, secure, http_only, .. } = attributes;
        let line = |suffix: &str, secure, same_site| {
            let domain = domain.map(|domain| format!("; Domain={domain}")).unwrap_or_default();
            let secure = if secure { "; Secure" } else { "" };
            let http_only = if http_only { "; HttpOnly" } else { "" };
            let partitioned = if attributes.partitioned { "; Partitioned" } else { "" };
            let same_site = match same_site {
                SameSite::Unset => "",
                SameSite::Lax => "; SameSite=Lax",
                SameSite::Strict => "; SameSite=Strict",
                SameSite::None => "; SameSite=None",
            };
            let age = format!("{MAX_AGE}{usual_age}");
            let tail =
                format!("{age}; Path={path}{domain}{secure}{http_only}{same_site}{partitioned}");
            Line {
                name: format!("{name}{suffix}=").into_bytes().into(),
                tail: tail.into_bytes().into(),
                usual_age: usual_age.into(),
                attributes_at: age.len(),
            }
        };
        Self {
            main: line("", secure, attributes.same_site),
            twin: line("CORS", true, SameSite::None),
        }
    }

    /// Appends the value of the main line.
    pub fn write(&self, line: &mut Vec<u8>, token: &[u8], ending: Option<Ending<'_>>) {
        self.main.write(line, token, ending);
    }

    /// Appends the value of the CORS twin's line.
    pub fn write_twin(&self, line: &mut Vec<u8>, token: &[u8], ending: Option<Ending<'_>>) {
        self.twin.write(line, token, ending);
    }
}

impl Line {
    fn write(&self, line: &mut Vec<u8>, token: &[u8], ending: Option<Ending<'_>>) {
        let attributes = &self.tail[self.attributes_at..];
        match ending {
            None => self.join(line, token, [], attributes),
            Some(Ending { date, max_age }) if max_age == self.usual_age => {
                self.join(line, token, [EXPIRES, date.as_bytes()], &self.tail);
            }
            // Another group's pin in the cookie lives longer.
            Some(Ending { date, max_age }) => {
                let (mut digits, date) = (itoa::Buffer::new(), date.as_bytes());
                let max_age = digits.format(max_age).as_bytes();
                self.join(line, token, [EXPIRES, date, MAX_AGE.as_bytes(), max_age], attributes);
            }
        }
    }

    fn join<const N: usize>(
        &self,
        line: &mut Vec<u8>,
        token: &[u8],
        ending: [&[u8]; N],
        tail: &[u8],
    ) {
        line.extend_from_slice(&self.name);
        line.extend_from_slice(token);
        for part in ending {
            line.extend_from_slice(part);
        }
        line.extend_from_slice(tail);
    }
}

impl CorsTwin {
    /// Whether the twin is written to a client that came (or is believed to have come) over TLS.
    pub fn due(self, over_tls: bool) -> bool {
        match self {
            Self::Secure => over_tls,
            Self::Always => true,
            Self::Never => false,
        }
    }
}

#[cfg(test)]
mod tests;
