//! HTTP/2 targets at their stream limit (RFC 9113 section 5.1.2), with more callers than permits;
//! all requests have a body.

use super::http2_targets::world;
use crate::support::daemon::Daemon;
use crate::support::http2_origin::{Exchange, message};
use crate::support::tool::{Tool, python};
use crate::support::{Http2, Http2Origin, World};
use bytes::Bytes;
use http::{HeaderValue, Method, Response};
use std::net::SocketAddr;

const NO_CHECKS: &str =
    "health = { protocol = \"tcp\", interval = \"300s\", fast_interval = \"300s\" }";

/// Reads the whole body and responds with its first bytes, which are the caller's number.
async fn echo(mut exchange: Exchange) {
    let mut body = Vec::new();
    while let Some(data) = exchange.data().await {
        body.extend_from_slice(&data);
    }
    let Ok(mut way) = exchange.respond.send_response(Response::new(()), false) else { return };
    let _ = way.send_data(Bytes::copy_from_slice(&body[..4]), true);
}

/// A target with this stream limit, and a balancer that opens at most this many connections; 0 is
/// any number.
fn limited(streams: u32, max_connections: usize) -> (Http2Origin, World) {
    let set = move |settings: &mut h2::server::Builder| {
        settings.max_concurrent_streams(streams);
    };
    let origin = Http2Origin::with(set, usize::MAX, echo);
    let world = at(origin.address(), "http2", max_connections);
    (origin, world)
}

fn at(address: SocketAddr, protocol: &str, max_connections: usize) -> World {
    let upstream = format!("upstream = {{ max_connections = {max_connections} }}");
    world(&[address], "", &format!("protocol = \"{protocol}\"\n{upstream}\n{NO_CHECKS}"))
}

/// Sends this many POSTs of 20 KB at once, from clients with a hundred streams each. Returns the
/// bodies of the responses, all of which are 200.
fn post_at_once(world: &World, callers: usize) -> Vec<String> {
    let clients: Vec<_> = (0..callers.div_ceil(100)).map(|_| Http2::to(world.address())).collect();
    let mut asked = Vec::new();
    for caller in 0..callers {
        let client = &clients[caller / 100];
        let head = Http2::head(&format!("/{caller}")).method(Method::POST);
        let mut call = client.ask(head, false).unwrap();
        let mut body = format!("{caller:04}").into_bytes();
        body.resize(20_000, b'.');
        call.body.send_data(body.into(), true).unwrap();
        asked.push((client, call));
    }
    let reply = |(client, call): (&Http2, _)| {
        let reply = client.reply(call).unwrap();
        assert_eq!(reply.status.as_u16(), 200);
        reply.text().to_owned()
    };
    asked.into_iter().map(reply).collect()
}

fn numbers(callers: usize) -> Vec<String> {
    (0..callers).map(|caller| format!("{caller:04}")).collect()
}

#[test]
fn each_of_many_callers_is_answered_under_any_stream_limit() {
    for (streams, max_connections, callers) in
        [(1, 0, 24), (1, 1, 24), (3, 0, 24), (3, 1, 24), (128, 0, 300), (128, 1, 300)]
    {
        let (origin, world) = limited(streams, max_connections);
        assert_eq!(post_at_once(&world, callers), numbers(callers), "{streams}");
        // No request was sent twice.
        assert_eq!(origin.heard().len(), callers, "{streams}");
    }
}

#[test]
fn stream_permits_go_to_callers_in_order_of_arrival() {
    for streams in [1, 3, 128] {
        let (origin, world) = limited(streams, 1);
        post_at_once(&world, 100);
        let came = origin.heard();
        let came = came.iter().map(|head| head.uri().path()[1..].parse::<usize>().unwrap());
        // Those that get their permits together may begin in any order.
        for (at, caller) in came.enumerate() {
            assert!(at.abs_diff(caller) < streams as usize, "{caller} at {at} of {streams}");
        }
    }
}

