//! In-flight slots of a target with a cap: the number taken, and the queue of requests that wait
//! for one. A free slot goes to the queue first, in the order of arrival over all workers.

use super::live::TargetState;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Maximum number of queued requests at one target, over all workers. At the default
/// `upstream.queue` of 1 s, a target that ends fewer than 1,000 requests a second cannot serve
/// more.
pub(crate) const MAX_WAITING: u32 = 1_024;
/// The maximum for requests that must wait: their pin was made by another spill a moment ago.
const MAX_WAITING_IN_ANY_CASE: u32 = 4 * MAX_WAITING;

/// The slots taken, and the queue.
#[derive(Debug, Default)]
pub(super) struct InFlightSlots {
    taken: AtomicU32,
    /// Length of the queue, read with every request that enters or leaves; the queue itself is
    /// locked only if this is not 0.
    waiting: AtomicU32,
    queue: Mutex<RequestQueue>,
}

#[derive(Debug, Default)]
struct RequestQueue {
    requests: VecDeque<QueuedRequest>,
    next_number: u64,
}

#[derive(Debug)]
struct QueuedRequest {
    number: u64,
    cap: u32,
    place: oneshot::Sender<InFlight>,
}

impl InFlightSlots {
    pub(super) fn taken(&self) -> u32 {
        self.taken.load(Ordering::Relaxed)
    }

    pub(super) fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    fn take(&self, cap: u32) -> bool {
        let enter = |taken| (taken < cap).then_some(taken + 1);
        self.taken.try_update(Ordering::SeqCst, Ordering::Relaxed, enter).is_ok()
    }

    fn queue(&self) -> MutexGuard<'_, RequestQueue> {
        // The lock is never poisoned: no code that can panic runs under it.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a slot for the first queued request, if its cap leaves one free.
    fn next_served(&self) -> Option<QueuedRequest> {
        let mut queue = self.queue();
        let cap = queue.requests.front()?.cap;
        if !self.take(cap) {
            return None;
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        queue.requests.pop_front()
    }
}

impl TargetState {
    /// Requests in flight; 0 if they are not counted.
    pub fn in_flight(&self) -> u32 {
        self.slots.taken()
    }

    /// Returns true if no slot is free: `cap` requests are in flight, or a request is queued
    /// already.
    pub fn is_at_cap(&self, cap: u32) -> bool {
        self.slots.taken() >= cap || self.slots.is_awaited()
    }

    /// Returns true if requests are queued for a slot.
    pub fn has_queue(&self) -> bool {
        self.slots.is_awaited()
    }

    /// Number of requests queued for a slot.
    pub fn waiting(&self) -> u32 {
        self.slots.waiting.load(Ordering::Relaxed)
    }

    /// Counts one more request in flight if the cap allows it and none is queued; dropping the
    /// guard frees the slot. Two workers cannot both take the last slot.
    pub fn enter(self: &Arc<Self>, cap: u32) -> Option<InFlight> {
        (!self.slots.is_awaited() && self.slots.take(cap)).then(|| InFlight(Arc::clone(self)))
    }

    /// Queues for a slot; `None` if the queue is full. `in_any_case` uses the larger bound.
    pub fn join_queue(self: &Arc<Self>, cap: u32, in_any_case: bool) -> Option<QueueTicket> {
        let bound = if in_any_case { MAX_WAITING_IN_ANY_CASE } else { MAX_WAITING };
        let join = |waiting| (waiting < bound).then_some(waiting + 1);
        // Increment before the first read of the slots: a request that ends reads this counter
        // after it freed its slot, so one of the two sees the other.
        self.slots.waiting.try_update(Ordering::SeqCst, Ordering::SeqCst, join).ok()?;
        let (place, given) = oneshot::channel();
        let mut queue = self.slots.queue();
        let number = queue.next_number;
        queue.next_number += 1;
        queue.requests.push_back(QueuedRequest { number, cap, place });
        drop(queue);
        self.serve_queue();
        Some(QueueTicket { target: Arc::clone(self), number, given })
    }

    /// Gives free slots to the first queued requests.
    fn serve_queue(self: &Arc<Self>) {
        while let Some(request) = self.slots.next_served() {
            // If that request has just left the queue, the dropped guard frees the slot again.
            drop(request.place.send(InFlight(Arc::clone(self))));
        }
    }
}

/// One request in flight; frees its slot when dropped.
#[derive(Debug)]
pub struct InFlight(Arc<TargetState>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.slots.taken.fetch_sub(1, Ordering::SeqCst);
        if self.0.slots.is_awaited() {
            self.0.serve_queue();
        }
    }
}

