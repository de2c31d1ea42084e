//! An HTTP/1.1 connection to a target, driven by the task of the exchange that uses it.
//!
//! hyper's client would add a task and two queues between the exchange and the socket, and parse
//! the assembled head again: half the cost of a small request (see
//! `docs/decisions/0002-upstream-connections.md`). Here the exchange's own task writes and reads.

pub(crate) mod send;

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

/// Bound in bytes on the interim responses before a final head.
const MAX_INTERIM: usize = 1_024 * 1_024;
/// Bytes of a request that a target takes in one read. A longer body may wait in the socket buffers
/// on the way.
const MAX_SHORT_BODY: u64 = 64 * 1_024;

/// Cause of a missing response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The connection ended before the first byte of a response.
    Lost {
        /// True if no byte of the request was sent.
        unsent: bool,
    },
    /// The target ended the exchange without a response but kept the connection (HTTP/2 only).
    Reset,
    /// The response is malformed or incomplete.
    Malformed,
    /// The request's body broke off at its source.
    BodyBroken,
}

/// The kind of a received head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// The final head, including 101. Its body follows.
    Final,
    /// An interim head of 1xx; another head follows (RFC 9110 section 15.2).
    Interim,
}

/// Error: a response body that broke off or does not match its framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyError;

/// A request's head, ready to send.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// The method, which decides whether the response has a body.
    pub method: &'r Method,
    /// The bytes of the head.
    pub head: &'r [u8],
}

/// The connection. Dropping it closes the socket at once, whatever is in progress, so that a client
/// that leaves cancels its request.
pub struct Connection<B> {
    stream: TargetStream,
    sending: RequestWriter<B>,
    decoder: Decoder,
    /// Bytes read and not yet consumed.
    input: Bytes,
    room: BytesMut,
    next_read: ReadSize,
    keep_alive: bool,
    /// True if a request had a body since the connection was last known to be quiet.
    had_body: bool,
    /// True if one of these bodies was longer than [`MAX_SHORT_BODY`].
    had_long_body: bool,
    place: Option<OwnedSemaphorePermit>,
    /// The client named in the PROXY header, if one was sent. Boxed, because most connections have
    /// none.
    proxy_header: Option<Box<Ends>>,
}

impl<B> fmt::Debug for Connection<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl<B: Body<Data = Bytes> + Unpin> Connection<B> {
    /// Wraps a new connection. `place` is held for the life of the connection.
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

    /// Records the client named in the PROXY header.
    pub fn with_proxy_ends(self, ends: Option<Ends>) -> Self {
        Self { proxy_header: ends.map(Box::new), ..self }
    }

    /// Returns true if requests of this client may use the connection. `None` stands for any
    /// client, for groups without `send_proxy`.
    pub fn is_for(&self, client: Option<&Ends>) -> bool {
        self.proxy_header.as_deref() == client
    }

    /// Returns true if the connection can be used again according to the runtime; see
    /// [`TargetStream::is_reusable`].
    pub fn is_reusable(&mut self) -> bool {
        self.stream.is_reusable()
    }

    /// [`Self::is_reusable`], also according to the kernel; see [`TargetStream::is_quiet_by_now`].
    pub fn is_quiet_by_now(&mut self) -> bool {
        self.stream.is_quiet_by_now()
    }

    /// Returns true if a request had a body, which the target may have read as a request, since the
    /// connection was last known to be quiet.
    pub fn had_body(&self) -> bool {
        self.had_body
    }

    /// Records that the connection has been quiet for long enough.
    pub fn record_reusable(&mut self) {
        (self.had_body, self.had_long_body) = (false, false);
    }

    /// Records the end of an exchange. Returns true if a body was so long that the target may still
    /// be reading it from the socket buffers.
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

    /// Sends the request and waits for a head, which replaces the content of `response`. After an
    /// interim head the caller polls again at once. `scratch` is lent for the call.
    pub fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        request: Request<'_>,
        waiting: &mut Waiting,
        scratch: &mut [u8],
        response: &mut Response,
    ) -> Poll<Result<Answered, RequestError>> {
        // A head received before the rest of the request was sent does not answer all of it.
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
            // Nearly every head arrives in one read and is parsed in place.
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

    /// Parses a head at the front of `bytes` if it is complete, and keeps the bytes after it.
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
        // A response that began before the last byte of the request was written may answer its head
        // alone: a target that ignores bodies reads the rest as a request.
        self.keep_alive =
            rest.keep_alive && !switches && self.sending.is_sent() && !self.sending.was_answered();
        self.input = Bytes::copy_from_slice(behind);
        if !self.sending.has_sent(request.head.len()) {
            // The response arrived before the whole head was sent: the target does not read the
            // rest.
            self.sending.give_up();
        }
        Ok(Some(Answered::Final))
    }

    /// Returns true if part of the request is still to be sent.
    pub fn is_sending(&self) -> bool {
        !self.sending.is_over()
    }

    /// Bytes of the request that the target took, and true if more is ready but blocked.
    pub fn taken(&self) -> (u64, bool) {
        self.sending.taken()
    }

    /// Sends more of the request after the response has begun.
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
                // A write reported the reset, so the read sees an end, but the body is not
                // complete.
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

    /// Returns true if the whole response body was read.
    pub fn is_done(&self) -> bool {
        self.decoder.is_done()
    }

    /// The number of body bytes left; `None` if it is not known.
    pub fn left(&self) -> Option<u64> {
        self.decoder.left()
    }

    /// Prepares the connection to be idle. Returns true if another request may use it: both
    /// messages ended as framed, and nothing followed them.
    pub fn become_idle(&mut self) -> bool {
        self.room = BytesMut::new();
        let ended = self.decoder.is_done()
            && !self.decoder.has_lost_trailers()
            && self.sending.is_sent()
            && self.input.is_empty();
        self.input = Bytes::new();
        ended && self.keep_alive
    }

    /// Closes the connection while nothing is in progress; see [`TargetStream::close`].
    pub fn close(self) {
        self.stream.close();
    }

    /// The stream, the bytes already read of the new protocol, and the place, which must be held.
    pub fn into_tunnel(self) -> (TargetStream, Bytes, Option<OwnedSemaphorePermit>) {
        (self.stream.into_tunnel(), self.input, self.place)
    }
}

/// State kept while a response is awaited.
#[derive(Debug, Default)]
pub struct Waiting {
    /// The part of a head received so far.
    partial: Vec<u8>,
    /// True if `partial` may be a complete head: it followed an interim head.
    is_unread: bool,
    /// Bytes of interim heads.
    interim: usize,
}

#[cfg(test)]
mod tests;
