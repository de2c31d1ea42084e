//! HTTP/2 clients: what crosses, and what ends a stream, a connection or a WebSocket.

use crate::support::http2::{Http2, reset};
use crate::support::origin::{Heard, Then};
use crate::support::token::{minted, now, pinned};
use crate::support::{Origin, Visitor, World, until};
use bytes::Bytes;
use data_encoding::BASE64;
use h2::Reason;
use h2::ext::Protocol;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use sha1::{Digest, Sha1};
use stayput::testing::policy::affinity::token::Kind;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const NO_CHECKS: &str =
    "health = { protocol = \"tcp\", interval = \"300s\", fast_interval = \"300s\" }";

fn world(origin: &Origin, listener: &str) -> World {
    World::new(&[origin], listener, NO_CHECKS)
}

#[test]
fn a_browser_with_ninety_cookie_fields_keeps_its_pin() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let world = World::new(&[&a, &b], "debug_headers = true\nlimits = { headers = 20 }", NO_CHECKS);
    let client = Http2::to(world.address());
    let first = client.get("/");
    let pin = first.pin().unwrap();
    // As many cookie parts as the bound in bytes allows, and one more: name, value and 32 bytes
    // each.
    let served = |count: usize| {
        let crumb =
            |head: http::request::Builder, nth| head.header("cookie", format!("c{nth:02}=x"));
        let head = Http2::head("/cart").header("cookie", format!("AWSALB={pin}"));
        client.send((0..count).fold(head, crumb)).unwrap()
    };
    let again = served(90);
    assert_eq!(again.status, 200);
    assert_eq!(again.field("x-stayput-verdict"), Some("hit"));
    assert_eq!(again.text(), first.text());
    let origin = if first.text() == "a" { &a } else { &b };
    let heard = origin.heard().pop().unwrap();
    let cookie = heard.field("cookie").unwrap();
    assert_eq!(cookie.matches("; ").count(), 90);
    assert!(cookie.starts_with(&format!("AWSALB={pin}; c00=x; c01=x; ")), "{cookie}");
    let room = 65_536 - "cookie".len() - "AWSALB=".len() - pin.len() - 32;
    let most = room / ("cookie".len() + "c00=x".len() + 32);
    assert_eq!(served(most + 1).status, 431);
    assert_eq!(served(900).status, 200);
    // Other fields are counted one by one.
    let many = (0..21).fold(Http2::head("/"), |head, nth| head.header(format!("x-{nth}"), "1"));
    assert_eq!(client.send(many).unwrap().status, 431);
}

fn answer(stream: &mut TcpStream, body: &str) -> Then {
    let length = body.len();
    let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
    Then::KeepAlive
}

#[test]
fn cookie_parts_reach_the_target_as_one_and_keep_the_pin() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let world = World::new(&[&a, &b], "debug_headers = true", NO_CHECKS);
    let client = Http2::to(world.address());
    let first = client.get("/cart");
    let pin = first.pin().unwrap();
    assert_eq!(first.field("x-stayput-verdict"), Some("new"));
    let other = Http2::to(world.address());
    for client in [&client, &other, &client] {
        let head = Http2::head("/cart?x=1").header("cookie", "theme=dark");
        let head = head.header("cookie", format!("AWSALB={pin}")).header("cookie", "lang=en");
        let again = client.send(head).unwrap();
        assert_eq!(again.field("x-stayput-verdict"), Some("hit"));
        assert_eq!(again.text(), first.text());
    }
    let origin = if first.text() == "a" { &a } else { &b };
    let heard = origin.heard().pop().unwrap();
    assert!(heard.head.starts_with("GET /cart?x=1 HTTP/1.1\r\n"), "{}", heard.head);
    assert_eq!(heard.field("cookie"), Some(format!("theme=dark; AWSALB={pin}; lang=en")));
    assert_eq!(heard.head.matches("cookie:").count(), 1);
    assert_eq!(heard.field("host").as_deref(), Some("shop.example"));
    assert_eq!(heard.field("x-forwarded-proto").as_deref(), Some("http"));
    assert!(!heard.head.contains("\r\n:"), "{}", heard.head);
    // A pin made over HTTP/2 holds over HTTP/1.1.
    let mut visitor = Visitor::of(world.address());
    visitor.send(&format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: AWSALB={pin}\r\n\r\n"));
    assert_eq!(visitor.read_answer(false).body, first.text());
    let record = world.record(|record| record["version"] == "HTTP/2.0");
    assert_eq!((&record["type"], &record["host"]), (&"h2".into(), &"shop.example".into()));
}

