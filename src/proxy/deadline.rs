//! The deadline of one exchange. It depends on no protocol and no log, and on the target only
//! through the state that shows if the target has left.
//!
//! No request has a timer. Phase and deadline are stored here; the worker's tick, ten times a
//! second, checks every exchange and wakes those that have expired. A byte in either direction
//! since the last tick counts as moved now, so a deadline may be late by two ticks and is never
//! early.

use super::expiry::Expiry;
use super::taking::{Look, Taking};
use crate::model::live::Drain;
use crate::model::published::SnapshotRef;
use crate::net::stream::IoCounters;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// The event an exchange waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No exchange is in progress.
    Over,
    /// The rest of the request's body.
    Upload,
    /// The target: to connect, or to answer.
    Waiting,
    /// The client to read the rest of its response, or the target to send it.
    Responding,
    /// Either side of a tunnel.
    Tunnel,
    /// The rest of a request whose response was sent.
    Lingering,
}

/// Time for reading the rest of a request after the last byte of its response, in all and between
/// reads (RFC 9112 section 9.6; nginx: `lingering_time`, `lingering_timeout`).
pub(super) const LINGERS: Duration = Duration::from_secs(30);
pub(super) const LINGERS_SILENT: Duration = Duration::from_secs(5);

/// The deadline of one exchange. An HTTP/1.1 connection reuses one for all its exchanges.
#[derive(Debug)]
pub(crate) struct Deadline {
    /// Byte counters of the client: of the connection, or of the stream over HTTP/2.
    pub io: Rc<IoCounters>,
    phase: Cell<Phase>,
    since: Cell<Instant>,
    until: Cell<Option<Instant>>,
    expiry: Cell<Option<Expiry>>,
    taking: Taking,
    /// The snapshot, and the indexes of the exchange's group and target.
    target: RefCell<Option<(SnapshotRef, usize, usize)>>,
    /// The time when the client's end was read while its response was awaited.
    half_closed: Cell<Option<Instant>>,
    waker: WakerSlot,
}

/// Time a response is awaited after the client closed its sending half. Such a client may read on
/// (`nc -N`) or have left; TCP does not distinguish the two. HAProxy waits for the whole response,
/// nginx not at all.
const HALF_CLOSED: Duration = Duration::from_secs(3);

impl Deadline {
    /// A deadline whose client's bytes are counted in `io`.
    pub(crate) fn new(io: Rc<IoCounters>, now: Instant) -> Self {
        Self {
            io,
            phase: Cell::new(Phase::Over),
            since: Cell::new(now),
            until: Cell::new(None),
            expiry: Cell::new(None),
            taking: Taking::default(),
            target: RefCell::new(None),
            half_closed: Cell::new(None),
            waker: WakerSlot::default(),
        }
    }

    /// Records that the client closed its sending half.
    pub(crate) fn record_half_closed(&self, now: Instant) {
        if self.half_closed.get().is_none() {
            self.half_closed.set(Some(now));
        }
    }

    /// Returns true if the response did not arrive within [`HALF_CLOSED`] after the client's end.
    fn is_client_gone(&self, now: Instant) -> bool {
        let gone = |since| now.saturating_duration_since(since) >= HALF_CLOSED;
        self.phase.get() == Phase::Waiting && self.half_closed.get().is_some_and(gone)
    }

    /// The current phase.
    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Enters a phase; `until` bounds its total time. An expiry of the earlier phase is dropped: a
    /// late tick must not cut the next phase.
    pub(crate) fn enter(&self, phase: Phase, now: Instant, until: Option<Instant>) {
        self.expiry.set(None);
        self.phase.set(phase);
        self.since.set(now);
        self.until.set(until);
    }

    /// Bytes from and to the client since the last call.
    pub(crate) fn take_traffic(&self) -> (u64, u64) {
        self.io.take_traffic()
    }

