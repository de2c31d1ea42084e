//! Checks of a request's head over HTTP/2, and its conversion to HTTP/1.1 (RFC 9113 section 8). The
//! library refuses upper-case names, fields of a connection, wrong pseudo-header fields and lengths
//! that do not match; this file refuses the other invalid heads.

use super::head::RejectReason;
use crate::http1::fields::Fields;
use crate::http1::name::Name;
use crate::http1::request::Request;
use data_encoding::BASE64;
use http::header;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use sha1::{Digest, Sha1};

/// Measurements of a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measured {
    /// Bytes as in HTTP/1.1. Bytes that compression saves on the wire still take memory here and
    /// are sent to the target. Cookie parts (RFC 9113 section 8.2.3) are one field, the one they
    /// are joined to; until then each takes its name, its value and 32 bytes, which bounds their
    /// number.
    pub bytes: usize,
    /// Fields, counting all cookie parts as one.
    pub fields: usize,
    /// Lines, counting each cookie part.
    pub lines: usize,
    /// Bytes of names and values.
    pub content: usize,
    /// Bytes of path and query.
    pub target: usize,
    /// True if it is malformed though the library accepted it: white space around a value (RFC 9113
    /// section 8.2.1), which an HTTP/1.1 target would not see, a scheme other than HTTP's, or a
    /// `:path` that begins with its query (section 8.3.1; the library refuses other paths without a
    /// slash).
    pub is_malformed: bool,
}

impl Measured {
    /// The reason to refuse a head that exceeds a listener's limits: its target alone is too long,
    /// or all of it is too large.
    pub(crate) fn excess(&self, max_bytes: usize, max_fields: usize) -> Option<RejectReason> {
        if self.bytes <= max_bytes && self.fields <= max_fields {
            return None;
        }
        let is_target = self.target > max_bytes;
        Some(if is_target { RejectReason::TargetTooLong } else { RejectReason::TooLarge })
    }
}

/// Bytes of a line beside name and value: the colon, a space and the line end.
const LINE_OVERHEAD: usize = 4;
/// Bytes of a cookie part beside name and value, as SETTINGS_MAX_HEADER_LIST_SIZE counts a field
/// (RFC 9113 section 6.5.2).
const CRUMB_OVERHEAD: usize = 32;

/// The text between method, target and the end of the line.
const REQUEST_LINE: usize = "  HTTP/1.1\r\n".len();

/// Converts a request's head to the form that both protocols have here, and measures it, in one
/// pass. Cookie parts are joined (RFC 9113 section 8.2.3); of several lengths, which the library
/// has checked to agree, one stays.
pub(crate) fn fill<B>(head: &mut Request, request: &http::Request<B>) -> Measured {
    let uri = request.uri();
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let method = request.method();
    let authority = uri.authority().map_or("", Authority::as_str);
    match uri.scheme_str() {
        _ if path == "*" && uri.authority().is_some() => {
            head.begin(method.clone(), path, Version::HTTP_2);
            // The asterisk form holds no authority.
            if !request.headers().contains_key(header::HOST) {
                head.fields.append(Name::Host, authority.as_bytes());
            }
        }
        Some(scheme) if uri.authority().is_some() => {
            let pieces = [scheme, "://", authority, path];
            head.begin_in_pieces(method.clone(), &pieces, Version::HTTP_2);
        }
        _ => head.begin(method.clone(), path, Version::HTTP_2),
    }
    let query = uri.query().map_or(0, |query| query.len() + 1);
    let line = method.as_str().len() + uri.path().len() + query + REQUEST_LINE;
    let mut found = Measured {
        bytes: line + authority.len(),
        target: uri.path_and_query().map_or(0, |target| target.as_str().len()),
        is_malformed: uri.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https")
            || path.starts_with('?'),
        ..Measured::default()
    };
    // The map yields all values of a name consecutively.
    let mut lines = request.headers().iter().peekable();
    while let Some((name, value)) = lines.next() {
        found.fields += 1;
        found.record(name, value);
        match Name::of(name.as_str().as_bytes()) {
            Name::Cookie => {
                let begins = found.lines;
                head.fields.append_with(Name::Cookie, |line| {
                    line.extend_from_slice(value.as_bytes());
                    while let Some((_, cookie_part)) = lines.next_if(|(next, _)| *next == name) {
                        found.record(name, cookie_part);
                        line.extend_from_slice(b"; ");
                        line.extend_from_slice(cookie_part.as_bytes());
                    }
                });
                let more = found.lines - begins;
                if more > 0 {
                    found.bytes += (more + 1) * (CRUMB_OVERHEAD - LINE_OVERHEAD);
                }
            }
            Name::ContentLength => {
                head.fields.append(Name::ContentLength, value.as_bytes());
                while let Some((_, same)) = lines.next_if(|(next, _)| *next == name) {
                    found.fields += 1;
                    found.record(name, same);
                }
            }
            Name::Other => head.fields.append_named(name.as_str(), value.as_bytes()),
            // The library's values hold no CR, LF or NUL.
            known => {
                head.fields.append_with(known, |line| line.extend_from_slice(value.as_bytes()))
            }
        }
    }
    head.fields.record_received();
    found
}

