//! HTTP/2 targets: what crosses, which requests are sent again, and what delays which client.

use crate::support::http2::reset;
use crate::support::http2_origin::{Exchange, send};
use crate::support::origin::Then;
use crate::support::terminator::{Authority as Issuer, Terminator};
use crate::support::{Http2, Http2Origin, Origin, SecureOrigin, Visitor, World, until};
use bytes::Bytes;
use h2::Reason;
use h2::ext::Protocol;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

const NO_CHECKS: &str =
    "health = { protocol = \"tcp\", interval = \"300s\", fast_interval = \"300s\" }";

/// A balancer with one worker, so that connection counts are those of one worker.
pub fn world(targets: &[SocketAddr], listener: &str, group: &str) -> World {
    let target = |(id, address): (char, &SocketAddr)| {
        format!("{{ id = \"{id}\", address = \"{address}\" }}")
    };
    let targets: Vec<_> = ('a'..).zip(targets).map(target).collect();
    let targets = targets.join(", ");
    World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\ndrain_timeout = \"5s\"\n\
         [log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n{listener}\n\
         [target_group.app]\ntargets = [{targets}]\n{group}\n"
    ))
}

fn http2(origin: &Http2Origin) -> World {
    world(&[origin.address()], "", &format!("protocol = \"http2\"\n{NO_CHECKS}"))
}

fn post(path: &str) -> http::request::Builder {
    Http2::head(path).method(Method::POST)
}

#[test]
fn a_request_arrives_in_http2_form_and_trailers_cross_both_ways() {
    let origin = Http2Origin::serving(|mut exchange: Exchange| async move {
        while exchange.data().await.is_some() {}
        let trailers = exchange.request.body_mut().trailers().await.unwrap().unwrap_or_default();
        let mut way = exchange.respond.send_response(Response::new(()), false).unwrap();
        way.send_data(Bytes::from_static(b"body"), false).unwrap();
        way.send_trailers(trailers).unwrap();
    });
    let world = http2(&origin);
    let client = Http2::to(world.address());
    let head = post("/a?b=c").header("te", "trailers").header("cookie", "x=1");
    let mut asked = client.ask(head.header("cookie", "y=2"), false).unwrap();
    asked.body.send_data(Bytes::from_static(b"hello"), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("9"));
    trailers.insert("content-type", HeaderValue::from_static("no/trailer"));
    asked.body.send_trailers(trailers).unwrap();
    let reply = client.reply(asked).unwrap();
    assert_eq!((reply.status.as_u16(), reply.text()), (200, "body"));
    let trailers = reply.trailers.unwrap();
    assert_eq!((trailers.len(), &trailers["x-sum"]), (1, &HeaderValue::from_static("9")));

    let heard = origin.heard().remove(0);
    assert_eq!(heard.uri(), "http://shop.example/a?b=c");
    let field = |name: &str| heard.headers().get(name).map(|value| value.to_str().unwrap());
    assert_eq!((field("te"), field("cookie")), (Some("trailers"), Some("x=1; y=2")));
    assert_eq!(field("x-forwarded-for"), Some("127.0.0.1"));
    assert!(field("x-amzn-trace-id").is_some());
    for absent in ["host", "connection", "transfer-encoding", "upgrade"] {
        assert_eq!(field(absent), None, "{absent}");
    }
    let record = world.record(|record| record["status"] == 200);
    assert_eq!((&record["type"], &record["target_status"]), (&"h2".into(), &200.into()));
}

#[test]
fn a_protocol_that_does_not_fit_the_group_is_464_and_reaches_no_target() {
    let (old, new) = (Origin::named("old"), Http2Origin::named("new"));
    let grpc = |path| post(path).header("content-type", "application/grpc");
    let websocket =
        || Request::connect("http://shop.example/").extension(Protocol::from("websocket"));
    for (protocol, address, requests) in [
        ("http1", old.address(), vec![grpc("/p.S/M")]),
        ("http2", new.address(), vec![websocket()]),
        ("grpc", new.address(), vec![Http2::head("/"), post("/").method(Method::PUT)]),
    ] {
        let world = world(&[address], "", &format!("protocol = \"{protocol}\"\n{NO_CHECKS}"));
        let client = Http2::to(world.address());
        for request in requests {
            // A CONNECT cannot end with its head.
            let asked = client.ask(request, false).unwrap();
            assert_eq!(client.reply(asked).unwrap().status.as_u16(), 464, "{protocol}");
        }
        if protocol != "http1" {
            let answer = Visitor::of(world.address()).ask("POST", "/", &[], "");
            assert_eq!(answer.status, 464, "{protocol}");
        }
        let record = world.record(|record| record["status"] == 464);
        assert_eq!(record["error_reason"], "protocol_mismatch");
    }
    assert!(old.heard().is_empty() && new.heard().is_empty());
}

