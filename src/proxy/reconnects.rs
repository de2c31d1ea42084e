//! A worker's targets that refuse connections, and the requests that wait for them.

use crate::model::live::{Drain, Health, TargetState};
use crate::policy::reconnect::Reconnect;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Weak;
use std::time::Instant;
use tokio::sync::oneshot;

/// Refusing targets of one worker, by the slot of their live state.
#[derive(Debug, Default)]
pub(crate) struct Reconnects {
    pub(super) targets: RefCell<HashMap<usize, Refusing>>,
    /// True if there are any: read at every dial.
    pub(super) any: Cell<bool>,
}

/// One refusing target.
#[derive(Debug)]
pub(super) struct Refusing {
    pub(super) target: Weak<TargetState>,
    pub(super) state: Reconnect,
    pub(super) waiting: VecDeque<oneshot::Sender<Pass>>,
    /// Time of the last request for it.
    pub(super) wanted: Instant,
    /// True if a task dials it.
    pub(super) is_dialled: bool,
}

impl Reconnects {
    /// Returns true if a request without a [`Pass`] may dial this target.
    pub(super) fn is_open(&self, target: &TargetState) -> bool {
        !self.any.get() || self.of(target, |refusing| refusing.state.is_open()).unwrap_or(true)
    }

    /// Returns true if a dial of this worker to it failed within the last second.
    pub(super) fn refused_lately(&self, target: &TargetState, now: Instant) -> bool {
        let lately = |refusing: &mut Refusing| refusing.state.refused_lately(now);
        self.any.get() && self.of(target, lately).unwrap_or(false)
    }

    /// Returns true if there are none, so that no tick is needed.
    pub(crate) fn is_empty(&self) -> bool {
        !self.any.get()
    }

    /// Applies a function to one refusing target.
    pub(super) fn of<R>(
        &self,
        target: &TargetState,
        ask: impl FnOnce(&mut Refusing) -> R,
    ) -> Option<R> {
        let mut targets = self.targets.borrow_mut();
        let refusing = targets.get_mut(&target.slot)?;
        std::ptr::eq(refusing.target.as_ptr(), target).then(|| ask(refusing))
    }

    /// Ends the wait for targets that checks have declared unhealthy, and removes those without a
    /// recent refusal. Called on the worker's tick.
    pub(crate) fn tick(&self, now: Instant) {
        if !self.any.get() {
            return;
        }
        // Dropped outside the borrow: dropping a request runs its own code.
        let mut given_up = Vec::new();
        let mut targets = self.targets.borrow_mut();
        targets.retain(|_, refusing| {
            let Some(target) = refusing.target.upgrade() else {
                given_up.extend(refusing.waiting.drain(..));
                return false;
            };
            if !may_be_dialled(&target) {
                refusing.state.give_up();
            }
            if refusing.state.is_open() {
                given_up.extend(refusing.waiting.drain(..));
            }
            refusing.is_dialled || !refusing.state.is_open() || refusing.state.refused_lately(now)
        });
        self.any.set(!targets.is_empty());
        drop(targets);
        drop(given_up);
    }
}

/// Returns true if dials continue: until a check declares it unhealthy or its drain is over.
pub(super) fn may_be_dialled(target: &TargetState) -> bool {
    let availability = target.availability();
    availability.health != Health::Unhealthy && availability.drain != Drain::Over
}

/// Permission to dial a target once for which others wait. Dropping it reports that a connection
/// exists or that none was needed.
pub(crate) struct Pass(Option<Box<dyn FnOnce(bool)>>);

impl Pass {
    /// A pass that calls `outcome` with true if the dial connected.
    pub(super) fn new(outcome: impl FnOnce(bool) + 'static) -> Self {
        Self(Some(Box::new(outcome)))
    }

    /// Reports that the dial was refused.
    pub(super) fn refused(mut self) {
        self.report(false);
    }

    fn report(&mut self, connected: bool) {
        if let Some(outcome) = self.0.take() {
            outcome(connected);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.report(true);
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pass")
    }
}
