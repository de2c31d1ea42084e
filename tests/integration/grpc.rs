//! gRPC calls: the four kinds, failed calls, stickiness, and health checks that are calls.

use super::http2_targets::world;
use crate::support::http2_origin::{Exchange, message, messages, service};
use crate::support::{Http2, Http2Origin, Origin, World, until};
use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::{HeaderMap, HeaderValue, Method, Response};
use stayput::testing::model::live::Health;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Settings of a group whose check never runs again.
const UNCHECKED: &str = "protocol = \"grpc\"\n\
    health = { protocol = \"tcp\", interval = \"300s\", fast_interval = \"300s\" }";

fn call(method: &str) -> http::request::Builder {
    let path = format!("/echo.Echo/{method}");
    let head = Http2::head(&path).method(Method::POST);
    head.header("content-type", "application/grpc").header("te", "trailers")
}

/// The result of a call: its messages, and the status in its trailers or head.
struct Called {
    messages: Vec<String>,
    headers: HeaderMap,
    trailers: HeaderMap,
    status: u16,
}

impl Called {
    fn code(&self) -> &str {
        let code = self.trailers.get("grpc-status").or_else(|| self.headers.get("grpc-status"));
        code.unwrap().to_str().unwrap()
    }

    fn served_by(&self) -> String {
        self.headers["served-by"].to_str().unwrap().to_owned()
    }
}

fn make(client: &Http2, head: http::request::Builder, sent: &[&str]) -> Called {
    let mut asked = client.ask(head, false).unwrap();
    for text in sent {
        // If the response has already ended, the rest of the request is not read (RFC 9113 section
        // 8.1).
        let _ = asked.body.send_data(message(text), false);
    }
    let _ = asked.body.send_data(Bytes::new(), true);
    let reply = client.reply(asked).unwrap();
    let mut buffer = BytesMut::from(&reply.body[..]);
    Called {
        messages: messages(&mut buffer),
        headers: reply.headers,
        trailers: reply.trailers.unwrap_or_default(),
        status: reply.status.as_u16(),
    }
}

#[test]
fn the_four_kinds_of_call_cross_with_their_trailers() {
    let service = service("a");
    for protocol in ["grpc", "http2"] {
        let group = UNCHECKED.replace("\"grpc\"", &format!("\"{protocol}\""));
        let world = world(&[service.address()], "", &group);
        let client = Http2::to(world.address());
        for (method, sent, expected) in [
            ("Unary", &["hello"][..], &["hello"][..]),
            ("Client", &["a", "b", "c"], &["a+b+c"]),
            ("Server", &["3"], &["0", "1", "2"]),
            ("Both", &["a", "b"], &["a", "b"]),
        ] {
            let called = make(&client, call(method), sent);
            assert_eq!(
                (called.messages.as_slice(), called.code()),
                (&expected_of(expected)[..], "0")
            );
            assert_eq!(called.trailers["messages"], sent.len().to_string());
        }
        // The target does not know the method: it sends a head with END_STREAM (trailers-only).
        let unknown = Http2::head("/other.Service/M").method(Method::POST);
        let called = make(&client, unknown.header("content-type", "application/grpc"), &["x"]);
        assert_eq!((called.status, called.code()), (200, "12"));
    }
}