#[test]
fn repeated_goaways_of_a_target_lose_no_bodiless_request() {
    let origin = Http2Origin::with(
        |_| {},
        3,
        |mut exchange: Exchange| async move {
            exchange.say("here");
        },
    );
    let world = http2(&origin);
    let client = Http2::to(world.address());
    for _ in 0..20 {
        let asked: Vec<_> = (0..5).map(|_| client.ask(post("/"), true).unwrap()).collect();
        for asked in asked {
            assert_eq!(client.reply(asked).unwrap().text(), "here");
        }
    }
    assert!(origin.connections() >= 20, "{}", origin.connections());
}

#[test]
fn refused_streams_are_retried_unless_too_much_body_was_sent() {
    let origin = Http2Origin::serving(|mut exchange: Exchange| async move {
        let refuses = exchange.nth.is_multiple_of(2);
        let (large, mut length) = (exchange.request.uri().path() == "/large", 0);
        let most = if refuses && !large { 1 } else { usize::MAX };
        while length < most
            && let Some(data) = exchange.data().await
        {
            length += data.len();
        }
        match refuses {
            true => exchange.refuse(),
            false => exchange.say(if length == 5 { "five" } else { "none" }),
        }
    });
    let world = http2(&origin);
    let client = Http2::to(world.address());
    assert_eq!(client.send(post("/")).unwrap().text(), "none");
    let record = world.record(|record| record["status"] == 200);
    assert_eq!(record["attempts"], 1);
    // The part of a body that was read is kept, and the rest follows as it arrives.
    let mut asked = client.ask(post("/").method(Method::PUT), false).unwrap();
    asked.body.send_data(Bytes::from_static(b"beg"), false).unwrap();
    until("it is sent again", || (origin.heard().len() == 4).then_some(()));
    asked.body.send_data(Bytes::from_static(b"un"), true).unwrap();
    assert_eq!(client.reply(asked).unwrap().text(), "five");
    let mut asked = client.ask(post("/large"), false).unwrap();
    asked.body.send_data(Bytes::from(vec![b'x'; 66_000]), true).unwrap();
    assert_eq!(client.reply(asked).unwrap().status.as_u16(), 502);
    let record = world.record(|record| record["status"] == 502);
    assert_eq!(record["error_reason"], "target_lost");
    assert_eq!(origin.heard().len(), 5);
}

#[test]
fn a_stream_reset_by_a_target_is_not_retried() {
    let serve = |mut exchange: Exchange| async move {
        if exchange.request.uri().path() == "/" {
            return exchange.say("well");
        }
        exchange.respond.send_reset(Reason::INTERNAL_ERROR);
    };
    let origins = [Http2Origin::serving(serve), Http2Origin::serving(serve)];
    let heard = || origins.iter().map(|origin| origin.heard().len()).sum::<usize>();
    let connections = || origins.iter().map(Http2Origin::connections).sum::<usize>();
    let group = format!("protocol = \"http2\"\n{NO_CHECKS}");
    let world = world(&origins.each_ref().map(Http2Origin::address), "", &group);
    let client = Http2::to(world.address());
    for _ in 0..4 {
        assert_eq!(client.get("/").text(), "well");
    }
    assert_eq!((heard(), connections()), (4, 2));
    assert_eq!(client.get("/reset").status.as_u16(), 502);
    let record = world.record(|record| record["status"] == 502);
    assert_eq!(record["error_reason"], "target_lost");
    assert_eq!(record["attempts"], 1);
    assert_eq!((heard(), connections()), (5, 2));
}

