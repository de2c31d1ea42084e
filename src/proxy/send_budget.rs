//! A bound on the bytes handed to the library and not sent yet. Without it, a client that opens
//! large windows and reads nothing would make us hold all its responses.

use bytes::{Buf, Bytes};
use h2::SendStream;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

/// Bytes of bodies that wait for one client's socket: more than a socket's buffer takes at once, so
/// that a fast client never waits for us.
const MAX_QUEUED: usize = 256 << 10;

/// Bytes of one connection that wait for its socket.
#[derive(Debug, Default)]
pub(super) struct SendBudget {
    queued: Cell<usize>,
    waiting: RefCell<Vec<Waker>>,
}

impl SendBudget {
    /// Returns true if no more should be fetched for this client. The task is then woken when there
    /// is room.
    pub(super) fn is_full(&self, cx: &Context<'_>) -> bool {
        let is_full = self.queued.get() >= MAX_QUEUED;
        if is_full {
            self.wait(cx);
        }
        is_full
    }

    /// Wakes a task after the connection's next turn in which there is room.
    pub(super) fn wait(&self, cx: &Context<'_>) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queued.get() == 0
    }

    /// Wakes all waiting tasks if there is room. Each of them checks again.
    pub(super) fn wake_if_room(&self) {
        if self.queued.get() < MAX_QUEUED {
            self.waiting.take().into_iter().for_each(Waker::wake);
        }
    }
}

/// A piece of a body in the send queue.
pub(super) struct BudgetedBuf {
    bytes: Bytes,
    budget: Rc<SendBudget>,
    _of: Pieces,
}

/// The pieces of one stream, counted by the number of holders. Most responses are one piece, which
/// needs neither a count nor an allocation.
#[derive(Debug, Default)]
pub(super) struct Pieces(Option<Rc<()>>);

impl Pieces {
    /// A handle that counts one more piece.
    pub(super) fn share(&mut self) -> Self {
        Self(Some(Rc::clone(self.0.get_or_insert_default())))
    }

    /// Returns true if no piece waits any more, neither here nor in the library.
    pub(super) fn are_out(&self) -> bool {
        self.0.as_ref().is_none_or(|count| Rc::strong_count(count) == 1)
    }
}

impl BudgetedBuf {
    pub(super) fn new(bytes: Bytes, budget: &Rc<SendBudget>, of: Pieces) -> Self {
        budget.queued.set(budget.queued.get() + bytes.len());
        Self { bytes, budget: Rc::clone(budget), _of: of }
    }
}

impl fmt::Debug for BudgetedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BudgetedBuf").field("bytes", &self.bytes.len()).finish()
    }
}

impl Buf for BudgetedBuf {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.budget.queued.set(self.budget.queued.get() - count);
    }
}

impl Drop for BudgetedBuf {
    fn drop(&mut self) {
        self.budget.queued.set(self.budget.queued.get() - self.bytes.len());
    }
}

/// Waits until the client's windows have room. Returns the room in bytes, at least one; `None` if
/// the stream is closed.
pub(super) fn poll_room(
    stream: &mut SendStream<BudgetedBuf>,
    cx: &mut Context<'_>,
) -> Poll<Option<usize>> {
    loop {
        match stream.capacity() {
            0 => match ready!(stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(None),
            },
            room => return Poll::Ready(Some(room)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sent_or_dropped_pieces_make_room() {
        let budget = Rc::new(SendBudget::default());
        let cx = Context::from_waker(Waker::noop());
        let mut pieces = Pieces::default();
        assert!(pieces.are_out());
        let bytes = Bytes::from(vec![0; MAX_QUEUED]);
        let mut first = BudgetedBuf::new(bytes, &budget, pieces.share());
        assert!(budget.is_full(&cx));
        first.advance(1);
        assert!(!budget.is_full(&cx) && !budget.is_empty());
        assert!(!pieces.are_out());
        drop(first);
        assert!(budget.is_empty() && pieces.are_out());
    }
}
