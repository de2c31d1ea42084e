//! The only module that reads a clock. All other code gets a [`Moment`].

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One instant on both clocks: the monotonic one for time-outs and durations, the wall clock for
/// recorded times (pins, logs, cookies). A jump of the wall clock changes no time-out.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Monotonic time, for durations and deadlines.
    pub monotonic: Instant,
    /// Time since the Unix epoch; zero if the machine's clock is set before 1970.
    pub wall: Duration,
}

/// Reads the monotonic clock only, for times that are not recorded.
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

    /// Reads the monotonic clock only, and adds the elapsed time to this moment's wall clock. Use
    /// it for recent moments only: a jump of the wall clock shows only in [`Moment::now`].
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

    /// Returns this moment with `by` added to both clocks.
    #[must_use]
    pub fn later(self, by: Duration) -> Self {
        Self { monotonic: self.monotonic + by, wall: self.wall + by }
    }

    /// Monotonic time since `earlier`; zero if `earlier` is later than this moment.
    pub fn since(self, earlier: Self) -> Duration {
        self.monotonic.saturating_duration_since(earlier.monotonic)
    }
}
