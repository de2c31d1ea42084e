//! Waiting for conditions, never for an amount of time.

use std::time::{Duration, Instant};

/// Waits until `condition` returns a value; panics with `what` after ten seconds.
#[track_caller]
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "waited in vain: {what}");
        // Only keeps the polling from taking the CPU of the program under test.
        std::thread::sleep(Duration::from_millis(5));
    }
}
