//! How far a connection is, or one stream of it, as its exchange and the worker's tick see it: which
//! phase it is in, and whether its time is over.
//!
//! There is no timer for each request. The phase and one moment stand here; a tick, ten times a
//! second, looks at every connection and wakes those whose time is over. A byte that went either
//! way since the last tick counts as having gone now, so a deadline may be late by two ticks and
//! is never early.

pub mod lingering;

use super::body::Lease;
use super::client::Client;
use super::exchange::Ended;
pub use super::expiry::Expiry;
use super::taking::{Look, Taking};
use super::target_side::TargetSide;
use super::workplace::Workplace;
use crate::config::settings::ListenerTimeouts;
use crate::ground::clock::Moment;
use crate::model::live::Drain;
use crate::model::published::Picture;
use crate::net::stream::Watch;
use lingering::{LINGERS_SILENT, Lingering};
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

/// What a connection is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The first byte after accept.
    Fresh,
    /// The first byte of another request.
    Idle,
    /// The rest of a request's head.
    Head,
    /// The rest of a request's body.
    Upload,
    /// A target: to connect, or to answer.
    Waiting,
    /// The client to take the rest of its answer, or the target to send it.
    Responding,
    /// Either side of a tunnel.
    Tunnel,
    /// The rest of a request whose answer has gone out.
    Lingering,
    /// Another stream, on an HTTP/2 connection that has none.
    NoStream,
    /// What its streams wait for, each by itself.
    Streams,
    /// The client of an HTTP/2 connection to take what is ready to be sent.
    Unsent,
}

/// How long a connection is idle before hyper's buffers for it are given back. They are some 16 KiB;
/// to have them again costs a twentieth of a small request, on connections with fewer than ten of
/// those a second.
const PARK_AFTER: Duration = Duration::from_millis(100);

/// How far it is.
#[derive(Debug)]
pub struct Progress {
    /// Whose it is.
    pub client: Rc<Client>,
    /// What happens on the socket.
    pub watch: Arc<Watch>,
    timeouts: ListenerTimeouts,
    phase: Cell<Phase>,
    since: Cell<Instant>,
    deadline: Cell<Option<Instant>>,
    read_before: Cell<u64>,
    expiry: Cell<Option<Expiry>>,
    /// The indexes of the group and the target the exchange under way is with, in its picture.
    target: RefCell<Option<(Picture, usize, usize)>>,
    waker: RefCell<Option<Waker>>,
    /// Whether hyper holds buffers for it.
    is_equipped: Cell<bool>,
    must_linger: Cell<bool>,
    /// Whether the connection ends for what its client did with it.
    was_abused: Cell<bool>,
    /// Whether some of the request under way was not read.
    request_left: Cell<bool>,
    /// Whether the target takes what there is of it.
    taking: Taking,
    /// The side of a target that goes on reading a request after its answer has gone out.
    kept: RefCell<Option<(Lease, Lingering)>>,
    /// Whether the answer under way ends with the connection, so that a plain end says it is whole.
    ends_by_close: Cell<bool>,
    /// Whether its client was told to open no more streams.
    said_goodbye: Cell<bool>,
    /// The side of a target that takes the rest of a request already answered.
    sending: RefCell<Weak<RefCell<TargetSide>>>,
    ended: RefCell<Vec<Ended>>,
    /// Those of an HTTP/2 connection's streams; as many as may be open.
    streams: RefCell<Vec<Rc<Progress>>>,
    flushes_before: Cell<u64>,
    traffic_before: Cell<(u64, u64)>,
}

impl Progress {
    /// Of a connection just accepted.
    pub fn new(client: Rc<Client>, timeouts: ListenerTimeouts) -> Self {
        let accepted = client.accepted.monotonic;
        Self {
            client,
            watch: Arc::default(),
            timeouts,
            phase: Cell::new(Phase::Fresh),
            since: Cell::new(accepted),
            deadline: Cell::new(None),
            read_before: Cell::new(0),
            expiry: Cell::new(None),
            target: RefCell::new(None),
            waker: RefCell::new(None),
            is_equipped: Cell::new(false),
            must_linger: Cell::new(false),
            was_abused: Cell::new(false),
            request_left: Cell::new(false),
            taking: Taking::default(),
            kept: RefCell::new(None),
            ends_by_close: Cell::new(false),
            said_goodbye: Cell::new(false),
            sending: RefCell::new(Weak::new()),
            ended: RefCell::new(Vec::new()),
            streams: RefCell::new(Vec::new()),
            flushes_before: Cell::new(0),
            traffic_before: Cell::new((0, 0)),
        }
    }

