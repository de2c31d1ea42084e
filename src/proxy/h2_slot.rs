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

/// Memory that heads of requests may take, over all streams, until a target has answered them.
const MAX_HEADS: usize = 1 << 20;
/// Memory a field takes beside its name and value.
const FIELD_IN_MEMORY: usize = 80;

/// State that a connection's streams share.
pub(super) struct ConnShared {
    pub(super) worker: Rc<WorkerCtx>,
    pub(super) conn: Rc<Conn>,
    pub(super) limits: Limits,
    pub(super) send_budget: Rc<SendBudget>,
    pub(super) flood_guard: RefCell<FloodGuard>,
    /// Memory that heads take.
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

    /// Whether there is room for no head: all streams are open that may be, or heads take all memory
    /// they may. The library counts streams until they are closed on the wire; here one counts until its
    /// task is done.
    pub(super) fn is_full(&self) -> bool {
        let has_all = self.conn.open_exchanges() >= self.limits.streams as usize;
        has_all || self.heads.get() >= MAX_HEADS
    }

    /// A slot for a stream whose request has this head, where there is memory left for it.
    pub(super) fn slot(self: &Rc<Self>, head: &Measured) -> Option<StreamSlot> {
        let head = memory(head);
        // The first is served however large it may be by `limits.header_bytes`.
        let others = self.heads.get();
        if others > 0 && others + head > MAX_HEADS {
            return None;
        }
        Some(StreamSlot::new(Rc::clone(self), head))
    }

    /// Notes that a stream was reset before its answer was whole, or was refused.
    pub(super) fn record_reset(&self) {
        let now = self.worker.now().monotonic;
        self.flood_guard.borrow_mut().record_reset(now);
    }

    /// Wakes streams that wait for room, and notes what the connection waits for; `written` is
    /// how many bytes had gone out when this was last called.
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
    /// That of its exchange.
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

    /// Gives back the memory of the request's head, once it is answered.
    pub(super) fn release_head(&self) {
        self.shared.heads.set(self.shared.heads.get() - self.head.take());
    }

    /// Notes bytes of the answer, for the flood guard.
    pub(super) fn record_payload(&self, bytes: usize) {
        self.shared.flood_guard.borrow_mut().record_payload(bytes as u64);
    }

    /// Notes that the client reset the stream.
    pub(super) fn record_reset(&self) {
        self.shared.record_reset();
        // The connection's own task judges it.
        self.shared.conn.wake();
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        self.release_head();
        self.shared.conn.remove(&self.deadline);
    }
}

/// Memory that a request's head takes.
fn memory(head: &Measured) -> usize {
    head.content + head.lines * FIELD_IN_MEMORY + head.target
}