impl Measured {
    fn record(&mut self, name: &HeaderName, value: &HeaderValue) {
        let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        let value = value.as_bytes();
        let content = name.as_str().len() + value.len();
        self.lines += 1;
        self.content += content;
        self.bytes += content + LINE_OVERHEAD;
        self.is_malformed |= blank(value.first()) || blank(value.last());
    }
}

/// Converts an extended CONNECT (RFC 8441 section 4) to the GET that opens a WebSocket over
/// HTTP/1.1 (RFC 6455 section 4.1). The key is the balancer's own: over HTTP/2 there is none.
pub(crate) fn open_websocket(request: &mut Request, nonce: [u8; 16]) -> WebSocketKey {
    let key = BASE64.encode(&nonce);
    request.method = Method::GET;
    let fields = &mut request.fields;
    fields.remove(Name::ContentLength);
    fields.set(Name::Connection, b"upgrade");
    fields.set(Name::Upgrade, b"websocket");
    fields.set(Name::SecWebSocketKey, key.as_bytes());
    fields.record_received();
    WebSocketKey(key)
}

/// The key whose answer proves that a target speaks WebSocket.
#[derive(Clone, Debug)]
pub(crate) struct WebSocketKey(String);

impl WebSocketKey {
    /// Returns true if a 101 with these fields answers this key (RFC 6455 section 4.1).
    pub(crate) fn is_answered_by(&self, fields: &Fields) -> bool {
        fields.get(Name::SecWebSocketAccept) == Some(self.accept().as_bytes())
    }

    fn accept(&self) -> String {
        let digest = Sha1::new().chain_update(&self.0).chain_update(WEBSOCKET_GUID).finalize();
        BASE64.encode(&digest)
    }
}

/// The GUID of RFC 6455 section 1.3.
const WEBSOCKET_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Removes from a response the fields that HTTP/2 replaces by frames (RFC 9113 section 8.2.2), and
/// from one that opens a WebSocket those of HTTP/1.1 only (RFC 8441 section 5).
pub(crate) fn strip_answer(fields: &mut Fields) {
    for name in [Name::Connection, Name::TransferEncoding, Name::Upgrade, Name::SecWebSocketAccept]
    {
        fields.remove(name);
    }
}

/// Adds fields to the library's map and returns the bytes of their names and values. A field that
/// is invalid there is left out.
pub(crate) fn add_to_map(fields: &Fields, map: &mut HeaderMap) -> usize {
    let mut sent = 0;
    // Reserved in full: a map that grows is rebuilt.
    map.reserve(fields.len());
    for (name, text, value) in fields.iter() {
        let known = known(name).map_or_else(|| HeaderName::from_bytes(text), Ok);
        if let (Ok(name), Ok(value)) = (known, HeaderValue::from_bytes(value)) {
            sent += text.len() + value.len();
            map.append(name, value);
        }
    }
    sent
}

