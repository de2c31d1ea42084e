//! HTTP/2 requests that must not reach a target, or not as they came: malformed heads, bodies of
//! another length, upgrades that did not happen, one protocol on a connection of the other.

use crate::http2_attacks::{NO_CHECKS, others_are_served};
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PREFACE, PROTOCOL_ERROR,
    RST_STREAM, SETTINGS, block, frame, get, headers, request, settings,
};
use crate::support::http2::Http2;
use crate::support::origin::Then;
use crate::support::panics::Panics;
use crate::support::{Authority, Browser, Frames, Origin, Visitor, World, until};
use std::io::{Read, Write};

const CONNECT_ERROR: u32 = 10;

/// Responds to every request with these four bytes.
fn well() -> Origin {
    Origin::saying("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell", Then::KeepAlive)
}

/// The result for a client: a status, or the error code of the reset.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Status(u16),
    Reset(u32),
    GoAway(u32),
}

fn outcome(client: &mut Frames, stream: u32) -> Outcome {
    let said = client.next(|frame| {
        let answers = frame.kind == HEADERS || frame.kind == RST_STREAM;
        frame.kind == GOAWAY || (frame.stream == stream && answers)
    });
    match said.kind {
        HEADERS => Outcome::Status(said.status()),
        GOAWAY => Outcome::GoAway(said.error()),
        _ => Outcome::Reset(said.error()),
    }
}

#[test]
fn malformed_heads_reach_no_target() {
    use Outcome::{GoAway, Reset, Status};
    const PSEUDO: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "shop.example")];
    let without =
        |name: &str| PSEUDO.iter().copied().filter(|(own, _)| *own != name).collect::<Vec<_>>();
    let with = |more: &[(&'static str, &'static str)]| [&PSEUDO[..], more].concat();
    let instead = |name: &str, value: &'static str| {
        let mut fields = PSEUDO.to_vec();
        fields.iter_mut().find(|(own, _)| *own == name).unwrap().1 = value;
        fields
    };
    let malformed = Reset(PROTOCOL_ERROR);
    // The library closes the connection if it cannot parse a field.
    let unreadable = GoAway(PROTOCOL_ERROR);
    let (panics, origin) = (Panics::counted(), well());
    let world = World::new(&[&origin], "", NO_CHECKS);
    for (what, fields, expected) in [
        ("an upper-case name", with(&[("X-A", "1")]), &unreadable),
        ("Connection", with(&[("connection", "close")]), &malformed),
        ("Transfer-Encoding", with(&[("transfer-encoding", "chunked")]), &malformed),
        ("Keep-Alive", with(&[("keep-alive", "1")]), &malformed),
        ("Proxy-Connection", with(&[("proxy-connection", "close")]), &malformed),
        ("Upgrade", with(&[("upgrade", "h2c")]), &malformed),
        ("TE with more than trailers", with(&[("te", "gzip")]), &malformed),
        ("a line end in a value", with(&[("x-a", "1\r\nhost: b")]), &unreadable),
        ("NUL in a value", with(&[("x-a", "1\0")]), &unreadable),
        ("an empty name", with(&[("", "1")]), &unreadable),
        ("a space in a name", with(&[("x a", "1")]), &unreadable),
        ("a colon in a name", with(&[("x:a", "1")]), &unreadable),
        ("an unknown pseudo-header field", with(&[(":x", "1")]), &unreadable),
        ("a status in a request", with(&[(":status", "200")]), &malformed),
        ("two methods", with(&[(":method", "POST")]), &malformed),
        ("two paths", with(&[(":path", "/b")]), &malformed),
        ("a pseudo-header field after others", [&[("x-a", "1")], &PSEUDO[..]].concat(), &malformed),
        ("no method", without(":method"), &malformed),
        ("no scheme", without(":scheme"), &malformed),
        ("no path", without(":path"), &malformed),
        ("an empty path", instead(":path", ""), &malformed),
        ("a path without a slash", instead(":path", "admin"), &malformed),
        ("a method that is none", instead(":method", "G T"), &unreadable),
        ("a line end in a path", instead(":path", "/ HTTP/1.1\r\nx: "), &malformed),
        ("a space in a path", instead(":path", "/a b"), &malformed),
        ("another scheme", instead(":scheme", "ftp"), &malformed),
        ("white space before a value", with(&[("x-a", " 1")]), &malformed),
        ("white space after a value", with(&[("x-a", "1\t")]), &malformed),
        ("a length that is no number", with(&[("content-length", "1x")]), &malformed),
        ("a length of a request without a body", with(&[("content-length", "1")]), &malformed),
        ("two lengths", with(&[("content-length", "0"), ("content-length", "1")]), &malformed),
        ("* without OPTIONS", instead(":path", "*"), &Status(400)),
        ("neither authority nor host", without(":authority"), &Status(400)),
        ("userinfo", instead(":authority", "a@shop.example"), &Status(400)),
        ("another host", with(&[("host", "other.example")]), &Status(400)),
        ("two hosts", with(&[("host", "shop.example"), ("host", "shop.example")]), &Status(400)),
        (
            "a CONNECT to anywhere",
            vec![(":method", "CONNECT"), (":authority", "a:1")],
            &Status(405),
        ),
        ("TRACE", instead(":method", "TRACE"), &Status(405)),
    ] {
        let mut client = Frames::begun(world.address());
        client.send(&headers(1, END_STREAM, &block(&fields)));
        let outcome = outcome(&mut client, 1);
        assert_eq!(outcome, *expected, "{what}");
        assert!(origin.heard().is_empty(), "{what}");
        if outcome != unreadable {
            client.is_answered();
        }
    }
    others_are_served(&world);
    assert_eq!(panics.so_far(), 0);
}

