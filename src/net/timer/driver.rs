//! A thread's timer wheel and the task that advances it when the alarm expires. The alarm is set
//! only while a timer waits.
//!
//! The wheel belongs to a runtime and is found through the runtime's thread, so that no caller has
//! to pass it. The first sleep under a runtime creates its wheel; a thread that must not run out of
//! descriptors later calls [`install`] first. The wheel ends with the runtime. A runtime must have
//! I/O and one thread, as all here have.

use super::alarm::Alarm;
use super::wheel::{Key, Wheel};
use crate::base::clock;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;
use tokio::runtime::{Handle, Id};

thread_local! {
    /// One for each runtime: a test's thread may have several in turn.
    static TIMERS: RefCell<Vec<Rc<Timers>>> = const { RefCell::new(Vec::new()) };
}

/// The wheel of a runtime.
#[derive(Debug)]
pub(super) struct Timers {
    runtime: Id,
    wheel: RefCell<Wheel<Waker>>,
    alarm: Arc<Alarm>,
    /// The moment at which the alarm expires. It stays set if its entry is cancelled: nearly all
    /// are, and one extra wake-up costs less than a system call for each.
    set_to: Cell<Option<Instant>>,
    /// Buffer for the wakers of one expiration, kept for the next.
    expired: RefCell<Vec<Waker>>,
}

/// Creates the timers of this thread's runtime now rather than at the first sleep. Existing timers
/// are kept.
///
/// # Errors
/// If there is no descriptor for them, or no runtime.
pub(crate) fn install() -> io::Result<()> {
    let handle = Handle::try_current().map_err(io::Error::other)?;
    of(&handle).map(drop)
}

/// The timers of the current runtime, created if needed; `None` if that is impossible.
pub(super) fn current() -> Option<Rc<Timers>> {
    let handle = Handle::try_current().ok()?;
    match of(&handle) {
        Ok(timers) => Some(timers),
        Err(error) => {
            tracing::debug!(%error, "cannot create a timerfd");
            None
        }
    }
}

fn of(handle: &Handle) -> io::Result<Rc<Timers>> {
    if let Some(timers) = known(handle.id()) {
        return Ok(timers);
    }
    let alarm = Arc::new(Alarm::new()?);
    let timers = Rc::new(Timers {
        runtime: handle.id(),
        wheel: RefCell::new(Wheel::new(clock::monotonic())),
        alarm: Arc::clone(&alarm),
        set_to: Cell::new(None),
        expired: RefCell::default(),
    });
    TIMERS.with_borrow_mut(|all| all.push(Rc::clone(&timers)));
    handle.spawn(drive(alarm, Removal(handle.id())));
    Ok(timers)
}

fn known(runtime: Id) -> Option<Rc<Timers>> {
    TIMERS.with_borrow(|all| all.iter().find(|timers| timers.runtime == runtime).cloned())
}

/// Advances the wheel whenever the alarm expires. It holds no `Rc`, so that a runtime without a
/// `LocalSet` can spawn it.
async fn drive(alarm: Arc<Alarm>, removal: Removal) {
    while alarm.expired().await.is_ok() {
        if let Some(timers) = known(removal.0) {
            timers.fire();
        }
    }
}

/// Removes a runtime's timers from the thread when the runtime drops the driving task.
struct Removal(Id);

impl Drop for Removal {
    fn drop(&mut self) {
        // The thread may be ending too. Dropped outside the borrow, because wakers drop tasks.
        let timers = TIMERS.try_with(|all| {
            let mut all = all.borrow_mut();
            let at = all.iter().position(|timers| timers.runtime == self.0);
            at.map(|at| all.swap_remove(at))
        });
        drop(timers);
    }
}

impl Timers {
    /// Wakes the waker after the deadline; `None` if it has passed already.
    pub(super) fn insert(&self, deadline: Instant, waker: &Waker) -> Option<Key> {
        let mut wheel = self.wheel.borrow_mut();
        let key = wheel.insert(deadline, waker.clone()).ok()?;
        let next = wheel.next();
        drop(wheel);
        // Most deadlines are after the worker's next tick: no clock is read then, and no alarm set.
        if self.is_before(next) {
            self.set(next, clock::monotonic());
        }
        Some(key)
    }

    /// Replaces the waker if it differs. Returns false if the entry has expired.
    pub(super) fn renew(&self, key: Key, waker: &Waker) -> bool {
        let mut wheel = self.wheel.borrow_mut();
        let Some(known) = wheel.get_mut(key) else { return false };
        if !known.will_wake(waker) {
            let other = std::mem::replace(known, waker.clone());
            drop(wheel);
            // Dropping a waker may drop a task and its sleeps, which borrow the wheel.
            drop(other);
        }
        true
    }

    /// Cancels an entry.
    pub(super) fn remove(&self, key: Key) {
        let waker = self.wheel.borrow_mut().remove(key);
        drop(waker);
    }

    /// Wakes all expired entries, and sets the alarm for the next.
    fn fire(&self) {
        self.set_to.set(None);
        let now = clock::monotonic();
        let mut expired = self.expired.take();
        self.wheel.borrow_mut().advance(now, &mut expired);
        for waker in expired.drain(..) {
            waker.wake();
        }
        self.expired.replace(expired);
        let next = self.wheel.borrow().next();
        if self.is_before(next) {
            self.set(next, now);
        }
    }

    /// Returns true if the alarm is unset or expires after `next`.
    fn is_before(&self, next: Option<Instant>) -> bool {
        next.is_some_and(|next| self.set_to.get().is_none_or(|set_to| next < set_to))
    }

    fn set(&self, next: Option<Instant>, now: Instant) {
        if let Some(next) = next {
            self.set_to.set(Some(next));
            self.alarm.set(next.saturating_duration_since(now));
        }
    }

    /// The number of sleeps that wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.wheel.borrow().len()
    }

    /// Returns true if the alarm is set.
    #[cfg(test)]
    pub(super) fn is_set(&self) -> bool {
        self.set_to.get().is_some()
    }
}
