//! Decodes the bytes that follow a head into body frames, and finds the end of the body (RFC 9112
//! sections 6 and 7). Pure: bytes in, frames out. The result does not depend on where the input is
//! cut.

use super::facts::Facts;
use super::fields::Fields;
use super::request::BadHead;
use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use std::fmt;

/// Method by which a body's end is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After this many bytes. 0 means no body.
    Length(u64),
    /// After the last chunk and its trailers.
    Chunked,
    /// At the close of the connection.
    UntilClose,
}

/// Error: a body that does not match its framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid body framing")
    }
}

impl std::error::Error for Malformed {}

/// Bounds in bytes on the chunk extensions and on the trailers of one body. Both are parsed, and
/// neither deserves more memory. Clients send no extensions; a body full of them is an attack
/// (CVE-2023-39326).
const MAX_EXTENSION: usize = 1_024;
const MAX_TRAILER: usize = 16 * 1_024;
/// Bound on the trailer fields of one body.
const MAX_FIELDS: usize = 100;

/// The sender of a body, which decides what is tolerated in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// A client: trailers over the bound are an error, because the target would miss them.
    Client {
        /// True if LF alone ends a chunk's line (`desync_mitigation = "monitor"`).
        lone_lf: bool,
    },
    /// A target: trailers over the bound are dropped and the body is complete.
    Target,
}

/// The decoder of one body.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// The part of a line received so far: a chunk's size and extension, or the trailers.
    line: Vec<u8>,
    extension: usize,
    lost_trailers: bool,
    from: From,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The number of bytes left.
    Length(u64),
    UntilClose,
    ChunkSize,
    ChunkData(u64),
    /// The line end after a chunk's data.
    ChunkEnd,
    Trailers,
    Done,
}

