//! What came of one target's requests since somebody last asked, for `anomaly_mitigation`.

use crate::policy::balance::anomaly::Sample;
use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicU64, Ordering};

/// Places to count in. So many workers never meet; more share one, which costs time and no count.
const PLACES: usize = 8;

/// Counts, on as many cache lines: requests in the lower half of a word, failures in the upper. Whoever
/// asks takes them away, five seconds' worth, so that no half runs over.
#[derive(Debug, Default)]
pub struct RequestStats([CachePadded<AtomicU64>; PLACES]);

impl RequestStats {
    /// Counts one request of this worker.
    pub fn record(&self, worker: usize, failed: bool) {
        self.0[worker % PLACES].fetch_add(1 | u64::from(failed) << 32, Ordering::Relaxed);
    }

    /// Everything since it was last taken.
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
    fn what_is_counted_by_however_many_workers_is_taken_once() {
        let request_stats = RequestStats::default();
        (0..100).for_each(|worker| request_stats.record(worker, worker % 10 == 0));
        assert_eq!(request_stats.take(), Sample { requests: 100, failures: 10 });
        assert_eq!(request_stats.take(), Sample::default());
    }
}
