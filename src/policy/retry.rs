//! The retry budget: retries must not spread one target's failure to the others.

/// Requests and retries of the last ten seconds. Each worker has one.
#[derive(Debug, Default)]
pub(crate) struct RetryBudget {
    seconds: [Second; WINDOW as usize],
}

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    at: u64,
    requests: u32,
    retries: u32,
}

const WINDOW: u64 = 10;
/// Retries that are always allowed: three a second, so that a site with little traffic can retry.
const FLOOR: u32 = 3 * WINDOW as u32;

impl RetryBudget {
    /// Records a request that begins at this second.
    pub(crate) fn record_request(&mut self, now: u64) {
        self.second(now).requests += 1;
    }

    /// Records a retry and returns true, if the window has fewer retries than `FLOOR` or than a
    /// fifth of its requests.
    pub(crate) fn try_retry(&mut self, now: u64) -> bool {
        let (mut requests, mut retries) = (0u32, 0u32);
        for second in self.seconds.iter().filter(|second| second.at + WINDOW > now) {
            requests = requests.saturating_add(second.requests);
            retries = retries.saturating_add(second.retries);
        }
        let allowed = retries < FLOOR.max(requests / 5);
        if allowed {
            self.second(now).retries += 1;
        }
        allowed
    }

    fn second(&mut self, now: u64) -> &mut Second {
        let second = &mut self.seconds[(now % WINDOW) as usize];
        if second.at != now {
            *second = Second { at: now, ..Second::default() };
        }
        second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_with_little_traffic_may_retry_thirty_times_in_ten_seconds() {
        let mut budget = RetryBudget::default();
        assert_eq!((0..100).filter(|_| budget.try_retry(1_000)).count(), 30);
        assert!(!budget.try_retry(1_009));
        assert!(budget.try_retry(1_010));
    }

    #[test]
    fn a_busy_site_may_retry_a_fifth_of_its_requests() {
        let mut budget = RetryBudget::default();
        (0..1_000).for_each(|_| budget.record_request(1_000));
        assert_eq!((0..1_000).filter(|_| budget.try_retry(1_001)).count(), 200);
    }
}
