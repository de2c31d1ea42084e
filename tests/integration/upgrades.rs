//! Protocol upgrades, byte by byte.

use crate::support::origin::Then;
use crate::support::{Origin, Visitor, World, until};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

const SWITCH: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A target that serves its connections with this function, one after the other.
fn target(serve: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            serve(stream);
        }
    });
    address
}

/// A balancer that sends all requests to this target, with checks that at first only connect.
fn world(address: SocketAddr) -> World {
    World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\ntargets = [\"{address}\"]\n\
         health = {{ protocol = \"tcp\", interval = \"300s\" }}\n"
    ))
}

fn in_flight(world: &World) -> u32 {
    world.server().published().current().groups[0].targets[0].state.in_flight()
}

/// Reads the head of a request and no byte more; empty if a check has only connected.
fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn bytes_sent_before_the_101_cross_after_it() {
    let (tell, told) = sync_channel(1);
    let address = target(move |mut stream| {
        if read_head(&mut stream).is_empty() {
            return;
        }
        // Long enough for early forwarding to show.
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let before = stream.read(&mut [0; 16]).map_err(|error| error.kind());
        let _ = stream.write_all(SWITCH);
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut early = [0; 5];
        let _ = stream.read_exact(&mut early);
        tell.send((before, early)).unwrap();
    });
    let world = world(address);
    let mut visitor = Visitor::of(world.address());
    visitor.send(&format!("{HANDSHAKE}early"));
    assert_eq!(visitor.read_answer(false).status, 101);
    let (before, early) = told.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!((before, &early), (Err(ErrorKind::WouldBlock), b"early"));
}

#[test]
fn bytes_after_a_refused_upgrade_are_the_next_request_or_dropped() {
    let origin = Origin::named("a");
    let world = World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\ntargets = [\"{}\"]\n\
         [[rule]]\nname = \"admin\"\npaths = [\"/admin\"]\nrespond = {{ status = 403 }}\n",
        origin.address()
    ));
    let mut visitor = Visitor::of(world.address());
    visitor.send(&format!("{HANDSHAKE}GET /admin HTTP/1.1\r\nHost: a\r\n\r\n"));
    let first = visitor.read_answer(false);
    assert_eq!((first.status, &*first.body), (200, "a"));
    assert_eq!(visitor.read_answer(false).status, 403, "rules hold for what came early");
    // A WebSocket frame: a masked text.
    let mut visitor = Visitor::of(world.address());
    visitor.send(HANDSHAKE);
    visitor.stream().write_all(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58").unwrap();
    assert_eq!(visitor.read_answer(false).status, 200);
    assert_eq!(visitor.read_answer(false).status, 400);
    assert!(visitor.sees_close());
    let uris: Vec<_> = origin.heard().iter().map(|heard| heard.path().to_owned()).collect();
    assert_eq!(uris, ["/ws", "/ws"]);
}

#[test]
fn an_invalid_websocket_handshake_is_forwarded_as_plain_http() {
    let origin = Origin::named("a");
    let world = World::new(&[&origin], "", "");
    let websocket = "Upgrade: websocket\r\n";
    let cases = [
        ("GET / HTTP/1.1", websocket.to_owned()),
        ("GET / HTTP/1.1", format!("Connection: keep-alive\r\n{websocket}")),
        ("GET / HTTP/1.0", format!("Connection: Upgrade, keep-alive\r\n{websocket}")),
        ("HEAD / HTTP/1.1", format!("Connection: Upgrade\r\n{websocket}")),
        ("POST / HTTP/1.1", format!("Connection: Upgrade\r\n{websocket}Content-Length: 0\r\n")),
        ("GET / HTTP/1.1", "Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n".to_owned()),
        ("GET / HTTP/1.1", "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n".to_owned()),
        ("GET / HTTP/1.1", "Connection: Upgrade\r\nUpgrade: \r\n".to_owned()),
        (
            "GET / HTTP/1.1",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
                .to_owned(),
        ),
    ];
    for (line, fields) in cases {
        let mut visitor = Visitor::of(world.address());
        visitor.send(&format!("{line}\r\nHost: a\r\n{fields}\r\n"));
        let answer = visitor.read_answer(line.starts_with("HEAD"));
        assert_eq!(answer.status, 200, "{line} {fields}");
        let heard = origin.heard().pop().unwrap();
        for name in ["upgrade", "http2-settings"] {
            assert_eq!(heard.field(name), None, "{line} {fields}");
        }
        let connection = heard.field("connection").unwrap_or_default().to_ascii_lowercase();
        assert!(!connection.contains("upgrade"), "{line} {fields}{connection}");
    }
}

