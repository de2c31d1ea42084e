//! What a request's head must be that came over HTTP/2, and what it is in HTTP/1.1 (RFC 9113 section
//! 8). The library refuses upper-case names, fields of a connection, wrong pseudo-header fields and
//! lengths that do not fit; what it lets through is refused here.

use super::head::Refusal;
use crate::http1::fields::{Fields, NameSet};
use crate::http1::name::Name;
use crate::http1::request::Request;
use data_encoding::BASE64;
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, SEC_WEBSOCKET_KEY, UPGRADE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use sha1::{Digest, Sha1};

/// Whether a head is malformed though the library took it: white space around a value (RFC 9113
/// section 8.2.1), which an HTTP/1.1 target would not see, a scheme that is not HTTP's, or a `:path`
/// that begins with its query (section 8.3.1; the library refuses other paths without a slash).
pub fn is_malformed(parts: &Parts) -> bool {
    let padded = |value: &HeaderValue| {
        let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        blank(value.as_bytes().first()) || blank(value.as_bytes().last())
    };
    let foreign = |scheme| scheme != "http" && scheme != "https";
    let is_bare_query = |target: &PathAndQuery| target.as_str().starts_with('?');
    parts.headers.values().any(padded)
        || parts.uri.scheme_str().is_some_and(foreign)
        || parts.uri.path_and_query().is_some_and(is_bare_query)
}

/// The reason to refuse a head that is larger than a listener's limits: its target alone, or all of it.
pub fn excess(parts: &Parts, max_bytes: usize) -> Refusal {
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > max_bytes { Refusal::TargetTooLong } else { Refusal::TooLarge }
}

/// Bytes of a head as HTTP/1.1 has them, and its number of fields. Bytes that are compressed
/// away on the wire take memory here and go to the target all the same. Crumbs of a cookie (RFC 9113
/// section 8.2.3) are one field, the one they are joined to; until then each takes its name and value
/// and [`CRUMB_OVERHEAD`], which bounds their number.
pub fn size(parts: &Parts) -> (usize, usize) {
    let line = parts.method.as_str().len() + parts.uri.path().len() + REQUEST_LINE;
    let line = line + parts.uri.query().map_or(0, |query| query.len() + 1);
    let authority = parts.uri.authority().map_or(0, |authority| authority.as_str().len());
    let field = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
    let fields: usize = parts.headers.iter().map(|line| field(line) + LINE_OVERHEAD).sum();
    let more_crumbs = crumbs(&parts.headers).saturating_sub(1);
    let of_crumbs = match more_crumbs {
        0 => 0,
        more => (more + 1) * (CRUMB_OVERHEAD - LINE_OVERHEAD),
    };
    (line + authority + fields + of_crumbs, parts.headers.len() - more_crumbs)
}

/// Number of Cookie lines. Most requests repeat no name: two numbers tell so without a look-up, and
/// then the number is not counted.
fn crumbs(headers: &HeaderMap) -> usize {
    if headers.len() == headers.keys_len() {
        return 0;
    }
    headers.get_all(COOKIE).iter().count()
}

/// Bytes a line takes beside name and value: the colon, a space and the end of the line.
const LINE_OVERHEAD: usize = 4;
/// Bytes a crumb takes beside name and value, as SETTINGS_MAX_HEADER_LIST_SIZE counts a field (RFC 9113
/// section 6.5.2).
const CRUMB_OVERHEAD: usize = 32;

/// What stands between method, target and the end of the line.
const REQUEST_LINE: usize = "  HTTP/1.1\r\n".len();

