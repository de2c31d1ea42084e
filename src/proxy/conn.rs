//! One client connection, whatever is spoken on it: what it waits for between its exchanges, and the
//! deadlines of those. HTTP/1.1 has one exchange at a time, HTTP/2 one a stream.

use super::conn_info::ConnInfo;
use super::deadline::{Deadline, Expires, WakerSlot};
use super::expiry::Expiry;
use crate::config::settings::ListenerTimeouts;
use crate::ground::clock::Moment;
use crate::net::stream::IoCounters;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnState {
    /// The first byte after accept.
    Fresh,
    /// The first byte of another request.
    Idle,
    /// The rest of a request's head.
    Head,
    /// Another stream, on an HTTP/2 connection that has none.
    NoStream,
    /// Its exchanges, each by itself.
    Busy,
    /// The client of an HTTP/2 connection to take what is ready to be sent.
    Unsent,
    /// The end of what a client sends after the last answer.
    Closing,
}

/// How long what a client sends is read after it was shown out for abuse, and how much of it: the last
/// word is to arrive.
const CLOSING_AFTER_ABUSE: Duration = Duration::from_secs(1);
/// See there.
pub(super) const BYTES_AFTER_ABUSE: usize = 1 << 20;

/// A connection.
#[derive(Debug)]
pub struct Conn {
    /// What is known of it from accept to close.
    pub info: ConnInfo,
    /// Bytes either way.
    pub io: Rc<IoCounters>,
    timeouts: ListenerTimeouts,
    state: Cell<ConnState>,
    since: Cell<Instant>,
    until: Cell<Option<Instant>>,
    read_before: Cell<u64>,
    expiry: Cell<Option<Expiry>>,
    waker: WakerSlot,
    /// Those of its exchanges; as many as may be open.
    exchanges: RefCell<Vec<Rc<Deadline>>>,
    is_http2: Cell<bool>,
    /// Whether an HTTP/2 client was told to open no more streams.
    sent_goaway: Cell<bool>,
    /// Whether it ends for what its client did with it.
    was_abused: Cell<bool>,
}

impl Conn {
    /// A connection just accepted.
    pub fn new(info: ConnInfo, timeouts: ListenerTimeouts) -> Self {
        let accepted = info.accepted.monotonic;
        Self {
            info,
            io: Rc::default(),
            timeouts,
            state: Cell::new(ConnState::Fresh),
            since: Cell::new(accepted),
            until: Cell::new(None),
            read_before: Cell::new(0),
            expiry: Cell::new(None),
            waker: WakerSlot::default(),
            exchanges: RefCell::default(),
            is_http2: Cell::new(false),
            sent_goaway: Cell::new(false),
            was_abused: Cell::new(false),
        }
    }

    /// What it waits for.
    pub fn state(&self) -> ConnState {
        self.state.get()
    }

    /// Waits for something else from now on. Time that ran out before is forgotten.
    pub fn enter(&self, state: ConnState, now: Instant) {
        self.expiry.set(None);
        self.state.set(state);
        self.since.set(now);
        self.until.set(None);
        self.read_before.set(self.io.read());
    }

    /// Reads on after the last byte, so that what was sent arrives.
    pub fn close(&self, now: Instant, bound: Duration) {
        self.enter(ConnState::Closing, now);
        let bound = if self.was_abused.get() { CLOSING_AFTER_ABUSE } else { bound };
        self.until.set(Some(now + bound));
    }

    /// Notes that it ends for what its client did with it.
    pub fn note_abuse(&self) {
        self.was_abused.set(true);
    }

    /// Whether it does.
    pub fn was_abused(&self) -> bool {
        self.was_abused.get()
    }

    /// Lets the time of an exchange be looked at together with the connection's.
    pub fn add(&self, deadline: &Rc<Deadline>) {
        self.exchanges.borrow_mut().push(Rc::clone(deadline));
    }

    /// The same no more.
    pub fn remove(&self, deadline: &Rc<Deadline>) {
        let mut exchanges = self.exchanges.borrow_mut();
        if let Some(at) = exchanges.iter().position(|known| Rc::ptr_eq(known, deadline)) {
            exchanges.swap_remove(at);
        }
        if exchanges.is_empty() {
            self.waker.wake();
        }
    }

    /// Exchanges whose time is looked at.
    pub fn open_exchanges(&self) -> usize {
        self.exchanges.borrow().len()
    }

