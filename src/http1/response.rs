//! The head of a response: parsed from a target's bytes, assembled from HTTP/2 fields, or made by
//! the balancer. Also the framing of its body and the reuse of its connection (RFC 9112 sections 4,
//! 6.3 and 9.3).

use super::decode::Framing;
use super::facts::Facts;
use super::fields::Fields;
use super::name::Name;
use super::request::BadHead;
use super::value;
use http::{Method, StatusCode, Version};
use std::fmt;

/// A response's head in one buffer.
#[derive(Clone, Default)]
pub struct Response {
    /// The status code.
    pub status: StatusCode,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The header fields.
    pub fields: Fields,
    /// Length of the reason at the beginning of the buffer, as sent; `None` means the usual reason
    /// of the status.
    reason: Option<usize>,
}

/// Bound in bytes on a response's head (ALB: 32 K, else 502).
pub const MAX_HEAD: usize = 32 * 1_024;
/// Bound on the fields of one head: the default of hyper and nginx.
const MAX_FIELDS: usize = 100;

/// Length of `HTTP/1.1 200`.
const STATUS: usize = 12;

/// Error: a response that cannot be read as one message of RFC 9112, or exceeds a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadResponse;

/// Properties of the message after its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Framing of the body.
    pub framing: Framing,
    /// True if another request may follow on the connection.
    pub keep_alive: bool,
}

impl Response {
    /// A head without fields and with the usual reason.
    pub fn new(status: StatusCode) -> Self {
        let mut made = Self::default();
        made.begin(status);
        made
    }

    /// Starts a new head without fields and with the usual reason.
    pub fn begin(&mut self, status: StatusCode) {
        self.status = status;
        self.version = Version::HTTP_11;
        self.reason = None;
        self.fields.clear();
    }

    /// The reason phrase.
    pub fn reason(&self) -> &[u8] {
        match self.reason {
            Some(length) => &self.fields.bytes()[..length],
            None => self.status.canonical_reason().unwrap_or_default().as_bytes(),
        }
    }

    /// Parses one head at the front of `bytes`. Returns its length, or `None` if it is incomplete.
    ///
    /// # Errors
    /// If it is not a head, or exceeds a bound.
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
            // Bytes that cannot become a status line are refused at once.
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

    /// Determines the framing of the body of a response to a request of this method. Equal lengths
    /// become one field; a length that does not count is removed.
    ///
    /// # Errors
    /// If its framing is ambiguous.
    pub fn frame(&mut self, asked: &Method) -> Result<Rest, BadResponse> {
        let codings = self.fields.has(Name::TransferEncoding);
        if codings {
            let mut lines = self.fields.all(Name::TransferEncoding);
            let first = lines.next().is_some_and(|line| line.eq_ignore_ascii_case(b"chunked"));
            // We never announced support for another coding (RFC 9112 section 7.4). A hop of
            // HTTP/1.0 may have forwarded it unread (section 6.1).
            if !first || lines.next().is_some() || self.version == Version::HTTP_10 {
                return Err(BadResponse);
            }
        }
        let length = self.one_length()?;
        let (framing, is_certain) = if *asked == Method::HEAD || is_bodiless(self.status) {
            (Framing::Length(0), true)
        } else if codings {
            // With both fields, Transfer-Encoding counts, Content-Length must not be forwarded, and
            // the connection of a target that sends both is not reused (RFC 9112 section 6.3).
            self.fields.remove(Name::ContentLength);
            (Framing::Chunked, length.is_none())
        } else {
            length.map_or((Framing::UntilClose, false), |length| (Framing::Length(length), true))
        };
        Ok(Rest { framing, keep_alive: is_certain && self.keeps_alive() })
    }

    /// The length on which all Content-Length fields agree; leaves one field of them.
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

    /// Writes the status line and fields as HTTP/1.1. Writes no empty line.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(self.status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.reason());
        out.extend_from_slice(b"\r\n");
        self.fields.write(out);
    }
}

/// Returns true if a response of this status never has a body (RFC 9110 section 6.4.1).
pub fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Returns true if the message's Connection field allows another message (RFC 9112 section 9.3).
/// `is_new` is true for HTTP/1.1.
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

/// Returns true if Connection is exactly `keep-alive`, the most frequent value.
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
