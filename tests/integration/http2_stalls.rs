//! HTTP/2 clients that hold resources: closed windows, unread sockets, heads that expand, streams
//! above the announced limit.

use crate::http2_attacks::{NO_CHECKS, hanging, others_are_served};
use crate::support::frames::{
    CANCEL, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE,
    NO_ERROR, REFUSED_STREAM, RST_STREAM, block, frame, get, headers, kept, request, reset,
    settings, window_update,
};
use crate::support::origin::Then;
use crate::support::panics::Panics;
use crate::support::{Frames, Origin, World, until};
use std::io::Write;
use std::time::Instant;

const SHORT: &str = "timeouts = { idle = \"1s\" }";

/// Responds to `/well` with few bytes and to other paths with 8 MiB.
fn generous() -> Origin {
    Origin::scripted(|request, stream| {
        let length = if request.path() == "/well" { 4 } else { 8 << 20 };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        let body = b"well".repeat(length / 4);
        match stream.write_all(&[head.as_bytes(), &body].concat()) {
            Ok(()) => Then::KeepAlive,
            Err(_) => Then::Close,
        }
    })
}

#[test]
fn streams_with_a_closed_window_are_reset_and_free_their_targets() {
    let (panics, origin) = (Panics::counted(), generous());
    let world = World::new(&[&origin], SHORT, NO_CHECKS);
    let mut client = Frames::begun_with(world.address(), &[(INITIAL_WINDOW_SIZE, 0)]);
    let odd: Vec<u32> = (0..100).map(|nth| nth * 2 + 1).collect();
    client.send(&odd.iter().flat_map(|stream| get(*stream, "/")).collect::<Vec<u8>>());
    for _ in &odd {
        assert_eq!(client.next(|frame| frame.kind == RST_STREAM).error(), CANCEL);
    }
    until("the targets are free", || (origin.open() == 0).then_some(()));
    // The connection has violated nothing; it ends with its own idle time-out.
    client.send(&[settings(&[(INITIAL_WINDOW_SIZE, 100)]), get(201, "/well")].concat());
    assert_eq!(client.status(201), 200);
    assert_eq!(client.goaway(), NO_ERROR);
    others_are_served(&world);
    assert_eq!(panics.so_far(), 0);
}

