//! HTTP/2 connections to targets (RFC 9113). One connection carries the exchanges of many clients,
//! each on its own stream.

pub(crate) mod connections;
mod first_byte_flag;
mod keepalive;
mod send;
pub(crate) mod stream;

use super::connect::{self, ConnectError};
use super::target_stream::TargetStream;
use super::timer;
use super::tls::{self, Connector};
use crate::http1::response::MAX_HEAD;
use bytes::Bytes;
use connections::Connections;
use first_byte_flag::FirstByteFlag;
use h2::client::{Builder, SendRequest};
use keepalive::{Keepalive, KeepaliveStep};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::task::AbortHandle;

/// Bound on the streams of one connection, even if the target allows more: the number that ALB
/// allows its clients (AWS, "Listeners for your Application Load Balancers").
const MAX_STREAMS: usize = 128;
/// Bytes a target may send on one stream before the client takes them. A client that reads nothing
/// makes us buffer at most this much, as with HTTP/1.1.
const STREAM_WINDOW: u32 = 256 * 1_024;
/// The sum of all stream windows: stalled clients must not block clients that read.
const CONNECTION_WINDOW: u32 = MAX_STREAMS as u32 * STREAM_WINDOW;
/// Bound on the overhead of small DATA frames, frequent in gRPC, that wait for their clients. For
/// each waiting frame shorter than 256 bytes the library counts the bytes missing to 256, and
/// closes the connection above this bound. 1 MiB a stream is enough for a window full of gRPC
/// messages of 50 bytes: stalled clients must not close the connection for clients that read.
const MAX_OVERHEAD: usize = MAX_STREAMS * (1 << 20);
/// Bytes of one request body that the library buffers before they are sent.
const MAX_UNSENT: usize = 128 * 1_024;
/// Bound on a response's head and on its trailers. HTTP/2 adds 32 bytes for each field (RFC 9113
/// section 6.5.2), and HTTP/1.1 takes a hundred fields.
pub(crate) const MAX_HEADER_LIST: u32 = MAX_HEAD as u32 + 100 * 32;
/// The library remembers this many streams that clients cancelled in the last second, and ignores
/// late frames on them. Late frames on others it answers with a reset. [`builder`] sets no bound on
/// these resets: the library would close the connection above it, so any client could cut off all
/// others.
const MAX_CANCELLED: usize = 2 * MAX_STREAMS;
/// A limit no target can send. It means that the target's SETTINGS have not arrived yet.
const UNTOLD: usize = usize::MAX - 1;
/// Time a connection gets no new stream after its target refused one, doubled with each further
/// refusal. A target on the same machine needs 1 to 2 ms, an overloaded one more.
const BACKOFF: Duration = Duration::from_millis(2);
/// Bound on the doublings of [`BACKOFF`]: 256 ms at most.
const MAX_BACKOFF_DOUBLINGS: u32 = 7;
/// Time an unused connection has to send GOAWAY and close.
const GOAWAY_GRACE: Duration = Duration::from_secs(10);

/// A connection. It sends GOAWAY and closes after its last handle is dropped and its last stream
/// has ended.
pub struct Connection {
    /// `None` once the connection accepts no more streams.
    sender: RefCell<Option<SendRequest<Bytes>>>,
    /// Open streams plus places for future streams.
    open: Cell<usize>,
    /// The part of `open` whose streams have not begun.
    promised: Cell<usize>,
    /// True if the connection belongs to, or is promised to, one exchange that authenticates it
    /// (RFC 4559 section 6): no other stream may begin on it.
    is_private: Cell<bool>,
    /// True for a short time after the target refused a stream; no new stream begins then.
    is_backing_off: Cell<bool>,
    /// Streams the target refused since its last response.
    refusals: Cell<u32>,
    /// True if the target has answered any request.
    has_answered: Cell<bool>,
    /// True if anything arrived on a stream since the last check.
    is_active: Cell<bool>,
    /// The start of the time without streams, as of the last check.
    idle_since: Cell<Option<Instant>>,
    /// `idle_since` of a connection that has streams again, until the next check.
    resumed: Cell<Option<Instant>>,
    keepalive: RefCell<(Keepalive, Option<h2::PingPong>)>,
    released: Rc<Notify>,
    driver: AbortHandle,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("open", &self.open).finish_non_exhaustive()
    }
}

