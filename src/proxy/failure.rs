//! What an exchange can die of, and the one table that turns it into a status code (AWS,
//! "Troubleshoot your Application Load Balancers").

use super::expiry::Expiry;
use crate::decide::verdict::Verdict;
use crate::http1::request::BadHead;
use crate::net::connect::ConnectError;
use crate::policy::headers::head::RejectReason;
use crate::policy::routing::redirect::RedirectError;
use http::StatusCode;

/// Why the balancer answers itself.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The head could not be read.
    Unread(BadHead),
    /// The rest of the head did not come in time.
    HeadTimeout,
    /// Too many heads have begun and not ended, and this was the oldest.
    HeadsFull,
    /// The client speaks HTTP without TLS on a listener with it.
    PlainHttp,
    /// The head is one no target should see.
    Head(RejectReason),
    /// No rule takes the request and the listener has no default.
    NoRule,
    /// All groups of the rule have weight 0.
    NoShare,
    /// A redirect has no URL to send the client to.
    Redirect(RedirectError),
    /// A rewrite made something that is no path or no host.
    Rewrite,
    /// Nobody in the group can serve, or the pinned target cannot and the group is strict.
    Refused(Verdict),
    /// The body is larger than `limits.body_bytes`.
    BodyTooLarge,
    /// The body is not framed as it says.
    BodyMalformed,
    /// The client left before its request was whole.
    ClientGone,
    /// The body did not come in time.
    RequestTimeout,
    /// No connection to any target that was tried.
    Connect(ConnectError),
    /// The target closed or reset before it answered.
    TargetLost,
    /// The target's answer is no HTTP, or too large a head.
    TargetMalformed,
    /// The target switched protocols without being asked.
    UnaskedUpgrade,
    /// The target did not answer in time.
    ResponseTimeout,
    /// The target left the group, and its deregistration delay ended before it answered.
    TargetDeregistered,
    /// What the client speaks is nothing for the group's targets.
    ProtocolMismatch,
}

impl Failure {
    /// Of a wait for a target's answer that took too long.
    pub(crate) fn of_expiry(expiry: Expiry) -> Self {
        match expiry {
            Expiry::Deregistered => Failure::TargetDeregistered,
            Expiry::Request => Failure::RequestTimeout,
            Expiry::Gone => Failure::ClientGone,
            _ => Failure::ResponseTimeout,
        }
    }