/// One queued request; it leaves the queue when this is dropped.
#[derive(Debug)]
pub struct QueueTicket {
    target: Arc<TargetState>,
    number: u64,
    given: oneshot::Receiver<InFlight>,
}

impl QueueTicket {
    /// Waits for the slot.
    pub async fn place(&mut self) -> Option<InFlight> {
        (&mut self.given).await.ok()
    }
}

impl Drop for QueueTicket {
    fn drop(&mut self) {
        let mut queue = self.target.slots.queue();
        // The queue is sorted by number, since requests join at its end.
        let at = queue.requests.binary_search_by_key(&self.number, |request| request.number);
        let left = at.ok().and_then(|at| queue.requests.remove(at));
        drop(queue);
        if left.is_some() {
            self.target.slots.waiting.fetch_sub(1, Ordering::SeqCst);
            // The next request may have a higher cap after a reload.
            self.target.serve_queue();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use tokio::sync::oneshot::error::TryRecvError;

    impl QueueTicket {
        fn blocking_place(&mut self) -> Option<InFlight> {
            let (_, closed) = oneshot::channel();
            std::mem::replace(&mut self.given, closed).blocking_recv().ok()
        }
    }

    fn target() -> Arc<TargetState> {
        Arc::new(TargetState::new(0, 0, None, None))
    }

    #[test]
    fn the_last_slot_under_a_cap_is_taken_once_and_given_back() {
        let target = target();
        let first = target.enter(1);
        assert!(first.is_some() && target.enter(1).is_none());
        drop(first);
        assert!(target.enter(1).is_some());
    }

    #[test]
    fn slots_go_to_queued_requests_in_order_before_any_other() {
        let target = target();
        let held = target.enter(1).unwrap();
        let mut queue: Vec<_> = (0..3).map(|_| target.join_queue(1, false).unwrap()).collect();
        drop(held);
        for left in (0..3).rev() {
            assert!(target.is_at_cap(1) && target.enter(1).is_none());
            let mut first = queue.remove(0);
            let place = first.given.try_recv().unwrap();
            assert!(queue.iter_mut().all(|next| next.given.try_recv().is_err()), "{left} left");
            assert_eq!((queue.len(), target.in_flight()), (left, 1));
            drop(place);
        }
        assert!(!target.has_queue() && target.in_flight() == 0);
        assert!(target.enter(1).is_some());
    }

    #[test]
    fn a_request_that_leaves_the_queue_loses_no_slot() {
        let target = target();
        let held = target.enter(1).unwrap();
        let (gone, mut next) =
            (target.join_queue(1, false).unwrap(), target.join_queue(1, false).unwrap());
        drop(gone);
        assert_eq!(next.given.try_recv().unwrap_err(), TryRecvError::Empty);
        drop(held);
        // This request was given the slot already, and drops it unused.
        drop(next);
        assert!(!target.has_queue() && target.in_flight() == 0);
    }

    #[test]
    fn the_queue_has_a_bound_and_a_larger_one_for_requests_that_must_wait() {
        let target = target();
        let _held = target.enter(1).unwrap();
        let mut queue: Vec<_> =
            (0..MAX_WAITING).map(|_| target.join_queue(1, false).unwrap()).collect();
        assert!(target.join_queue(1, false).is_none());
        while let Some(next) = target.join_queue(1, true) {
            queue.push(next);
        }
        assert_eq!(queue.len(), MAX_WAITING_IN_ANY_CASE as usize);
        drop(queue);
        assert!(!target.has_queue());
    }

    #[test]
    fn under_many_threads_the_cap_holds_and_each_queued_request_is_served() {
        let (target, over) = (target(), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let (target, over) = (&target, &over);
                    for _ in 0..2_000 {
                        let place = target.enter(2).or_else(|| {
                            let mut queue = target.join_queue(2, false)?;
                            queue.blocking_place()
                        });
                        if target.in_flight() > 2 || place.is_none() {
                            over.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(over.into_inner(), 0);
        assert!(!target.has_queue() && target.in_flight() == 0);
    }
}
