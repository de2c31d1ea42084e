//! The target: parses the balancer's bytes strictly by RFC 9112, keeps them, and responds as the
//! request target says.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

/// A request as it arrived.
#[derive(Debug, Default)]
pub struct Asked {
    pub line: Vec<u8>,
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub framing: Framing,
    pub body: Vec<u8>,
    pub trailers: Vec<Vec<u8>>,
    pub is_whole: bool,
    /// The violation of RFC 9112 in it.
    pub fault: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    #[default]
    None,
    Length(u64),
    Chunked,
}

enum State {
    Head,
    Length(u64),
    ChunkSize,
    Chunk(usize),
    ChunkEnd,
    Trailers,
    /// Bytes are sent back unchanged, after a 101.
    Tunnel,
    /// Nothing more is read: the bytes are invalid, or the response was the last.
    Lost,
}

/// One connection of the balancer.
pub struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
    unsent: Vec<u8>,
    state: State,
    pub asked: Vec<Asked>,
    pub tunnelled: Vec<u8>,
    /// This side closes once everything is sent.
    ends: bool,
    /// This side closed first; the time until the other side follows depends on timing.
    pub has_ended: bool,
    pub end: Option<&'static str>,
}

impl Connection {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            unread: Vec::new(),
            unsent: Vec::new(),
            state: State::Head,
            asked: Vec::new(),
            tunnelled: Vec::new(),
            ends: false,
            has_ended: false,
            end: None,
        }
    }

    /// Bytes that belong to no request yet.
    pub fn rest(&self) -> &[u8] {
        &self.unread
    }

    /// True if any bytes moved. `answered` counts the responses of the case.
    pub fn pump(&mut self, answered: &mut usize) -> bool {
        let mut moved = false;
        let mut scratch = [0; 65_536];
        while self.end.is_none() {
            match self.stream.read(&mut scratch) {
                Ok(0) => self.end = Some("closed"),
                Ok(count) => self.unread.extend_from_slice(&scratch[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.end = Some("reset"),
            }
            moved = true;
        }
        while self.step(answered) {}
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => {
                    self.unsent.drain(..count);
                    moved = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.unsent.clear(),
            }
        }
        if self.unsent.is_empty() && std::mem::take(&mut self.ends) {
            let _ = self.stream.shutdown(Shutdown::Write);
            self.has_ended = true;
        }
        moved
    }

    fn take_line(&mut self) -> Option<Vec<u8>> {
        let at = self.unread.windows(2).position(|pair| pair == b"\r\n")?;
        let line = self.unread[..at].to_vec();
        self.unread.drain(..at + 2);
        Some(line)
    }

    fn current(&mut self) -> &mut Asked {
        self.asked.last_mut().unwrap()
    }

    fn fail(&mut self, fault: &'static str) -> bool {
        self.current().fault = Some(fault);
        self.state = State::Lost;
        false
    }

    /// True if one more piece could be read.
    fn step(&mut self, answered: &mut usize) -> bool {
        match self.state {
            State::Head => self.read_head(answered),
            State::Length(left) => {
                let take = usize::try_from(left).unwrap().min(self.unread.len());
                let piece: Vec<u8> = self.unread.drain(..take).collect();
                self.current().body.extend(piece);
                let left = left - take as u64;
                self.state = State::Length(left);
                if left == 0 {
                    self.finish(answered);
                }
                take > 0 && left == 0
            }
            State::ChunkSize => {
                let Some(line) = self.take_line() else { return false };
                let text = std::str::from_utf8(&line).ok();
                match text.and_then(|text| usize::from_str_radix(text, 16).ok()) {
                    Some(0) => self.state = State::Trailers,
                    Some(size) => self.state = State::Chunk(size),
                    None => return self.fail("chunk size"),
                }
                true
            }
            State::Chunk(left) => {
                let take = left.min(self.unread.len());
                let piece: Vec<u8> = self.unread.drain(..take).collect();
                self.current().body.extend(piece);
                self.state = if take == left { State::ChunkEnd } else { State::Chunk(left - take) };
                take == left
            }
            State::ChunkEnd => {
                if self.unread.len() < 2 {
                    return false;
                }
                if !self.unread.starts_with(b"\r\n") {
                    return self.fail("end of a chunk");
                }
                self.unread.drain(..2);
                self.state = State::ChunkSize;
                true
            }
            State::Trailers => {
                let Some(line) = self.take_line() else { return false };
                if line.is_empty() {
                    self.finish(answered);
                } else {
                    self.current().trailers.push(line);
                }
                true
            }
            State::Tunnel => {
                let piece = std::mem::take(&mut self.unread);
                self.tunnelled.extend_from_slice(&piece);
                self.unsent.extend(piece);
                false
            }
            State::Lost => false,
        }
    }

    fn read_head(&mut self, answered: &mut usize) -> bool {
        let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") else {
            return false;
        };
        let head: Vec<u8> = self.unread.drain(..end + 4).take(end).collect();
        let mut lines = split_lines(&head).into_iter();
        let mut asked = Asked { line: lines.next().unwrap(), ..Asked::default() };
        for line in lines {
            match line.iter().position(|&byte| byte == b':') {
                Some(at) if at > 0 && !line[..at].contains(&b' ') => {
                    let value = line[at + 1..].strip_prefix(b" ").unwrap_or(&line[at + 1..]);
                    asked.fields.push((line[..at].to_ascii_lowercase(), value.to_vec()));
                }
                _ => {
                    asked.fault = Some("a line that is no field");
                    asked.fields.push((line, Vec::new()));
                }
            }
        }
        let value = |name: &[u8]| asked.fields.iter().find(|(known, _)| known == name);
        let length = value(b"content-length").map(|(_, value)| {
            std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok())
        });
        asked.framing = match (value(b"transfer-encoding"), length) {
            (Some(_), _) => Framing::Chunked,
            (None, Some(length)) => Framing::Length(length.unwrap_or(0)),
            (None, None) => Framing::None,
        };
        let expects = value(b"expect").is_some();
        let framing = asked.framing;
        let early = contains(&asked.line, b"/early");
        self.asked.push(asked);
        if early {
            self.answer(answered);
        }
        match framing {
            Framing::Length(length) if length > 0 => self.state = State::Length(length),
            Framing::Chunked => self.state = State::ChunkSize,
            _ => {
                self.finish(answered);
                return true;
            }
        }
        if expects && self.unread.is_empty() {
            self.unsent.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        true
    }

    fn finish(&mut self, answered: &mut usize) {
        self.current().is_whole = true;
        self.state = State::Head;
        if !contains(&self.current().line, b"/early") {
            self.answer(answered);
        }
    }

    fn answer(&mut self, answered: &mut usize) {
        *answered += 1;
        let asked = self.asked.last().unwrap();
        let line = &asked.line;
        let at = |path: &[u8]| contains(line, path);
        let is_head = line.starts_with(b"HEAD ");
        let mark =
            format!("X-Answer: {answered}\r\n{}", if is_head { "X-Head: 1\r\n" } else { "" });
        let mut text: Vec<u8> = Vec::new();
        let mut put = |piece: &str| text.extend_from_slice(piece.as_bytes());
        let body = |bytes: &str| if is_head { String::new() } else { bytes.to_owned() };
        let mut is_tunnel = false;
        let mut ends = false;
        if at(b"/upgrade") && asked.fields.iter().any(|(name, _)| name == b"upgrade") {
            put(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n",
            );
            put("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
            is_tunnel = true;
        } else if at(b"/chunked") {
            put(&format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{mark}\r\n"));
            put(&body("3;a=b\r\none\r\n03\r\ntwo\r\n0\r\n\r\n"));
        } else if at(b"/trailers") {
            put(&format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Content-Length\r\n{mark}\r\n"
            ));
            put(&body("3\r\none\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\nX-Unsaid: 2\r\n\r\n"));
        } else if at(b"/204") {
            let length = if at(b"length") { "Content-Length: 0\r\n" } else { "" };
            put(&format!("HTTP/1.1 204 No Content\r\n{length}{mark}\r\n"));
        } else if at(b"/304") {
            let length = if at(b"length") { "Content-Length: 10\r\n" } else { "" };
            put(&format!("HTTP/1.1 304 Not Modified\r\nETag: \"e\"\r\n{length}{mark}\r\n"));
        } else if at(b"/close") {
            put(&format!("HTTP/1.1 200 OK\r\n{mark}\r\n{}", body("until the end")));
            ends = true;
        } else if at(b"/old") {
            put(&format!("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n{mark}\r\n{}", body("old")));
            ends = true;
        } else if at(b"/last") {
            put(&format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n{mark}\r\n{}",
                body("last")
            ));
            ends = true;
        } else if at(b"/hints") {
            put("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
            put(&format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n{mark}\r\n{}", body("hints")));
        } else if at(b"/big") {
            put(&format!("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n{mark}\r\n"));
            put(&body(&"0123456789".repeat(30_000)));
        } else if at(b"/none") {
            put(&format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{mark}\r\n"));
        } else if at(b"/many") {
            put("HTTP/1.1 299 Odd  Reason\r\nServer: origin/1\r\nSet-Cookie: a=b; Path=/\r\n");
            put("set-cookie: c=\"d\"; HttpOnly\r\nX-MiXed: 1\r\nX-Empty:\r\nx-mixed:   2  \r\n");
            put(
                "Keep-Alive: timeout=5\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nVia: 1.1 x\r\n",
            );
            put(&format!("Content-Length: 4\r\nContent-Type: text/plain\r\n{mark}\r\n"));
            put(&body("many"));
        } else {
            // The number of the request shows whether responses keep their order.
            let said = echo(line);
            put(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{mark}\r\n", said.len()));
            put(&body(&said));
        }
        self.unsent.extend(text);
        self.ends |= ends;
        if is_tunnel {
            self.state = State::Tunnel;
        } else if ends {
            self.state = State::Lost;
        }
    }
}

/// The body of the usual response.
pub fn echo(line: &[u8]) -> String {
    line[..line.len().min(60)].escape_ascii().to_string()
}

/// True if `part` occurs in `text`.
pub fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Splits lines at CR LF only.
pub fn split_lines(text: &[u8]) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(2).position(|pair| pair == b"\r\n") {
        lines.push(rest[..at].to_vec());
        rest = &rest[at + 2..];
    }
    lines.push(rest.to_vec());
    lines
}
