//! A stream that carries another protocol's bytes both ways (RFC 8441 section 5).

use super::h2_slot::StreamSlot;
use super::send_budget::{BudgetedBuf, Pieces, SendBudget, poll_room};
use super::stream_body::poll_data;
use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The client's end of a tunnel. Dropping it before its end was sent resets the stream.
pub(super) struct StreamTunnel {
    sender: SendStream<BudgetedBuf>,
    receiver: RecvStream,
    /// Received and not read yet.
    first: Bytes,
    budget: Rc<SendBudget>,
    slot: StreamSlot,
}

impl fmt::Debug for StreamTunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamTunnel").finish_non_exhaustive()
    }
}

impl StreamTunnel {
    pub(super) fn new(
        sender: SendStream<BudgetedBuf>,
        receiver: RecvStream,
        budget: Rc<SendBudget>,
        slot: StreamSlot,
    ) -> Self {
        Self { sender, receiver, first: Bytes::new(), budget, slot }
    }
}

/// Maximum of bytes sent at once.
const MAX_PIECE: usize = 16 << 10;

fn gone() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl AsyncRead for StreamTunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.first.is_empty() {
            match ready!(poll_data(&mut this.receiver, cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(_)) => return Poll::Ready(Err(gone())),
                Some(Ok(data)) => {
                    this.slot.deadline.io.add_read(data.len());
                    this.first = data;
                }
            }
        }
        let count = this.first.len().min(buffer.remaining());
        buffer.put_slice(&this.first[..count]);
        this.first.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StreamTunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if this.sender.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(gone()));
        }
        if this.budget.is_full(cx) {
            return Poll::Pending;
        }
        this.sender.reserve_capacity(bytes.len().min(MAX_PIECE));
        let room = ready!(poll_room(&mut this.sender, cx)).ok_or_else(gone)?;
        let count = room.min(bytes.len()).min(MAX_PIECE);
        let bytes = Bytes::copy_from_slice(&bytes[..count]);
        let piece = BudgetedBuf::new(bytes, &this.budget, Pieces::default());
        this.sender.send_data(piece, false).map_err(|_| gone())?;
        this.slot.record_payload(count);
        this.slot.deadline.io.add_written(count);
        Poll::Ready(Ok(count))
    }

    /// The connection's own task sends what is queued.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ends the stream's sending half.
    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let end = BudgetedBuf::new(Bytes::new(), &self.budget, Pieces::default());
        // Fails if the stream is closed, and then its end was signalled otherwise.
        let _ = self.sender.send_data(end, true);
        Poll::Ready(Ok(()))
    }
}