    /// Of a stream that was opened on this connection, which is asked about together with it until
    /// the stream is closed.
    pub fn open_stream(&self) -> Rc<Self> {
        let stream = Rc::new(Self::new(Rc::clone(&self.client), self.timeouts));
        self.streams.borrow_mut().push(Rc::clone(&stream));
        stream
    }

    /// Forgets a stream. What ended with it is written down when the last who knows it lets go.
    pub fn close_stream(&self, stream: &Rc<Self>) {
        let mut streams = self.streams.borrow_mut();
        if let Some(at) = streams.iter().position(|known| Rc::ptr_eq(known, stream)) {
            streams.swap_remove(at);
        }
        if streams.is_empty() {
            self.wake();
        }
    }

    /// Streams that are open.
    pub fn open_streams(&self) -> usize {
        self.streams.borrow().len()
    }

    /// Exchanges under way. What an HTTP/2 connection has not sent yet counts as one: the streams it
    /// belongs to may be over.
    pub fn exchanges(&self) -> usize {
        let streams: usize = self.streams.borrow().iter().map(|stream| stream.exchanges()).sum();
        let idle = matches!(
            self.phase.get(),
            Phase::Fresh | Phase::Idle | Phase::NoStream | Phase::Streams | Phase::Lingering
        );
        streams + usize::from(!idle)
    }

    /// What it waits for.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Waits for something else from now on; `deadline` is the latest for all of it. Time that ran
    /// out on what was awaited before is forgotten: a late tick must not cut what came after.
    pub fn enter(&self, phase: Phase, now: Instant, deadline: Option<Instant>) {
        self.expiry.set(None);
        self.phase.set(phase);
        self.since.set(now);
        self.deadline.set(deadline);
        self.read_before.set(self.watch.read());
    }

    /// Notes the target the exchange under way is with: a group and a target of it, by index.
    pub fn begin_with(&self, picture: &Picture, group: usize, target: usize) {
        *self.target.borrow_mut() = Some((Picture::clone(picture), group, target));
    }

    /// Notes that the exchange is over, and so whatever it had to do with a target.
    pub fn end_with_target(&self) {
        *self.target.borrow_mut() = None;
    }

    fn target_has_left(&self) -> bool {
        self.target.borrow().as_ref().is_some_and(|(picture, group, target)| {
            let target = &picture.groups[*group].targets[*target];
            target.live.availability().drain == Drain::Over
        })
    }

    /// Whether the next answer must be the last: its life is over.
    pub fn is_old(&self, now: Moment) -> bool {
        let bound = self.timeouts.max_lifetime;
        bound.is_some_and(|bound| now.since(self.client.accepted) >= bound)
    }

    /// Notes whether hyper holds buffers for it.
    pub fn equip(&self, is_equipped: bool) {
        self.is_equipped.set(is_equipped);
        if !is_equipped {
            self.client.remembered.forget();
        }
    }

    /// Whether it has been idle so long that hyper's buffers are better given back.
    pub fn may_park(&self, now: Instant) -> bool {
        self.is_equipped.get()
            && self.phase.get() == Phase::Idle
            && self.watch.read() == self.read_before.get()
            && now.saturating_duration_since(self.since.get()) >= PARK_AFTER
    }

    /// Notes whether some of the request under way is still to be read.
    pub fn request_left(&self, is_left: bool) {
        self.request_left.set(is_left);
        if !is_left && self.phase.get() == Phase::Responding {
            // The bound was the request's.
            self.deadline.set(None);
        }
    }

    /// Whether it is.
    pub fn has_request_left(&self) -> bool {
        self.request_left.get()
    }

    /// Waits for the rest of a request's body, and for a target to take it: for so long.
    pub fn enter_upload(&self, now: Instant, deadline: Option<Instant>, response: Duration) {
        self.enter(Phase::Upload, now, deadline);
        self.taking.begin(now, response);
    }

    /// Notes how much a target has taken, and whether what is at hand waits for it to take more. As
    /// long as it does, nothing is asked of the client.
    pub fn note_sent(&self, taken: u64, is_blocked: bool) {
        self.taking.note(taken, is_blocked);
    }

