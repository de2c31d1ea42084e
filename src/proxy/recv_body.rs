//! A client's body while it is received, over either protocol.

use super::client_io::{ClientBodyError, ClientIo};
use super::stream_body::StreamBody;
use bytes::Bytes;
use http_body::Frame;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Bound in bytes on an unwanted body that is read so that the connection can continue, if it is
/// available: some four turns of reading.
const MAX_UNWANTED: usize = 64 * 1_024;

/// A client's body while it is received.
#[derive(Debug)]
pub(crate) enum ClientBody {
    /// Over HTTP/1.1.
    Http1(Rc<ClientIo>),
    /// Over a stream of HTTP/2.
    Http2(StreamBody),
    /// No body.
    Empty,
}

impl ClientBody {
    /// The next frame.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        match self {
            Self::Http1(client) => client.poll_frame(cx),
            Self::Http2(body) => body.poll_frame(cx),
            Self::Empty => Poll::Ready(None),
        }
    }

    /// Returns true if nothing of it is left.
    pub(crate) fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(client) => client.is_whole(),
            Self::Http2(body) => body.is_end_stream(),
            Self::Empty => true,
        }
    }

    /// Reads and drops the available part of a body. Returns true if that was all. Over HTTP/2 the
    /// result does not matter, because no other stream waits for the rest.
    pub(crate) async fn is_read_at_once(&mut self) -> bool {
        let Self::Http1(client) = self else { return self.is_end_stream() };
        if client.is_whole() {
            return true;
        }
        if client.awaits_continue() {
            return false;
        }
        let mut left = MAX_UNWANTED;
        // The runtime may not know yet of bytes that have arrived: it is asked once more.
        let mut asked = false;
        poll_fn(|cx| {
            loop {
                match client.poll_frame(cx) {
                    Poll::Ready(None) => return Poll::Ready(true),
                    Poll::Ready(Some(Ok(frame))) => {
                        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
                        asked = false;
                        if left == 0 {
                            return Poll::Ready(client.is_whole());
                        }
                    }
                    Poll::Ready(Some(Err(_))) => return Poll::Ready(false),
                    Poll::Pending if asked => return Poll::Ready(false),
                    Poll::Pending => {
                        asked = true;
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
            }
        })
        .await
    }
}
