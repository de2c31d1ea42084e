//! Removal of the fields that apply to one connection only, on every line of a repeated field (RFC
//! 9110 section 7.6.1).

use super::head::RejectReason;
use super::header_flags::{HeaderFlags, OF_THE_HOP, begins_with};
use crate::http1::fields::Fields;
use crate::http1::name::{Name, NameSet};
use crate::http1::response::is_keep_alive;
use crate::http1::scan;
use crate::http1::value::{self, list_has};
use http::HeaderName;

/// Fields that belong to one connection even if Connection does not name them.
const ALWAYS: [Name; 5] = [
    Name::KeepAlive,
    Name::ProxyConnection,
    Name::TransferEncoding,
    Name::Upgrade,
    Name::Http2Settings,
];

/// Fields that a response keeps even if its Connection names them.
const KEPT_IN_RESPONSE: NameSet =
    NameSet::of(&[Name::SetCookie, Name::ContentLength, Name::Trailer]);

/// Fields that a request keeps even if its Connection names them: they are read, and then rewritten
/// or removed.
const KEPT_IN_REQUEST: NameSet = NameSet::of(&[Name::Te, Name::Upgrade, Name::Trailer]);

/// Facts read from a request's hop-by-hop fields, which were then removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hop {
    /// It asks for WebSocket, with `upgrade` in Connection, and has no body.
    pub websocket: bool,
    /// Its sender accepts trailers.
    pub takes_trailers: bool,
}

/// Strips a request; `flags` are the facts of its field names. Trailer keeps only the names that a
/// trailer may have. TE is removed; `Hop::takes_trailers` tells if it had `trailers`.
///
/// # Errors
/// If Connection names an end-to-end field, because such a request may try to hide a security field
/// from the target.
pub fn strip_request(fields: &mut Fields, flags: HeaderFlags) -> Result<Hop, RejectReason> {
    let mut hop = Hop::default();
    if !flags.of_the_hop {
        return Ok(hop);
    }
    let mut upgrades = false;
    if fields.has(Name::Connection) {
        for option in options(fields) {
            let name = Name::of(option);
            if is_end_to_end(name, option) {
                return Err(RejectReason::ConnectionOption);
            }
            upgrades |= name == Name::Upgrade;
        }
        remove_named_by_connection(fields, KEPT_IN_REQUEST);
    }
    // A WebSocket handshake has no body. A request with a body is forwarded without its upgrade,
    // because the body would have to end before the first WebSocket byte (RFC 9110 section 7.8).
    let is_bodiless = |fields: &Fields| {
        !flags.transfer_encoding && value::content_length(fields).is_none_or(|length| length == 0)
    };
    hop.websocket = upgrades && asks_for_websocket(fields) && is_bodiless(fields);
    hop.takes_trailers = list_has(fields.all(Name::Te), b"trailers");
    fields.remove(Name::Te);
    fields.remove(Name::Expect);
    strip_always(fields);
    Ok(hop)
}

/// Strips a response. Fields that its Connection names are removed too, except those whose loss
/// would break the message or the session.
#[inline]
pub fn strip_response(fields: &mut Fields) {
    if fields.has_any(OF_THE_HOP) {
        strip_response_fields(fields);
    }
}

fn strip_response_fields(fields: &mut Fields) {
    if fields.has(Name::Connection) {
        remove_named_by_connection(fields, KEPT_IN_RESPONSE);
    }
    // TE belongs to requests; over HTTP/2 a response with it could not be sent.
    fields.remove(Name::Te);
    strip_always(fields);
}

fn strip_always(fields: &mut Fields) {
    for name in ALWAYS {
        fields.remove(name);
    }
    if fields.has(Name::Trailer) {
        rebuild_trailer(fields);
    }
}

/// The options of Connection that are valid names.
fn options(fields: &Fields) -> impl Iterator<Item = &[u8]> {
    members(fields.all(Name::Connection)).filter(|option| scan::is_token(option))
}

/// The non-empty members of comma-separated lists, over all lines.
fn members<'f>(lines: impl DoubleEndedIterator<Item = &'f [u8]>) -> impl Iterator<Item = &'f [u8]> {
    value::members(lines).filter(|member| !member.is_empty())
}

