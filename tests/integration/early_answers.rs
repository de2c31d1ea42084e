//! Responses that come before the end of their request, and which side is at fault for a stall.

use crate::support::http2_origin::Exchange;
use crate::support::{Authority, Browser, Http2, Http2Origin, Origin, Visitor, World, until};
use bytes::Bytes;
use http::Method;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

const NO_CHECKS: &str = "health = { protocol = \"tcp\", interval = \"300s\", fast_interval = \"300s\", passive = { connect_failures = 0 } }";

/// Size of a body that the client sends without reading.
const LARGE: usize = 10_000_000;

/// A target with one fixed response, which it sends as soon as it has a head. Then it reads to the
/// end and counts the bytes, or does not read at all.
fn hasty(reads_on: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let read = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&read);
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let read = Arc::clone(&counted);
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut byte) {
                        Ok(1) => head.push(byte[0]),
                        _ => return,
                    }
                }
                let answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
                stream.write_all(answer).unwrap();
                let mut scratch = vec![0; 65_536];
                while reads_on
                    && let Ok(count) = stream.read(&mut scratch)
                    && count > 0
                {
                    read.fetch_add(count, Ordering::SeqCst);
                }
            });
        }
    });
    (address, read)
}

fn world(target: SocketAddr, listener: &str, group: &str) -> World {
    World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\ndrain_timeout = \"5s\"\n\
         [log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n{listener}\n\
         [target_group.app]\ntargets = [\"{target}\"]\n{group}\n{NO_CHECKS}\n"
    ))
}

/// Sends the whole request and only then reads. Returns the text read, and true if all could be
/// sent.
fn upload(address: SocketAddr, size: usize) -> (String, bool) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let is_sent = stream.write_all(&vec![b'y'; size]).is_ok();
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    (String::from_utf8(all).unwrap(), is_sent)
}

#[test]
fn a_refusal_reaches_a_client_that_reads_after_sending_all() {
    let origin = Origin::named("a");
    let world = world(origin.address(), "limits = { body_bytes = \"1MB\" }", "");
    for _ in 0..40 {
        let (answer, is_sent) = upload(world.address(), LARGE);
        assert!(is_sent && answer.starts_with("HTTP/1.1 413 "), "{is_sent} {answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    }
    let record = world.record(|record| record["status"] == 413);
    assert_eq!(record["error_reason"], "body_too_large");
    assert!(record["sent_bytes"].as_u64().unwrap() > 100, "{record}");
}

#[test]
fn a_targets_early_response_reaches_a_client_that_still_sends() {
    let (address, read) = hasty(true);
    let world = world(address, "", "");
    for _ in 0..20 {
        let before = read.load(Ordering::SeqCst);
        let (answer, is_sent) = upload(world.address(), LARGE);
        assert!(is_sent && answer.starts_with("HTTP/1.1 403 "), "{is_sent} {answer}");
        assert!(answer.ends_with("no"), "{answer}");
        // A fast target may have read the whole body before its response is read here; then the
        // connection stays open.
        let taken = read.load(Ordering::SeqCst) - before;
        let is_said = answer.contains("\r\nconnection: close\r\n");
        assert!(is_said || taken == LARGE, "{taken} {answer}");
        until("all of it is with the target", || {
            (read.load(Ordering::SeqCst) - before == LARGE).then_some(())
        });
    }
}

#[test]
fn a_response_is_kept_if_its_target_closes_at_once() {
    let (address, _) = hasty(false);
    let world = world(address, "", "");
    // The target's kernel may discard bytes with the reset. The test is that the balancer always
    // sends a complete response.
    for _ in 0..20 {
        let (answer, is_sent) = upload(world.address(), LARGE);
        assert!(is_sent && answer.contains("\r\nconnection: close\r\n"), "{is_sent} {answer}");
        assert!(answer.starts_with("HTTP/1.1 403 ") || answer.starts_with("HTTP/1.1 502 "));
    }
}

#[test]
fn a_connection_is_reused_after_a_refusal_with_a_whole_body() {
    let origin = Origin::named("a");
    let world = World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n\
         [[rule]]\nname = \"no\"\npaths = [\"/no\"]\nrespond = {{ status = 403 }}\n\
         [target_group.app]\ntargets = [\"{}\"]\n{NO_CHECKS}\n",
        origin.address()
    ));
    let mut visitor = Visitor::of(world.address());
    for _ in 0..3 {
        let answer = visitor.ask("POST", "/no", &[], "small");
        assert_eq!((answer.status, answer.field("connection")), (403, None));
        assert_eq!(visitor.get("/").body, "a");
    }
    // The balancer does not wait for a body that does not exist.
    visitor.send("POST /no HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
    let answer = visitor.read_answer(false);
    assert_eq!((answer.status, answer.field("connection")), (403, Some("close")));
}

#[test]
fn a_response_may_end_before_its_request() {
    let (address, _) = hasty(true);
    let world = world(address, "", "");
    let mut client = TcpStream::connect(world.address()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(4))).unwrap();
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nsome").unwrap();
    let mut all = String::new();
    client.read_to_string(&mut all).expect("an end, while the request is open");
    assert!(all.ends_with("no"), "{all}");
    // And the body is read further.
    client.write_all(b"more").unwrap();
    let record = world.record(|record| record["status"] == 403);
    assert_eq!(record["error_reason"], serde_json::Value::Null, "{record}");
}

