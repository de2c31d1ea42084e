//! Memory for incomplete heads: a buffer for each connection, with a bound on the sum of a worker.
//! A client that sends half a head holds a buffer until `timeouts.header_read`; the bound holds for
//! any number of such clients.

use super::conn::Conn;
use super::expiry::Expiry;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

/// Bound in bytes on all partial heads of a worker: some 1,000 of the longest
/// (`limits.header_bytes` is 64 KiB by default), or 16,000 that have just begun.
const MAX_BYTES: usize = 64 << 20;
/// Initial bytes of a partial head's buffer.
const FIRST: usize = 4 * 1_024;

/// A worker's partial heads, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct PartialHeads {
    sums: Rc<Sums>,
    oldest: RefCell<VecDeque<(Weak<Conn>, Rc<HeldBytes>)>>,
}

/// Bytes of all partial heads.
#[derive(Debug, Default)]
struct Sums {
    held: Cell<usize>,
    /// The part of `held` of heads that were expired and have not ended yet.
    ending: Cell<usize>,
}

/// The share of one head in the sums.
#[derive(Debug, Default)]
struct HeldBytes {
    held: Cell<usize>,
    is_ending: Cell<bool>,
}

/// One partial head. Dropping it releases its bytes.
#[derive(Debug)]
pub(crate) struct PartialHead {
    /// The bytes received.
    pub bytes: Vec<u8>,
    /// No head ends before this index.
    pub searched: usize,
    held: Rc<HeldBytes>,
    sums: Rc<Sums>,
}

impl PartialHeads {
    /// Begins a partial head with these bytes.
    pub(crate) fn begin(&self, conn: &Rc<Conn>, first: &[u8]) -> PartialHead {
        let mut bytes = Vec::with_capacity(first.len().max(FIRST));
        bytes.extend_from_slice(first);
        let held = Rc::new(HeldBytes::default());
        self.oldest.borrow_mut().push_back((Rc::downgrade(conn), Rc::clone(&held)));
        let head = PartialHead { bytes, searched: 0, held, sums: Rc::clone(&self.sums) };
        self.count(&head);
        head
    }

    /// Makes room for more bytes, up to `most` in all.
    pub(crate) fn grow(&self, head: &mut PartialHead, most: usize) {
        if head.bytes.len() == head.bytes.capacity() {
            let wanted = (head.bytes.capacity() * 2).min(most.max(FIRST));
            head.bytes.reserve_exact(wanted.saturating_sub(head.bytes.len()).max(1));
            self.count(head);
        }
    }

    /// Updates the sums, and expires the oldest heads if all together exceed the bound.
    fn count(&self, head: &PartialHead) {
        let Self { sums, oldest } = self;
        head.set_held(head.bytes.capacity());
        let mut oldest = oldest.borrow_mut();
        while sums.held.get() - sums.ending.get() > MAX_BYTES
            && let Some((conn, held)) = oldest.pop_front()
        {
            if let Some(conn) = conn.upgrade()
                && is_held(&held)
            {
                conn.expire(Expiry::HeadsFull);
                held.is_ending.set(true);
                sums.ending.set(sums.ending.get() + held.held.get());
            }
        }
        // Heads that ended by themselves are removed from time to time.
        if oldest.len() > 1_024 && oldest.len() > 2 * (sums.held.get() / FIRST) {
            oldest.retain(|(_, held)| is_held(held));
        }
    }
}

/// Returns true if the head still exists: the list is the other holder of its share.
fn is_held(held: &Rc<HeldBytes>) -> bool {
    Rc::strong_count(held) > 1
}

impl PartialHead {
    fn set_held(&self, now: usize) {
        let before = self.held.held.replace(now);
        let moved = |sum: &Cell<usize>| sum.set(sum.get() - before + now);
        moved(&self.sums.held);
        if self.held.is_ending.get() {
            moved(&self.sums.ending);
        }
    }
}

impl Drop for PartialHead {
    fn drop(&mut self) {
        self.set_held(0);
    }
}
