//! Which requests could be read in two ways by two servers, and what is done with them (AWS, "Edit
//! attributes for your Application Load Balancer", desync mitigation mode). The classes and the
//! words are those of AWS's own classifier, `http_desync_guardian`.
//!
//! It judges what hyper's parser lets through. Bad methods, versions, targets and characters are
//! refused by the parser before; bare line feeds, and a length beside or after another framing, are
//! gone from what it hands on.

use super::names::{Names, reads_as};
use crate::http1::facts::Facts;
use crate::http1::fields::Fields;
use crate::http1::name::Name;
use crate::http1::request::{BadHead, Request};
use http::{Method, Version};

/// `desync_mitigation`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mitigation {
    /// What was found is logged.
    Monitor,
    /// What is known to have been used in attacks is refused, and what could be forwarded only
    /// once.
    Defensive,
    /// Only what is beyond doubt is forwarded.
    Strictest,
}

/// How far a request is from one that can be read in one way only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Against the letter of the standard, and no known risk.
    Acceptable,
    /// Two servers may see its end in two places.
    Ambiguous,
    /// Malformed, or made to attack.
    Severe,
}

/// What is wrong with a request, in the words of ALB's access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// GET or HEAD with a Content-Length of 0.
    GetHeadZeroContentLength,
    /// GET or HEAD with a body's length.
    UndefinedContentLengthSemantics,
    /// GET, HEAD, or HTTP/1.0, with Transfer-Encoding.
    UndefinedTransferEncodingSemantics,
    /// A name that reads as Content-Length or Transfer-Encoding and is neither.
    SuspiciousHeader,
    /// The same length twice.
    DuplicateContentLength,
    /// Both ways to frame a body.
    BothTeClPresent,
    /// Two lengths that differ.
    MultipleContentLength,
    /// A length that is no number.
    BadContentLength,
    /// `chunked` twice.
    MultipleTransferEncodingChunked,
    /// A coding that does not exist.
    BadTransferEncoding,
    /// A method that is no token.
    BadMethod,
    /// A version that is none of HTTP/1.
    BadVersion,
}

/// What is done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// It goes on.
    Forward,
    /// It goes on, and nothing follows it on either connection, so that what one side may take for
    /// its rest meets nobody else's request or answer.
    ForwardAndClose,
    /// 400, and the client's connection closes.
    Refuse,
}

impl Reason {
    /// How bad it is.
    pub fn class(self) -> Class {
        match self {
            Reason::GetHeadZeroContentLength => Class::Acceptable,
            Reason::UndefinedContentLengthSemantics
            | Reason::UndefinedTransferEncodingSemantics
            | Reason::SuspiciousHeader
            | Reason::DuplicateContentLength
            | Reason::BothTeClPresent => Class::Ambiguous,
            Reason::MultipleContentLength
            | Reason::BadContentLength
            | Reason::MultipleTransferEncodingChunked
            | Reason::BadTransferEncoding
            | Reason::BadMethod
            | Reason::BadVersion => Class::Severe,
        }
    }

    /// The class and the reason as ALB logs them.
    pub fn words(self) -> (&'static str, &'static str) {
        let class = match self.class() {
            Class::Acceptable => "Acceptable",
            Class::Ambiguous => "Ambiguous",
            Class::Severe => "Severe",
        };
        let reason = match self {
            Reason::GetHeadZeroContentLength => "GetHeadZeroContentLength",
            Reason::UndefinedContentLengthSemantics => "UndefinedContentLengthSemantics",
            Reason::UndefinedTransferEncodingSemantics => "UndefinedTransferEncodingSemantics",
            Reason::SuspiciousHeader => "SuspiciousHeader",
            Reason::DuplicateContentLength => "DuplicateContentLength",
            Reason::BothTeClPresent => "BothTeClPresent",
            Reason::MultipleContentLength => "MultipleContentLength",
            Reason::BadContentLength => "BadContentLength",
            Reason::MultipleTransferEncodingChunked => "MultipleTransferEncodingChunked",
            Reason::BadTransferEncoding => "BadTransferEncoding",
            Reason::BadMethod => "BadMethod",
            Reason::BadVersion => "BadVersion",
        };
        (class, reason)
    }
}

