//! Sends a request: its head, then its framed body (RFC 9112 section 7.1). Everything available is
//! sent with one call.

use crate::http1::encode;
use bytes::{Buf, Bytes};
use http_body::{Body, Frame};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;

/// A request's body and its framing.
#[derive(Debug)]
pub struct Outbound<B> {
    /// The body.
    pub body: B,
    /// True for chunked framing. If false, Content-Length was announced and matches the body.
    pub chunked: bool,
}

/// The state of sending a request.
#[derive(Debug)]
pub(super) struct RequestWriter<B> {
    outbound: Option<Outbound<B>>,
    /// Line ends, chunk sizes and trailers; sent before `chunk`.
    line: Vec<u8>,
    chunk: Bytes,
    /// Bytes of the head sent.
    head_sent: usize,
    began_chunks: bool,
    was_reset: bool,
    /// True if the target sent something before the last byte of the request was written.
    was_answered: bool,
    /// Bytes that the target took, and true if a write is blocked.
    taken: u64,
    is_blocked: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Streaming,
    /// The end of the request has been fetched.
    Last,
    Sent,
    /// The target takes no more; a response may still arrive.
    Refused,
}

/// Error: the body broke off at its source.
#[derive(Debug)]
pub(super) struct RequestBodyError;

impl<B: Body<Data = Bytes> + Unpin> RequestWriter<B> {
    pub(super) fn nothing() -> Self {
        Self {
            outbound: None,
            line: Vec::new(),
            chunk: Bytes::new(),
            head_sent: 0,
            began_chunks: false,
            was_reset: false,
            was_answered: false,
            taken: 0,
            is_blocked: false,
            state: State::Sent,
        }
    }

    pub(super) fn begin(&mut self, outbound: Option<Outbound<B>>) {
        let state = if outbound.is_some() { State::Streaming } else { State::Last };
        *self = Self { outbound, state, ..Self::nothing() };
    }

    /// Returns true if no byte was sent.
    pub(super) fn is_unsent(&self) -> bool {
        self.head_sent == 0
    }

    /// Returns true if part of the request was sent, but not all.
    pub(super) fn is_under_way(&self) -> bool {
        !self.is_unsent() && !self.is_over()
    }

    /// Returns true if a head of this length was sent.
    pub(super) fn has_sent(&self, head: usize) -> bool {
        self.head_sent >= head
    }

    /// Bytes that the target took, and true if more is ready but blocked.
    pub(super) fn taken(&self) -> (u64, bool) {
        (self.taken, self.is_blocked)
    }

