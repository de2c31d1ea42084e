//! The one place that reads a clock. Everything else is handed a [`Moment`].

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One instant on both clocks: the monotonic one for time-outs and durations, the wall clock for
/// what is written down (pins, logs, cookies). A jump of the wall clock moves no time-out.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// For measuring how long something took or may take.
    pub monotonic: Instant,
    /// Time since the Unix epoch; zero if the machine's clock stands before 1970.
    pub wall: Duration,
}

/// Reads the monotonic clock alone, for what is never written down.
#[allow(clippy::disallowed_methods)]
pub fn monotonic() -> Instant {
    Instant::now()
}

impl Moment {
    /// Reads both clocks.
    #[allow(clippy::disallowed_methods)]
    pub fn now() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { monotonic: Instant::now(), wall }
    }

    /// Reads the monotonic clock alone and takes the wall clock to have gone along since this
    /// moment. For a moment not long past: a jump of the wall clock shows only in [`Moment::now`].
    #[allow(clippy::disallowed_methods)]
    pub fn advanced(self) -> Self {
        let monotonic = Instant::now();
        let gone = monotonic.saturating_duration_since(self.monotonic);
        Self { monotonic, wall: self.wall + gone }
    }

    /// Whole seconds since the Unix epoch, the resolution of pins and cookies.
    pub fn unix_seconds(self) -> u64 {
        self.wall.as_secs()
    }

    /// The same moment, `by` later on both clocks.
    #[must_use]
    pub fn later(self, by: Duration) -> Self {
        Self { monotonic: self.monotonic + by, wall: self.wall + by }
    }

    /// How long ago `earlier` was, zero if it was not.
    pub fn since(self, earlier: Self) -> Duration {
        self.monotonic.saturating_duration_since(earlier.monotonic)
    }
}
