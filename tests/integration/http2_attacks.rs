//! HTTP/2 clients that flood and reset: the bounds, the error when they are passed, and that other
//! clients do not notice.

use crate::support::frames::{
    self, ACK, CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, PING, PRIORITY,
    PROTOCOL_ERROR, RST_STREAM, SETTINGS, STREAM_CLOSED, WINDOW_UPDATE, frame, get, headers, kept,
    request, reset, settings, window_update,
};
use crate::support::origin::Then;
use crate::support::panics::Panics;
use crate::support::{Frames, Origin, Visitor, World, until};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::thread;

pub const NO_CHECKS: &str = "health = { protocol = \"tcp\", interval = \"300s\", \
    fast_interval = \"300s\", passive = { connect_failures = 0 } }";

/// Responds to `/well` at once, and never to other paths.
pub fn hanging() -> Origin {
    Origin::scripted(|request, stream| {
        if request.path() == "/well" {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell");
            return Then::KeepAlive;
        }
        let _ = stream.read(&mut [0; 1]);
        Then::Close
    })
}

/// A listener that is never accepted from: connections stay half open.
pub struct Deaf {
    pub address: SocketAddr,
    _queue: (socket2::Socket, Vec<socket2::Socket>),
}

impl Deaf {
    pub fn new() -> Self {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let socket =
            || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let listener = socket();
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        // These fill its queue.
        let waiting = (0..4).map(|_| {
            let client = socket();
            client.set_nonblocking(true).unwrap();
            let _ = client.connect(&address.into());
            client
        });
        let waiting = waiting.collect();
        Self { address, _queue: (listener, waiting) }
    }
}

/// More bytes than any flood may bring: a connection may send 128 KiB without payload, and the rest
/// waits in socket buffers.
const FLOOD: usize = 16 << 20;

fn abusive(world: &World) -> u64 {
    world.server().counters().iter().map(|own| own.abusive.value()).sum()
}

/// Checks that other clients are served as before.
#[track_caller]
pub fn others_are_served(world: &World) {
    let mut visitor = Visitor::of(world.address());
    assert_eq!(visitor.get("/well").body, "well");
    let mut neighbour = Frames::begun(world.address());
    neighbour.send(&get(1, "/well"));
    assert_eq!(neighbour.status(1), 200);
}

/// Opens the stream and waits until the target has its request.
fn heard(client: &mut Frames, origin: &Origin, opening: &[u8]) {
    let before = origin.heard().len();
    client.send(opening);
    until("the request arrives", || (origin.heard().len() > before).then_some(()));
}

#[test]
fn a_client_may_reset_a_hundred_streams_at_once() {
    let (panics, origin) = (Panics::counted(), hanging());
    let world = World::new(&[&origin], "", NO_CHECKS);
    let mut client = Frames::begun(world.address());
    let odd = (0..100).map(|nth| nth * 2 + 1);
    client.send(&odd.clone().flat_map(|stream| get(stream, "/")).collect::<Vec<u8>>());
    until("all arrive", || (origin.heard().len() == 100).then_some(()));
    client.send(&odd.flat_map(reset).collect::<Vec<u8>>());
    until("all of the work ends", || (origin.open() == 0).then_some(()));
    client.send(&get(201, "/well"));
    assert_eq!(client.status(201), 200);
    others_are_served(&world);
    assert_eq!((abusive(&world), panics.so_far()), (0, 0));
}

#[test]
fn a_client_that_keeps_resetting_streams_gets_enhance_your_calm() {
    let (panics, origin) = (Panics::counted(), hanging());
    let world = World::new(&[&origin], "", NO_CHECKS);
    let mut client = Frames::begun(world.address());
    let mut stream = 1;
    // The balancer allows 200 resets, and forgives a hundred more each second, so the loop sends up
    // to 2000.
    let closed = (0..40).any(|_| {
        let known = origin.heard().len();
        let streams: Vec<u32> = (0..50).map(|nth| stream + nth * 2).collect();
        stream += 100;
        client.send(&streams.iter().flat_map(|stream| get(*stream, "/")).collect::<Vec<u8>>());
        until("they arrive, or the connection ends", || {
            (origin.heard().len() >= known + 50 || abusive(&world) > 0).then_some(())
        });
        client.send(&streams.iter().flat_map(|stream| reset(*stream)).collect::<Vec<u8>>());
        until("the work ends", || (origin.open() == 0).then_some(()));
        abusive(&world) > 0
    });
    assert!(closed, "{} requests were taken back", stream / 2);
    assert_eq!(client.goaway(), ENHANCE_YOUR_CALM);
    others_are_served(&world);
    assert_eq!((abusive(&world), panics.so_far()), (1, 0));
}