/// Removes Connection and the fields it names, except those of `kept`.
fn remove_named_by_connection(fields: &mut Fields, kept: NameSet) {
    let is_here = |option: &[u8]| match Name::of(option) {
        Name::Other => fields.iter().any(|(_, sent, _)| sent.eq_ignore_ascii_case(option)),
        name => fields.has(name) && !kept.has(name) && !ALWAYS.contains(&name),
    };
    // Nearly all messages have `keep-alive` alone, and that field is removed anyway.
    if !is_keep_alive(fields) && options(fields).any(is_here) {
        let named: Vec<Box<[u8]>> = options(fields).map(Box::from).collect();
        fields.retain(|name, sent, _| {
            kept.has(name) || !named.iter().any(|option| sent.eq_ignore_ascii_case(option))
        });
    }
    fields.remove(Name::Connection);
}

/// Returns true for fields that Connection must not remove.
fn is_end_to_end(name: Name, sent: &[u8]) -> bool {
    match name {
        Name::Host
        | Name::ContentLength
        | Name::Cookie
        | Name::SetCookie
        | Name::Authorization
        | Name::Forwarded => true,
        _ => {
            ["x-forwarded-", "x-stayput-", "x-amzn-"].iter().any(|prefix| begins_with(sent, prefix))
        }
    }
}

/// Returns true if a field may be a trailer. A field that frames, routes, authenticates or sets a
/// cookie may not (RFC 9110 section 6.5.1), and neither may one reserved for the balancer.
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
    let known = Name::of(text.as_bytes());
    !is_end_to_end(known, text.as_bytes()) && !ALWAYS.contains(&known) && !forbidden.contains(&text)
}

/// Rewrites Trailer without the names that may not be trailers.
fn rebuild_trailer(fields: &mut Fields) {
    let names = members(fields.all(Name::Trailer));
    let names = names.filter_map(|name| HeaderName::from_bytes(name).ok());
    let allowed: Vec<HeaderName> = names.filter(may_be_trailer).collect();
    fields.remove(Name::Trailer);
    if !allowed.is_empty() {
        fields.append_with(Name::Trailer, |line| {
            for (at, name) in allowed.iter().enumerate() {
                line.extend_from_slice(if at == 0 { b"" } else { b", " });
                line.extend_from_slice(name.as_str().as_bytes());
            }
        });
    }
}

/// Returns true if Upgrade names WebSocket alone.
pub fn asks_for_websocket(fields: &Fields) -> bool {
    let upgrade = fields.get(Name::Upgrade);
    upgrade.is_some_and(|upgrade| upgrade.eq_ignore_ascii_case(b"websocket"))
}

/// Writes the fields of a WebSocket handshake to the target (RFC 6455 section 4.1).
pub fn write_websocket(fields: &mut Fields) {
    fields.set(Name::Connection, b"Upgrade");
    fields.set(Name::Upgrade, b"websocket");
}