#[test]
fn no_post_is_lost_if_a_target_sends_goaway_at_its_limit() {
    let set = |settings: &mut h2::server::Builder| {
        settings.max_concurrent_streams(3);
    };
    for max_connections in [0, 1] {
        let origin = Http2Origin::with(set, 5, echo);
        let world = at(origin.address(), "http2", max_connections);
        assert_eq!(post_at_once(&world, 60), numbers(60));
        assert_eq!(origin.heard().len(), 60);
        assert!(origin.connections() > 3, "{}", origin.connections());
    }
}

/// A refused stream was not processed: it uses nothing of the retry budget, and its caller's turn
/// comes before those of later callers.
#[test]
fn all_requests_succeed_if_a_target_refuses_every_second_stream() {
    for streams in [1, 3, 128] {
        let set = move |settings: &mut h2::server::Builder| {
            settings.max_concurrent_streams(streams);
        };
        let origin = Http2Origin::with(set, usize::MAX, |mut exchange: Exchange| async move {
            match exchange.nth % 2 {
                0 => exchange.refuse(),
                _ => echo(exchange).await,
            }
        });
        let world = at(origin.address(), "http2", 1);
        assert_eq!(post_at_once(&world, 60), numbers(60), "{streams}");
        let record = world.record(|record| record["status"] == 200);
        assert_eq!(record["attempts"], 1);
    }
}

#[test]
fn retries_to_a_target_that_refuses_all_streams_end_after_a_second() {
    let origin = Http2Origin::serving(|mut exchange: Exchange| async move { exchange.refuse() });
    let world = at(origin.address(), "http2", 0);
    let began = std::time::Instant::now();
    let reply = Http2::to(world.address()).get("/");
    assert_eq!(reply.status.as_u16(), 502);
    assert!(began.elapsed() >= std::time::Duration::from_secs(1));
    // A growing pause before each try.
    assert!(origin.heard().len() < 20, "{}", origin.heard().len());
    assert_eq!(origin.connections(), 1);
    let record = world.record(|record| record["status"] == 502);
    assert_eq!(record["error_reason"], "target_lost");
}

/// nginx's default limit is 128.
#[test]
fn nginx_answers_twice_as_many_posts_as_it_takes_at_once() {
    for limit in ["", "http2_max_concurrent_streams 3;", "http2_max_concurrent_streams 1;"] {
        let nginx = Daemon::nginx(|address| {
            format!(
                "server {{ listen {address} http2; {limit}\n\
                 location / {{ proxy_pass http://unix:said.sock; }} }}\n\
                 server {{ listen unix:said.sock; location / {{ return 200 well; }} }}"
            )
        });
        let Some(nginx) = nginx else { return };
        let world = at(nginx.address(), "http2", 1);
        let answers = post_at_once(&world, 256);
        assert_eq!(answers.len(), 256, "{limit}");
    }
}

#[test]
fn grpcio_answers_each_of_24_callers_with_a_limit_of_three() {
    let Some(python) = python() else { return };
    for limit in ["3", "1"] {
        let mut target = Tool::script(python, "grpc_target.py", &["a", limit]);
        let world = at(target.address(), "grpc", 0);
        let client = Http2::to(world.address());
        let head = || {
            let head = Http2::head("/shop.Cart/echo").method(Method::POST);
            head.header("content-type", "application/grpc").header("te", "trailers")
        };
        let asked: Vec<_> = (0..24)
            .map(|caller| {
                let mut call = client.ask(head(), false).unwrap();
                call.body.send_data(message(&format!("{caller:02}")), true).unwrap();
                call
            })
            .collect();
        for (caller, call) in asked.into_iter().enumerate() {
            let reply = client.reply(call).unwrap();
            let trailers = reply.trailers.clone().unwrap_or_else(|| panic!("{reply:?}"));
            assert_eq!(trailers["grpc-status"], HeaderValue::from_static("0"));
            assert_eq!(reply.body, message(&format!("{caller:02}")));
        }
    }
}
