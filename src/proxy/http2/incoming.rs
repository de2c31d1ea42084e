//! The bytes of a request's body as they come over a stream.

use crate::proxy::body::Fault;
use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use std::task::{Context, Poll, ready};

/// Frames of a request's body below this are put together, to so many bytes.
const SMALL_FRAME: usize = 1 << 10;
const MOST_GATHERED: usize = 16 << 10;

/// The next bytes, for which the client is given room again.
pub(super) fn poll_data(
    stream: &mut RecvStream,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Bytes, Fault>>> {
    loop {
        match ready!(stream.poll_data(cx)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(fault(&error)))),
            // An empty frame says that the stream ends, or nothing.
            Some(Ok(data)) if data.is_empty() => {}
            Some(Ok(data)) => {
                // It fails where the stream is gone, which the next read says.
                let _ = stream.flow_control().release_capacity(data.len());
                return Poll::Ready(Some(Ok(data)));
            }
        }
    }
}

/// What an error of a stream says of its client. What the library ends, it ends for what the client
/// sent: a length that is not the one announced (RFC 9113 section 8.1.1), bytes beyond the window.
pub(super) fn fault(error: &h2::Error) -> Fault {
    if error.is_library() { Fault::Malformed } else { Fault::Gone }
}

/// Puts a small frame together with those that have come after it. Each piece costs a call on
/// its way to the target; taken one by one they would pile up in the library, which ends a
/// connection with too many of them.
pub(super) fn gather(stream: &mut RecvStream, cx: &mut Context<'_>, first: Bytes) -> Bytes {
    if first.len() >= SMALL_FRAME {
        return first;
    }
    let mut gathered = BytesMut::new();
    // An end or an error is met again by the next read.
    while gathered.len() < MOST_GATHERED
        && let Poll::Ready(Some(Ok(more))) = poll_data(stream, cx)
    {
        if gathered.is_empty() {
            gathered.extend_from_slice(&first);
        }
        gathered.extend_from_slice(&more);
    }
    if gathered.is_empty() { first } else { gathered.freeze() }
}
