//! One HTTP/1.1 connection to a target, driven by the task that holds it.
//!
//! hyper's client would put a task and two queues between the exchange and the socket, and take the
//! head apart again that was just put together: half of what a small request cost (see
//! `docs/decisions/0002-upstream-connections.md`). Here the exchange's own task writes and reads.

pub mod send;

use super::read_size::ReadSize;
use super::target_stream::TargetStream;
use crate::http1::decode::{Decoder, Framing, From, Malformed};
use crate::http1::response::{BadResponse, Response};
use crate::policy::proxy_protocol::Ends;
use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use http_body::{Body, Frame};
use send::{Outbound, RequestWriter};
use std::fmt;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncReadExt;
use tokio::sync::OwnedSemaphorePermit;

/// Bytes of interim answers a target may send before its final head.
const MAX_INTERIM: usize = 1_024 * 1_024;
/// Bytes of a request that a target takes in one read: what is longer may wait in the sockets on the way.
const MAX_SHORT_BODY: u64 = 64 * 1_024;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The connection ended before a byte of an answer came.
    Lost {
        /// Not a byte of the request went out.
        unsent: bool,
    },
    /// The target ended the exchange, and not the connection, without an answer (HTTP/2 alone).
    Reset,
    /// What came is no answer, or not all of one.
    Malformed,
    /// The request's body broke off at its source.
    BodyBroken,
}

/// What came of waiting for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// The head that counts, 101 included. Its body follows.
    Final,
    /// Another of 1xx: one more is to come (RFC 9110 section 15.2).
    Interim,
}

/// A response's body that broke off or is not framed as it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyError;

/// A request's head on its way out.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// Its method, which says whether the answer has a body.
    pub method: &'r Method,
    /// Its head, as it goes over the wire.
    pub head: &'r [u8],
}

/// The connection. Dropping it closes the socket at once, whatever is under way on it, so that a
/// client that leaves cancels what it asked for.
pub struct Connection<B> {
    stream: TargetStream,
    sending: RequestWriter<B>,
    decoder: Decoder,
    /// Read and not yet taken.
    input: Bytes,
    room: BytesMut,
    next_read: ReadSize,
    keep_alive: bool,
    /// Whether a request had a body since the connection was last known to be quiet.
    had_body: bool,
    /// Whether one of these was longer than [`MAX_SHORT_BODY`].
    had_long_body: bool,
    place: Option<OwnedSemaphorePermit>,
    /// Whose it is, where its PROXY header said so. Boxed, for most have none.
    proxy_header: Option<Box<Ends>>,
}

