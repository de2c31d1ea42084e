//! A worker's places for clients that are read on after their answer.

use std::cell::Cell;
use std::rc::Rc;

/// Clients of a worker that are read on after their answer. Each holds a descriptor for up to half a
/// minute and is of no use but to itself; beyond these it is closed at once.
const MAX_LINGERING: usize = 1_024;

/// A worker's places for clients that are read on after their answer.
#[derive(Debug, Default)]
pub struct LingerPermits(Rc<Cell<usize>>);

impl LingerPermits {
    /// One of them, if there is one left.
    pub fn take(&self) -> Option<Lingering> {
        let taken = self.0.get();
        (taken < MAX_LINGERING).then(|| {
            self.0.set(taken + 1);
            Lingering(Rc::clone(&self.0))
        })
    }
}

/// One of a worker's places for clients that are read on after their answer; given back when dropped.
#[derive(Debug)]
pub struct Lingering(Rc<Cell<usize>>);

impl Drop for Lingering {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_has_so_many_places_and_one_more_for_each_given_back() {
        let places = LingerPermits::default();
        let mut taken: Vec<_> = std::iter::from_fn(|| places.take()).take(2_000).collect();
        assert_eq!(taken.len(), MAX_LINGERING);
        assert!(places.take().is_none() && places.take().is_none(), "a refusal takes none");
        taken.truncate(MAX_LINGERING - 2);
        let again = [places.take(), places.take()];
        assert!(again.iter().all(Option::is_some) && places.take().is_none());
    }
}