#[test]
fn single_byte_window_updates_do_not_extend_the_time_out() {
    let (panics, origin) = (Panics::counted(), generous());
    let world = World::new(&[&origin], SHORT, NO_CHECKS);
    let mut client = Frames::begun_with(world.address(), &[(INITIAL_WINDOW_SIZE, 0)]);
    client.send(&get(1, "/"));
    let mut drops = 0;
    let end = loop {
        client.send(&window_update(1, 1));
        let read = client.next(|frame| frame.kind == RST_STREAM || frame.kind == DATA);
        match read.kind {
            // One at a time, although that is slow.
            DATA => drops += read.payload.len(),
            _ => break read.error(),
        }
        // The client is slow on purpose.
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    assert_eq!(end, CANCEL);
    assert!(drops < 1_000, "{drops}");
    until("the target is free", || (origin.open() == 0).then_some(()));
    others_are_served(&world);
    assert_eq!(panics.so_far(), 0);
}

#[test]
fn a_client_with_wide_windows_that_reads_nothing_is_cut() {
    let (panics, origin) = (Panics::counted(), generous());
    let world = World::new(&[&origin], SHORT, NO_CHECKS);
    let wide = [(INITIAL_WINDOW_SIZE, 0x7fff_ffff)];
    let mut client = Frames::begun_with(world.address(), &wide);
    client.send(&window_update(0, 0x7fff_0000));
    client.send(&(0..100).flat_map(|nth| get(nth * 2 + 1, "/")).collect::<Vec<u8>>());
    until("all arrive", || (origin.heard().len() == 100).then_some(()));
    until("the targets are free", || (origin.open() == 0).then_some(()));
    // The client could still read what the socket buffers held.
    let read: usize = client.rest().iter().map(|frame| frame.payload.len()).sum();
    assert!(read < 32 << 20, "{read} of 800 MiB");
    others_are_served(&world);
    assert_eq!(panics.so_far(), 0);
}

#[test]
fn pings_do_not_prolong_a_stalled_upload() {
    let (panics, origin) = (Panics::counted(), hanging());
    let world = World::new(&[&origin], SHORT, NO_CHECKS);
    let mut client = Frames::begun(world.address());
    client.send(&headers(1, 0, &request("POST", "/", &[])));
    client.send(&frame(DATA, 0, 1, b"half"));
    let begun = Instant::now();
    while client.send(&frame(6, 0, 0, &[0; 8])) {
        let read = client.next(|frame| frame.kind == 6 || frame.stream == 1);
        if read.stream == 1 {
            break;
        }
        assert!(begun.elapsed().as_secs() < 10);
        // The client sends a PING now and then, on purpose.
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    until("the target is free", || (origin.open() == 0).then_some(()));
    others_are_served(&world);
    assert_eq!(panics.so_far(), 0);
}

#[test]
fn streams_past_the_announced_limit_get_refused_stream() {
    let (panics, origin) = (Panics::counted(), hanging());
    let world = World::new(&[&origin], "limits = { streams = 4 }", NO_CHECKS);
    let mut client = Frames::begun(world.address());
    client.send(&(0..6).flat_map(|nth| get(nth * 2 + 1, "/")).collect::<Vec<u8>>());
    for stream in [9, 11] {
        assert_eq!(client.reset_of(stream), REFUSED_STREAM);
    }
    until("four arrive", || (origin.heard().len() == 4).then_some(()));
    client.send(&reset(1));
    until("the work ends", || (origin.open() == 3).then_some(()));
    client.send(&get(13, "/well"));
    assert_eq!(client.status(13), 200);
    // A client that ignores the GOAWAY.
    let more = (10..200).flat_map(|nth| get(nth * 2 + 1, "/"));
    client.send(&more.collect::<Vec<u8>>());
    assert_eq!(client.goaway(), ENHANCE_YOUR_CALM);
    until("the work ends", || (origin.open() == 0).then_some(()));
    others_are_served(&world);
    assert_eq!(panics.so_far(), 0);
}

#[test]
fn work_of_a_reset_stream_counts_until_it_ends() {
    let (panics, origin) = (Panics::counted(), hanging());
    let world = World::new(&[&origin], "limits = { streams = 10 }", NO_CHECKS);
    let mut client = Frames::begun(world.address());
    let batch = |from: u32| (from..from + 10).map(|nth| nth * 2 + 1);
    client.send(&batch(0).flat_map(|stream| get(stream, "/")).collect::<Vec<u8>>());
    until("they arrive", || (origin.heard().len() == 10).then_some(()));
    // Reset and opened anew in one write: the client's stream count has room, the target's does not
    // yet.
    let swap = batch(0).flat_map(reset).chain(batch(10).flat_map(|stream| get(stream, "/")));
    client.send(&swap.collect::<Vec<u8>>());
    for _ in 0..10 {
        assert_eq!(client.next(|frame| frame.kind == RST_STREAM).error(), REFUSED_STREAM);
    }
    until("the work ends", || (origin.open() == 0).then_some(()));
    client.send(&get(101, "/well"));
    assert_eq!(client.status(101), 200);
    assert_eq!(panics.so_far(), 0);
}

#[test]
fn heads_that_expand_are_bounded_by_bytes_and_by_fields() {
    let (panics, origin) = (Panics::counted(), hanging());
    let world = World::new(&[&origin], "", NO_CHECKS);
    let mut client = Frames::begun(world.address());
    let large = "x".repeat(3_900);
    let get = request("GET", "/well", &[]);
    let with = |more: &[u8]| [&get[..], more].concat();
    let one_byte_names: Vec<u8> = (0..10_000).flat_map(|_| block(&[("a", "")])).collect();
    // 39 bytes each.
    let crumbs: Vec<u8> = (0..1_700).flat_map(|_| block(&[("cookie", "a")])).collect();
    for (nth, (what, head)) in (0..).zip([
        // One field of the table, referenced repeatedly: one byte stands for four thousand.
        ("references", with(&[kept("x-a", &large), vec![0xbe; 30]].concat())),
        ("more references than a head may unfold to", with(&[0xbe; 1_000])),
        ("fields of one byte", with(&one_byte_names)),
        ("crumbs", with(&crumbs)),
        ("one field beyond the limit", with(&block(&[("x-a", &"x".repeat(65 << 10))]))),
    ]) {
        let stream = nth * 2 + 1;
        let pieces: Vec<&[u8]> = head.chunks(16_384).collect();
        for (at, piece) in pieces.iter().enumerate() {
            let end = if at + 1 == pieces.len() { END_HEADERS } else { 0 };
            let kind = if at == 0 { HEADERS } else { 9 };
            let flags = if at == 0 { end | END_STREAM } else { end };
            client.send(&frame(kind, flags, stream, piece));
        }
        let said = client.next(|frame| {
            frame.kind == GOAWAY || (frame.kind == HEADERS && frame.stream == stream)
        });
        if said.kind == GOAWAY {
            // Above four times the limit the library ends the connection.
            assert_eq!(said.error(), ENHANCE_YOUR_CALM, "{what}");
            client = Frames::begun(world.address());
            client.send(&headers(1, END_STREAM, &with(&kept("x-a", &large))));
            assert_eq!(client.status(1), 200);
        } else {
            assert_eq!(said.status(), 431, "{what}");
        }
    }
    assert!(origin.heard().iter().all(|heard| heard.head.len() < 8_192));
    others_are_served(&world);
    assert_eq!(panics.so_far(), 0);
}

#[test]
fn heads_in_flight_hold_at_most_1_mib_per_connection() {
    let (panics, origin) = (Panics::counted(), hanging());
    let world = World::new(&[&origin], "", NO_CHECKS);
    let mut client = Frames::begun(world.address());
    // Sixty thousand bytes in memory each, and some thirty on the wire.
    let bomb = [request("GET", "/", &[]), vec![0xbe; 15]].concat();
    client.send(&headers(
        1,
        END_STREAM,
        &[request("GET", "/", &[]), kept("x-a", &"x".repeat(3_900))].concat(),
    ));
    let more = (1..100).flat_map(|nth| headers(nth * 2 + 1, END_STREAM, &bomb));
    client.send(&more.collect::<Vec<u8>>());
    let refused =
        (0..80).all(|_| client.next(|frame| frame.kind == RST_STREAM).error() == REFUSED_STREAM);
    assert!(refused);
    client.is_answered();
    until("the others arrive", || (origin.heard().len() >= 15).then_some(()));
    assert!(origin.heard().len() < 20, "{}", origin.heard().len());
    // A reset stream makes room.
    client.send(&(0..18).flat_map(|nth| reset(nth * 2 + 1)).collect::<Vec<u8>>());
    until("the work ends", || (origin.open() <= 2).then_some(()));
    client.send(&headers(
        301,
        END_STREAM,
        &[request("GET", "/well", &[]), vec![0xbe; 15]].concat(),
    ));
    assert_eq!(client.status(301), 200);
    others_are_served(&world);
    assert_eq!(panics.so_far(), 0);
}

#[test]
fn trailers_larger_than_a_head_are_a_malformed_body() {
    let (panics, origin) = (Panics::counted(), hanging());
    let world = World::new(&[&origin], "", NO_CHECKS);
    for (what, trailers) in [
        ("bytes", [kept("x-a", &"x".repeat(3_900)), vec![0xbe; 30]].concat()),
        ("fields", [kept("x-a", "1"), vec![0xbe; 100]].concat()),
    ] {
        let mut client = Frames::begun(world.address());
        client.send(&headers(1, 0, &request("POST", "/", &[])));
        until("a connection is made", || (origin.open() == 1).then_some(()));
        client.send(&headers(1, END_STREAM, &trailers));
        assert_eq!(client.status(1), 400, "{what}");
        until("the target is free", || (origin.open() == 0).then_some(()));
    }
    assert!(origin.heard().is_empty(), "none was whole");
    assert_eq!(panics.so_far(), 0);
}

#[test]
fn any_number_of_small_frames_passes_if_the_target_reads() {
    let (panics, origin) = (Panics::counted(), hanging());
    let world = World::new(&[&origin], "", NO_CHECKS);
    let mut client = Frames::begun(world.address());
    client.send(&headers(1, 0, &request("POST", "/well", &[])));
    // Five times the amount that the library buffers.
    for _ in 0..40 {
        client.send(&frame(DATA, 0, 1, b"x").repeat(1_000));
        client.is_answered();
    }
    client.send(&frame(DATA, END_STREAM, 1, b""));
    assert_eq!(client.status(1), 200);
    assert_eq!(origin.heard()[0].body.len(), 40_000);
    assert_eq!(panics.so_far(), 0);
}
