//! Requests and failures of one target since the last read, for `anomaly_mitigation`.

use crate::policy::balance::anomaly::Sample;
use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicU64, Ordering};

/// Number of counters. Up to eight workers write to separate ones; more share them, which costs
/// time but loses no count.
const PLACES: usize = 8;

/// One counter per cache line: requests in the lower half of a word, failures in the upper half.
/// The reader resets them every five seconds, so that no half overflows.
#[derive(Debug, Default)]
pub struct RequestStats([CachePadded<AtomicU64>; PLACES]);

impl RequestStats {
    /// Counts one request of this worker.
    pub fn record(&self, worker: usize, failed: bool) {
        self.0[worker % PLACES].fetch_add(1 | u64::from(failed) << 32, Ordering::Relaxed);
    }

    /// Returns the counts since the last call, and resets them.
    pub fn take(&self) -> Sample {
        let words = self.0.iter().map(|place| place.swap(0, Ordering::Relaxed));
        words.fold(Sample::default(), |sample, word| Sample {
            requests: sample.requests + (word & u64::from(u32::MAX)),
            failures: sample.failures + (word >> 32),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_any_number_of_workers_are_taken_once() {
        let request_stats = RequestStats::default();
        (0..100).for_each(|worker| request_stats.record(worker, worker % 10 == 0));
        assert_eq!(request_stats.take(), Sample { requests: 100, failures: 10 });
        assert_eq!(request_stats.take(), Sample::default());
    }
}