impl<B> fmt::Debug for Connection<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl<B: Body<Data = Bytes> + Unpin> Connection<B> {
    /// A connection just dialled. `place` is held as long as it lives.
    pub fn new(stream: TargetStream, place: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            stream,
            sending: RequestWriter::nothing(),
            decoder: Decoder::new(Framing::Length(0), From::Target),
            input: Bytes::new(),
            room: BytesMut::new(),
            next_read: ReadSize::default(),
            keep_alive: true,
            had_body: false,
            had_long_body: false,
            place,
            proxy_header: None,
        }
    }

    /// The connection after a PROXY header that said this.
    pub fn with_proxy_ends(self, ends: Option<Ends>) -> Self {
        Self { proxy_header: ends.map(Box::new), ..self }
    }

    /// Whether requests of this client may go over it; `None` is anyone, where nobody is announced.
    pub fn is_for(&self, client: Option<&Ends>) -> bool {
        self.proxy_header.as_deref() == client
    }

    /// Whether it can be used again, as far as the runtime was told; see
    /// [`TargetStream::is_reusable`].
    pub fn is_reusable(&mut self) -> bool {
        self.stream.is_reusable()
    }

    /// The same by the kernel's word; see [`TargetStream::is_quiet_by_now`].
    pub fn is_quiet_by_now(&mut self) -> bool {
        self.stream.is_quiet_by_now()
    }

    /// Whether a request had a body, which the target may have taken for a request, since the
    /// connection was last known to be quiet.
    pub fn had_body(&self) -> bool {
        self.had_body
    }

    /// Notes that it has been quiet for long enough.
    pub fn record_reusable(&mut self) {
        (self.had_body, self.had_long_body) = (false, false);
    }

    /// Notes that an exchange is over; whether a body was so long that the target may take its time to
    /// read what is in the sockets on the way.
    pub fn end(&mut self) -> bool {
        self.had_long_body |= self.had_body && self.sending.taken().0 > MAX_SHORT_BODY;
        self.had_long_body
    }

    /// Begins an exchange.
    pub fn begin(&mut self, outbound: Option<Outbound<B>>) {
        self.had_body |= outbound.is_some();
        self.sending.begin(outbound);
        self.next_read = ReadSize::default();
    }

    /// Sends, and waits for a head, which takes the place of what is in `response`. After an interim one
    /// the caller asks again at once. `scratch` is lent for the call.
    pub fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        request: Request<'_>,
        waiting: &mut Waiting,
        scratch: &mut [u8],
        response: &mut Response,
    ) -> Poll<Result<Answered, RequestError>> {
        // What is there before the rest of the request went out is no answer to all of it.
        if self.sending.is_under_way()
            && let Poll::Ready(answered) = self.poll_head(cx, request, waiting, scratch, response)
        {
            return Poll::Ready(answered);
        }
        if let Poll::Ready(Err(send::RequestBodyError)) =
            self.sending.poll(cx, &mut self.stream, request.head, TargetStream::is_answering_by_now)
        {
            return Poll::Ready(Err(RequestError::BodyBroken));
        }
        self.poll_head(cx, request, waiting, scratch, response)
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        request: Request<'_>,
        waiting: &mut Waiting,
        scratch: &mut [u8],
        response: &mut Response,
    ) -> Poll<Result<Answered, RequestError>> {
        if waiting.is_unread {
            waiting.is_unread = false;
            let bytes = std::mem::take(&mut waiting.partial);
            if let Some(answered) = self.read_head(&bytes, request, waiting, response)? {
                return Poll::Ready(Ok(answered));
            }
            waiting.partial = bytes;
        }
        loop {
            let count = ready!(self.stream.poll_read_into(cx, scratch)).unwrap_or(0);
            let came = &scratch[..count];
            if came.is_empty() {
                let answer_began = waiting.interim > 0 || !waiting.partial.is_empty();
                return Poll::Ready(Err(match answer_began {
                    true => RequestError::Malformed,
                    false => RequestError::Lost { unsent: self.sending.is_unsent() },
                }));
            }
            // Nearly every head is whole in one read, and is read where it lies.
            if waiting.partial.is_empty() {
                if let Some(answered) = self.read_head(came, request, waiting, response)? {
                    return Poll::Ready(Ok(answered));
                }
                waiting.partial.extend_from_slice(came);
            } else {
                let mut bytes = std::mem::take(&mut waiting.partial);
                bytes.extend_from_slice(came);
                if let Some(answered) = self.read_head(&bytes, request, waiting, response)? {
                    return Poll::Ready(Ok(answered));
                }
                waiting.partial = bytes;
            }
        }
    }

    /// Reads a head off the front of `bytes`, if it is all there, and keeps what is behind it.
    fn read_head(
        &mut self,
        bytes: &[u8],
        request: Request<'_>,
        waiting: &mut Waiting,
        response: &mut Response,
    ) -> Result<Option<Answered>, RequestError> {
        let parsed = response.parse(bytes).map_err(|BadResponse| RequestError::Malformed)?;
        let Some(length) = parsed else { return Ok(None) };
        let behind = &bytes[length..];
        let switches = response.status == StatusCode::SWITCHING_PROTOCOLS;
        if response.status.is_informational() && !switches {
            waiting.interim += length;
            if waiting.interim > MAX_INTERIM {
                return Err(RequestError::Malformed);
            }
            waiting.is_unread = !behind.is_empty();
            waiting.partial.extend_from_slice(behind);
            return Ok(Some(Answered::Interim));
        }
        let rest = response.frame(request.method).map_err(|BadResponse| RequestError::Malformed)?;
        self.decoder = Decoder::new(rest.framing, From::Target);
        // An answer that began before the request's last byte was written may be one to its head
        // alone: a target that ignores bodies takes the rest for a request of its own.
        self.keep_alive =
            rest.keep_alive && !switches && self.sending.is_sent() && !self.sending.was_answered();
        self.input = Bytes::copy_from_slice(behind);
        if !self.sending.has_sent(request.head.len()) {
            // The answer is there before the head was taken: nothing reads the rest.
            self.sending.give_up();
        }
        Ok(Some(Answered::Final))
    }

    /// Whether some of the request is left to be sent.
    pub fn is_sending(&self) -> bool {
        !self.sending.is_over()
    }

    /// Bytes of the request that the target took, and whether what is at hand waits for it.
    pub fn taken(&self) -> (u64, bool) {
        self.sending.taken()
    }

    /// Sends on what is left of the request after its answer has begun.
    pub fn poll_sending(&mut self, cx: &mut Context<'_>) {
        if !self.sending.is_over()
            && let Poll::Ready(Err(send::RequestBodyError)) =
                self.sending.poll(cx, &mut self.stream, &[], |_| false)
        {
            self.sending.give_up();
        }
    }

    /// The next frame of the response's body.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match self.decoder.decode(&mut self.input) {
                Err(Malformed) => return Poll::Ready(Some(Err(BodyError))),
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) if self.decoder.is_done() => return Poll::Ready(None),
                Ok(None) => {}
            }
            self.room.reserve(self.next_read.get());
            let read = ready!(pin!(self.stream.read_buf(&mut self.room)).poll(cx));
            match read {
                Err(_) => return Poll::Ready(Some(Err(BodyError))),
                // A write was told of the reset, so that a read sees an end: it is none.
                Ok(0) if self.sending.was_reset() => return Poll::Ready(Some(Err(BodyError))),
                Ok(0) => {
                    let closed = self.decoder.close().map_err(|Malformed| BodyError);
                    return Poll::Ready(closed.err().map(Err));
                }
                Ok(count) => {
                    self.next_read = self.next_read.after(count);
                    self.input = self.room.split().freeze();
                }
            }
        }
    }

    /// Whether all of the response's body was taken.
    pub fn is_done(&self) -> bool {
        self.decoder.is_done()
    }

    /// How much of it is left, where that is known.
    pub fn left(&self) -> Option<u64> {
        self.decoder.left()
    }

    /// Makes it ready to lie idle; whether another request may go over it: both messages ended
    /// where they said, and nothing came after them.
    pub fn become_idle(&mut self) -> bool {
        self.room = BytesMut::new();
        let ended = self.decoder.is_done()
            && !self.decoder.has_lost_trailers()
            && self.sending.is_sent()
            && self.input.is_empty();
        self.input = Bytes::new();
        ended && self.keep_alive
    }

    /// Closes it while nothing is under way; see [`TargetStream::close`].
    pub fn close(self) {
        self.stream.close();
    }

    /// The stream and what was read of the new protocol, and the place, which must be held on to.
    pub fn into_tunnel(self) -> (TargetStream, Bytes, Option<OwnedSemaphorePermit>) {
        (self.stream.into_tunnel(), self.input, self.place)
    }
}

/// What is kept while an answer is awaited.
#[derive(Debug, Default)]
pub struct Waiting {
    /// The part of a head that came so far.
    partial: Vec<u8>,
    /// Whether it may be a whole one: it came behind an interim answer.
    is_unread: bool,
    /// Bytes of interim answers.
    interim: usize,
}

#[cfg(test)]
mod tests;