    /// Removes the bound on total time if the response is in progress: it applied to the request.
    pub(crate) fn request_is_read(&self) {
        if self.phase.get() == Phase::Responding {
            self.until.set(None);
        }
    }

    /// Waits for the rest of a request's body and for the target to take it, until `until`.
    pub(crate) fn enter_upload(&self, now: Instant, until: Option<Instant>, response: Duration) {
        self.enter(Phase::Upload, now, until);
        self.taking.begin(now, response);
    }

    /// Records the bytes a target has taken, and true if it takes no more. While it is blocked, the
    /// client is not read.
    pub(crate) fn record_sent(&self, taken: u64, is_blocked: bool) {
        self.taking.record(taken, is_blocked);
    }

    /// Reads on after the last byte of the response, within bounds that start now.
    pub(crate) fn linger(&self, now: Instant) {
        if self.phase.get() != Phase::Lingering {
            self.enter(Phase::Lingering, now, Some(now + LINGERS));
        }
    }

    /// Records the target of the exchange: indexes of a group and of a target in it.
    pub(crate) fn begin_with(&self, snapshot: &SnapshotRef, group: usize, target: usize) {
        *self.target.borrow_mut() = Some((SnapshotRef::clone(snapshot), group, target));
    }

    /// Records that no target takes part in the exchange any more.
    pub(crate) fn end_with_target(&self) {
        *self.target.borrow_mut() = None;
    }

    /// Ends the exchange and its deadline.
    pub(crate) fn end(&self, now: Instant) {
        self.end_with_target();
        self.half_closed.set(None);
        self.enter(Phase::Over, now, None);
    }

    fn target_has_left(&self) -> bool {
        self.target.borrow().as_ref().is_some_and(|(snapshot, group, target)| {
            let target = &snapshot.groups[*group].targets[*target];
            target.state.availability().drain == Drain::Over
        })
    }

    /// Checks the deadline and wakes the task if it has expired. An expiry is final. `idle` is the
    /// listener's.
    pub(crate) fn tick(&self, now: Instant, idle: Duration) {
        if self.expiry.get().is_none()
            && let Some(expiry) = self.judge(now, idle)
        {
            self.expiry.set(Some(expiry));
            self.waker.wake();
        }
    }

    fn judge(&self, now: Instant, idle: Duration) -> Option<Expiry> {
        let phase = self.phase.get();
        if phase == Phase::Over {
            return None;
        }
        let active = self.io.take_active();
        let overdue = self.until.get().is_some_and(|until| now >= until);
        if phase != Phase::Lingering && self.target_has_left() {
            return Some(Expiry::Deregistered);
        }
        if active && phase != Phase::Waiting {
            self.since.set(now);
        }
        let silent = |bound| now.saturating_duration_since(self.since.get()) >= bound;
        match phase {
            Phase::Over => None,
            Phase::Upload => {
                let look = self.taking.check(now);
                if overdue {
                    let blames_target = self.taking.is_to_blame();
                    return Some(if blames_target { Expiry::Response } else { Expiry::Request });
                }
                match look {
                    Look::Blocked { too_long } => too_long.then_some(Expiry::Response),
                    Look::Takes { resumed } => {
                        if resumed {
                            self.since.set(now);
                        }
                        silent(idle).then_some(Expiry::Request)
                    }
                }
            }
            Phase::Waiting if self.is_client_gone(now) => Some(Expiry::Gone),
            Phase::Waiting => overdue.then_some(Expiry::Response),
            Phase::Lingering => (overdue || silent(LINGERS_SILENT)).then_some(Expiry::Silent),
            Phase::Responding | Phase::Tunnel => {
                (overdue || silent(idle)).then_some(Expiry::Stalled)
            }
        }
    }
}

/// The waker of one task.
#[derive(Debug, Default)]
pub(crate) struct WakerSlot(RefCell<Option<Waker>>);

