//! The replicas: one port each, and responses of the length that the path names. A thread serves
//! them, except while a load is run: then the load's own thread does, so that the two never wait
//! for each other on their shared core.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use memchr::memmem;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use stayput::testing::base::clock::Moment;

/// The addresses of the replicas; they end with the process.
pub(crate) struct Origin {
    pub(crate) replicas: Vec<SocketAddr>,
    server: Arc<Mutex<Server>>,
    lent: Arc<AtomicBool>,
}

/// The origin in the hands of the load, given back to its thread on drop.
pub(crate) struct Lent<'a> {
    server: MutexGuard<'a, Server>,
    lent: &'a AtomicBool,
}

/// The number of targets of the largest scenario; most have three.
pub(crate) const REPLICAS: usize = 1_000;

impl Origin {
    /// The thread inherits the core of the calling thread.
    pub(crate) fn start() -> io::Result<Self> {
        let server = Server::bind()?;
        let replicas = server.listeners.iter().map(TcpListener::local_addr);
        let replicas = replicas.collect::<io::Result<_>>()?;
        let origin = Self { replicas, server: Arc::new(Mutex::new(server)), lent: Arc::default() };
        let (server, lent) = (Arc::clone(&origin.server), Arc::clone(&origin.lent));
        thread::Builder::new().name("origin".to_owned()).spawn(move || {
            loop {
                if lent.load(Ordering::Acquire) {
                    thread::sleep(Duration::from_millis(TURN.into()));
                } else {
                    lock(&server).serve(EpollTimeout::from(TURN));
                }
            }
        })?;
        Ok(origin)
    }

    pub(crate) fn lend(&self) -> Lent<'_> {
        self.lent.store(true, Ordering::Release);
        Lent { server: lock(&self.server), lent: &self.lent }
    }
}

impl Lent<'_> {
    /// Readable when there is something to serve.
    pub(crate) fn readiness(&self) -> impl AsFd {
        &self.server.epoll.0
    }

    pub(crate) fn serve_what_is_ready(&mut self) {
        self.server.serve(EpollTimeout::ZERO);
    }
}

impl Lent<'_> {
    /// Replica 2 dies: its port closes, its connections are reset.
    pub(crate) fn kill_one(&mut self) {
        let server = &mut *self.server;
        let _ = server.epoll.delete(&server.listeners[MORTAL]);
        server.dead = server.listeners[MORTAL].local_addr().ok();
        // Another descriptor takes its index, or the port would stay open.
        if let Ok(nothing) = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)) {
            server.listeners[MORTAL] = nothing;
        }
        for place in 0..server.connections.len() {
            if server.connections[place].as_ref().is_some_and(|one| one.replica == MORTAL) {
                if let Some(connection) = server.connections[place].take() {
                    let _ =
                        socket2::SockRef::from(&connection.stream).set_linger(Some(Duration::ZERO));
                }
                server.vacant.push(place);
            }
        }
    }

    /// Opens the port of the dead replica again.
    pub(crate) fn revive(&mut self) -> io::Result<()> {
        let server = &mut *self.server;
        if let Some(address) = server.dead.take() {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            server.epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, MORTAL as u64))?;
            server.listeners[MORTAL] = listener;
        }
        Ok(())
    }
}

/// The index of the replica that can die.
const MORTAL: usize = 1;

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.lent.store(false, Ordering::Release);
    }
}

/// Milliseconds for which the thread may keep the server from a borrower.
const TURN: u8 = 10;

fn lock(server: &Mutex<Server>) -> MutexGuard<'_, Server> {
    server.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Server {
    epoll: Epoll,
    listeners: Vec<TcpListener>,
    /// The address of the dead replica.
    dead: Option<SocketAddr>,
    /// Indexed by the kernel's event data less `REPLICAS`; a closed index is used again.
    connections: Vec<Option<Connection>>,
    vacant: Vec<usize>,
    date: String,
    filler: Vec<u8>,
    chunk: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    replica: usize,
    request: Vec<u8>,
    /// The head of the current response, and the number of bytes written.
    head: Vec<u8>,
    written: usize,
    body_left: usize,
    /// Bytes of the request's body that have not arrived, which are discarded.
    upload_left: usize,
    /// The request asked for the connection to be closed after its response.
    last: bool,
}

/// Longest body of a response, written from one shared buffer.
const MAX_BODY: usize = 1 << 20;
/// Bound of a head and the part of its body that came with it.
const MAX_REQUEST: usize = 128 << 10;

