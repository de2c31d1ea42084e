//! What must not cross the hop, over all repeated lines (RFC 9110 section 7.6.1).

use super::head::{self, Refusal};
use super::names::{Names, belongs_to_the_hop};
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, SET_COOKIE, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Fields that belong to one connection whether or not Connection names them.
const ALWAYS: [HeaderName; 5] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// What a message said about its own connection, taken out of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hop {
    /// It asks to speak WebSocket from here on, says so in Connection too, and has no body.
    pub websocket: bool,
    /// Its sender takes trailers.
    pub takes_trailers: bool,
}

/// Strips a request, whose names were looked at before. Trailer stays, less the names a trailer may
/// not have; TE stays as `trailers`.
///
/// # Errors
/// When Connection names a field that belongs to the whole way: whoever sends that wants a
/// security field lost on the way to the target.
pub fn strip_request(headers: &mut HeaderMap, names: Names) -> Result<Hop, Refusal> {
    let mut hop = Hop::default();
    if !names.of_the_hop {
        return Ok(hop);
    }
    let mut upgrades = false;
    if headers.contains_key(CONNECTION) {
        for name in named_by_connection(headers) {
            if is_end_to_end(&name) {
                return Err(Refusal::ConnectionOption);
            }
            upgrades |= name == UPGRADE;
            if name != TE && name != UPGRADE && name != TRAILER {
                headers.remove(name);
            }
        }
        headers.remove(CONNECTION);
    }
    // A body would have to be over before the first byte of the other protocol (RFC 9110 section
    // 7.8), and no handshake of WebSocket has one: such a request is a plain one.
    let is_bodiless = |headers: &HeaderMap| {
        !names.transfer_encoding && head::content_length(headers).is_none_or(|length| length == 0)
    };
    hop.websocket = upgrades && asks_for_websocket(headers) && is_bodiless(headers);
    if headers.contains_key(TE) {
        hop.takes_trailers = headers.get_all(TE).iter().any(names_trailers);
        headers.remove(TE);
    }
    headers.remove(EXPECT);
    strip_always(headers);
    Ok(hop)
}

/// Strips a response. A target may name any field of its own, except those whose loss would break
/// the message or the session.
pub fn strip_response(headers: &mut HeaderMap) {
    // Most answers have none of it, and one walk over the names is cheaper than looking up ten
    // that are absent.
    if !headers.keys().any(|name| belongs_to_the_hop(name.as_str())) {
        return;
    }
    if headers.contains_key(CONNECTION) {
        for name in named_by_connection(headers) {
            let kept = name == SET_COOKIE || name == CONTENT_LENGTH || name == TRAILER;
            if !kept {
                headers.remove(name);
            }
        }
        headers.remove(CONNECTION);
    }
    // A request's alone; over HTTP/2 an answer with it could not be sent.
    headers.remove(TE);
    strip_always(headers);
}

fn strip_always(headers: &mut HeaderMap) {
    for name in &ALWAYS {
        headers.remove(name);
    }
    if headers.contains_key(TRAILER) {
        rebuild_trailer(headers);
    }
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(CONNECTION).iter();
    let options = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    options.filter_map(|option| HeaderName::from_bytes(option.trim_ascii()).ok()).collect()
}

