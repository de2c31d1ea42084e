//! Desync mitigation: which requests two servers could read differently, and their treatment (AWS,
//! "Edit attributes for your Application Load Balancer", desync mitigation mode). The classes and
//! the words are those of AWS's own classifier, `http_desync_guardian`.
//!
//! It classifies a head as received: its fields, and the facts that the codec recorded about its
//! spelling. The codec refuses a head that is not an RFC 9112 message in every mode; its class is
//! for the log.

use super::header_flags::{HeaderFlags, reads_as};
use crate::http1::facts::Facts;
use crate::http1::fields::Fields;
use crate::http1::name::Name;
use crate::http1::request::{BadHead, Request};
use crate::http1::scan::is_token;
use crate::http1::value::number;
use http::{Method, Version};

/// The value of `desync_mitigation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mitigation {
    /// Findings are logged only.
    Monitor,
    /// Requests of forms known from attacks are refused; ambiguous ones are forwarded, and both
    /// connections close afterwards.
    Defensive,
    /// Only compliant requests are forwarded.
    Strictest,
}

/// The distance of a request from one that can be read in one way only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Not to the letter of the standard, without a known risk.
    Acceptable,
    /// Two servers may see its end in two places.
    Ambiguous,
    /// Malformed, or made to attack.
    Severe,
}