#[test]
fn a_slow_stream_delays_no_other_stream() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let origin = Origin::scripted(move |request, stream| {
        if request.path() == "/slow" {
            wait.lock().unwrap().recv().unwrap();
        }
        answer(stream, request.path())
    });
    let world = world(&origin, "");
    let client = Http2::to(world.address());
    let slow = client.ask(Http2::head("/slow"), true).unwrap();
    until("the slow one is under way", || (!origin.heard().is_empty()).then_some(()));
    let asked: Vec<_> =
        (0..50).map(|n| client.ask(Http2::head(&format!("/{n}")), true).unwrap()).collect();
    for (n, asked) in asked.into_iter().enumerate() {
        assert_eq!(client.reply(asked).unwrap().text(), format!("/{n}"));
    }
    go.send(()).unwrap();
    assert_eq!(client.reply(slow).unwrap().text(), "/slow");
}

#[test]
fn bodies_and_trailers_cross_framed_as_http1_frames_them() {
    let origin = Origin::scripted(|request, stream| {
        let _ = stream.write_all(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum, set-cookie\r\n\r\n",
        );
        let body = &request.body;
        let _ = write!(stream, "{:x}\r\n", body.len());
        let _ = stream.write_all(body);
        let _ = stream.write_all(b"\r\n0\r\nX-Sum: 7\r\nSet-Cookie: a=b\r\n\r\n");
        Then::KeepAlive
    });
    let world = world(&origin, "");
    let client = Http2::to(world.address());
    let body = vec![b'x'; 3 << 20];
    for (length, trailers) in [(Some(body.len()), false), (None, true), (None, false)] {
        let mut head = Request::post("http://shop.example/").header("te", "trailers");
        if let Some(length) = length {
            head = head.header("content-length", length);
        }
        if trailers {
            head = head.header("trailer", "x-check");
        }
        let mut asked = client.ask(head, false).unwrap();
        client.wait(async {
            let mut rest = Bytes::from(body.clone());
            while !rest.is_empty() {
                asked.body.reserve_capacity(rest.len());
                if asked.body.capacity() == 0 {
                    let room = std::future::poll_fn(|cx| asked.body.poll_capacity(cx)).await;
                    room.unwrap().unwrap();
                }
                let room = asked.body.capacity().min(rest.len());
                asked.body.send_data(rest.split_to(room), false).unwrap();
            }
            match trailers {
                true => {
                    let mut fields = HeaderMap::new();
                    fields.insert("x-check", HeaderValue::from_static("1"));
                    fields.insert("x-unnamed", HeaderValue::from_static("2"));
                    asked.body.send_trailers(fields).unwrap();
                }
                false => asked.body.send_data(Bytes::new(), true).unwrap(),
            }
        });
        let reply = client.reply(asked).unwrap();
        assert!(reply.body == body);
        let trailers_back = reply.trailers.unwrap();
        assert_eq!(trailers_back.get("x-sum").unwrap(), "7");
        assert!(!trailers_back.contains_key("set-cookie"));
        let heard = origin.heard().pop().unwrap();
        assert!(heard.body == body);
        assert_eq!(heard.field("content-length").is_some(), length.is_some());
        assert_eq!(heard.field("transfer-encoding").is_some(), length.is_none());
        assert_eq!(heard.head.contains("x-check: 1"), trailers, "{}", heard.head);
        assert!(!heard.head.contains("x-unnamed"));
    }
}

