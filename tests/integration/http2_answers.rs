//! Responses over HTTP/2: interim ones, lengths, trailers, the balancer's own, and the log.

use crate::http2_targets::world as over_http2;
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PROTOCOL_ERROR, RST_STREAM, block, frame,
    headers, request,
};
use crate::support::http2_origin::Exchange;
use crate::support::origin::Then;
use crate::support::tool::has;
use crate::support::{Frames, Http2, Http2Origin, Origin, World, until};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use std::io::{Read, Write};
use std::process::Command;

const NO_CHECKS: &str =
    "health = { protocol = \"tcp\", interval = \"300s\", fast_interval = \"300s\" }";

fn interim_dropped(world: &World) -> u64 {
    world.server().counters().iter().map(|own| own.interim_dropped.value()).sum()
}

/// Two interim responses, one with hop-by-hop fields, and the final response.
async fn hint(mut exchange: Exchange) {
    let mut early = Response::new(());
    *early.status_mut() = StatusCode::EARLY_HINTS;
    for (name, value) in [
        ("link", "</a.css>; rel=preload"),
        ("link", "</b.js>; rel=preload"),
        ("set-cookie", "early=1"),
        ("server", "target"),
        ("x-stayput-verdict", "hit"),
    ] {
        early.headers_mut().append(name, HeaderValue::from_static(value));
    }
    let mut processing = Response::new(());
    *processing.status_mut() = StatusCode::PROCESSING;
    let mut go_on = Response::new(());
    *go_on.status_mut() = StatusCode::CONTINUE;
    for head in [processing, go_on, early] {
        exchange.respond.send_informational(head).unwrap();
    }
    exchange.say("done");
}

#[test]
fn interim_responses_of_an_http2_target_cross_without_hop_fields() {
    let origin = Http2Origin::serving(hint);
    let group = format!("protocol = \"http2\"\n{NO_CHECKS}");
    let world = over_http2(&[origin.address()], "", &group);
    let client = Http2::to(world.address());
    let mut asked = client.ask(Http2::head("/"), true).unwrap();
    let first = client.wait(asked.interim_head()).unwrap();
    assert_eq!(first.status(), StatusCode::PROCESSING);
    let second = client.wait(asked.interim_head()).unwrap();
    assert_eq!(second.status(), StatusCode::EARLY_HINTS);
    let fields: Vec<_> = second.headers().iter().collect();
    assert_eq!(
        fields,
        [
            (&http::header::LINK, &HeaderValue::from_static("</a.css>; rel=preload")),
            (&http::header::LINK, &HeaderValue::from_static("</b.js>; rel=preload")),
        ]
    );
    let reply = client.reply(asked).unwrap();
    assert_eq!((reply.status.as_u16(), reply.text()), (200, "done"));
    assert_eq!(interim_dropped(&world), 0);
}

#[test]
fn interim_responses_past_the_bound_are_dropped_and_the_final_crosses() {
    let origin = Http2Origin::serving(|mut exchange: Exchange| async move {
        for _ in 0..40 {
            let mut early = Response::new(());
            *early.status_mut() = StatusCode::EARLY_HINTS;
            let link = HeaderValue::from_bytes(&[b'x'; 1_000]).unwrap();
            early.headers_mut().insert("link", link);
            exchange.respond.send_informational(early).unwrap();
        }
        exchange.say("done");
    });
    let group = format!("protocol = \"http2\"\n{NO_CHECKS}");
    let world = over_http2(&[origin.address()], "", &group);
    let client = Http2::to(world.address());
    let mut asked = client.ask(Http2::head("/"), true).unwrap();
    let mut hints = 0;
    while client.wait(asked.interim_head()).is_some() {
        hints += 1;
    }
    // 16 KiB of 1,068 bytes each.
    assert_eq!(hints, 15);
    assert_eq!(client.reply(asked).unwrap().text(), "done");
    assert_eq!(interim_dropped(&world), 25);
}