#[test]
fn an_early_response_ends_the_stream_before_the_reset() {
    let origin = Http2Origin::serving(|mut exchange: Exchange| async move { exchange.say("no") });
    for (address, group) in [(hasty(true).0, ""), (origin.address(), "protocol = \"http2\"")] {
        let world = world(address, "", group);
        let client = Http2::to(world.address());
        let mut asked = client.ask(Http2::head("/").method(Method::POST), false).unwrap();
        asked.body.send_data(Bytes::from_static(b"some"), false).unwrap();
        let reply = client.reply(asked).unwrap();
        assert_eq!(reply.text(), "no");
        assert_eq!(client.get("/").text(), "no", "the connection goes on");
    }
}

#[test]
fn a_stalled_upload_is_the_fault_of_the_side_that_stalls() {
    // The target's kernel accepts, and fills its buffers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let world = world(
        address,
        "timeouts = { idle = \"1s\" }",
        "upstream = { timeouts = { response = \"2s\" } }",
    );
    let chunk = format!("{:x}\r\n{}\r\n", 65_536, "y".repeat(65_536)).repeat(300);
    for (fields, body) in [
        (format!("Content-Length: {}", 2 * LARGE), "y".repeat(2 * LARGE)),
        ("Transfer-Encoding: chunked".to_owned(), format!("{chunk}0\r\n\r\n")),
        (
            "Trailer: x\r\nTransfer-Encoding: chunked".to_owned(),
            format!("{chunk}0\r\nx: y\r\n\r\n"),
        ),
    ] {
        let mut client = TcpStream::connect(world.address()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let head = format!("POST /ready HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
        let mut sender = client.try_clone().unwrap();
        std::thread::spawn(move || {
            let _ = sender.write_all(head.as_bytes());
            let _ = sender.write_all(body.as_bytes());
        });
        let mut status = [0; 12];
        client.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 504", "{fields}");
    }
    let http2 = Http2::to(world.address());
    let mut asked = http2.ask(Http2::head("/ready").method(Method::POST), false).unwrap();
    let mut left = 2 * LARGE;
    while left > 0 && asked.body.capacity() < left {
        asked.body.send_data(Bytes::from(vec![b'y'; 1 << 16]), false).unwrap();
        left = left.saturating_sub(1 << 16);
    }
    assert_eq!(http2.reply(asked).unwrap().status, 504);
    let record = world.record(|record| record["uri"] == "/ready");
    assert_eq!(record["error_reason"], "response_timeout");
    let mut visitor = Visitor::of(world.address());
    visitor.send("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
    assert_eq!(visitor.read_answer(false).status, 408);
    let record = world.record(|record| record["uri"] == "/slow");
    assert_eq!(record["error_reason"], "request_timeout");
}

#[test]
fn a_client_that_leaves_is_460_in_every_phase() {
    // The target's kernel accepts, but no process reads.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let worlds = [
        world(listener.local_addr().unwrap(), "", ""),
        world(listener.local_addr().unwrap(), "", "protocol = \"http2\""),
    ];
    for (at, world) in worlds.iter().enumerate() {
        // A group of HTTP/2 targets does not accept HTTP/1.1.
        let is_http2 = at == 1;
        for (path, rest) in [
            ("/length", "Content-Length: 10\r\n\r\nhalf"),
            ("/chunked", "Transfer-Encoding: chunked\r\n\r\n5\r\nhalf"),
            ("/between", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
            ("/trailers", "Transfer-Encoding: chunked\r\n\r\n0\r\nx: y\r\n"),
            ("/whole", "Content-Length: 4\r\n\r\nhalf"),
            ("/none", "\r\n"),
        ]
        .into_iter()
        .filter(|_| !is_http2)
        {
            let mut visitor = Visitor::of(world.address());
            visitor.send(&format!("POST {path} HTTP/1.1\r\nHost: a\r\n{rest}"));
            visitor.leave();
            let record = world.record(|record| record["uri"] == path);
            assert_eq!(record["status"], 460, "{record}");
            assert_eq!(record["error_reason"], "client_gone", "{record}");
        }
        let client = Http2::to(world.address());
        let mut asked = client.ask(Http2::head("/stream").method(Method::POST), false).unwrap();
        asked.body.send_data(Bytes::from_static(b"some"), false).unwrap();
        asked.body.send_reset(h2::Reason::CANCEL);
        let record = world.record(|record| record["uri"] == "/stream");
        assert_eq!(
            (&record["status"], &record["error_reason"]),
            (&460.into(), &"client_gone".into())
        );
    }
}

/// A target with small receive buffers. It reads a head, responds when the test signals, and reads
/// on only after a second signal.
fn cramped() -> (SocketAddr, mpsc::Sender<()>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(16).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let (told, orders) = mpsc::channel();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                head.push(byte[0]);
            }
            // The only health check needs no response.
            if head.is_empty() {
                continue;
            }
            if orders.recv().is_err() {
                return;
            }
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
            if orders.recv().is_err() {
                return;
            }
        }
    });
    (address, told)
}

