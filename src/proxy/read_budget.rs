//! Bounded turns of reading: however fast a client sends, its connection's task yields to the
//! worker after a turn's budget. That also bounds the work of the library (mostly heads, which
//! expand to many times their size) before the flood guard checks it.
//!
//! Bytes are not equal: a body's bytes are passed on, while any few bytes of other frames cost the
//! library work. So this module follows the frames by their heads: a second parser of frame heads
//! before the library's. Frames to the client are followed too, for the streams the library refuses
//! itself.

use super::h2_unopened::{RefusedStream, Unopened};
use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};

/// Bytes of bodies read in one turn: one full DATA frame and a little more.
const BYTES_PER_TURN: usize = 17 << 10;
/// Budget taken by each byte of a frame other than DATA: two kibibytes of them are a turn, some
/// forty requests, a hundred PINGs, or two thousand references to one field.
const COST: usize = 8;
/// Bytes read at once if no body is in progress.
const READ_CHUNK: usize = BYTES_PER_TURN / COST;
/// Divisor of a short turn's budget: enough for some eight of the smallest frames.
const SHORT_TURN_DIVISOR: usize = 16;

/// The rest of a turn's budget, and the payload read so far.
#[derive(Debug, Default)]
pub(super) struct ReadBudget {
    left: Cell<usize>,
    was_cut: Cell<bool>,
    carried: Cell<u64>,
}

impl ReadBudget {
    /// Begins a turn.
    pub(super) fn begin(&self) {
        self.left.set(BYTES_PER_TURN);
        self.was_cut.set(false);
    }

    /// Begins a short turn.
    pub(super) fn begin_short(&self) {
        self.left.set(BYTES_PER_TURN / SHORT_TURN_DIVISOR);
        self.was_cut.set(false);
    }

    /// Begins a turn in which nothing is read.
    pub(super) fn pause(&self) {
        self.left.set(0);
        self.was_cut.set(true);
    }

    /// Wakes the task for another turn, after all other tasks had theirs, if there may be more to
    /// read.
    pub(super) fn wake_if_cut(&self, cx: &Context<'_>) {
        if self.was_cut.get() {
            cx.waker().wake_by_ref();
        }
    }

    /// Returns true if the turn ended at its budget, so that there may be more to read.
    pub(super) fn was_cut(&self) -> bool {
        self.was_cut.get()
    }

    /// Bytes of heads and bodies since the last call.
    pub(super) fn take_carried(&self) -> u64 {
        self.carried.take()
    }
}

/// A stream that is read within a budget.
#[derive(Debug)]
pub(super) struct BudgetedReader<S> {
    /// Its limit is set for each read. Shortening the buffer would zero it first.
    inner: Take<S>,
    budget: Rc<ReadBudget>,
    unopened: Rc<Unopened>,
    frames: Frames,
    sent: Frames,
}

impl<S: AsyncRead> BudgetedReader<S> {
    pub(super) fn new(inner: S, budget: Rc<ReadBudget>, unopened: Rc<Unopened>) -> Self {
        let (inner, sent) = (inner.take(0), Frames::default());
        Self { inner, budget, unopened, frames: Frames::after_preface(), sent }
    }
}

impl<S> BudgetedReader<S> {
    /// Records frames to the client that end a stream.
    fn record_sent(&mut self, bytes: &[u8]) {
        let unopened = &self.unopened;
        self.sent.follow(bytes, |event| match event {
            Event::Headers(stream) => unopened.answered(stream, RefusedStream::Answered),
            Event::Reset(stream, code) => unopened.answered(stream, RefusedStream::Reset(code)),
        });
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for BudgetedReader<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let left = this.budget.left.get();
        if left == 0 {
            // The task that began the turn starts the next one.
            this.budget.was_cut.set(true);
            return Poll::Pending;
        }
        let most = this.frames.left_of_body() + left.div_ceil(COST).min(READ_CHUNK);
        let before = buffer.filled().len();
        this.inner.set_limit(most as u64);
        let polled = Pin::new(&mut this.inner).poll_read(cx, buffer);
        let read = &buffer.filled()[before..];
        let unopened = &this.unopened;
        let tally = this.frames.follow(read, |event| {
            if let Event::Headers(stream) = event {
                unopened.began(stream);
            }
        });
        let cost = tally.of_bodies + (read.len() - tally.of_bodies) * COST;
        this.budget.left.set(left.saturating_sub(cost));
        this.budget
            .carried
            .set(this.budget.carried.get() + (tally.of_bodies + tally.of_heads) as u64);
        polled
    }
}

/// The position in the client's frames (RFC 9113 section 4.1).
#[derive(Debug)]
struct Frames {
    /// Bytes left of the preface, or of the current frame's payload.
    left: usize,
    payload: Payload,
    /// Bytes of the next frame's head.
    head: [u8; HEAD],
    known: usize,
    /// The received part of a RST_STREAM's error code.
    code: u32,
}

/// Length, type, flags and stream id of a frame, in bytes.
const HEAD: usize = 9;

/// The kind of a frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Payload {
    Body,
    Head,
    Reset,
    Other,
}

/// A frame of a stream, found while following.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// HEADERS of this stream begin.
    Headers(u32),
    /// RST_STREAM of this stream, with its error code.
    Reset(u32, u32),
}

/// Bytes of payload, by kind.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    of_bodies: usize,
    of_heads: usize,
}

impl Default for Frames {
    /// The position before a frame.
    fn default() -> Self {
        Self { left: 0, payload: Payload::Other, head: [0; HEAD], known: 0, code: 0 }
    }
}