#[test]
fn a_stream_with_expect_gets_100_once_its_body_is_wanted() {
    let origin = Origin::scripted(|request, stream| {
        assert_eq!(request.field("expect"), None);
        answer(stream, std::str::from_utf8(&request.body).unwrap())
    });
    let world = world(&origin, "limits = { body_bytes = \"1KiB\" }");
    let client = Http2::to(world.address());
    let head = |length: usize| {
        let head = Request::post("http://shop.example/").header("expect", "100-continue");
        head.header("content-length", length)
    };
    let mut asked = client.ask(head(5), false).unwrap();
    let interim = client.wait(asked.interim()).unwrap();
    assert_eq!(interim, StatusCode::CONTINUE);
    asked.body.send_data("hello".into(), true).unwrap();
    assert_eq!(client.reply(asked).unwrap().text(), "hello");
    let refused = client.ask(head(2_000), false).unwrap();
    assert_eq!(client.reply(refused).unwrap().status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(origin.heard().len(), 1);
}

#[test]
fn responses_without_a_body_end_with_their_head() {
    let origin = Origin::scripted(|request, stream| {
        let head: &[u8] = match request.path() {
            "/none" => b"HTTP/1.1 204 No Content\r\n\r\n",
            "/same" => b"HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n",
            "/empty" => b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            _ => b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: 5\r\nContent-Length: 70\r\n\r\n",
        };
        let _ = stream.write_all(head);
        Then::KeepAlive
    });
    let group = format!(
        "{NO_CHECKS}\n[[rule]]\npaths = [\"/fixed\"]\nrespond = {{ status = 404, body = \"no\" }}"
    );
    let world = World::new(&[&origin], "", &group);
    let client = Http2::to(world.address());
    for (method, path, status, length) in [
        ("GET", "/none", 204, None),
        ("GET", "/same", 304, None),
        ("GET", "/empty", 200, Some("0")),
        ("HEAD", "/head", 200, Some("70")),
        ("HEAD", "/fixed", 404, None),
    ] {
        let url = format!("http://shop.example{path}");
        let reply = client.send(Request::builder().method(method).uri(url)).unwrap();
        assert_eq!((reply.status.as_u16(), reply.body.len()), (status, 0), "{method} {path}");
        assert_eq!(reply.field("content-length"), length, "{method} {path}");
        for gone in ["connection", "keep-alive", "transfer-encoding"] {
            assert_eq!(reply.field(gone), None);
        }
        assert!(reply.field("date").is_some());
    }
    let fixed = client.get("/fixed");
    assert_eq!((fixed.text(), fixed.field("content-length")), ("no", Some("2")));
}

#[test]
fn a_stream_time_out_ends_no_other_stream() {
    let origin = Origin::scripted(|request, stream| match request.path() {
        "/silent" => {
            let _ = stream.read(&mut [0]);
            Then::Close
        }
        "/half" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
            let _ = stream.read(&mut [0]);
            Then::Close
        }
        "/broken" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
            Then::Close
        }
        _ => answer(stream, "fine"),
    });
    let group = format!("upstream = {{ timeouts = {{ response = \"300ms\" }} }}\n{NO_CHECKS}");
    let world = World::new(
        &[&origin],
        "timeouts = { idle = \"1s\" }\nlimits = { body_bytes = \"1KiB\" }",
        &group,
    );
    let client = Http2::to(world.address());
    let silent = client.ask(Http2::head("/silent"), true).unwrap();
    assert_eq!(client.reply(silent).unwrap().status, StatusCode::GATEWAY_TIMEOUT);
    let upload = Request::post("http://shop.example/upload");
    let stalled = client.ask(upload, false).unwrap();
    assert_eq!(client.reply(stalled).unwrap().status, StatusCode::REQUEST_TIMEOUT);
    for (path, reason) in [("/half", Reason::CANCEL), ("/broken", Reason::INTERNAL_ERROR)] {
        let asked = client.ask(Http2::head(path), true).unwrap();
        let error = client.reply(asked).unwrap_err();
        assert_eq!(reset(&error), Some(reason), "{path}: {error}");
    }
    let large = Request::post("http://shop.example/").header("content-length", 2_000);
    let large = client.ask(large, false).unwrap();
    assert_eq!(client.reply(large).unwrap().status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(client.get("/").text(), "fine", "the connection goes on");
    for (uri, status, why) in [
        ("/silent", 504, "response_timeout"),
        ("/upload", 408, "request_timeout"),
        ("/half", 200, "stalled"),
        ("/broken", 200, "target_broke_off"),
    ] {
        let record = world.record(|record| record["uri"] == uri);
        assert_eq!((&record["status"], &record["error_reason"]), (&status.into(), &why.into()));
    }
}

