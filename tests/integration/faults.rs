//! Targets that refuse, hang, reset and send garbage; clients that stall, send garbage and leave.

use crate::support::origin::Then;
use crate::support::{Origin, Visitor, World, until};
use std::io::Write;

const NO_CHECKS: &str = "health = { protocol = \"tcp\", interval = \"300s\", fast_interval = \"300s\", passive = { connect_failures = 0 } }";

#[test]
fn a_refusing_target_is_502_or_another_target_serves() {
    let gone = Origin::refusing();
    let alone = World::new(&[&gone], "", NO_CHECKS);
    let answer = Visitor::of(alone.address()).get("/");
    assert_eq!(answer.status, 502);
    assert!(answer.body.contains("502 Bad Gateway") && !answer.body.contains("127.0.0.1"));
    let record = alone.record(|record| record["status"] == 502);
    assert_eq!(record["error_reason"], "target_refused");
    let other = Origin::named("b");
    let world = World::new(&[&gone, &other], "", NO_CHECKS);
    for _ in 0..6 {
        assert_eq!(Visitor::of(world.address()).ask("POST", "/", &[], "x").body, "b");
    }
}

#[test]
fn a_target_that_hangs_is_a_504_without_a_retry() {
    let origin = Origin::scripted(|request, stream| {
        if request.path() == "/well" {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell");
            return Then::KeepAlive;
        }
        let mut scratch = [0; 1];
        let _ = std::io::Read::read(stream, &mut scratch);
        Then::Close
    });
    let other = Origin::named("b");
    let group = format!("upstream = {{ timeouts = {{ response = \"300ms\" }} }}\n{NO_CHECKS}");
    let world = World::new(&[&origin, &other], "", &group);
    let mut visitor = Visitor::of(world.address());
    assert_eq!(visitor.get("/").status, 504);
    assert!(other.heard().is_empty(), "the request was sent: it is not repeated");
    until("the hanging connection is given up", || (origin.open() == 0).then_some(()));
    let new_clients = (0..2).map(|_| {
        visitor.jar.clear();
        visitor.get("/well").body
    });
    let next: Vec<_> = new_clients.collect();
    assert!(next.contains(&"well".to_owned()), "the connection goes on: {next:?}");
}

#[test]
fn a_black_hole_is_a_504_after_the_connect_time_out() {
    // A socket with a full backlog does not answer a SYN.
    let hole = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    hole.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    hole.listen(0).unwrap();
    let address = hole.local_addr().unwrap().as_socket().unwrap();
    let _fill: Vec<_> = (0..4)
        .map(|_| {
            let socket =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address.into());
            socket
        })
        .collect();
    let world = World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\ntargets = [\"{address}\"]\n\
         health = {{ protocol = \"tcp\", interval = \"1s\", timeout = \"100ms\" }}\n\
         upstream = {{ timeouts = {{ connect = \"300ms\" }} }}\n"
    ));
    let answer = Visitor::of(world.address()).get("/");
    assert_eq!(answer.status, 504);
    world.record(|record| record["error_reason"] == "target_connect_timeout");
}

#[test]
fn a_reset_before_the_head_retries_get_and_never_post() {
    let resetting = Origin::saying("", Then::Reset);
    let other = Origin::named("b");
    let world = World::new(&[&resetting, &other], "", NO_CHECKS);
    let mut posts = Vec::new();
    for _ in 0..4 {
        assert_eq!(Visitor::of(world.address()).get("/").body, "b");
        posts.push(Visitor::of(world.address()).ask("POST", "/", &[], "x").status);
    }
    assert!(posts.contains(&502) || posts.iter().all(|status| *status == 200), "{posts:?}");
    let heard = |origin: &Origin| {
        origin.heard().iter().filter(|heard| heard.head.starts_with("POST")).count()
    };
    assert_eq!(heard(&resetting) + heard(&other), 4, "each POST was delivered once");
}

