//! One case at a time against one listener and one target, both driven by one thread.
//!
//! Rest is detected by cause and not by the clock: the balancer has one worker, so a response to a
//! request over another connection (the fence) proves that the worker has processed all bytes sent
//! before it. If several fences in a row bring nothing new on any socket, nothing more will come.

use super::cases::{Case, Step};
use super::outcome::{End, Outcome};
use super::target::Connection;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Fences in a row without new bytes, after which nothing is on its way: bytes of a new connection
/// need one turn of the worker for the accept, one for the head, one for the dial and one for the
/// target's bytes; one is spare.
const QUIET: usize = 5;

/// Fences between two pieces of a request: the first piece has been read by then.
const PAUSE: usize = 2;

/// A case that takes longer is a defect of the test.
const MAX_TIME: Duration = Duration::from_secs(60);

/// Sockets of one lane.
pub struct Lane {
    address: SocketAddr,
    target: TcpListener,
    fence: TcpStream,
}

/// The client side of a case.
struct Client {
    stream: Option<TcpStream>,
    unsent: Vec<u8>,
    got: Vec<u8>,
    end: End,
}

struct Run<'l> {
    lane: &'l mut Lane,
    client: Client,
    connections: Vec<Connection>,
    answered: usize,
    begun: Instant,
    name: &'l str,
}

impl Lane {
    pub fn new(address: SocketAddr, target: &TcpListener, fence: SocketAddr) -> Self {
        let target = target.try_clone().unwrap();
        target.set_nonblocking(true).unwrap();
        let fence = TcpStream::connect(fence).unwrap();
        fence.set_nodelay(true).unwrap();
        fence.set_read_timeout(Some(MAX_TIME)).unwrap();
        Self { address, target, fence }
    }

    /// Runs a case to its end.
    pub fn run(&mut self, case: &Case) -> Outcome {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_nonblocking(true).unwrap();
        let port = self.address.port();
        let client =
            Client { stream: Some(stream), unsent: Vec::new(), got: Vec::new(), end: End::Open };
        let mut run = Run {
            lane: self,
            client,
            connections: Vec::new(),
            answered: 0,
            begun: Instant::now(),
            name: &case.name,
        };
        for step in &case.steps {
            match step {
                Step::Send(bytes) => run.client.unsent.extend_from_slice(bytes),
                Step::Settle => run.settle(QUIET),
                Step::Pause => run.settle(PAUSE),
                Step::HalfClose => {
                    if let Some(stream) = &run.client.stream {
                        let _ = stream.shutdown(Shutdown::Write);
                    }
                }
                Step::Close => {
                    run.client.stream = None;
                    run.client.end = End::Left;
                }
            }
        }
        run.settle(QUIET);
        let outcome =
            Outcome::of(case, &run.client.got, run.client.end, &mut run.connections, port);
        // The next case starts without this client and without a connection to the target.
        run.client.stream = None;
        run.settle(QUIET);
        run.connections.clear();
        run.settle(QUIET);
        outcome
    }

    /// Sends one request over a separate connection, and reads its response.
    fn pass_fence(&mut self) {
        self.fence.write_all(b"GET / HTTP/1.1\r\nHost: fence\r\n\r\n").unwrap();
        let mut got = Vec::new();
        let mut scratch = [0; 1_024];
        while !got.ends_with(b"\r\n\r\nok") {
            let count = self.fence.read(&mut scratch).unwrap();
            assert!(count > 0, "the fence's connection ended");
            got.extend_from_slice(&scratch[..count]);
        }
    }
}

impl Run<'_> {
    /// Continues until no socket has new bytes.
    fn settle(&mut self, fences: usize) {
        let mut quiet = 0;
        while quiet < fences {
            while self.pump() {
                quiet = 0;
                assert!(self.begun.elapsed() < MAX_TIME, "{} never comes to rest", self.name);
            }
            self.lane.pass_fence();
            quiet += 1;
        }
    }

    /// True if any socket had new bytes.
    fn pump(&mut self) -> bool {
        let mut moved = self.client.pump();
        while let Ok((stream, _)) = self.lane.target.accept() {
            self.connections.push(Connection::new(stream));
            moved = true;
        }
        for connection in &mut self.connections {
            moved |= connection.pump(&mut self.answered);
        }
        moved
    }
}

impl Client {
    fn pump(&mut self) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        let mut moved = false;
        while !self.unsent.is_empty() {
            match stream.write(&self.unsent) {
                Ok(count) => {
                    self.unsent.drain(..count);
                    moved = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // The balancer reads no more; the close is found by reading.
                Err(_) => self.unsent.clear(),
            }
        }
        let mut scratch = [0; 65_536];
        while self.end == End::Open {
            match stream.read(&mut scratch) {
                Ok(0) => self.end = End::Closed,
                Ok(count) => self.got.extend_from_slice(&scratch[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.end = End::Reset,
            }
            moved = true;
        }
        moved
    }
}
