//! The load generator: one thread, one epoll, and every response checked. The origin uses the same
//! epoll.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use stayput::testing::base::clock::Moment;

use crate::measure::Run;
use crate::origin::Lent;
use crate::process::Reading;
use crate::response::read_head;
use crate::scenario::{Length, Reuse, Scenario};
use crate::visitor::Visitor;

/// The load for one address.
pub(crate) struct Load<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) scenario: &'a Scenario,
    pub(crate) visitors: &'a [Visitor],
    /// Requests per second; `None` sends the next one as soon as the response has come.
    pub(crate) rate: Option<f64>,
}

impl Load<'_> {
    /// Warms up, then measures. The balancer is `read` as the measured part begins and ends. Ends
    /// by itself, `length` after it began or at the first sign that nothing works.
    pub(crate) fn run(
        &self,
        length: &Length,
        origin: Lent<'_>,
        read: impl Fn() -> Reading,
    ) -> io::Result<Run> {
        let began = now();
        let mut traffic = Traffic::open(self, origin, began)?;
        traffic.drive_until(began + length.warm)?;
        traffic.run = Run::with_room_for(length.measured);
        let before = read();
        let measured_from = now();
        traffic.drive_until(measured_from + length.measured)?;
        traffic.run.elapsed = now() - measured_from;
        traffic.run.used = read().since(before);
        Ok(traffic.run)
    }
}

impl Load<'_> {
    /// A second under load, then a target's death, then another second. Errors do not end it.
    pub(crate) fn run_with_a_death(
        &self,
        each: Duration,
        origin: Lent<'_>,
    ) -> io::Result<(Run, Run)> {
        let mut traffic = Traffic::open(self, origin, now())?;
        traffic.outlives_errors = true;
        let mut runs = Vec::new();
        traffic.drive_until(now() + each / 2)?;
        for dies in [false, true] {
            if dies {
                traffic.origin.kill_one();
            }
            traffic.run = Run::with_room_for(each);
            traffic.drive_until(now() + each)?;
            traffic.run.elapsed = each;
            runs.push(std::mem::replace(&mut traffic.run, Run::with_room_for(Duration::ZERO)));
        }
        traffic.origin.revive()?;
        let after = runs.pop().unwrap_or_else(|| Run::with_room_for(Duration::ZERO));
        let before = runs.pop().unwrap_or_else(|| Run::with_room_for(Duration::ZERO));
        Ok((before, after))
    }
}

/// All connections and the counts of the run so far.
struct Traffic<'a> {
    load: &'a Load<'a>,
    origin: Lent<'a>,
    epoll: Epoll,
    connections: Vec<Connection>,
    pace: Option<Pace>,
    run: Run,
    chunk: Vec<u8>,
    filler: Vec<u8>,
    outlives_errors: bool,
}

struct Connection {
    stream: TcpStream,
    /// The request: its head, then this many bytes of `filler`.
    request: Vec<u8>,
    upload: usize,
    /// Number of bytes of both that are written.
    sent: usize,
    replica: usize,
    head: Vec<u8>,
    /// Bytes of the body that have not arrived, once the head was read.
    body_left: Option<usize>,
    /// True if the head of the current response named another replica.
    moved: bool,
    fresh_cookie: bool,
    /// The time at which the current response fell due: with a pace that may be before it was sent,
    /// so that a balancer's pause counts for every request it delayed.
    due: Option<Instant>,
    /// Response complete; the other side is to close.
    is_last: bool,
}

/// Requests that fall due at equal distances, whatever happens to earlier ones.
struct Pace {
    interval: Duration,
    next: Instant,
    idle: VecDeque<usize>,
}

/// The epoll data of the origin; that of a connection is its index.
const ORIGIN: u64 = u64::MAX;
/// Number of wrong responses after which a run stops.
const ENOUGH_ERRORS: u64 = 1_000;
/// A balancer without a response for this time has stopped.
pub(crate) const STALL: Duration = Duration::from_secs(5);