#[test]
fn a_low_stream_limit_on_one_connection_serves_all_waiters() {
    for (requests, streams, workers) in [(8, 128, 1), (20, 1, 1), (16, 1, 2)] {
        let origin = Http2Origin::with(
            move |settings| {
                settings.max_concurrent_streams(streams);
            },
            2,
            |mut exchange: Exchange| async move { exchange.say("here") },
        );
        let world = World::of_text(&format!(
            "[runtime]\nworkers = {workers}\nstate_dir = \"state\"\n\
             [log]\naccess = {{ to = \"access.log\" }}\n\
             [listener.web]\naddress = \"127.0.0.1:0\"\n\
             [target_group.app]\ntargets = [\"{}\"]\nprotocol = \"http2\"\n\
             upstream = {{ max_connections = 1 }}\n{NO_CHECKS}\n",
            origin.address()
        ));
        // Enough clients that both workers have some.
        let clients: Vec<_> = (0..requests).map(|_| Http2::to(world.address())).collect();
        let ask = |client: &Http2| client.ask(post("/"), true).unwrap();
        let asked: Vec<_> = clients.iter().map(ask).collect();
        for (client, asked) in clients.iter().zip(asked) {
            assert_eq!(client.reply(asked).unwrap().text(), "here");
        }
    }
}

#[test]
fn a_target_that_accepts_and_closes_is_unreachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            drop(stream);
        }
    });
    let world = world(&[address], "", &format!("protocol = \"http2\"\n{NO_CHECKS}"));
    assert_eq!(Http2::to(world.address()).get("/").status.as_u16(), 502);
    let record = world.record(|record| record["status"] == 502);
    assert_eq!(record["error_reason"], "target_unreachable");
}

#[test]
fn ten_clients_share_a_connection_up_to_its_stream_limit() {
    let count = Arc::new(AtomicUsize::new(0));
    let open = Arc::clone(&count);
    let origin = Http2Origin::with(
        |settings| {
            settings.max_concurrent_streams(10);
        },
        usize::MAX,
        move |mut exchange: Exchange| {
            let open = Arc::clone(&open);
            async move {
                open.fetch_add(1, Ordering::SeqCst);
                exchange.until_reset().await;
                open.fetch_sub(1, Ordering::SeqCst);
            }
        },
    );
    let world = http2(&origin);
    let clients: Vec<_> = (0..10).map(|_| Http2::to(world.address())).collect();
    let ask = |client: &Http2| client.ask(Http2::head("/"), true).unwrap();
    let first: Vec<_> = clients.iter().map(ask).collect();
    until("ten are under way", || (count.load(Ordering::SeqCst) == 10).then_some(()));
    assert_eq!(origin.connections(), 1);
    let second: Vec<_> = clients.iter().map(ask).collect();
    until("twenty are under way", || (count.load(Ordering::SeqCst) == 20).then_some(()));
    assert_eq!(origin.connections(), 2);
    // A client that leaves ends no other stream, and its target gets the reset.
    drop(first);
    until("ten are left", || (count.load(Ordering::SeqCst) == 10).then_some(()));
    assert_eq!(origin.connections(), 2);
    drop(second);
}

#[test]
fn a_cancelled_stream_is_cancelled_at_the_target() {
    let (told, hear) = mpsc::channel();
    let origin = Http2Origin::serving(move |mut exchange: Exchange| {
        let told = told.clone();
        async move { told.send(exchange.until_reset().await).unwrap() }
    });
    let world = http2(&origin);
    let client = Http2::to(world.address());
    let mut asked = client.ask(Http2::head("/"), false).unwrap();
    until("it is under way", || (!origin.heard().is_empty()).then_some(()));
    asked.body.send_reset(Reason::CANCEL);
    assert_eq!(hear.recv().unwrap(), Reason::CANCEL);
    let record = world.record(|record| record["status"] == 460);
    assert_eq!(record["error_reason"], "client_gone");
}

#[test]
fn a_client_that_reads_nothing_delays_no_other_client() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let origin = Http2Origin::serving(move |mut exchange: Exchange| {
        let count = Arc::clone(&count);
        async move {
            if exchange.request.uri().path() == "/" {
                return exchange.say("small");
            }
            let mut way = exchange.respond.send_response(Response::new(()), false).unwrap();
            while send(&mut way, Bytes::from(vec![1; 16_384])).await.is_ok() {
                count.fetch_add(16_384, Ordering::SeqCst);
            }
        }
    });
    let world = http2(&origin);
    let stalled = Http2::with(world.address(), |settings| {
        settings.initial_window_size(65_535).initial_connection_window_size(65_535);
    });
    let asked = stalled.ask(Http2::head("/endless"), true).unwrap();
    let (answer, _) = stalled.begun(asked).unwrap();
    let other = Http2::to(world.address());
    let mut before = 0;
    until("the target stands still", || {
        assert_eq!(other.get("/").text(), "small");
        let now = sent.load(Ordering::SeqCst);
        let stands = now > 65_535 && now == before;
        before = now;
        stands.then_some(())
    });
    // The client's window, the balancer's, and the bytes in between.
    assert!(before <= 65_535 + 3 * (256 << 10), "{before}");
    drop(answer);
}