    /// Returns true if the whole request was sent.
    pub(super) fn is_sent(&self) -> bool {
        self.state == State::Sent
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Sent | State::Refused)
    }

    /// Returns true if a write failed because the target reset the connection. The kernel reports a
    /// reset once; later reads see an end.
    pub(super) fn was_reset(&self) -> bool {
        self.was_reset
    }

    /// Returns true if the target sent something before the last byte of the request was written.
    pub(super) fn was_answered(&self) -> bool {
        self.was_answered
    }

    /// Stops sending.
    pub(super) fn give_up(&mut self) {
        self.state = State::Refused;
        self.outbound = None;
    }

    /// Sends as much as possible. `is_answering` reports for the stream if the target has sent
    /// something. It is called before every write except the first, because several writes may pass
    /// before the runtime reports input. Ready if there is no more to send, or the target takes no
    /// more.
    pub(super) fn poll<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        head: &[u8],
        is_answering: impl Fn(&mut S) -> bool,
    ) -> Poll<Result<(), RequestBodyError>> {
        self.is_blocked = false;
        while !self.is_over() {
            if self.line.is_empty() && self.chunk.is_empty() && self.state == State::Streaming {
                self.fetch(cx)?;
            }
            let head = head.get(self.head_sent..).unwrap_or_default();
            let total = head.len() + self.line.len() + self.chunk.len();
            if total == 0 {
                // TLS may hold written bytes; a plain stream never does.
                let Poll::Ready(flushed) = Pin::new(&mut *stream).poll_flush(cx) else {
                    self.is_blocked = true;
                    return Poll::Pending;
                };
                if flushed.is_err() {
                    self.give_up();
                    break;
                }
                if self.state == State::Streaming {
                    return Poll::Pending;
                }
                self.state = State::Sent;
                self.outbound = None;
                break;
            }
            if !self.is_unsent() && !self.was_answered {
                self.was_answered = is_answering(stream);
            }
            let written = if total == head.len() {
                Pin::new(&mut *stream).poll_write(cx, head)
            } else {
                let parts = [head, &self.line, &self.chunk].map(IoSlice::new);
                Pin::new(&mut *stream).poll_write_vectored(cx, &parts)
            };
            let Poll::Ready(written) = written else {
                self.is_blocked = true;
                return Poll::Pending;
            };
            match written {
                Ok(count) if count > 0 => self.advance(count, head.len()),
                Ok(_) => self.give_up(),
                Err(error) => {
                    self.was_reset = error.kind() == io::ErrorKind::ConnectionReset;
                    self.give_up();
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut count: usize, head_left: usize) {
        self.taken += count as u64;
        let of_head = count.min(head_left);
        self.head_sent += of_head;
        count -= of_head;
        let of_line = count.min(self.line.len());
        self.line.drain(..of_line);
        self.chunk.advance(count - of_line);
    }

    /// Takes the body's next frame if it is available.
    fn fetch(&mut self, cx: &mut Context<'_>) -> Result<(), RequestBodyError> {
        let Some(Outbound { body, chunked }) = &mut self.outbound else { return Ok(()) };
        // Skip an empty frame: it gives nothing to send, and nothing would wake the task for the
        // next one. Over HTTP/2 the last DATA frame is often empty.
        while self.state == State::Streaming && self.chunk.is_empty() {
            let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else { return Ok(()) };
            let frame = frame.transpose().map_err(|_| RequestBodyError)?;
            let line_end: &[u8] = if self.began_chunks { encode::CHUNK_END } else { b"" };
            match frame.map(Frame::into_data) {
                Some(Ok(data)) => {
                    // An empty chunk would end the body.
                    if *chunked && !data.is_empty() {
                        self.line.extend_from_slice(line_end);
                        encode::begin_chunk(&mut self.line, data.len());
                        self.began_chunks = true;
                    } else if !*chunked && body.is_end_stream() {
                        self.state = State::Last;
                    }
                    self.chunk = data;
                }
                last => {
                    let trailers =
                        last.and_then(Result::err).and_then(|frame| frame.into_trailers().ok());
                    if *chunked {
                        self.line.extend_from_slice(line_end);
                        encode::last_chunk(&mut self.line, trailers.as_ref());
                    }
                    self.state = State::Last;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::task::Waker;

    /// A body of these pieces, all available at once.
    struct Pieces(VecDeque<&'static str>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece.into()))))
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }
    }

    #[test]
    fn an_empty_piece_neither_ends_nor_delays_a_body() {
        let cases: [&[&'static str]; 6] =
            [&[], &[""], &["", "ab"], &["ab", ""], &["a", "", "", "b"], &["", "a", "", "b", ""]];
        for (pieces, chunked) in cases.into_iter().flat_map(|case| [(case, true), (case, false)]) {
            let body = Pieces(pieces.iter().copied().collect());
            let mut sending = RequestWriter::nothing();
            sending.begin(Some(Outbound { body, chunked }));
            let mut out = Vec::new();
            let polled =
                sending.poll(&mut Context::from_waker(Waker::noop()), &mut out, b"HEAD", |_| false);
            assert!(matches!(polled, Poll::Ready(Ok(()))), "{pieces:?} waits for nothing");
            let mut expected = "HEAD".to_owned();
            for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
                match chunked {
                    true => expected.push_str(&format!("{:x}\r\n{piece}\r\n", piece.len())),
                    false => expected.push_str(piece),
                }
            }
            expected.push_str(if chunked { "0\r\n\r\n" } else { "" });
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{pieces:?}");
        }
    }
}
