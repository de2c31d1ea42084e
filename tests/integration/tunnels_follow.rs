//! WebSockets that close when the pin of their client moves.

use crate::support::origin::Then;
use crate::support::{Http2, Origin, Visitor, World, until};
use bytes::Bytes;
use data_encoding::BASE64;
use h2::ext::Protocol;
use http::Request;
use sha1::{Digest, Sha1};
use stayput::testing::model::live::{Drain, Health};
use std::io::{ErrorKind, Read, Write};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

const FAST: &str = "health = { interval = \"200ms\", fast_interval = \"100ms\", \
    timeout = \"200ms\", unhealthy_threshold = 1, healthy_threshold = 1 }";
const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// A text frame from either side, and the offset of its cut.
const FROM_TARGET: &[u8] = b"\x81\x04half";
const FROM_CLIENT: &[u8] = b"\x81\x84\0\0\0\0half";
const CLOSE: &[u8] = b"\x88\x02\x03\xe9";

/// A target that sends half a frame, waits for a whole one, sends the rest, and reports all bytes
/// it read.
fn halving() -> (Origin, Receiver<Vec<u8>>) {
    let (tell, told) = sync_channel(8);
    let origin = Origin::scripted(move |request, stream| {
        let key = request.field("sec-websocket-key").unwrap_or_default();
        let guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
        let accept = BASE64.encode(&Sha1::new().chain_update(key).chain_update(guid).finalize());
        let _ = write!(
            stream,
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        let (half, rest) = FROM_TARGET.split_at(4);
        let _ = stream.write_all(half);
        let (mut all, mut scratch) = (Vec::new(), [0; 64]);
        while let Ok(count @ 1..) = stream.read(&mut scratch) {
            let was_whole = all.len() >= FROM_CLIENT.len();
            all.extend_from_slice(&scratch[..count]);
            if !was_whole && all.len() >= FROM_CLIENT.len() {
                let _ = stream.write_all(rest);
            }
        }
        let _ = tell.send(all);
        Then::Close
    });
    (origin, told)
}

/// Checks the target's bytes: the client's text, and a close frame with 1001 (going away).
fn is_farewell(heard: &[u8]) {
    let (text, close) = heard.split_at(FROM_CLIENT.len());
    assert_eq!(text, FROM_CLIENT);
    let [0x88, 0x82, mask @ .., _, _] = close else { panic!("no masked close frame: {close:?}") };
    assert_eq!([close[6] ^ mask[0], close[7] ^ mask[1]], [3, 0xe9]);
}

fn moved(world: &World) {
    until("its target is known to fail", || {
        (world.availability(0).health == Health::Unhealthy).then_some(())
    });
}

/// Checks that no byte arrives in the time a close would take.
fn hears_nothing(visitor: &mut Visitor) {
    visitor.stream().set_read_timeout(Some(Duration::from_millis(1_200))).unwrap();
    let heard = visitor.stream().read(&mut [0; 16]).map_err(|error| error.kind());
    assert_eq!(heard, Err(ErrorKind::WouldBlock));
    visitor.stream().set_read_timeout(Some(Duration::from_secs(10))).unwrap();
}

/// `a` gets the first client by its weight; `b` can take it over.
fn world(a: &Origin, b: &Origin, group: &str) -> World {
    World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\n\
         targets = [{{ id = \"a\", address = \"{}\", weight = 999 }}, {{ id = \"b\", address = \"{}\" }}]\n\
         {FAST}\n{group}\n",
        a.address(),
        b.address()
    ))
}

fn begin(world: &World) -> Visitor {
    let mut visitor = Visitor::of(world.address());
    visitor.send(HANDSHAKE);
    assert_eq!(visitor.read_answer(false).status, 101);
    assert_eq!(visitor.said_bytes(4), &FROM_TARGET[..4]);
    visitor.stream().write_all(&FROM_CLIENT[..8]).unwrap();
    visitor
}

/// The rest of both frames crosses, then both sides get a close frame, and the connection ends.
fn ends_well(mut visitor: Visitor, told: &Receiver<Vec<u8>>, world: &World) {
    visitor.stream().write_all(&FROM_CLIENT[8..]).unwrap();
    assert_eq!(visitor.said_bytes(2 + CLOSE.len()), [&FROM_TARGET[4..], CLOSE].concat());
    assert!(visitor.sees_close());
    is_farewell(&told.recv_timeout(Duration::from_secs(10)).unwrap());
    visitor.leave();
    let record = world.record(|record| record["uri"] == "/ws");
    assert_eq!((&record["status"], &record["error_reason"]), (&101.into(), &"pin_moved".into()));
}

#[test]
fn a_moved_pin_ends_its_tunnel_with_1001_on_both_sides() {
    for (why, group) in [
        ("unhealthy", ""),
        ("drained", "draining_pins = \"move\""),
        ("over", "deregistration_delay = \"1s\""),
    ] {
        let ((a, told), b) = (halving(), Origin::named("b"));
        let world = world(&a, &b, &format!("tunnels_follow = true\n{group}"));
        let mut visitor = begin(&world);
        match why {
            "unhealthy" => {
                a.set_healthy(false);
                moved(&world);
            }
            _ => {
                a.answer_checks("200 OK\r\nX-Stayput-Drain: 1");
                let wanted = if why == "over" { Drain::Over } else { Drain::Running };
                until("it leaves", || (world.availability(0).drain == wanted).then_some(()));
            }
        }
        hears_nothing(&mut visitor);
        ends_well(visitor, &told, &world);
    }
}

#[test]
fn a_write_served_by_another_target_ends_the_clients_tunnel() {
    let ((a, told), b) = (halving(), Origin::named("b"));
    let full = "tunnels_follow = true\nmax_in_flight_per_target = 1\nupstream = { queue = \"0s\" }";
    let world = world(&a, &b, full);
    let mut visitor = begin(&world);
    let mut same = Visitor::of(world.address());
    same.jar = visitor.jar.clone();
    // The tunnel has the only permit of its target.
    assert_eq!(same.get("/read").body, "b");
    hears_nothing(&mut visitor);
    assert_eq!(same.ask("POST", "/write", &[], "").body, "b");
    ends_well(visitor, &told, &world);
}

#[test]
fn a_tunnel_stays_if_its_clients_pin_stays() {
    for (why, group) in [
        ("as by default", "fail_open = false"),
        ("strict", "tunnels_follow = true\nstickiness = { on_unavailable = \"strict\" }"),
        ("not sticky", "tunnels_follow = true\nstickiness = { enabled = false }"),
        ("drained, and pins stay", "tunnels_follow = true\nderegistration_delay = \"60s\""),
    ] {
        let ((a, _told), b) = (halving(), Origin::named("b"));
        let world = world(&a, &b, group);
        let mut visitor = begin(&world);
        if why.starts_with("drained") {
            a.answer_checks("200 OK\r\nX-Stayput-Drain: 1");
            until("it leaves", || (world.availability(0).drain == Drain::Running).then_some(()));
        } else {
            a.set_healthy(false);
            moved(&world);
        }
        hears_nothing(&mut visitor);
        visitor.stream().write_all(&FROM_CLIENT[8..]).unwrap();
        assert_eq!(visitor.said_bytes(2), &FROM_TARGET[4..], "{why}");
    }
}

#[test]
fn an_endless_frame_is_cut_within_a_bound() {
    let ((a, told), b) = (halving(), Origin::named("b"));
    let world = world(&a, &b, "tunnels_follow = true");
    let mut visitor = begin(&world);
    a.set_healthy(false);
    assert!(visitor.sees_close(), "half a frame ends with nothing after it");
    assert_eq!(told.recv_timeout(Duration::from_secs(10)).unwrap(), &FROM_CLIENT[..8]);
    world.record(|record| record["uri"] == "/ws" && record["error_reason"] == "pin_moved");
}

#[test]
fn a_websocket_over_a_stream_follows_its_pin() {
    let ((a, told), b) = (halving(), Origin::named("b"));
    let world = world(&a, &b, "tunnels_follow = true");
    let client = Http2::to(world.address());
    let head = Request::connect("http://shop.example/ws")
        .extension(Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13");
    let (response, mut up) = client.begun(client.ask(head, false).unwrap()).unwrap();
    assert_eq!(response.status(), 200);
    let mut down = response.into_body();
    up.send_data(Bytes::from_static(FROM_CLIENT), false).unwrap();
    a.set_healthy(false);
    let mut heard = Vec::new();
    client.wait(async {
        while let Some(data) = down.data().await {
            let data = data.unwrap();
            down.flow_control().release_capacity(data.len()).unwrap();
            heard.extend_from_slice(&data);
        }
    });
    assert_eq!(heard, [FROM_TARGET, CLOSE].concat());
    up.send_data(Bytes::new(), true).unwrap();
    is_farewell(&told.recv_timeout(Duration::from_secs(10)).unwrap());
    world.record(|record| record["uri"] == "/ws" && record["error_reason"] == "pin_moved");
}
