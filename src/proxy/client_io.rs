//! The client's side of an HTTP/1.1 connection: bytes read ahead, the body of the current request,
//! bytes to send. The connection's loop and the current upload share it within one task.

use crate::http1::decode::{Decoder, Framing, From};
use crate::net::read_size::ReadSize;
use crate::net::stream::{IoCounters, Stream};
use bytes::{Bytes, BytesMut};
use http_body::Frame;
use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Bytes of further requests that are read during an exchange. More stay in the kernel, and then
/// the client's end is not noticed before its response is sent.
const MAX_AHEAD: usize = 16 * 1_024;
/// The interim response for a client with `Expect: 100-continue` (RFC 9110 section 15.2.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Cause of an incomplete client body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientBodyError {
    /// The client left.
    Gone,
    /// The body does not match its framing, or its trailers are too large.
    Malformed,
}

/// An end of the client's connection while its response is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientEnd {
    /// The client closed its sending half: it may wait for the response, or be gone.
    HalfClosed,
    /// The client reset the connection.
    Gone,
}

/// The client's side of one connection.
#[derive(Debug)]
pub(crate) struct ClientIo {
    /// `None` after the connection became a tunnel.
    stream: RefCell<Option<Stream>>,
    /// Bytes read and not yet consumed.
    input: RefCell<Bytes>,
    room: RefCell<BytesMut>,
    next_read: Cell<ReadSize>,
    decoder: RefCell<Decoder>,
    /// Bytes of [`CONTINUE`] still to be sent before the body is read.
    continue_left: Cell<usize>,
    /// True if the end was read.
    at_end: Cell<bool>,
    /// True if the current response ends with the connection, so that a plain end marks it
    /// complete.
    ends_by_close: Cell<bool>,
    io: Rc<IoCounters>,
}

impl ClientIo {
    /// Wraps a connection of which `first` was read already.
    pub(crate) fn new(stream: Stream, first: Vec<u8>, io: Rc<IoCounters>) -> Self {
        Self {
            stream: RefCell::new(Some(stream)),
            input: RefCell::new(first.into()),
            room: RefCell::default(),
            next_read: Cell::default(),
            decoder: RefCell::new(Decoder::new(Framing::Length(0), From::Target)),
            continue_left: Cell::new(0),
            at_end: Cell::new(false),
            ends_by_close: Cell::new(false),
            io,
        }
    }

    /// Begins the body after a head; `awaits_continue` is true if the client waits for 100
    /// Continue.
    pub(crate) fn begin_body(&self, framing: Framing, lone_lf: bool, awaits_continue: bool) {
        *self.decoder.borrow_mut() = Decoder::new(framing, From::Client { lone_lf });
        let has_begun = !self.input.borrow().is_empty();
        let awaits = awaits_continue && framing != Framing::Length(0) && !has_begun;
        self.continue_left.set(if awaits { CONTINUE.len() } else { 0 });
        self.next_read.set(ReadSize::default());
    }

    /// Returns true if the whole request was read.
    pub(crate) fn is_whole(&self) -> bool {
        self.decoder.borrow().is_done()
    }

    /// Returns true if the client still waits for 100 Continue.
    pub(crate) fn awaits_continue(&self) -> bool {
        self.continue_left.get() > 0
    }

    /// Takes the bytes that were read and not consumed.
    pub(crate) fn take_input(&self) -> Bytes {
        self.input.take()
    }

    /// Returns true if such bytes exist.
    pub(crate) fn has_input(&self) -> bool {
        !self.input.borrow().is_empty()
    }

    /// Puts bytes back that belong to the next request or to the body.
    pub(crate) fn put_back(&self, bytes: Bytes) {
        *self.input.borrow_mut() = bytes;
    }

    /// Frees empty buffers, so that an idle connection is small.
    pub(crate) fn shrink(&self) {
        *self.room.borrow_mut() = BytesMut::new();
        if self.input.borrow().is_empty() {
            *self.input.borrow_mut() = Bytes::new();
        }
    }

