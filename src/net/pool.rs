//! A worker's own idle connections, by target; the one that was used last goes out first.

use super::connect::{ConnectError, Connection};
use crate::model::live::TargetLive;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OwnedSemaphorePermit};

/// Idle connections kept for one target. A burst leaves no more than these behind.
const MOST_IDLE: usize = 256;

/// The pool.
#[derive(Debug)]
pub struct Pool<B> {
    slots: RefCell<Vec<Slot<B>>>,
}

#[derive(Debug)]
struct Slot<B> {
    idle: Vec<Idle<B>>,
    returned: Rc<Notify>,
}

#[derive(Debug)]
struct Idle<B> {
    connection: Connection<B>,
    until: Instant,
}

impl<B> Default for Pool<B> {
    fn default() -> Self {
        Self { slots: RefCell::new(Vec::new()) }
    }
}

impl<B> Pool<B> {
    /// An idle connection that is still open and done with its last exchange.
    pub fn take(&self, target: &TargetLive, now: Instant) -> Option<Connection<B>> {
        let mut slots = self.slots.borrow_mut();
        let idle = &mut slots.get_mut(target.slot)?.idle;
        while let Some(Idle { connection, until }) = idle.pop() {
            if until > now && connection.sender.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request, until its time is over or someone else, on
    /// whichever worker, waits for its place.
    pub fn give_back(&self, target: &TargetLive, connection: Connection<B>, until: Instant) {
        let mut slots = self.slots.borrow_mut();
        let slot = slot(&mut slots, target.slot);
        let waits_elsewhere = target.is_awaited() && Rc::strong_count(&slot.returned) == 1;
        if connection.sender.is_closed() || waits_elsewhere || slot.idle.len() >= MOST_IDLE {
            return;
        }
        slot.idle.push(Idle { connection, until });
        slot.returned.notify_one();
    }

    /// Closes what has been idle too long. Called on the worker's tick.
    pub fn sweep(&self, now: Instant) {
        for slot in self.slots.borrow_mut().iter_mut().filter(|slot| !slot.idle.is_empty()) {
            slot.idle.retain(|idle| idle.until > now && !idle.connection.sender.is_closed());
        }
    }

    /// A way to a target whose connections are bounded: a place to dial with, or an idle
    /// connection that came back meanwhile. `None` within is "dial without a place".
    ///
    /// # Errors
    /// [`ConnectError::Full`] when the queue is full or nothing came free in time.
    pub async fn wait_for_place(
        &self,
        target: &Arc<TargetLive>,
        timeout: Duration,
        now: Instant,
    ) -> Result<Place<B>, ConnectError> {
        let Some(places) = target.connections() else { return Ok(Place::Dial(None)) };
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            return Ok(Place::Dial(Some(place)));
        }
        let _waiting = target.wait_in_line().ok_or(ConnectError::Full)?;
        let returned = Rc::clone(&slot(&mut self.slots.borrow_mut(), target.slot).returned);
        let wait = async {
            loop {
                tokio::select! {
                    place = Arc::clone(places).acquire_owned() => return Place::Dial(place.ok()),
                    () = returned.notified() => if let Some(connection) = self.take(target, now) {
                        return Place::Idle(connection);
                    },
                }
            }
        };
        tokio::time::timeout(timeout, wait).await.map_err(|_| ConnectError::Full)
    }
}

/// What [`Pool::wait_for_place`] found.
#[derive(Debug)]
pub enum Place<B> {
    /// Dial, and hold this as long as the connection lives.
    Dial(Option<OwnedSemaphorePermit>),
    /// No need to.
    Idle(Connection<B>),
}

fn slot<B>(slots: &mut Vec<Slot<B>>, at: usize) -> &mut Slot<B> {
    if slots.len() <= at {
        slots.resize_with(at + 1, || Slot { idle: Vec::new(), returned: Rc::new(Notify::new()) });
    }
    &mut slots[at]
}
