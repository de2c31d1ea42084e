//! Memory of the balancer for one hostile connection, by the difference of its total.

use crate::balancer::Balancer;
use crate::frames::{
    DATA, END_STREAM, Frames, HEADERS, INITIAL_WINDOW_SIZE, frame, get, headers, kept, request,
    window_update,
};
use crate::origin;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The listener's default limit.
const STREAMS: u32 = 128;

struct Case {
    name: &'static str,
    connections: usize,
    /// Number of requests of each that a target must have seen.
    heard: usize,
    open: fn(SocketAddr) -> Frames,
}

fn odd() -> impl Iterator<Item = u32> {
    (0..STREAMS).map(|nth| nth * 2 + 1)
}

fn all(address: SocketAddr, settings: &[(u16, u32)], each: impl Fn(u32) -> Vec<u8>) -> Frames {
    let mut client = Frames::begun_with(address, settings);
    odd().for_each(|stream| {
        client.send(&each(stream));
    });
    client
}

/// A field of four thousand bytes, and many references to it.
fn bomb(stream: u32, path: &str, flags: u8) -> Vec<u8> {
    let first = if stream == 1 { kept("x-a", &"x".repeat(3_900)) } else { vec![0xbe] };
    headers(stream, flags, &[request("GET", path, &[]), first, vec![0xbe; 14]].concat())
}

const CASES: &[Case] = &[
    Case { name: "idle, no request yet", connections: 100, heard: 0, open: Frames::begun },
    Case {
        name: "idle after one answer",
        connections: 100,
        heard: 1,
        open: |address| {
            let mut client = Frames::begun(address);
            client.send(&get(1, "/well"));
            client.status(1);
            client
        },
    },
    Case {
        name: "128 requests without an answer",
        connections: 10,
        heard: STREAMS as usize,
        open: |address| all(address, &[], |stream| get(stream, "/hang")),
    },
    Case {
        name: "128 answers, windows shut",
        connections: 10,
        heard: STREAMS as usize,
        open: |address| all(address, &[(INITIAL_WINDOW_SIZE, 0)], |stream| get(stream, "/large")),
    },
    Case {
        name: "128 answers, windows wide, socket unread",
        connections: 10,
        heard: STREAMS as usize,
        open: |address| {
            let mut client =
                all(address, &[(INITIAL_WINDOW_SIZE, 1 << 30)], |stream| get(stream, "/large"));
            client.send(&window_update(0, 1 << 30));
            client
        },
    },
    Case {
        name: "128 header bombs",
        connections: 10,
        heard: 10,
        open: |address| all(address, &[], |stream| bomb(stream, "/hang", END_STREAM)),
    },
    Case {
        name: "heads of 95 small fields",
        connections: 10,
        heard: 60,
        open: |address| {
            all(address, &[], |stream| {
                let block = [request("GET", "/hang", &[]), kept("a", ""), vec![0xbe; 94]].concat();
                headers(stream, END_STREAM, &block)
            })
        },
    },
    Case {
        name: "a head without end, 64 KiB",
        connections: 100,
        heard: 0,
        open: |address| {
            let mut client = Frames::begun(address);
            client.send(&frame(HEADERS, 0, 1, &request("GET", "/", &[])));
            for _ in 0..4 {
                client.send(&frame(9, 0, 1, &kept("x-a", &"x".repeat(16_000))));
            }
            client
        },
    },
    Case {
        name: "unread uploads, 4 MiB",
        connections: 10,
        heard: 0,
        open: |address| {
            let mut client =
                all(address, &[], |stream| headers(stream, 0, &request("POST", "/deaf", &[])));
            for _ in 0..255 {
                odd().take(4).for_each(|stream| {
                    client.send(&frame(DATA, 0, stream, &[0; 4_096]));
                });
            }
            client
        },
    },
    Case {
        name: "unread small frames",
        connections: 10,
        heard: 0,
        open: |address| {
            let mut client =
                all(address, &[], |stream| headers(stream, 0, &request("POST", "/deaf", &[])));
            (0..8_000).for_each(|_| {
                client.send(&frame(DATA, 0, 1, b"x"));
            });
            client
        },
    },
    Case {
        name: "unread trailers",
        connections: 10,
        heard: 0,
        open: |address| {
            let mut client =
                all(address, &[], |stream| headers(stream, 0, &request("POST", "/deaf", &[])));
            odd().for_each(|stream| {
                let block = [kept("a", ""), vec![0xbe; 2_000]].concat();
                client.send(&headers(stream, END_STREAM, &block));
            });
            client
        },
    },
];

/// Prints the memory of each attack.
pub fn run(wanted: &str) {
    let queue = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    queue.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    queue.listen(0).unwrap();
    let deaf = queue.local_addr().unwrap().as_socket().unwrap();
    // These fill its queue.
    let _waiting: Vec<_> = (0..4)
        .map(|_| {
            let client =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            let _ = client.connect(&deaf.into());
            client
        })
        .collect();
    println!("memory of one connection (resident, by difference)");
    for case in CASES.iter().filter(|case| case.name.contains(wanted)) {
        let origin = origin::run();
        let balancer = Balancer::run(&origin, deaf);
        // Memory that the first connection needs is not counted for the others.
        (0..3).for_each(|_| drop(Frames::begun(balancer.address)));
        settled(&balancer);
        let (before, heard) = (balancer.memory(), origin.begun.load(Ordering::Relaxed));
        let clients: Vec<Frames> =
            (0..case.connections).map(|_| (case.open)(balancer.address)).collect();
        let begun = Instant::now();
        let all = heard + case.heard * case.connections;
        while origin.begun.load(Ordering::Relaxed) < all && begun.elapsed().as_secs() < 10 {
            std::thread::sleep(Duration::from_millis(10));
        }
        settled(&balancer);
        let more = balancer.memory().saturating_sub(before) / 1_024 / case.connections as u64;
        println!("{:<44} {more:>8} KiB", case.name);
        drop(clients);
    }
}

/// Waits until the memory is stable, at most two seconds.
fn settled(balancer: &Balancer) {
    let (mut last, mut same) = (0, 0);
    for _ in 0..40 {
        std::thread::sleep(Duration::from_millis(50));
        let now = balancer.memory();
        same = if now == last { same + 1 } else { 0 };
        last = now;
        if same == 6 {
            return;
        }
    }
}
