//! A thread's timer wheel and the task that advances it when the alarm expires. The alarm is set only
//! while something waits.
//!
//! The wheel belongs to a runtime on the thread that runs it, and is reached through the thread, so
//! that no caller has to carry it. The first sleep under a runtime makes its wheel; threads that must
//! not find later that there is no descriptor for it begin with [`install`]. It ends with the
//! runtime. A runtime must have I/O and one thread, as all have here.

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
    /// One for each runtime: a test's thread may have several, one after the other.
    static TIMERS: RefCell<Vec<Rc<Timers>>> = const { RefCell::new(Vec::new()) };
}

/// The wheel of a runtime.
#[derive(Debug)]
pub(super) struct Timers {
    runtime: Id,
    wheel: RefCell<Wheel<Waker>>,
    alarm: Arc<Alarm>,
    /// The moment at which the alarm expires. It is not unset where the entry it was set for is
    /// cancelled: nearly all are, and one wake-up too many costs less than a system call for each.
    set_to: Cell<Option<Instant>>,
    /// Room for the wakers of one expiration, kept for the next.
    expired: RefCell<Vec<Waker>>,
}

/// Gives this thread's runtime its timers now rather than with the first sleep. Where it has some, it
/// keeps them.
///
/// # Errors
/// When there is no descriptor for them, or no runtime.
pub fn install() -> io::Result<()> {
    let handle = Handle::try_current().map_err(io::Error::other)?;
    of(&handle).map(drop)
}

/// The timers of the runtime this is called under, if there can be any.
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

/// Advances the wheel whenever the alarm expires. It holds no `Rc`, so that it can be spawned on a
/// runtime without a `LocalSet`.
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
        // The thread may be ending too. Dropped outside of the borrow: wakers drop tasks.
        let timers = TIMERS.try_with(|all| {
            let mut all = all.borrow_mut();
            let at = all.iter().position(|timers| timers.runtime == self.0);
            at.map(|at| all.swap_remove(at))
        });
        drop(timers);
    }
}

impl Timers {
    /// Wakes the waker once the deadline has passed; `None` where it has already.
    pub(super) fn insert(&self, deadline: Instant, waker: &Waker) -> Option<Key> {
        let mut wheel = self.wheel.borrow_mut();
        let key = wheel.insert(deadline, waker.clone()).ok()?;
        let next = wheel.next();
        drop(wheel);
        // Most deadlines come after the worker's next tick: no clock is read then, and no alarm set.
        if self.is_before(next) {
            self.set(next, clock::monotonic());
        }
        Some(key)
    }

    /// Replaces the waker where it is another; false once the entry has expired.
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

    /// Wakes all that have expired, and sets the alarm for the next.
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

    /// True if the alarm would expire too late for this.
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

    /// True if the alarm is set.
    #[cfg(test)]
    pub(super) fn is_set(&self) -> bool {
        self.set_to.get().is_some()
    }
}