/// Declares the reasons, each under its class.
macro_rules! reasons {
    ($($class:ident { $($(#[$doc:meta])* $reason:ident)* })*) => {
        /// The defect of a request, in the words of ALB's access log.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason {
            $($($(#[$doc])* $reason,)*)*
        }

        impl Reason {
            /// The class of the reason.
            pub fn class(self) -> Class {
                match self {
                    $($(Reason::$reason)|* => Class::$class,)*
                }
            }

            /// The class and the reason as ALB logs them.
            pub fn words(self) -> (&'static str, &'static str) {
                match self {
                    $($(Reason::$reason => (stringify!($class), stringify!($reason)),)*)*
                }
            }
        }
    };
}

reasons! {
    Acceptable {
        /// A line ends with LF alone.
        NonCrLfLineTermination
        /// A name or a value holds a control byte, or a blank stands before the colon.
        NonCompliantHeader
        /// GET or HEAD with a Content-Length of 0.
        GetHeadZeroContentLength
        /// HTTP/0.9, HTTP/1.2 to HTTP/1.9, or blanks around the version.
        NonCompliantVersion
        /// More spaces in the request line than two.
        SpaceInUri
    }
    Ambiguous {
        /// No target.
        MissingUri
        /// A line without a colon.
        MissingHeaderColon
        /// A folded line in a field other than Content-Type.
        MultilineHeader
        /// A name without a letter.
        EmptyHeader
        /// A name that reads as Content-Length or Transfer-Encoding and is neither.
        SuspiciousHeader
        /// GET, HEAD, or a version before HTTP/1.1, with Transfer-Encoding.
        UndefinedTransferEncodingSemantics
        /// GET or HEAD with a body's length, or HTTP/0.9 with any.
        UndefinedContentLengthSemantics
        /// The same length twice.
        DuplicateContentLength
        /// Both Content-Length and Transfer-Encoding.
        BothTeClPresent
        /// A tab or another control byte in the target, or a tab beside it.
        AmbiguousUri
    }
    Severe {
        /// NUL or CR in a name or a value.
        BadHeader
        /// A coding that does not exist.
        BadTransferEncoding
        /// `chunked` twice.
        MultipleTransferEncodingChunked
        /// Two different lengths.
        MultipleContentLength
        /// A length that is not a number.
        BadContentLength
        /// A method that is not a token.
        BadMethod
        /// A version other than HTTP/1.x and HTTP/0.9.
        BadVersion
        /// NUL or CR in the target.
        BadUri
    }
}

/// The treatment of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// It is forwarded.
    Forward,
    /// It is forwarded, and nothing follows it on either connection, so that bytes which one side
    /// takes for its rest cannot meet another client's request or response.
    ForwardAndClose,
    /// 400, and the client's connection closes.
    Refuse,
}

impl Mitigation {
    /// Returns the treatment of a request with this finding; `None` is a compliant one.
    pub fn treatment(self, found: Option<Reason>) -> Treatment {
        let Some(reason) = found else { return Treatment::Forward };
        match (self, reason.class()) {
            (Mitigation::Monitor, _) | (Mitigation::Defensive, Class::Acceptable) => {
                Treatment::Forward
            }
            // No client has a valid reason for such a name, and this balancer never sends it to a
            // target: ALB forwards the request, this balancer refuses it.
            (Mitigation::Defensive, _) if reason == Reason::SuspiciousHeader => Treatment::Refuse,
            (Mitigation::Defensive, Class::Ambiguous) => Treatment::ForwardAndClose,
            (Mitigation::Defensive, Class::Severe) | (Mitigation::Strictest, _) => {
                Treatment::Refuse
            }
        }
    }
}

/// Facts that make a request non-compliant.
const JUDGED: Facts = Facts::BARE_LF
    .or(Facts::ODD_BLANKS)
    .or(Facts::TAB_BY_METHOD)
    .or(Facts::TAB_BY_TARGET)
    .or(Facts::TAB_FOR_SPACE)
    .or(Facts::TAB_BEFORE_VERSION)
    .or(Facts::BLANK_BEHIND_VERSION)
    .or(Facts::NO_TARGET)
    .or(OLDEST)
    .or(Facts::MINOR_VERSION)
    .or(Facts::BAD_VERSION)
    .or(Facts::BAD_METHOD)
    .or(Facts::CONTROL_IN_TARGET)
    .or(Facts::BLANK_BEFORE_COLON)
    .or(Facts::FOLDED)
    .or(NO_FIELD)
    .or(Facts::CONTROL_IN_VALUE);

/// The version is HTTP/0.9.
const OLDEST: Facts = Facts::NO_VERSION.or(Facts::OLD_VERSION);

/// A line that is not a valid field.
const NO_FIELD: Facts = Facts::NO_COLON.or(Facts::EMPTY_NAME).or(Facts::BAD_NAME);

/// Returns the worst finding of a request; of equally bad ones the one ALB's classifier reports,
/// except that a suspicious name precedes all other ambiguous findings. `None` if it is compliant.
/// `flags` are the facts of its field names.
#[inline]
pub(crate) fn classify(request: &Request, flags: HeaderFlags) -> Option<Reason> {
    let is_framed = flags.content_length || flags.transfer_encoding || flags.suspicious;
    if !is_framed && !request.facts.has(JUDGED) {
        return None;
    }
    let found = judge(request, flags.suspicious);
    // It is the only reason of its class that may be refused, so no other may hide it.
    let is_ambiguous = found.worst.is_some_and(|worst| worst.class() == Class::Ambiguous);
    if found.is_suspicious && is_ambiguous {
        return Some(Reason::SuspiciousHeader);
    }
    found.worst
}

/// Returns the same for a head that could not be parsed, from the part that was received. `None` if
/// it is too large, or not a request.
pub(crate) fn of_bad_head(request: &Request, bad: BadHead) -> Option<Reason> {
    if bad != BadHead::Malformed {
        return None;
    }
    judge(request, HeaderFlags::of(&request.fields).suspicious).worst
}

fn judge(request: &Request, is_suspicious: bool) -> Found {
    let facts = request.facts;
    let mut found = Found { worst: None, is_suspicious: false };
    found.record_if(facts, Facts::BARE_LF, Reason::NonCrLfLineTermination);
    found.record_if(facts, Facts::NO_TARGET, Reason::MissingUri);
    found.record_if(facts, Facts::NO_COLON, Reason::MissingHeaderColon);
    found.record_if(facts, Facts::FOLDED_BEYOND_TYPE, Reason::MultilineHeader);
    found.record_if(facts, Facts::NUL_IN_VALUE, Reason::BadHeader);
    let spelled = Facts::CONTROL_IN_VALUE.or(Facts::BLANK_BEFORE_COLON);
    found.record_if(facts, spelled, Reason::NonCompliantHeader);
    let has_doubtful = facts.has(Facts::FOLDED_BEYOND_TYPE.or(NO_FIELD));
    if has_doubtful {
        judge_names(&request.fields, &mut found);
    }
    if is_suspicious || facts.has(Facts::BLANK_BEHIND_FRAMING) {
        found.record(Reason::SuspiciousHeader);
    }
    judge_framing(request, Alike { is_suspicious, has_doubtful }, &mut found);
    let no_token = Facts::BAD_METHOD.or(Facts::TAB_BY_METHOD);
    found.record_if(facts, no_token, Reason::BadMethod);
    let no_version = Facts::BAD_VERSION.or(Facts::TAB_FOR_SPACE);
    found.record_if(facts, no_version, Reason::BadVersion);
    let odd_version = OLDEST
        .or(Facts::MINOR_VERSION)
        .or(Facts::TAB_BEFORE_VERSION)
        .or(Facts::BLANK_BEHIND_VERSION);
    found.record_if(facts, odd_version, Reason::NonCompliantVersion);
    found.record_if(facts, Facts::NUL_IN_TARGET, Reason::BadUri);
    let odd_target = Facts::CONTROL_IN_TARGET.or(Facts::TAB_BY_TARGET);
    found.record_if(facts, odd_target, Reason::AmbiguousUri);
    found.record_if(facts, Facts::ODD_BLANKS, Reason::SpaceInUri);
    found
}

/// Judges the names of lines that are fields only to other parsers.
#[cold]
fn judge_names(fields: &Fields, found: &mut Found) {
    for (name, _) in fields.doubtful() {
        let shown = trim(name);
        if name.iter().any(|byte| matches!(byte, 0 | b'\r')) {
            found.record(Reason::BadHeader);
        } else if shown.is_empty() {
            found.record(Reason::EmptyHeader);
        } else if reads_as(name, Name::ContentLength) || reads_as(name, Name::TransferEncoding) {
            found.record(Reason::SuspiciousHeader);
        } else if !is_token(name) {
            found.record(Reason::NonCompliantHeader);
        }
    }
}

fn judge_framing(request: &Request, alike: Alike, found: &mut Found) {
    let Request { method, version, fields, facts, .. } = request;
    let mut codings = lines(fields, Name::TransferEncoding, alike).peekable();
    let mut lengths = lines(fields, Name::ContentLength, alike).peekable();
    let encoded = codings.peek().is_some();
    let is_oldest = facts.has(OLDEST);
    if encoded && (is_oldest || *version < Version::HTTP_11) {
        found.record(Reason::UndefinedTransferEncodingSemantics);
        // ALB's classifier does not recognise HTTP/1.0 with a blank after it.
        if !facts.has(Facts::BLANK_BEHIND_VERSION) {
            return;
        }
    }
    if is_oldest && lengths.peek().is_some() {
        return found.record(Reason::UndefinedContentLengthSemantics);
    }
    // ALB's classifier compares versions as text, in which a tab sorts first.
    if facts.has(Facts::TAB_BEFORE_VERSION) {
        if encoded {
            found.record(Reason::UndefinedTransferEncodingSemantics);
        } else if lengths.peek().is_some() {
            found.record(Reason::UndefinedContentLengthSemantics);
        }
    }
    found.record_if(*facts, Facts::ODD_CODINGS, Reason::BadTransferEncoding);
    judge_codings(codings, found);
    found.record_if(*facts, Facts::ODD_LENGTH, Reason::BadContentLength);
    let length = judge_lengths(lengths, found);
    if *method == Method::GET || *method == Method::HEAD {
        if encoded {
            found.record(Reason::UndefinedTransferEncodingSemantics);
        }
        match length {
            Some(0) => found.record(Reason::GetHeadZeroContentLength),
            Some(_) => found.record(Reason::UndefinedContentLengthSemantics),
            None => {}
        }
    }
    if encoded && length.is_some() {
        found.record(Reason::BothTeClPresent);
    }
}

/// The worst finding so far.
struct Found {
    worst: Option<Reason>,
    /// True if [`Reason::SuspiciousHeader`] was found.
    is_suspicious: bool,
}

impl Found {
    fn record(&mut self, reason: Reason) {
        self.is_suspicious |= reason == Reason::SuspiciousHeader;
        if self.worst.is_none_or(|known| known.class() < reason.class()) {
            self.worst = Some(reason);
        }
    }

    fn record_if(&mut self, facts: Facts, one_of: Facts, reason: Reason) {
        if facts.has(one_of) {
            self.record(reason);
        }
    }
}

/// Sources of lines that read as another field.
#[derive(Clone, Copy)]
struct Alike {
    /// True if there are fields with such names.
    is_suspicious: bool,
    /// True if there are lines that are not fields here.
    has_doubtful: bool,
}

/// The values of a field, followed by those of lines that read as it.
fn lines(fields: &Fields, field: Name, alike: Alike) -> impl Iterator<Item = &[u8]> {
    let others = alike.is_suspicious.then(|| fields.iter());
    let others = others.into_iter().flatten().filter_map(move |(known, name, value)| {
        (known == Name::Other && reads_as(name, field)).then_some(value)
    });
    let doubtful = alike.has_doubtful.then(|| fields.doubtful());
    let doubtful = doubtful.into_iter().flatten().filter_map(move |(name, value)| {
        let is_it = reads_as(name, field) || name.eq_ignore_ascii_case(field.text().as_bytes());
        is_it.then_some(value)
    });
    fields.all(field).chain(others).chain(doubtful)
}

fn trim(value: &[u8]) -> &[u8] {
    value.trim_ascii()
}

/// The transfer codings of RFC 9112 section 7, and RFC 2616's `identity`.
const CODINGS: [&[u8]; 5] = [b"chunked", b"compress", b"deflate", b"gzip", b"identity"];

fn judge_codings<'v>(lines: impl Iterator<Item = &'v [u8]>, found: &mut Found) {
    let mut chunked = false;
    for line in lines {
        for coding in line.split(|&byte| byte == b',').map(trim) {
            if !CODINGS.iter().any(|known| coding.eq_ignore_ascii_case(known)) {
                found.record(Reason::BadTransferEncoding);
            } else if coding.eq_ignore_ascii_case(b"chunked")
                && std::mem::replace(&mut chunked, true)
            {
                found.record(Reason::MultipleTransferEncodingChunked);
            }
        }
    }
}

/// Returns the first valid length.
fn judge_lengths<'v>(lines: impl Iterator<Item = &'v [u8]>, found: &mut Found) -> Option<u64> {
    let mut length = None;
    for line in lines {
        match (number(trim(line)), length) {
            (None, _) => found.record(Reason::BadContentLength),
            (Some(said), None) => length = Some(said),
            (Some(said), Some(first)) if said == first => {
                found.record(Reason::DuplicateContentLength);
            }
            (Some(_), Some(_)) => found.record(Reason::MultipleContentLength),
        }
    }
    length
}

#[cfg(test)]
mod tests;