#[test]
fn a_response_without_close_leaves_the_connection_usable() {
    let (address, told) = cramped();
    let turn = "[[rule]]\nname = \"turn\"\npaths = [\"/turn\"]\nrespond = { status = 204 }";
    let world = world(address, turn, "");
    let mut said = Vec::new();
    // From sizes that fit into the buffers to sizes that do not. In between, the balancer has the
    // last piece of the upload and the target does not.
    for size in (1..80).map(|step| step << 16) {
        let stream = TcpStream::connect(world.address()).unwrap();
        let mut sender = stream.try_clone().unwrap();
        let mut client = Visitor::over(stream);
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
        client.send(&head);
        let sent = std::thread::spawn(move || sender.write_all(&vec![b'y'; size]));
        // Gives the only worker time to read the bytes that have arrived.
        let mut other = Visitor::of(world.address());
        (0..60).for_each(|_| assert_eq!(other.get("/turn").status, 204));
        told.send(()).unwrap();
        let answer = client.read_answer(false);
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "{size}");
        let ends = answer.field("connection") == Some("close");
        said.push(ends);
        if !ends {
            sent.join().unwrap().unwrap();
            client.send("GET /turn HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.read_answer(false).status, 204, "after {size}");
        }
        told.send(()).unwrap();
    }
    assert!(!said[0] && said[said.len() - 1], "{said:?}");
}

/// A target that responds as soon as it has a head, reads on, and signals when its connection
/// ended.
fn reading_on() -> (SocketAddr, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (ended, ends) = mpsc::channel();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let ended = ended.clone();
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut byte) {
                        Ok(1) => head.push(byte[0]),
                        _ => return,
                    }
                }
                stream.write_all(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno").unwrap();
                while matches!(stream.read(&mut byte), Ok(1)) {}
                let _ = ended.send(());
            });
        }
    });
    (address, ends)
}