/// Brings a request's head into the form that both protocols have here. Crumbs of a cookie are joined
/// (RFC 9113 section 8.2.3); of several lengths, which the library has seen to agree, one stays.
pub fn fill(head: &mut Request, parts: &Parts) {
    let path = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let method = parts.method.clone();
    match (parts.uri.scheme_str(), parts.uri.authority()) {
        (_, Some(authority)) if path == "*" => {
            head.begin(method, path, Version::HTTP_2);
            // An asterisk has no authority in its own form.
            if !parts.headers.contains_key(HOST) {
                head.fields.append(Name::Host, authority.as_str().as_bytes());
            }
        }
        (Some(scheme), Some(authority)) => {
            let target = [scheme, "://", authority.as_str(), path].concat();
            head.begin(method, &target, Version::HTTP_2);
        }
        _ => head.begin(method, path, Version::HTTP_2),
    }
    for name in parts.headers.keys() {
        let mut values = parts.headers.get_all(name).iter();
        if *name == COOKIE {
            head.fields.append_with(Name::Cookie, |line| {
                let first = values.next().map(HeaderValue::as_bytes);
                line.extend_from_slice(first.unwrap_or_default());
                for crumb in values {
                    line.extend_from_slice(b"; ");
                    line.extend_from_slice(crumb.as_bytes());
                }
            });
            continue;
        }
        let most = if *name == CONTENT_LENGTH { 1 } else { usize::MAX };
        for value in values.take(most) {
            head.fields.append_named(name.as_str(), value.as_bytes());
        }
    }
    head.fields.note_received();
}

/// Makes an extended CONNECT (RFC 8441 section 4) the GET that opens a WebSocket over HTTP/1.1
/// (RFC 6455 section 4.1). The key is the balancer's own: over HTTP/2 there is none.
pub fn open_websocket(parts: &mut Parts, nonce: [u8; 16]) -> WebSocketKey {
    let key = BASE64.encode(&nonce);
    parts.method = Method::GET;
    let headers = &mut parts.headers;
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(value) = HeaderValue::from_str(&key) {
        headers.insert(SEC_WEBSOCKET_KEY, value);
    }
    WebSocketKey(key)
}

/// What a target proves with that it speaks WebSocket.
#[derive(Clone, Debug)]
pub struct WebSocketKey(String);

impl WebSocketKey {
    /// Whether a 101 is the answer to this key (RFC 6455 section 4.1).
    pub fn is_answered_by(&self, fields: &Fields) -> bool {
        fields.get(Name::SecWebSocketAccept) == Some(self.accept().as_bytes())
    }

    fn accept(&self) -> String {
        let digest = Sha1::new().chain_update(&self.0).chain_update(WEBSOCKET_GUID).finalize();
        BASE64.encode(&digest)
    }
}

/// RFC 6455 section 1.3.
const WEBSOCKET_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Takes out of an answer what HTTP/2 says in frames (RFC 9113 section 8.2.2), and of one that opens
/// a WebSocket what only HTTP/1.1 says (RFC 8441 section 5).
pub fn strip_answer(fields: &mut Fields) {
    if fields.has_any(OF_HTTP1) {
        for name in
            [Name::Connection, Name::TransferEncoding, Name::Upgrade, Name::SecWebSocketAccept]
        {
            fields.remove(name);
        }
    }
}

