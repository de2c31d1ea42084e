//! The state an HTTP/2 connection shares with its streams, and the slot each open stream holds.

use super::send_budget::SendBudget;
use crate::config::settings::Limits;
use crate::policy::flood_guard::FloodGuard;
use crate::policy::headers::http2::Measured;
use crate::proxy::conn::{Conn, ConnState};
use crate::proxy::deadline::Deadline;
use crate::proxy::worker_ctx::WorkerCtx;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Bound on the memory in bytes of request heads over all streams, until a target has answered
/// them.
const MAX_HEADS: usize = 1 << 20;
/// Memory of a field in bytes, apart from its name and value.
const FIELD_IN_MEMORY: usize = 80;

/// State shared by a connection's streams.
pub(super) struct ConnShared {
    pub(super) worker: Rc<WorkerCtx>,
    pub(super) conn: Rc<Conn>,
    pub(super) limits: Limits,
    pub(super) send_budget: Rc<SendBudget>,
    pub(super) flood_guard: RefCell<FloodGuard>,
    /// Memory of the heads, in bytes.
    heads: Cell<usize>,
}

impl ConnShared {
    pub(super) fn new(worker: &Rc<WorkerCtx>, conn: &Rc<Conn>, limits: &Limits) -> Self {
        let guard = FloodGuard::new(worker.now().monotonic, limits.streams);
        Self {
            worker: Rc::clone(worker),
            conn: Rc::clone(conn),
            limits: *limits,
            send_budget: Rc::default(),
            flood_guard: RefCell::new(guard),
            heads: Cell::new(0),
        }
    }

    /// Returns true if no further head fits: the maximum of streams is open, or heads use all their
    /// memory. The library counts a stream until it is closed on the wire; here it counts until its
    /// task has ended.
    pub(super) fn is_full(&self) -> bool {
        let has_all = self.conn.open_exchanges() >= self.limits.streams as usize;
        has_all || self.heads.get() >= MAX_HEADS
    }

    /// Takes a slot for a stream whose request has this head, if there is memory for it.
    pub(super) fn slot(self: &Rc<Self>, head: &Measured) -> Option<StreamSlot> {
        let head = memory(head);
        // The first is served at any size; `limits.header_bytes` bounds it.
        let others = self.heads.get();
        if others > 0 && others + head > MAX_HEADS {
            return None;
        }
        Some(StreamSlot::new(Rc::clone(self), head))
    }

    /// Records that a stream was reset or refused before its response was complete.
    pub(super) fn record_reset(&self) {
        let now = self.worker.now().monotonic;
        self.flood_guard.borrow_mut().record_reset(now);
    }

    /// Wakes streams that wait for room, and records the connection's state; `written` is the
    /// number of bytes sent at the last call.
    pub(super) fn record_state(&self, written: &mut u64) {
        self.send_budget.wake_if_room();
        let state = match (self.send_budget.is_empty(), self.conn.open_exchanges()) {
            (false, _) => ConnState::Unsent,
            (true, 0) => ConnState::NoStream,
            (true, _) => ConnState::Busy,
        };
        let written_now = self.conn.io.written();
        let goes_on = state == ConnState::Unsent && written_now != *written;
        *written = written_now;
        if goes_on || state != self.conn.state() {
            self.conn.enter(state, self.worker.now().monotonic);
        }
    }
}

/// The slot of an open stream. Dropping it makes room for another.
pub(super) struct StreamSlot {
    pub(super) shared: Rc<ConnShared>,
    /// The deadline of its exchange.
    pub(super) deadline: Rc<Deadline>,
    head: Cell<usize>,
}

impl StreamSlot {
    fn new(shared: Rc<ConnShared>, head: usize) -> Self {
        shared.heads.set(shared.heads.get() + head);
        let deadline = Rc::new(Deadline::new(Rc::default(), shared.worker.now().monotonic));
        shared.conn.add(&deadline);
        Self { shared, deadline, head: Cell::new(head) }
    }

    /// Releases the memory of the request's head, after the response.
    pub(super) fn release_head(&self) {
        self.shared.heads.set(self.shared.heads.get() - self.head.take());
    }

    /// Records bytes of the response, for the flood guard.
    pub(super) fn record_payload(&self, bytes: usize) {
        self.shared.flood_guard.borrow_mut().record_payload(bytes as u64);
    }

    /// Records that the client reset the stream.
    pub(super) fn record_reset(&self) {
        self.shared.record_reset();
        // The connection's own task checks it.
        self.shared.conn.wake();
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        self.release_head();
        self.shared.conn.remove(&self.deadline);
    }
}

/// Memory of a request's head, in bytes.
fn memory(head: &Measured) -> usize {
    head.content + head.lines * FIELD_IN_MEMORY + head.target
}