/// A target whose response to each path has the framing that the path names.
fn lengths() -> Origin {
    Origin::scripted(|request, stream| {
        let head = match request.path() {
            "/204" => "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\nX-A: 1\r\n\r\n",
            "/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n",
            "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
            "/nothing" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell",
        };
        let _ = stream.write_all(head.as_bytes());
        Then::KeepAlive
    })
}

#[test]
fn a_204_has_no_length_and_a_304_keeps_its_own() {
    let origin = lengths();
    let empty = Http2Origin::serving(|mut exchange: Exchange| async move {
        let _ = exchange.respond.send_response(Response::new(()), true);
    });
    let world = World::new(&[&origin], "", NO_CHECKS);
    let group = format!("protocol = \"http2\"\n{NO_CHECKS}");
    let other = over_http2(&[empty.address()], "", &group);
    let client = Http2::to(world.address());
    let without = Http2::to(other.address());
    for (client, method, path, status, length) in [
        (&client, Method::GET, "/204", 204, None),
        (&client, Method::GET, "/304", 304, Some("77")),
        (&client, Method::HEAD, "/head", 200, Some("1234")),
        (&client, Method::GET, "/well", 200, Some("4")),
        (&client, Method::GET, "/nothing", 200, None),
        (&without, Method::GET, "/", 200, None),
        (&without, Method::HEAD, "/", 200, None),
    ] {
        let reply = client.send(Http2::head(path).method(method.clone())).unwrap();
        assert_eq!(reply.status.as_u16(), status, "{method} {path}");
        assert_eq!(reply.field("content-length"), length, "{method} {path}");
    }
    assert_eq!(client.get("/204").field("x-a"), Some("1"));
    if !has(&["curl"]) {
        return;
    }
    for (path, status) in [("/204", "204"), ("/304", "304"), ("/nothing", "200")] {
        let done = Command::new("curl")
            .args(["-sS", "--max-time", "30", "--http2-prior-knowledge", "-o", "/dev/null"])
            .args(["-w", "%{response_code}"])
            .arg(format!("http://{}{path}", world.address()))
            .output()
            .unwrap();
        assert!(done.status.success(), "{path}: {done:?}");
        assert_eq!(String::from_utf8(done.stdout).unwrap(), status);
    }
}

#[test]
fn response_trailers_reach_an_http2_client_announced_or_not() {
    let origin = Origin::scripted(|request, stream| {
        let (announced, trailers) = match request.path() {
            "/announced" => ("Trailer: x-sum\r\n", "x-sum: 1\r\nx-more: 2\r\n"),
            "/not" => ("", "x-sum: 1\r\nx-more: 2\r\nset-cookie: a=1\r\n"),
            // All of their trailers are removed.
            _ => ("", "set-cookie: a=1\r\ncontent-length: 4\r\n"),
        };
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{announced}\r\n\
             4\r\nwell\r\n0\r\n{trailers}\r\n"
        );
        Then::KeepAlive
    });
    let world = World::new(&[&origin], "", NO_CHECKS);
    let client = Http2::to(world.address());
    for (path, expected) in [
        ("/announced", &["x-sum", "x-more"][..]),
        ("/not", &["x-sum", "x-more"]),
        ("/forbidden", &[]),
    ] {
        let reply = client.send(Http2::head(path).header("te", "trailers")).unwrap();
        assert_eq!(reply.text(), "well", "{path}");
        let trailers = reply.trailers.unwrap_or_default();
        let names: Vec<_> = trailers.keys().map(|name| name.as_str()).collect();
        assert_eq!(names, expected, "{path}");
        let record = world.record(|record| record["uri"] == path);
        assert_eq!(record["error_reason"], serde_json::Value::Null, "{path}");
    }
    // If all trailers are forbidden, no HEADERS frame ends the stream.
    let mut client = Frames::begun(world.address());
    client.send(&frames_get(1, "/forbidden"));
    assert_eq!(client.status(1), 200);
    let last = client.next(|frame| frame.stream == 1 && frame.flags & END_STREAM != 0);
    assert_eq!(last.kind, DATA);
}