#[test]
fn requests_reset_at_once_reach_no_target_and_end_the_connection() {
    let (panics, origin) = (Panics::counted(), hanging());
    let world = World::new(&[&origin], "", NO_CHECKS);
    let mut client = Frames::begun(world.address());
    let pair = |stream| [get(stream, "/"), reset(stream)].concat();
    client.send(&(0..1_000).flat_map(|nth| pair(nth * 2 + 1)).collect::<Vec<u8>>());
    assert_eq!(client.goaway(), ENHANCE_YOUR_CALM);
    until("it is counted", || (abusive(&world) == 1).then_some(()));
    assert!(origin.heard().len() < 100, "{}", origin.heard().len());
    until("the work ends", || (origin.open() == 0).then_some(()));
    others_are_served(&world);
    assert_eq!(panics.so_far(), 0);
}

/// Errors a client may make on one stream, for which the balancer resets the stream
/// (CVE-2025-8671).
#[allow(clippy::type_complexity)]
const MISTAKES: &[(&str, fn(u32) -> Vec<u8>, u32)] = &[
    ("window overflow", |id| window_update(id, 0x7fff_ffff), FLOW_CONTROL_ERROR),
    (
        "a dependency on itself",
        |id| frame(PRIORITY, 0, id, &[&id.to_be_bytes()[..], &[0]].concat()),
        PROTOCOL_ERROR,
    ),
    (
        "trailers without an end",
        |id| headers(id, 0, &frames::block(&[("x-a", "1")])),
        PROTOCOL_ERROR,
    ),
    (
        "trailers with a pseudo-header field",
        |id| headers(id, END_STREAM, &frames::block(&[(":path", "/")])),
        PROTOCOL_ERROR,
    ),
    ("more than was announced", |id| frame(DATA, 0, id, &[0; 4_097]), PROTOCOL_ERROR),
    ("less than was announced", |id| frame(DATA, END_STREAM, id, &[0]), PROTOCOL_ERROR),
];

#[test]
fn a_stream_reset_for_a_client_error_ends_its_work() {
    let (panics, origin) = (Panics::counted(), hanging());
    let world = World::new(&[&origin], "", NO_CHECKS);
    let mut client = Frames::begun(world.address());
    for (nth, (what, mistake, error)) in (0..).zip(MISTAKES) {
        let stream = nth * 2 + 1;
        // The request has a Content-Length, so the scripted target does not report it until its
        // whole body has arrived. So wait for the connection, not for the request.
        let block = request("POST", "/", &[("content-length", "4096")]);
        client.send(&headers(stream, 0, &block));
        until("a connection is made", || (origin.open() == 1).then_some(()));
        client.send(&mistake(stream));
        assert_eq!(client.reset_of(stream), *error, "{what}");
        until(what, || (origin.open() == 0).then_some(()));
    }
    assert!(origin.heard().is_empty(), "none was whole");
    client.is_answered();
    others_are_served(&world);
    assert_eq!(panics.so_far(), 0);
}

#[test]
fn a_hundred_stream_errors_end_the_connection() {
    for (what, mistake, _) in MISTAKES {
        let (panics, origin) = (Panics::counted(), hanging());
        let world = World::new(&[&origin], "", NO_CHECKS);
        let mut client = Frames::begun(world.address());
        let block = request("POST", "/", &[("content-length", "4096")]);
        for nth in 0..101 {
            let stream = nth * 2 + 1;
            client.send(&[headers(stream, 0, &block), mistake(stream)].concat());
        }
        assert_eq!(client.goaway(), ENHANCE_YOUR_CALM, "{what}");
        until("the work ends", || (origin.open() == 0).then_some(()));
        others_are_served(&world);
        assert_eq!(panics.so_far(), 0);
    }
}

