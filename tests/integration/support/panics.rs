//! Panics of the balancer's own threads: a task that panics ends in silence, and nobody would know.

use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

static SEEN: AtomicUsize = AtomicUsize::new(0);

/// Panics since it was made, in any scene's balancer.
pub struct Panics {
    before: usize,
}

impl Panics {
    /// Counts from now on.
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

    /// How many there were.
    pub fn so_far(&self) -> usize {
        SEEN.load(Ordering::SeqCst) - self.before
    }
}