#[test]
fn a_handshake_with_a_body_is_a_plain_request() {
    let origin = Origin::scripted(|request, stream| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len());
        let _ = stream.write_all(&request.body);
        Then::KeepAlive
    });
    let world = World::new(&[&origin], "", "");
    for (framing, body) in
        [("Content-Length: 5", "hello"), ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")]
    {
        let mut visitor = Visitor::of(world.address());
        visitor.send(&HANDSHAKE.replace("Host: a", &format!("Host: a\r\n{framing}")));
        visitor.send(body);
        let answer = visitor.read_answer(false);
        assert_eq!((answer.status, &*answer.body), (200, "hello"));
        assert_eq!(origin.heard().pop().unwrap().field("upgrade"), None);
    }
    // An empty Upgrade field is no upgrade.
    let mut visitor = Visitor::of(world.address());
    visitor.send(&HANDSHAKE.replace("Host: a", "Host: a\r\nContent-Length: 0"));
    assert_eq!(visitor.read_answer(false).status, 200);
    assert_eq!(origin.heard().pop().unwrap().field("upgrade").as_deref(), Some("websocket"));
}

#[test]
fn a_refused_upgrade_keeps_both_connections() {
    for (said, body) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok"),
        (
            "HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
            "no",
        ),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", ""),
    ] {
        let origin = Origin::saying(said, Then::KeepAlive);
        let world = World::new(&[&origin], "", "");
        let mut visitor = Visitor::of(world.address());
        for nth in 0..3 {
            visitor.send(HANDSHAKE);
            let answer = visitor.read_answer(false);
            assert_eq!((answer.whole, &*answer.body), (true, body));
            assert_eq!(answer.field("upgrade"), None);
            assert!(visitor.jar.contains_key("AWSALB"));
            assert_eq!(origin.heard().pop().unwrap().nth, nth, "{said}");
        }
    }
}

#[test]
fn an_unsupported_websocket_version_is_answered_by_the_target() {
    let origin = Origin::saying(
        "HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13, 8\r\nContent-Length: 2\r\n\r\nno",
        Then::KeepAlive,
    );
    let world = World::new(&[&origin], "", "");
    let mut visitor = Visitor::of(world.address());
    for _ in 0..2 {
        visitor.send(&HANDSHAKE.replace("Version: 13", "Version: 99"));
        let answer = visitor.read_answer(false);
        assert_eq!((answer.status, &*answer.body), (426, "no"));
        assert_eq!(answer.field("sec-websocket-version"), Some("13, 8"));
        // RFC 9110 section 15.5.22: Upgrade names the protocol, and Connection names the field.
        assert_eq!(answer.field("upgrade"), Some("websocket"));
        assert_eq!(answer.field("connection"), Some("Upgrade"));
    }
    assert_eq!(origin.heard()[0].field("sec-websocket-version").as_deref(), Some("99"));
    // If no other protocol is possible, none is named.
    let other = Origin::saying(
        "HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: h2c, TLS/1.0\r\n\
         Content-Length: 0\r\n\r\n",
        Then::KeepAlive,
    );
    let world = World::new(&[&other], "", "");
    let answer = Visitor::of(world.address()).get("/");
    assert_eq!((answer.status, answer.field("upgrade")), (426, None));
}