fn frames_get(stream: u32, path: &str) -> Vec<u8> {
    headers(stream, END_STREAM, &request("GET", path, &[]))
}

fn sum() -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("x-sum"), HeaderValue::from_static("9"))])
}

#[test]
fn requests_with_trailers_keep_their_connection_and_their_time_outs() {
    let origin = Origin::scripted(|request, stream| {
        if request.path() == "/silent" {
            let _ = stream.read(&mut [0]);
            return Then::Close;
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell");
        Then::KeepAlive
    });
    let http2_origin = Http2Origin::serving(|mut exchange: Exchange| async move {
        while exchange.data().await.is_some() {}
        let _ = exchange.request.body_mut().trailers().await;
        if exchange.request.uri().path() == "/silent" {
            exchange.until_reset().await;
            return;
        }
        exchange.say("well");
    });
    let upstream = "upstream = { timeouts = { response = \"1s\" } }";
    let listener = "timeouts = { idle = \"2s\" }";
    for (world, what) in [
        (World::new(&[&origin], listener, &format!("{upstream}\n{NO_CHECKS}")), "HTTP/1.1"),
        (
            over_http2(
                &[http2_origin.address()],
                listener,
                &format!("protocol = \"http2\"\n{upstream}\n{NO_CHECKS}"),
            ),
            "HTTP/2",
        ),
    ] {
        let client = Http2::to(world.address());
        let post = |path| {
            let head = Http2::head(path).method(Method::POST).header("trailer", "x-sum");
            let mut asked = client.ask(head, false).unwrap();
            asked.body.send_data(Bytes::from_static(b"body"), false).unwrap();
            asked
        };
        for _ in 0..3 {
            let mut asked = post("/well");
            asked.body.send_trailers(sum()).unwrap();
            assert_eq!(client.reply(asked).unwrap().text(), "well", "{what}");
        }
        // The trailers end the request; from then on the target's time-out runs.
        let mut asked = post("/silent");
        asked.body.send_trailers(sum()).unwrap();
        assert_eq!(client.reply(asked).unwrap().status, 504, "{what}");
        // Until they arrive, the client's time-out runs.
        let asked = post("/well");
        assert_eq!(client.reply(asked).unwrap().status, 408, "{what}");
        assert_eq!(client.get("/well").text(), "well", "{what}");
    }
    let tails = origin.heard().iter().filter(|heard| heard.head.contains("x-sum: 9")).count();
    assert_eq!(tails, 4, "they crossed");
}

#[test]
fn local_responses_have_a_body_the_listeners_fields_and_a_record() {
    let origin =
        Origin::saying("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell", Then::KeepAlive);
    let listener = "timeouts = { idle = \"1s\" }\nlimits = { header_bytes = \"8KiB\", headers = 20 }\n\
                    response_headers = { x-frame-options = \"DENY\" }";
    let world = World::new(&[&origin], listener, NO_CHECKS);
    let client = Http2::to(world.address());
    let long = format!("/long?{}", "x".repeat(9_000));
    let many = (0..30).fold(Http2::head("/many"), |head, at| head.header(format!("x-{at}"), "1"));
    let wide = Http2::head("/wide").header("x-a", "x".repeat(8_200));
    let wider = Http2::head("/wider").header("x-a", "x".repeat(9_500));
    for (request, ends, uri, status, why) in [
        (Http2::head("/bad").header("host", "other.example"), true, "/bad", 400, "bad_host"),
        (Http2::head("/late").method(Method::POST), false, "/late", 408, "request_timeout"),
        (Http2::head(&long), true, &*long, 414, "uri_too_long"),
        (many, true, "/many", 431, "head_too_large"),
        (wide, true, "/wide", 431, "head_too_large"),
        // Above the balancer's limits, and within those of the library.
        (wider, true, "/wider", 431, "head_too_large"),
    ] {
        let asked = client.ask(request, ends).unwrap();
        let reply = client.reply(asked).unwrap();
        assert_eq!(reply.status.as_u16(), status, "{uri}");
        assert!(reply.text().contains(&format!("<title>{status} ")), "{reply:?}");
        assert_eq!(reply.field("content-type"), Some("text/html"));
        assert_eq!(reply.field("x-frame-options"), Some("DENY"), "{uri}");
        let record = world.record(|record| record["uri"] == *uri);
        assert_eq!((&record["status"], &record["error_reason"]), (&status.into(), &why.into()));
        assert_eq!((&record["type"], &record["host"]), (&"h2".into(), &"shop.example".into()));
    }
    assert!(origin.heard().is_empty());
    assert_eq!(client.get("/").text(), "well", "the connection goes on");
}

#[test]
fn only_a_connection_whose_response_ended_cleanly_is_reused() {
    for (method, answer, body, reused) in [
        (Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", true),
        (Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "", true),
        (
            Method::GET,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "ok",
            true,
        ),
        (Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 no", "ok", false),
        (Method::GET, "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", false),
    ] {
        let origin = Origin::saying(answer, Then::KeepAlive);
        let world = World::new(&[&origin], "", NO_CHECKS);
        let client = Http2::to(world.address());
        for _ in 0..3 {
            let reply = client.send(Http2::head("/").method(method.clone())).unwrap();
            assert_eq!((reply.status.as_u16(), reply.text()), (200, body), "{answer:?}");
        }
        let seen: Vec<_> = origin.heard().iter().map(|heard| heard.nth).collect();
        assert_eq!(seen, if reused { [0, 1, 2] } else { [0, 0, 0] }, "{answer:?}");
    }
}

#[test]
fn requests_refused_by_the_http2_library_are_logged() {
    let origin =
        Origin::saying("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell", Then::KeepAlive);
    for (what, fields, expected) in [
        ("a connection's field", request("GET", "/", &[("connection", "close")]), 400),
        ("a path without a slash", request("GET", "well", &[]), 400),
        ("a length without a body", request("GET", "/", &[("content-length", "1")]), 400),
        ("a head past all bounds", request("GET", "/", &[("x-a", &"x".repeat(110_000))]), 431),
    ] {
        let world = World::new(&[&origin], "", NO_CHECKS);
        let mut client = Frames::begun(world.address());
        // Other streams of the same turn are served, and their records are not mixed up.
        let pieces: Vec<&[u8]> = fields.chunks(16_384).collect();
        let mut bytes = frames_get(1, "/before");
        for (at, piece) in pieces.iter().enumerate() {
            let end = if at + 1 == pieces.len() { END_HEADERS } else { 0 };
            let (kind, flags) = if at == 0 { (HEADERS, END_STREAM) } else { (CONTINUATION, 0) };
            bytes.extend(frame(kind, flags | end, 3, piece));
        }
        bytes.extend(frames_get(5, "/after"));
        client.send(&bytes);
        let mut statuses = Vec::new();
        while statuses.len() < 3 {
            let said = client.next(|frame| frame.kind == HEADERS || frame.kind == RST_STREAM);
            match said.kind {
                HEADERS => statuses.push((said.stream, said.status())),
                _ if statuses.contains(&(said.stream, 431)) => {}
                _ => {
                    assert_eq!((said.stream, said.error()), (3, PROTOCOL_ERROR), "{what}");
                    statuses.push((3, 400));
                }
            }
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [(1, 200), (3, expected), (5, 200)], "{what}");
        let why = if expected == 400 { "malformed_head" } else { "head_too_large" };
        let record = world.record(|record| record["error_reason"] == why);
        assert_eq!((&record["status"], &record["uri"]), (&expected.into(), &"-".into()), "{what}");
        assert_eq!(record["type"], "h2", "{what}");
        let lines = world.lines(3, |_| true);
        assert_eq!(lines.len(), 3, "{what}: {lines:?}");
        let unparsable =
            || world.server().counters().iter().map(|own| own.unparsable.value()).sum::<u64>();
        until("it is counted", || (unparsable() == 1).then_some(()));
    }
}

#[test]
fn a_head_only_the_balancer_finds_malformed_is_logged() {
    let origin =
        Origin::saying("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell", Then::KeepAlive);
    let world = World::new(&[&origin], "", NO_CHECKS);
    let mut client = Frames::begun(world.address());
    for (nth, (path, fields, uri)) in
        (0..).zip([("/blank?a=1", &[("x-a", " 1")][..], "/blank?a=1"), ("?x=1", &[], "/?x=1")])
    {
        let stream = nth * 2 + 1;
        client.send(&headers(stream, END_STREAM, &request("GET", path, fields)));
        assert_eq!(client.reset_of(stream), PROTOCOL_ERROR, "{path}");
        let record = world.record(|record| record["uri"] == uri);
        assert_eq!(
            (&record["status"], &record["error_reason"], &record["host"], &record["type"]),
            (&400.into(), &"malformed_head".into(), &"shop.example".into(), &"h2".into())
        );
    }
    let any = [(":method", "OPTIONS"), (":scheme", "http"), (":path", "*")];
    let block = block(&[&any[..], &[(":authority", "shop.example")]].concat());
    client.send(&headers(5, END_STREAM, &block));
    assert_eq!(client.status(5), 200, "* is a target of OPTIONS");
    assert_eq!(origin.heard().len(), 1);
}

#[test]
fn characters_outside_rfc_3986_reach_the_target_as_sent() {
    let origin =
        Origin::saying("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell", Then::KeepAlive);
    let world = World::new(&[&origin], "", NO_CHECKS);
    let mut client = Frames::begun(world.address());
    let mut stream = 1;
    for byte in b"\"<>`{}|^\\[]" {
        for (path, refused) in [
            (format!("/a{}b", char::from(*byte)), b"<>`"),
            (format!("/?a={}", char::from(*byte)), b"<>\""),
        ] {
            client.send(&frames_get(stream, &path));
            if refused.contains(byte) {
                assert_eq!(client.reset_of(stream), PROTOCOL_ERROR, "{path}");
                let record = world.record(|record| record["error_reason"] == "malformed_head");
                assert_eq!(record["status"], 400);
            } else {
                assert_eq!(client.status(stream), 200, "{path}");
                let heard = origin.heard().pop().unwrap();
                assert_eq!(heard.head.lines().next(), Some(&*format!("GET {path} HTTP/1.1")));
                world.record(|record| record["uri"] == *path);
            }
            stream += 2;
        }
    }
    let refused = world.lines(6, |line| line.contains("malformed_head"));
    assert_eq!(refused.len(), 6);
}

/// The library bounds trailers to 35 KiB, including 32 bytes for each field; fields above that are
/// dropped.
#[test]
fn too_large_http2_trailers_fail_no_other_stream() {
    let origin = Http2Origin::serving(|mut exchange: Exchange| async move {
        let large = exchange.request.uri().path() == "/large";
        let mut way = exchange.respond.send_response(Response::new(()), false).unwrap();
        way.send_data(Bytes::from_static(b"body"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-first", HeaderValue::from_static("1"));
        if large {
            let value = HeaderValue::from_bytes(&[b'x'; 60_000]).unwrap();
            trailers.insert("x-large", value);
        }
        trailers.insert("x-last", HeaderValue::from_static("1"));
        way.send_trailers(trailers).unwrap();
    });
    let group = format!("protocol = \"http2\"\n{NO_CHECKS}");
    let world = over_http2(&[origin.address()], "", &group);
    let client = Http2::to(world.address());
    for (path, expected) in [("/small", &["x-first", "x-last"][..]), ("/large", &["x-first"])] {
        let reply = client.get(path);
        assert_eq!((reply.status.as_u16(), reply.text()), (200, "body"), "{path}");
        let trailers = reply.trailers.unwrap_or_default();
        let names: Vec<_> = trailers.keys().map(|name| name.as_str()).collect();
        assert_eq!(names, expected, "{path}");
    }
    assert_eq!(client.get("/small").text(), "body");
    assert_eq!(origin.connections(), 1);
}
