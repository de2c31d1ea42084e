//! Ends of streams and connections over HTTP/2 that no attack causes.

use crate::support::frames::{Frames, HEADERS, RST_STREAM, get};
use crate::support::http2::{Http2, reset};
use crate::support::http2_origin::{Exchange, Http2Origin};
use crate::support::origin::Then;
use crate::support::{Origin, Visitor, World, until};
use bytes::Bytes;
use h2::Reason;
use http::{Request, Response};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

const NO_CHECKS: &str =
    "health = { protocol = \"tcp\", interval = \"300s\", fast_interval = \"300s\" }";

fn world(origin: &Origin, listener: &str) -> World {
    World::new(&[origin], listener, NO_CHECKS)
}

#[test]
fn connection_fields_of_a_target_break_no_response() {
    let origin = Origin::saying(
        "HTTP/1.1 200 OK\r\nTE: gzip\r\nExpect: x\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\n\
         Upgrade: h2c\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        Then::KeepAlive,
    );
    let world = world(&origin, "");
    let client = Http2::to(world.address());
    for _ in 0..300 {
        let reply = client.get("/");
        assert_eq!((reply.status.as_u16(), reply.text()), (200, "ok"));
        for gone in ["te", "keep-alive", "proxy-connection", "upgrade", "connection"] {
            assert_eq!(reply.field(gone), None);
        }
    }
    assert_eq!(Visitor::of(world.address()).get("/").field("te"), None);
}

/// Sends requests without acknowledging the PING that comes with a GOAWAY, until it is refused or
/// closed.
fn ask_on(client: &mut Frames) {
    for nth in 0..100_000 {
        client.send(&get(nth * 2 + 1, "/"));
        loop {
            match client.read() {
                None => return,
                Some(frame) if frame.kind == RST_STREAM => return,
                Some(frame) if frame.kind == HEADERS => break,
                Some(_) => {}
            }
        }
    }
    panic!("it is never refused");
}

#[test]
fn a_client_that_acknowledges_no_goaway_is_closed_in_time() {
    let origin = Origin::named("a");
    let world = world(&origin, "timeouts = { max_lifetime = \"1s\" }");
    let mut client = Frames::begun(world.address());
    let begun = Instant::now();
    ask_on(&mut client);
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn resetting_all_permitted_streams_at_once_is_tolerated() {
    let origin = Origin::scripted(|request, stream| {
        if request.path() != "/" {
            let _ = stream.read(&mut [0]);
            return Then::Close;
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        Then::KeepAlive
    });
    let world = world(&origin, "limits = { streams = 250 }");
    let client = Http2::to(world.address());
    let asked: Vec<_> =
        (0..240).map(|_| client.ask(Http2::head("/picture"), true).unwrap()).collect();
    until("all are under way", || (origin.open() >= 240).then_some(()));
    drop(asked);
    until("all are left", || (origin.heard().len() >= 240 && origin.open() == 0).then_some(()));
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn early_responses_to_uploads_keep_the_connection() {
    let origin = Origin::named("a");
    let rule = format!("{NO_CHECKS}\n[[rule]]\npaths = [\"/no\"]\nrespond = {{ status = 401 }}");
    let world = World::new(&[&origin], "", &rule);
    let client = Http2::to(world.address());
    for _ in 0..400 {
        let mut asked = client.ask(Request::post("http://shop.example/no"), false).unwrap();
        // More than once after the response was sent, as a client does that has not read it yet.
        for _ in 0..3 {
            let _ = asked.body.send_data(Bytes::from_static(&[0; 2_000]), false);
        }
        let (response, mut body) = client.begun(asked).unwrap();
        assert_eq!(response.status(), 401);
        for _ in 0..3 {
            let _ = body.send_data(Bytes::from_static(&[0; 2_000]), false);
        }
    }
    assert_eq!(client.get("/").text(), "a");
}

#[test]
fn a_call_cut_by_its_target_ends_with_unavailable() {
    let origin = Http2Origin::serving(|mut exchange: Exchange| async move {
        let mut way = exchange.respond.send_response(Response::new(()), false).unwrap();
        way.send_data(Bytes::from_static(b"\0\0\0\0\x04half"), false).unwrap();
        while exchange.data().await.is_some() {}
        way.send_reset(Reason::INTERNAL_ERROR);
    });
    let world = World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\nprotocol = \"http2\"\n\
         targets = [\"{}\"]\n{NO_CHECKS}\n",
        origin.address()
    ));
    let client = Http2::to(world.address());
    for (content_type, is_call) in [("application/grpc", true), ("text/plain", false)] {
        let head = Request::post("http://shop.example/a.B/C").header("content-type", content_type);
        let asked = client.ask(head, false).unwrap();
        let (mut answer, mut up) = client.begun(asked).unwrap();
        client.wait(answer.body_mut().data()).unwrap().unwrap();
        up.send_data(Bytes::new(), true).unwrap();
        match (client.wait(answer.body_mut().data()), is_call) {
            (None, true) => {
                let trailers = client.wait(answer.body_mut().trailers()).unwrap().unwrap();
                assert_eq!(trailers["grpc-status"], "14");
            }
            (Some(Err(error)), false) => assert_eq!(reset(&error), Some(Reason::INTERNAL_ERROR)),
            (other, _) => panic!("{content_type}: {other:?}"),
        }
    }
    let records = world.lines(2, |line| line.contains("target_broke_off"));
    assert_eq!(records.len(), 2);
}

#[test]
fn a_cookie_condition_sees_the_cookie_parts_as_one() {
    let (stable, beta) = (Origin::named("stable"), Origin::named("beta"));
    let world = World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\ndefault = \"stable\"\n\
         [[rule]]\nheaders = {{ cookie = [\"a=1; beta=1*\"] }}\nforward = \"beta\"\n\
         [target_group.stable]\ntargets = [\"{}\"]\n{NO_CHECKS}\n\
         [target_group.beta]\ntargets = [\"{}\"]\n{NO_CHECKS}\n",
        stable.address(),
        beta.address()
    ));
    let client = Http2::to(world.address());
    for (crumbs, expected) in [(["a=1", "beta=1"], "beta"), (["beta=1", "a=1"], "stable")] {
        let head = Http2::head("/").header("cookie", crumbs[0]).header("cookie", crumbs[1]);
        assert_eq!(client.send(head).unwrap().text(), expected);
    }
}