#[test]
fn a_cut_or_invalid_response_head_is_a_502() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Le",
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n",
        "HTTP/9.1 200 OK\r\n\r\n",
    ] {
        let origin = Origin::saying(answer, Then::Close);
        let world = World::new(&[&origin], "", NO_CHECKS);
        let answer_seen = Visitor::of(world.address()).get("/");
        assert_eq!(answer_seen.status, 502, "{answer:?}");
    }
    let large =
        format!("HTTP/1.1 200 OK\r\nX-Large: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(40_000));
    let origin = Origin::saying(Box::leak(large.into_boxed_str()), Then::Close);
    let world = World::new(&[&origin], "", NO_CHECKS);
    assert_eq!(Visitor::of(world.address()).get("/").status, 502);
}

#[test]
fn a_response_cut_in_its_body_is_never_completed() {
    for (answer, then) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf", Then::Close),
        ("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf", Then::Reset),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", Then::Close),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n", Then::Close),
    ] {
        let origin = Origin::saying(answer, then);
        let world = World::new(&[&origin], "", NO_CHECKS);
        let seen = Visitor::of(world.address()).get("/");
        assert!(!seen.whole, "{answer:?}");
        // A reset may overtake the head of so short a response; the client then gets a 502, which
        // is complete.
        assert!(seen.status == 200 || seen.status == 0, "{}", seen.status);
    }
}

#[test]
fn surplus_bytes_after_a_response_never_reach_a_client() {
    let origin = Origin::saying(
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
        Then::KeepAlive,
    );
    let world = World::new(&[&origin], "", NO_CHECKS);
    let mut visitor = Visitor::of(world.address());
    for _ in 0..5 {
        assert_eq!(visitor.get("/").body, "a");
        assert_eq!(Visitor::of(world.address()).get("/").body, "a");
    }
}

#[test]
fn an_idle_connection_closed_by_the_target_loses_no_request() {
    let origin = Origin::saying("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Then::Close);
    let world = World::new(&[&origin], "", NO_CHECKS);
    let mut visitor = Visitor::of(world.address());
    for _ in 0..50 {
        assert_eq!(visitor.get("/").status, 200);
    }
}

#[test]
fn a_client_that_leaves_cancels_its_request_and_is_logged_as_460() {
    let origin = Origin::scripted(|_, stream| {
        let mut scratch = [0; 1];
        let _ = std::io::Read::read(stream, &mut scratch);
        Then::Close
    });
    let world = World::new(&[&origin], "", NO_CHECKS);
    let mut visitor = Visitor::of(world.address());
    visitor.send("GET /gone HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request is with the target", || origin.heard().first().cloned());
    visitor.leave();
    until("the target's connection is closed", || (origin.open() == 0).then_some(()));
    let record = world.record(|record| record["uri"] == "/gone");
    assert_eq!((&record["status"], &record["error_reason"]), (&460.into(), &"client_gone".into()));
}

#[test]
fn a_slow_head_gets_408_and_a_silent_client_is_closed() {
    let origin = Origin::named("a");
    let timeouts = "timeouts = { header_read = \"1s\", idle = \"1s\" }";
    let world = World::new(&[&origin], timeouts, NO_CHECKS);
    let mut slow = Visitor::of(world.address());
    slow.send("GET / HTTP/1.1\r\nHost: a\r\nX-");
    let answer = slow.read_answer(false);
    assert_eq!(answer.status, 408);
    assert!(slow.jar.is_empty());
    let mut silent = Visitor::of(world.address());
    silent.send("");
    assert_eq!(silent.read_answer(false).status, 0);
    let mut idle = Visitor::of(world.address());
    assert_eq!(idle.get("/").status, 200);
    assert!(idle.sees_close());
}

#[test]
fn a_client_that_stops_in_its_body_gets_408_and_the_target_is_freed() {
    let origin = Origin::named("a");
    for timeouts in ["timeouts = { idle = \"1s\" }", "timeouts = { request = \"1s\" }"] {
        let world = World::new(&[&origin], timeouts, NO_CHECKS);
        let mut visitor = Visitor::of(world.address());
        visitor.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
        assert_eq!(visitor.read_answer(false).status, 408, "{timeouts}");
    }
    until("no half request is left at the target", || (origin.open() == 0).then_some(()));
    assert!(origin.heard().is_empty());
}

#[test]
fn content_length_with_transfer_encoding_reaches_no_target() {
    let origin = Origin::named("a");
    let world = World::new(&[&origin], "", NO_CHECKS);
    let mut visitor = Visitor::of(world.address());
    visitor.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(matches!(visitor.read_answer(false).status, 200 | 400));
    assert!(visitor.sees_close());
    for heard in origin.heard() {
        assert_eq!((heard.field("content-length"), heard.path()), (None, "/"));
    }
}

#[test]
fn malformed_requests_are_refused_and_their_connections_close() {
    let origin = Origin::named("a");
    let world = World::new(&[&origin], "", NO_CHECKS);
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n", 400),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 405),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 0\r\n\r\n", 417),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400),
    ] {
        let mut visitor = Visitor::of(world.address());
        visitor.send(request);
        assert_eq!(visitor.read_answer(false).status, status, "{request:?}");
        assert!(visitor.sees_close(), "{request:?}");
    }
    let loops =
        format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {}\r\n\r\n", ["a"; 31].join(","));
    let mut visitor = Visitor::of(world.address());
    visitor.send(&loops);
    assert_eq!(visitor.read_answer(false).status, 400);
    world.record(|record| record["status"] == 463);
    assert!(origin.heard().is_empty());
}

