//! Answers the balancer makes itself: short pages like ALB's, which tell nothing of the inside.

use super::failure::Failure;
use crate::config::settings::FixedResponse;
use crate::net::http1::send::write_field;
use crate::policy::headers::response::{Origin, ResponseFields};
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER,
};
use http::{HeaderMap, Response, StatusCode};

/// When a client may come again where nothing served it (RFC 9110 section 10.2.3): a whole second is
/// the least that can be said, and checks find a target that is back about as soon.
const SOON: HeaderValue = HeaderValue::from_static("1");

/// The page of a failure.
pub fn failure(failure: &Failure) -> Response<Bytes> {
    let status = failure.status();
    let mut response = Response::new(page(status));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    describe_page(headers);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, SOON);
    }
    if failure.closes() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The same for a gRPC call: without a page, which is no message ("gRPC over HTTP2": Trailers-Only).
/// Clients that go by the status of HTTP come to the same code as those that read it here.
pub fn failed_call(failure: &Failure) -> Response<Bytes> {
    let status = failure.status();
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    let (code, message) = grpc_status(status);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(code));
    headers.insert("grpc-message", HeaderValue::from_static(message));
    // Clients of gRPC see it as metadata and retry as their own policy says; proxies before us read
    // it. grpc-retry-pushback-ms would bind the clients to it, also where another node could serve.
    if code == UNAVAILABLE {
        headers.insert(RETRY_AFTER, SOON);
    }
    response
}

/// What ends a gRPC call whose target broke off after it had begun to answer: without it clients
/// would go by the code of the reset, which says that they or we did wrong.
pub fn broken_call() -> HeaderMap {
    let (code, message) = grpc_status(StatusCode::BAD_GATEWAY);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(code));
    trailers.insert("grpc-message", HeaderValue::from_static(message));
    trailers
}

/// gRPC's code for what may work when it is tried again.
const UNAVAILABLE: &str = "14";

/// gRPC's code for a status ("HTTP to gRPC Status Code Mapping"), and its name; of 14 as ALB has it.
/// 408 is not in the mapping: nothing was called, and what comes again may fare better, as with 14.
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

/// A rule's `respond`.
pub fn fixed(fixed: &FixedResponse) -> Response<Bytes> {
    let mut response = Response::new(Bytes::copy_from_slice(fixed.body.as_bytes()));
    // A checked configuration holds a status and a content type that are one; what is not would
    // fall back to 500 and to no field.
    let status = StatusCode::from_u16(fixed.status);
    *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if !fixed.body.is_empty()
        && let Ok(content_type) = HeaderValue::from_str(&fixed.content_type)
    {
        response.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    response
}

/// A redirect, with a page for those who do not follow it.
pub fn redirect(status: u16, location: HeaderValue) -> Response<Bytes> {
    // A checked configuration holds a status that is one.
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FOUND);
    let mut response = Response::new(page(status));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
    headers.insert(LOCATION, location);
    response
}

fn title(status: StatusCode) -> String {
    // ALB's own words where they differ from the registry's.
    let reason = match status {
        StatusCode::SERVICE_UNAVAILABLE => "Service Temporarily Unavailable",
        StatusCode::GATEWAY_TIMEOUT => "Gateway Time-out",
        StatusCode::REQUEST_TIMEOUT => "Request Time-out",
        other => other.canonical_reason().unwrap_or("Error"),
    };
    format!("{} {reason}", status.as_str())
}

fn describe_page(headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

fn page(status: StatusCode) -> Bytes {
    let title = title(status);
    Bytes::from(format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n\
         <center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n"
    ))
}

/// A whole answer for a connection that no HTTP machine drives any more: a head that was never
/// finished, or another protocol. `fields` are those of every answer of its listener.
pub fn raw(status: StatusCode, fields: &ResponseFields) -> Vec<u8> {
    let page = page(status);
    let mut headers = HeaderMap::new();
    describe_page(&mut headers);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(page.len()));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    fields.write(&mut headers, Origin::Own);
    let mut answer = format!("HTTP/1.1 {}\r\n", title(status)).into_bytes();
    for (name, value) in &headers {
        write_field(&mut answer, name, value);
    }
    answer.extend_from_slice(b"\r\n");
    answer.extend_from_slice(&page);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::verdict::Verdict;
    use crate::net::connect::ConnectError;
    use crate::policy::headers::head::Refusal;
    use crate::policy::headers::response::ServerField;

    #[test]
    fn pages_are_as_long_as_albs() {
        let unavailable = failure(&Failure::Refused(Verdict::NoTarget));
        assert_eq!(unavailable.body().len(), 162);
        assert!(!unavailable.headers().contains_key(CONNECTION));
        assert_eq!(failure(&Failure::TargetLost).body().len(), 122);
    }

    #[test]
    fn who_is_refused_for_the_moment_is_told_when_to_come_again_and_nobody_else() {
        let refused = [Failure::NoShare, Failure::Connect(ConnectError::Full)]
            .into_iter()
            .chain(Verdict::ALL.map(Failure::Refused));
        for why in refused {
            assert_eq!(failure(&why).headers()[RETRY_AFTER], "1", "{}", why.word());
        }
        for why in [
            Failure::NoRule,
            Failure::TargetLost,
            Failure::ResponseTimeout,
            Failure::RequestTimeout,
            Failure::Head(Refusal::Desync),
            Failure::ProtocolMismatch,
        ] {
            assert!(!failure(&why).headers().contains_key(RETRY_AFTER), "{}", why.word());
            let call = failed_call(&why);
            let unavailable = call.headers()["grpc-status"] == "14";
            assert_eq!(call.headers().contains_key(RETRY_AFTER), unavailable, "{}", why.word());
        }
        let call = failed_call(&Failure::Refused(Verdict::NoTarget));
        assert_eq!(call.headers()[RETRY_AFTER], "1");
        // What the file says is not ours to add to.
        let fixed =
            fixed(&FixedResponse { status: 503, content_type: String::new(), body: String::new() });
        assert!(!fixed.headers().contains_key(RETRY_AFTER));
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
            let response = failed_call(&why);
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()["grpc-status"], code);
            assert_eq!(response.headers()[CONTENT_TYPE], "application/grpc");
            assert!(response.body().is_empty());
        }
    }

    #[test]
    fn a_raw_answer_announces_its_own_length_closes_and_has_the_listeners_fields() {
        let frames = (http::header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        let fields = ResponseFields::new([frames], ServerField::Own);
        let text = String::from_utf8(raw(StatusCode::REQUEST_TIMEOUT, &fields)).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 408 "));
        for field in ["x-frame-options: DENY", "server: stayput", "connection: close"] {
            assert!(head.contains(&format!("\r\n{field}")), "{head}");
        }
        assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())), "{head}");
    }
}
