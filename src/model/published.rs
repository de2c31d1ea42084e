//! The current snapshot: published by one swap, read by every worker with every request.

use super::snapshot::Snapshot;
use arc_swap::{ArcSwap, Cache};
use std::rc::Rc;
use std::sync::Arc;

/// Holder of the current snapshot.
#[derive(Clone, Debug)]
pub struct Published(Arc<ArcSwap<Snapshot>>);

impl Published {
    /// Publishes the first snapshot.
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        Self(Arc::new(ArcSwap::new(snapshot)))
    }

    /// Replaces the snapshot; exchanges in progress keep theirs.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        self.0.store(snapshot);
    }

    /// The current snapshot, for rare readers.
    pub fn current(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// A reader for use with every request: it costs one load of a shared pointer while no new
    /// snapshot is published.
    pub fn reader(&self) -> Reader {
        Reader(Cache::new(Arc::clone(&self.0)))
    }
}

/// One worker's cached access to the current snapshot.
#[derive(Debug)]
pub struct Reader(Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>);

/// A snapshot shared by the exchanges of one worker. The `Rc` count belongs to the worker; with a
/// bare [`Arc`], the exchanges of all workers would write to one count with every request.
pub(crate) type SnapshotRef = Rc<Arc<Snapshot>>;

impl Reader {
    /// The current snapshot; `last` is reused if no newer one was published.
    pub fn current(&mut self, last: &mut Option<SnapshotRef>) -> SnapshotRef {
        let current = self.0.load();
        match last {
            Some(last) if Arc::ptr_eq(last, current) => Rc::clone(last),
            _ => Rc::clone(last.insert(Rc::new(Arc::clone(current)))),
        }
    }
}