#[test]
fn a_response_cut_by_a_target_is_cut_for_its_client_alone() {
    let origin = Http2Origin::serving(|mut exchange: Exchange| async move {
        if exchange.request.uri().path() == "/" {
            return exchange.say("whole");
        }
        let mut way = exchange.respond.send_response(Response::new(()), false).unwrap();
        way.send_data(Bytes::from_static(b"half"), false).unwrap();
        while exchange.data().await.is_some() {}
        way.send_reset(Reason::INTERNAL_ERROR);
    });
    let world = http2(&origin);
    let client = Http2::to(world.address());
    let asked = client.ask(post("/half"), false).unwrap();
    let (mut answer, mut body) = client.begun(asked).unwrap();
    assert_eq!(client.wait(answer.body_mut().data()).unwrap().unwrap(), "half");
    body.send_data(Bytes::new(), true).unwrap();
    let error = client.wait(answer.body_mut().data()).unwrap().unwrap_err();
    assert_eq!(reset(&error), Some(Reason::INTERNAL_ERROR));
    assert_eq!(client.get("/").text(), "whole");
    let record = world.record(|record| record["error_reason"] != serde_json::Value::Null);
    assert_eq!(record["error_reason"], "target_broke_off");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn over_tls_a_target_must_agree_on_http2() {
    let origin = Http2Origin::named("secure");
    let issuer = Issuer::new();
    let front = Terminator::before(origin.address(), issuer.issue("127.0.0.1"));
    let silent = SecureOrigin::saying("HTTP/1.1 200 OK\r\n\r\n", &rustls::version::TLS13);
    for (address, expected) in [(front.address(), 200), (silent.address(), 502)] {
        let group = format!("protocol = \"http2\"\ntls = {{ verify = false }}\n{NO_CHECKS}");
        let world = world(&[address], "", &group);
        let reply = Http2::to(world.address()).get("/");
        assert_eq!(reply.status.as_u16(), expected);
        if expected == 502 {
            let record = world.record(|record| record["status"] == 502);
            assert_eq!(record["error_reason"], "target_not_http2");
        }
    }
    assert_eq!(origin.heard()[0].uri().scheme_str(), Some("https"));
    assert_eq!(front.shaken()[0].alpn.as_deref(), Some(&b"h2"[..]));
}

#[test]
fn an_http1_target_fails_in_an_http2_group() {
    let origin = Origin::saying("HTTP/1.1 400 Bad Request\r\n\r\n", Then::Close);
    let group = format!("protocol = \"http2\"\n{NO_CHECKS}");
    let world = world(&[origin.address()], "", &group);
    assert_eq!(Http2::to(world.address()).get("/").status.as_u16(), 502);
    let record = world.record(|record| record["status"] == 502);
    assert_eq!(record["error_reason"], "target_not_http2");
}

#[test]
fn a_response_head_past_albs_bound_fails_alone() {
    let origin = Http2Origin::serving(|mut exchange: Exchange| async move {
        let size = if exchange.request.uri().path() == "/large" { 40_000 } else { 30_000 };
        let mut head = Response::new(());
        head.headers_mut().insert("x-large", HeaderValue::try_from("y".repeat(size)).unwrap());
        let _ = exchange.respond.send_response(head, true);
    });
    let world = http2(&origin);
    let client = Http2::with(world.address(), |settings| {
        settings.max_header_list_size(100_000);
    });
    assert_eq!(client.get("/").status.as_u16(), 200);
    assert_eq!(client.get("/large").status.as_u16(), 502);
    let record = world.record(|record| record["status"] == 502);
    assert_eq!(record["error_reason"], "target_malformed");
    assert_eq!(client.get("/").status.as_u16(), 200);
    assert_eq!(origin.connections(), 1);
}
