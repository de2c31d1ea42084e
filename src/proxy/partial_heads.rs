//! Memory for heads of which a part has come: each connection's own, all of a worker's together bounded.
//! A client that sends half a head holds a buffer until `timeouts.header_read`; a crowd of such clients
//! must not hold more than the bound.

use super::conn::Conn;
use super::expiry::Expiry;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

/// Bytes of all partial heads of a worker: some 1,000 of the longest (`limits.header_bytes` is 64 KiB
/// by default), or 16,000 that have just begun.
const MAX_BYTES: usize = 64 << 20;
/// Bytes a partial head begins with.
const FIRST: usize = 4 * 1_024;

/// A worker's partial heads, the oldest first.
#[derive(Debug, Default)]
pub struct PartialHeads {
    bytes: Rc<Cell<usize>>,
    oldest: RefCell<VecDeque<Weak<Conn>>>,
}

/// One partial head. Dropping it gives its bytes back.
#[derive(Debug)]
pub struct PartialHead {
    /// The bytes that came.
    pub bytes: Vec<u8>,
    /// No head ends before this index.
    pub searched: usize,
    counted: usize,
    all: Rc<Cell<usize>>,
}

impl PartialHeads {
    /// Begins one with these bytes.
    pub fn begin(&self, conn: &Rc<Conn>, first: &[u8]) -> PartialHead {
        let mut bytes = Vec::with_capacity(first.len().max(FIRST));
        bytes.extend_from_slice(first);
        let mut head = PartialHead { bytes, searched: 0, counted: 0, all: Rc::clone(&self.bytes) };
        self.oldest.borrow_mut().push_back(Rc::downgrade(conn));
        self.count(&mut head);
        head
    }

    /// Makes room for more of it, up to this many bytes in all.
    pub fn grow(&self, head: &mut PartialHead, most: usize) {
        if head.bytes.len() == head.bytes.capacity() {
            let wanted = (head.bytes.capacity() * 2).min(most.max(FIRST));
            head.bytes.reserve_exact(wanted.saturating_sub(head.bytes.len()).max(1));
            self.count(head);
        }
    }

    /// Notes how much a head takes, and ends the oldest ones where all take too much.
    fn count(&self, head: &mut PartialHead) {
        let now = head.bytes.capacity();
        self.bytes.set(self.bytes.get() - head.counted + now);
        head.counted = now;
        let mut oldest = self.oldest.borrow_mut();
        let mut over = self.bytes.get().saturating_sub(MAX_BYTES);
        while over > 0
            && let Some(conn) = oldest.pop_front()
        {
            if let Some(conn) = conn.upgrade()
                && conn.has_partial_head()
            {
                conn.expire(Expiry::HeadsFull);
                over = over.saturating_sub(FIRST);
            }
        }
        // Those that ended by themselves are forgotten from time to time.
        if oldest.len() > 1_024 && oldest.len() > 2 * (self.bytes.get() / FIRST) {
            oldest.retain(|conn| conn.upgrade().is_some_and(|conn| conn.has_partial_head()));
        }
    }
}

impl Drop for PartialHead {
    fn drop(&mut self) {
        self.all.set(self.all.get() - self.counted);
    }
}