#[test]
fn a_drain_does_not_wait_for_a_target_that_reads_on() {
    let (address, ends) = reading_on();
    let mut http1 = world(address, "", "");
    let mut client = TcpStream::connect(http1.address()).unwrap();
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nsome").unwrap();
    let mut all = String::new();
    client.read_to_string(&mut all).unwrap();
    assert!(all.ends_with("no"), "{all}");
    assert_eq!(http1.drain(), 0);
    ends.recv_timeout(Duration::from_secs(10)).expect("the target's connection is closed");

    let mut http2 = world(address, "", "");
    let client = Http2::to(http2.address());
    let mut asked = client.ask(Http2::head("/").method(Method::POST), false).unwrap();
    asked.body.send_data(Bytes::from_static(b"some"), false).unwrap();
    let (response, _upload) = client.begun(asked).unwrap();
    let mut body = response.into_body();
    client.wait(async { while body.data().await.is_some() {} });
    assert_eq!(http2.drain(), 0);
    ends.recv_timeout(Duration::from_secs(10)).expect("the target's connection is closed");
}

/// A target that never responds and signals when it has read `half`. An HTTP/2 target sends its
/// SETTINGS.
fn silent(is_http2: bool) -> (SocketAddr, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (has_read, reads) = mpsc::channel();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let has_read = has_read.clone();
            std::thread::spawn(move || {
                if is_http2 {
                    let _ = stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
                }
                let mut read = Vec::new();
                let mut byte = [0];
                while let Ok(1) = stream.read(&mut byte) {
                    read.push(byte[0]);
                    if read.ends_with(b"half") {
                        let _ = has_read.send(());
                    }
                }
            });
        }
    });
    (address, reads)
}

#[test]
fn a_stream_with_a_wrong_length_is_a_client_error_and_not_460() {
    for (is_http2, group) in [(false, ""), (true, "protocol = \"http2\"")] {
        let (address, reads) = silent(is_http2);
        let world = world(address, "", group);
        // The bytes after the half, and whether the stream ends with them.
        for (path, rest, status, reason) in [
            ("/short", Some((&b"less"[..], true)), 400, "body_malformed"),
            ("/long", Some((&b"more than was said"[..], false)), 400, "body_malformed"),
            ("/left", None, 460, "client_gone"),
        ] {
            let client = Http2::to(world.address());
            let head = Http2::head(path).method(Method::POST).header("content-length", 12);
            let mut asked = client.ask(head, false).unwrap();
            asked.body.send_data(Bytes::from_static(b"half"), false).unwrap();
            reads.recv_timeout(Duration::from_secs(10)).expect("half of it is with the target");
            match rest {
                Some((rest, ends)) => asked.body.send_data(rest.into(), ends).unwrap(),
                None => asked.body.send_reset(h2::Reason::CANCEL),
            }
            let record = world
                .record(|record| record["uri"].as_str().is_some_and(|uri| uri.ends_with(path)));
            assert_eq!(record["status"], status, "{record}");
            assert_eq!(record["error_reason"], reason, "{record}");
        }
    }
}

#[test]
fn over_tls_a_finished_response_leaves_the_request_running() {
    let (address, read) = hasty(true);
    let authority = Authority::new();
    let shop = authority.sign("shop", &["shop.example"]);
    let world = world(address, &format!("tls = {{ certificates = [{}] }}", shop.entry()), "");
    let browser = Browser::trusting(&authority);
    let mut client = browser.connect(world.address(), "shop.example").unwrap();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nsome";
    client.stream.write_all(head).unwrap();
    let mut all = String::new();
    // Without TLS's close_notify this read fails.
    client.stream.read_to_string(&mut all).unwrap();
    assert!(all.contains("\r\nconnection: close\r\n") && all.ends_with("no"), "{all}");
    assert_eq!(client.stream.sock.read(&mut [0]).unwrap(), 0, "the sending half ends behind it");
    client.stream.write_all(b"more").unwrap();
    client.stream.flush().unwrap();
    until("the target has both pieces", || (read.load(Ordering::SeqCst) == 8).then_some(()));
}