#[test]
fn bad_chunks_are_a_400_and_the_target_gets_no_whole_request() {
    let origin = Origin::named("a");
    let world = World::new(&[&origin], "", NO_CHECKS);
    for chunks in
        ["zz\r\n", "-1\r\n", "0x5\r\nhello\r\n", "5\r\nhelloX\r\n", "11111111111111111\r\n"]
    {
        let mut visitor = Visitor::of(world.address());
        visitor.send(&format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
        ));
        assert_eq!(visitor.read_answer(false).status, 400, "{chunks:?}");
    }
    until("half requests are given up", || (origin.open() == 0).then_some(()));
    assert!(origin.heard().is_empty());
}

#[test]
fn an_unrequested_protocol_switch_is_a_502() {
    let origin = Origin::saying(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
        Then::KeepAlive,
    );
    let world = World::new(&[&origin], "", NO_CHECKS);
    assert_eq!(Visitor::of(world.address()).get("/").status, 502);
}

#[test]
fn the_count_of_interim_responses_is_bounded() {
    let origin = Origin::scripted(|_, stream| {
        while stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n").is_ok() {}
        Then::Close
    });
    let world = World::new(&[&origin], "", NO_CHECKS);
    assert_eq!(Visitor::of(world.address()).get("/").status, 502);
    let few = Origin::saying(
        "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        Then::KeepAlive,
    );
    let world = World::new(&[&few], "", NO_CHECKS);
    assert_eq!(Visitor::of(world.address()).get("/").body, "ok");
}

#[test]
fn untrusted_and_surplus_connections_are_closed_at_accept() {
    let origin = Origin::named("a");
    let world = World::new(&[&origin], "allow_from = [\"192.0.2.0/24\"]", NO_CHECKS);
    let mut other = Visitor::of(world.address());
    other.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(other.read_answer(false).status, 0);
    let world = World::new(&[&origin], "limits = { connections = 1 }", NO_CHECKS);
    let mut first = Visitor::of(world.address());
    assert_eq!(first.get("/").status, 200);
    let mut second = Visitor::of(world.address());
    second.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(second.read_answer(false).status, 0);
    first.leave();
    until("the place is given back", || {
        (Visitor::of(world.address()).get("/").status == 200).then_some(())
    });
    let refused: u64 = world.server().counters().iter().map(|own| own.refused.value()).sum();
    assert!(refused >= 1);
}

#[test]
fn a_slow_reader_is_cut_and_delays_no_other_client() {
    let origin = Origin::scripted(|request, stream| {
        if request.path() == "/endless" {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
            while stream.write_all(&[b'x'; 65_536]).is_ok() {}
            return Then::Close;
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        Then::KeepAlive
    });
    let world = World::new(&[&origin], "timeouts = { idle = \"1s\" }", NO_CHECKS);
    let mut slow = Visitor::of(world.address());
    slow.send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(Visitor::of(world.address()).get("/").body, "ok");
    let record = world.record(|record| record["uri"] == "/endless");
    assert_eq!(record["error_reason"], "stalled");
    until("the target is freed", || (origin.open() <= 1).then_some(()));
}
