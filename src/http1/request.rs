//! The head of a request: parsed from HTTP/1.1 bytes, or assembled from HTTP/2 fields.

use super::decode::Framing;
use super::facts::Facts;
use super::fields::Fields;
use super::name::Name;
use super::response::persists;
use super::scan;
use super::target::{self, Form, Parts};
use super::value::content_length;
use http::{Method, Version};
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// A request's head in one buffer. Values derived from it are ranges of that buffer, not copies.
#[derive(Clone, Default)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// HTTP/1.0, HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// The fields.
    pub fields: Fields,
    /// Spellings that other parsers read differently.
    pub facts: Facts,
    /// The target as it was sent, and its parts.
    target: String,
    parts: Parts,
}

/// Bounds of one head.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bound in bytes, all lines together.
    pub bytes: usize,
    /// Bound on the number of fields.
    pub fields: usize,
}

/// Cause of a head that cannot be read as one message of RFC 9112.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHead {
    /// The syntax violates RFC 9112; [`Request::facts`] has the reasons.
    Malformed,
    /// The head exceeds a bound on bytes or fields.
    TooLarge,
    /// The request line alone exceeds the bound.
    TargetTooLong,
    /// The bytes are the preface of HTTP/2 (RFC 9113 section 3.4).
    Http2Preface,
}

impl Request {
    /// Removes everything and keeps the allocated memory.
    pub fn clear(&mut self) {
        self.method = Method::GET;
        self.version = Version::HTTP_11;
        self.fields.clear();
        self.facts = Facts::NONE;
        self.target.clear();
        self.parts = Parts::default();
    }

    /// Copies this head into the allocated memory.
    pub fn copy_from(&mut self, other: &Self) {
        self.method = other.method.clone();
        (self.version, self.facts) = (other.version, other.facts);
        self.fields.copy_from(&other.fields);
        self.target.clone_from(&other.target);
        self.parts = other.parts.clone();
    }

    /// A head without fields.
    pub fn new(method: Method, target: &str, version: Version) -> Self {
        let mut made = Self::default();
        made.begin(method, target, version);
        made
    }

    /// Starts a new head without fields. `target` must be visible ASCII.
    pub fn begin(&mut self, method: Method, target: &str, version: Version) {
        self.begin_in_pieces(method, &[target], version);
    }

    /// [`Request::begin`] with a target assembled from these pieces.
    pub fn begin_in_pieces(&mut self, method: Method, target: &[&str], version: Version) {
        self.clear();
        (self.method, self.version) = (method, version);
        target.iter().for_each(|piece| self.target.push_str(piece));
        self.parts = target::split(self.target.as_bytes(), &mut self.facts);
    }

    /// The target as it was sent.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The target's form.
    pub fn form(&self) -> Form {
        self.parts.form
    }

    /// The authority of an absolute target.
    pub fn authority(&self) -> Option<&str> {
        let authority = || &self.target()[self.parts.authority.clone()];
        (self.parts.form == Form::Absolute).then(authority)
    }

    /// The scheme of an absolute target, as it was sent.
    pub fn scheme(&self) -> Option<&str> {
        let length = self.parts.authority.start.checked_sub("://".len())?;
        (self.parts.form == Form::Absolute).then(|| &self.target()[..length])
    }

    /// The path without the query; `/` for an absolute target without a path.
    pub fn path(&self) -> &str {
        match &self.target()[self.parts.path.clone()] {
            "" => "/",
            path => path,
        }
    }

    /// The text after the first `?`, as sent; empty if there is no query.
    pub fn query(&self) -> &str {
        let query = self.parts.query.clone();
        query.map_or("", |query| &self.target()[query])
    }