/// The library's constant for a name that most responses have: making it from text costs a hash and
/// a copy.
fn known(name: Name) -> Option<HeaderName> {
    Some(match name {
        Name::CacheControl => header::CACHE_CONTROL,
        Name::ContentLength => header::CONTENT_LENGTH,
        Name::ContentType => header::CONTENT_TYPE,
        Name::Date => header::DATE,
        Name::Etag => header::ETAG,
        Name::Expires => header::EXPIRES,
        Name::LastModified => header::LAST_MODIFIED,
        Name::Location => header::LOCATION,
        Name::RetryAfter => header::RETRY_AFTER,
        Name::Server => header::SERVER,
        Name::SetCookie => header::SET_COOKIE,
        Name::WwwAuthenticate => header::WWW_AUTHENTICATE,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{CONTENT_LENGTH, COOKIE};
    use proptest::prelude::*;

    fn head(uri: &str, fields: &[(&str, &str)]) -> http::Request<()> {
        let mut request = http::Request::get(uri);
        for (name, value) in fields {
            request = request.header(*name, HeaderValue::from_str(value).unwrap());
        }
        request.body(()).unwrap()
    }

    fn measured(uri: &str, fields: &[(&str, &str)]) -> Measured {
        fill(&mut Request::default(), &head(uri, fields))
    }

    fn size(uri: &str, fields: &[(&str, &str)]) -> (usize, usize) {
        let Measured { bytes, fields, .. } = measured(uri, fields);
        (bytes, fields)
    }

    #[test]
    fn outer_white_space_foreign_schemes_and_bare_queries_are_malformed() {
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
            assert_eq!(measured(uri, &[("x-a", value)]).is_malformed, expected, "{uri} {value:?}");
        }
    }

    #[test]
    fn a_head_has_the_size_it_would_have_over_http1() {
        let found = size("https://shop.example/a?b=1", &[("x-a", "1"), ("x-a", "22")]);
        let written = "GET /a?b=1 HTTP/1.1\r\nx-a: 1\r\nx-a: 22\r\n".len();
        assert_eq!(found, (written + "shop.example".len(), 2));
    }

    #[test]
    fn cookie_parts_are_one_field_and_each_takes_its_bytes_and_32() {
        let none = size("https://a/", &[("x-a", "1"), ("x-a", "2")]);
        for (cookie_parts, bytes, fields) in [
            (&["a=1"][..], "cookie".len() + 3 + 4, 1),
            (&["a=1", "b=22"], 2 * "cookie".len() + 3 + 4 + 2 * 32, 1),
            (&["a=1"; 90], 90 * ("cookie".len() + 3 + 32), 1),
        ] {
            let cookie_parts: Vec<_> =
                cookie_parts.iter().map(|cookie_part| ("cookie", *cookie_part)).collect();
            let others = [("x-a", "1"), ("x-a", "2")];
            let found = size("https://a/", &[&others[..], &cookie_parts].concat());
            assert_eq!(found, (none.0 + bytes, none.1 + fields), "{} crumbs", cookie_parts.len());
        }
    }

    fn filled(uri: &str, fields: &[(&str, &str)]) -> Request {
        let mut request = Request::default();
        fill(&mut request, &head(uri, fields));
        request
    }

    #[test]
    fn a_target_that_is_too_long_differs_from_a_head_that_is_too_large() {
        let found = measured(&format!("https://a/{}", "x".repeat(100)), &[("x-a", "1")]);
        for (max_bytes, max_fields, expected) in [
            (50, 9, Some(RejectReason::TargetTooLong)),
            (100, 9, Some(RejectReason::TargetTooLong)),
            (101, 9, Some(RejectReason::TooLarge)),
            (found.bytes - 1, 9, Some(RejectReason::TooLarge)),
            (found.bytes, 9, None),
            (found.bytes, 1, None),
            (found.bytes, 0, Some(RejectReason::TooLarge)),
        ] {
            assert_eq!(found.excess(max_bytes, max_fields), expected, "{max_bytes} {max_fields}");
        }
    }

    #[test]
    fn cookie_parts_are_joined_to_one_cookie_in_their_order() {
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
    fn a_head_over_http2_converts_to_the_same_head_over_http1() {
        let request = filled("https://shop.example:8443/a?b=c", &[("x-a", "1"), ("x-a", "2")]);
        assert_eq!(request.authority(), Some("shop.example:8443"));
        assert_eq!((request.path(), request.query()), ("/a", "b=c"));
        assert_eq!((request.version, &*request.origin_form()), (Version::HTTP_2, "/a?b=c"));
        assert_eq!(request.fields.all_named("x-a").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(filled("/a", &[]).authority(), None);
    }

    #[test]
    fn an_extended_connect_becomes_a_websocket_and_its_key_is_checked() {
        let fields = [("sec-websocket-version", "13"), ("content-length", "0"), ("host", "a")];
        let mut head = filled("https://a/chat", &fields);
        head.method = Method::CONNECT;
        // The nonce of the example in RFC 6455 section 1.3.
        let key = open_websocket(&mut head, *b"the sample nonce");
        assert_eq!(head.method, Method::GET);
        for (name, expected) in [
            (Name::SecWebSocketKey, &b"dGhlIHNhbXBsZSBub25jZQ=="[..]),
            (Name::Upgrade, b"websocket"),
            (Name::Connection, b"upgrade"),
        ] {
            assert_eq!(head.fields.received(name), Some(expected));
        }
        assert!(!head.fields.has(Name::ContentLength));
        for (said, expected) in
            [("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", true), ("s3pPLMBiTxaQ9kYGzzhZRbK+xOp=", false)]
        {
            let answer = Fields::from_iter([("Sec-WebSocket-Accept", said)]);
            assert_eq!(key.is_answered_by(&answer), expected);
        }
        assert!(!key.is_answered_by(&Fields::default()));
    }

    /// The result of [`fill`], computed name by name and value by value.
    fn slowly(head: &http::Request<()>) -> (Vec<(String, Vec<u8>)>, Measured) {
        let (map, uri) = (head.headers(), head.uri());
        let mut fields = Vec::new();
        for name in map.keys() {
            let values: Vec<&[u8]> = map.get_all(name).iter().map(HeaderValue::as_bytes).collect();
            let values = match () {
                () if *name == COOKIE => vec![values.join(&b"; "[..])],
                () if *name == CONTENT_LENGTH => vec![values[0].to_vec()],
                () => values.into_iter().map(<[u8]>::to_vec).collect(),
            };
            fields.extend(values.into_iter().map(|value| (name.as_str().to_owned(), value)));
        }
        let cookie_parts = map.get_all(COOKIE).iter().count();
        let of_cookie_parts =
            if cookie_parts > 1 { cookie_parts * (CRUMB_OVERHEAD - LINE_OVERHEAD) } else { 0 };
        let content = map.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let padded = |value: &HeaderValue| {
            let value = value.as_bytes();
            value.starts_with(b" ")
                || value.starts_with(b"\t")
                || value.ends_with(b" ")
                || value.ends_with(b"\t")
        };
        let query = uri.query().map_or(0, |query| query.len() + 1);
        let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
        let found = Measured {
            bytes: format!("{} {} HTTP/1.1\r\n", head.method(), uri.path()).len()
                + query
                + authority
                + content
                + map.len() * LINE_OVERHEAD
                + of_cookie_parts,
            fields: map.len() - cookie_parts.saturating_sub(1),
            lines: map.len(),
            content,
            target: uri.path_and_query().map_or(0, |target| target.as_str().len()),
            is_malformed: map.values().any(padded)
                || !matches!(uri.scheme_str(), None | Some("http" | "https"))
                || uri.path_and_query().is_some_and(|target| target.as_str().starts_with('?')),
        };
        (fields, found)
    }

    proptest! {
        #[test]
        fn one_pass_gives_the_result_of_the_slow_way(
            uri in prop::sample::select(vec![
                "https://shop.example:8443/a?b=c", "http://a", "http://a?x=1", "ftp://a/", "/a?b", "*",
            ]),
            fields in prop::collection::vec((
                prop::sample::select(vec![
                    "cookie", "content-length", "x-a", "accept", "x-session-id", "user-agent", "host",
                ]),
                "[ \t]?[a-z0-9=;]{0,12}[ \t]?",
            ), 0..12),
        ) {
            let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, &value[..])).collect();
            let head = head(uri, &fields);
            let mut request = Request::default();
            let found = fill(&mut request, &head);
            let (expected, measured) = slowly(&head);
            prop_assert_eq!(found, measured);
            let filled: Vec<_> = request.fields.iter()
                .map(|(_, name, value)| (String::from_utf8(name.to_vec()).unwrap(), value.to_vec()))
                .collect();
            prop_assert_eq!(filled, expected);
            let path = head.uri().path_and_query().map_or("/", PathAndQuery::as_str);
            let target = match (head.uri().scheme_str(), head.uri().authority()) {
                (Some(scheme), Some(authority)) => format!("{scheme}://{authority}{path}"),
                _ => path.to_owned(),
            };
            prop_assert_eq!(request.target(), target);
        }

        #[test]
        fn a_responses_fields_are_copied_to_the_librarys_map(
            names in prop::collection::vec(prop::sample::select(Name::ALL), 0..20),
            value in "[ -~]{0,20}",
        ) {
            let texts = names.iter().map(|name| name.text().to_owned());
            let spelled = texts.chain(["X-Own".to_owned(), "ETag".to_owned()]);
            let fields: Fields = spelled.map(|name| (name, value.clone())).collect();
            let mut map = HeaderMap::new();
            let sent = add_to_map(&fields, &mut map);
            let mut expected = HeaderMap::new();
            for (_, name, value) in fields.iter() {
                let name = HeaderName::from_bytes(name).unwrap();
                expected.append(name, HeaderValue::from_bytes(value).unwrap());
            }
            let size = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
            prop_assert_eq!(sent, expected.iter().map(size).sum::<usize>());
            prop_assert_eq!(map, expected);
        }
    }
}