#[test]
fn an_ambiguous_request_reaches_targets_unambiguous() {
    let (panics, origin) = (Panics::counted(), well());
    let world = World::new(&[&origin], "", NO_CHECKS);
    let mut client = Frames::begun(world.address());
    // As over HTTP/1.1, a fragment is not forwarded.
    client.send(&get(3, "/path#fragment"));
    assert_eq!(client.status(3), 200);
    assert_eq!(origin.heard()[0].path(), "/path");
    let fields = [
        ("host", "SHOP.example"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("te", "trailers"),
        ("http2-settings", "AAMAAABkAAQAAP__"),
        ("x_forwarded_for", "10.0.0.1"),
        ("content-length", "4"),
        ("content-length", "4"),
    ];
    client.send(&headers(5, 0, &request("POST", "/", &fields)));
    client.send(&frame(DATA, END_STREAM, 5, b"well"));
    assert_eq!(client.status(5), 200);
    let head = origin.heard()[1].head.to_ascii_lowercase();
    for once in ["\r\nhost: shop.example\r\n", "\r\ncookie: a=1; b=2\r\n", "content-length: 4\r\n"]
    {
        assert_eq!(head.matches(once).count(), 1, "{once:?} in {head}");
    }
    for never in ["transfer-encoding", "\r\n:", "http2-settings"] {
        assert!(!head.contains(never), "{never:?} in {head}");
    }
    assert_eq!(head.matches("\r\nhost:").count(), 1);
    assert_eq!(panics.so_far(), 0);
}

#[test]
fn a_refused_websocket_stream_opens_no_tunnel() {
    let (panics, origin) = (Panics::counted(), well());
    let rules =
        "[[rule]]\npaths = [\"/fixed\"]\nrespond = { status = 200 }\n[[rule]]\nforward = \"app\"";
    let world = World::new(&[&origin], "", &format!("{NO_CHECKS}\n{rules}"));
    let connect = |stream, path| {
        let head = block(&[
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "shop.example"),
            ("sec-websocket-version", "13"),
        ]);
        let early = b"GET /smuggled HTTP/1.1\r\nHost: shop.example\r\n\r\n";
        [headers(stream, 0, &head), frame(DATA, 0, stream, early)].concat()
    };
    let mut client = Frames::begun(world.address());
    client.send(&connect(1, "/chat"));
    assert_eq!(outcome(&mut client, 1), Outcome::Status(502));
    client.send(&connect(3, "/fixed"));
    assert_eq!(outcome(&mut client, 3), Outcome::Reset(CONNECT_ERROR));
    client.is_answered();
    others_are_served(&world);
    let heard = origin.heard();
    assert!(heard.iter().all(|heard| ["/chat", "/well"].contains(&heard.path())));
    assert_eq!(world.record(|record| record["uri"] == "/chat")["error_reason"], "target_malformed");
    assert_eq!(panics.so_far(), 0);
}