fn names_trailers(line: &HeaderValue) -> bool {
    let codings = line.as_bytes().split(|&byte| byte == b',');
    codings.map(<[u8]>::trim_ascii).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

/// Fields that a Connection header must not take away.
fn is_end_to_end(name: &HeaderName) -> bool {
    let text = name.as_str();
    [HOST, CONTENT_LENGTH, COOKIE, SET_COOKIE, AUTHORIZATION].contains(name)
        || text.starts_with("x-forwarded-")
        || text.starts_with("x-stayput-")
        || text.starts_with("x-amzn-")
        || text == "forwarded"
}

/// Whether a field may come after the body: nothing that frames, routes, authenticates or sets a
/// cookie (RFC 9110 section 6.5.1), and nothing the balancer itself says.
pub fn may_be_trailer(name: &HeaderName) -> bool {
    let forbidden = [
        "content-encoding",
        "content-type",
        "content-range",
        "cache-control",
        "expect",
        "max-forwards",
        "pragma",
        "range",
        "te",
        "trailer",
        "transfer-encoding",
        "connection",
        "proxy-authorization",
        "www-authenticate",
        "age",
        "date",
        "expires",
        "location",
        "retry-after",
        "vary",
        "warning",
        "x-real-ip",
    ];
    let text = name.as_str();
    !is_end_to_end(name) && !ALWAYS.contains(name) && !forbidden.contains(&text)
}

/// Names in Trailer only what may be one, so that hyper sends that and nothing else.
fn rebuild_trailer(headers: &mut HeaderMap) {
    let lines = headers.get_all(TRAILER).iter();
    let names = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    let allowed: Vec<String> = names
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(may_be_trailer)
        .map(|name| name.as_str().to_owned())
        .collect();
    headers.remove(TRAILER);
    if let Ok(value) = HeaderValue::from_str(&allowed.join(", "))
        && !allowed.is_empty()
    {
        headers.insert(TRAILER, value);
    }
}

/// Whether Upgrade names WebSocket and nothing else.
pub fn asks_for_websocket(headers: &HeaderMap) -> bool {
    headers
        .get(UPGRADE)
        .is_some_and(|upgrade| upgrade.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Writes the fields with which a WebSocket handshake goes on to the target (RFC 6455 section 4.1).
pub fn write_websocket(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// Tells the target that trailers are welcome (RFC 9110 section 10.1.4).
pub fn write_takes_trailers(headers: &mut HeaderMap) {
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(CONNECTION, HeaderValue::from_static("TE"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strip_request(headers: &mut HeaderMap) -> Result<Hop, Refusal> {
        let names = Names::of(headers);
        super::strip_request(headers, names)
    }

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn fields_named_on_a_second_connection_line_are_stripped_too() {
        let mut headers = headers(&[
            ("connection", "close, x-one"),
            ("connection", "X-Two"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
        ]);
        strip_request(&mut headers).unwrap();
        let left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["x-three"]);
    }

    #[test]
    fn connection_may_not_name_a_field_of_the_whole_way() {
        for name in ["host", "Cookie", "authorization", "X-Forwarded-For", "content-length"] {
            let mut headers = headers(&[("connection", name)]);
            assert_eq!(strip_request(&mut headers), Err(Refusal::ConnectionOption), "{name}");
        }
    }

    #[test]
    fn a_target_cannot_make_us_drop_its_cookies() {
        let mut headers =
            headers(&[("connection", "set-cookie, x-a"), ("set-cookie", "a=b"), ("x-a", "1")]);
        strip_response(&mut headers);
        assert!(headers.contains_key("set-cookie") && !headers.contains_key("x-a"));
    }

    #[test]
    fn only_a_websocket_upgrade_that_connection_names_is_one() {
        let hop = |connection: &str, upgrade: &str| {
            let mut headers = headers(&[("connection", connection), ("upgrade", upgrade)]);
            let hop = strip_request(&mut headers).unwrap();
            assert!(headers.is_empty());
            hop.websocket
        };
        assert!(hop("keep-alive, Upgrade", "WebSocket"));
        assert!(!hop("keep-alive", "websocket"));
        assert!(!hop("upgrade, http2-settings", "h2c"));
    }

    #[test]
    fn a_request_with_a_body_asks_for_no_websocket() {
        for (name, value, asks) in [
            ("content-length", "0", true),
            ("content-length", "1", false),
            ("transfer-encoding", "chunked", false),
        ] {
            let upgrade = [("connection", "upgrade"), ("upgrade", "websocket"), (name, value)];
            let hop = strip_request(&mut headers(&upgrade)).unwrap();
            assert_eq!(hop.websocket, asks, "{name}: {value}");
        }
    }

    #[test]
    fn a_trailer_announcement_loses_the_names_that_may_not_be_one() {
        let mut headers =
            headers(&[("trailer", "x-sum, Content-Length"), ("trailer", "x-stayput-verdict")]);
        strip_response(&mut headers);
        assert_eq!(headers["trailer"], "x-sum");
        headers.insert("trailer", "host".parse().unwrap());
        strip_response(&mut headers);
        assert!(!headers.contains_key("trailer"));
    }

    #[test]
    fn te_goes_on_as_trailers_or_not_at_all() {
        let mut with = headers(&[("te", "gzip;q=0.5, Trailers"), ("connection", "te")]);
        assert!(strip_request(&mut with).unwrap().takes_trailers);
        let mut without = headers(&[("te", "gzip")]);
        assert!(!strip_request(&mut without).unwrap().takes_trailers);
        assert!(with.is_empty() && without.is_empty());
    }
}
