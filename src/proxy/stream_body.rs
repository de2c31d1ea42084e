//! A request's body as received on an HTTP/2 stream.

use crate::config::settings::Limits;
use crate::net::stream::IoCounters;
use crate::proxy::client_io::ClientBodyError;
use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Bound in bytes below which frames of a request's body are joined, and the size of the joined
/// piece.
const SMALL_FRAME: usize = 1 << 10;
const MAX_GATHERED: usize = 16 << 10;

/// A request's body as received on an HTTP/2 stream.
pub(crate) struct StreamBody {
    /// Present until dropped.
    stream: Option<RecvStream>,
    state: Rc<State>,
    max_fields: usize,
    max_bytes: usize,
    io: Rc<IoCounters>,
}

/// The state of a body that its exchange reads, for the task of its stream.
#[derive(Debug, Default)]
pub(super) struct BodyHandle(Rc<State>);

#[derive(Default)]
struct State {
    is_read: Cell<bool>,
    unread: RefCell<Option<RecvStream>>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("is_read", &self.is_read).finish_non_exhaustive()
    }
}

impl BodyHandle {
    /// Returns true if the body was polled.
    pub(super) fn is_read(&self) -> bool {
        self.0.is_read.get()
    }

    /// Takes the rest of a body that was dropped before its end.
    pub(super) fn take_unread(&self) -> Option<RecvStream> {
        self.0.unread.take()
    }
}

impl fmt::Debug for StreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamBody").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl StreamBody {
    /// The body of this stream; its bytes are counted in `io`, and `handle` shows its state.
    pub(super) fn new(
        stream: RecvStream,
        limits: &Limits,
        io: &Rc<IoCounters>,
        handle: &BodyHandle,
    ) -> Self {
        Self {
            stream: Some(stream),
            state: Rc::clone(&handle.0),
            max_fields: limits.headers,
            max_bytes: limits.header_bytes,
            io: Rc::clone(io),
        }
    }

    /// The next frame.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        self.state.is_read.set(true);
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        match ready!(poll_data(stream, cx)) {
            Some(data) => Poll::Ready(Some(data.map(|data| {
                let data = gather(stream, cx, data);
                self.io.add_read(data.len());
                Frame::data(data)
            }))),
            None => {
                let trailers = ready!(stream.poll_trailers(cx)).map_err(|error| fault(&error));
                let fitting = trailers.and_then(|trailers| match trailers {
                    Some(trailers) if self.are_too_large(&trailers) => {
                        Err(ClientBodyError::Malformed)
                    }
                    trailers => Ok(trailers),
                });
                Poll::Ready(fitting.transpose().map(|trailers| trailers.map(Frame::trailers)))
            }
        }
    }

    /// Returns true if the trailers exceed our limits. The library has its own, larger limit, and
    /// drops fields beyond it.
    fn are_too_large(&self, trailers: &HeaderMap) -> bool {
        let field = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
        trailers.len() > self.max_fields
            || trailers.iter().map(field).sum::<usize>() > self.max_bytes
    }

    /// Returns true if nothing of it is left.
    pub(super) fn is_end_stream(&self) -> bool {
        self.stream.as_ref().is_none_or(RecvStream::is_end_stream)
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        let unread = self.stream.take().filter(|stream| !stream.is_end_stream());
        *self.state.unread.borrow_mut() = unread;
    }
}

/// The next bytes, for which the client gets window again.
pub(super) fn poll_data(
    stream: &mut RecvStream,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Bytes, ClientBodyError>>> {
    loop {
        match ready!(stream.poll_data(cx)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(fault(&error)))),
            // An empty frame may only mark the stream's end.
            Some(Ok(data)) if data.is_empty() => {}
            Some(Ok(data)) => {
                // Fails if the stream is closed, which the next read reports.
                let _ = stream.flow_control().release_capacity(data.len());
                return Poll::Ready(Some(Ok(data)));
            }
        }
    }
}

/// Classifies a stream error. The library itself ends a stream because of the client's bytes: a
/// length other than announced (RFC 9113 section 8.1.1), or bytes over the window.
fn fault(error: &h2::Error) -> ClientBodyError {
    if error.is_library() { ClientBodyError::Malformed } else { ClientBodyError::Gone }
}

/// Joins a small frame with those received after it. Each piece costs a call on its way to the
/// target; taken one by one, they would pile up in the library, which ends a connection with too
/// many of them.
fn gather(stream: &mut RecvStream, cx: &mut Context<'_>, first: Bytes) -> Bytes {
    if first.len() >= SMALL_FRAME {
        return first;
    }
    let mut gathered = BytesMut::new();
    // The next read sees an end or an error again.
    while gathered.len() < MAX_GATHERED
        && let Poll::Ready(Some(Ok(more))) = poll_data(stream, cx)
    {
        if gathered.is_empty() {
            gathered.extend_from_slice(&first);
        }
        gathered.extend_from_slice(&more);
    }
    if gathered.is_empty() { first } else { gathered.freeze() }
}
