//! A worker's permits for reading on after a client's response.

use std::cell::Cell;
use std::rc::Rc;

/// Bound on the clients of a worker that are read after their response. Each holds a descriptor for
/// up to 30 seconds and serves only itself; over the bound, connections close at once.
const MAX_LINGERING: usize = 1_024;

/// A worker's permits for reading on after a client's response.
#[derive(Debug, Default)]
pub(crate) struct LingerPermits(Rc<Cell<usize>>);

impl LingerPermits {
    /// Takes a permit, if one is left.
    pub(crate) fn take(&self) -> Option<Lingering> {
        let taken = self.0.get();
        (taken < MAX_LINGERING).then(|| {
            self.0.set(taken + 1);
            Lingering(Rc::clone(&self.0))
        })
    }
}

/// One of a worker's permits for reading on after a client's response; given back when dropped.
#[derive(Debug)]
pub(crate) struct Lingering(Rc<Cell<usize>>);

impl Drop for Lingering {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_has_a_fixed_number_of_permits_and_reuses_them() {
        let places = LingerPermits::default();
        let mut taken: Vec<_> = std::iter::from_fn(|| places.take()).take(2_000).collect();
        assert_eq!(taken.len(), MAX_LINGERING);
        assert!(places.take().is_none() && places.take().is_none(), "a refusal takes none");
        taken.truncate(MAX_LINGERING - 2);
        let again = [places.take(), places.take()];
        assert!(again.iter().all(Option::is_some) && places.take().is_none());
    }
}
