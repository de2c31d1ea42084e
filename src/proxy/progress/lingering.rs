//! The rest of a request whose answer has gone out: read for a while, and passed on to a target that
//! goes on reading it.

use super::{Phase, Progress};
use crate::proxy::body::Lease;
use crate::proxy::target_side::TargetSide;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Context;
use std::time::{Duration, Instant};

/// How long, in all and between reads, the rest of a request is read after the last byte of its
/// answer (RFC 9112 section 9.6; nginx: `lingering_time`, `lingering_timeout`).
const LINGERS: Duration = Duration::from_secs(30);
pub(super) const LINGERS_SILENT: Duration = Duration::from_secs(5);
/// The same after a client's abuse, which is no request whose answer could be lost: so long, and so
/// much, for the last word to arrive.
const LINGERS_AFTER_ABUSE: Duration = Duration::from_secs(1);
const BYTES_AFTER_ABUSE: usize = 1 << 20;

/// Clients of a worker that are read on after their answer. Each holds a descriptor for up to half a
/// minute and is of no use but to itself; beyond these it is closed at once.
const MAX_LINGERING: usize = 1_024;

/// A worker's places for clients that are read on after their answer.
#[derive(Debug, Default)]
pub struct Places(Rc<Cell<usize>>);

impl Places {
    /// One of them, if there is one left.
    pub fn take(&self) -> Option<Lingering> {
        let taken = self.0.get();
        (taken < MAX_LINGERING).then(|| {
            self.0.set(taken + 1);
            Lingering(Rc::clone(&self.0))
        })
    }
}

/// One of a worker's places for clients that are read on after their answer; given back when dropped.
#[derive(Debug)]
pub struct Lingering(Rc<Cell<usize>>);

impl Drop for Lingering {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Progress {
    /// Notes that unread bytes of a request may still be coming after the last answer, so that
    /// closing at once would reset the connection and lose it.
    pub fn linger(&self) {
        self.must_linger.set(true);
    }

    /// Notes that the connection ends for what its client did with it: only the last word is to arrive.
    pub fn linger_after_abuse(&self) {
        self.was_abused.set(true);
        self.linger();
    }

    /// Bytes that may be read while it lingers.
    pub fn lingering_bytes(&self) -> usize {
        if self.was_abused.get() { BYTES_AFTER_ABUSE } else { usize::MAX }
    }

    /// Whether that was noted.
    pub fn must_linger(&self) -> bool {
        self.must_linger.get() || self.request_left.get()
    }

    /// Reads on after the last byte of the answer; the bounds run from there.
    pub fn begin_lingering(&self, now: Instant) {
        if self.phase.get() != Phase::Lingering {
            let longest = if self.was_abused.get() { LINGERS_AFTER_ABUSE } else { LINGERS };
            self.enter(Phase::Lingering, now, Some(now + longest));
        }
    }

    /// Keeps a target's side that goes on reading.
    pub fn keep(&self, lease: Lease, place: Lingering) {
        self.watch.end_when_flushed();
        *self.kept.borrow_mut() = Some((lease, place));
    }

    /// Whether there is one.
    pub fn is_keeping(&self) -> bool {
        self.kept.borrow().is_some()
    }

    /// Lets go of it.
    pub fn let_go(&self) {
        let kept = self.kept.take();
        drop(kept);
    }

    /// Hands over the sending of what is left of a request whose answer has begun. The answer's body
    /// is not asked for while the client takes none of it, and the client may take none of it
    /// before all of its request has gone.
    pub fn send_on(&self, side: &Rc<RefCell<TargetSide>>) {
        *self.sending.borrow_mut() = Rc::downgrade(side);
    }

    /// Sends some of it.
    pub fn poll_sending(&self, cx: &mut Context<'_>) {
        let side = self.sending.borrow().upgrade();
        let Some(side) = side else { return };
        side.borrow_mut().poll_sending(cx);
        let is_over = !side.borrow().is_sending();
        drop(side);
        if is_over && self.is_keeping() {
            self.let_go();
        }
    }
}

/// Lets go at its end of what a progress keeps. That holds the progress in turn, so that without this
/// neither were freed where the task is dropped, as at the end of the process.
pub(in crate::proxy) struct LetGo<'p>(pub &'p Progress);

impl Drop for LetGo<'_> {
    fn drop(&mut self) {
        self.0.let_go();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_has_so_many_places_and_one_more_for_each_given_back() {
        let places = Places::default();
        let mut taken: Vec<_> = std::iter::from_fn(|| places.take()).take(2_000).collect();
        assert_eq!(taken.len(), MAX_LINGERING);
        assert!(places.take().is_none() && places.take().is_none(), "a refusal takes none");
        taken.truncate(MAX_LINGERING - 2);
        let again = [places.take(), places.take()];
        assert!(again.iter().all(Option::is_some) && places.take().is_none());
    }
}
