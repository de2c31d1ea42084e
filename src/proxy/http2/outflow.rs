//! What was handed to the library for sending and has not gone out. Without a bound a client that
//! opens its windows wide and reads nothing would have all its answers held here.

use bytes::{Buf, Bytes};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Waker};

/// Bytes of bodies that wait for one client's socket. More than a socket's buffer takes at once, so
/// that a fast one never waits for us.
const MOST: usize = 256 << 10;

/// What of one connection waits for its socket.
#[derive(Debug, Default)]
pub(super) struct Outflow {
    queued: Cell<usize>,
    waiting: RefCell<Vec<Waker>>,
}

impl Outflow {
    /// Whether nothing more should be fetched for this client; who asks is woken when it may.
    pub(super) fn is_full(&self, cx: &Context<'_>) -> bool {
        let is_full = self.queued.get() >= MOST;
        if is_full {
            self.wait(cx);
        }
        is_full
    }

    /// Has a task woken after the connection's next turn in which there is room.
    pub(super) fn wait(&self, cx: &Context<'_>) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queued.get() == 0
    }

    /// Wakes all who wait, once there is room. Each of them looks again.
    pub(super) fn wake_if_room(&self) {
        if self.queued.get() < MOST {
            self.waiting.take().into_iter().for_each(Waker::wake);
        }
    }
}

/// A piece of a body on its way out.
pub(super) struct Queued {
    bytes: Bytes,
    outflow: Rc<Outflow>,
    _of: Pieces,
}

/// The pieces of one stream, counted by their number of holders.
#[derive(Clone, Debug, Default)]
pub(super) struct Pieces(Rc<()>);

impl Pieces {
    /// Whether none waits any more, neither here nor in the library.
    pub(super) fn are_out(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }
}

impl Queued {
    pub(super) fn new(bytes: Bytes, outflow: &Rc<Outflow>, of: &Pieces) -> Self {
        outflow.queued.set(outflow.queued.get() + bytes.len());
        Self { bytes, outflow: Rc::clone(outflow), _of: of.clone() }
    }
}

impl fmt::Debug for Queued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queued").field("bytes", &self.bytes.len()).finish()
    }
}

impl Buf for Queued {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.outflow.queued.set(self.outflow.queued.get() - count);
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.outflow.queued.set(self.outflow.queued.get() - self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_or_dropped_makes_room() {
        let outflow = Rc::new(Outflow::default());
        let cx = Context::from_waker(Waker::noop());
        let pieces = Pieces::default();
        let mut first = Queued::new(Bytes::from(vec![0; MOST]), &outflow, &pieces);
        assert!(outflow.is_full(&cx));
        first.advance(1);
        assert!(!outflow.is_full(&cx) && !outflow.is_empty());
        assert!(!pieces.are_out());
        drop(first);
        assert!(outflow.is_empty() && pieces.are_out());
    }
}