    /// What the client gets. Codes are the standard's, but for ALB's own 464: no other says that.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Failure::Unread(BadHead::Malformed) | Failure::PlainHttp => StatusCode::BAD_REQUEST,
            Failure::Unread(BadHead::TooLarge) | Failure::HeadsFull => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Failure::Unread(BadHead::TargetTooLong) => StatusCode::URI_TOO_LONG,
            // ALB answers 505 on a listener that does not speak HTTP/2.
            Failure::Unread(BadHead::Http2Preface) => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Failure::HeadTimeout => StatusCode::REQUEST_TIMEOUT,
            Failure::Head(refusal) => match refusal {
                RejectReason::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
                RejectReason::UnknownCoding => StatusCode::NOT_IMPLEMENTED,
                RejectReason::Expectation => StatusCode::EXPECTATION_FAILED,
                RejectReason::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                RejectReason::TargetTooLong => StatusCode::URI_TOO_LONG,
                RejectReason::Malformed
                | RejectReason::Host
                | RejectReason::TargetForm
                | RejectReason::Method
                | RejectReason::ContentLength
                | RejectReason::TransferEncoding
                | RejectReason::ConnectionOption
                | RejectReason::ForwardingLoop
                | RejectReason::Desync => StatusCode::BAD_REQUEST,
            },
            Failure::NoRule => StatusCode::NOT_FOUND,
            Failure::Redirect(fault) => match fault {
                // No redirect that a client would follow for ever, and no failure of ours either.
                RedirectError::Loop => StatusCode::LOOP_DETECTED,
                RedirectError::TooLong => StatusCode::INSUFFICIENT_STORAGE,
                RedirectError::Host => StatusCode::BAD_REQUEST,
            },
            Failure::Rewrite => StatusCode::INTERNAL_SERVER_ERROR,
            Failure::NoShare | Failure::Refused(_) | Failure::Connect(ConnectError::Full) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Failure::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            // It may have closed its half alone, and read what is said to that.
            Failure::BodyMalformed | Failure::ClientGone => StatusCode::BAD_REQUEST,
            Failure::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Failure::Connect(ConnectError::Timeout) | Failure::ResponseTimeout => {
                StatusCode::GATEWAY_TIMEOUT
            }
            Failure::Connect(
                ConnectError::Io(_)
                | ConnectError::Unresolved
                | ConnectError::Tls(_)
                | ConnectError::Certificate(_)
                | ConnectError::NotHttp2
                | ConnectError::Refusing,
            )
            | Failure::TargetLost
            | Failure::TargetMalformed
            | Failure::UnaskedUpgrade
            | Failure::TargetDeregistered => StatusCode::BAD_GATEWAY,
            // Three digits are a status.
            Failure::ProtocolMismatch => {
                StatusCode::from_u16(464).unwrap_or(StatusCode::BAD_REQUEST)
            }
        }
    }

    /// What the log says: the status, but for ALB's own 460 and 463.
    pub(crate) fn logged_status(&self) -> u16 {
        match self {
            Failure::Head(RejectReason::ForwardingLoop) => 463,
            Failure::ClientGone => 460,
            other => other.status().as_u16(),
        }
    }

    /// Why, in a word for the access log.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Failure::Unread(bad) => match bad {
                BadHead::Malformed => "malformed_head",
                BadHead::TooLarge => "head_too_large",
                BadHead::TargetTooLong => "uri_too_long",
                BadHead::Http2Preface => "http2_preface",
            },
            Failure::HeadTimeout => "request_timeout",
            Failure::HeadsFull => "heads_full",
            Failure::PlainHttp => "plain_http",
            Failure::Head(refusal) => match refusal {
                RejectReason::Host => "bad_host",
                RejectReason::TargetForm => "bad_target_form",
                RejectReason::Method => "bad_method",
                RejectReason::MethodNotAllowed => "method_not_allowed",
                RejectReason::ContentLength => "bad_content_length",
                RejectReason::TransferEncoding => "bad_transfer_encoding",
                RejectReason::UnknownCoding => "unknown_transfer_coding",
                RejectReason::Expectation => "unknown_expectation",
                RejectReason::ConnectionOption => "bad_connection_option",
                RejectReason::Malformed => "malformed_head",
                RejectReason::TargetTooLong => "uri_too_long",
                RejectReason::TooLarge => "head_too_large",
                RejectReason::ForwardingLoop => "forwarding_loop",
                RejectReason::Desync => "desync_mitigation",
            },
            Failure::NoRule => "no_rule",
            Failure::NoShare => "all_weights_zero",
            Failure::Redirect(fault) => match fault {
                RedirectError::Loop => "redirect_loop",
                RedirectError::TooLong => "redirect_too_long",
                RedirectError::Host => "bad_host",
            },
            Failure::Rewrite => "rewrite_failed",
            Failure::Refused(verdict) => verdict.word(),
            Failure::BodyTooLarge => "body_too_large",
            Failure::BodyMalformed => "body_malformed",
            Failure::ClientGone => "client_gone",
            Failure::RequestTimeout => "request_timeout",
            Failure::Connect(error) => error.word(),
            Failure::TargetLost => "target_lost",
            Failure::TargetMalformed => "target_malformed",
            Failure::UnaskedUpgrade => "unasked_upgrade",
            Failure::ResponseTimeout => "response_timeout",
            Failure::TargetDeregistered => "target_deregistered",
            Failure::ProtocolMismatch => "protocol_mismatch",
        }
    }

    /// Whether the client's connection ends with the answer: after a head or a body that cannot be
    /// trusted to have ended where it says.
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
