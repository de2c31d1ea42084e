//! Whether a target takes a request's body: as long as it does not, nothing is asked of the client,
//! and so it is the target's clock that runs.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How far a target is with a body.
#[derive(Debug)]
pub(super) struct Taking {
    /// Bytes that it took, and whether what is at hand waits for it to take more.
    sent: Cell<(u64, bool)>,
    /// The bytes when this was last looked at, and since when none were added.
    before: Cell<u64>,
    blocked_since: Cell<Option<Instant>>,
    /// When this was last looked at.
    looked: Cell<Option<Instant>>,
    /// How long the target was waited for so far, and how long the client.
    waited: Cell<(Duration, Duration)>,
    /// How long it may take nothing.
    bound: Cell<Duration>,
}

/// What is seen of it.
pub(super) enum Look {
    /// It takes what there is.
    Takes {
        /// When last looked at it did not, so that the client is waited for from now on.
        resumed: bool,
    },
    /// There is more than it takes.
    Blocked {
        /// It has taken nothing for as long as it may.
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
    /// Begins with a body.
    pub(super) fn begin(&self, now: Instant, bound: Duration) {
        self.looked.set(Some(now));
        self.waited.set((Duration::ZERO, Duration::ZERO));
        self.sent.set((0, false));
        self.before.set(0);
        self.blocked_since.set(None);
        self.bound.set(bound);
    }

    /// Notes how much it has taken, and whether it takes no more by now.
    pub(super) fn record(&self, taken: u64, is_blocked: bool) {
        self.sent.set((taken, is_blocked));
    }

    /// Looks at it on a tick. What it took since the last one counts as taken now.
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

    /// Whether the target was waited for longer than the client: a time-out for all of a body is then
    /// its fault, whatever it does at that moment.
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