#[test]
fn frames_that_violate_the_connection_end_it_and_its_work() {
    let data = |id, flags| frame(DATA, flags, id, b"x");
    let block = request("POST", "/", &[]);
    for (what, bytes, error) in [
        ("window update of nothing", window_update(1, 0), PROTOCOL_ERROR),
        ("window update of three bytes", frame(WINDOW_UPDATE, 0, 1, &[0, 0, 1]), FRAME_SIZE_ERROR),
        ("overflow of the connection's window", window_update(0, 0x7fff_ffff), FLOW_CONTROL_ERROR),
        ("priority of four bytes", frame(PRIORITY, 0, 1, &[0; 4]), FRAME_SIZE_ERROR),
        ("reset of three bytes", frame(RST_STREAM, 0, 1, &[0; 3]), FRAME_SIZE_ERROR),
        ("settings of five bytes", frame(SETTINGS, 0, 0, &[0; 5]), FRAME_SIZE_ERROR),
        ("settings on a stream", frame(SETTINGS, 0, 1, &[]), PROTOCOL_ERROR),
        ("an unsolicited SETTINGS ACK", frame(SETTINGS, ACK, 0, &[]), PROTOCOL_ERROR),
        (
            "an INITIAL_WINDOW_SIZE above 2^31-1",
            settings(&[(INITIAL_WINDOW_SIZE, 1 << 31)]),
            FLOW_CONTROL_ERROR,
        ),
        ("ping of seven bytes", frame(PING, 0, 0, &[0; 7]), FRAME_SIZE_ERROR),
        ("data after the end", data(1, 0), STREAM_CLOSED),
        ("data on an idle stream", data(7, 0), PROTOCOL_ERROR),
        ("data on no stream", data(0, 0), PROTOCOL_ERROR),
        ("reset of an idle stream", reset(7), PROTOCOL_ERROR),
        ("a stream of even number", get(4, "/"), PROTOCOL_ERROR),
        ("a continuation of nothing", frame(CONTINUATION, 0, 1, &[]), PROTOCOL_ERROR),
        (
            "another frame within a head",
            [frame(HEADERS, 0, 3, &block), frame(PING, 0, 0, &[0; 8])].concat(),
            PROTOCOL_ERROR,
        ),
        ("an index outside the HPACK table", headers(3, END_STREAM, &[0xff, 0x7f]), 9),
        ("a frame beyond 16 KiB", frame(DATA, 0, 1, &[0; 16_385]), FRAME_SIZE_ERROR),
        (
            "a PUSH_PROMISE",
            frame(frames::PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]),
            PROTOCOL_ERROR,
        ),
    ] {
        let (panics, origin) = (Panics::counted(), hanging());
        let world = World::new(&[&origin], "", NO_CHECKS);
        let mut client = Frames::begun(world.address());
        heard(&mut client, &origin, &get(1, "/"));
        client.send(&bytes);
        let said = client.rest();
        let last = said.iter().rfind(|frame| frame.kind == GOAWAY);
        let said = last.map(frames::Frame::error);
        // The library sends PROTOCOL_ERROR although the RFC has a more specific code.
        assert!(said == Some(error) || said == Some(PROTOCOL_ERROR), "{what}: {said:?}");
        until(what, || (origin.open() == 0).then_some(()));
        others_are_served(&world);
        assert_eq!(panics.so_far(), 0, "{what}");
    }
}

#[test]
fn floods_of_payload_free_frames_end_only_their_connection() {
    let origin = hanging();
    let world = World::new(&[&origin], "", NO_CHECKS);
    let panics = Panics::counted();
    let many = |frame: Vec<u8>| frame.repeat(100);
    let toggled = [settings(&[(INITIAL_WINDOW_SIZE, 0)]), settings(&[(INITIAL_WINDOW_SIZE, 1)])];
    let floods = [
        ("PING", many(frame(PING, 0, 0, &[0; 8]))),
        ("PING's answer", many(frame(PING, ACK, 0, &[1; 8]))),
        ("SETTINGS", many(settings(&[]))),
        ("SETTINGS that change windows", many(toggled.concat())),
        ("PRIORITY", many(frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 0]))),
        ("WINDOW_UPDATE", many(window_update(1, 1))),
        ("RST_STREAM of what is gone", many(reset(1))),
        ("unknown frames", many(frame(0xee, 0, 0, &[]))),
    ];
    // They are throttled, so all of them run at once.
    thread::scope(|scope| {
        for (what, frames) in &floods {
            scope.spawn(|| flood(world.address(), what, frames));
        }
        others_are_served(&world);
    });
    assert_eq!(abusive(&world), floods.len() as u64);
    others_are_served(&world);
    assert_eq!(panics.so_far(), 0);
}

/// Floods a connection until it ends, and checks the error code.
fn flood(address: SocketAddr, what: &str, frames: &[u8]) {
    let mut client = Frames::begun(address);
    client.send(&get(1, "/well"));
    assert_eq!(client.status(1), 200);
    client.send(&headers(3, 0, &request("POST", "/", &[])));
    let mut reader = client.tcp().try_clone().unwrap();
    // Most floods get no response but the end of the connection.
    reader.set_read_timeout(None).unwrap();
    let said = thread::spawn(move || {
        let mut said = Vec::new();
        let _ = reader.read_to_end(&mut said);
        said
    });
    client.flood(frames, FLOOD);
    let said = said.join().unwrap();
    // GOAWAY with last stream 3: ENHANCE_YOUR_CALM.
    let goaway = [GOAWAY, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 11];
    assert!(said.windows(goaway.len()).any(|window| window == goaway), "{what}");
}

