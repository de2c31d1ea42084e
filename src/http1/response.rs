//! The head of a response: parsed from a target's bytes, or put together from HTTP/2's fields or by
//! the balancer; how its body ends, and whether the connection may be used again (RFC 9112 sections
//! 4, 6.3 and 9.3).

use super::decode::Framing;
use super::facts::Facts;
use super::fields::Fields;
use super::name::Name;
use super::request::BadHead;
use super::value;
use http::{Method, StatusCode, Version};
use std::fmt;

/// A response's head. All of it is in one buffer.
#[derive(Clone, Default)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The fields.
    pub fields: Fields,
    /// The reason as it was sent, at the buffer's beginning; `None` is the usual one.
    reason: Option<usize>,
}

/// A response's head (ALB: 32 K, else 502).
pub const MAX_HEAD: usize = 32 * 1_024;
/// Fields of one head, as many as hyper and nginx take by default.
const MAX_FIELDS: usize = 100;

/// `HTTP/1.1 200`
const STATUS: usize = 12;

/// A response that cannot be read as one message of RFC 9112, or is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadResponse;

/// How a response goes on behind its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// How its body ends.
    pub framing: Framing,
    /// Whether another request may follow on the connection.
    pub keep_alive: bool,
}

impl Response {
    /// A head without fields, and with the usual reason.
    pub fn new(status: StatusCode) -> Self {
        let mut made = Self::default();
        made.begin(status);
        made
    }

    /// Begins a head anew, without fields, with the usual reason.
    pub fn begin(&mut self, status: StatusCode) {
        self.status = status;
        self.version = Version::HTTP_11;
        self.reason = None;
        self.fields.clear();
    }

    /// The reason.
    pub fn reason(&self) -> &[u8] {
        match self.reason {
            Some(length) => &self.fields.bytes()[..length],
            None => self.status.canonical_reason().unwrap_or_default().as_bytes(),
        }
    }

    /// Reads one head off the front of `bytes`; how long it is, or `None` if it is not all there.
    ///
    /// # Errors
    /// When it is no head, or is too large.
    pub fn parse(&mut self, bytes: &[u8]) -> Result<Option<usize>, BadResponse> {
        self.begin(StatusCode::OK);
        let parsed = self.read(bytes).map_err(|_: BadHead| BadResponse)?;
        match parsed {
            Some(length) if length > MAX_HEAD => Err(BadResponse),
            None if bytes.len() > MAX_HEAD => Err(BadResponse),
            parsed => Ok(parsed),
        }
    }

    fn read(&mut self, bytes: &[u8]) -> Result<Option<usize>, BadHead> {
        let Some((line, rest)) = bytes.split_at_checked(STATUS) else {
            // What cannot become a status line is none already.
            let prefix = &b"HTTP/1."[..bytes.len().min(7)];
            return if bytes.starts_with(prefix) { Ok(None) } else { Err(BadHead::Malformed) };
        };
        self.version = match &line[..9] {
            b"HTTP/1.1 " => Version::HTTP_11,
            b"HTTP/1.0 " => Version::HTTP_10,
            _ => return Err(BadHead::Malformed),
        };
        self.status = StatusCode::from_bytes(&line[9..]).map_err(|_| BadHead::Malformed)?;
        let Some(found) = memchr::memchr(b'\n', rest) else { return Ok(None) };
        let reason = rest[..found].strip_suffix(b"\r").unwrap_or(&rest[..found]);
        let reason = match reason {
            [] => reason,
            [b' ', reason @ ..] => reason,
            _ => return Err(BadHead::Malformed),
        };
        let is_text = |&byte: &u8| byte == b'\t' || byte >= 0x20 && byte != 0x7f;
        if self.status.canonical_reason().map(str::as_bytes) != Some(reason) {
            if !reason.iter().all(is_text) {
                return Err(BadHead::Malformed);
            }
            self.fields.begin(reason);
            self.reason = Some(reason.len());
        }
        let mut facts = Facts::NONE;
        let length = self.fields.read(bytes, STATUS + found + 1, MAX_FIELDS, &mut facts)?;
        if facts.has(Facts::REFUSED_LINES) { Err(BadHead::Malformed) } else { Ok(length) }
    }

    /// How the body of this answer to a request of this method ends. Lengths that agree become one
    /// field; one that does not count is removed.
    ///
    /// # Errors
    /// When it is framed in a way two readers could read differently.
    pub fn frame(&mut self, asked: &Method) -> Result<Rest, BadResponse> {
        let codings = self.fields.has(Name::TransferEncoding);
        if codings {
            let mut lines = self.fields.all(Name::TransferEncoding);
            let first = lines.next().is_some_and(|line| line.eq_ignore_ascii_case(b"chunked"));
            // We never said that we take another coding (RFC 9112 section 7.4). A hop of HTTP/1.0 may
            // have passed it on unread (section 6.1).
            if !first || lines.next().is_some() || self.version == Version::HTTP_10 {
                return Err(BadResponse);
            }
        }
        let length = self.one_length()?;
        let (framing, is_certain) = if *asked == Method::HEAD || is_bodiless(self.status) {
            (Framing::Length(0), true)
        } else if codings {
            // With both, Transfer-Encoding counts, Content-Length must not go on, and a target that
            // sends that is not asked again on this connection (RFC 9112 section 6.3).
            self.fields.remove(Name::ContentLength);
            (Framing::Chunked, length.is_none())
        } else {
            length.map_or((Framing::UntilClose, false), |length| (Framing::Length(length), true))
        };
        Ok(Rest { framing, keep_alive: is_certain && self.keeps_alive() })
    }

    /// The one length all of Content-Length agrees on.
    fn one_length(&mut self) -> Result<Option<u64>, BadResponse> {
        if !self.fields.has(Name::ContentLength) {
            return Ok(None);
        }
        if let Some(length) = value::usual_length(&self.fields) {
            return Ok(Some(length));
        }
        let length = value::agreed_length(&self.fields).ok_or(BadResponse)?;
        value::write_length_once(&mut self.fields, length);
        Ok(Some(length))
    }

    fn keeps_alive(&self) -> bool {
        persists(&self.fields, self.version == Version::HTTP_11)
    }

    /// Writes status line and fields as HTTP/1.1 has them. No empty line follows.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(self.status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.reason());
        out.extend_from_slice(b"\r\n");
        self.fields.write(out);
    }
}

/// Whether an answer of this status never has a body (RFC 9110 section 6.4.1).
pub fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Whether a message's Connection lets another follow (RFC 9112 section 9.3). `is_new` is HTTP/1.1.
pub(super) fn persists(fields: &Fields, is_new: bool) -> bool {
    if !fields.has(Name::Connection) {
        return is_new;
    }
    if is_keep_alive(fields) {
        return true;
    }
    let says = |option: &[u8]| value::list_has(fields.all(Name::Connection), option);
    !says(b"close") && (is_new || says(b"keep-alive"))
}

/// Whether Connection says `keep-alive` and nothing else, as most do that say something.
pub fn is_keep_alive(fields: &Fields) -> bool {
    !fields.is_repeated(Name::Connection)
        && fields
            .get(Name::Connection)
            .is_some_and(|said| said == b"keep-alive" || said.eq_ignore_ascii_case(b"keep-alive"))
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, fields, .. } = self;
        f.debug_struct("Response")
            .field("status", status)
            .field("fields", fields)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