#[test]
fn a_cancelled_request_is_cancelled_at_its_target() {
    let origin = Origin::scripted(|_, stream| {
        let _ = stream.read(&mut [0]);
        Then::Close
    });
    let world = world(&origin, "");
    let client = Http2::to(world.address());
    let asked = client.ask(Http2::head("/gone"), true).unwrap();
    until("the target has it", || (origin.open() == 1).then_some(()));
    drop(asked);
    until("the target is left", || (origin.open() == 0).then_some(()));
    let record = world.record(|record| record["uri"] == "/gone");
    assert_eq!((&record["status"], &record["error_reason"]), (&460.into(), &"client_gone".into()));
    let asked = client.ask(Http2::head("/left"), true).unwrap();
    until("the target has it", || (origin.open() == 1).then_some(()));
    drop((asked, client));
    until("the target is left", || (origin.open() == 0).then_some(()));
    assert_eq!(world.record(|record| record["uri"] == "/left")["status"], 460);
}

#[test]
fn no_more_streams_than_announced_reach_targets_at_once() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let origin = Origin::scripted(move |_, stream| {
        wait.lock().unwrap().recv().unwrap();
        answer(stream, "done")
    });
    let world = world(&origin, "limits = { streams = 3 }");
    let client = Http2::to(world.address());
    let asked: Vec<_> = (0..3).map(|_| client.ask(Http2::head("/"), true).unwrap()).collect();
    let fourth = client.ask(Http2::head("/"), true).unwrap();
    until("three are under way", || (origin.open() == 3).then_some(()));
    for _ in 0..4 {
        go.send(()).unwrap();
    }
    for asked in asked.into_iter().chain([fourth]) {
        assert_eq!(client.reply(asked).unwrap().text(), "done");
    }
    assert_eq!(origin.heard().len(), 4);
}

#[test]
fn a_draining_process_finishes_its_streams_and_takes_no_others() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let origin = Origin::scripted(move |_, stream| {
        wait.lock().unwrap().recv().unwrap();
        answer(stream, "whole")
    });
    let mut world = world(&origin, "");
    let address = world.address();
    let (busy, idle) = (Http2::to(address), Http2::to(address));
    let asked = busy.ask(Http2::head("/"), true).unwrap();
    until("it is under way", || (!origin.heard().is_empty()).then_some(()));
    let finishing = std::thread::spawn(move || {
        busy.until_refused();
        go.send(()).unwrap();
        let reply = busy.reply(asked).unwrap();
        busy.closed().unwrap();
        reply.text().to_owned()
    });
    assert_eq!(world.drain(), 0, "nothing was cut");
    assert_eq!(finishing.join().unwrap(), "whole");
    idle.closed().unwrap();
}

#[test]
fn a_connection_past_its_lifetime_closes_without_losing_a_request() {
    let origin = Origin::named("a");
    let world = world(&origin, "timeouts = { max_lifetime = \"1s\" }");
    let client = Http2::to(world.address());
    let (mut asked, begun) = (0, Instant::now());
    while let Ok(request) = client.ask(Http2::head("/"), true) {
        assert!(begun.elapsed() < Duration::from_secs(10), "it is never renewed");
        assert_eq!(client.reply(request).unwrap().status, 200);
        asked += 1;
    }
    assert!(asked > 0);
    client.closed().unwrap();
}

#[test]
fn an_idle_connection_is_closed_and_one_with_a_stream_is_not() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let origin = Origin::scripted(move |_, stream| {
        wait.lock().unwrap().recv().unwrap();
        answer(stream, "late")
    });
    let world = world(&origin, "timeouts = { idle = \"1s\", header_read = \"1s\" }");
    let busy = Http2::to(world.address());
    let asked = busy.ask(Http2::head("/"), true).unwrap();
    Http2::to(world.address()).closed().unwrap();
    Http2::to(world.address()).closed().unwrap();
    go.send(()).unwrap();
    assert_eq!(busy.reply(asked).unwrap().text(), "late");
    busy.closed().unwrap();
}

