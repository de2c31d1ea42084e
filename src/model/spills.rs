//! Clients whose pin was moved to a target by a recent spill. If this target refuses too, such a
//! client is not spilled again at once: its writes would alternate between two failing replicas.

use crate::policy::affinity::token::Seed;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time for which a spill is remembered.
pub(crate) const REMEMBERED_FOR: Duration = Duration::from_secs(10);
/// Maximum number of clients remembered at one target, some 100 KiB. Further clients are not
/// remembered.
const MAX_CLIENTS: usize = 4_096;

/// Client seeds, each with the time its pin was moved here.
#[derive(Debug, Default)]
pub(crate) struct RecentSpills(Mutex<HashMap<Seed, Instant>>);

impl RecentSpills {
    /// Records that a spill moved this client's pin here.
    pub(crate) fn record(&self, client: Seed, now: Instant) {
        let mut clients = self.clients();
        if clients.len() >= MAX_CLIENTS && !clients.contains_key(&client) {
            clients.retain(|_, since| is_recent(*since, now));
            if clients.len() >= MAX_CLIENTS {
                return;
            }
        }
        clients.insert(client, now);
    }

    /// Returns true if a spill did so within the last ten seconds.
    pub(crate) fn contains(&self, client: Seed, now: Instant) -> bool {
        self.clients().get(&client).is_some_and(|since| is_recent(*since, now))
    }

    /// Returns true if a spill did so after `moment` and is still remembered.
    pub(crate) fn came_after(&self, client: Seed, moment: Instant) -> bool {
        self.clients().get(&client).is_some_and(|since| *since >= moment)
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<Seed, Instant>> {
        // The lock is never poisoned: no code that can panic runs under it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_recent(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) < REMEMBERED_FOR
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Moment;

    #[test]
    fn a_spill_is_remembered_for_ten_seconds_and_the_table_has_a_bound() {
        let (spills, now) = (RecentSpills::default(), Moment::now().monotonic);
        spills.record(Seed(7), now);
        let later = |ms| now + Duration::from_millis(ms);
        assert!(spills.contains(Seed(7), later(9_999)) && !spills.contains(Seed(8), now));
        assert!(!spills.contains(Seed(7), later(10_000)));
        assert!(spills.came_after(Seed(7), now) && !spills.came_after(Seed(7), later(1)));
        (0..2 * MAX_CLIENTS as u64).for_each(|client| spills.record(Seed(client), later(5_000)));
        assert_eq!(spills.clients().len(), MAX_CLIENTS);
        spills.record(Seed(u64::MAX), later(20_000));
        assert!(spills.contains(Seed(u64::MAX), later(20_000)));
        assert_eq!(spills.clients().len(), 1);
    }
}
