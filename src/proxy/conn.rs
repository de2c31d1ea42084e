//! One client connection, whatever is spoken on it: what it waits for between its exchanges, and the
//! deadlines of those. HTTP/1.1 has one exchange at a time, HTTP/2 one a stream.

use super::conn_info::ConnInfo;
use super::deadline::{Deadline, Expires, WakerSlot};
use super::expiry::Expiry;
use crate::base::clock::Moment;
use crate::config::settings::ListenerTimeouts;
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
    pub fn record_abuse(&self) {
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
        bound.is_some_and(|bound| now.monotonic >= self.info.accepted.monotonic + bound)
    }

    /// Notes that the client was told to open no more streams.
    pub fn record_goaway(&self) {
        self.sent_goaway.set(true);
    }

    /// Notes that its client speaks HTTP/2.
    pub fn record_http2(&self) {
        self.is_http2.set(true);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::pool::ConnId;
    use crate::proxy::conn_info::ConnPermit;
    use crate::proxy::deadline::Phase;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    const TIMEOUTS: ListenerTimeouts = ListenerTimeouts {
        header_read: Duration::from_secs(15),
        idle: Duration::from_mins(1),
        request: None,
        max_lifetime: None,
    };

    fn accepted_with(timeouts: ListenerTimeouts) -> (Conn, Moment) {
        let now = Moment::now();
        let address = "127.0.0.1:1".parse().unwrap();
        let permit = ConnPermit::take(&Arc::new(AtomicU32::new(0)), 1).unwrap();
        let info = ConnInfo::new(ConnId(1), (address, address), 0, now, permit);
        (Conn::new(info, timeouts), now)
    }

    #[track_caller]
    fn check(state: ConnState, after: u64, expected: Option<Expiry>) {
        let (conn, now) = accepted_with(TIMEOUTS);
        let later = |seconds| now.monotonic + Duration::from_secs(seconds);
        conn.enter(state, now.monotonic);
        conn.tick(later(after) - Duration::from_millis(1), None);
        assert_eq!(conn.expiry(), None, "{state:?} was early");
        conn.tick(later(after), None);
        assert_eq!(conn.expiry(), expected, "{state:?}");
    }

    #[test]
    fn each_state_ends_at_its_own_time_and_never_before() {
        check(ConnState::Fresh, 15, Some(Expiry::Silent));
        check(ConnState::Idle, 60, Some(Expiry::Silent));
        check(ConnState::NoStream, 60, Some(Expiry::Silent));
        check(ConnState::Head, 15, Some(Expiry::Head));
        check(ConnState::Unsent, 60, Some(Expiry::Stalled));
        check(ConnState::Busy, 3_600, None);
        check(ConnState::Closing, 5, Some(Expiry::Silent));
    }

    #[test]
    fn a_head_has_its_time_from_its_first_byte() {
        let (conn, now) = accepted_with(TIMEOUTS);
        let later = |seconds| now.monotonic + Duration::from_secs(seconds);
        conn.enter(ConnState::Idle, now.monotonic);
        conn.tick(later(40), None);
        conn.io.add_read(1);
        conn.tick(later(50), None);
        assert_eq!(conn.state(), ConnState::Head);
        conn.tick(later(65) - Duration::from_millis(1), None);
        assert_eq!(conn.expiry(), None);
        conn.tick(later(65), None);
        assert_eq!(conn.expiry(), Some(Expiry::Head));
    }

    #[test]
    fn a_connections_life_counts_from_accept_and_no_request_makes_it_longer() {
        let hour = Duration::from_hours(1);
        let timeouts = ListenerTimeouts { max_lifetime: Some(hour), ..TIMEOUTS };
        let (conn, accepted) = accepted_with(timeouts);
        for minute in 0..60 {
            let now = accepted.later(Duration::from_mins(minute));
            for state in [ConnState::Head, ConnState::Busy, ConnState::Idle] {
                conn.enter(state, now.monotonic);
            }
            assert!(!conn.is_old(now), "{minute} minutes");
        }
        assert!(!conn.is_old(accepted.later(hour - Duration::from_nanos(1))));
        assert!(conn.is_old(accepted.later(hour)));
        // Its age alone closes nothing: one more request is taken.
        let late = accepted.later(hour).monotonic;
        conn.enter(ConnState::Idle, late);
        conn.tick(late, None);
        assert_eq!(conn.expiry(), None);
        let (unbounded, accepted) = accepted_with(TIMEOUTS);
        assert!(!unbounded.is_old(accepted.later(24 * hour)));
    }

    #[test]
    fn a_draining_process_closes_idle_connections_after_their_silence_and_no_others() {
        let grace = Duration::from_secs(1);
        for (state, closed) in
            [(ConnState::Idle, true), (ConnState::Fresh, true), (ConnState::Busy, false)]
        {
            let (conn, now) = accepted_with(TIMEOUTS);
            let now = now.monotonic;
            conn.enter(state, now);
            conn.tick(now + grace, Some((now, grace)));
            assert_eq!(conn.expiry().is_some(), closed, "{state:?}");
        }
    }

    #[test]
    fn exchanges_that_wait_are_under_way_and_those_that_are_over_are_not() {
        let (conn, now) = accepted_with(TIMEOUTS);
        let now = now.monotonic;
        let deadlines = [Phase::Over, Phase::Waiting, Phase::Lingering].map(|phase| {
            let deadline = Rc::new(Deadline::new(Rc::default(), now));
            deadline.enter(phase, now, None);
            conn.add(&deadline);
            deadline
        });
        conn.enter(ConnState::Busy, now);
        assert_eq!((conn.open_exchanges(), conn.under_way()), (3, 1));
        conn.remove(&deadlines[1]);
        assert_eq!((conn.open_exchanges(), conn.under_way()), (2, 0));
        conn.enter(ConnState::Head, now);
        assert_eq!(conn.under_way(), 1);
    }
}