impl Mitigation {
    /// What is done with a request about which this was found; `None` is a compliant one.
    pub fn treatment(self, found: Option<Reason>) -> Treatment {
        let Some(reason) = found else { return Treatment::Forward };
        match (self, reason.class()) {
            (Mitigation::Monitor, _) | (Mitigation::Defensive, Class::Acceptable) => {
                Treatment::Forward
            }
            // No client has such a name for a good reason, and ours never reaches a target: ALB
            // forwards it, and we refuse.
            (Mitigation::Defensive, _) if reason == Reason::SuspiciousHeader => Treatment::Refuse,
            (Mitigation::Defensive, Class::Ambiguous) => Treatment::ForwardAndClose,
            (Mitigation::Defensive, Class::Severe) | (Mitigation::Strictest, _) => {
                Treatment::Refuse
            }
        }
    }
}

/// The worst that is to be said of a request, the first of what is equally bad; `None` where it is
/// compliant. `names` is what its headers' names say.
pub fn classify(request: &Request, names: Names) -> Option<Reason> {
    let Request { method, version, fields, .. } = request;
    if !(names.content_length || names.transfer_encoding || names.suspicious) {
        return None;
    }
    let mut found = Found(names.suspicious.then_some(Reason::SuspiciousHeader));
    let encoded = lines(fields, Name::TransferEncoding, names).next().is_some();
    if encoded && *version < Version::HTTP_11 {
        found.note(Reason::UndefinedTransferEncodingSemantics);
        return found.0;
    }
    if encoded {
        judge_codings(fields, names, &mut found);
    }
    let length = judge_lengths(fields, names, &mut found);
    if *method == Method::GET || *method == Method::HEAD {
        if encoded {
            found.note(Reason::UndefinedTransferEncodingSemantics);
        }
        match length {
            Some(0) => found.note(Reason::GetHeadZeroContentLength),
            Some(_) => found.note(Reason::UndefinedContentLengthSemantics),
            None => {}
        }
    }
    if encoded && length.is_some() {
        found.note(Reason::BothTeClPresent);
    }
    found.0
}

/// The same of a head that could not be read: what was seen until then is in `request`. `None` where
/// it is too large, or no request.
pub fn of_bad_head(request: &Request, bad: BadHead) -> Option<Reason> {
    let facts = request.facts;
    if bad != BadHead::Malformed {
        return None;
    }
    let mut found = Found(None);
    for (fact, reason) in
        [(Facts::BAD_METHOD, Reason::BadMethod), (Facts::BAD_VERSION, Reason::BadVersion)]
    {
        if facts.has(fact) {
            found.note(reason);
        }
    }
    found.0
}

struct Found(Option<Reason>);

impl Found {
    fn note(&mut self, reason: Reason) {
        if self.0.is_none_or(|known| known.class() < reason.class()) {
            self.0 = Some(reason);
        }
    }
}

/// The values of a field, and after them of those whose names read as its.
fn lines(fields: &Fields, field: Name, names: Names) -> impl Iterator<Item = &[u8]> {
    let alike = names.suspicious.then(|| {
        let others = fields
            .iter()
            .filter(move |(known, name, _)| *known == Name::Other && reads_as(name, field));
        others.map(|(_, _, value)| value)
    });
    fields.all(field).chain(alike.into_iter().flatten())
}

fn trim(value: &[u8]) -> &[u8] {
    value.trim_ascii()
}

/// Transfer codings that exist (RFC 9112 section 7), and RFC 2616's `identity`.
const CODINGS: [&[u8]; 5] = [b"chunked", b"compress", b"deflate", b"gzip", b"identity"];

fn judge_codings(fields: &Fields, names: Names, found: &mut Found) {
    let mut chunked = false;
    for line in lines(fields, Name::TransferEncoding, names) {
        for coding in line.split(|&byte| byte == b',').map(trim) {
            if !CODINGS.iter().any(|known| coding.eq_ignore_ascii_case(known)) {
                found.note(Reason::BadTransferEncoding);
            } else if coding.eq_ignore_ascii_case(b"chunked")
                && std::mem::replace(&mut chunked, true)
            {
                found.note(Reason::MultipleTransferEncodingChunked);
            }
        }
    }
}

/// The first length that is one.
fn judge_lengths(fields: &Fields, names: Names, found: &mut Found) -> Option<u64> {
    let mut length = None;
    for line in lines(fields, Name::ContentLength, names) {
        match (number(trim(line)), length) {
            (None, _) => found.note(Reason::BadContentLength),
            (Some(said), None) => length = Some(said),
            (Some(said), Some(first)) if said == first => {
                found.note(Reason::DuplicateContentLength);
            }
            (Some(_), Some(_)) => found.note(Reason::MultipleContentLength),
        }
    }
    length
}

/// Digits only: `str::parse` takes a sign.
fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests;