impl Decoder {
    /// A decoder at the beginning of a body.
    pub fn new(framing: Framing, from: From) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(left) => State::Length(left),
            Framing::Chunked => State::ChunkSize,
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, line: Vec::new(), extension: 0, lost_trailers: false, from }
    }

    /// Returns true if the body has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Returns true if the trailers exceeded their bound and were dropped. Their end was not found,
    /// so the bytes that follow them are not known either. The body itself is complete.
    pub fn has_lost_trailers(&self) -> bool {
        self.lost_trailers
    }

    /// The number of body bytes left; `None` if it is not known.
    pub fn left(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// Takes bytes off the input until a frame is complete, the input is empty, or the body ends.
    /// Takes no byte after the body.
    ///
    /// # Errors
    /// If the bytes do not match the announced framing.
    pub fn decode(&mut self, input: &mut Bytes) -> Result<Option<Frame<Bytes>>, Malformed> {
        while !input.is_empty() {
            match self.state {
                State::Done => return Ok(None),
                State::UntilClose => return Ok(Some(Frame::data(std::mem::take(input)))),
                State::Length(left) => {
                    let (data, left) = take(input, left);
                    self.state = if left == 0 { State::Done } else { State::Length(left) };
                    return Ok(Some(Frame::data(data)));
                }
                State::ChunkData(left) => {
                    let (data, left) = take(input, left);
                    self.state = if left == 0 { State::ChunkEnd } else { State::ChunkData(left) };
                    return Ok(Some(Frame::data(data)));
                }
                State::ChunkEnd => {
                    if self.take_line(input, LINE_END)?.ok_or(Malformed)? {
                        self.line_content().filter(|line| line.is_empty()).ok_or(Malformed)?;
                        self.line.clear();
                        self.state = State::ChunkSize;
                    }
                }
                State::ChunkSize => {
                    let longest = MAX_SIZE + MAX_EXTENSION + LINE_END;
                    if self.take_line(input, longest)?.ok_or(Malformed)? {
                        let size = self.chunk_size()?;
                        self.line.clear();
                        self.state =
                            if size == 0 { State::Trailers } else { State::ChunkData(size) };
                    }
                }
                State::Trailers => {
                    let Some(is_line) = self.take_line(input, MAX_TRAILER)? else {
                        self.lose_trailers(input)?;
                        return Ok(None);
                    };
                    if is_line && self.ends_with_empty_line() {
                        let lines = std::mem::take(&mut self.line);
                        let Some(trailers) = fields(&lines, self.takes_lone_lf())? else {
                            self.lose_trailers(input)?;
                            return Ok(None);
                        };
                        self.state = State::Done;
                        return Ok(Some(trailers).filter(|t| !t.is_empty()).map(Frame::trailers));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Records that the connection closed.
    ///
    /// # Errors
    /// If the body does not end with the connection.
    pub fn close(&mut self) -> Result<(), Malformed> {
        match self.state {
            State::UntilClose | State::Done => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(Malformed),
        }
    }

    /// Returns true if LF alone may end a line.
    fn takes_lone_lf(&self) -> bool {
        self.from == From::Client { lone_lf: true }
    }

    /// The line without its line end.
    fn line_content(&self) -> Option<&[u8]> {
        let content = self.line.strip_suffix(b"\n")?;
        match content.strip_suffix(b"\r") {
            None if self.takes_lone_lf() => Some(content),
            content => content,
        }
    }

    /// Returns true if the trailers' empty line has arrived.
    fn ends_with_empty_line(&self) -> bool {
        let line = &self.line[..];
        line == b"\r\n"
            || line.ends_with(b"\n\r\n")
            || self.takes_lone_lf() && (line == b"\n" || line.ends_with(b"\n\n"))
    }

    /// Ends the body, whose data is complete, without its trailers.
    fn lose_trailers(&mut self, input: &mut Bytes) -> Result<(), Malformed> {
        if self.from != From::Target {
            return Err(Malformed);
        }
        self.state = State::Done;
        self.lost_trailers = true;
        self.line = Vec::new();
        input.clear();
        Ok(())
    }

    /// Moves input to the end of a line into `line`. Returns true if the line is complete, or
    /// `None` if it is longer than `longest`.
    ///
    /// # Errors
    /// If no further bytes could make it a line: without the error, the sender would wait for a
    /// response in vain.
    fn take_line(&mut self, input: &mut Bytes, longest: usize) -> Result<Option<bool>, Malformed> {
        let end = memchr::memchr(b'\n', input);
        let length = end.map_or(input.len(), |end| end + 1);
        if self.line.len() + length > longest {
            return Ok(None);
        }
        let from = self.line.len().saturating_sub(1);
        self.line.extend_from_slice(&input[..length]);
        input.advance(length);
        if end.is_none() && !self.may_become_line(from) {
            return Err(Malformed);
        }
        Ok(Some(end.is_some()))
    }

    /// Returns true if the part of the line received so far can become one; its bytes from `from`
    /// on are new.
    fn may_become_line(&self, from: usize) -> bool {
        // CR may only stand before LF, which has not arrived yet.
        let cr = memchr::memchr(b'\r', &self.line[from..]);
        if cr.is_some_and(|at| from + at + 1 < self.line.len()) {
            return false;
        }
        let text = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        match self.state {
            State::ChunkEnd => text.is_empty(),
            State::ChunkSize => {
                let mut rest = text.iter().skip_while(|byte| byte.is_ascii_hexdigit());
                let next = rest.find(|byte| !matches!(byte, b' ' | b'\t'));
                text.first().is_some_and(u8::is_ascii_hexdigit)
                    && next.is_none_or(|&byte| byte == b';')
            }
            _ => true,
        }
    }

    /// Parses the chunk size in the line: hexadecimal digits, then nothing, blanks or an extension,
    /// which is checked and dropped (RFC 9112 section 7.1.1).
    fn chunk_size(&mut self) -> Result<u64, Malformed> {
        let line = self.line_content().ok_or(Malformed)?;
        let count = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (digits, extension) = line.split_at(count);
        // Refuses an empty line and a size over 64 bits.
        let size = std::str::from_utf8(digits).map_err(|_| Malformed)?;
        let size = u64::from_str_radix(size, 16).map_err(|_| Malformed)?;
        let is_text = |&byte: &u8| byte == b'\t' || byte >= 0x20 && byte != 0x7f;
        let extended = match extension.iter().find(|byte| !matches!(byte, b' ' | b'\t')) {
            // Some senders pad every size with blanks to a fixed width.
            None => line.len().saturating_sub(MAX_SIZE),
            Some(b';') if extension.iter().all(is_text) => line.len() - count.min(MAX_SIZE),
            Some(_) => return Err(Malformed),
        };
        self.extension += extended;
        if self.extension > MAX_EXTENSION { Err(Malformed) } else { Ok(size) }
    }
}

/// Sixteen hexadecimal digits are 64 bits. More are leading zeros, which count as an extension.
const MAX_SIZE: usize = 16;
/// CRLF.
const LINE_END: usize = 2;

fn take(input: &mut Bytes, left: u64) -> (Bytes, u64) {
    let length = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
    (input.split_to(length), left - length as u64)
}

/// Parses these lines, the empty one included; `None` if they exceed the bounds.
fn fields(lines: &[u8], lone_lf: bool) -> Result<Option<HeaderMap>, Malformed> {
    let (mut read, mut facts) = (Fields::default(), Facts::NONE);
    let refused = match lone_lf {
        true => Facts::REFUSED_LINES,
        false => Facts::REFUSED_LINES.or(Facts::BARE_LF),
    };
    match read.read(lines, 0, MAX_FIELDS, &mut facts) {
        // An empty line in the middle would end them early.
        Ok(Some(length)) if length == lines.len() && !facts.has(refused) => {}
        Err(BadHead::TooLarge) => return Ok(None),
        _ => return Err(Malformed),
    }
    let mut trailers = HeaderMap::new();
    for (_, name, value) in read.iter() {
        let name = HeaderName::from_bytes(name).map_err(|_| Malformed)?;
        let value = HeaderValue::from_bytes(value).map_err(|_| Malformed)?;
        trailers.append(name, value);
    }
    Ok(Some(trailers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Decodes the pieces. Returns the body, its trailers and the bytes left over, or an error.
    fn decode(
        framing: Framing,
        pieces: &[&[u8]],
    ) -> Result<(Vec<u8>, HeaderMap, Vec<u8>), Malformed> {
        let mut decoder = Decoder::new(framing, From::Target);
        let (mut body, mut trailers, mut rest) = (Vec::new(), HeaderMap::new(), Vec::new());
        for piece in pieces {
            let mut input = Bytes::copy_from_slice(piece);
            while let Some(frame) = decoder.decode(&mut input)? {
                match frame.into_data() {
                    Ok(data) => body.extend_from_slice(&data),
                    Err(frame) => trailers = frame.into_trailers().unwrap(),
                }
            }
            rest.extend_from_slice(&input);
        }
        if !decoder.is_done() {
            decoder.close()?;
        }
        Ok((body, trailers, rest))
    }

    #[track_caller]
    fn chunked(text: &str, expected: Option<&str>) {
        let got = decode(Framing::Chunked, &[text.as_bytes()]).ok();
        let body = got.map(|(body, ..)| String::from_utf8(body).unwrap());
        assert_eq!(body.as_deref(), expected, "{text:?}");
    }

    #[test]
    fn chunks_are_joined_and_malformed_chunks_are_refused() {
        chunked("0\r\n\r\n", Some(""));
        chunked("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", Some("abcde"));
        chunked("A\r\n0123456789\r\n0\r\n\r\n", Some("0123456789"));
        chunked("3;a=\"b\"\r\nabc\r\n0;c\r\n\r\n", Some("abc"));
        chunked("3 \r\nabc\r\n0\r\n\r\n", Some("abc"));
        chunked("3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n", Some("abc"));
        for bad in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+3\r\nabc\r\n0\r\n\r\n",
            "0x3\r\nabc\r\n0\r\n\r\n",
            "3\nabc\r\n0\r\n\r\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "3\r\nabc\r\n",
            "3\r\nab",
            "3\r\nabc\r\n0\r\n",
            "3 3\r\nabc\r\n0\r\n\r\n",
            "3\r;\r\nabc\r\n0\r\n\r\n",
            "10000000000000000\r\n",
            "0\r\nbad name: 1\r\n\r\n",
        ] {
            chunked(bad, None);
        }
    }

    #[test]
    fn trailers_end_the_body_and_nothing_after_them_is_taken() {
        let (body, trailers, rest) =
            decode(Framing::Chunked, &[b"1\r\na\r\n0\r\nx-sum: 9\r\nx-b: c\r\n\r\nHTTP/1.1"])
                .unwrap();
        assert_eq!((body.as_slice(), rest.as_slice()), (&b"a"[..], &b"HTTP/1.1"[..]));
        assert_eq!(
            (trailers["x-sum"].as_bytes(), trailers["x-b"].as_bytes()),
            (&b"9"[..], &b"c"[..])
        );
    }

    #[test]
    fn a_line_that_cannot_be_valid_is_refused_before_its_end() {
        for (wire, expected) in [
            ("0\r\n\r", true),
            ("0\r\n\rx", false),
            ("0\r\nx: y\r", true),
            ("0\r\nx: y\rz", false),
            ("3\r\nabc\r", true),
            ("3\r\nabcd", false),
            ("3\r\nabc\rd", false),
            ("3 ", true),
            ("3 \r", true),
            ("3\rx", false),
            ("3;a\rb", false),
            ("3;a=", true),
            ("3 4", false),
            ("x", false),
            (";", false),
            ("\r", false),
        ] {
            for size in [1, wire.len()] {
                let mut decoder = Decoder::new(Framing::Chunked, From::Client { lone_lf: false });
                let is_accepted = wire.as_bytes().chunks(size).all(|piece| {
                    let mut input = Bytes::copy_from_slice(piece);
                    while let Ok(frame) = decoder.decode(&mut input) {
                        if frame.is_none() {
                            return true;
                        }
                    }
                    false
                });
                assert_eq!(is_accepted, expected, "{wire:?} by {size}");
            }
        }
    }

    #[test]
    fn endless_extensions_are_refused() {
        let extension = format!("1;{}\r\na\r\n", "e".repeat(1_000)).repeat(17);
        chunked(&extension, None);
        chunked(&"1".repeat(MAX_EXTENSION + 100), None);
    }

    #[test]
    fn extensions_of_small_chunks_count_but_padding_does_not() {
        // Four bytes each.
        let fits = "1;e=f\r\na\r\n".repeat(MAX_EXTENSION / 4);
        chunked(&format!("{fits}0\r\n\r\n"), Some(&"a".repeat(MAX_EXTENSION / 4)));
        chunked(&format!("{fits}0;\r\n\r\n"), None);
        let one = format!("1;{}\r\na\r\n0\r\n\r\n", "e".repeat(MAX_EXTENSION - 1));
        chunked(&one, Some("a"));
        chunked(&one.replacen('e', "ee", 1), None);
        let padded = "1       \r\na\r\n".repeat(MAX_EXTENSION);
        chunked(&format!("{padded}0\r\n\r\n"), Some(&"a".repeat(MAX_EXTENSION)));
    }

    #[test]
    fn trailer_lines_with_bare_lf_are_refused_unless_the_client_may_send_them() {
        for (wire, lone_lf_ends_at) in [
            ("0\r\nx: y\n\r\n", Some(10)),
            // If the decoder read on to CRLF CRLF, the next request would count as trailers.
            ("0\r\nx: y\n\nGET / HTTP/1.1\r\n\r\n", Some(9)),
        ] {
            for from in [From::Client { lone_lf: false }, From::Target] {
                let mut input = Bytes::copy_from_slice(wire.as_bytes());
                let decoded = Decoder::new(Framing::Chunked, from).decode(&mut input);
                assert!(decoded.is_err(), "{from:?} {wire:?}");
            }
            let mut input = Bytes::copy_from_slice(wire.as_bytes());
            let mut decoder = Decoder::new(Framing::Chunked, From::Client { lone_lf: true });
            let frame = decoder.decode(&mut input).unwrap().unwrap();
            assert!(frame.is_trailers() && decoder.is_done());
            assert_eq!(Some(wire.len() - input.len()), lone_lf_ends_at, "{wire:?}");
        }
    }

    #[test]
    fn trailers_over_a_bound_are_dropped_and_the_body_is_kept() {
        let long = format!("x: {}\r\n", "y".repeat(1_000));
        for (trailers, kept) in [
            ("x: y\r\n".repeat(MAX_FIELDS), true),
            ("x: y\r\n".repeat(MAX_FIELDS + 1), false),
            (long.repeat(16), true),
            (long.repeat(17), false),
            // Also without an end.
            ("x".repeat(MAX_TRAILER + 1), false),
        ] {
            let wire = format!("2\r\nab\r\n0\r\n{trailers}\r\n");
            for size in [1, 1_000, wire.len()] {
                let pieces: Vec<&[u8]> = wire.as_bytes().chunks(size).collect();
                let mut decoder = Decoder::new(Framing::Chunked, From::Target);
                let (mut body, mut fields) = (Vec::new(), 0);
                for piece in pieces {
                    let mut input = Bytes::copy_from_slice(piece);
                    while let Some(frame) = decoder.decode(&mut input).unwrap() {
                        match frame.into_data() {
                            Ok(data) => body.extend_from_slice(&data),
                            Err(frame) => fields = frame.into_trailers().unwrap().len(),
                        }
                    }
                }
                assert!(decoder.is_done());
                assert_eq!(body, b"ab");
                assert_eq!((fields > 0, decoder.has_lost_trailers()), (kept, !kept), "{size}");
            }
        }
    }

    #[test]
    fn a_body_ends_at_its_length_and_an_earlier_close_is_an_error() {
        let (body, _, rest) = decode(Framing::Length(3), &[b"ab", b"cd"]).unwrap();
        assert_eq!((body.as_slice(), rest.as_slice()), (&b"abc"[..], &b"d"[..]));
        assert_eq!(decode(Framing::Length(3), &[b"ab"]), Err(Malformed));
        assert!(decode(Framing::Length(0), &[]).is_ok());
        assert_eq!(decode(Framing::UntilClose, &[b"ab", b"c"]).unwrap().0, b"abc");
    }

    proptest! {
        #[test]
        fn the_result_does_not_depend_on_where_the_input_is_cut(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:x};e=1\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\nx-end: 1\r\n\r\n");
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len())).collect();
            at.extend([0, wire.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &wire[pair[0]..pair[1]]).collect();
            let (body, trailers, rest) = decode(Framing::Chunked, &pieces).unwrap();
            prop_assert_eq!(body, chunks.concat());
            prop_assert_eq!(&trailers["x-end"], &"1");
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn garbage_never_panics_the_decoder(garbage in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(Framing::Chunked, &[&garbage]);
        }
    }
}