/// Writes the fields that accept trailers from the target (RFC 9110 section 10.1.4).
pub fn write_takes_trailers(fields: &mut Fields) {
    fields.set(Name::Te, b"trailers");
    fields.set(Name::Connection, b"TE");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strip_request(fields: &mut Fields) -> Result<Hop, RejectReason> {
        let flags = HeaderFlags::of(&*fields);
        super::strip_request(fields, flags)
    }

    fn fields(lines: &[(&str, &str)]) -> Fields {
        lines.iter().copied().collect()
    }

    fn names(fields: &Fields) -> Vec<String> {
        fields.iter().map(|(_, name, _)| String::from_utf8_lossy(name).into_owned()).collect()
    }

    #[test]
    fn fields_named_on_a_second_connection_line_are_stripped_too() {
        let mut fields = fields(&[
            ("connection", "close, x-one"),
            ("connection", "X-Two"),
            ("x-one", "1"),
            ("X-two", "2"),
            ("x-three", "3"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
        ]);
        strip_request(&mut fields).unwrap();
        assert_eq!(names(&fields), ["x-three"]);
    }

    #[test]
    fn a_known_field_is_removed_if_connection_names_it() {
        for (connection, left) in [
            ("etag", &["x-a"][..]),
            ("close , ETag ,, X-A", &[]),
            ("x-b", &["etag", "x-a"]),
            ("\u{e9}tag, x a, \"x-a\"", &["etag", "x-a"]),
        ] {
            let lines = [("connection", connection), ("etag", "e"), ("x-a", "1")];
            let (mut request, mut response) = (fields(&lines), fields(&lines));
            strip_request(&mut request).unwrap();
            strip_response(&mut response);
            assert_eq!((names(&request), names(&response)), (own(left), own(left)), "{connection}");
        }
        fn own(names: &[&str]) -> Vec<String> {
            names.iter().map(|&name| name.to_owned()).collect()
        }
    }

    #[test]
    fn connection_may_not_name_an_end_to_end_field() {
        for name in [
            "host",
            "Cookie",
            "authorization",
            "X-Forwarded-For",
            "X-Forwarded-Anything",
            "x-STAYPUT-verdict",
            "X-Amzn-Trace-Id",
            "forwarded",
            "content-length",
            "close, x-one, Host",
        ] {
            let mut fields = fields(&[("connection", name)]);
            assert_eq!(strip_request(&mut fields), Err(RejectReason::ConnectionOption), "{name}");
        }
    }

    #[test]
    fn a_targets_connection_field_cannot_remove_its_cookies() {
        let mut fields = fields(&[
            ("connection", "set-cookie, content-length, x-a"),
            ("set-cookie", "a=b"),
            ("content-length", "3"),
            ("x-a", "1"),
        ]);
        strip_response(&mut fields);
        assert_eq!(names(&fields), ["set-cookie", "content-length"]);
        assert!(fields.has(Name::SetCookie) && fields.has(Name::ContentLength));
    }

    #[test]
    fn a_response_loses_its_connections_fields_and_no_others() {
        let mut answer = fields(&[
            ("Date", "now"),
            ("Connection", "keep-alive"),
            ("Keep-Alive", "timeout=5"),
            ("TE", "trailers"),
            ("Upgrade", "h2c"),
            ("Proxy-Connection", "close"),
            ("HTTP2-Settings", "AAMAAABkAAQ"),
            ("Transfer-Encoding", "chunked"),
            ("X-Own", "1"),
        ]);
        strip_response(&mut answer);
        assert_eq!(names(&answer), ["Date", "X-Own"]);
    }

    #[test]
    fn a_websocket_upgrade_must_be_named_by_connection() {
        let hop = |connection: &str, upgrade: &str| {
            let mut fields = fields(&[("connection", connection), ("upgrade", upgrade)]);
            let hop = strip_request(&mut fields).unwrap();
            assert!(fields.is_empty());
            hop.websocket
        };
        assert!(hop("keep-alive, Upgrade", "WebSocket"));
        assert!(!hop("keep-alive", "websocket"));
        assert!(!hop("upgrade, http2-settings", "h2c"));
    }

    #[test]
    fn a_request_with_a_body_is_no_websocket_upgrade() {
        for (name, value, asks) in [
            ("content-length", "0", true),
            ("content-length", "1", false),
            ("transfer-encoding", "chunked", false),
        ] {
            let upgrade = [("connection", "upgrade"), ("upgrade", "websocket"), (name, value)];
            let hop = strip_request(&mut fields(&upgrade)).unwrap();
            assert_eq!(hop.websocket, asks, "{name}: {value}");
        }
    }

    #[test]
    fn a_websocket_handshake_is_rewritten() {
        let mut handshake =
            fields(&[("Connection", "keep-alive, Upgrade"), ("Upgrade", "WebSocket")]);
        assert!(strip_request(&mut handshake).unwrap().websocket);
        write_websocket(&mut handshake);
        assert_eq!(handshake.get(Name::Connection), Some(&b"Upgrade"[..]));
        assert_eq!(handshake.get(Name::Upgrade), Some(&b"websocket"[..]));
        assert!(asks_for_websocket(&handshake) && handshake.len() == 2);
    }

    #[test]
    fn trailer_loses_the_names_that_may_not_be_trailers() {
        let mut fields =
            fields(&[("trailer", "x-sum, Content-Length"), ("trailer", "x-stayput-verdict, X-b")]);
        strip_response(&mut fields);
        assert_eq!(fields.all(Name::Trailer).collect::<Vec<_>>(), [b"x-sum, x-b"]);
        fields.set(Name::Trailer, b"host");
        strip_response(&mut fields);
        assert!(!fields.has(Name::Trailer));
    }

    #[test]
    fn te_is_forwarded_as_trailers_or_not_at_all() {
        let mut with = fields(&[("te", "gzip;q=0.5, Trailers"), ("connection", "te")]);
        assert!(strip_request(&mut with).unwrap().takes_trailers);
        let mut without = fields(&[("te", "gzip")]);
        assert!(!strip_request(&mut without).unwrap().takes_trailers);
        assert!(with.is_empty() && without.is_empty());
        write_takes_trailers(&mut with);
        assert_eq!(with.get(Name::Te), Some(&b"trailers"[..]));
        assert_eq!(with.get(Name::Connection), Some(&b"TE"[..]));
    }
}
