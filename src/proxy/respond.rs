//! Answers the balancer makes itself: short pages like ALB's, which tell nothing of the inside.

use super::failure::Failure;
use crate::config::settings::FixedResponse;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Response, StatusCode};

/// The page of a failure.
pub fn failure(failure: &Failure) -> Response<Bytes> {
    let status = failure.status();
    let mut response = Response::new(page(status));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if failure.closes() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
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

fn page(status: StatusCode) -> Bytes {
    let title = title(status);
    Bytes::from(format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n\
         <center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n"
    ))
}

/// A whole answer for a connection that no HTTP machine drives any more: a head that was never
/// finished, or another protocol.
pub fn raw(status: StatusCode) -> Vec<u8> {
    let (title, page) = (title(status), page(status));
    let mut answer = format!(
        "HTTP/1.1 {title}\r\nContent-Type: text/html\r\nCache-Control: no-store\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        page.len()
    )
    .into_bytes();
    answer.extend_from_slice(&page);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::verdict::Verdict;

    #[test]
    fn pages_are_as_long_as_albs() {
        let unavailable = failure(&Failure::Refused(Verdict::NoTarget));
        assert_eq!(unavailable.body().len(), 162);
        assert!(!unavailable.headers().contains_key(CONNECTION));
        assert_eq!(failure(&Failure::TargetLost).body().len(), 122);
    }

    #[test]
    fn a_raw_answer_announces_its_own_length_and_closes() {
        let text = String::from_utf8(raw(StatusCode::REQUEST_TIMEOUT)).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 408 "));
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
    }
}
