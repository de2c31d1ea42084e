//! A request body for an HTTP/2 target that can be sent again after the target refused its stream:
//! the request was not processed (RFC 9113 section 8.7), but part of the body may have been sent.

use crate::proxy::upload::{RequestBody, Upload, UploadError, UploadState};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Bound in bytes on the kept part of one body: the bytes that may be sent on a stream before the
/// target answers or opens the window (RFC 9113 section 6.9.2).
const MAX_KEPT: usize = 65_535;
/// Overhead in bytes counted for each frame, so that many small frames are bounded.
const OVERHEAD: usize = 64;

/// Bound in bytes below which frames are copied together: each is a view of a read buffer of at
/// least 8 KiB, which it would keep alive. Larger frames keep at most twice their size alive.
const MIN_SHARED: usize = 4_096;

/// A part of the body.
#[derive(Debug)]
enum Piece {
    /// A frame as received.
    Shared(Bytes),
    /// Small frames, concatenated.
    Copied(BytesMut),
}

impl Piece {
    fn bytes(&self) -> Bytes {
        match self {
            Piece::Shared(bytes) => bytes.clone(),
            Piece::Copied(bytes) => Bytes::copy_from_slice(bytes),
        }
    }
}

/// The part of a client's body that was read, kept until its target answers.
#[derive(Debug)]
struct Kept {
    data: Vec<Piece>,
    trailers: Option<HeaderMap>,
    /// Number of data and trailer frames sent in this attempt.
    sent: usize,
    size: usize,
    /// True if everything read so far is kept.
    is_whole: bool,
}

/// The body. Clones share its state.
#[derive(Clone, Debug)]
pub(crate) struct KeptBody {
    upload: Rc<Upload>,
    kept: Rc<RefCell<Kept>>,
}

impl KeptBody {
    /// Wraps a client's body.
    pub(super) fn of(upload: &Rc<Upload>) -> Self {
        let is_whole = upload.state() == UploadState::Untouched;
        let kept = Kept { data: Vec::new(), trailers: None, sent: 0, size: 0, is_whole };
        Self { upload: Rc::clone(upload), kept: Rc::new(RefCell::new(kept)) }
    }

    /// Returns true if it can be sent again from its beginning.
    pub(super) fn is_whole(&self) -> bool {
        let is_read = matches!(self.upload.state(), UploadState::TooLarge | UploadState::Malformed);
        self.kept.borrow().is_whole && !is_read
    }

    /// Starts from the beginning.
    pub(super) fn rewind(&self) {
        self.kept.borrow_mut().sent = 0;
    }

    /// Drops the kept part and keeps no more: the target answered.
    pub(super) fn forget(&self) {
        self.kept.borrow_mut().forget();
    }
}

impl Kept {
    fn next(&mut self) -> Option<Frame<Bytes>> {
        let at = self.sent;
        let data = self.data.get(at).map(|piece| Frame::data(piece.bytes()));
        let last = (at == self.data.len()).then(|| self.trailers.clone().map(Frame::trailers));
        let frame = data.or_else(|| last.flatten())?;
        self.sent += 1;
        Some(frame)
    }

    fn is_sent(&self) -> bool {
        self.sent == self.data.len() + usize::from(self.trailers.is_some())
    }

    /// Records a frame that was read and is sent now.
    fn record(&mut self, frame: &Frame<Bytes>) {
        if !self.is_whole {
            return;
        }
        let length = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => data.len(),
            (None, trailers) => trailers.map_or(0, |trailers| trailers.len() * OVERHEAD),
        };
        self.size += length + OVERHEAD;
        if self.size > MAX_KEPT {
            return self.forget();
        }
        match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => self.keep(data),
            (None, trailers) => self.trailers = trailers.cloned(),
        }
        // Everything kept before was sent, because no frame is read until then.
        self.sent = self.data.len() + usize::from(self.trailers.is_some());
    }

    fn keep(&mut self, data: &Bytes) {
        if data.len() >= MIN_SHARED {
            return self.data.push(Piece::Shared(data.clone()));
        }
        match self.data.last_mut() {
            Some(Piece::Copied(copied)) => copied.extend_from_slice(data),
            _ => self.data.push(Piece::Copied(BytesMut::from(&data[..]))),
        }
    }

    fn forget(&mut self) {
        self.is_whole = false;
        // Frames being sent a second time are still needed.
        if self.is_sent() {
            (self.data, self.trailers, self.sent) = (Vec::new(), None, 0);
        }
    }
}

