//! One client connection of either protocol: its state between exchanges, and their deadlines.
//! HTTP/1.1 has one exchange at a time, HTTP/2 one a stream.

use super::conn_info::ConnInfo;
use super::deadline::{Deadline, Expires, WakerSlot};
use super::expiry::Expiry;
use crate::base::clock::Moment;
use crate::config::settings::ListenerTimeouts;
use crate::net::stream::IoCounters;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The event a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnState {
    /// The first byte after accept.
    Fresh,
    /// The first byte of another request.
    Idle,
    /// The rest of a request's head.
    Head,
    /// Another stream, on an HTTP/2 connection without streams.
    NoStream,
    /// Its exchanges, each with its own deadline.
    Busy,
    /// The client of an HTTP/2 connection to read the output that is ready.
    Unsent,
    /// The end of the client's input after the last response.
    Closing,
}

/// Time a client is read after a close for abuse, so that the last frames arrive.
const CLOSING_AFTER_ABUSE: Duration = Duration::from_secs(1);
/// Bytes read after a close for abuse.
pub(super) const BYTES_AFTER_ABUSE: usize = 1 << 20;

/// A client connection.
#[derive(Debug)]
pub(crate) struct Conn {
    /// Facts about it from accept to close.
    pub info: ConnInfo,
    /// Byte counters in both directions.
    pub io: Rc<IoCounters>,
    timeouts: ListenerTimeouts,
    state: Cell<ConnState>,
    since: Cell<Instant>,
    until: Cell<Option<Instant>>,
    read_before: Cell<u64>,
    expiry: Cell<Option<Expiry>>,
    waker: WakerSlot,
    /// The deadlines of its exchanges; as many as may be open.
    exchanges: RefCell<Vec<Rc<Deadline>>>,
    is_http2: Cell<bool>,
    /// True if GOAWAY was sent to an HTTP/2 client.
    sent_goaway: Cell<bool>,
    /// True if it ends because of its client's behaviour.
    was_abused: Cell<bool>,
}

impl Conn {
    /// A connection just accepted.
    pub(crate) fn new(info: ConnInfo, timeouts: ListenerTimeouts) -> Self {
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

    /// The current state.
    pub(crate) fn state(&self) -> ConnState {
        self.state.get()
    }

    /// Enters a state. An expiry of the earlier state is dropped.
    pub(crate) fn enter(&self, state: ConnState, now: Instant) {
        self.expiry.set(None);
        self.state.set(state);
        self.since.set(now);
        self.until.set(None);
        self.read_before.set(self.io.read());
    }

    /// Enters [`ConnState::Closing`]: reads on after the last byte, so that the sent bytes arrive.
    pub(crate) fn close(&self, now: Instant, bound: Duration) {
        self.enter(ConnState::Closing, now);
        let bound = if self.was_abused.get() { CLOSING_AFTER_ABUSE } else { bound };
        self.until.set(Some(now + bound));
    }

    /// Records that it ends because of its client's behaviour.
    pub(crate) fn record_abuse(&self) {
        self.was_abused.set(true);
    }

    /// Returns true if it ends because of its client's behaviour.
    pub(crate) fn was_abused(&self) -> bool {
        self.was_abused.get()
    }

    /// Adds an exchange's deadline to the connection's check.
    pub(crate) fn add(&self, deadline: &Rc<Deadline>) {
        self.exchanges.borrow_mut().push(Rc::clone(deadline));
    }

    /// Removes an exchange's deadline from the connection's check.
    pub(crate) fn remove(&self, deadline: &Rc<Deadline>) {
        let mut exchanges = self.exchanges.borrow_mut();
        if let Some(at) = exchanges.iter().position(|known| Rc::ptr_eq(known, deadline)) {
            exchanges.swap_remove(at);
        }
        if exchanges.is_empty() {
            self.waker.wake();
        }
    }

    /// The number of exchanges whose deadlines are checked.
    pub(crate) fn open_exchanges(&self) -> usize {
        self.exchanges.borrow().len()
    }

    /// The number of exchanges in progress, for the count of cut exchanges. Unsent output of an
    /// HTTP/2 connection counts as one, because its streams may have ended.
    pub(crate) fn under_way(&self) -> usize {
        use super::deadline::Phase;
        let exchanges = self.exchanges.borrow();
        let busy = exchanges
            .iter()
            .filter(|deadline| !matches!(deadline.phase(), Phase::Over | Phase::Lingering));
        let own = matches!(self.state.get(), ConnState::Head | ConnState::Unsent);
        busy.count() + usize::from(own)
    }

    /// Returns true if the connection's maximum age has passed, so that the next response must be
    /// the last.
    pub(crate) fn is_old(&self, now: Moment) -> bool {
        self.is_past_lifetime(now.monotonic)
    }

    fn is_past_lifetime(&self, now: Instant) -> bool {
        // At most a week (`max_lifetime`), so that the sum is a time.
        let accepted = self.info.accepted.monotonic;
        self.timeouts.max_lifetime.is_some_and(|bound| now >= accepted + bound)
    }

    /// Records that GOAWAY was sent.
    pub(crate) fn record_goaway(&self) {
        self.sent_goaway.set(true);
    }

    /// Records that the client speaks HTTP/2.
    pub(crate) fn record_http2(&self) {
        self.is_http2.set(true);
    }

    /// Expires it from outside: its partial head has to make room.
    pub(crate) fn expire(&self, expiry: Expiry) {
        self.expiry.set(Some(expiry));
        self.waker.wake();
    }

    /// Wakes the connection's task.
    pub(crate) fn wake(&self) {
        self.waker.wake();
    }

    /// Checks its deadline and those of its exchanges. An expiry is final. `leaving` holds the
    /// start of the process's drain and the silence this connection is still allowed.
    pub(crate) fn tick(&self, now: Instant, leaving: Option<(Instant, Duration)>) {
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

    /// Returns true if GOAWAY should be sent to an HTTP/2 client. HTTP/1.1 closes with a response
    /// instead.
    fn is_due_for_goaway(&self, now: Instant, leaving: bool) -> bool {
        let is_http2 = !self.sent_goaway.get() && self.is_http2.get();
        is_http2 && (leaving || self.is_past_lifetime(now))
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
            // Frames between streams (PING, SETTINGS, WINDOW_UPDATE) are no requests.
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
    fn each_state_expires_at_its_own_time_and_never_before() {
        check(ConnState::Fresh, 15, Some(Expiry::Silent));
        check(ConnState::Idle, 60, Some(Expiry::Silent));
        check(ConnState::NoStream, 60, Some(Expiry::Silent));
        check(ConnState::Head, 15, Some(Expiry::Head));
        check(ConnState::Unsent, 60, Some(Expiry::Stalled));
        check(ConnState::Busy, 3_600, None);
        check(ConnState::Closing, 5, Some(Expiry::Silent));
    }

    #[test]
    fn the_time_of_a_head_starts_with_its_first_byte() {
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
    fn a_connections_age_starts_at_accept_and_requests_do_not_extend_it() {
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
        // Age alone closes nothing: one more request is accepted.
        let late = accepted.later(hour).monotonic;
        conn.enter(ConnState::Idle, late);
        conn.tick(late, None);
        assert_eq!(conn.expiry(), None);
        let (unbounded, accepted) = accepted_with(TIMEOUTS);
        assert!(!unbounded.is_old(accepted.later(24 * hour)));
    }

    #[test]
    fn a_draining_process_closes_only_idle_connections_after_a_silence() {
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
    fn only_exchanges_in_progress_are_counted() {
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
