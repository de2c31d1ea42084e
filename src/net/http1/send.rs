//! A request on its way out: its head, then its body, framed (RFC 9112 section 7.1). What is at
//! hand goes out in one call.

use crate::http1::encode;
use bytes::{Buf, Bytes};
use http_body::{Body, Frame};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;

/// A request's body, and how the target knows its end.
#[derive(Debug)]
pub struct Outbound<B> {
    /// The body.
    pub body: B,
    /// Whether it goes in chunks. If not, Content-Length was announced and is what it has.
    pub chunked: bool,
}

/// Where sending stands.
#[derive(Debug)]
pub(super) struct RequestWriter<B> {
    outbound: Option<Outbound<B>>,
    /// Line ends, chunk sizes, trailers; out before `chunk`.
    line: Vec<u8>,
    chunk: Bytes,
    /// Of the head.
    head_sent: usize,
    began_chunks: bool,
    was_reset: bool,
    /// Whether the target said something before the last byte was written.
    was_answered: bool,
    /// Bytes that the target took, and whether it takes no more by now.
    taken: u64,
    is_blocked: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Streaming,
    /// All of it is at hand.
    Last,
    Sent,
    /// The target takes no more; it may have answered all the same.
    Refused,
}

/// The body broke off at its source.
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

    /// Whether not a byte went out.
    pub(super) fn is_unsent(&self) -> bool {
        self.head_sent == 0
    }

    /// Whether some of it went out, and not all.
    pub(super) fn is_under_way(&self) -> bool {
        !self.is_unsent() && !self.is_over()
    }

    /// Whether a head of this length went out.
    pub(super) fn has_sent(&self, head: usize) -> bool {
        self.head_sent >= head
    }

    /// Bytes that the target took, and whether what is at hand waits for it to take more.
    pub(super) fn taken(&self) -> (u64, bool) {
        (self.taken, self.is_blocked)
    }

    /// Whether all of it went out.
    pub(super) fn is_sent(&self) -> bool {
        self.state == State::Sent
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Sent | State::Refused)
    }

    /// Whether the target reset the connection, and this is where that was said: the kernel says it
    /// once, and to reads an end afterwards.
    pub(super) fn was_reset(&self) -> bool {
        self.was_reset
    }

    /// Whether the target said something before the last byte was written.
    pub(super) fn was_answered(&self) -> bool {
        self.was_answered
    }

    /// Sends no more of it.
    pub(super) fn give_up(&mut self) {
        self.state = State::Refused;
        self.outbound = None;
    }

    /// Sends what can be sent. `is_answering` says of the stream whether the target has said something by
    /// now: it is asked before every write but the first, for several may go by before the runtime is
    /// told of what came. Ready when there is no more to send, or the target takes no more.
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
                // TLS may still hold what it took; a plain stream never does.
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

    /// Takes the body's next frame, if there is one by now.
    fn fetch(&mut self, cx: &mut Context<'_>) -> Result<(), RequestBodyError> {
        let Some(Outbound { body, chunked }) = &mut self.outbound else { return Ok(()) };
        // An empty frame (over HTTP/2 the last DATA often is one) is nothing to send, and nothing
        // would wake the task for the one after it.
        while self.state == State::Streaming && self.chunk.is_empty() {
            let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else { return Ok(()) };
            let frame = frame.transpose().map_err(|_| RequestBodyError)?;
            let line_end: &[u8] = if self.began_chunks { encode::CHUNK_END } else { b"" };
            match frame.map(Frame::into_data) {
                Some(Ok(data)) => {
                    // An empty chunk would be the last one.
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

    /// A body of these pieces, all of them at hand.
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
    fn an_empty_piece_of_a_body_neither_ends_nor_delays_it() {
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