impl Server {
    fn bind() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut listeners = Vec::new();
        for replica in 0..REPLICAS {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, replica as u64))?;
            listeners.push(listener);
        }
        let now = std::time::UNIX_EPOCH + Moment::now().wall;
        Ok(Self {
            epoll,
            listeners,
            dead: None,
            connections: Vec::new(),
            vacant: Vec::new(),
            date: httpdate::fmt_http_date(now),
            filler: vec![b'.'; MAX_BODY],
            chunk: vec![0; 64 << 10],
        })
    }

    fn serve(&mut self, timeout: EpollTimeout) {
        let mut events = [EpollEvent::empty(); 256];
        let count = self.epoll.wait(&mut events, timeout).unwrap_or(0);
        for event in &events[..count] {
            let place = event.data() as usize;
            match place.checked_sub(REPLICAS) {
                None => self.accept(place),
                Some(place) => self.answer(place),
            }
        }
    }

    fn accept(&mut self, replica: usize) {
        while let Ok((stream, _)) = self.listeners[replica].accept() {
            let place = self.vacant.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
            let event = EpollEvent::new(interest, (place + REPLICAS) as u64);
            let ready = stream.set_nonblocking(true).is_ok()
                && stream.set_nodelay(true).is_ok()
                && self.epoll.add(&stream, event).is_ok();
            if ready {
                self.connections[place] = Some(Connection::new(stream, replica));
            } else {
                self.vacant.push(place);
            }
        }
    }

    fn answer(&mut self, place: usize) {
        let Some(connection) = &mut self.connections[place] else { return };
        if connection.advance(&self.date, &self.filler, &mut self.chunk).is_err() {
            self.connections[place] = None;
            self.vacant.push(place);
        }
    }
}

impl Connection {
    fn new(stream: TcpStream, replica: usize) -> Self {
        let request = Vec::with_capacity(4096);
        Self {
            stream,
            replica,
            request,
            head: Vec::new(),
            written: 0,
            body_left: 0,
            upload_left: 0,
            last: false,
        }
    }

    /// Writes and reads until neither makes progress. An error or the peer's end closes the
    /// connection.
    fn advance(&mut self, date: &str, filler: &[u8], chunk: &mut [u8]) -> io::Result<()> {
        loop {
            if self.upload_left == 0 && !self.write_pending(filler)? {
                return Ok(());
            }
            if self.upload_left == 0 && self.last {
                return Err(ErrorKind::ConnectionAborted.into());
            }
            if self.upload_left == 0 && self.take_request(date) {
                continue;
            }
            match self.stream.read(chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) if count <= self.upload_left => self.upload_left -= count,
                Ok(_) if self.upload_left > 0 => return Err(ErrorKind::InvalidData.into()),
                Ok(count) if self.request.len() + count > MAX_REQUEST => {
                    return Err(ErrorKind::InvalidData.into());
                }
                Ok(count) => self.request.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns true if nothing is left to write.
    fn write_pending(&mut self, filler: &[u8]) -> io::Result<bool> {
        while self.written < self.head.len() || self.body_left > 0 {
            let written = if self.written < self.head.len() {
                self.stream.write(&self.head[self.written..])
            } else {
                self.stream.write(&filler[..self.body_left])
            };
            match written {
                Ok(count) if self.written < self.head.len() => self.written += count,
                Ok(count) => self.body_left -= count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Turns a complete request head into the response to write, once the body has come.
    fn take_request(&mut self, date: &str) -> bool {
        let Some(end) = memmem::find(&self.request, b"\r\n\r\n") else { return false };
        self.last = memmem::find(&self.request[..end + 2], b"\r\nConnection: close\r").is_some();
        let path = self.request.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
        let digits = std::str::from_utf8(path.get(1..).unwrap_or_default()).unwrap_or_default();
        let length = digits.parse().unwrap_or(0).min(MAX_BODY);
        let upload = content_length(&self.request[..end + 2]);
        self.request.drain(..end + 4);
        let came_along = upload.min(self.request.len());
        self.request.drain(..came_along);
        self.upload_left = upload - came_along;

        self.head.clear();
        self.written = 0;
        let name = self.replica + 1;
        // Writing to a vector cannot fail.
        let _ = write!(
            self.head,
            "HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Type: text/plain\r\n\
             Content-Length: {length}\r\nX-Replica: {name}\r\n\r\n"
        );
        // A small body is sent with its head, in one system call.
        let together = if length <= 4096 { length } else { 0 };
        self.head.resize(self.head.len() + together, b'.');
        self.body_left = length - together;
        true
    }
}

fn content_length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"\r\ncontent-length: ";
    let lower = head.to_ascii_lowercase();
    let Some(at) = memmem::find(&lower, NAME) else { return 0 };
    let digits = lower[at + NAME.len()..].split(|&byte| byte == b'\r').next();
    digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()).unwrap_or(0)
}
