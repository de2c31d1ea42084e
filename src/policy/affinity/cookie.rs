//! Cookies as bytes: finds them in a request without allocating, writes them into a response.
//!
//! The grammar is RFC 6265 section 5.4 in reverse: all `Cookie` lines are one list, split at `;`
//! and trimmed of spaces and tabs; each piece is split into name and value at the first `=`, and
//! both are trimmed again. Nothing is unquoted or percent-decoded, and a comma does not separate.

use memchr::memchr;

use super::{CorsTwin, SameSite};

/// The values of the cookies of this name, in the order sent.
pub fn values<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
    name: &str,
) -> impl Iterator<Item = &'a [u8]> {
    lines.flat_map(pieces).filter_map(move |piece| value_of(piece, name))
}

/// Removes the cookies of these names from a line and leaves the rest byte for byte. `None` if
/// there is nothing to remove; an empty line if nothing is left, and then the header must be
/// dropped.
pub fn without(line: &[u8], names: &[impl AsRef<str>]) -> Option<Vec<u8>> {
    let ours = |piece: &[u8]| names.iter().any(|name| value_of(piece, name.as_ref()).is_some());
    pieces(line).any(ours).then(|| {
        let mut kept = Vec::with_capacity(line.len());
        for piece in pieces(line).filter(|piece| !ours(piece)) {
            match kept.is_empty() {
                // The space after the semicolon that was removed with the cookies before it.
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

/// The pieces between the semicolons of a line.
pub(super) fn pieces(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let Some(end) = semicolon(line) else { return rest.take() };
        rest = Some(&line[end + 1..]);
        Some(&line[..end])
    })
}

/// Position of the first semicolon. `memchr` takes some nanoseconds before its first byte, which a
/// line of semicolons alone would pay for each byte; so the first eight bytes are searched as one
/// word.
#[inline]
fn semicolon(line: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([0x01; NEAR]);
    const NEAR: usize = 8;
    let Some((near, far)) = line.split_first_chunk::<NEAR>() else {
        return line.iter().position(|&byte| byte == b';');
    };
    let word = u64::from_le_bytes(*near) ^ (ONES * u64::from(b';'));
    // The lowest mark is the first semicolon; marks above it may be wrong.
    let marks = word.wrapping_sub(ONES) & !word & (ONES << 7);
    if marks != 0 {
        return Some((marks.trailing_zeros() / 8) as usize);
    }
    memchr(b';', far).map(|end| end + NEAR)
}

/// The value of a piece whose name is this one. A name holds no `=`, so the first `=` of the piece
/// is the one after the name, and the rest is not searched.
#[inline]
pub(super) fn value_of<'a>(piece: &'a [u8], name: &str) -> Option<&'a [u8]> {
    // An optimization for a line of thousands of tiny cookies; the result is the same without it.
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

/// The attributes that all cookies of a group share.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// The main cookie's name; the twin's is this name followed by `CORS`.
    pub name: &'a str,
    /// The cookie's `Max-Age` in most responses, in seconds.
    pub usual_age: u32,
    /// The `Path` attribute.
    pub path: &'a str,
    /// The `Domain` attribute, if any.
    pub domain: Option<&'a str>,
    /// True if the main cookie gets `Secure`. The twin always gets it: browsers drop a cookie with
    /// `SameSite=None` and without `Secure`.
    pub secure: bool,
    /// True if `HttpOnly` is written.
    pub http_only: bool,
    /// The main cookie's `SameSite`; the twin's is always `None`.
    pub same_site: SameSite,
    /// True if `Partitioned` is written.
    pub partitioned: bool,
}

/// The end of a cookie's life, as a date and as an age: a client that knows `Max-Age` prefers it
/// (RFC 6265 section 5.3), so that its own clock does not matter.
#[derive(Clone, Copy, Debug)]
pub struct Ending<'a> {
    /// The `Expires` attribute.
    pub date: &'a str,
    /// The `Max-Age` attribute: seconds from now to that date.
    pub max_age: u64,
}

/// The values of a group's `Set-Cookie` lines without the parts that differ between responses, made
/// once with the snapshot. The order is Expires, Max-Age, Path, Domain, Secure, HttpOnly, SameSite,
/// Partitioned.
#[derive(Clone, Debug)]
pub struct SetCookieTemplate {
    main: Line,
    twin: Line,
}

#[derive(Clone, Debug)]
struct Line {
    name: Box<[u8]>,
    /// `Max-Age` as it is in most responses, and everything after it.
    tail: Box<[u8]>,
    usual_age: u64,
    /// Offset in `tail` of the attributes after `Max-Age`.
    attributes_at: usize,
}

const EXPIRES: &[u8] = b"; Expires=";
const MAX_AGE: &str = "; Max-Age=";

impl SetCookieTemplate {
    /// Writes the attributes into a template. They must have been checked with the configuration: a
    /// semicolon or control character in them would be sent as it is.
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

    /// Appends the value of the main cookie's line.
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
    /// Returns true if the twin is written. `over_tls`: the client came (or is believed to have
    /// come) over TLS.
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
