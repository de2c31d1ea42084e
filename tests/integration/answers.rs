//! Framing of responses by targets, and the next request over their connection.

use crate::support::origin::Then;
use crate::support::{Origin, Visitor, World};
use std::io::{Read, Write};

#[test]
fn interim_responses_are_skipped_and_the_reason_is_kept() {
    let origin = Origin::saying(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 Fine By Me\r\nContent-Length: 2\r\n\r\nok",
        Then::KeepAlive,
    );
    let world = World::new(&[&origin], "", "");
    let mut visitor = Visitor::of(world.address());
    let answer = visitor.get("/");
    assert_eq!((answer.body.as_str(), answer.field("link")), ("ok", None));
    visitor.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut raw = String::new();
    visitor.stream().read_to_string(&mut raw).unwrap();
    assert!(raw.starts_with("HTTP/1.1 200 Fine By Me\r\n"), "{raw}");
}

#[test]
fn a_response_in_single_bytes_with_trailers_arrives_whole() {
    let origin = Origin::scripted(|_, stream| {
        stream.set_nodelay(true).unwrap();
        let text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3;a=b;c=\"d\"\r\nabc\r\n2 ;e\r\nde\r\n0;f\r\nX-Sum: 5\r\n\r\n";
        for byte in text {
            let _ = stream.write_all(&[*byte]);
        }
        Then::KeepAlive
    });
    let world = World::new(&[&origin], "", "");
    let mut visitor = Visitor::of(world.address());
    for _ in 0..3 {
        let answer = visitor.ask("GET", "/", &["TE: trailers", "Connection: TE"], "");
        assert_eq!((answer.body.as_str(), answer.whole), ("abcde", true));
        assert_eq!(answer.trailers, ["x-sum: 5"]);
    }
}

#[test]
fn only_a_connection_whose_response_ended_cleanly_is_reused() {
    for (method, answer, body, reused) in [
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", true),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "", true),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "", true),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "ok",
            false,
        ),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 no", "ok", false),
        ("GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", false),
    ] {
        let origin = Origin::saying(answer, Then::KeepAlive);
        let world = World::new(&[&origin], "", "");
        let mut visitor = Visitor::of(world.address());
        for _ in 0..3 {
            let got = visitor.ask(method, "/", &[], "");
            assert_eq!((got.body.as_str(), got.whole), (body, true), "{answer:?}");
        }
        let seen: Vec<_> = origin.heard().iter().map(|heard| heard.nth).collect();
        assert_eq!(seen, if reused { [0, 1, 2] } else { [0, 0, 0] }, "{answer:?}");
    }
}

#[test]
fn an_http_1_0_response_ends_with_its_connection() {
    let origin = Origin::saying("HTTP/1.0 200 OK\r\n\r\nuntil the end", Then::Close);
    let world = World::new(&[&origin], "", "");
    let answer = Visitor::of(world.address()).get("/");
    assert_eq!((answer.body.as_str(), answer.whole), ("until the end", true));
}

#[test]
fn a_close_inside_a_chunk_cuts_the_response_for_the_client() {
    let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf";
    let origin = Origin::saying(text, Then::Close);
    let world = World::new(&[&origin], "", "");
    assert!(!Visitor::of(world.address()).get("/").whole);
    let record = world.record(|record| record["uri"] == "/");
    assert_eq!(record["error_reason"], "target_broke_off");
}

#[test]
fn bytes_that_follow_the_101_in_one_read_reach_the_client() {
    let origin = Origin::scripted(|_, stream| {
        let _ = stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello",
        );
        Then::Close
    });
    let world = World::new(&[&origin], "", "");
    let mut visitor = Visitor::of(world.address());
    visitor.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n");
    let mut raw = Vec::new();
    while !raw.ends_with(b"\r\n\r\nhello") {
        let mut byte = [0];
        visitor.stream().read_exact(&mut byte).unwrap();
        raw.extend_from_slice(&byte);
    }
}
