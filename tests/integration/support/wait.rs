//! Waiting on conditions, never for luck.

use std::time::{Duration, Instant};

/// Waits until `condition` gives something; panics with `what` when it does not within ten seconds.
#[track_caller]
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "waited in vain: {what}");
        // Not for luck: only so that looking does not take the core from what is looked at.
        std::thread::sleep(Duration::from_millis(5));
    }
}
