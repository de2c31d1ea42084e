//! Requests and responses: what crosses the balancer unchanged, and what must not cross.

use crate::support::origin::Then;
use crate::support::{Origin, Visitor, World, until};
use std::io::{Read, Write};

fn echo_body() -> Origin {
    Origin::scripted(|request, stream| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len());
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(&request.body);
        Then::KeepAlive
    })
}

#[test]
fn forwarded_fields_are_added_and_hop_by_hop_fields_removed() {
    let origin = Origin::named("a");
    let world = World::new(&[&origin], "", "");
    Visitor::of(world.address()).ask(
        "GET",
        "/a?b=c",
        &[
            "X-Forwarded-For: 6.6.6.6",
            "X-Forwarded-Proto: https",
            "X-Real-IP: 6.6.6.6",
            "X-Stayput-Verdict: hit",
            "Connection: keep-alive, X-One",
            "Connection: x-two",
            "X-One: 1",
            "X-Two: 2",
            "X-Kept: 3",
            "Keep-Alive: timeout=5",
        ],
        "",
    );
    let heard = origin.heard().remove(0);
    assert!(heard.head.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{}", heard.head);
    assert_eq!(heard.field("host").as_deref(), Some("shop.example"));
    assert_eq!(heard.field("x-forwarded-for").as_deref(), Some("6.6.6.6, 127.0.0.1"));
    assert_eq!(heard.field("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(heard.field("x-forwarded-port"), Some(world.address().port().to_string()));
    assert_eq!(heard.field("x-kept").as_deref(), Some("3"));
    let trace = heard.field("x-amzn-trace-id").unwrap();
    assert!(trace.starts_with("Root=1-") && trace.len() == 40, "{trace}");
    for gone in ["x-real-ip", "x-stayput-verdict", "x-one", "x-two", "keep-alive", "connection"] {
        assert_eq!(heard.field(gone), None, "{gone}");
    }
    let record = world.record(|record| record["uri"] == "/a?b=c");
    assert_eq!(record["trace_id"], trace);
}

#[test]
fn bodies_pass_both_ways_with_lengths_and_in_chunks() {
    let origin = echo_body();
    let world = World::new(&[&origin], "", "");
    let mut visitor = Visitor::of(world.address());
    let long = "0123456789".repeat(50_000);
    assert_eq!(visitor.ask("POST", "/", &[], &long).body, long);
    visitor.send("POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n");
    assert_eq!(visitor.read_answer(false).body, "abcdefg");
    assert_eq!(visitor.ask("PUT", "/", &[], "x").body, "x");
}

#[test]
fn chunked_and_close_delimited_responses_arrive_whole() {
    let chunked = Origin::saying(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Content-Length\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 5\r\nContent-Length: 9\r\n\r\n",
        Then::KeepAlive,
    );
    let world = World::new(&[&chunked], "", "");
    let answer =
        Visitor::of(world.address()).ask("GET", "/", &["TE: trailers", "Connection: TE"], "");
    assert_eq!((answer.body.as_str(), answer.whole), ("hello", true));
    assert_eq!(answer.trailers, ["x-sum: 5"]);
    let unasked = Visitor::of(world.address()).get("/");
    assert_eq!((unasked.body.as_str(), unasked.trailers.len()), ("hello", 0));

    let closing =
        Origin::saying("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end", Then::Close);
    let world = World::new(&[&closing], "", "");
    let answer = Visitor::of(world.address()).get("/");
    assert_eq!((answer.body.as_str(), answer.whole), ("until the end", true));
}

#[test]
fn head_204_and_304_have_no_body_and_the_connection_goes_on() {
    for (method, answer) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"),
    ] {
        let origin = Origin::saying(answer, Then::KeepAlive);
        let world = World::new(&[&origin], "", "");
        let mut visitor = Visitor::of(world.address());
        for _ in 0..3 {
            let got = visitor.ask(method, "/", &[], "");
            assert!(got.whole && got.body.is_empty(), "{method} {answer}");
            if method == "HEAD" {
                assert_eq!(got.field("content-length"), Some("5"));
            }
        }
    }
}

#[test]
fn expect_100_continue_is_answered_here_and_not_forwarded() {
    let origin = echo_body();
    let world = World::new(&[&origin], "", "");
    let mut visitor = Visitor::of(world.address());
    visitor.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_eq!(visitor.read_answer(false).status, 100);
    visitor.send("ok");
    assert_eq!(visitor.read_answer(false).body, "ok");
    assert_eq!(origin.heard()[0].field("expect"), None);
}

#[test]
fn an_http_1_0_client_gets_an_unchunked_response_and_a_close() {
    let origin = Origin::saying(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Then::KeepAlive,
    );
    let world = World::new(&[&origin], "", "");
    let mut visitor = Visitor::of(world.address());
    visitor.send("GET /old HTTP/1.0\r\n\r\n");
    let answer = visitor.read_answer(false);
    assert_eq!((answer.status, answer.body.as_str()), (200, "abc"));
    assert_eq!(answer.field("transfer-encoding"), None);
    let heard = origin.heard().remove(0);
    assert!(heard.head.starts_with("GET /old HTTP/1.1\r\n"));
    assert_eq!(heard.field("host"), Some(world.address().to_string()));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::scripted(|request, stream| {
        let path = request.path().to_owned();
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len());
        let _ = stream.write_all(text.as_bytes());
        Then::KeepAlive
    });
    let world = World::new(&[&origin], "", "");
    let mut visitor = Visitor::of(world.address());
    let one = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    visitor.send(&[one("/1"), one("/2"), one("/3")].concat());
    let bodies: Vec<_> = (0..3).map(|_| visitor.read_answer(false).body).collect();
    assert_eq!(bodies, ["/1", "/2", "/3"]);
}

#[test]
fn an_absolute_form_request_is_forwarded_in_origin_form() {
    let origin = Origin::named("a");
    let world = World::new(&[&origin], "", "");
    let mut visitor = Visitor::of(world.address());
    visitor.send("GET http://other.example/x?y HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    assert_eq!(visitor.read_answer(false).status, 200);
    let heard = origin.heard().remove(0);
    assert!(heard.head.starts_with("GET /x?y HTTP/1.1\r\n"), "{}", heard.head);
    assert_eq!(heard.field("host").as_deref(), Some("other.example"));
    visitor.send("GET http://other.example?x=1 HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    assert_eq!(visitor.read_answer(false).status, 200);
    let heard = origin.heard().remove(1);
    assert!(heard.head.starts_with("GET /?x=1 HTTP/1.1\r\n"), "{}", heard.head);
}

#[test]
fn cookie_lines_reach_the_target_joined_into_one() {
    let origin = Origin::named("a");
    let world = World::new(&[&origin], "", "");
    Visitor::of(world.address()).ask("GET", "/", &["Cookie: a=1", "Cookie: b=2"], "");
    assert_eq!(origin.heard()[0].field("cookie").as_deref(), Some("a=1; b=2"));
}

#[test]
fn an_early_response_reaches_the_client_and_both_sides_close() {
    let origin = Origin::scripted(|_, _| Then::KeepAlive);
    drop(origin);
    let early = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = early.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in early.incoming() {
            let mut stream = stream.unwrap();
            // Sends the response at the end of the head, before the body is read.
            let mut head = Vec::new();
            while !head.windows(4).any(|window| window == b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap_or(0) == 0 {
                    break;
                }
                head.push(byte[0]);
            }
            let _ = stream.write_all(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno");
            let _ = stream.read(&mut [0; 1024]);
        }
    });
    let world = World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\ntargets = [\"{address}\"]\nhealth = {{ protocol = \"tcp\" }}\n"
    ));
    let mut visitor = Visitor::of(world.address());
    visitor.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nbegun");
    let answer = visitor.read_answer(false);
    assert_eq!((answer.status, answer.body.as_str()), (403, "no"));
    assert_eq!(answer.field("connection"), Some("close"));
}

#[test]
fn a_client_that_reads_late_gets_a_response_that_began_early() {
    // Far more than the sockets and buffers on the way hold.
    const BOTH_WAYS: usize = 48 << 20;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                // The target reads the request only after the client has stopped reading the
                // response.
                let (stuck, is_stuck) = std::sync::mpsc::channel();
                let mut reading = stream.try_clone().unwrap();
                let read = std::thread::spawn(move || {
                    let _ = is_stuck.recv();
                    let _ = std::io::copy(&mut reading, &mut std::io::sink());
                });
                let mut answer =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {BOTH_WAYS}\r\n\r\n").into_bytes();
                answer.resize(answer.len() + BOTH_WAYS, b'a');
                let mut left = &answer[..];
                stream.set_write_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
                while !left.is_empty() {
                    match stream.write(left) {
                        Ok(count) => left = &left[count..],
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                            let _ = stuck.send(());
                        }
                        Err(_) => return,
                    }
                }
                drop(stuck);
                let _ = read.join();
            });
        }
    });
    let world = World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\ntargets = [\"{address}\"]\n\
         health = {{ protocol = \"tcp\", interval = \"300s\" }}\n"
    ));
    let mut client = std::net::TcpStream::connect(world.address()).unwrap();
    client.set_write_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    client.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {BOTH_WAYS}\r\n\r\n");
    client.write_all(head.as_bytes()).unwrap();
    client.write_all(&vec![b'b'; BOTH_WAYS]).expect("all of the request is taken");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.len() > BOTH_WAYS);
}