impl Body for KeptBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        if let Some(frame) = self.kept.borrow_mut().next() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if self.upload.state() == UploadState::Finished {
            return Poll::Ready(None);
        }
        let mut body = RequestBody(Rc::clone(&self.upload));
        let frame = ready!(Pin::new(&mut body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            self.kept.borrow_mut().record(frame);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.kept.borrow().is_sent() && RequestBody(Rc::clone(&self.upload)).is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Kept {
        Kept { data: Vec::new(), trailers: None, sent: 0, size: 0, is_whole: true }
    }

    fn data(size: usize) -> Frame<Bytes> {
        Frame::data(Bytes::from(vec![b'x'; size]))
    }

    #[test]
    fn a_body_is_sent_again_once_and_in_order() {
        let mut kept = kept();
        for size in [1, 2, 5_000, 3, 4_095, 4_096] {
            kept.record(&data(size));
        }
        kept.record(&Frame::trailers(HeaderMap::new()));
        assert!(kept.is_sent() && kept.next().is_none());
        for _ in 0..2 {
            kept.sent = 0;
            // Consecutive small frames become one.
            for size in [3, 5_000, 4_098, 4_096] {
                assert!(!kept.is_sent());
                assert_eq!(kept.next().unwrap().into_data().unwrap().len(), size);
            }
            assert!(kept.next().unwrap().is_trailers());
            assert!(kept.is_sent() && kept.next().is_none());
        }
    }

    #[test]
    fn no_more_than_the_bound_is_kept_however_small_the_frames() {
        for (size, frames) in [(1, 1_008), (65_471, 1), (16_384, 3)] {
            let mut kept = kept();
            let whole = (0..2_000).take_while(|_| {
                kept.record(&data(size));
                kept.is_whole
            });
            assert_eq!(whole.count(), frames, "{size}");
            assert!(kept.data.is_empty() && kept.next().is_none());
        }
    }

    #[test]
    fn small_frames_keep_no_read_buffer_alive() {
        // As in a read: many frames are views of one buffer.
        for size in [1, 100, 4_095, 4_096] {
            let (mut kept, mut expected) = (kept(), Vec::new());
            for number in 0..8_u8 {
                let read = Bytes::from(vec![number; 8_192]);
                let frame = Frame::data(read.slice(..size));
                kept.record(&frame);
                drop(frame);
                expected.extend_from_slice(&read[..size]);
                // It is the only view of the buffer, unless the frame is half of it.
                assert_eq!(read.is_unique(), size < MIN_SHARED, "{size}");
            }
            kept.sent = 0;
            let mut again = Vec::new();
            while let Some(frame) = kept.next() {
                again.extend_from_slice(&frame.into_data().unwrap());
            }
            assert_eq!(again, expected);
        }
    }

    #[test]
    fn a_frame_read_after_a_resend_follows_it() {
        let mut kept = kept();
        kept.record(&data(1));
        for size in [2, 3] {
            kept.sent = 0;
            assert_eq!(kept.next().unwrap().into_data().unwrap().len(), size - 1);
            assert!(kept.is_sent() && kept.next().is_none());
            kept.record(&data(1));
            assert!(kept.is_sent() && kept.next().is_none());
        }
        kept.sent = 0;
        assert_eq!(kept.next().unwrap().into_data().unwrap().len(), 3);
    }

    #[test]
    fn a_response_drops_sent_frames_and_keeps_unsent_ones() {
        let mut kept = kept();
        kept.record(&data(5_000));
        kept.record(&data(2));
        kept.sent = 0;
        assert!(kept.next().is_some());
        kept.forget();
        assert_eq!(kept.next().unwrap().into_data().unwrap().len(), 2);
        // Later frames continue from there.
        kept.record(&data(3));
        assert!(kept.is_sent() && kept.next().is_none() && !kept.is_whole);
        kept.forget();
        assert!(kept.data.is_empty() && kept.is_sent());
    }
}