#[test]
fn a_half_closed_tunnel_keeps_the_other_direction() {
    let address = target(|mut stream| {
        let head = read_head(&mut stream);
        let _ = stream.write_all(SWITCH);
        if head.contains("/client-first") {
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all);
            let _ = stream.write_all(&all);
        } else if head.contains("/target-first") {
            let _ = stream.write_all(b"all I say");
            let _ = stream.shutdown(Shutdown::Write);
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all);
            assert_eq!(all, b"heard", "what the client sent after the target's end");
        }
    });
    let world = world(address);
    let open = |path: &str| {
        let mut visitor = Visitor::of(world.address());
        visitor.send(&HANDSHAKE.replace("/ws", path));
        assert_eq!(visitor.read_answer(false).status, 101);
        visitor
    };
    let mut first = open("/client-first");
    first.stream().write_all(b"last words").unwrap();
    first.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(first.said(10), "last words");
    assert!(first.sees_close());
    let mut second = open("/target-first");
    assert_eq!(second.said(9), "all I say");
    assert!(second.sees_close());
    second.stream().write_all(b"heard").unwrap();
    second.stream().shutdown(Shutdown::Write).unwrap();
    until("the tunnels are over", || (in_flight(&world) == 0).then_some(()));
    for uri in ["/client-first", "/target-first"] {
        let record = world.record(|record| record["uri"] == uri);
        assert_eq!(record["error_reason"], serde_json::Value::Null, "{uri}");
    }
}

#[test]
fn a_reset_of_either_side_frees_both() {
    let origin = Origin::scripted(|request, stream| {
        let _ = stream.write_all(SWITCH);
        if request.path() == "/target-resets" {
            return Then::Reset;
        }
        let _ = stream.read(&mut [0; 1]);
        Then::Close
    });
    let world = World::new(&[&origin], "", "");
    let open = |path: &str| {
        let mut visitor = Visitor::of(world.address());
        visitor.send(&HANDSHAKE.replace("/ws", path));
        assert_eq!(visitor.read_answer(false).status, 101);
        visitor
    };
    let mut first = open("/client-resets");
    socket2::SockRef::from(&*first.stream()).set_linger(Some(Duration::ZERO)).unwrap();
    first.leave();
    assert!(open("/target-resets").sees_close());
    for uri in ["/client-resets", "/target-resets"] {
        let record = world.record(|record| record["uri"] == uri);
        assert_eq!(record["error_reason"], "tunnel_broke_off", "{uri}");
    }
    until("both sides are freed", || (in_flight(&world) + origin.open() as u32 == 0).then_some(()));
}

/// Responds to a handshake with its name, and repeats the bytes of the tunnel.
fn speaking(name: &'static str) -> Origin {
    Origin::scripted(move |_, stream| {
        let _ = stream.write_all(SWITCH);
        let _ = stream.write_all(name.as_bytes());
        let mut scratch = [0; 64];
        while let Ok(count @ 1..) = stream.read(&mut scratch) {
            let _ = stream.write_all(&scratch[..count]);
        }
        Then::Close
    })
}

/// Opens a tunnel. Returns the name of the target at its other end.
fn open(visitor: &mut Visitor) -> String {
    visitor.leave();
    let cookie = visitor.jar.get("AWSALB").map(|value| format!("Cookie: AWSALB={value}\r\n"));
    let fields = format!("Host: a\r\n{}", cookie.unwrap_or_default());
    visitor.send(&HANDSHAKE.replace("Host: a\r\n", &fields));
    let answer = visitor.read_answer(false);
    assert_eq!(answer.status, 101);
    visitor.said(1)
}

#[test]
fn a_client_with_the_cookie_of_a_101_reaches_the_same_target() {
    let (a, b) = (speaking("a"), speaking("b"));
    let world = World::new(&[&a, &b], "debug_headers = true", "");
    let mut visitor = Visitor::of(world.address());
    let home = open(&mut visitor);
    for _ in 0..6 {
        assert_eq!(open(&mut visitor), home);
    }
    let met: String = (0..6).map(|_| open(&mut Visitor::of(world.address()))).collect();
    assert!(met.contains('a') && met.contains('b'), "{met}");
}

#[test]
fn a_tunnel_stays_with_a_target_that_turns_unhealthy() {
    let (a, b) = (speaking("a"), speaking("b"));
    let fast = "health = { interval = \"200ms\", unhealthy_threshold = 2 }";
    let world = World::new(&[&a, &b], "", fast);
    let mut visitor = Visitor::of(world.address());
    let home = open(&mut visitor);
    let (at, origin) = if home == "a" { (0, &a) } else { (1, &b) };
    origin.set_healthy(false);
    until("it is down", || {
        (world.availability(at).health == stayput::testing::model::live::Health::Unhealthy)
            .then_some(())
    });
    visitor.stream().write_all(b"still there?").unwrap();
    assert_eq!(visitor.said(12), "still there?");
    assert_ne!(open(&mut visitor), home, "a new one goes elsewhere");
}