    /// Exchanges under way, for the count of those that are cut. What an HTTP/2 connection has not sent
    /// yet counts as one: the streams it belongs to may be over.
    pub fn under_way(&self) -> usize {
        use super::deadline::Phase;
        let exchanges = self.exchanges.borrow();
        let busy = exchanges
            .iter()
            .filter(|deadline| !matches!(deadline.phase(), Phase::Over | Phase::Lingering));
        let own = matches!(self.state.get(), ConnState::Head | ConnState::Unsent);
        busy.count() + usize::from(own)
    }

    /// Whether the next answer must be the last: its life is over.
    pub fn is_old(&self, now: Moment) -> bool {
        let bound = self.timeouts.max_lifetime;
        bound.is_some_and(|bound| now.since(self.info.accepted) >= bound)
    }

    /// Notes that the client was told to open no more streams.
    pub fn note_goaway(&self) {
        self.sent_goaway.set(true);
    }

    /// Notes that its client speaks HTTP/2.
    pub fn note_http2(&self) {
        self.is_http2.set(true);
    }

    /// Whether a part of a head has come.
    pub fn has_partial_head(&self) -> bool {
        self.state.get() == ConnState::Head
    }

    /// Ends its time from outside: its partial head has to make room.
    pub fn expire(&self, expiry: Expiry) {
        self.expiry.set(Some(expiry));
        self.waker.wake();
    }

    /// Wakes its task.
    pub fn wake(&self) {
        self.waker.wake();
    }

    /// Looks whether its time is over, or that of an exchange. Once it is, it stays so. `leaving` is
    /// since when the process has been draining and how long this connection may still be silent.
    pub fn tick(&self, now: Instant, leaving: Option<(Instant, Duration)>) {
        if self.expiry.get().is_none()
            && let Some(expiry) = self.judge(now, leaving)
        {
            self.expiry.set(Some(expiry));
            self.waker.wake();
        } else if self.is_due_for_goaway(now, leaving.is_some()) {
            self.waker.wake();
        }
        for deadline in self.exchanges.borrow().iter() {
            deadline.tick(now, self.timeouts.idle);
        }
    }

    /// Whether an HTTP/2 connection should take no more streams: HTTP/1.1 says so in an answer.
    fn is_due_for_goaway(&self, now: Instant, leaving: bool) -> bool {
        let is_http2 = !self.sent_goaway.get() && self.is_http2.get();
        let accepted = self.info.accepted.monotonic;
        let old = |bound| now.saturating_duration_since(accepted) >= bound;
        is_http2 && (leaving || self.timeouts.max_lifetime.is_some_and(old))
    }

    fn judge(&self, now: Instant, leaving: Option<(Instant, Duration)>) -> Option<Expiry> {
        let state = self.state.get();
        let elapsed = || now.saturating_duration_since(self.since.get());
        let told_to_leave = || {
            leaving.is_some_and(|(from, grace)| {
                now.saturating_duration_since(from.max(self.since.get())) >= grace
            })
        };
        let silent = |bound| (elapsed() >= bound || told_to_leave()).then_some(Expiry::Silent);
        match state {
            ConnState::Fresh | ConnState::Idle => {
                if self.io.read() != self.read_before.get() {
                    self.enter(ConnState::Head, now);
                    return None;
                }
                let is_fresh = state == ConnState::Fresh;
                silent(if is_fresh { self.timeouts.header_read } else { self.timeouts.idle })
            }
            // What comes between streams (PING, SETTINGS, WINDOW_UPDATE) asks for nothing.
            ConnState::NoStream => silent(self.timeouts.idle),
            ConnState::Busy => None,
            ConnState::Unsent => (elapsed() >= self.timeouts.idle).then_some(Expiry::Stalled),
            ConnState::Head => (elapsed() >= self.timeouts.header_read).then_some(Expiry::Head),
            ConnState::Closing => {
                let overdue = self.until.get().is_some_and(|until| now >= until);
                if self.io.take_active() {
                    self.since.set(now);
                }
                (overdue || elapsed() >= super::deadline::LINGERS_SILENT).then_some(Expiry::Silent)
            }
        }
    }
}

impl Expires for Conn {
    fn expiry(&self) -> Option<Expiry> {
        self.expiry.get()
    }

    fn waker(&self) -> &WakerSlot {
        &self.waker
    }
}
