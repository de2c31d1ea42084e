//! A hostile HTTP/2 client: it writes whole and partial frames by hand, and reads the response.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Frame types (RFC 9113 section 6).
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Flags of frames.
pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// Error codes (RFC 9113 section 7).
pub const NO_ERROR: u32 = 0;
pub const PROTOCOL_ERROR: u32 = 1;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const STREAM_CLOSED: u32 = 5;
pub const FRAME_SIZE_ERROR: u32 = 6;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// Settings identifiers.
pub const HEADER_TABLE_SIZE: u16 = 1;
pub const INITIAL_WINDOW_SIZE: u16 = 4;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame as it goes over the wire.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// HEADERS with a complete field block.
pub fn headers(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, block)
}

/// A GET of this path without a body.
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    headers(stream, END_STREAM, &request("GET", path, &[]))
}

pub fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

pub fn window_update(stream: u32, more: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

pub fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let pairs = pairs
        .iter()
        .flat_map(|(id, value)| id.to_be_bytes().into_iter().chain(value.to_be_bytes()));
    frame(SETTINGS, 0, 0, &pairs.collect::<Vec<u8>>())
}

/// The field block of a request: the four pseudo-header fields, and these.
pub fn request(method: &str, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let pseudo =
        [(":method", method), (":scheme", "http"), (":path", path), (":authority", "shop.example")];
    block(&[&pseudo[..], fields].concat())
}

/// Fields as literals that are not added to the table (RFC 7541 section 6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| literal(0, name, value)).collect()
}

/// A field that is added to the table; `0xbe` refers to it as long as it is the newest.
pub fn kept(name: &str, value: &str) -> Vec<u8> {
    literal(0x40, name, value)
}

fn literal(first: u8, name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![first];
    for text in [name, value] {
        integer(&mut bytes, text.len());
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// A length with a prefix of seven bits (RFC 7541 section 5.1).
fn integer(bytes: &mut Vec<u8>, length: usize) {
    if length < 127 {
        return bytes.push(u8::try_from(length).unwrap());
    }
    bytes.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
}

/// A frame that was read.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error of a GOAWAY or a RST_STREAM.
    pub fn error(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The status of a response head, which comes first and is never from the dynamic table.
    pub fn status(&self) -> u16 {
        let mut block = &self.payload[..];
        while block[0] & 0xe0 == 0x20 {
            block = &block[1..];
        }
        match block[0] {
            indexed @ 0x88..=0x8e => {
                [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)]
            }
            // By name: three digits in Huffman codes (RFC 7541 appendix B).
            _ => {
                let mut bits =
                    block[2..].iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1));
                let mut digit = || {
                    let code = (0..5).fold(0, |code, _| code * 2 + u16::from(bits.next().unwrap()));
                    // The codes of 0, 1 and 2 have five bits, those of the others six.
                    if code < 3 { code } else { code * 2 + u16::from(bits.next().unwrap()) - 22 }
                };
                digit() * 100 + digit() * 10 + digit()
            }
        }
    }
}

/// The transport: a socket, or TLS on one.
trait Duplex: Read + Write + Send {}

impl<T: Read + Write + Send> Duplex for T {}

/// The client.
pub struct Frames {
    stream: Box<dyn Duplex>,
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Frames {
    /// A client that has connected and sent nothing.
    pub fn bare(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        socket.set_nodelay(true).unwrap();
        Self { stream: Box::new(socket.try_clone().unwrap()), socket, buffer: Vec::new() }
    }

    /// A client within TLS, on this socket, that has sent nothing.
    pub fn within(stream: impl Read + Write + Send + 'static, socket: TcpStream) -> Self {
        Self { stream: Box::new(stream), socket, buffer: Vec::new() }
    }

    /// A client with a complete connection preface.
    pub fn begun(address: SocketAddr) -> Self {
        Self::begun_with(address, &[])
    }

    /// A client with a complete preface and these settings.
    pub fn begun_with(address: SocketAddr, pairs: &[(u16, u32)]) -> Self {
        let mut client = Self::bare(address);
        client.begin(pairs);
        client
    }

    /// Exchanges preface and settings. The balancer's dynamic table has size 0, so that statuses
    /// can be read here.
    pub fn begin(&mut self, pairs: &[(u16, u32)]) {
        self.send(PREFACE);
        self.send(&settings(&[&[(HEADER_TABLE_SIZE, 0)], pairs].concat()));
        self.next(|frame| frame.kind == SETTINGS && frame.flags == 0);
        self.send(&frame(SETTINGS, ACK, 0, &[]));
    }

    /// Sends bytes. Returns true if the connection still accepted them.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).and_then(|()| self.stream.flush()).is_ok()
    }

    /// Sends the same bytes repeatedly, without reading, until the connection accepts no more.
    /// Returns the number of accepted bytes. The connection must end before `most` of them.
    #[track_caller]
    pub fn flood(&mut self, bytes: &[u8], most: usize) -> usize {
        let mut sent = 0;
        while self.send(bytes) {
            sent += bytes.len();
            assert!(sent < most, "a flood of {sent} bytes was tolerated");
        }
        sent
    }

    /// The socket below.
    pub fn tcp(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// The next frame; `None` at the end of the connection.
    #[track_caller]
    pub fn read(&mut self) -> Option<Frame> {
        while self.buffer.len() < 9 || self.buffer.len() < 9 + length(&self.buffer) {
            let mut scratch = [0; 16_384];
            match self.stream.read(&mut scratch) {
                Ok(0) => return None,
                Ok(count) => self.buffer.extend_from_slice(&scratch[..count]),
                Err(error) => {
                    let stalls =
                        matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                    assert!(!stalls, "nothing within thirty seconds");
                    return None;
                }
            }
        }
        let payload = 9..9 + length(&self.buffer);
        let stream = u32::from_be_bytes(self.buffer[5..9].try_into().unwrap());
        let read = Frame {
            kind: self.buffer[3],
            flags: self.buffer[4],
            stream,
            payload: self.buffer[payload.clone()].to_vec(),
        };
        self.buffer.drain(..payload.end);
        Some(read)
    }

    /// The next frame that matches; others are skipped.
    #[track_caller]
    pub fn next(&mut self, wanted: impl Fn(&Frame) -> bool) -> Frame {
        let mut seen = Vec::new();
        while let Some(frame) = self.read() {
            if wanted(&frame) {
                return frame;
            }
            seen.push((frame.kind, frame.stream, frame.payload.len()));
            seen.truncate(20);
        }
        panic!("the connection ended after frames (type, stream, length) {seen:?}");
    }

    /// The status of the response on this stream.
    #[track_caller]
    pub fn status(&mut self, stream: u32) -> u16 {
        self.next(|frame| frame.kind == HEADERS && frame.stream == stream).status()
    }

    /// The error code of this stream's reset.
    #[track_caller]
    pub fn reset_of(&mut self, stream: u32) -> u32 {
        self.next(|frame| frame.kind == RST_STREAM && frame.stream == stream).error()
    }

    /// The error code of the connection's GOAWAY.
    #[track_caller]
    pub fn goaway(&mut self) -> u32 {
        self.next(|frame| frame.kind == GOAWAY).error()
    }

    /// All frames until the end of the connection.
    pub fn rest(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.read()).collect()
    }

    /// Checks that the connection is open: it acknowledges a PING, sooner or later.
    #[track_caller]
    pub fn is_answered(&mut self) {
        self.send(&frame(PING, 0, 0, b"are you?"));
        self.next(|frame| frame.kind == PING && frame.flags == ACK && frame.payload == b"are you?");
    }
}

fn length(head: &[u8]) -> usize {
    u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize
}