const OF_HTTP1: NameSet = NameSet::of(&[
    Name::Connection,
    Name::TransferEncoding,
    Name::Upgrade,
    Name::SecWebSocketAccept,
]);

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use http::header::HOST;

    fn parts(uri: &str, fields: &[(&'static str, &str)]) -> Parts {
        let mut request = Request::get(uri);
        for (name, value) in fields {
            request = request.header(*name, HeaderValue::from_str(value).unwrap());
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn white_space_around_a_value_foreign_schemes_and_bare_queries_make_a_head_malformed() {
        for (uri, value, expected) in [
            ("https://a/", "v", false),
            ("http://a/", "a b", false),
            ("http://a/", "", false),
            ("https://a/", " v", true),
            ("https://a/", "v\t", true),
            ("ftp://a/", "v", true),
            ("http://a/?x=1", "v", false),
            ("http://a?x=1", "v", true),
        ] {
            assert_eq!(is_malformed(&parts(uri, &[("x-a", value)])), expected, "{uri} {value:?}");
        }
    }

    #[test]
    fn a_head_is_as_large_as_it_would_be_over_http1() {
        let head = parts("https://shop.example/a?b=1", &[("x-a", "1"), ("x-a", "22")]);
        let written = "GET /a?b=1 HTTP/1.1\r\nx-a: 1\r\nx-a: 22\r\n".len();
        assert_eq!(size(&head), (written + "shop.example".len(), 2));
    }

    #[test]
    fn crumbs_are_one_field_and_each_takes_its_name_its_value_and_32_bytes() {
        let none = size(&parts("https://a/", &[("x-a", "1"), ("x-a", "2")]));
        for (crumbs, bytes, fields) in [
            (&["a=1"][..], "cookie".len() + 3 + 4, 1),
            (&["a=1", "b=22"], 2 * "cookie".len() + 3 + 4 + 2 * 32, 1),
            (&["a=1"; 90], 90 * ("cookie".len() + 3 + 32), 1),
        ] {
            let crumbs: Vec<_> = crumbs.iter().map(|crumb| ("cookie", *crumb)).collect();
            let others = [("x-a", "1"), ("x-a", "2")];
            let head = parts("https://a/", &[&others[..], &crumbs].concat());
            assert_eq!(size(&head), (none.0 + bytes, none.1 + fields), "{} crumbs", crumbs.len());
        }
    }

    fn filled(uri: &str, fields: &[(&'static str, &str)]) -> super::Request {
        let mut request = super::Request::default();
        fill(&mut request, &parts(uri, fields));
        request
    }

    #[test]
    fn a_target_that_is_too_long_by_itself_is_told_from_a_head_that_is_too_large() {
        let head = parts(&format!("https://a/{}", "x".repeat(100)), &[("x-a", "1")]);
        for (max_bytes, expected) in
            [(50, Refusal::TargetTooLong), (100, Refusal::TargetTooLong), (101, Refusal::TooLarge)]
        {
            assert_eq!(excess(&head, max_bytes), expected, "{max_bytes}");
        }
    }

    #[test]
    fn crumbs_become_one_cookie_in_their_order() {
        let request =
            filled("https://a/", &[("cookie", "a=1"), ("x", "y"), ("cookie", "AWSALB=x; b=2")]);
        let lines: Vec<_> = request.fields.all(Name::Cookie).collect();
        assert_eq!(lines, [b"a=1; AWSALB=x; b=2"]);
        assert_eq!(request.fields.received(Name::Cookie), Some(&b"a=1; AWSALB=x; b=2"[..]));
    }

    #[test]
    fn lengths_that_agree_become_one() {
        for (fields, expected) in [
            (&[][..], None),
            (&[("content-length", "4")], Some(&b"4"[..])),
            (&[("content-length", "4"), ("content-length", "04")], Some(b"4")),
        ] {
            let request = filled("https://a/", fields);
            let lines: Vec<_> = request.fields.all(Name::ContentLength).collect();
            assert_eq!(lines, Vec::from_iter(expected));
        }
    }

    #[test]
    fn a_head_over_http2_says_what_it_says_over_http1() {
        let request = filled("https://shop.example:8443/a?b=c", &[("x-a", "1"), ("x-a", "2")]);
        assert_eq!(request.authority(), Some("shop.example:8443"));
        assert_eq!((request.path(), request.query()), ("/a", "b=c"));
        assert_eq!((request.version, &*request.origin_form()), (Version::HTTP_2, "/a?b=c"));
        assert_eq!(request.fields.all_named("x-a").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(filled("/a", &[]).authority(), None);
    }

    #[test]
    fn an_extended_connect_asks_for_a_websocket_and_believes_only_the_answer_to_its_key() {
        let mut head = parts("https://a/chat", &[("sec-websocket-version", "13")]);
        head.method = Method::CONNECT;
        head.headers.insert(HOST, HeaderValue::from_static("a"));
        // The nonce of the example in RFC 6455 section 1.3.
        let key = open_websocket(&mut head, *b"the sample nonce");
        assert_eq!(head.method, Method::GET);
        assert_eq!(head.headers[SEC_WEBSOCKET_KEY], "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(head.headers[UPGRADE], "websocket");
        assert_eq!(head.headers[CONNECTION], "upgrade");
        for (said, expected) in
            [("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", true), ("s3pPLMBiTxaQ9kYGzzhZRbK+xOp=", false)]
        {
            let answer = Fields::from_iter([("sec-websocket-accept", said)]);
            assert_eq!(key.is_answered_by(&answer), expected);
        }
        assert!(!key.is_answered_by(&Fields::default()));
    }
}
