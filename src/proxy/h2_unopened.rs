//! Finds streams that the library refuses before handing over their request: a malformed header
//! block (RFC 9113 section 8.1.1), an invalid `:path`, a header list over its bound. The library
//! reports none of them, so they are recognized by their frames: HEADERS arrived, RST_STREAM or
//! HEADERS was sent, and the stream was not accepted in between.

use std::cell::{Cell, RefCell};

/// Bound on the streams between their HEADERS and their acceptance. A turn of reading brings some
/// forty; refused streams over the bound get no access record.
const MAX_UNOPENED: usize = 256;

/// The streams of one connection that began and were not accepted yet.
#[derive(Debug, Default)]
pub(super) struct Unopened {
    ids: RefCell<Vec<u32>>,
    highest: Cell<u32>,
    refused: RefCell<Vec<RefusedStream>>,
}

/// The library's answer to a stream it refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusedStream {
    /// RST_STREAM with this code.
    Reset(u32),
    /// A head made by the library: 431, the only one it makes.
    Answered,
}

impl Unopened {
    /// Records HEADERS from the client. On an open stream they are trailers.
    pub(super) fn began(&self, id: u32) {
        if id <= self.highest.get() {
            return;
        }
        self.highest.set(id);
        let mut ids = self.ids.borrow_mut();
        if ids.len() < MAX_UNOPENED {
            ids.push(id);
        }
    }

    /// Records that the library handed the stream over.
    pub(super) fn accepted(&self, id: u32) {
        self.take(id);
    }

    /// Records a frame to the client that ends a stream the library has not handed over.
    pub(super) fn answered(&self, id: u32, how: RefusedStream) {
        if self.take(id) {
            self.refused.borrow_mut().push(how);
        }
    }

    /// Returns the streams refused since the last call.
    pub(super) fn take_refused(&self) -> Vec<RefusedStream> {
        self.refused.take()
    }

    fn take(&self, id: u32) -> bool {
        let mut ids = self.ids.borrow_mut();
        let at = ids.iter().position(|known| *known == id);
        at.map(|at| ids.swap_remove(at)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_ends_before_it_was_accepted_is_refused() {
        let unopened = Unopened::default();
        for id in [1, 3, 5, 7] {
            unopened.began(id);
        }
        unopened.accepted(3);
        unopened.answered(1, RefusedStream::Reset(1));
        // A response and trailers of an accepted stream.
        unopened.answered(3, RefusedStream::Answered);
        unopened.began(3);
        unopened.answered(3, RefusedStream::Reset(8));
        unopened.answered(5, RefusedStream::Answered);
        assert_eq!(unopened.take_refused(), [RefusedStream::Reset(1), RefusedStream::Answered]);
        assert!(unopened.take_refused().is_empty());
        // Each refusal counts once.
        unopened.answered(5, RefusedStream::Reset(1));
        assert!(unopened.take_refused().is_empty());
    }

    #[test]
    fn streams_neither_accepted_nor_refused_take_bounded_memory() {
        let unopened = Unopened::default();
        for id in 0..100_000 {
            unopened.began(id * 2 + 1);
        }
        assert_eq!(unopened.ids.borrow().len(), MAX_UNOPENED);
    }
}