    /// Notes whether the answer under way ends with the connection and is not whole yet.
    pub fn ends_by_close(&self, does: bool) {
        self.ends_by_close.set(does);
    }

    /// Whether a plain end would make half an answer look whole.
    pub fn must_reset(&self) -> bool {
        self.ends_by_close.get()
    }

    /// Keeps what is to be written down of an exchange until its last bytes have gone out.
    pub fn push_ended(&self, ended: Ended) {
        self.flushes_before.set(self.watch.flushes());
        self.ended.borrow_mut().push(ended);
    }

    /// Writes down the exchanges whose last bytes have gone out, and waits for another request.
    pub fn settle(&self, workplace: &Workplace) {
        if self.ended.borrow().is_empty() || self.watch.flushes() == self.flushes_before.get() {
            return;
        }
        let now = workplace.now();
        if self.phase.get() == Phase::Responding {
            match self.is_keeping() {
                true => self.begin_lingering(now.monotonic),
                false => self.enter(Phase::Idle, now.monotonic, None),
            }
        }
        for ended in self.ended.borrow_mut().drain(..) {
            if ended.is_complete() {
                self.ends_by_close.set(false);
            }
            ended.write(self, now);
        }
    }

    /// Writes down what ended with the connection, its last bytes gone out or not.
    pub fn settle_all(&self) {
        let unflushed = self.watch.flushes() == self.flushes_before.get();
        for mut ended in self.ended.take() {
            if unflushed {
                ended.break_off(self);
            }
            ended.write_now(self);
        }
    }

    /// Bytes from and to the client since this was last asked.
    pub fn take_traffic(&self) -> (u64, u64) {
        let now = (self.watch.read(), self.watch.written());
        let before = self.traffic_before.replace(now);
        (now.0 - before.0, now.1 - before.1)
    }

    /// Whose time is over, if anyone's.
    pub fn expiry(&self) -> Option<Expiry> {
        self.expiry.get()
    }

    /// The same where no exchange is there to answer it.
    pub fn unanswerable_expiry(&self) -> Option<Expiry> {
        let expiry = self.expiry.get()?;
        let is_answered = match expiry {
            Expiry::Request | Expiry::Response => true,
            Expiry::Deregistered => matches!(self.phase.get(), Phase::Upload | Phase::Waiting),
            Expiry::Silent | Expiry::Head | Expiry::Stalled => false,
        };
        (!is_answered).then_some(expiry)
    }

