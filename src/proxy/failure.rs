//! The failures for which the balancer answers itself, and the error reason of each (AWS,
//! "Troubleshoot your Application Load Balancers"). The reason has the status and the log's word.

use super::expiry::Expiry;
use crate::decide::verdict::Verdict;
use crate::http1::request::BadHead;
use crate::net::connect::ConnectError;
use crate::observe::error_reason::ErrorReason;
use crate::policy::headers::head::RejectReason;
use crate::policy::routing::redirect::RedirectError;
use http::StatusCode;

/// The failure for which the balancer answers itself.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The head could not be read.
    Unread(BadHead),
    /// The rest of the head did not arrive in time.
    HeadTimeout,
    /// Partial heads took too much memory, and this was the oldest.
    HeadsFull,
    /// The client sent plain HTTP to a listener with TLS.
    PlainHttp,
    /// The head must not reach a target.
    Head(RejectReason),
    /// No rule matches, and the listener has no default.
    NoRule,
    /// All groups of the rule have weight 0.
    NoShare,
    /// A redirect has no URL that could be its Location.
    Redirect(RedirectError),
    /// A rewrite made a path or a host that is not valid.
    Rewrite,
    /// No target of the group can serve, or the pinned target cannot and the group is strict.
    Refused(Verdict),
    /// The body is larger than `limits.body_bytes`.
    BodyTooLarge,
    /// The framing of the body is malformed.
    BodyMalformed,
    /// The client left before its request was complete.
    ClientGone,
    /// The body did not arrive in time.
    RequestTimeout,
    /// No connection to a target; this is the error of the last one tried.
    Connect(ConnectError),
    /// The target closed or reset before it answered.
    TargetLost,
    /// The target's response is not HTTP, or its head is too large.
    TargetMalformed,
    /// The target switched protocols without a request to do so.
    UnaskedUpgrade,
    /// The target did not answer in time.
    ResponseTimeout,
    /// The target left the group, and its deregistration delay ended before it answered.
    TargetDeregistered,
    /// The group's targets do not speak the protocol of the request.
    ProtocolMismatch,
}

impl Failure {
    /// The failure of a time-out while the target's response was awaited.
    pub(crate) fn of_expiry(expiry: Expiry) -> Self {
        match expiry {
            Expiry::Deregistered => Failure::TargetDeregistered,
            Expiry::Request => Failure::RequestTimeout,
            Expiry::Gone => Failure::ClientGone,
            _ => Failure::ResponseTimeout,
        }
    }

    /// The status of the answer to the client.
    pub(crate) fn status(&self) -> StatusCode {
        // Each reason below has one.
        self.reason().status().unwrap_or(StatusCode::BAD_GATEWAY)
    }

    /// The status in the log: that of the answer, but for ALB's own 460 and 463.
    pub(crate) fn logged_status(&self) -> u16 {
        match self.reason() {
            ErrorReason::ForwardingLoop => 463,
            ErrorReason::ClientGone => 460,
            _ => self.status().as_u16(),
        }
    }

    /// The word for the access log.
    pub(crate) fn word(&self) -> &'static str {
        self.reason().word()
    }

    /// The error reason, which has the status and the word.
    pub(crate) fn reason(&self) -> ErrorReason {
        match self {
            Failure::Unread(bad) => match bad {
                BadHead::Malformed => ErrorReason::MalformedHead,
                BadHead::TooLarge => ErrorReason::HeadTooLarge,
                BadHead::TargetTooLong => ErrorReason::UriTooLong,
                BadHead::Http2Preface => ErrorReason::Http2Preface,
            },
            Failure::HeadTimeout => ErrorReason::RequestTimeout,
            Failure::HeadsFull => ErrorReason::HeadsFull,
            Failure::PlainHttp => ErrorReason::PlainHttp,
            Failure::Head(refusal) => match refusal {
                RejectReason::Host => ErrorReason::BadHost,
                RejectReason::TargetForm => ErrorReason::BadTargetForm,
                RejectReason::Method => ErrorReason::BadMethod,
                RejectReason::MethodNotAllowed => ErrorReason::MethodNotAllowed,
                RejectReason::ContentLength => ErrorReason::BadContentLength,
                RejectReason::TransferEncoding => ErrorReason::BadTransferEncoding,
                RejectReason::UnknownCoding => ErrorReason::UnknownTransferCoding,
                RejectReason::Expectation => ErrorReason::UnknownExpectation,
                RejectReason::ConnectionOption => ErrorReason::BadConnectionOption,
                RejectReason::Malformed => ErrorReason::MalformedHead,
                RejectReason::TargetTooLong => ErrorReason::UriTooLong,
                RejectReason::TooLarge => ErrorReason::HeadTooLarge,
                RejectReason::ForwardingLoop => ErrorReason::ForwardingLoop,
                RejectReason::Desync => ErrorReason::DesyncMitigation,
            },
            Failure::NoRule => ErrorReason::NoRule,
            Failure::NoShare => ErrorReason::AllWeightsZero,
            Failure::Redirect(fault) => match fault {
                RedirectError::Loop => ErrorReason::RedirectLoop,
                RedirectError::TooLong => ErrorReason::RedirectTooLong,
                RedirectError::Host => ErrorReason::BadHost,
            },
            Failure::Rewrite => ErrorReason::RewriteFailed,
            Failure::Refused(verdict) => match verdict {
                Verdict::StrictRefused => ErrorReason::StrictRefused,
                // The verdict of a decision without a target is one of two.
                _ => ErrorReason::NoTarget,
            },
            Failure::BodyTooLarge => ErrorReason::BodyTooLarge,
            Failure::BodyMalformed => ErrorReason::BodyMalformed,
            Failure::ClientGone => ErrorReason::ClientGone,
            Failure::RequestTimeout => ErrorReason::RequestTimeout,
            Failure::Connect(error) => error.reason(),
            Failure::TargetLost => ErrorReason::TargetLost,
            Failure::TargetMalformed => ErrorReason::TargetMalformed,
            Failure::UnaskedUpgrade => ErrorReason::UnaskedUpgrade,
            Failure::ResponseTimeout => ErrorReason::ResponseTimeout,
            Failure::TargetDeregistered => ErrorReason::TargetDeregistered,
            Failure::ProtocolMismatch => ErrorReason::ProtocolMismatch,
        }
    }

    /// True if the client's connection ends with the response: after a head or a body whose end is
    /// not known for certain.
    pub(crate) fn closes(&self) -> bool {
        matches!(
            self,
            Failure::Unread(_)
                | Failure::HeadTimeout
                | Failure::HeadsFull
                | Failure::PlainHttp
                | Failure::Head(_)
                | Failure::BodyTooLarge
                | Failure::BodyMalformed
                | Failure::ClientGone
                | Failure::RequestTimeout
        )
    }
}
