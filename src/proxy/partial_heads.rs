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
    sums: Rc<Sums>,
    oldest: RefCell<VecDeque<(Weak<Conn>, Rc<HeldBytes>)>>,
}

/// Bytes of all partial heads.
#[derive(Debug, Default)]
struct Sums {
    held: Cell<usize>,
    /// Of these, held by heads that were told to end and have not yet.
    ending: Cell<usize>,
}

/// What one head holds of the sums.
#[derive(Debug, Default)]
struct HeldBytes {
    held: Cell<usize>,
    is_ending: Cell<bool>,
}

/// One partial head. Dropping it gives its bytes back.
#[derive(Debug)]
pub struct PartialHead {
    /// The bytes that came.
    pub bytes: Vec<u8>,
    /// No head ends before this index.
    pub searched: usize,
    held: Rc<HeldBytes>,
    sums: Rc<Sums>,
}

impl PartialHeads {
    /// Begins one with these bytes.
    pub fn begin(&self, conn: &Rc<Conn>, first: &[u8]) -> PartialHead {
        let mut bytes = Vec::with_capacity(first.len().max(FIRST));
        bytes.extend_from_slice(first);
        let held = Rc::new(HeldBytes::default());
        self.oldest.borrow_mut().push_back((Rc::downgrade(conn), Rc::clone(&held)));
        let head = PartialHead { bytes, searched: 0, held, sums: Rc::clone(&self.sums) };
        self.count(&head);
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
        // Those that ended by themselves are forgotten from time to time.
        if oldest.len() > 1_024 && oldest.len() > 2 * (sums.held.get() / FIRST) {
            oldest.retain(|(_, held)| is_held(held));
        }
    }
}

/// Whether the head is still there: the list is the other holder of its share.
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