#[test]
fn an_idle_tunnel_is_cut() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 4_096]);
                let _ = stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
                let _ = stream.read_to_end(&mut Vec::new());
            });
        }
    });
    let world = World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\ntimeouts = {{ idle = \"1s\" }}\n\
         [target_group.app]\ntargets = [\"{address}\"]\nhealth = {{ protocol = \"tcp\", interval = \"300s\" }}\n"
    ));
    let mut visitor = Visitor::of(world.address());
    visitor.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n");
    assert_eq!(visitor.read_answer(false).status, 101);
    assert!(visitor.sees_close(), "the balancer cuts the silent tunnel");
    let record =
        world.record(|record| record["type"] == "ws" && record["error_reason"] == "stalled");
    assert_eq!(record["status"], 101);
}

#[test]
fn a_websocket_handshake_becomes_a_tunnel_with_a_pin_and_one_record() {
    let origin = Origin::scripted(|request, stream| {
        assert_eq!(request.field("upgrade").as_deref(), Some("websocket"));
        assert_eq!(
            request.field("connection").map(|text| text.to_ascii_lowercase()).as_deref(),
            Some("upgrade")
        );
        let _ = stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello",
        );
        let mut scratch = [0; 16];
        while let Ok(count @ 1..) = stream.read(&mut scratch) {
            let _ = stream.write_all(&scratch[..count]);
        }
        Then::Close
    });
    let world = World::new(&[&origin], "", "");
    let mut visitor = Visitor::of(world.address());
    visitor.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n");
    let answer = visitor.read_answer(false);
    assert_eq!(answer.status, 101);
    assert_eq!(answer.field("upgrade"), Some("websocket"));
    assert!(visitor.jar.contains_key("AWSALB"), "the 101 carries the pin");
    visitor.stream().write_all(b"ping").unwrap();
    let mut back = [0; 9];
    let already = answer.body.len();
    visitor.stream().read_exact(&mut back[already..][..4]).unwrap();
    visitor.leave();
    let record = world.record(|record| record["type"] == "ws");
    assert_eq!((&record["status"], &record["sticky"]), (&101.into(), &"new".into()));
    until("the tunnel's connection is closed", || (origin.open() == 0).then_some(()));
}

