//! Counts panics of the balancer's threads: a task that panics otherwise ends without a trace.

use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

static SEEN: AtomicUsize = AtomicUsize::new(0);

/// Number of panics since it was made, in any balancer of this process.
pub struct Panics {
    before: usize,
}

impl Panics {
    /// Starts to count.
    pub fn counted() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let usual = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                if thread::current().name().is_some_and(|name| name.starts_with("worker")) {
                    SEEN.fetch_add(1, Ordering::SeqCst);
                }
                usual(info);
            }));
        });
        Self { before: SEEN.load(Ordering::SeqCst) }
    }

    /// Number of panics so far.
    pub fn so_far(&self) -> usize {
        SEEN.load(Ordering::SeqCst) - self.before
    }
}
