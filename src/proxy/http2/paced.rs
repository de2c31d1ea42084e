//! Reading in turns: however fast a client sends, its connection's task hands the worker back after
//! so many bytes. That bounds too what the library can make of them (heads above all, which unfold
//! to many times their size) before anyone looks at it.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are read in one turn: one full DATA frame and its header, and a little more. Made
/// of references to one field they are 16,000 fields, a megabyte.
const BYTES_A_TURN: usize = 17 << 10;

/// What is left of a turn.
#[derive(Debug, Default)]
pub(super) struct Turn(Cell<usize>);

impl Turn {
    /// Begins another.
    pub(super) fn begin(&self) {
        self.0.set(BYTES_A_TURN);
    }
}

/// A stream that is read in turns.
#[derive(Debug)]
pub(super) struct Paced<S> {
    inner: S,
    turn: Rc<Turn>,
}

impl<S> Paced<S> {
    pub(super) fn new(inner: S, turn: Rc<Turn>) -> Self {
        Self { inner, turn }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = self.turn.0.get();
        if left == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.turn.0.set(left.saturating_sub(buffer.filled().len() - before));
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
