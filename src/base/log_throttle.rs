//! Rate limits for the operator's log: [`LogThrottle`] allows one message a minute at one place,
//! [`Limit`] bounds messages of one kind that may come in large numbers.

use std::time::{Duration, Instant};

/// Minimum time between two messages of one [`LogThrottle`].
const INTERVAL: Duration = Duration::from_mins(1);

/// The time of the last message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LogThrottle(Option<Instant>);

impl LogThrottle {
    /// Returns true if a message may be logged now, and counts it as logged.
    pub(crate) fn allow(&mut self, now: Instant) -> bool {
        let allowed = self.0.is_none_or(|last| now >= last + INTERVAL);
        if allowed {
            self.0 = Some(now);
        }
        allowed
    }
}

/// Burst of messages of one kind, so that 100 targets that change state at once are all logged.
const BURST: u32 = 100;
/// Time to earn one more message: at most ten a second of each kind, some 2 kB/s.
const REFILL: Duration = Duration::from_millis(100);

/// A token bucket for messages of one kind. It counts the withheld messages exactly.
///
/// Once a message is withheld, further ones are withheld too, so that the next message gives their
/// count. The caller polls [`Limit::reopen`] on a timer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    tokens: u32,
    refilled: Instant,
    withheld: u64,
}

impl Limit {
    /// Creates a full bucket.
    pub(crate) fn new(now: Instant) -> Self {
        Self { tokens: BURST, refilled: now, withheld: 0 }
    }

    /// Returns true if a message may be logged; else the message is withheld and counted.
    pub(crate) fn allow(&mut self, now: Instant) -> bool {
        self.refill(now);
        if self.withheld == 0 && self.tokens > 0 {
            self.tokens -= 1;
            return true;
        }
        self.withheld += 1;
        false
    }

    /// Messages withheld since the last logged one.
    pub(crate) fn withheld(&self) -> u64 {
        self.withheld
    }

    /// The number of withheld messages, if it may be logged now; it then counts as logged.
    pub(crate) fn reopen(&mut self, now: Instant) -> Option<u64> {
        self.refill(now);
        if self.withheld == 0 || self.tokens == 0 {
            return None;
        }
        self.tokens -= 1;
        Some(std::mem::take(&mut self.withheld))
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.refilled).as_millis() / REFILL.as_millis();
        let missing = BURST - self.tokens;
        if passed >= u128::from(missing) {
            (self.tokens, self.refilled) = (BURST, self.refilled.max(now));
        } else if let Ok(passed) = u32::try_from(passed) {
            // The rest of an interval counts towards the next token.
            self.tokens += passed;
            self.refilled += REFILL * passed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Moment;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_message_is_logged_or_counted_once_within_the_rate_limit(
            steps in proptest::collection::vec((0_u64..400, 0_usize..40, any::<bool>()), 1..200)
        ) {
            let begun = Moment::now().monotonic;
            let (mut now, mut limit) = (begun, Limit::new(begun));
            let (mut asked, mut told, mut counted, mut summaries) = (0_u64, 0_u64, 0_u64, 0_u64);
            for (wait, lines, asks_to_reopen) in steps {
                now += Duration::from_millis(wait);
                for _ in 0..lines {
                    asked += 1;
                    told += u64::from(limit.allow(now));
                }
                if asks_to_reopen && let Some(withheld) = limit.reopen(now) {
                    prop_assert!(withheld > 0);
                    counted += withheld;
                    summaries += 1;
                }
                prop_assert_eq!(told + counted + limit.withheld(), asked);
                let allowed = u128::from(BURST) + (now - begun).as_millis() / REFILL.as_millis();
                prop_assert!(u128::from(told + summaries) <= allowed);
            }
            // Withheld messages are reported once a token is due.
            let later = now + REFILL;
            let last = limit.reopen(later).unwrap_or(0);
            prop_assert_eq!(told + counted + last, asked);
            prop_assert_eq!(limit.withheld(), 0);
        }
    }

    #[test]
    fn a_burst_is_logged_then_ten_messages_a_second_and_all_after_a_rest() {
        let now = Moment::now().monotonic;
        let mut limit = Limit::new(now);
        assert_eq!((0..1_000).filter(|_| limit.allow(now)).count(), 100);
        assert_eq!(limit.reopen(now), None, "there is no token yet");
        assert_eq!(limit.reopen(now + REFILL), Some(900));
        assert!(!limit.allow(now + REFILL), "the summary took the token");
        assert_eq!(limit.reopen(now + 2 * REFILL), Some(1));
        let rested = now + REFILL * 200;
        assert_eq!((0..1_000).filter(|_| limit.allow(rested)).count(), 100);
    }

    #[test]
    fn one_place_logs_at_most_once_a_minute() {
        let mut throttle = LogThrottle::default();
        let now = Moment::now().monotonic;
        let said =
            [0, 1, 59, 60, 61, 119, 120].map(|at| throttle.allow(now + Duration::from_secs(at)));
        assert_eq!(said, [true, false, false, true, false, false, true]);
    }
}