    /// Reads into `room`; 0 is the end.
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut stream = self.stream.borrow_mut();
        let Some(stream) = &mut *stream else { return Poll::Ready(Ok(0)) };
        let count = ready!(stream.poll_read_into(cx, room))?;
        self.io.add_read(count);
        self.at_end.set(count == 0);
        Poll::Ready(Ok(count))
    }

    /// Appends to this vector, up to its capacity.
    pub(crate) fn poll_read_more(
        &self,
        cx: &mut Context<'_>,
        more: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        let from = more.len();
        // The capacity is small, and zeroing it avoids uninitialized memory.
        more.resize(more.capacity(), 0);
        let polled = self.poll_read(cx, &mut more[from..]);
        let count = match &polled {
            Poll::Ready(Ok(count)) => *count,
            _ => 0,
        };
        more.truncate(from + count);
        polled
    }

    fn poll_fill(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = self.room.borrow_mut();
        let next = self.next_read.get();
        room.reserve(next.get());
        let count = {
            let mut stream = self.stream.borrow_mut();
            let Some(stream) = &mut *stream else { return Poll::Ready(Ok(0)) };
            ready!(poll_read_buf(stream, cx, &mut room))?
        };
        self.io.add_read(count);
        self.at_end.set(count == 0);
        self.next_read.set(next.after(count));
        *self.input.borrow_mut() = room.split().freeze();
        Poll::Ready(Ok(count))
    }

    /// The next frame of the request's body.
    pub(crate) fn poll_frame(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        loop {
            {
                let (mut decoder, mut input) = (self.decoder.borrow_mut(), self.input.borrow_mut());
                match decoder.decode(&mut input) {
                    Err(_) => return Poll::Ready(Some(Err(ClientBodyError::Malformed))),
                    Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                    Ok(None) if decoder.is_done() => return Poll::Ready(None),
                    Ok(None) => {}
                }
            }
            if self.continue_left.get() > 0 && ready!(self.poll_continue(cx)).is_err() {
                return Poll::Ready(Some(Err(ClientBodyError::Gone)));
            }
            match ready!(self.poll_fill(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(Some(Err(ClientBodyError::Gone))),
                Ok(_) => {}
            }
        }
    }

    fn poll_continue(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.continue_left.get() > 0 {
            let left = self.continue_left.get();
            let count = ready!(self.poll_write(cx, &CONTINUE[CONTINUE.len() - left..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.continue_left.set(left - count);
        }
        self.poll_flush(cx)
    }

    /// Checks if the client is still connected while its response is awaited. Keeps what it sends,
    /// up to a bound. Ready only when it ends.
    pub(crate) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<ClientEnd> {
        loop {
            if self.at_end.get() {
                return Poll::Ready(ClientEnd::HalfClosed);
            }
            if self.input.borrow().len() >= MAX_AHEAD {
                return Poll::Pending;
            }
            {
                let stream = self.stream.borrow();
                let Some(stream) = &*stream else { return Poll::Pending };
                ready!(stream.poll_readable(cx));
            }
            let mut room = [0; 2_048];
            match ready!(self.poll_read(cx, &mut room)) {
                Ok(0) => {}
                Ok(count) => {
                    let mut input = self.input.borrow_mut();
                    let mut joined = BytesMut::with_capacity(input.len() + count);
                    joined.extend_from_slice(&input);
                    joined.extend_from_slice(&room[..count]);
                    *input = joined.freeze();
                }
                Err(_) => return Poll::Ready(ClientEnd::Gone),
            }
        }
    }

    /// Writes some of these bytes.
    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut stream = self.stream.borrow_mut();
        let Some(stream) = &mut *stream else { return Poll::Ready(Ok(0)) };
        let count = ready!(Pin::new(stream).poll_write(cx, bytes))?;
        self.io.add_written(count);
        Poll::Ready(Ok(count))
    }

    /// Writes some of these two slices, in order.
    pub(crate) fn poll_write_both(
        &self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        if second.is_empty() {
            return self.poll_write(cx, first);
        }
        if first.is_empty() {
            return self.poll_write(cx, second);
        }
        let mut stream = self.stream.borrow_mut();
        let Some(stream) = &mut *stream else { return Poll::Ready(Ok(0)) };
        let both = [IoSlice::new(first), IoSlice::new(second)];
        let count = ready!(Pin::new(stream).poll_write_vectored(cx, &both))?;
        self.io.add_written(count);
        Poll::Ready(Ok(count))
    }

    /// Sends written bytes that TLS still holds.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self.stream.borrow_mut() {
            Some(stream @ Stream::Tls(_)) => Pin::new(stream).poll_flush(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Closes the sending half.
    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self.stream.borrow_mut() {
            Some(stream) => Pin::new(stream).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Records if the current response ends with the connection and is not complete yet.
    pub(crate) fn ends_by_close(&self, does: bool) {
        self.ends_by_close.set(does);
    }

    /// Takes the stream for a tunnel or for its close. Nothing is read or written here afterwards.
    pub(crate) fn take_stream(&self) -> Option<Stream> {
        self.stream.borrow_mut().take()
    }
}

impl Drop for ClientIo {
    fn drop(&mut self) {
        // The process cut a response that a plain end would mark as complete.
        if self.ends_by_close.get()
            && let Some(stream) = self.take_stream()
        {
            stream.reset();
        }
    }
}

fn poll_read_buf(
    stream: &mut Stream,
    cx: &mut Context<'_>,
    room: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    use tokio::io::AsyncReadExt;
    std::future::Future::poll(std::pin::pin!(stream.read_buf(room)), cx)
}
