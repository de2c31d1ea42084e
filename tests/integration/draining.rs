//! SIGTERM: requests in flight finish, and stalled ones are cut.

use crate::support::origin::Then;
use crate::support::{Origin, Visitor, World, until};
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn gated() -> (Origin, Arc<Mutex<()>>) {
    let gate = Arc::new(Mutex::new(()));
    let held = gate.clone();
    let origin = Origin::scripted(move |request, stream| {
        if request.path() == "/slow" {
            drop(held.lock().unwrap());
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone");
        Then::KeepAlive
    });
    (origin, gate)
}

#[test]
fn requests_in_flight_finish_and_their_responses_close() {
    let (origin, gate) = gated();
    let mut world = World::new(&[&origin], "", "");
    let mut visitor = Visitor::of(world.address());
    let closed = gate.lock().unwrap();
    visitor.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request is under way", || origin.heard().first().cloned());
    let address = world.address();
    let drained = std::thread::spawn(move || (world.drain(), world));
    until("nothing more is accepted", || {
        std::net::TcpStream::connect(address).is_err().then_some(())
    });
    drop(closed);
    let answer = visitor.read_answer(false);
    assert_eq!((answer.status, answer.body.as_str()), (200, "done"));
    assert_eq!(answer.field("connection"), Some("close"));
    let (cut, _world) = drained.join().unwrap();
    assert_eq!(cut, 0);
}

#[test]
fn requests_past_the_drain_timeout_are_cut_and_counted() {
    let (origin, gate) = gated();
    let text = format!(
        "[runtime]\nworkers = 2\nstate_dir = \"state\"\ndrain_timeout = \"300ms\"\n\
         [log]\naccess = {{ to = \"access.log\" }}\n[listener.web]\naddress = \"127.0.0.1:0\"\n\
         [target_group.app]\ntargets = [\"{}\"]\n",
        origin.address()
    );
    let mut world = World::of_text(&text);
    let mut visitor = Visitor::of(world.address());
    let closed = gate.lock().unwrap();
    visitor.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request is under way", || origin.heard().first().cloned());
    assert_eq!(world.drain(), 1);
    assert!(visitor.sees_close());
    drop(closed);
}

#[test]
fn idle_connections_close_within_their_grace() {
    let (origin, _gate) = gated();
    let mut world = World::new(&[&origin], "", "");
    let mut visitors: Vec<_> = (0..5).map(|_| Visitor::of(world.address())).collect();
    visitors.iter_mut().for_each(|visitor| assert_eq!(visitor.get("/").status, 200));
    let begun = Instant::now();
    assert_eq!(world.drain(), 0);
    assert!(begun.elapsed() < Duration::from_secs(5), "the drain waited for its deadline");
    assert!(visitors.iter_mut().all(Visitor::sees_close));
}

#[test]
fn requests_cut_by_the_drain_timeout_are_logged_as_cut() {
    let origin = Origin::scripted(|request, stream| {
        if request.path() == "/tunnel" {
            let _ = stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        }
        let _ = std::io::Read::read(stream, &mut [0; 1]);
        Then::Close
    });
    let text = format!(
        "[runtime]\nworkers = 2\nstate_dir = \"state\"\ndrain_timeout = \"300ms\"\n\
         [log]\naccess = {{ to = \"access.log\" }}\n[listener.web]\naddress = \"127.0.0.1:0\"\n\
         [target_group.app]\ntargets = [\"{}\"]\n",
        origin.address()
    );
    let mut world = World::of_text(&text);
    let mut waiting = Visitor::of(world.address());
    waiting.send("GET /hanging HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut tunnel = Visitor::of(world.address());
    tunnel.send("GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n");
    assert_eq!(tunnel.read_answer(false).status, 101);
    until("both are with the target", || (origin.heard().len() == 2).then_some(()));
    assert_eq!(world.drain(), 2);
    for uri in ["/hanging", "/tunnel"] {
        let record = world.record(|record| record["uri"] == uri);
        assert_eq!(record["error_reason"], "cut", "{uri}");
    }
}

/// A response of several megabytes, more than a client with a small window reads at once.
const LONG: usize = 6_000_000;

fn long() -> Origin {
    Origin::scripted(|_, stream| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n");
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(&vec![b'x'; LONG]);
        Then::KeepAlive
    })
}

/// A client with a small receive window, so that the response waits in the balancer.
fn narrow(address: std::net::SocketAddr) -> std::net::TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 * 1_024).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut stream = std::net::TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    stream
}

#[test]
fn a_slow_steady_reader_gets_its_whole_response_during_drain() {
    let origin = long();
    let mut world = World::new(&[&origin], "timeouts = { idle = \"1s\" }", "");
    let address = world.address();
    let mut stream = narrow(address);
    let mut came = std::io::Read::read(&mut stream, &mut [0; 1]).unwrap();
    let drained = std::thread::spawn(move || (world.drain(), world));
    until("nothing more is accepted", || {
        std::net::TcpStream::connect(address).is_err().then_some(())
    });
    let mut scratch = vec![0; 128 * 1_024];
    loop {
        let read = std::io::Read::take(&mut stream, 128 * 1_024);
        let count = read_fully(read, &mut scratch);
        came += count;
        if count == 0 {
            break;
        }
        // The reader is slow on purpose; the pause waits for no condition.
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(came > LONG, "{came} bytes of {LONG} and a head");
    let (cut, world) = drained.join().unwrap();
    assert_eq!(cut, 0);
    let record = world.record(|record| record["uri"] == "/long");
    assert_eq!(record["error_reason"], serde_json::Value::Null);
}

fn read_fully(mut from: impl std::io::Read, into: &mut [u8]) -> usize {
    let mut filled = 0;
    while let Ok(count @ 1..) = from.read(&mut into[filled..]) {
        filled += count;
    }
    filled
}

#[test]
fn a_response_its_client_left_early_is_not_logged_as_complete() {
    let origin = long();
    let world = World::new(&[&origin], "", "");
    let mut stream = narrow(world.address());
    std::io::Read::read_exact(&mut stream, &mut [0; 1_024]).unwrap();
    drop(stream);
    let record = world.record(|record| record["uri"] == "/long");
    assert_eq!(record["error_reason"], "client_gone");
}