#[test]
fn connections_to_a_target_are_reused_and_bounded() {
    let origin = Origin::named("a");
    let world = World::new(&[&origin], "", "upstream = { max_connections = 1 }");
    let mut visitors: Vec<_> = (0..8).map(|_| Visitor::of(world.address())).collect();
    for _ in 0..5 {
        assert!(visitors.iter_mut().all(|visitor| visitor.get("/").body == "a"));
        assert!(origin.open() <= 2, "one for traffic, one for a check");
    }
}

#[test]
fn too_large_bodies_get_413_and_too_large_heads_431() {
    let origin = echo_body();
    let world =
        World::new(&[&origin], "limits = { body_bytes = \"10B\", header_bytes = \"8KiB\" }", "");
    let announced = Visitor::of(world.address()).ask("POST", "/", &[], "01234567890");
    assert_eq!(announced.status, 413);
    let mut visitor = Visitor::of(world.address());
    visitor.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n012345678\r\n9\r\n012345678\r\n0\r\n\r\n");
    assert_eq!(visitor.read_answer(false).status, 413);
    let long = format!("X-Long: {}", "x".repeat(20_000));
    assert_eq!(Visitor::of(world.address()).ask("GET", "/", &[&long], "").status, 431);
    let mut visitor = Visitor::of(world.address());
    visitor.send(&format!("HEAD / HTTP/1.1\r\nHost: a\r\n{long}\r\n\r\n"));
    let mut answer = String::new();
    visitor.stream().read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 431 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    let many: Vec<String> = (0..101).map(|at| format!("X-{at}: 1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(Visitor::of(world.address()).ask("GET", "/", &many, "").status, 431);
}