    /// Path and query as sent to a target. An absolute target without a path becomes `/` (RFC 9112
    /// section 3.2.1).
    pub fn origin_form(&self) -> Cow<'_, str> {
        let Parts { path, query, .. } = &self.parts;
        let end = query.as_ref().map_or(path.end, |query| query.end);
        let text = &self.target()[path.start..end];
        if path.is_empty() { Cow::Owned(format!("/{text}")) } else { Cow::Borrowed(text) }
    }

    /// [`Request::origin_form`] for the access log: `-` if the head was not read that far.
    pub fn logged_target(&self) -> Cow<'_, [u8]> {
        if self.target.is_empty() {
            return Cow::Borrowed(b"-");
        }
        match self.origin_form() {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        }
    }

    /// The framing of the body after this head (RFC 9112 section 6.3). A head with ambiguous
    /// framing is refused by the policy, and its connection closes.
    pub fn framing(&self) -> Framing {
        if self.fields.has(Name::TransferEncoding) {
            return Framing::Chunked;
        }
        // A list is allowed if all its members are equal (`desync_mitigation = "monitor"`).
        Framing::Length(content_length(&self.fields).unwrap_or(0))
    }

    /// Returns true if the client allows another request on the connection (RFC 9112 section 9.3).
    pub fn keeps_alive(&self) -> bool {
        persists(&self.fields, self.version != Version::HTTP_10)
    }

    /// Parses one head at the front of `bytes`. Returns its length, or `None` if it is incomplete.
    /// Empty lines before the request line belong to the head (RFC 9112 section 2.2).
    ///
    /// # Errors
    /// If the bytes cannot become a head. The part read so far is in `self`, for the log.
    pub fn parse(&mut self, bytes: &[u8], bounds: Bounds) -> Result<Option<usize>, BadHead> {
        match self.read(bytes, bounds)? {
            Some(length) if length <= bounds.bytes => return Ok(Some(length)),
            None if bytes.len() < bounds.bytes => return Ok(None),
            _ => {}
        }
        // The result is the same if the head arrives in one piece or in many.
        let within = &bytes[..bounds.bytes];
        let begins = within.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        Err(match memchr::memchr(b'\n', &within[begins..]) {
            None => BadHead::TargetTooLong,
            Some(_) => BadHead::TooLarge,
        })
    }

    fn read(&mut self, bytes: &[u8], bounds: Bounds) -> Result<Option<usize>, BadHead> {
        self.clear();
        let mut begins = 0;
        while let Some(b'\r' | b'\n') = bytes.get(begins) {
            match &bytes[begins..] {
                [b'\r', b'\n', ..] => begins += 2,
                [b'\n', ..] => {
                    self.facts.record(Facts::BARE_LF);
                    begins += 1;
                }
                [b'\r'] => return Ok(None),
                _ => {
                    self.facts.record(Facts::BAD_METHOD);
                    return Err(BadHead::Malformed);
                }
            }
            self.facts.record(Facts::LEADING_EMPTY_LINES);
        }
        match self.read_request_line(bytes, begins) {
            Ok(Some(first)) => self.fields.read(bytes, first, bounds.fields, &mut self.facts),
            Ok(None) => Ok(None),
            Err(bad) => {
                // Only the log uses the fields of a refused head, so the available ones suffice.
                if bad == BadHead::Malformed
                    && let Some(found) = memchr::memchr(b'\n', &bytes[begins..])
                {
                    let first = begins + found + 1;
                    let _ = self.fields.read(bytes, first, bounds.fields, &mut self.facts);
                }
                Err(bad)
            }
        }
    }

    /// Reads the request line at `begins`. Returns the offset of the next line.
    fn read_request_line(&mut self, bytes: &[u8], begins: usize) -> Result<Option<usize>, BadHead> {
        let method_end = scan::token_end(bytes, begins);
        let target = bytes.get(method_end + 1..).unwrap_or_default();
        let target_end = method_end + 1 + scan::visible_end(target);
        let method = &bytes[begins..method_end];
        // The usual form: one space, a target, one space, a version, CRLF.
        let rest = bytes.get(target_end..).unwrap_or_default();
        if bytes.get(method_end) == Some(&b' ')
            && method_end > begins
            && target_end > method_end + 1
            && let Some(line_rest) = rest.first_chunk::<11>()
            && line_rest.starts_with(b" HTTP/1.")
            && line_rest.ends_with(b"\r\n")
            && let Some(version) = version(&line_rest[1..9], &mut self.facts)
        {
            self.record_line(bytes, method, method_end + 1..target_end, version);
            return Ok(Some(target_end + 11));
        }
        self.read_odd_line(bytes, begins)
    }

    fn record_line(&mut self, bytes: &[u8], method: &[u8], target: Range<usize>, version: Version) {
        // A token of any length is a method; the policy bounds the length.
        self.method = Method::from_bytes(method).unwrap_or_default();
        self.version = version;
        let text = &bytes[target];
        self.parts = target::split(text, &mut self.facts);
        // Visible ASCII is UTF-8.
        self.target.push_str(std::str::from_utf8(text).unwrap_or_default());
    }

    /// Reads a request line that is unusual or incomplete.
    #[cold]
    fn read_odd_line(&mut self, bytes: &[u8], begins: usize) -> Result<Option<usize>, BadHead> {
        let rest = &bytes[begins..];
        if rest.starts_with(b"PRI * HTTP/2.0\r\n") {
            return Err(BadHead::Http2Preface);
        }
        let method_end = scan::token_end(bytes, begins);
        if bytes.get(method_end).is_some_and(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n')) {
            // TLS or another protocol: no further bytes could make it HTTP.
            self.facts.record(Facts::BAD_METHOD);
            return Err(BadHead::Malformed);
        }
        let Some(found) = memchr::memchr(b'\n', rest) else {
            // The available part is kept for the log, in case the rest does not arrive.
            if let Some(target) = bytes.get(method_end + 1..) {
                self.keep_target(target);
            }
            return Ok(None);
        };
        let line = match rest[..found].strip_suffix(b"\r") {
            Some(line) => line,
            None => {
                self.facts.record(Facts::BARE_LF);
                &rest[..found]
            }
        };
        let words = Words::of(line);
        record_blanks(line, &words, &mut self.facts);
        let Words { method, target, version: last } = words;
        let (method, target, last) = (&line[method], &line[target], &line[last]);
        if !scan::is_token(method) {
            self.facts.record(Facts::BAD_METHOD);
            return Err(BadHead::Malformed);
        }
        self.method = Method::from_bytes(method).unwrap_or_default();
        if target.is_empty() {
            // One word after the method: a target without a version, or a version without a target.
            if last.is_empty() || last.starts_with(b"HTTP/1.") {
                self.facts.record(Facts::NO_TARGET);
            } else {
                self.facts.record(Facts::NO_VERSION);
                self.keep_target(last);
            }
            return Err(BadHead::Malformed);
        }
        let version = version(last, &mut self.facts);
        if version.is_none() {
            let is_old = last == b"HTTP/0.9";
            self.facts.record(if is_old { Facts::OLD_VERSION } else { Facts::BAD_VERSION });
        }
        for byte in target.iter().filter(|byte| !byte.is_ascii_graphic()) {
            self.facts.record(Facts::BAD_TARGET);
            match byte {
                0 | b'\r' => self.facts.record(Facts::CONTROL_IN_TARGET.or(Facts::NUL_IN_TARGET)),
                ..b' ' | 0x7f => self.facts.record(Facts::CONTROL_IN_TARGET),
                _ => {}
            }
        }
        let Some(version) = version.filter(|_| !self.facts.has(Facts::BAD_TARGET)) else {
            self.keep_target(target);
            return Err(BadHead::Malformed);
        };
        self.record_line(target, method, 0..target.len(), version);
        Ok(Some(begins + found + 1))
    }

    /// Keeps the printable part of a target, for the log.
    fn keep_target(&mut self, target: &[u8]) {
        let shown = &target[..scan::visible_end(target)];
        // Facts serve to decide about requests; this request is refused already.
        self.parts = target::split(shown, &mut Facts::default());
        // Visible ASCII is UTF-8.
        self.target.push_str(std::str::from_utf8(shown).unwrap_or_default());
    }
}