impl Connection {
    /// Returns true if another stream may begin.
    fn has_room(&self) -> bool {
        let sender = self.sender.borrow();
        let Some(sender) = sender.as_ref() else { return false };
        let is_open = !self.is_backing_off.get() && !self.is_private.get();
        is_open && self.open.get() < sender.current_max_send_streams().min(MAX_STREAMS)
    }

    /// Begins no stream until an open one ends or the back-off is over. A target that refuses a
    /// stream below its limit has not yet noticed that another has ended (gRPC's C core notices
    /// when the write of the last frame completes), or will allow fewer from now on.
    fn back_off(self: &Rc<Self>, owner: &Weak<Connections>) {
        let refusals = self.refusals.get();
        self.refusals.set(refusals + 1);
        if self.is_backing_off.replace(true) {
            return;
        }
        let moment = BACKOFF * 2_u32.pow(refusals.min(MAX_BACKOFF_DOUBLINGS));
        let (this, owner) = (Rc::downgrade(self), Weak::clone(owner));
        tokio::task::spawn_local(async move {
            timer::sleep(moment).await;
            if let Some(this) = this.upgrade() {
                this.is_backing_off.set(false);
            }
            if let Some(owner) = owner.upgrade() {
                owner.serve();
            }
        });
    }

    /// Returns true if no stream may begin because the target refused one a moment ago.
    pub fn is_backing_off(&self) -> bool {
        self.is_backing_off.get()
    }

    /// Accepts no more streams; open ones continue.
    fn retire(&self) {
        *self.sender.borrow_mut() = None;
    }

    fn is_retired(&self) -> bool {
        self.sender.borrow().is_none()
    }

    /// Returns true if the connection accepts no more streams: it was retired, is dead, or got
    /// GOAWAY.
    fn is_going_away(&self) -> bool {
        let ready = self.sender.borrow_mut().as_mut().map(|sender| {
            let mut context = Context::from_waker(Waker::noop());
            sender.poll_ready(&mut context)
        });
        // The sender never has a queued request of ours, so it is ready or it has failed.
        if let Some(Poll::Ready(Err(_))) = ready {
            self.retire();
        }
        self.is_retired()
    }

