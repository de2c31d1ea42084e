//! Records if a target has sent anything. A connection error may hide its output: a target that
//! answers in another protocol often closes at once.

use crate::net::target_stream::TargetStream;
use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The stream to the target.
#[derive(Debug)]
pub(super) struct FirstByteFlag {
    stream: TargetStream,
    anything: Rc<Cell<bool>>,
    is_deaf: bool,
}

impl FirstByteFlag {
    /// Sets `anything` at the first byte received. Discards bytes that can no longer be written:
    /// the library stops at the first failed write, and would lose what the target sent before.
    /// Reading continues to the end that a dead connection always has.
    pub(super) fn new(stream: TargetStream, anything: Rc<Cell<bool>>) -> Self {
        Self { stream, anything, is_deaf: false }
    }
}

impl AsyncRead for FirstByteFlag {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = room.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, room);
        if room.filled().len() > before {
            self.anything.set(true);
        }
        read
    }
}

impl AsyncWrite for FirstByteFlag {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_deaf {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        self.is_deaf = written.is_err();
        Poll::Ready(Ok(written.unwrap_or(bytes.len())))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = slices.iter().map(|slice| slice.len()).sum();
        if self.is_deaf {
            return Poll::Ready(Ok(all));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices));
        self.is_deaf = written.is_err();
        Poll::Ready(Ok(written.unwrap_or(all)))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_deaf {
            self.is_deaf = ready!(Pin::new(&mut self.stream).poll_flush(cx)).is_err();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