impl<'a> Traffic<'a> {
    fn open(load: &'a Load<'a>, origin: Lent<'a>, began: Instant) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(origin.readiness(), EpollEvent::new(EpollFlags::EPOLLIN, ORIGIN))?;
        let mut traffic = Self {
            load,
            origin,
            epoll,
            connections: Vec::new(),
            pace: load.rate.map(|rate| Pace {
                interval: Duration::from_secs_f64(1.0 / rate),
                next: began,
                idle: (0..load.scenario.connections).collect(),
            }),
            run: Run::with_room_for(Duration::ZERO),
            chunk: vec![0; 64 << 10],
            filler: vec![b'.'; load.scenario.upload],
            outlives_errors: false,
        };
        for (place, visitor) in (0..load.scenario.connections).zip(load.visitors.iter().cycle()) {
            let stream = traffic.connect(place)?;
            traffic.connections.push(Connection {
                stream,
                request: visitor.head(load.address, load.scenario),
                upload: load.scenario.upload,
                sent: 0,
                replica: visitor.replica,
                head: Vec::with_capacity(4096),
                body_left: None,
                moved: false,
                fresh_cookie: false,
                due: None,
                is_last: false,
            });
        }
        if traffic.pace.is_none() {
            for place in 0..traffic.connections.len() {
                traffic.ask(place, now())?;
            }
        }
        Ok(traffic)
    }