    /// Sends due PINGs and returns true if the connection is to be kept. A connection without
    /// streams for `longest_idle` is not.
    fn maintain(&self, now: Instant, longest_idle: Duration) -> bool {
        if self.driver.is_finished() {
            self.retire();
            return false;
        }
        let going_away = self.is_going_away();
        if self.open.get() == 0 {
            let since = self.idle_since.get().unwrap_or(now);
            self.idle_since.set(Some(since));
            self.resumed.set(None);
            return !going_away && now.saturating_duration_since(since) < longest_idle;
        }
        let (keepalive, pings) = &mut *self.keepalive.borrow_mut();
        let Some(pings) = pings else { return true };
        let answered = pings.poll_pong(&mut Context::from_waker(Waker::noop())).is_ready();
        if let Some(idle_since) = self.resumed.take() {
            keepalive.resume(now, now.saturating_duration_since(idle_since));
        }
        match keepalive.step(now, self.is_active.replace(false), answered) {
            KeepaliveStep::Nothing => true,
            KeepaliveStep::Ask => {
                // Fails while another PING is in flight, which serves the same purpose.
                let _ = pings.send_ping(h2::Ping::opaque());
                true
            }
            KeepaliveStep::GiveUp => {
                self.retire();
                // The streams of the connection break off with it.
                self.driver.abort();
                false
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.released.notify_one();
    }
}

/// Dials, and waits for the target's SETTINGS, which hold the stream limit. `place` is held for the
/// life of the connection. Needs a local runtime, which drives the connection from then on.
///
/// # Errors
/// If the target refuses, cannot be reached, fails verification, does not speak HTTP/2, sends
/// GOAWAY at once, or is not ready in time.
async fn dial(
    address: SocketAddr,
    timeout: Duration,
    place: Option<OwnedSemaphorePermit>,
    tls: Option<&Connector>,
    began: Instant,
) -> Result<Rc<Connection>, ConnectError> {
    let ready = async {
        let stream = connect::open(address, tls, None).await?;
        if let TargetStream::Tls(stream) = &stream
            && !tls::agreed_on_http2(stream)
        {
            return Err(ConnectError::NotHttp2);
        }
        let spoke = Rc::new(Cell::new(false));
        let stream = FirstByteFlag::new(stream, Rc::clone(&spoke));
        let handshake = builder().handshake(stream).await;
        let (sender, mut driver) = handshake.map_err(|error| unfit(error, false))?;
        poll_fn(|cx| {
            let ended = Pin::new(&mut driver).poll(cx);
            let settings = driver.max_concurrent_send_streams();
            match ended {
                // The SETTINGS may have arrived although no stream can begin.
                Poll::Ready(Ok(())) => Poll::Ready(Err(left())),
                Poll::Ready(Err(error)) => {
                    let other = spoke.get() && settings == UNTOLD;
                    Poll::Ready(Err(unfit(error, other)))
                }
                Poll::Pending if settings == UNTOLD => Poll::Pending,
                Poll::Pending => Poll::Ready(Ok(())),
            }
        })
        .await?;
        Ok((sender, driver))
    };
    let (sender, mut driver) =
        timer::timeout(timeout, ready).await.map_err(|_| ConnectError::Timeout)??;
    let pings = driver.ping_pong();
    let released = Rc::new(Notify::new());
    let is_released = Rc::clone(&released);
    let drive = async move {
        let _place = place;
        tokio::select! {
            // Every stream gets the error that ends the driver.
            _ = &mut driver => return,
            () = is_released.notified() => {}
        }
        // A target that does not even read GOAWAY must not keep the socket.
        let _ = timer::timeout(GOAWAY_GRACE, driver).await;
    };
    let connection = Rc::new(Connection {
        sender: RefCell::new(Some(sender)),
        open: Cell::new(0),
        promised: Cell::new(0),
        is_private: Cell::new(false),
        is_backing_off: Cell::new(false),
        refusals: Cell::new(0),
        has_answered: Cell::new(false),
        is_active: Cell::new(false),
        idle_since: Cell::new(None),
        resumed: Cell::new(None),
        keepalive: RefCell::new((Keepalive::new(began), pings)),
        released,
        driver: tokio::task::spawn_local(drive).abort_handle(),
    });
    // A connection that is already going away serves no waiting request. Returned as a success, it
    // would make them dial again at once, endlessly.
    if connection.is_going_away() { Err(left()) } else { Ok(connection) }
}

/// Converts an error before the first stream. If the library rejects a frame, or bytes other than
/// SETTINGS arrived (`other`), the target does not speak HTTP/2. A target that closes or sends
/// GOAWAY may speak it and be about to stop.
fn unfit(error: h2::Error, other: bool) -> ConnectError {
    if error.is_library() || other {
        return ConnectError::NotHttp2;
    }
    error.into_io().map_or_else(left, ConnectError::Io)
}

/// The error of a connection that the target ends at once.
fn left() -> ConnectError {
    ConnectError::Io(io::ErrorKind::ConnectionReset.into())
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(MAX_UNSENT)
        .max_header_list_size(MAX_HEADER_LIST)
        .data_frame_budget(MAX_OVERHEAD)
        .initial_max_send_streams(UNTOLD)
        .max_concurrent_reset_streams(MAX_CANCELLED)
        .max_local_error_reset_streams(None)
        .enable_push(false);
    builder
}

#[cfg(test)]
mod tests;
