//! Cookies as bytes: found in a request without allocating, written into a response.
//!
//! One grammar, RFC 6265 section 5.4 read backwards: all `Cookie` lines are one list, split at `;`,
//! trimmed of spaces and tabs, name and value parted at the first `=` and trimmed again. Nothing is
//! unquoted or percent-decoded, and a comma separates nothing.

use memchr::memchr;

use super::{CorsTwin, SameSite, SecureAttribute};

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
/// would pay them for every byte.
fn semicolon(line: &[u8]) -> Option<usize> {
    const NEAR: usize = 8;
    let far = line.get(NEAR..).unwrap_or_default();
    let near = line.iter().take(NEAR).position(|&byte| byte == b';');
    near.or_else(|| memchr(b';', far).map(|end| end + NEAR))
}

/// The value of a piece whose name is this one. A name holds no `=`, so the first `=` of the piece
/// is the one behind the name, and the rest need not be searched.
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
    /// `Path`.
    pub path: &'a str,
    /// `Domain`, if any.
    pub domain: Option<&'a str>,
    /// Whether `HttpOnly` is written.
    pub http_only: bool,
    /// `SameSite` of the main cookie; the twin's is `None` always.
    pub same_site: SameSite,
    /// Whether `Partitioned` is written.
    pub partitioned: bool,
}

/// The values of a group's `Set-Cookie` lines but for what differs from answer to answer, made once
/// with the snapshot. The order is Expires, Path, Domain, Secure, HttpOnly, SameSite, Partitioned.
#[derive(Clone, Debug)]
pub struct SetCookieTemplate {
    main: Line,
    twin: Line,
}

#[derive(Clone, Debug)]
struct Line {
    name: Box<[u8]>,
    before_secure: Box<[u8]>,
    after_secure: Box<[u8]>,
}

impl SetCookieTemplate {
    /// What the attributes say, in bytes. They were checked with the configuration: a semicolon or
    /// control character in one of them would end up on the wire.
    pub fn new(attributes: Attributes<'_>) -> Self {
        let Attributes { name, path, domain, http_only, same_site, partitioned } = attributes;
        let line = |suffix: &str, same_site| {
            let domain = domain.map(|domain| format!("; Domain={domain}")).unwrap_or_default();
            let http_only = if http_only { "; HttpOnly" } else { "" };
            let partitioned = if partitioned { "; Partitioned" } else { "" };
            let same_site = match same_site {
                SameSite::Unset => "",
                SameSite::Lax => "; SameSite=Lax",
                SameSite::Strict => "; SameSite=Strict",
                SameSite::None => "; SameSite=None",
            };
            let bytes = |text: String| text.into_bytes().into_boxed_slice();
            Line {
                name: bytes(format!("{name}{suffix}=")),
                before_secure: bytes(format!("; Path={path}{domain}")),
                after_secure: bytes(format!("{http_only}{same_site}{partitioned}")),
            }
        };
        Self { main: line("", same_site), twin: line("CORS", SameSite::None) }
    }

    /// The value of the main line.
    pub fn line(&self, token: &str, expires: Option<&str>, secure: bool) -> Vec<u8> {
        self.main.line(token, expires, secure)
    }

    /// The value of the CORS twin's line, which follows the main one.
    pub fn twin_line(&self, token: &str, expires: Option<&str>, secure: bool) -> Vec<u8> {
        self.twin.line(token, expires, secure)
    }
}

impl Line {
    /// With no byte of room to spare: a field value made of it is then not copied.
    fn line(&self, token: &str, expires: Option<&str>, secure: bool) -> Vec<u8> {
        const EXPIRES: &[u8] = b"; Expires=";
        const SECURE: &[u8] = b"; Secure";
        let expires_length = expires.map_or(0, |date| EXPIRES.len() + date.len());
        let secure_length = if secure { SECURE.len() } else { 0 };
        let mut line =
            Vec::with_capacity(self.length() + token.len() + expires_length + secure_length);
        line.extend_from_slice(&self.name);
        line.extend_from_slice(token.as_bytes());
        if let Some(date) = expires {
            line.extend_from_slice(EXPIRES);
            line.extend_from_slice(date.as_bytes());
        }
        line.extend_from_slice(&self.before_secure);
        if secure {
            line.extend_from_slice(SECURE);
        }
        line.extend_from_slice(&self.after_secure);
        line
    }

    fn length(&self) -> usize {
        self.name.len() + self.before_secure.len() + self.after_secure.len()
    }
}

impl SecureAttribute {
    /// Whether `Secure` is written to a client that came (or is believed to have come) over TLS.
    pub fn due(self, over_tls: bool) -> bool {
        match self {
            Self::Auto => over_tls,
            Self::Always => true,
            Self::Never => false,
        }
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
