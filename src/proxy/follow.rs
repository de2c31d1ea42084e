//! A WebSocket that follows its client's pin (`tunnels_follow`): after the client has moved to
//! another target, both ends get a close frame between two frames, and the tunnel ends. The client
//! connects again, and reaches the target that now has its session.

use super::deadline::{Deadline, Expires};
use super::exchange::Exchange;
use super::expiry::Expiry;
use super::live_view::LiveView;
use super::worker_ctx::WorkerCtx;
use crate::decide::tunnel;
use crate::model::snapshot::Snapshot;
use crate::net::timer::{self, interval, sleep};
use crate::observe::error_reason::ErrorReason;
use crate::policy::affinity::token::Seed;
use crate::policy::websocket::{Frames, clients_close, servers_close};
use bytes::{Buf, Bytes};
use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, copy_bidirectional};

/// Interval of the checks for a move of the client.
const LOOK: Duration = Duration::from_millis(500);
/// Time both ends have for the frames that have begun, the close frame, and closing; then the
/// tunnel is cut.
const CLOSING: Duration = Duration::from_secs(5);

/// The client and pin that a tunnel follows.
pub(super) struct Followed {
    worker: Rc<WorkerCtx>,
    group: Box<str>,
    target: Box<str>,
    seed: Seed,
    opened: Instant,
}

impl Followed {
    /// For a tunnel that was just opened; `None` if its group does not use `tunnels_follow`.
    pub(super) fn by(exchange: &mut Exchange) -> Option<Self> {
        let snapshot = Rc::clone(&exchange.snapshot);
        let placement = exchange.log().placement.as_ref()?;
        let group = &snapshot.groups[placement.group];
        if !group.settings.tunnels_follow {
            return None;
        }
        let (target, known) = (&group.targets[placement.target?], placement.claim.seed());
        // A client without a token got one with this seed in the tunnel's own response.
        let seed = known.unwrap_or_else(|| exchange.fresh_seed());
        Some(Self {
            worker: Rc::clone(&exchange.worker),
            group: group.name().into(),
            target: target.id.as_str().into(),
            seed,
            opened: exchange.worker.now().monotonic,
        })
    }

    fn has_moved(&self) -> bool {
        let snapshot = self.worker.snapshot();
        let live = &LiveView::FOR_ANYONE;
        tunnel::moved(&self.group, &self.target, self.seed, &snapshot, live).is_some()
            || self.was_spilled_away(&snapshot)
    }

    /// Returns true if a spilled request of the client has moved its pin to another target since.
    fn was_spilled_away(&self, snapshot: &Snapshot) -> bool {
        let group = snapshot.group_named(&self.group).map(|at| &snapshot.groups[at]);
        let mut others = group
            .into_iter()
            .flat_map(|group| &group.targets)
            .filter(|target| target.id.as_str() != &*self.target);
        others.any(|target| target.state.took_spill_after(self.seed, self.opened))
    }
}

/// Carries bytes both ways until one end closes, the deadline expires, or the client has moved.
/// Returns the reason for the access log if the tunnel did not end by itself.
pub(super) async fn carry(
    client: impl AsyncRead + AsyncWrite + Unpin,
    target: impl AsyncRead + AsyncWrite + Unpin,
    first_bytes: Bytes,
    deadline: &Deadline,
    followed: Followed,
) -> Option<ErrorReason> {
    let moved = Rc::new(Cell::new(false));
    let mask = (followed.worker.random() as u32).to_ne_bytes();
    let mut client = Framed::new(client, Bytes::new(), &moved, &clients_close(mask));
    let mut target = Framed::new(target, first_bytes, &moved, &servers_close());
    let ended = {
        // The target's bytes go first, so that a lost target does not keep its client from getting
        // the close frame.
        let mut copied = pin!(copy_bidirectional(&mut target, &mut client));
        let mut look = interval(LOOK);
        let mut over = pin!(sleep(Duration::ZERO));
        loop {
            let expired = poll_fn(|cx| {
                deadline.waker().remember(cx.waker());
                match deadline.expiry() {
                    // The target left the group, which moves its clients.
                    None => Poll::Pending,
                    Some(_) if moved.get() => Poll::Pending,
                    Some(expiry) => Poll::Ready(expiry),
                }
            });
            let has_moved = tokio::select! {
                copied = &mut copied => break copied.map(drop),
                () = &mut over, if moved.get() => return Some(ErrorReason::PinMoved),
                expiry = expired => match expiry {
                    Expiry::Deregistered => true,
                    _ => return Some(expiry.reason()),
                },
                _ = look.tick(), if !moved.get() => followed.has_moved(),
            };
            if has_moved {
                moved.set(true);
                over.set(sleep(CLOSING));
            }
        }
    };
    if moved.get() {
        // Closing with unread bytes would reset the connection and lose the last bytes sent.
        let rest = async { tokio::join!(read_out(&mut client.end), read_out(&mut target.end)) };
        let _ = timer::timeout(CLOSING, rest).await;
        return Some(ErrorReason::PinMoved);
    }
    match ended {
        // Browsers end a WebSocket in its own words, and then close without those of TLS.
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => Some(ErrorReason::TunnelBrokeOff),
        _ => None,
    }
}

/// Reads and drops bytes until the end.
async fn read_out(end: &mut (impl AsyncRead + Unpin)) {
    let mut scratch = [0; 1_024];
    while let Ok(1..) = end.read(&mut scratch).await {}
}

/// One end of a tunnel, with the frame boundaries of its output. After the client has moved, it
/// yields the rest of the current frame, then the close frame, then the end.
struct Framed<S> {
    end: S,
    /// Received before the tunnel began, and not read yet.
    first: Bytes,
    frames: Frames,
    moved: Rc<Cell<bool>>,
    farewell: Bytes,
}

impl<S: AsyncRead + Unpin> Framed<S> {
    fn new(end: S, first: Bytes, moved: &Rc<Cell<bool>>, farewell: &[u8]) -> Self {
        let (moved, farewell) = (Rc::clone(moved), Bytes::copy_from_slice(farewell));
        Self { end, first, frames: Frames::default(), moved, farewell }
    }

    /// Reads the end's output into this buffer, filling all or a part of it.
    fn poll_end(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.first.is_empty() {
            ready!(Pin::new(&mut self.end).poll_read(cx, buffer))?;
        } else {
            let count = self.first.len().min(buffer.remaining());
            buffer.put_slice(&self.first[..count]);
            self.first.advance(count);
        }
        self.frames.pass(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Framed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // An end that has sent its own close frame may send nothing after it.
        if !this.moved.get() || this.frames.has_closed() && !this.farewell.is_empty() {
            return this.poll_end(cx, buffer);
        }
        let missing = usize::try_from(this.frames.missing()).unwrap_or(usize::MAX);
        if missing > 0 {
            let mut scratch = [0; 4_096];
            let most = missing.min(scratch.len()).min(buffer.remaining());
            let mut rest = ReadBuf::new(&mut scratch[..most]);
            ready!(this.poll_end(cx, &mut rest))?;
            buffer.put_slice(rest.filled());
            return Poll::Ready(Ok(()));
        }
        let count = this.farewell.len().min(buffer.remaining());
        buffer.put_slice(&this.farewell[..count]);
        this.farewell.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Framed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.end).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.end).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.end).poll_shutdown(cx)
    }
}