    fn drive_until(&mut self, end: Instant) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 256];
        let mut last_sign = now();
        loop {
            let mut moment = now();
            if moment >= end {
                return Ok(());
            }
            self.ask_what_is_due(moment)?;
            let count = self.wait(&mut events, moment)?;
            for event in &events[..count] {
                if event.data() == ORIGIN {
                    self.origin.serve_what_is_ready();
                    continue;
                }
                let place = event.data() as usize;
                if event.events().intersects(EpollFlags::EPOLLOUT) {
                    self.send(place)?;
                }
                let ended = event.events().intersects(EpollFlags::EPOLLRDHUP);
                self.read(place, ended)?;
            }
            moment = now();
            if count > 0 {
                last_sign = moment;
            } else if moment - last_sign > STALL {
                return Err(io::Error::new(ErrorKind::TimedOut, "no answer for 5 s"));
            }
            if self.run.errors > ENOUGH_ERRORS && !self.outlives_errors {
                return Err(io::Error::other("too many wrong answers"));
            }
        }
    }

    fn wait(&self, events: &mut [EpollEvent], moment: Instant) -> io::Result<usize> {
        let mut timeout = EpollTimeout::from(100_u8);
        if let Some(pace) = self.pace.as_ref().filter(|pace| !pace.idle.is_empty()) {
            // epoll counts in milliseconds, the pace in microseconds.
            let mut readable = [PollFd::new(self.epoll.0.as_fd(), PollFlags::POLLIN)];
            let pause = pace.next.saturating_duration_since(moment);
            ppoll(&mut readable, Some(pause.into()), None)?;
            timeout = EpollTimeout::ZERO;
        }
        Ok(self.epoll.wait(events, timeout)?)
    }

    fn ask_what_is_due(&mut self, moment: Instant) -> io::Result<()> {
        while let Some(pace) = &mut self.pace {
            if pace.next > moment {
                break;
            }
            let Some(place) = pace.idle.pop_front() else { break };
            let due = pace.next;
            pace.next += pace.interval;
            self.ask(place, due)?;
        }
        Ok(())
    }

    fn ask(&mut self, place: usize, due: Instant) -> io::Result<()> {
        let connection = &mut self.connections[place];
        connection.due = Some(due);
        connection.sent = 0;
        self.send(place)
    }

    /// Writes as much of the request as the socket accepts.
    fn send(&mut self, place: usize) -> io::Result<()> {
        let connection = &mut self.connections[place];
        let head = connection.request.len();
        while connection.due.is_some() && connection.sent < head + connection.upload {
            let written = match connection.request.get(connection.sent..) {
                Some(rest) if !rest.is_empty() => connection.stream.write(rest),
                _ => connection.stream.write(&self.filler[connection.sent - head..]),
            };
            match written {
                Ok(count) => connection.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return self.fail(place),
            }
        }
        Ok(())
    }

    /// Reads until nothing is left, as an edge-triggered epoll requires. A read that does not fill
    /// the buffer was the last, unless the peer has also `ended` the connection.
    fn read(&mut self, place: usize, ended: bool) -> io::Result<()> {
        loop {
            let connection = &mut self.connections[place];
            let count = match connection.stream.read(&mut self.chunk) {
                Ok(0) if connection.is_last => {
                    self.reconnect(place)?;
                    return self.ask_next(place);
                }
                Ok(0) if connection.due.is_none() => return self.reconnect(place),
                Ok(0) => return self.fail(place),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return self.fail(place),
            };
            match connection.take(&self.chunk[..count], self.load.scenario) {
                Progress::More if count < self.chunk.len() && !ended => return Ok(()),
                Progress::More => {}
                Progress::Wrong => return self.fail(place),
                Progress::Done(due) => {
                    self.run.record(now() - due, connection.moved, connection.fresh_cookie);
                    // The balancer closes first, so that no port of this side stays in TIME_WAIT.
                    connection.is_last = ended || self.load.scenario.reuse == Reuse::Fresh;
                    if !connection.is_last {
                        return self.ask_next(place);
                    }
                }
            }
        }
    }

    fn ask_next(&mut self, place: usize) -> io::Result<()> {
        match &mut self.pace {
            Some(pace) => {
                pace.idle.push_back(place);
                Ok(())
            }
            None => self.ask(place, now()),
        }
    }

    fn fail(&mut self, place: usize) -> io::Result<()> {
        self.run.errors += 1;
        self.reconnect(place)?;
        if self.run.errors > ENOUGH_ERRORS && !self.outlives_errors {
            return Ok(());
        }
        self.ask_next(place)
    }

    fn reconnect(&mut self, place: usize) -> io::Result<()> {
        let stream = self.connect(place)?;
        let connection = &mut self.connections[place];
        connection.stream = stream;
        connection.head.clear();
        connection.body_left = None;
        connection.due = None;
        connection.is_last = false;
        Ok(())
    }

    /// On loopback, the call returns with the connection made, so it need not be awaited.
    fn connect(&self, place: usize) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.load.address)?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let mut interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        // A request without a body is far smaller than a socket's buffer.
        interest.set(EpollFlags::EPOLLOUT, self.load.scenario.upload > 0);
        self.epoll.add(&stream, EpollEvent::new(interest, place as u64))?;
        Ok(stream)
    }
}

enum Progress {
    More,
    Done(Instant),
    Wrong,
}

impl Connection {
    /// Reads and checks the bytes of a response that have arrived.
    fn take(&mut self, mut bytes: &[u8], scenario: &Scenario) -> Progress {
        let Some(due) = self.due else { return Progress::Wrong };
        let body_left = match self.body_left {
            Some(left) => left,
            None => {
                let known = self.head.len();
                self.head.extend_from_slice(bytes);
                let Some(head) = read_head(&self.head) else { return Progress::More };
                if head.status != 200 || head.body != Some(scenario.body) {
                    return Progress::Wrong;
                }
                self.moved = head.replica != Some(self.replica);
                self.fresh_cookie = head.cookie.is_some();
                bytes = &bytes[head.length - known..];
                self.head.clear();
                scenario.body
            }
        };
        match body_left.checked_sub(bytes.len()) {
            None => Progress::Wrong,
            Some(0) => {
                self.body_left = None;
                self.due = None;
                Progress::Done(due)
            }
            Some(left) => {
                self.body_left = Some(left);
                Progress::More
            }
        }
    }
}

fn now() -> Instant {
    Moment::now().monotonic
}
