//! Estimate of the clients that one target has seen, for `least_sessions`. Of two sketches the
//! younger records clients; the older is dropped after half the lifetime of a pin. The count is of
//! both.
//!
//! All workers share the sketches. A register only rises, a few times in its life, so that the
//! sketches are almost only read and stay in the cache of every core.

use crate::policy::affinity::token::Seed;
use crate::policy::balance::sessions::{REGISTERS, estimate, trace};
use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// The clients that one target has seen.
#[derive(Debug)]
pub struct SessionSketch {
    sketches: [[AtomicU8; REGISTERS]; 2],
    younger: AtomicU8,
    count: CachePadded<AtomicU32>,
}

impl Default for SessionSketch {
    fn default() -> Self {
        let empty = || std::array::from_fn(|_| AtomicU8::new(0));
        Self {
            sketches: [empty(), empty()],
            younger: AtomicU8::new(0),
            count: CachePadded::new(AtomicU32::new(0)),
        }
    }
}

impl SessionSketch {
    /// Records that this client was served.
    pub fn record(&self, seed: Seed) {
        let (register, rank) = trace(seed);
        let register = &self.sketches[self.younger()][register];
        if register.load(Ordering::Relaxed) < rank {
            register.fetch_max(rank, Ordering::Relaxed);
        }
    }

    /// The last estimate, plus the clients placed since.
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// Counts a new client before its first request is served, so that many clients between two
    /// estimates are spread.
    pub fn expect_one(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Computes the estimate from both sketches. Only the control thread calls this and the methods
    /// below.
    pub fn recount(&self) {
        let [one, other] = &self.sketches;
        let union = one
            .iter()
            .zip(other)
            .map(|(one, other)| one.load(Ordering::Relaxed).max(other.load(Ordering::Relaxed)));
        self.count.store(estimate(union), Ordering::Relaxed);
    }

    /// Drops the older sketch and starts an empty one.
    pub fn age(&self) {
        let older = 1 - self.younger();
        self.empty(older);
        self.younger.store(older as u8, Ordering::Relaxed);
    }

    /// Drops both sketches and the count.
    pub fn forget(&self) {
        self.empty(0);
        self.empty(1);
        self.count.store(0, Ordering::Relaxed);
    }

    fn younger(&self) -> usize {
        usize::from(self.younger.load(Ordering::Relaxed) & 1)
    }

    fn empty(&self, which: usize) {
        for register in &self.sketches[which] {
            register.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn see(sessions: &SessionSketch, seeds: std::ops::Range<u64>) -> u32 {
        seeds.for_each(|seed| sessions.record(Seed(seed)));
        sessions.recount();
        sessions.count()
    }

    #[test]
    fn a_client_counts_once_and_is_dropped_after_two_ages_without_a_request() {
        let sessions = SessionSketch::default();
        assert_eq!(see(&sessions, 0..1), 1);
        sessions.age();
        assert_eq!(see(&sessions, 0..2), 2, "one of them returned");
        sessions.age();
        assert_eq!(see(&sessions, 0..0), 2);
        sessions.age();
        assert_eq!(see(&sessions, 0..0), 0);
    }

    #[test]
    fn expected_clients_count_until_the_next_estimate_and_none_after_forget() {
        let sessions = SessionSketch::default();
        see(&sessions, 0..3);
        sessions.expect_one();
        assert_eq!(sessions.count(), 4);
        assert_eq!(see(&sessions, 0..4), 4);
        sessions.forget();
        assert_eq!((sessions.count(), see(&sessions, 0..0)), (0, 0));
    }
}
