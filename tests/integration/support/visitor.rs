//! A client that writes HTTP/1.1 by hand, so that no library corrects it, and keeps cookies.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A response as it was read.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The status; 0 if the connection closed without one.
    pub status: u16,
    /// Fields in order, names in lower case.
    pub fields: Vec<(String, String)>,
    /// The body, de-chunked.
    pub body: String,
    /// Trailers of a chunked body.
    pub trailers: Vec<String>,
    /// True if the message ended as its framing requires.
    pub whole: bool,
}

impl Answer {
    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// All values of a field.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

/// The client.
pub struct Visitor {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
    /// Cookies by name, sent with every request.
    pub jar: BTreeMap<String, String>,
}

impl Visitor {
    /// A client of this address, without cookies.
    pub fn of(address: SocketAddr) -> Self {
        Self { address, stream: None, buffer: Vec::new(), jar: BTreeMap::new() }
    }

    /// The client at the other end of a connection.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: Some(stream.try_clone().unwrap()), ..Self::of(stream.peer_addr().unwrap()) }
    }

    /// Sends `GET path` with its cookies.
    pub fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, &[], "")
    }

    /// Sends a request with its cookies.
    pub fn ask(&mut self, method: &str, path: &str, fields: &[&str], body: &str) -> Answer {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: shop.example\r\n");
        for field in fields {
            text.push_str(field);
            text.push_str("\r\n");
        }
        if !self.jar.is_empty() {
            let cookies = self.jar.iter().map(|(name, value)| format!("{name}={value}"));
            text.push_str(&format!("Cookie: {}\r\n", cookies.collect::<Vec<_>>().join("; ")));
        }
        if !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        text.push_str(body);
        self.send(&text);
        self.read_answer(method == "HEAD")
    }

    /// Sends raw bytes, on the open connection or a new one.
    pub fn send(&mut self, text: &str) {
        // A connection that the balancer has closed is replaced, as a browser would.
        let is_open = self.stream.as_ref().is_some_and(|stream| {
            stream.set_nonblocking(true).unwrap();
            let peeked = stream.peek(&mut [0]);
            stream.set_nonblocking(false).unwrap();
            match peeked {
                Ok(count) => count == 1,
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            }
        });
        if !is_open {
            let stream = TcpStream::connect(self.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.set_nodelay(true).unwrap();
            self.stream = Some(stream);
            self.buffer.clear();
        }
        // After a refusal the balancer may have closed; the response is read next.
        let _ = self.stream.as_mut().unwrap().write_all(text.as_bytes());
    }

    /// Reads one response and keeps its cookies.
    pub fn read_answer(&mut self, is_head: bool) -> Answer {
        let mut answer = Answer::default();
        let Some(head_end) = self.fill_until(|buffer| find(buffer, b"\r\n\r\n").map(|at| at + 4))
        else {
            self.stream = None;
            return answer;
        };
        let head = String::from_utf8_lossy(&self.buffer[..head_end]).into_owned();
        self.buffer.drain(..head_end);
        let mut lines = head.split("\r\n");
        answer.status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap();
            answer.fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        self.read_body(&mut answer, is_head);
        for line in answer.all("set-cookie") {
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            // As a browser: a connection that ended is forgotten.
            match line.contains(" 1970 ") || line.contains("Max-Age=0") {
                true => drop(self.jar.remove(name)),
                false => drop(self.jar.insert(name.to_owned(), value.to_owned())),
            }
        }
        if answer.field("connection") == Some("close") {
            self.stream = None;
        }
        answer
    }

    fn read_body(&mut self, answer: &mut Answer, is_head: bool) {
        let bodiless = is_head || answer.status < 200 || matches!(answer.status, 204 | 304);
        if bodiless {
            answer.whole = true;
        } else if answer.field("transfer-encoding") == Some("chunked") {
            self.read_chunks(answer);
        } else if let Some(length) =
            answer.field("content-length").map(|text| text.parse().unwrap())
        {
            let filled = self.fill_until(|buffer| (buffer.len() >= length).then_some(length));
            answer.whole = filled.is_some();
            let end = filled.unwrap_or(self.buffer.len());
            answer.body = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
            self.buffer.drain(..end);
        } else {
            self.fill_until(|_| None::<usize>);
            answer.body = String::from_utf8_lossy(&self.buffer).into_owned();
            answer.whole = true;
            self.stream = None;
        }
    }

    fn read_chunks(&mut self, answer: &mut Answer) {
        loop {
            let Some(end) = self.fill_until(|buffer| find(buffer, b"\r\n").map(|at| at + 2)) else {
                return;
            };
            let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
            self.buffer.drain(..end);
            let size = usize::from_str_radix(line.trim(), 16).unwrap();
            if size == 0 {
                while let Some(end) =
                    self.fill_until(|buffer| find(buffer, b"\r\n").map(|at| at + 2))
                {
                    let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                    self.buffer.drain(..end);
                    if line == "\r\n" {
                        answer.whole = true;
                        return;
                    }
                    answer.trailers.push(line.trim().to_owned());
                }
                return;
            }
            if self.fill_until(|buffer| (buffer.len() >= size + 2).then_some(size)).is_none() {
                return;
            }
            answer.body.push_str(&String::from_utf8_lossy(&self.buffer[..size]));
            self.buffer.drain(..size + 2);
        }
    }

    /// Reads until `enough` returns a length; `None` if the connection ends before.
    fn fill_until(&mut self, enough: impl Fn(&[u8]) -> Option<usize>) -> Option<usize> {
        loop {
            if let Some(end) = enough(&self.buffer) {
                return Some(end);
            }
            let mut scratch = [0; 4_096];
            match self.stream.as_mut()?.read(&mut scratch) {
                Ok(0) => return None,
                Ok(count) => self.buffer.extend_from_slice(&scratch[..count]),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    panic!("no answer within ten seconds")
                }
                Err(_) => return None,
            }
        }
    }

    /// Reads this many bytes of the tunnel after a 101, as text.
    pub fn said(&mut self, count: usize) -> String {
        let filled = self.fill_until(|buffer| (buffer.len() >= count).then_some(count));
        assert_eq!(filled, Some(count), "the tunnel ended");
        String::from_utf8(self.buffer.drain(..count).collect()).unwrap()
    }

    /// Reads this many bytes of the tunnel after a 101.
    pub fn said_bytes(&mut self, count: usize) -> Vec<u8> {
        let filled = self.fill_until(|buffer| (buffer.len() >= count).then_some(count));
        assert_eq!(filled, Some(count), "the tunnel ended");
        self.buffer.drain(..count).collect()
    }

    /// Waits for the balancer to close the connection. Returns true if it did.
    pub fn sees_close(&mut self) -> bool {
        self.fill_until(|_| None::<usize>).is_none()
    }

    /// Closes the connection.
    pub fn leave(&mut self) {
        self.stream = None;
    }

    /// The socket, for raw access.
    pub fn stream(&mut self) -> &mut TcpStream {
        self.stream.as_mut().unwrap()
    }
}

fn find(buffer: &[u8], wanted: &[u8]) -> Option<usize> {
    buffer.windows(wanted.len()).position(|window| window == wanted)
}