/// RFC 9113 section 3.4.
const PREFACE: usize = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

impl Frames {
    /// The position before the preface. The library refuses anything else.
    fn after_preface() -> Self {
        Self { left: PREFACE, ..Self::default() }
    }

    fn left_of_body(&self) -> usize {
        if self.payload == Payload::Body { self.left } else { 0 }
    }

    /// The stream id of the frame whose head is known; the first bit is reserved.
    fn stream(&self) -> u32 {
        let [.., a, b, c, d] = self.head;
        u32::from_be_bytes([a, b, c, d]) & (u32::MAX >> 1)
    }

    fn follow(&mut self, mut bytes: &[u8], mut on_event: impl FnMut(Event)) -> Tally {
        let mut tally = Tally::default();
        while !bytes.is_empty() {
            if self.left > 0 {
                let count = self.left.min(bytes.len());
                match self.payload {
                    Payload::Body => tally.of_bodies += count,
                    Payload::Head => tally.of_heads += count,
                    Payload::Reset => {
                        let code = bytes[..count].iter().copied().map(u32::from);
                        self.code = code.fold(self.code, |code, byte| code << 8 | byte);
                        if self.left == count {
                            on_event(Event::Reset(self.stream(), self.code));
                        }
                    }
                    Payload::Other => {}
                }
                self.left -= count;
                bytes = &bytes[count..];
                continue;
            }
            let count = (HEAD - self.known).min(bytes.len());
            self.head[self.known..self.known + count].copy_from_slice(&bytes[..count]);
            self.known += count;
            bytes = &bytes[count..];
            if self.known == HEAD {
                let [high, middle, low, kind, ..] = self.head;
                self.left = u32::from_be_bytes([0, high, middle, low]) as usize;
                self.payload = match kind {
                    DATA => Payload::Body,
                    HEADERS | CONTINUATION => Payload::Head,
                    RST_STREAM => Payload::Reset,
                    _ => Payload::Other,
                };
                self.known = 0;
                self.code = 0;
                if kind == HEADERS {
                    on_event(Event::Headers(self.stream()));
                }
            }
        }
        tally
    }
}

/// Frame types (RFC 9113 section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for BudgetedReader<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(self.inner.get_mut()).poll_write(cx, bytes))?;
        self.record_sent(&bytes[..sent]);
        Poll::Ready(Ok(sent))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(self.inner.get_mut()).poll_write_vectored(cx, slices))?;
        let mut left = sent;
        for slice in slices {
            let count = slice.len().min(left);
            self.record_sent(&slice[..count]);
            left -= count;
        }
        Poll::Ready(Ok(sent))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.inner.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.inner.get_mut()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let length = u32::try_from(length).unwrap();
        let [_, high, middle, low] = length.to_be_bytes();
        let mut bytes = vec![high, middle, low, kind, 0, 0, 0, 0, 1];
        bytes.resize(HEAD + length as usize, kind);
        bytes
    }

    proptest! {
        #[test]
        fn frames_are_followed_however_they_are_cut(
            frames in prop::collection::vec((0_u8..11, 0_usize..300), 0..20),
            cuts in prop::collection::vec(1_usize..100, 1..20),
        ) {
            let mut bytes = vec![0; PREFACE];
            let (mut of_bodies, mut of_heads) = (0, 0);
            let mut expected = Vec::new();
            for (kind, length) in frames {
                bytes.extend(frame(kind, length));
                match kind {
                    DATA => of_bodies += length,
                    HEADERS | CONTINUATION => of_heads += length,
                    _ => {}
                }
                match kind {
                    HEADERS => expected.push(Event::Headers(1)),
                    RST_STREAM if length >= 4 => expected.push(Event::Reset(1, 0x0303_0303)),
                    RST_STREAM if length > 0 => {
                        let code = (1 << (8 * length)) / 0xff * 3;
                        expected.push(Event::Reset(1, code));
                    }
                    _ => {}
                }
            }
            let mut events = Vec::new();
            let (mut followed, mut seen) = (Frames::after_preface(), Tally::default());
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                let tally = followed.follow(piece, |event| events.push(event));
                seen.of_bodies += tally.of_bodies;
                seen.of_heads += tally.of_heads;
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(seen, Tally { of_bodies, of_heads });
            prop_assert_eq!(followed.left, 0);
            prop_assert_eq!(events, expected);
        }
    }

    /// The bytes one turn reads of this input.
    async fn read_in_a_turn(bytes: &[u8]) -> usize {
        use tokio::io::AsyncReadExt;
        let budget = Rc::new(ReadBudget::default());
        let mut reader = BudgetedReader::new(bytes, Rc::clone(&budget), Rc::default());
        budget.begin();
        let (mut read, mut scratch) = (0, vec![0; 32 << 10]);
        while budget.left.get() > 0 {
            match reader.read(&mut scratch).await.unwrap() {
                0 => break,
                count => read += count,
            }
        }
        read
    }

    #[tokio::test]
    async fn a_turn_reads_a_large_data_frame_or_few_bytes_of_other_frames() {
        let preface = [0; PREFACE];
        let bodies = [&preface[..], &frame(DATA, 16 << 10).repeat(10)].concat();
        let pings = [&preface[..], &frame(6, 8).repeat(10_000)].concat();
        let heads = [&preface[..], &frame(HEADERS, 16 << 10).repeat(10)].concat();
        assert!((16 << 10..40 << 10).contains(&read_in_a_turn(&bodies).await));
        for small in [pings, heads] {
            assert!((READ_CHUNK..=2 * READ_CHUNK).contains(&read_in_a_turn(&small).await));
        }
    }
}
