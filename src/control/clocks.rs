//! Warns if the clocks of nodes that share a key differ. Workers count the affected requests; the
//! message is logged here, so that there is one per process, not one per worker.

use crate::base::clock::Moment;
use crate::observe::counters::Counters;
use std::sync::Arc;
use std::time::Duration;

/// Minimum time between two messages: a client can send such a pin with every request.
const MIN_PAUSE: Duration = Duration::from_mins(1);

/// Detects pins made by a node whose clock is far ahead of this one's.
#[derive(Default)]
pub(super) struct Clocks {
    logged_at: Option<Moment>,
    /// Each worker's count at the last check.
    before: Vec<u64>,
}

impl Clocks {
    /// Logs the message if one is due.
    pub(super) fn check(&mut self, counters: &[Arc<Counters>], now: Moment) {
        if let Some((seconds, answers)) = self.due(counters, now) {
            tracing::warn!(
                seconds,
                answers,
                "clock_ahead: the clock of another node is ahead of this node's clock; its pins \
                 count as issued now; check NTP on both nodes"
            );
        }
    }

    /// The difference in seconds, and the number of affected responses since the last message, if a
    /// message may be logged.
    fn due(&mut self, counters: &[Arc<Counters>], now: Moment) -> Option<(u64, u64)> {
        if self.logged_at.is_some_and(|logged_at| now.since(logged_at) < MIN_PAUSE) {
            return None;
        }
        self.before.resize(counters.len(), 0);
        let mut due = None;
        for (own, before) in counters.iter().zip(&mut self.before) {
            let count = own.clocks_ahead.value();
            let more = count.wrapping_sub(std::mem::replace(before, count));
            if more > 0 {
                let (seconds, answers) = due.unwrap_or_default();
                due = Some((own.clock_ahead_by.value().max(seconds), answers + more));
            }
        }
        if due.is_some() {
            self.logged_at = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_logged_at_once_then_once_a_minute_over_all_workers() {
        let counters = [Arc::new(Counters::default()), Arc::default()];
        let meet = |worker: usize, seconds| {
            counters[worker].clocks_ahead.add_one();
            counters[worker].clock_ahead_by.set(seconds);
        };
        let begin = Moment::now();
        let mut clocks = Clocks::default();
        let mut due = |after| clocks.due(&counters, begin.later(Duration::from_secs(after)));
        assert_eq!(due(0), None, "none was met");
        meet(0, 90);
        assert_eq!(due(1), Some((90, 1)));
        assert_eq!(due(2), None, "it was told");
        (0..500).for_each(|_| meet(1, 75));
        meet(0, 70);
        assert_eq!(due(60), None, "not a minute has passed");
        assert_eq!(due(61), Some((75, 501)), "of both workers, the larger difference");
        assert_eq!(due(200), None, "none was met since");
        meet(1, 61);
        assert_eq!(due(201), Some((61, 1)), "the difference of an hour ago is not told again");
    }
}
