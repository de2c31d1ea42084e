//! Sends a request's body as fast as the target takes it (RFC 9113 section 5.2).

use bytes::Bytes;
use h2::SendStream;
use http_body::{Body, Frame};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The state of sending a body.
#[derive(Debug)]
pub(super) struct BodySender<B> {
    /// `None` once sending has ended.
    way: Option<(SendStream<Bytes>, B)>,
    /// Bytes read from the body and not yet handed over.
    chunk: Bytes,
    is_last: bool,
    taken: u64,
}

/// Error: the body broke off at its source.
#[derive(Debug)]
pub(super) struct RequestBodyError;

impl<B: Body<Data = Bytes> + Unpin> BodySender<B> {
    pub(super) fn nothing() -> Self {
        Self { way: None, chunk: Bytes::new(), is_last: false, taken: 0 }
    }

    pub(super) fn of(stream: SendStream<Bytes>, body: B) -> Self {
        Self { way: Some((stream, body)), ..Self::nothing() }
    }

    pub(super) fn is_over(&self) -> bool {
        self.way.is_none()
    }

    /// Bytes for which the target gave window, and true if more is ready but blocked.
    pub(super) fn taken(&self) -> (u64, bool) {
        (self.taken, !self.chunk.is_empty())
    }

    /// Stops sending.
    pub(super) fn give_up(&mut self) {
        *self = Self::nothing();
    }

    /// Sends as much as possible. Ready if there is no more to send, or the stream takes no more.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RequestBodyError>> {
        while let Some((stream, body)) = &mut self.way {
            let taken = if self.chunk.is_empty() {
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                match frame.transpose().map_err(|_| RequestBodyError)?.map(Frame::into_data) {
                    Some(Ok(data)) => {
                        self.chunk = data;
                        self.is_last = body.is_end_stream();
                        match self.chunk.is_empty() {
                            true if self.is_last => self.end(None),
                            _ => true,
                        }
                    }
                    Some(Err(frame)) => self.end(frame.into_trailers().ok()),
                    None => self.end(None),
                }
            } else {
                let before = self.chunk.len();
                let goes_on = ready!(poll_chunk(stream, &mut self.chunk, self.is_last, cx));
                self.taken += (before - self.chunk.len()) as u64;
                goes_on && !(self.is_last && self.chunk.is_empty())
            };
            if !taken {
                // The body has ended, or the target takes no more; a response may still arrive.
                self.give_up();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ends the request and returns false: nothing follows. Sending fails only on a closed stream.
    fn end(&mut self, trailers: Option<http::HeaderMap>) -> bool {
        if let Some((stream, _)) = &mut self.way {
            let _ = match trailers {
                Some(trailers) => stream.send_trailers(trailers),
                None => stream.send_data(Bytes::new(), true),
            };
        }
        false
    }
}

/// Sends as much of the chunk as the window allows. Returns true if the stream is open. Window is
/// requested only if there is something to send: capacity reserved for a stream is not available to
/// others.
fn poll_chunk(
    stream: &mut SendStream<Bytes>,
    chunk: &mut Bytes,
    is_last: bool,
    cx: &mut Context<'_>,
) -> Poll<bool> {
    stream.reserve_capacity(chunk.len());
    while stream.capacity() == 0 {
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Poll::Ready(false),
        }
    }
    let piece = chunk.split_to(stream.capacity().min(chunk.len()));
    let ends = is_last && chunk.is_empty();
    Poll::Ready(stream.send_data(piece, ends).is_ok())
}