#[test]
fn bytes_after_a_declined_http1_upgrade_open_no_tunnel() {
    let (panics, origin) = (Panics::counted(), well());
    let world = World::new(&[&origin], "", NO_CHECKS);
    for upgrade in ["websocket", "h2c"] {
        let before = origin.heard().len();
        let mut visitor = Visitor::of(world.address());
        visitor.send(&format!(
            "GET /{upgrade} HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade, HTTP2-Settings\r\n\
             Upgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ));
        visitor.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        assert_eq!(visitor.read_answer(false).status, 200);
        assert_eq!(visitor.read_answer(false).status, 505);
        assert!(visitor.sees_close());
        let heard = origin.heard().split_off(before);
        assert_eq!(heard.len(), 1);
        assert_eq!(heard[0].field("http2-settings"), None);
        let kept = heard[0].field("upgrade");
        assert_eq!(kept.as_deref(), (upgrade == "websocket").then_some("websocket"));
    }
    assert_eq!(panics.so_far(), 0);
}

#[test]
fn framing_routing_and_authentication_trailers_never_cross() {
    let panics = Panics::counted();
    let origin = Origin::saying(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum, content-length, set-cookie\r\n\
         \r\n4\r\nwell\r\n0\r\nx-sum: 1\r\ncontent-length: 9\r\nset-cookie: a=1\r\n\
         transfer-encoding: chunked\r\n\r\n",
        Then::KeepAlive,
    );
    let world = World::new(&[&origin], "", NO_CHECKS);
    let mut client = Frames::begun(world.address());
    let named = "x-sum, content-length, host, authorization, cookie, x-forwarded-for";
    client.send(&headers(1, 0, &request("POST", "/", &[("trailer", named), ("te", "trailers")])));
    client.send(&frame(DATA, 0, 1, b"body"));
    let trailers = [
        ("x-sum", "1"),
        ("content-length", "9"),
        ("host", "other.example"),
        ("authorization", "Basic YTpi"),
        ("cookie", "AWSALB=x"),
        ("x-forwarded-for", "10.0.0.1"),
        ("unnamed", "1"),
    ];
    client.send(&headers(1, END_STREAM, &block(&trailers)));
    assert_eq!(client.status(1), 200);
    let head = origin.heard()[0].head.clone();
    let (_, tail) = head.split_once("\r\n\r\n").unwrap();
    assert_eq!(tail.trim(), "x-sum: 1", "{head}");
    // In HTTP/2, a trailer that would frame the body is malformed.
    client.send(&headers(3, 0, &request("POST", "/", &[])));
    client.send(&headers(3, END_STREAM, &block(&[("transfer-encoding", "chunked")])));
    assert_eq!(outcome(&mut client, 3), Outcome::Reset(PROTOCOL_ERROR));
    let mut asked = Http2::head("/");
    asked = asked.header("te", "trailers");
    let reply = Http2::to(world.address()).send(asked).unwrap();
    let trailers = reply.trailers.unwrap();
    assert_eq!(trailers.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["x-sum"]);
    assert_eq!(panics.so_far(), 0);
}

#[test]
fn a_late_or_invalid_preface_ends_its_connection() {
    let (panics, origin) = (Panics::counted(), well());
    let timeouts = "timeouts = { header_read = \"1s\", idle = \"1s\" }";
    let world = World::new(&[&origin], timeouts, NO_CHECKS);
    for half in [1, 2, 3, 23] {
        let mut client = Frames::bare(world.address());
        client.send(&PREFACE[..half]);
        let mut said = Vec::new();
        client.tcp().read_to_end(&mut said).unwrap();
        // Up to two bytes of it may become a POST.
        assert_eq!(said.starts_with(b"HTTP/1.1 408 "), half < 3, "{half}");
    }
    for (what, bytes) in [
        ("another preface", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec()),
        ("garbage", [PREFACE, &[0xff; 64]].concat()),
        ("a request of HTTP/1.1", [PREFACE, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat()),
        ("no settings first", [PREFACE, &get(1, "/")[..], &[0xff; 64]].concat()),
    ] {
        let mut client = Frames::bare(world.address());
        client.send(&bytes);
        let said = client.rest();
        assert!(
            said.iter().all(|frame| matches!(frame.kind, SETTINGS | GOAWAY | 8 | HEADERS | DATA)),
            "{what}"
        );
    }
    others_are_served(&world);
    until("the connections end", || (origin.open() <= 2).then_some(()));
    assert_eq!(panics.so_far(), 0);
}

#[test]
fn each_protocol_is_served_only_if_negotiated() {
    let (panics, origin, authority) = (Panics::counted(), well(), Authority::new());
    let shop = authority.sign("shop", &["shop.example"]);
    let tls = format!("tls = {{ certificates = [{}] }}", shop.entry());
    let world = World::new(&[&origin], &tls, NO_CHECKS);
    let agreed = |protocol: &str| {
        let protocol = protocol.as_bytes().to_vec();
        let browser = Browser::with(&authority, rustls::ALL_VERSIONS, None, |config| {
            config.alpn_protocols = vec![protocol];
        });
        browser.connect(world.address(), "shop.example").unwrap().stream
    };
    let http2 = || {
        let stream = agreed("h2");
        let socket = stream.sock.try_clone().unwrap();
        Frames::within(stream, socket)
    };
    let mut crossed = http2();
    crossed.send(b"GET /crossed HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    assert!(crossed.rest().iter().all(|frame| matches!(frame.kind, SETTINGS | GOAWAY | 8)));
    let mut crossed = agreed("http/1.1");
    crossed.write_all(PREFACE).unwrap();
    let mut said = [0; 12];
    crossed.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"HTTP/1.1 505");
    let mut proper = http2();
    proper.begin(&[]);
    let mut head = request("GET", "/proper", &[]);
    head.splice(
        ..block(&[(":method", "GET"), (":scheme", "http")]).len(),
        block(&[(":method", "GET"), (":scheme", "https")]),
    );
    proper.send(&headers(1, END_STREAM, &head));
    assert_eq!(proper.status(1), 200);
    assert!(origin.heard().iter().all(|heard| heard.path() == "/proper"));
    assert_eq!(panics.so_far(), 0);
}

#[test]
fn a_head_in_continuation_frames_is_one_head() {
    let (panics, origin) = (Panics::counted(), well());
    let world = World::new(&[&origin], "", NO_CHECKS);
    let mut client = Frames::begun(world.address());
    let head = request("GET", "/pieces", &[("x-a", &"x".repeat(300))]);
    let (first, rest) = head.split_at(5);
    let (second, third) = rest.split_at(100);
    client.send(&settings(&[]));
    client.send(&frame(HEADERS, END_STREAM, 1, first));
    client.send(&frame(CONTINUATION, 0, 1, second));
    client.send(&frame(CONTINUATION, END_HEADERS, 1, third));
    assert_eq!(client.status(1), 200);
    assert_eq!(origin.heard()[0].field("x-a").unwrap().len(), 300);
    assert_eq!(panics.so_far(), 0);
}
