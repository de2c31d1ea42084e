//! The replicas: three ports, one thread, and answers as long as the path says.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use memchr::memmem;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use stayput::ground::clock::Moment;

/// Where the replicas listen; their thread ends with the process.
pub(crate) struct Origin {
    pub(crate) replicas: [SocketAddr; REPLICAS],
}

pub(crate) const REPLICAS: usize = 3;

impl Origin {
    /// The thread inherits the core of the thread that calls.
    pub(crate) fn start() -> io::Result<Self> {
        let mut server = Server::bind()?;
        let mut replicas = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); REPLICAS];
        for (replica, listener) in replicas.iter_mut().zip(&server.listeners) {
            *replica = listener.local_addr()?;
        }
        thread::Builder::new().name("origin".to_owned()).spawn(move || server.serve())?;
        Ok(Self { replicas })
    }
}

struct Server {
    epoll: Epoll,
    listeners: Vec<TcpListener>,
    /// Indexed by the kernel's event data less `REPLICAS`; a closed place is used again.
    connections: Vec<Option<Connection>>,
    vacant: Vec<usize>,
    date: String,
    filler: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    replica: usize,
    request: Vec<u8>,
    /// The head of the answer under way, and how much of it is written.
    head: Vec<u8>,
    written: usize,
    body_left: usize,
}

/// Longest body that can be asked for, written from one shared buffer.
const LONGEST_BODY: usize = 1 << 20;
const LONGEST_HEAD: usize = 16 << 10;

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
            connections: Vec::new(),
            vacant: Vec::new(),
            date: httpdate::fmt_http_date(now),
            filler: vec![b'.'; LONGEST_BODY],
        })
    }

    fn serve(&mut self) {
        let mut events = [EpollEvent::empty(); 256];
        loop {
            let count = self.epoll.wait(&mut events, EpollTimeout::NONE).unwrap_or(0);
            for event in &events[..count] {
                let place = event.data() as usize;
                match place.checked_sub(REPLICAS) {
                    None => self.accept(place),
                    Some(place) => self.answer(place),
                }
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
        if connection.advance(&self.date, &self.filler).is_err() {
            self.connections[place] = None;
            self.vacant.push(place);
        }
    }
}

impl Connection {
    fn new(stream: TcpStream, replica: usize) -> Self {
        let request = Vec::with_capacity(LONGEST_HEAD);
        Self { stream, replica, request, head: Vec::new(), written: 0, body_left: 0 }
    }

    /// Writes and reads until neither goes on. An error or the peer's end closes the connection.
    fn advance(&mut self, date: &str, filler: &[u8]) -> io::Result<()> {
        let mut chunk = [0; 4096];
        loop {
            if !self.write_pending(filler)? {
                return Ok(());
            }
            if self.take_request(date) {
                continue;
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) if self.request.len() + count > LONGEST_HEAD => {
                    return Err(ErrorKind::InvalidData.into());
                }
                Ok(count) => self.request.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// True when nothing is left to write.
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

    /// Turns a complete request head into the answer to write. No request here has a body.
    fn take_request(&mut self, date: &str) -> bool {
        let Some(end) = memmem::find(&self.request, b"\r\n\r\n") else { return false };
        let path = self.request.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
        let digits = std::str::from_utf8(path.get(1..).unwrap_or_default()).unwrap_or_default();
        let length = digits.parse().unwrap_or(0).min(LONGEST_BODY);
        self.request.drain(..end + 4);

        self.head.clear();
        self.written = 0;
        let name = self.replica + 1;
        // Writing to a vector cannot fail.
        let _ = write!(
            self.head,
            "HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Type: text/plain\r\n\
             Content-Length: {length}\r\nX-Replica: {name}\r\n\r\n"
        );
        // A small body travels with its head, in one system call.
        let together = if length <= 4096 { length } else { 0 };
        self.head.resize(self.head.len() + together, b'.');
        self.body_left = length - together;
        true
    }
}
