//! HTTP/2 connections to targets (RFC 9113): one carries the exchanges of many clients, each on a
//! stream of its own.

pub mod connections;
mod first_byte_flag;
mod keepalive;
mod send;
pub mod stream;

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

/// Streams on one connection, whatever the target allows: as many as ALB gives its clients (AWS,
/// "Listeners for your Application Load Balancers").
const MAX_STREAMS: usize = 128;
/// What a target may send on one stream beyond what its client took; so much a client that takes
/// nothing can make us hold, as with HTTP/1.1.
const STREAM_WINDOW: u32 = 256 * 1_024;
/// All streams' windows together: clients that stall must not hold up those who read.
const CONNECTION_WINDOW: u32 = MAX_STREAMS as u32 * STREAM_WINDOW;
/// What DATA frames that wait for their clients may cost beside what is in them: the library counts
/// small ones, of which gRPC is full, as 256 bytes, and closes the connection for more than this. It
/// is a megabyte a stream, or a window full of messages of 50 bytes: clients that stall must not take
/// the connection from those who read.
const MAX_OVERHEAD: usize = MAX_STREAMS * (1 << 20);
/// Of a request's body, what the library takes of one stream before it has gone out.
const MAX_UNSENT: usize = 128 * 1_024;
/// The bound of an answer's head and of its trailers. HTTP/2 counts 32 bytes more for each field (RFC 9113 section
/// 6.5.2), and HTTP/1.1 takes a hundred fields.
pub const MAX_HEADER_LIST: u32 = MAX_HEAD as u32 + 100 * 32;
/// Streams that clients took back and whose late frames are known for what they are. Later ones
/// are resets of the library's own, whose number it would close a connection for: any client could
/// take that from all others.
const MAX_CANCELLED: usize = 2 * MAX_STREAMS;
/// No target can allow so many streams: it stands for "it has not said how many yet".
const UNTOLD: usize = usize::MAX - 1;
/// How long a connection takes no stream after its target refused one, doubled with each further one:
/// a target on the same machine needs a millisecond or two, one that is overloaded more.
const BACKOFF: Duration = Duration::from_millis(2);
/// Up to a quarter of a second.
const MAX_BACKOFF_DOUBLINGS: u32 = 7;
/// How long a connection that has nothing left to do may take to say goodbye.
const GOAWAY_GRACE: Duration = Duration::from_secs(10);

/// A connection. Once nobody holds it and its last stream has ended, it says goodbye and closes.
pub struct Connection {
    /// `None` once it takes no more streams.
    sender: RefCell<Option<SendRequest<Bytes>>>,
    /// Streams under way, and places for those to come.
    open: Cell<usize>,
    /// Of these, places whose streams have not begun.
    promised: Cell<usize>,
    /// Whether it is one exchange's that authenticates it (RFC 4559 section 6), or was promised to
    /// one: no other stream may begin on it.
    is_private: Cell<bool>,
    /// Whether it takes no stream for a moment, for its target refused one.
    is_backing_off: Cell<bool>,
    /// Streams its target refused since it last answered one.
    refusals: Cell<u32>,
    /// Whether it has answered anything yet.
    has_answered: Cell<bool>,
    /// Whether anything came on a stream since it was last looked at.
    is_active: Cell<bool>,
    /// Since when it has no streams, as far as it was looked at.
    idle_since: Cell<Option<Instant>>,
    /// The same of a connection that has streams again, until it is looked at.
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
    /// Whether another stream may begin.
    fn has_room(&self) -> bool {
        let sender = self.sender.borrow();
        let Some(sender) = sender.as_ref() else { return false };
        let is_open = !self.is_backing_off.get() && !self.is_private.get();
        is_open && self.open.get() < sender.current_max_send_streams().min(MAX_STREAMS)
    }

    /// Takes no stream until one of those under way ends, or a moment has passed. A target that
    /// refuses a stream below its limit has not noticed yet that another has ended, as gRPC's C core
    /// has not before its write of the last frame is reported back, or it will take fewer from now on.
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

    /// Whether it takes no stream because its target refused one a moment ago.
    pub fn is_backing_off(&self) -> bool {
        self.is_backing_off.get()
    }

    /// Takes no more streams; those under way go on.
    fn retire(&self) {
        *self.sender.borrow_mut() = None;
    }

    fn is_retired(&self) -> bool {
        self.sender.borrow().is_none()
    }

    /// Whether it takes no more streams: it was retired, it is dead, or its target said so (GOAWAY).
    fn is_going_away(&self) -> bool {
        let ready = self.sender.borrow_mut().as_mut().map(|sender| {
            let mut nobody = Context::from_waker(Waker::noop());
            sender.poll_ready(&mut nobody)
        });
        // Nothing of ours is ever queued at it, so it is ready or it has failed.
        if let Some(Poll::Ready(Err(_))) = ready {
            self.retire();
        }
        self.is_retired()
    }

    /// Looks after it; whether it is to be kept. What has had no stream for `longest_idle` is not.
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
                // Fails while another is under way, which will do as well.
                let _ = pings.send_ping(h2::Ping::opaque());
                true
            }
            KeepaliveStep::GiveUp => {
                self.retire();
                // Its streams break off with it.
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

/// Dials, and waits for what the target says first: how many streams it takes. `place` is held as
/// long as the connection lives. Needs a local runtime, which drives it from then on.
///
/// # Errors
/// When the target refuses, cannot be reached, is not who it must be, does not speak HTTP/2, leaves
/// at once, or is not ready in time.
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
                // It may have said how many, and no stream can begin all the same.
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
            // What ends it reaches every stream.
            _ = &mut driver => return,
            () = is_released.notified() => {}
        }
        // Whoever does not even take a goodbye does not keep the socket.
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
    // Or whoever waits would dial again and again.
    if connection.is_going_away() { Err(left()) } else { Ok(connection) }
}

/// What an error before the first stream says: where the library objects to something, or something
/// came that was no SETTINGS (`other`), it is no HTTP/2. A target that closes or says GOAWAY may
/// speak it, and be about to stop.
fn unfit(error: h2::Error, other: bool) -> ConnectError {
    if error.is_library() || other {
        return ConnectError::NotHttp2;
    }
    error.into_io().map_or_else(left, ConnectError::Io)
}

/// As a connection that its target ends at once.
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