impl WakerSlot {
    /// Stores the waker.
    pub(crate) fn remember(&self, waker: &Waker) {
        let mut known = self.0.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    /// Wakes it.
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.0.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

/// A deadline that can expire.
pub(crate) trait Expires {
    /// The side that let the deadline expire, if it has.
    fn expiry(&self) -> Option<Expiry>;
    /// The slot for the task to wake on expiry.
    fn waker(&self) -> &WakerSlot;
}

impl Expires for Deadline {
    fn expiry(&self) -> Option<Expiry> {
        self.expiry.get()
    }

    fn waker(&self) -> &WakerSlot {
        &self.waker
    }
}

/// Returns the future's output or the expiry, whichever is first.
pub(crate) async fn race<F: Future>(
    deadline: &impl Expires,
    future: F,
) -> Result<F::Output, Expiry> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => match deadline.expiry() {
            Some(expiry) => Poll::Ready(Err(expiry)),
            None => {
                deadline.waker().remember(cx.waker());
                Poll::Pending
            }
        },
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Moment;

    const IDLE: Duration = Duration::from_mins(1);

    fn begun() -> (Deadline, Instant) {
        let now = Moment::now().monotonic;
        (Deadline::new(Rc::default(), now), now)
    }

    #[track_caller]
    fn check(phase: Phase, until: Option<u64>, after: u64, expected: Option<Expiry>) {
        let (deadline, now) = begun();
        let later = |seconds| now + Duration::from_secs(seconds);
        deadline.enter(phase, now, until.map(later));
        deadline.tick(later(after) - Duration::from_millis(1), IDLE);
        assert_eq!(deadline.expiry(), None, "{phase:?} was early");
        deadline.tick(later(after), IDLE);
        assert_eq!(deadline.expiry(), expected, "{phase:?}");
    }

    #[test]
    fn each_phase_expires_at_its_own_time_and_never_before() {
        check(Phase::Over, None, 3_600, None);
        check(Phase::Upload, None, 60, Some(Expiry::Request));
        check(Phase::Upload, Some(10), 10, Some(Expiry::Request));
        check(Phase::Waiting, Some(70), 70, Some(Expiry::Response));
        check(Phase::Waiting, None, 3_600, None);
        check(Phase::Responding, None, 60, Some(Expiry::Stalled));
        check(Phase::Tunnel, None, 60, Some(Expiry::Stalled));
        check(Phase::Lingering, None, 5, Some(Expiry::Silent));
        check(Phase::Lingering, Some(3), 3, Some(Expiry::Silent));
    }

    #[test]
    fn a_half_closed_client_gets_a_short_wait_while_its_target_answers() {
        for (phase, expected) in
            [(Phase::Waiting, Some(Expiry::Gone)), (Phase::Responding, None), (Phase::Over, None)]
        {
            let (deadline, now) = begun();
            deadline.enter(phase, now, None);
            deadline.record_half_closed(now);
            deadline.record_half_closed(now + HALF_CLOSED / 2);
            deadline.tick(now + HALF_CLOSED - Duration::from_millis(1), IDLE);
            assert_eq!(deadline.expiry(), None, "{phase:?} was early");
            deadline.tick(now + HALF_CLOSED, IDLE);
            assert_eq!(deadline.expiry(), expected, "{phase:?}");
        }
        // The next exchange of the connection starts without a half-close.
        let (deadline, now) = begun();
        deadline.enter(Phase::Waiting, now, None);
        deadline.record_half_closed(now);
        deadline.end(now);
        deadline.enter(Phase::Waiting, now, None);
        deadline.tick(now + 2 * HALF_CLOSED, IDLE);
        assert_eq!(deadline.expiry(), None);
    }

    #[test]
    fn a_stalled_upload_is_the_fault_of_the_side_awaited() {
        let response = Duration::from_secs(20);
        for (is_blocked, until, over, expected) in [
            (false, None, 60, Expiry::Request),
            (false, Some(10), 10, Expiry::Request),
            (true, None, 21, Expiry::Response),
            (true, Some(10), 10, Expiry::Response),
        ] {
            let (deadline, now) = begun();
            let later = |seconds| now + Duration::from_secs(seconds);
            deadline.enter_upload(now, until.map(later), response);
            deadline.record_sent(1, is_blocked);
            // The target takes something once; then a check sees it take no more.
            deadline.tick(later(1), IDLE);
            deadline.tick(later(over) - Duration::from_millis(1), IDLE);
            assert_eq!(deadline.expiry(), None, "{is_blocked} {until:?} was early");
            deadline.tick(later(over), IDLE);
            assert_eq!(deadline.expiry(), Some(expected), "{is_blocked} {until:?}");
        }
    }

    #[test]
    fn the_total_upload_time_is_the_fault_of_the_side_awaited_longer() {
        // The seconds of ten in which the target is blocked.
        let cases: [(&[u64], Expiry); 8] = [
            (&[], Expiry::Request),
            (&[10], Expiry::Request),
            (&[1, 10], Expiry::Request),
            (&[6, 7, 8, 9, 10], Expiry::Request),
            (&[5, 6, 7, 8, 9, 10], Expiry::Response),
            (&[1, 2, 3, 4, 5, 6, 7, 8, 9], Expiry::Response),
            (&[1, 3, 5, 7, 8, 9], Expiry::Response),
            (&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], Expiry::Response),
        ];
        for (takes, (blocked, expected)) in
            cases.into_iter().flat_map(|case| [(false, case), (true, case)])
        {
            let (deadline, now) = begun();
            let later = |seconds| now + Duration::from_secs(seconds);
            deadline.enter_upload(now, Some(later(10)), Duration::from_secs(20));
            for second in 1..=10 {
                assert_eq!(deadline.expiry(), None, "{blocked:?} was early");
                let taken = if takes { second } else { 1 };
                deadline.record_sent(taken, blocked.contains(&second));
                deadline.tick(later(second), IDLE);
            }
            assert_eq!(deadline.expiry(), Some(expected), "{blocked:?} {takes}");
        }
        // Another attempt is with another target, which is not to blame for the earlier one.
        let (deadline, now) = begun();
        let later = |seconds| now + Duration::from_secs(seconds);
        deadline.enter_upload(now, Some(later(10)), Duration::from_secs(20));
        deadline.record_sent(1, true);
        deadline.tick(later(8), IDLE);
        deadline.enter_upload(later(8), Some(later(10)), Duration::from_secs(20));
        deadline.tick(later(10), IDLE);
        assert_eq!(deadline.expiry(), Some(Expiry::Request));
    }

    #[test]
    fn a_slow_target_is_awaited_and_the_clients_time_starts_after_it() {
        let (deadline, now) = begun();
        let later = |seconds| now + Duration::from_secs(seconds);
        deadline.enter_upload(now, None, Duration::from_secs(20));
        for taken in 1..20 {
            deadline.record_sent(taken, true);
            deadline.tick(later(taken * 15), IDLE);
            assert_eq!(deadline.expiry(), None, "{taken}");
        }
        deadline.record_sent(20, false);
        deadline.tick(later(300), IDLE);
        deadline.tick(later(359), IDLE);
        assert_eq!(deadline.expiry(), None);
        deadline.tick(later(360), IDLE);
        assert_eq!(deadline.expiry(), Some(Expiry::Request));
    }

    #[test]
    fn an_expiry_of_one_phase_cuts_no_later_phase() {
        let (deadline, now) = begun();
        deadline.enter(Phase::Waiting, now, Some(now));
        deadline.tick(now, IDLE);
        assert_eq!(deadline.expiry(), Some(Expiry::Response));
        deadline.enter(Phase::Responding, now, None);
        assert_eq!(deadline.expiry(), None);
    }
}
