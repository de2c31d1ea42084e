//! Responses made by the balancer: short pages like ALB's, which reveal nothing internal.

use super::failure::Failure;
use crate::config::settings::FixedResponse;
use crate::http1::name::Name;
use crate::http1::response::Response;
use bytes::Bytes;
use http::header::HeaderValue;
use http::{HeaderMap, StatusCode};

/// A response with its body.
#[derive(Debug)]
pub(crate) struct Page {
    /// The head.
    pub head: Box<Response>,
    /// The body.
    pub body: Bytes,
}

/// `Retry-After` if no target could serve (RFC 9110 section 10.2.3): one second is the minimum, and
/// checks find a recovered target about as fast.
const SOON: &[u8] = b"1";

/// The page of a failure.
pub(crate) fn failure(mut head: Box<Response>, failure: &Failure) -> Page {
    let status = failure.status();
    head.begin(status);
    describe_page(&mut head);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        head.fields.append(Name::RetryAfter, SOON);
    }
    Page { head, body: page(status) }
}

/// The failure of a gRPC call: without a page, which is not a gRPC message ("gRPC over HTTP2":
/// Trailers-Only). Clients that use the HTTP status get the same code as those that read it here.
pub(crate) fn failed_call(mut head: Box<Response>, failure: &Failure) -> Page {
    let status = failure.status();
    head.begin(status);
    let (code, message) = grpc_status(status);
    head.fields.append(Name::ContentType, b"application/grpc");
    head.fields.append(Name::GrpcStatus, code.as_bytes());
    head.fields.append(Name::GrpcMessage, message.as_bytes());
    // gRPC clients see it as metadata and retry by their own policy; proxies before us read it.
    // grpc-retry-pushback-ms would bind the clients even if another node could serve.
    if code == UNAVAILABLE {
        head.fields.append(Name::RetryAfter, SOON);
    }
    Page { head, body: Bytes::new() }
}

/// Trailers for a gRPC call whose target broke off after its response began: without them clients
/// would use the code of the reset, which blames them or us.
pub(crate) fn broken_call() -> HeaderMap {
    let (code, message) = grpc_status(StatusCode::BAD_GATEWAY);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(code));
    trailers.insert("grpc-message", HeaderValue::from_static(message));
    trailers
}

/// gRPC's code for a failure that may succeed on a retry.
const UNAVAILABLE: &str = "14";

/// gRPC's code for a status ("HTTP to gRPC Status Code Mapping"), and its name; for 14 in ALB's
/// spelling. 408 is not in the mapping: no call was made and a retry may succeed, as with 14.
fn grpc_status(status: StatusCode) -> (&'static str, &'static str) {
    match status.as_u16() {
        408 | 429 | 502..=504 => (UNAVAILABLE, "unavailable"),
        400 => ("13", "internal"),
        401 => ("16", "unauthenticated"),
        403 => ("7", "permission denied"),
        404 => ("12", "unimplemented"),
        _ => ("2", "unknown"),
    }
}

/// The response of a rule's `respond`.
pub(crate) fn fixed(mut head: Box<Response>, fixed: &FixedResponse) -> Page {
    // A checked configuration holds a valid status; otherwise 500 is used.
    let status = StatusCode::from_u16(fixed.status);
    head.begin(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
    if !fixed.body.is_empty() && !fixed.content_type.is_empty() {
        head.fields.append(Name::ContentType, fixed.content_type.as_bytes());
    }
    Page { head, body: Bytes::copy_from_slice(fixed.body.as_bytes()) }
}

/// A redirect, with a page for clients that do not follow it.
pub(crate) fn redirect(mut head: Box<Response>, status: u16, location: &str) -> Page {
    // A checked configuration holds a valid status.
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FOUND);
    head.begin(status);
    head.fields.append(Name::ContentType, b"text/html");
    head.fields.append(Name::Location, location.as_bytes());
    Page { head, body: page(status) }
}

fn title(status: StatusCode) -> String {
    // ALB's reason phrases where they differ from the registry's.
    let reason = match status {
        StatusCode::SERVICE_UNAVAILABLE => "Service Temporarily Unavailable",
        StatusCode::GATEWAY_TIMEOUT => "Gateway Time-out",
        StatusCode::REQUEST_TIMEOUT => "Request Time-out",
        other => other.canonical_reason().unwrap_or("Error"),
    };
    format!("{} {reason}", status.as_str())
}

fn describe_page(head: &mut Response) {
    head.fields.append(Name::ContentType, b"text/html");
    head.fields.append(Name::CacheControl, b"no-store");
}

fn page(status: StatusCode) -> Bytes {
    let title = title(status);
    Bytes::from(format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n\
         <center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::verdict::Verdict;
    use crate::net::connect::ConnectError;
    use crate::policy::headers::head::RejectReason;

    fn failed(why: &Failure) -> Page {
        failure(Box::default(), why)
    }

    #[test]
    fn pages_have_the_length_of_albs() {
        assert_eq!(failed(&Failure::Refused(Verdict::NoTarget)).body.len(), 162);
        assert_eq!(failed(&Failure::TargetLost).body.len(), 122);
    }

    #[test]
    fn only_temporary_refusals_have_retry_after() {
        let refused = [Failure::NoShare, Failure::Connect(ConnectError::Full)]
            .into_iter()
            .chain(Verdict::ALL.map(Failure::Refused));
        for why in refused {
            assert_eq!(
                failed(&why).head.fields.get(Name::RetryAfter),
                Some(SOON),
                "{}",
                why.word()
            );
        }
        for why in [
            Failure::NoRule,
            Failure::TargetLost,
            Failure::ResponseTimeout,
            Failure::RequestTimeout,
            Failure::Head(RejectReason::Desync),
            Failure::ProtocolMismatch,
        ] {
            assert!(!failed(&why).head.fields.has(Name::RetryAfter), "{}", why.word());
            let call = failed_call(Box::default(), &why).head.fields;
            let unavailable = call.get(Name::GrpcStatus) == Some(b"14");
            assert_eq!(call.has(Name::RetryAfter), unavailable, "{}", why.word());
        }
        let call = failed_call(Box::default(), &Failure::Refused(Verdict::NoTarget));
        assert_eq!(call.head.fields.get(Name::RetryAfter), Some(SOON));
        // Configured responses are sent unchanged.
        let own = FixedResponse { status: 503, content_type: String::new(), body: String::new() };
        assert!(!fixed(Box::default(), &own).head.fields.has(Name::RetryAfter));
    }

    #[test]
    fn a_failed_call_has_a_code_and_no_page() {
        for (why, status, code) in [
            (Failure::TargetLost, 502, "14"),
            (Failure::Refused(Verdict::NoTarget), 503, "14"),
            (Failure::ResponseTimeout, 504, "14"),
            (Failure::RequestTimeout, 408, "14"),
            (Failure::NoRule, 404, "12"),
            (Failure::ProtocolMismatch, 464, "2"),
        ] {
            let Page { head, body } = failed_call(Box::default(), &why);
            assert_eq!(head.status, status);
            assert_eq!(head.fields.get(Name::GrpcStatus), Some(code.as_bytes()));
            assert_eq!(head.fields.get(Name::ContentType), Some(&b"application/grpc"[..]));
            assert!(body.is_empty());
        }
    }
}
