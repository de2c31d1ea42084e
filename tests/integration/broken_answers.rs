//! Targets that fail in the middle of a response: earlier bytes arrive, and the cut is visible.

use crate::support::http2::reset;
use crate::support::http2_origin::{Exchange, send};
use crate::support::origin::Then;
use crate::support::{Http2, Http2Origin, Origin, World};
use bytes::Bytes;
use h2::Reason;
use http::{Method, Response};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const NO_CHECKS: &str = "health = { protocol = \"tcp\", interval = \"300s\", fast_interval = \"300s\", passive = { connect_failures = 0 } }";

/// More than one read, one frame, or a socket's buffer holds.
const LARGE: usize = 320 << 10;

/// Number of concurrent clients. The order in which the target's bytes and its close arrive differs
/// among them.
const CLIENTS: usize = 40;

/// Ways in which a target breaks off: its framing fields, the bytes after those of the body, and
/// how it closes.
const BREAKS: [(&str, &str, &str, Then); 5] = [
    ("short", "Content-Length: 999999\r\n", "", Then::Close),
    ("chunks-end", "Transfer-Encoding: chunked\r\n", "", Then::Close),
    ("chunks-reset", "Transfer-Encoding: chunked\r\n", "", Then::Reset),
    ("chunks-bad", "Transfer-Encoding: chunked\r\n", "zz\r\n", Then::Close),
    ("plain-reset", "", "", Then::Reset),
];

/// A target that breaks off as the first part of the path says, after the number of bytes in the
/// second.
fn breaking() -> Origin {
    Origin::scripted(|heard, stream| {
        let mut parts = heard.path().split('/').skip(1);
        let name = parts.next().unwrap_or_default().to_owned();
        let size: usize = parts.next().and_then(|size| size.parse().ok()).unwrap_or_default();
        let (_, fields, bad, then) = BREAKS.into_iter().find(|(known, ..)| *known == name).unwrap();
        let mut answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\n").into_bytes();
        let is_chunked = size > 0 && fields.starts_with("Transfer");
        if is_chunked {
            answer.extend(format!("{size:x}\r\n").bytes());
        }
        answer.extend(vec![b'x'; size]);
        if is_chunked {
            answer.extend(b"\r\n");
        }
        answer.extend(bad.bytes());
        let _ = stream.write_all(&answer);
        then
    })
}

/// The end of a connection as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Plain,
    Reset,
}