    /// Remembers whom the tick wakes.
    pub fn remember_waker(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    /// Wakes the connection's task.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Looks whether its time is over. Once it is, it stays so. `leaving` is how long the process
    /// has been draining and how long this connection may still be silent.
    pub fn tick(&self, now: Instant, leaving: Option<(Instant, Duration)>) {
        if self.expiry.get().is_none()
            && let Some(expiry) = self.judge(now, leaving)
        {
            self.expiry.set(Some(expiry));
            self.wake();
        } else if self.may_park(now) || self.may_say_goodbye(now, leaving.is_some()) {
            self.wake();
        }
        for stream in self.streams.borrow().iter() {
            stream.tick(now, None);
        }
    }

    /// Notes that its client was told to open no more streams.
    pub fn said_goodbye(&self) {
        self.said_goodbye.set(true);
    }

    /// Whether an HTTP/2 connection should take no more streams: HTTP/1.1 says so in an answer.
    fn may_say_goodbye(&self, now: Instant, leaving: bool) -> bool {
        let is_http2 = !self.said_goodbye.get()
            && matches!(self.phase.get(), Phase::NoStream | Phase::Streams | Phase::Unsent);
        let accepted = self.client.accepted.monotonic;
        let old = |bound| now.saturating_duration_since(accepted) >= bound;
        is_http2 && (leaving || self.timeouts.max_lifetime.is_some_and(old))
    }

    fn judge(&self, now: Instant, leaving: Option<(Instant, Duration)>) -> Option<Expiry> {
        let phase = self.phase.get();
        let active = self.watch.take_active();
        let elapsed = || now.saturating_duration_since(self.since.get());
        let overdue = self.deadline.get().is_some_and(|deadline| now >= deadline);
        let awaits_target =
            matches!(phase, Phase::Upload | Phase::Waiting | Phase::Responding | Phase::Tunnel);
        if awaits_target && self.target_has_left() {
            return Some(Expiry::Deregistered);
        }
        match phase {
            Phase::Fresh | Phase::Idle => {
                if self.watch.read() != self.read_before.get() {
                    self.enter(Phase::Head, now, None);
                    return None;
                }
                let bound = match phase {
                    Phase::Fresh => self.timeouts.header_read,
                    _ => self.timeouts.idle,
                };
                let told_to_leave = leaving.is_some_and(|(from, grace)| {
                    now.saturating_duration_since(from.max(self.since.get())) >= grace
                });
                (elapsed() >= bound || told_to_leave).then_some(Expiry::Silent)
            }
            // What comes between streams (PING, SETTINGS, WINDOW_UPDATE) asks for nothing.
            Phase::NoStream => {
                let told_to_leave = leaving.is_some_and(|(from, grace)| {
                    now.saturating_duration_since(from.max(self.since.get())) >= grace
                });
                (elapsed() >= self.timeouts.idle || told_to_leave).then_some(Expiry::Silent)
            }
            Phase::Streams => None,
            Phase::Unsent => (elapsed() >= self.timeouts.idle).then_some(Expiry::Stalled),
            Phase::Head => (elapsed() >= self.timeouts.header_read).then_some(Expiry::Head),
            Phase::Upload => {
                if active {
                    self.since.set(now);
                }
                let look = self.taking.look(now);
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
                        (elapsed() >= self.timeouts.idle).then_some(Expiry::Request)
                    }
                }
            }
            Phase::Waiting => overdue.then_some(Expiry::Response),
            Phase::Lingering => {
                if active {
                    self.since.set(now);
                }
                (overdue || elapsed() >= LINGERS_SILENT).then_some(Expiry::Silent)
            }
            Phase::Responding | Phase::Tunnel => {
                if active {
                    self.since.set(now);
                }
                (overdue || elapsed() >= self.timeouts.idle).then_some(Expiry::Stalled)
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // Where the process cut what was under way.
        self.settle_all();
        if self.must_reset()
            && let Some(stream) = self.watch.take_stream()
        {
            stream.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::client::Place;
    use std::sync::atomic::AtomicU32;

    const TIMEOUTS: ListenerTimeouts = ListenerTimeouts {
        header_read: Duration::from_secs(15),
        idle: Duration::from_secs(60),
        request: None,
        max_lifetime: None,
    };

    fn accepted() -> (Progress, Instant) {
        let (progress, accepted) = accepted_with(TIMEOUTS);
        (progress, accepted.monotonic)
    }

    fn accepted_with(timeouts: ListenerTimeouts) -> (Progress, Moment) {
        let now = Moment::now();
        let address = "127.0.0.1:1".parse().unwrap();
        let open = Arc::new(AtomicU32::new(0));
        let place = Place::take(&open, 1).unwrap();
        let client = Client::new((address, address), 0, now, place);
        (Progress::new(Rc::new(client), timeouts), now)
    }

    #[track_caller]
    fn check(phase: Phase, deadline: Option<u64>, after: u64, expected: Option<Expiry>) {
        let (progress, now) = accepted();
        let later = |seconds| now + Duration::from_secs(seconds);
        progress.enter(phase, now, deadline.map(later));
        progress.tick(later(after) - Duration::from_millis(1), None);
        assert_eq!(progress.expiry(), None, "{phase:?} was early");
        progress.tick(later(after), None);
        assert_eq!(progress.expiry(), expected, "{phase:?}");
    }

    #[test]
    fn each_phase_ends_at_its_own_time_and_never_before() {
        check(Phase::Fresh, None, 15, Some(Expiry::Silent));
        check(Phase::Idle, None, 60, Some(Expiry::Silent));
        check(Phase::Head, None, 15, Some(Expiry::Head));
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
    fn an_upload_that_stands_still_is_the_fault_of_the_side_that_is_waited_for() {
        let response = Duration::from_secs(20);
        for (is_blocked, deadline, over, expected) in [
            (false, None, 60, Expiry::Request),
            (false, Some(10), 10, Expiry::Request),
            (true, None, 21, Expiry::Response),
            (true, Some(10), 10, Expiry::Response),
        ] {
            let (progress, now) = accepted();
            let later = |seconds| now + Duration::from_secs(seconds);
            progress.enter_upload(now, deadline.map(later), response);
            progress.note_sent(1, is_blocked);
            // Once it takes something, once it is seen to take no more.
            progress.tick(later(1), None);
            progress.tick(later(over) - Duration::from_millis(1), None);
            assert_eq!(progress.expiry(), None, "{is_blocked} {deadline:?} was early");
            progress.tick(later(over), None);
            assert_eq!(progress.expiry(), Some(expected), "{is_blocked} {deadline:?}");
        }
    }

    #[test]
    fn time_for_all_of_an_upload_is_the_fault_of_the_side_that_was_waited_for_longer() {
        // In which seconds of ten the target is blocked.
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
            let (progress, now) = accepted();
            let later = |seconds| now + Duration::from_secs(seconds);
            progress.enter_upload(now, Some(later(10)), Duration::from_secs(20));
            for second in 1..=10 {
                assert_eq!(progress.expiry(), None, "{blocked:?} was early");
                let taken = if takes { second } else { 1 };
                progress.note_sent(taken, blocked.contains(&second));
                progress.tick(later(second), None);
            }
            assert_eq!(progress.expiry(), Some(expected), "{blocked:?} {takes}");
        }
        // Another attempt is another target, which is not to blame for the one before.
        let (progress, now) = accepted();
        let later = |seconds| now + Duration::from_secs(seconds);
        progress.enter_upload(now, Some(later(10)), Duration::from_secs(20));
        progress.note_sent(1, true);
        progress.tick(later(8), None);
        progress.enter_upload(later(8), Some(later(10)), Duration::from_secs(20));
        progress.tick(later(10), None);
        assert_eq!(progress.expiry(), Some(Expiry::Request));
    }

    #[test]
    fn a_target_that_takes_a_little_is_waited_for_and_the_clients_clock_begins_after_it() {
        let (progress, now) = accepted();
        let later = |seconds| now + Duration::from_secs(seconds);
        progress.enter_upload(now, None, Duration::from_secs(20));
        for taken in 1..20 {
            progress.note_sent(taken, true);
            progress.tick(later(taken * 15), None);
            assert_eq!(progress.expiry(), None, "{taken}");
        }
        progress.note_sent(20, false);
        progress.tick(later(300), None);
        progress.tick(later(359), None);
        assert_eq!(progress.expiry(), None);
        progress.tick(later(360), None);
        assert_eq!(progress.expiry(), Some(Expiry::Request));
    }

    #[test]
    fn a_connections_life_counts_from_accept_and_no_request_makes_it_longer() {
        let hour = Duration::from_hours(1);
        let (progress, accepted) =
            accepted_with(ListenerTimeouts { max_lifetime: Some(hour), ..TIMEOUTS });
        for minute in 0..60 {
            let now = accepted.later(Duration::from_mins(minute));
            for phase in [Phase::Head, Phase::Waiting, Phase::Responding, Phase::Idle] {
                progress.enter(phase, now.monotonic, None);
            }
            assert!(!progress.is_old(now), "{minute} minutes");
        }
        assert!(!progress.is_old(accepted.later(hour - Duration::from_nanos(1))));
        assert!(progress.is_old(accepted.later(hour)));
        // Its age alone closes nothing: one more request is taken.
        let late = accepted.later(hour).monotonic;
        progress.enter(Phase::Idle, late, None);
        progress.tick(late, None);
        assert_eq!(progress.expiry(), None);
        let (forever, accepted) = accepted_with(TIMEOUTS);
        assert!(!forever.is_old(accepted.later(24 * hour)));
    }

    #[test]
    fn time_that_ran_out_on_one_phase_cuts_no_later_one() {
        let (progress, now) = accepted();
        progress.enter(Phase::Waiting, now, Some(now));
        progress.tick(now, None);
        assert_eq!(progress.expiry(), Some(Expiry::Response));
        progress.enter(Phase::Responding, now, None);
        assert_eq!(progress.expiry(), None);
    }

    #[test]
    fn a_draining_process_closes_idle_connections_after_their_silence_and_no_others() {
        let grace = Duration::from_secs(1);
        for (phase, closed) in [(Phase::Idle, true), (Phase::Fresh, true), (Phase::Waiting, false)]
        {
            let (progress, now) = accepted();
            progress.enter(phase, now, None);
            progress.tick(now + grace, Some((now, grace)));
            assert_eq!(progress.expiry().is_some(), closed, "{phase:?}");
        }
    }
}