fn expected_of(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn bidirectional_messages_cross_without_buffering() {
    let service = service("a");
    let world = world(&[service.address()], "", UNCHECKED);
    let client = Http2::to(world.address());
    let asked = client.ask(call("Both"), false).unwrap();
    let (answer, mut way) = client.begun(asked).unwrap();
    let (mut body, mut buffer) = (answer.into_body(), BytesMut::new());
    let next = |body: &mut RecvStream, buffer: &mut BytesMut| loop {
        if let Some(text) = messages(buffer).pop() {
            return text;
        }
        buffer.extend_from_slice(&client.wait(body.data()).unwrap().unwrap());
    };
    for text in ["one", "two", "three"] {
        way.send_data(message(text), false).unwrap();
        assert_eq!(next(&mut body, &mut buffer), text);
    }
    way.send_data(Bytes::new(), true).unwrap();
    assert!(client.wait(body.data()).is_none());
    let trailers = client.wait(body.trailers()).unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
}

#[test]
fn a_call_failed_by_the_balancer_has_a_grpc_status_and_no_body() {
    let dead = Origin::refusing();
    let silent = Http2Origin::serving(|mut exchange: Exchange| async move {
        exchange.until_reset().await;
    });
    let slow = "upstream = { timeouts = { response = \"100ms\" } }";
    for (address, more, status, code) in
        [(dead.address(), "", 502, "14"), (silent.address(), slow, 504, "14")]
    {
        let world = world(&[address], "", &format!("{UNCHECKED}\n{more}"));
        let called = make(&Http2::to(world.address()), call("Unary"), &["x"]);
        assert_eq!((called.status, called.code()), (status, code));
        assert_eq!(called.headers["content-type"], "application/grpc");
        assert_eq!(called.headers["grpc-message"], "unavailable");
        assert!(called.messages.is_empty() && called.trailers.is_empty());
    }
    let empty = world(&[], "", UNCHECKED);
    let called = make(&Http2::to(empty.address()), call("Unary"), &["x"]);
    assert_eq!((called.status, called.code()), (503, "14"));
}

fn three() -> [Http2Origin; 3] {
    [service("a"), service("b"), service("c")]
}

fn of_three(services: &[Http2Origin; 3], group: &str) -> World {
    world(&services.each_ref().map(Http2Origin::address), "", &format!("{UNCHECKED}\n{group}"))
}

#[test]
fn calls_with_a_cookie_stay_with_their_target() {
    let services = three();
    let world = of_three(&services, "");
    let client = Http2::to(world.address());
    let mut served = HashSet::new();
    for _ in 0..6 {
        let first = make(&client, call("Unary"), &["x"]);
        let line = first.headers["set-cookie"].to_str().unwrap().to_owned();
        let pair = line.split(';').next().unwrap().to_owned();
        served.insert(first.served_by());
        for _ in 0..3 {
            let again =
                make(&Http2::to(world.address()), call("Unary").header("cookie", &pair), &["x"]);
            assert_eq!(again.served_by(), first.served_by());
        }
    }
    assert_eq!(served.len(), 3);
}

#[test]
fn calls_with_a_header_stay_with_its_target() {
    let services = three();
    let world = of_three(&services, "stickiness = { header = { name = \"x-session-id\" } }");
    let client = Http2::to(world.address());
    let mut served = HashSet::new();
    for id in 0..12 {
        let by = || {
            let head = call("Unary").header("x-session-id", format!("s{id}"));
            make(&client, head, &["x"]).served_by()
        };
        let first = by();
        assert!((0..3).all(|_| by() == first));
        served.insert(first);
    }
    assert_eq!(served.len(), 3);
}

const OFTEN: &str = "interval = \"100ms\", fast_interval = \"100ms\", unhealthy_threshold = 1, \
    healthy_threshold = 1";

#[test]
fn checks_of_a_group_that_speaks_grpc_are_calls() {
    let service = service("a");
    let group = format!("protocol = \"grpc\"\nhealth = {{ {OFTEN} }}");
    let world = world(&[service.address()], "", &group);
    assert_eq!(world.availability(0).health, Health::Healthy);
    let heard = service.heard().remove(0);
    assert_eq!((heard.method(), heard.uri().path()), (&Method::POST, "/AWS.ALB/healthcheck"));
    assert_eq!(heard.headers()["content-type"], "application/grpc");
    assert!(heard.headers()["user-agent"].to_str().unwrap().starts_with("ELB-HealthChecker/2.0"));
}

#[test]
fn a_target_that_reports_not_serving_is_out_until_it_serves() {
    let serving = Arc::new(AtomicBool::new(true));
    let says = serving.clone();
    let origin = Http2Origin::serving(move |mut exchange: Exchange| {
        let says = says.clone();
        async move {
            let status = if says.load(Ordering::SeqCst) { 1 } else { 2 };
            let mut way = exchange.respond.send_response(Response::new(()), false).unwrap();
            let _ = way.send_data(Bytes::from(vec![0, 0, 0, 0, 2, 8, status]), false);
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let _ = way.send_trailers(trailers);
        }
    });
    let path = "path = \"/grpc.health.v1.Health/Check\"";
    let group = format!("protocol = \"grpc\"\nhealth = {{ {path}, {OFTEN} }}");
    let world = world(&[origin.address()], "", &group);
    for (says, expected) in
        [(true, Health::Healthy), (false, Health::Unhealthy), (true, Health::Healthy)]
    {
        serving.store(says, Ordering::SeqCst);
        until("the checks say so", || (world.availability(0).health == expected).then_some(()));
    }
}

#[test]
fn plain_checks_of_an_http2_group_use_http2() {
    let origin = Http2Origin::named("it is well");
    let group = format!("protocol = \"http2\"\nhealth = {{ body = \"well\", {OFTEN} }}");
    let world = world(&[origin.address()], "", &group);
    assert_eq!(world.availability(0).health, Health::Healthy);
    let heard = origin.heard().remove(0);
    assert_eq!((heard.method(), heard.uri().path()), (&Method::GET, "/"));
}
