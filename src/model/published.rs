//! The current picture: published by one swap, read by every worker with every request.

use super::snapshot::Snapshot;
use arc_swap::{ArcSwap, Cache};
use std::rc::Rc;
use std::sync::Arc;

/// The current picture, replaced by one swap.
#[derive(Clone, Debug)]
pub struct Published(Arc<ArcSwap<Snapshot>>);

impl Published {
    /// Publishes the first picture.
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        Self(Arc::new(ArcSwap::new(snapshot)))
    }

    /// Puts another picture in its place; exchanges under way keep theirs.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        self.0.store(snapshot);
    }

    /// The current picture, for those who ask seldom.
    pub fn current(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// A reader for those who ask with every request: while nothing is published it costs one load
    /// of a shared pointer.
    pub fn reader(&self) -> Reader {
        Reader(Cache::new(Arc::clone(&self.0)))
    }
}

/// One worker's way to the current picture.
#[derive(Debug)]
pub struct Reader(Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>);

/// A picture as one worker's exchanges share it. All workers' exchanges would write to the one
/// count of an [`Arc`] with every request; this count is the worker's own.
pub type SnapshotRef = Rc<Arc<Snapshot>>;

impl Reader {
    /// The current picture: the one last given out, unless another was published since.
    pub fn current(&mut self, last: &mut Option<SnapshotRef>) -> SnapshotRef {
        let current = self.0.load();
        match last {
            Some(last) if Arc::ptr_eq(last, current) => Rc::clone(last),
            _ => Rc::clone(last.insert(Rc::new(Arc::clone(current)))),
        }
    }
}