/// The whole result of one request.
fn ask(address: SocketAddr, path: &str, version: &str) -> (Vec<u8>, End) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(format!("GET {path} HTTP/{version}\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
    let (mut all, mut scratch) = (Vec::new(), vec![0; 65_536]);
    loop {
        match stream.read(&mut scratch) {
            Ok(0) => return (all, End::Plain),
            Ok(count) => all.extend_from_slice(&scratch[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return (all, End::Reset),
            Err(error) => panic!("{path}: {error}"),
        }
    }
}

fn bytes_of_body(all: &[u8]) -> usize {
    let head = all.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    all[head..].iter().filter(|byte| **byte == b'x').count()
}

#[test]
fn bytes_before_a_target_failure_arrive_and_the_cut_is_visible() {
    let origin = breaking();
    let world = World::new(&[&origin], "", NO_CHECKS);
    let address = world.address();
    for (name, fields, _, then) in BREAKS {
        for size in [100, LARGE] {
            for version in ["1.1", "1.0"] {
                let path = format!("/{name}/{size}");
                let asked: Vec<_> = (0..CLIENTS)
                    .map(|_| {
                        let path = path.clone();
                        std::thread::spawn(move || ask(address, &path, version))
                    })
                    .collect();
                for client in asked {
                    let (all, end) = client.join().unwrap();
                    let came = bytes_of_body(&all);
                    // A reset discards the bytes that the target's kernel has not sent yet.
                    let may_lack = then == Then::Reset && size == LARGE;
                    assert!(came == size || may_lack, "{path} {version}: {came} bytes");
                    assert!(all.starts_with(b"HTTP/1.1 200") || all.starts_with(b"HTTP/1.0 200"));
                    let says_length = fields.starts_with("Content-Length");
                    match version {
                        "1.0" if !says_length => assert_eq!(end, End::Reset, "{path} {version}"),
                        _ => assert!(says_length || !all.ends_with(b"0\r\n\r\n"), "{path}"),
                    }
                }
                let record = world.record(|record| record["uri"] == path.as_str());
                assert_eq!(record["status"], 200, "{path}");
                assert_eq!(record["error_reason"], "target_broke_off", "{path}");
            }
        }
    }
}

#[test]
fn a_stream_gets_its_head_and_all_bytes_before_it_is_reset() {
    let http1 = breaking();
    let http2 = Http2Origin::serving(|mut exchange: Exchange| async move {
        let path = exchange.request.uri().path().to_owned();
        let size: usize = path.rsplit('/').next().unwrap().parse().unwrap();
        let Ok(mut way) = exchange.respond.send_response(Response::new(()), false) else { return };
        let _ = send(&mut way, Bytes::from(vec![b'x'; size])).await;
        // The library discards unsent bytes when a stream is reset, so the client decides when that
        // happens.
        while exchange.data().await.is_some() {}
        way.send_reset(Reason::INTERNAL_ERROR);
    });
    let of = |address: SocketAddr, group: &str| {
        World::of_text(&format!(
            "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
             [listener.web]\naddress = \"127.0.0.1:0\"\n\
             [target_group.app]\ntargets = [\"{address}\"]\n{group}\n{NO_CHECKS}\n"
        ))
    };
    let worlds = [of(http1.address(), ""), of(http2.address(), "protocol = \"http2\"")];
    for (world, name) in worlds.iter().zip(["chunks-bad", "any"]) {
        let client = Http2::to(world.address());
        for size in [0, 1, 100, LARGE] {
            for _ in 0..20 {
                let head = Http2::head(&format!("/{name}/{size}")).method(Method::POST);
                let asked = client.ask(head, name != "any").unwrap();
                let (response, mut upload) = client.begun(asked).expect("a head");
                assert_eq!(response.status(), 200);
                let mut stream = response.into_body();
                let (mut came, mut error) = (0, None);
                client.wait(async {
                    if size == 0 && name == "any" {
                        upload.send_data(Bytes::new(), true).unwrap();
                    }
                    while let Some(data) = stream.data().await {
                        match data {
                            Ok(data) => {
                                let _ = stream.flow_control().release_capacity(data.len());
                                came += data.len();
                                if came == size && name == "any" {
                                    upload.send_data(Bytes::new(), true).unwrap();
                                }
                            }
                            Err(why) => {
                                error = Some(why);
                                break;
                            }
                        }
                    }
                });
                assert_eq!(came, size, "{name}");
                let error = error.expect("half an answer is no whole one");
                assert_eq!(reset(&error), Some(Reason::INTERNAL_ERROR));
            }
        }
    }
}

#[test]
fn too_many_trailers_are_dropped_and_the_body_arrives() {
    let origin = Origin::scripted(|_, stream| {
        let answer = format!(
            "HTTP/1.1 200 OK\r\nTrailer: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n{}\r\n",
            "x: y\r\n".repeat(4_000)
        );
        let _ = stream.write_all(answer.as_bytes());
        Then::KeepAlive
    });
    let world = World::new(&[&origin], "", NO_CHECKS);
    let mut visitor = crate::support::Visitor::of(world.address());
    for _ in 0..3 {
        let answer = visitor.ask("GET", "/", &["TE: trailers"], "");
        assert_eq!((answer.status, answer.body.as_str(), answer.whole), (200, "body", true));
        assert!(answer.trailers.is_empty());
    }
    let client = Http2::to(world.address());
    let reply = client.send(Http2::head("/").header("te", "trailers")).unwrap();
    assert_eq!((reply.text(), reply.trailers.is_none()), ("body", true));
}