/// The words of a request line that are not separated by single spaces.
struct Words {
    method: Range<usize>,
    /// The bytes between the first word and the last, including blanks.
    target: Range<usize>,
    version: Range<usize>,
}

impl Words {
    fn of(line: &[u8]) -> Self {
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let end = line.iter().rposition(|byte| !is_blank(byte)).map_or(0, |last| last + 1);
        let begins = scan::skip_blanks(line, 0).min(end);
        let method_length = line[begins..end].iter().position(is_blank);
        let method_end = method_length.map_or(end, |length| begins + length);
        let after = scan::skip_blanks(line, method_end).min(end);
        let last = line[after..end].iter().rposition(is_blank).map_or(after, |at| after + at + 1);
        let target = &line[after..last];
        let trailing = target.iter().rev().take_while(|byte| is_blank(byte)).count();
        Self { method: begins..method_end, target: after..last - trailing, version: last..end }
    }
}

/// Records blanks of a request line beyond its two spaces: other parsers split it at its first
/// space and at the last space before the version.
fn record_blanks(line: &[u8], words: &Words, facts: &mut Facts) {
    let first = memchr::memchr(b' ', line).unwrap_or(line.len());
    let before = &line[..words.version.start];
    let last = memchr::memrchr(b' ', before).unwrap_or(0);
    for (at, &byte) in line.iter().enumerate() {
        let fact = match byte {
            b' ' | b'\t' if at >= words.version.end => Facts::BLANK_BEHIND_VERSION,
            b' ' if at == first || at == last => Facts::NONE,
            b' ' => Facts::ODD_BLANKS,
            b'\t' if at < first => Facts::TAB_BY_METHOD,
            b'\t' if at > last && last >= words.target.end => Facts::TAB_BEFORE_VERSION,
            b'\t' if at > last && last > first => Facts::TAB_FOR_SPACE,
            b'\t' => Facts::TAB_BY_TARGET,
            _ => Facts::NONE,
        };
        facts.record(fact);
    }
}

/// Parses `HTTP/1.0` and `HTTP/1.1`; later minor versions are read as 1.1 (RFC 9110 section 2.5).
fn version(text: &[u8], facts: &mut Facts) -> Option<Version> {
    match text.strip_prefix(b"HTTP/1.")? {
        b"0" => Some(Version::HTTP_10),
        b"1" => Some(Version::HTTP_11),
        [b'2'..=b'9'] => {
            facts.record(Facts::MINOR_VERSION);
            Some(Version::HTTP_11)
        }
        _ => None,
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, version, fields, .. } = self;
        let path = self.path();
        f.debug_struct("Request")
            .field("method", method)
            .field("path", &path)
            .field("version", version)
            .field("fields", fields)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
