//! Tracks if a target takes a request's body: while it does not, the client is not read, so the
//! time counts against the target.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// The progress of a target with a body.
#[derive(Debug)]
pub(super) struct Taking {
    /// Bytes that it took, and true if it takes no more.
    sent: Cell<(u64, bool)>,
    /// The bytes at the last check, and the time since which none were added.
    before: Cell<u64>,
    blocked_since: Cell<Option<Instant>>,
    /// Time of the last check.
    looked: Cell<Option<Instant>>,
    /// Total time of waiting for the target, and for the client.
    waited: Cell<(Duration, Duration)>,
    /// Maximum time without a byte taken.
    bound: Cell<Duration>,
}

/// The result of a check.
pub(super) enum Look {
    /// The target takes the available bytes.
    Takes {
        /// True if it was blocked at the last check, so that the client's time starts now.
        resumed: bool,
    },
    /// The target takes no more.
    Blocked {
        /// True if it has taken nothing for the maximum time.
        too_long: bool,
    },
}

impl Default for Taking {
    fn default() -> Self {
        Self {
            sent: Cell::new((0, false)),
            before: Cell::new(0),
            blocked_since: Cell::new(None),
            looked: Cell::new(None),
            waited: Cell::default(),
            bound: Cell::new(Duration::MAX),
        }
    }
}

impl Taking {
    /// Begins a body.
    pub(super) fn begin(&self, now: Instant, bound: Duration) {
        self.looked.set(Some(now));
        self.waited.set((Duration::ZERO, Duration::ZERO));
        self.sent.set((0, false));
        self.before.set(0);
        self.blocked_since.set(None);
        self.bound.set(bound);
    }

    /// Records the bytes it has taken, and true if it takes no more.
    pub(super) fn record(&self, taken: u64, is_blocked: bool) {
        self.sent.set((taken, is_blocked));
    }

    /// Checks the progress on a tick. Bytes taken since the last tick count as taken now.
    pub(super) fn check(&self, now: Instant) -> Look {
        let (taken, is_blocked) = self.sent.get();
        self.record_wait(now, is_blocked);
        let before = self.before.replace(taken);
        if !is_blocked {
            return Look::Takes { resumed: self.blocked_since.take().is_some() };
        }
        let since = match self.blocked_since.get() {
            Some(since) if taken == before => since,
            _ => now,
        };
        self.blocked_since.set(Some(since));
        Look::Blocked { too_long: now.saturating_duration_since(since) >= self.bound.get() }
    }

    /// Returns true if the wait for the target was longer than that for the client: an expiry of
    /// the total time is then the target's fault, whatever its state at that moment.
    pub(super) fn is_to_blame(&self) -> bool {
        let (target, client) = self.waited.get();
        target > client
    }

    fn record_wait(&self, now: Instant, is_blocked: bool) {
        let Some(looked) = self.looked.replace(Some(now)) else { return };
        let passed = now.saturating_duration_since(looked);
        let (target, client) = self.waited.get();
        self.waited.set(match is_blocked {
            true => (target + passed, client),
            false => (target, client + passed),
        });
    }
}