fn accept(request: &Heard) -> String {
    let key = request.field("sec-websocket-key").unwrap_or_default();
    let guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    BASE64.encode(&Sha1::new().chain_update(key).chain_update(guid).finalize())
}

/// A WebSocket target that sends each byte back in upper case.
fn shouting() -> Origin {
    Origin::scripted(|request, stream| {
        let accept = accept(request);
        let _ = write!(
            stream,
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\nwelcome "
        );
        let mut bytes = [0; 64];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            let _ = stream.write_all(&bytes[..count].to_ascii_uppercase());
        }
        let _ = stream.write_all(b" bye");
        Then::Close
    })
}

fn websocket(path: &str) -> http::request::Builder {
    Request::connect(format!("http://shop.example{path}"))
        .extension(Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat")
}

#[test]
fn a_websocket_over_a_stream_sticks_and_is_one_record() {
    let (a, b) = (shouting(), shouting());
    let world = World::new(&[&a, &b], "debug_headers = true", NO_CHECKS);
    let client = Http2::to(world.address());
    let mut pin: Option<String> = None;
    let mut served = None;
    for round in 0..3 {
        let mut head = websocket("/chat");
        if let Some(pin) = &pin {
            head = head.header("cookie", format!("AWSALB={pin}"));
        }
        let (response, mut up) = client.begun(client.ask(head, false).unwrap()).unwrap();
        assert_eq!(response.status(), 200);
        let headers = response.headers().clone();
        assert_eq!(headers.get("sec-websocket-protocol").unwrap(), "chat");
        for gone in ["upgrade", "connection", "sec-websocket-accept"] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
        let target = headers.get("x-stayput-target").cloned();
        assert_eq!(*served.get_or_insert(target.clone()), target, "round {round}");
        let line = headers.get("set-cookie").unwrap().to_str().unwrap();
        pin = line.strip_prefix("AWSALB=").map(|line| line.split(';').next().unwrap().to_owned());
        let mut down = response.into_body();
        let mut heard = Vec::new();
        client.wait(async {
            up.send_data("hello".into(), false).unwrap();
            while heard.len() < "welcome HELLO".len() {
                let data = down.data().await.unwrap().unwrap();
                down.flow_control().release_capacity(data.len()).unwrap();
                heard.extend_from_slice(&data);
            }
            // Half a close: the target can still send.
            up.send_data(Bytes::new(), true).unwrap();
            while let Some(data) = down.data().await {
                heard.extend_from_slice(&data.unwrap());
            }
        });
        assert_eq!(heard, b"welcome HELLO bye");
    }
    let heard = [a.heard(), b.heard()].concat().pop().unwrap();
    assert!(heard.head.starts_with("GET /chat HTTP/1.1\r\n"), "{}", heard.head);
    assert_eq!(heard.field("upgrade").as_deref(), Some("websocket"));
    assert_eq!(heard.field("connection").as_deref(), Some("Upgrade"));
    assert_eq!(heard.field("sec-websocket-version").as_deref(), Some("13"));
    let records = world.lines(3, |line| line.contains("\"/chat\""));
    for (round, record) in records.iter().enumerate() {
        let record: serde_json::Value = serde_json::from_str(record).unwrap();
        let sticky = if round == 0 { "new" } else { "hit" };
        assert_eq!(
            (&record["type"], &record["status"], &record["sticky"], &record["error_reason"]),
            (&"ws".into(), &101.into(), &sticky.into(), &serde_json::Value::Null)
        );
    }
}

#[test]
fn a_spilled_websocket_over_a_stream_moves_the_pin() {
    let (gone, b) = (Origin::refusing(), shouting());
    let world = World::new(&[&gone, &b], "debug_headers = true", NO_CHECKS);
    let home = minted(&world, Kind::Lb, "app", "a", now());
    let client = Http2::to(world.address());
    let head = websocket("/chat").header("cookie", format!("AWSALB={home}"));
    let (response, _up) = client.begun(client.ask(head, false).unwrap()).unwrap();
    let headers = response.headers();
    assert_eq!(headers.get("x-stayput-verdict").unwrap(), "spilled");
    let line = headers.get("set-cookie").unwrap().to_str().unwrap();
    let token = line.strip_prefix("AWSALB=").unwrap().split(';').next().unwrap();
    assert_eq!(pinned(&world, Kind::Lb, token, "app", &["a", "b"]), Some("b"));
}

#[test]
fn a_websocket_opens_only_with_the_accept_value_of_its_key() {
    let origin = Origin::scripted(|request, stream| {
        let text = match request.path() {
            "/lies" => {
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
            }
            "/refuses" => "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
            _ => {
                "HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n"
            }
        };
        let _ = stream.write_all(text.as_bytes());
        Then::KeepAlive
    });
    let world = world(&origin, "");
    let client = Http2::to(world.address());
    for (head, status) in [
        (websocket("/lies"), 502),
        (websocket("/refuses"), 403),
        (websocket("/old"), 426),
        (Request::connect("http://shop.example/").extension(Protocol::from_static("raw")), 405),
        (Request::connect("shop.example:443"), 405),
    ] {
        let mut asked = client.ask(head, false).unwrap();
        // Bytes before the response are never a request of their own.
        asked.body.send_data("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n".into(), false).unwrap();
        assert_eq!(client.reply(asked).unwrap().status.as_u16(), status);
    }
    assert_eq!(client.send(Http2::head("/plain")).unwrap().status, 426);
    let paths: Vec<_> = origin.heard().iter().map(|heard| heard.path().to_owned()).collect();
    assert_eq!(paths, ["/lies", "/refuses", "/old", "/plain"]);
}

#[test]
fn a_stalled_or_reset_tunnel_over_a_stream_frees_its_target() {
    let origin = shouting();
    let world = world(&origin, "timeouts = { idle = \"1s\" }");
    let client = Http2::to(world.address());
    let open = |path| client.begun(client.ask(websocket(path), false).unwrap()).unwrap();
    let (response, up) = open("/still");
    let mut down = response.into_body();
    let end = client.wait(async {
        loop {
            match down.data().await {
                Some(Ok(_)) => {}
                other => break other.map(|end| end.unwrap_err()),
            }
        }
    });
    assert!(end.is_some_and(|error| error.is_reset()));
    drop(up);
    assert_eq!(world.record(|record| record["uri"] == "/still")["error_reason"], "stalled");
    let both = open("/reset");
    until("the tunnel is there", || (origin.open() == 1).then_some(()));
    drop(both);
    until("the target is left", || (origin.open() == 0).then_some(()));
    world.record(|record| record["uri"] == "/reset");
}

#[test]
fn a_split_preface_begins_http2_and_other_first_bytes_do_not() {
    let origin = Origin::named("a");
    let world = world(&origin, "timeouts = { header_read = \"1s\" }");
    for first in ["P", "PR", "PRI", "PRI * HTTP/2.0\r\n\r"] {
        let mut socket = TcpStream::connect(world.address()).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        socket.write_all(first.as_bytes()).unwrap();
        socket.write_all(&preface.as_bytes()[first.len()..]).unwrap();
        socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
        let mut head = [0; 9];
        socket.read_exact(&mut head).unwrap();
        assert_eq!(head[3], 4, "SETTINGS come first after {first:?}");
    }
    for method in ["POST", "PUT", "PATCH", "PROPFIND"] {
        let mut visitor = Visitor::of(world.address());
        visitor.send(&method[..1]);
        visitor.send(&format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", &method[1..]));
        assert_eq!(visitor.read_answer(false).status, 200, "{method}");
    }
}

#[test]
fn a_connection_closes_after_ten_thousand_requests() {
    let origin = Origin::named("a");
    let rule = format!("{NO_CHECKS}\n[[rule]]\npaths = [\"/*\"]\nrespond = {{ status = 204 }}");
    let world = World::new(&[&origin], "", &rule);
    let client = Http2::to(world.address());
    let mut served = 0;
    loop {
        let asked: Result<Vec<_>, _> =
            (0..100).map(|_| client.ask(Http2::head("/"), true)).collect();
        let Ok(asked) = asked else { break };
        assert!(served < 10_200, "it is never renewed");
        for asked in asked {
            assert_eq!(client.reply(asked).unwrap().status, 204);
            served += 1;
        }
    }
    assert!((10_000..10_200).contains(&served), "{served}");
    client.closed().unwrap();
}