#[test]
fn a_flood_from_a_client_that_reads_nothing_ends_by_time_out() {
    let (panics, origin) = (Panics::counted(), hanging());
    let world = World::new(&[&origin], "timeouts = { idle = \"1s\" }", NO_CHECKS);
    for flood in [frame(PING, 0, 0, &[0; 8]), settings(&[])] {
        let mut client = Frames::begun(world.address());
        // Its bytes wait in the socket buffers and nowhere else.
        client.flood(&flood.repeat(1_000), 64 << 20);
    }
    others_are_served(&world);
    assert_eq!(panics.so_far(), 0);
}

#[test]
fn floods_counted_by_the_library_end_at_its_bound() {
    let (panics, origin) = (Panics::counted(), hanging());
    let world = World::new(&[&origin], "", NO_CHECKS);
    let begun = || {
        let mut client = Frames::begun(world.address());
        client.send(&headers(1, 0, &request("POST", "/", &[])));
        client
    };
    let mut empty = begun();
    empty.send(&frame(DATA, 0, 1, &[]).repeat(101));
    assert_eq!(empty.goaway(), ENHANCE_YOUR_CALM);
    // While no target connection exists, DATA frames wait in the balancer. The library allows 2 MiB
    // of overhead for them and counts 255 bytes for each frame of one byte. The balancer reads the
    // flood slowly, so the connect time-out must be longer than the flood takes.
    let deaf = Deaf::new();
    let unreachable = World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\n\
         targets = [{{ id = \"a\", address = \"{}\" }}]\n\
         upstream = {{ timeouts = {{ connect = \"300s\" }} }}\n{NO_CHECKS}\n",
        deaf.address
    ));
    let mut small = Frames::begun(unreachable.address());
    small.send(&headers(1, 0, &request("POST", "/", &[])));
    small.send(&frame(DATA, 0, 1, b"x").repeat(10_000));
    assert_eq!(small.goaway(), ENHANCE_YOUR_CALM);
    let mut heads = Frames::begun(world.address());
    let empty = (0..101).flat_map(|nth| headers(nth * 2 + 1, END_STREAM, &[]));
    heads.send(&empty.collect::<Vec<u8>>());
    assert_eq!(heads.goaway(), ENHANCE_YOUR_CALM);
    others_are_served(&world);
    assert_eq!(panics.so_far(), 0);
}

#[test]
fn an_unfinished_head_ends_its_connection() {
    let (panics, origin) = (Panics::counted(), hanging());
    let world = World::new(&[&origin], "timeouts = { idle = \"1s\" }", NO_CHECKS);
    let first = frame(HEADERS, 0, 1, &request("GET", "/", &[]));
    for piece in [vec![], frames::block(&[("x-a", "1")]), kept("x-a", "1"), vec![0xbe; 16_384]] {
        let mut client = Frames::begun(world.address());
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &kept("x-a", "1")));
        client.send(&frame(HEADERS, 0, 3, &request("GET", "/", &[])));
        // Six of them are more than a head of 64 KiB can need.
        client.send(&frame(CONTINUATION, 0, 3, &piece).repeat(8));
        assert_eq!(client.goaway(), ENHANCE_YOUR_CALM, "{}", piece.len());
    }
    let mut silent = Frames::begun(world.address());
    silent.send(&first);
    assert!(silent.rest().iter().all(|frame| frame.kind != RST_STREAM));
    others_are_served(&world);
    assert!(origin.heard().iter().all(|heard| heard.path() == "/well"));
    assert_eq!(panics.so_far(), 0);
}

#[test]
fn a_reset_stream_gets_no_reset_in_return() {
    let origin = hanging();
    let world = World::new(&[&origin], "", NO_CHECKS);
    let mut client = Frames::begun(world.address());
    heard(&mut client, &origin, &get(1, "/"));
    client.send(&frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes()));
    until("the work ends", || (origin.open() == 0).then_some(()));
    client.send(&frame(PING, 0, 0, &[7; 8]));
    let answer = client.next(|frame| frame.kind == RST_STREAM || frame.kind == PING);
    assert_eq!(answer.kind, PING);
}
