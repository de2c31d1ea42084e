//! One HTTP/2 client connection: a loop of turns. Each turn checks the deadline, sends GOAWAY if
//! due, accepts streams, checks for floods, throttles reading, and records the connection's state.
//! Each stream is served in a task of its own.

use super::http2_stream::{self, Opened};
use crate::base::clock::Moment;
use crate::config::settings::Limits;
use crate::http1::request::BadHead;
use crate::net::stream::{CountedStream, Reclaimed, Stream};
use crate::net::timer::{self, Sleep};
use crate::policy::flood_guard::{Next, ReadTurn};
use crate::policy::headers::http2::fill;
use crate::proxy::conn::{Conn, ConnState};
use crate::proxy::deadline::{Deadline, Expires, race};
use crate::proxy::exchange::Exchange;
use crate::proxy::expiry::Expiry;
use crate::proxy::failure::Failure;
use crate::proxy::h2_slot::ConnShared;
use crate::proxy::h2_unopened::{RefusedStream, Unopened};
use crate::proxy::read_budget::{BudgetedReader, ReadBudget};
use crate::proxy::send_budget::BudgetedBuf;
use crate::proxy::worker_ctx::WorkerCtx;
use h2::ext::Protocol;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{Request, Version};
use std::future::{Future, poll_fn};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Bytes clients may send before a target takes them, for one stream and for the connection. The
/// library bounds small DATA frames by half of the connection's window.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Bytes of one response that the library may hold for a client that reads nothing.
const MAX_QUEUED_PER_STREAM: usize = 64 << 10;
/// Bytes that a field costs in SETTINGS_MAX_HEADER_LIST_SIZE in addition to its name and value (RFC
/// 9113 section 6.5.2).
const FIELD_OVERHEAD: u32 = 32;
/// Divisor for the margin above the head limits: the library accepts heads up to half as large
/// again, which get a page and a log entry with the target. For larger heads the library drops
/// fields and answers 431 without a body; it accepts as many CONTINUATION frames as those heads
/// could need, seven by default.
const HEAD_MARGIN_DIVISOR: u32 = 2;
/// Bound on the streams that their client reset before they were served. Each costs work in the
/// library alone; the flood guard bounds the rest.
const MAX_UNSERVED_RESETS: usize = 20;
/// Bound on the streams that the library reset because of client errors (CVE-2025-8671).
const MAX_ERRONEOUS: usize = 100;
/// Bound on the streams reset here within a second on which frames may still arrive. Frames on
/// other reset streams count as client errors.
const MAX_CLOSED: usize = 256;
/// Requests after which a connection gets GOAWAY (ALB: 10,000).
const MAX_REQUESTS: u32 = 10_000;
/// Time a client has to read GOAWAY before new streams are refused, and time the last frames have
/// to be sent.
const GOAWAY_GRACE: Duration = Duration::from_secs(1);

/// The library's connection type.
type H2Connection = Connection<BudgetedReader<CountedStream>, BudgetedBuf>;

/// Serves an HTTP/2 connection to its end, from its preface, of which `first` was read. Returns the
/// stream.
pub(super) async fn serve(
    worker: &Rc<WorkerCtx>,
    conn: &Rc<Conn>,
    stream: Stream,
    first: Vec<u8>,
    limits: &Limits,
) -> Option<Stream> {
    let reclaimed = Reclaimed::default();
    let stream = CountedStream::new(stream, first, Rc::clone(&conn.io), Rc::clone(&reclaimed));
    let budget = Rc::new(ReadBudget::default());
    let unopened = Rc::new(Unopened::default());
    let reader = BudgetedReader::new(stream, Rc::clone(&budget), Rc::clone(&unopened));
    if let Some(connection) = handshake(conn, reader, &budget, limits).await {
        conn.enter(ConnState::NoStream, worker.now().monotonic);
        let mut server = ServerConn {
            shared: Rc::new(ConnShared::new(worker, conn, limits)),
            connection,
            budget,
            unopened,
            requests: 0,
            goaway_sent: None,
            written: conn.io.written(),
            pause: None,
        };
        let end = poll_fn(|cx| match server.turn(cx) {
            ControlFlow::Continue(()) => Poll::Pending,
            ControlFlow::Break(end) => Poll::Ready(end),
        })
        .await;
        server.finish(end).await;
    }
    reclaimed.take()
}

/// Waits for the client's preface and SETTINGS; `None` if the time-out passed or they are invalid.
async fn handshake(
    conn: &Conn,
    reader: BudgetedReader<CountedStream>,
    budget: &ReadBudget,
    limits: &Limits,
) -> Option<H2Connection> {
    let mut handshake = Box::pin(builder(limits).handshake::<_, BudgetedBuf>(reader));
    let handshake = poll_fn(|cx| {
        budget.begin();
        let polled = handshake.as_mut().poll(cx);
        budget.wake_if_cut(cx);
        polled
    });
    race(conn, handshake).await.ok()?.ok()
}

fn builder(limits: &Limits) -> Builder {
    let clamped = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let fields = clamped(limits.headers).saturating_mul(FIELD_OVERHEAD);
    let list = clamped(limits.header_bytes).saturating_add(fields);
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits.streams)
        // Our own bound is smaller, and its 431 has a page; above this one the library answers.
        .max_header_list_size(list.saturating_add(list / HEAD_MARGIN_DIVISOR))
        .max_send_buffer_size(MAX_QUEUED_PER_STREAM)
        .max_pending_accept_reset_streams(MAX_UNSERVED_RESETS)
        .max_local_error_reset_streams(Some(MAX_ERRONEOUS))
        .max_concurrent_reset_streams(MAX_CLOSED)
        .enable_connect_protocol();
    builder
}

/// The cause of a connection's end.
enum ConnEnd {
    /// The client closed it, or the library did because of the client's frames and has sent GOAWAY.
    Done(Option<h2::Error>),
    /// The client left after our GOAWAY.
    Left,
    Expired(Expiry),
    Abused,
}

/// A connection after its preface.
struct ServerConn {
    shared: Rc<ConnShared>,
    connection: H2Connection,
    budget: Rc<ReadBudget>,
    unopened: Rc<Unopened>,
    requests: u32,
    goaway_sent: Option<Instant>,
    /// Bytes sent by the end of the previous turn.
    written: u64,
    /// Nothing is read until this timer ends.
    pause: Option<Pin<Box<Sleep>>>,
}

impl ServerConn {
    /// Runs one turn: the steps in their order.
    fn turn(&mut self, cx: &mut Context<'_>) -> ControlFlow<ConnEnd> {
        self.shared.conn.waker().remember(cx.waker());
        let began = self.begin_reading(cx);
        self.check_deadline()?;
        self.send_goaway_if_due();
        let accepted = self.accept(cx);
        self.log_unopened();
        accepted?;
        let carried = self.judge_flood()?;
        self.throttle(carried, began, cx)?;
        self.shared.record_state(&mut self.written);
        ControlFlow::Continue(())
    }

    /// Sets the read budget of the turn: zero while reading is paused. Returns the turn's start
    /// time if its CPU time counts.
    fn begin_reading(&mut self, cx: &mut Context<'_>) -> Option<Instant> {
        if !self.is_pause_over(cx) {
            self.budget.pause();
            return None;
        }
        let guard = self.shared.flood_guard.borrow();
        if guard.after_pause() == Next::ReadShort {
            self.budget.begin_short();
        } else {
            self.budget.begin();
        }
        guard.is_throttled().then(|| Moment::now().monotonic)
    }

    fn check_deadline(&self) -> ControlFlow<ConnEnd> {
        match self.shared.conn.expiry() {
            Some(expiry) => ControlFlow::Break(ConnEnd::Expired(expiry)),
            None => ControlFlow::Continue(()),
        }
    }

    /// Sends GOAWAY once if the process drains, or if this connection has reached its age or number
    /// of requests.
    fn send_goaway_if_due(&mut self) {
        let ConnShared { worker, conn, .. } = &*self.shared;
        let is_due =
            self.requests >= MAX_REQUESTS || worker.draining.get() || conn.is_old(worker.now());
        if is_due && self.goaway_sent.is_none() {
            self.goaway_sent = Some(worker.now().monotonic);
            conn.record_goaway();
            self.connection.graceful_shutdown();
        }
    }

    /// Returns true if the client had its time to read GOAWAY. The library waits for the confirming
    /// PING without a bound.
    fn is_goaway_read(&self) -> bool {
        let now = self.shared.worker.now().monotonic;
        let elapsed = |sent| now.saturating_duration_since(sent);
        self.goaway_sent.is_some_and(|sent| elapsed(sent) >= GOAWAY_GRACE)
    }

    /// Drives the library, and serves or refuses the streams that the client opened.
    fn accept(&mut self, cx: &mut Context<'_>) -> ControlFlow<ConnEnd> {
        let takes_no_more = self.is_goaway_read();
        loop {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.unopened.accepted(respond.stream_id().as_u32());
                    if takes_no_more {
                        self.refuse(respond);
                    } else {
                        self.requests += 1;
                        self.open(request, respond);
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    return ControlFlow::Break(ConnEnd::Done(Some(error)));
                }
                Poll::Ready(None) => return ControlFlow::Break(ConnEnd::Done(None)),
                Poll::Pending => break,
            }
        }
        let has_streams = self.shared.conn.open_exchanges() > 0 || self.connection.has_streams();
        if takes_no_more && !has_streams {
            return ControlFlow::Break(ConnEnd::Left);
        }
        ControlFlow::Continue(())
    }

    /// Serves a stream, or refuses it unprocessed, so that the client can safely send it again (RFC
    /// 9113 section 8.7).
    fn open(&self, request: Request<RecvStream>, respond: SendResponse<BudgetedBuf>) {
        let worker = &self.shared.worker;
        if self.shared.is_full() {
            return self.refuse(respond);
        }
        let mut head = worker.take_request();
        // A head taken from the worker has no other holder.
        let measured = fill(Rc::make_mut(&mut head), &request);
        let Some(slot) = self.shared.slot(&measured) else {
            worker.give_back_request(&mut head);
            return self.refuse(respond);
        };
        let opens_websocket = opens_websocket(&request);
        let body = request.into_body();
        let opened = Opened { slot, head, measured, opens_websocket, body, respond };
        tokio::task::spawn_local(Rc::clone(worker).turns(http2_stream::serve(opened)));
    }

    fn refuse(&self, mut respond: SendResponse<BudgetedBuf>) {
        respond.send_reset(Reason::REFUSED_STREAM);
        self.shared.worker.counters.refused_streams.add_one();
        self.shared.record_reset();
    }

    /// Writes access records of the requests that the library refused itself. Nothing of their
    /// heads is known.
    fn log_unopened(&self) {
        let ConnShared { worker, conn, .. } = &*self.shared;
        for refused in self.unopened.take_refused() {
            let bad = match refused {
                RefusedStream::Answered => BadHead::TooLarge,
                RefusedStream::Reset(code) => match Reason::from(code) {
                    Reason::PROTOCOL_ERROR => BadHead::Malformed,
                    Reason::REFUSED_STREAM => {
                        worker.counters.refused_streams.add_one();
                        continue;
                    }
                    _ => continue,
                },
            };
            worker.counters.unparsable.add_one();
            let deadline = Rc::new(Deadline::new(Rc::default(), worker.now().monotonic));
            let mut head = worker.take_request();
            // A head taken from the worker has no other holder.
            Rc::make_mut(&mut head).version = Version::HTTP_2;
            let mut exchange = Exchange::begin(worker, conn, &deadline, head);
            exchange.log_mut().is_unread = true;
            exchange.fail(&Failure::Unread(bad));
        }
    }

    /// Ends the connection of a client with too much traffic without payload. Returns the payload
    /// bytes read in the turn.
    fn judge_flood(&self) -> ControlFlow<ConnEnd, u64> {
        let carried = self.budget.take_carried();
        let mut guard = self.shared.flood_guard.borrow_mut();
        guard.record_payload(carried);
        if guard.is_abusive(self.total(), self.shared.worker.now().monotonic) {
            return ControlFlow::Break(ConnEnd::Abused);
        }
        ControlFlow::Continue(carried)
    }

    /// Continues reading, or begins a pause. `began` is the turn's start time if its CPU time
    /// counts.
    fn throttle(
        &mut self,
        carried: u64,
        began: Option<Instant>,
        cx: &mut Context<'_>,
    ) -> ControlFlow<ConnEnd> {
        if self.pause.is_some() {
            return ControlFlow::Continue(());
        }
        let elapsed = |began| Moment::now().monotonic.saturating_duration_since(began);
        let work = began.map_or(Duration::ZERO, elapsed);
        let turn = ReadTurn { carried, was_cut: self.budget.was_cut(), work };
        let now = self.shared.worker.now().monotonic;
        let next = self.shared.flood_guard.borrow_mut().after_turn(self.total(), turn, now);
        match next {
            Next::Read | Next::ReadShort => self.budget.wake_if_cut(cx),
            Next::Pause(time) => self.begin_pause(time, cx),
            Next::Close => return ControlFlow::Break(ConnEnd::Abused),
        }
        ControlFlow::Continue(())
    }

    fn begin_pause(&mut self, time: Duration, cx: &mut Context<'_>) {
        self.pause = Some(Box::pin(timer::sleep(time)));
        // The timer starts with its first poll.
        self.is_pause_over(cx);
    }

    fn is_pause_over(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(pause) = &mut self.pause
            && pause.as_mut().poll(cx).is_pending()
        {
            return false;
        }
        self.pause = None;
        true
    }

    /// All bytes read and written on the connection.
    fn total(&self) -> u64 {
        self.shared.conn.io.read() + self.shared.conn.io.written()
    }

    /// Counts the end, and sends the final GOAWAY.
    async fn finish(self, end: ConnEnd) {
        let ConnShared { worker, conn, .. } = &*self.shared;
        match end {
            ConnEnd::Done(Some(error)) if error.is_library() => self.log_protocol_error(&error),
            ConnEnd::Done(_) => {}
            ConnEnd::Abused => {
                worker.counters.abusive.add_one();
                tracing::debug!(peer = %conn.info.peer, "HTTP/2 flood: connection closed");
                conn.record_abuse();
                send_goaway(self.connection, Reason::ENHANCE_YOUR_CALM, &self.budget).await;
            }
            ConnEnd::Left | ConnEnd::Expired(Expiry::Silent) => {
                send_goaway(self.connection, Reason::NO_ERROR, &self.budget).await;
            }
            ConnEnd::Expired(_) => {}
        }
    }

    /// Counts and logs the error for which the library ended the connection.
    fn log_protocol_error(&self, error: &h2::Error) {
        let ConnShared { worker, conn, .. } = &*self.shared;
        match error.reason() {
            Some(Reason::ENHANCE_YOUR_CALM) => worker.counters.abusive.add_one(),
            _ => worker.counters.unparsable.add_one(),
        }
        tracing::debug!(peer = %conn.info.peer, %error, "HTTP/2 protocol error");
    }
}

/// Returns true if the request opens a WebSocket with an extended CONNECT (RFC 8441 section 4).
/// Without its `:protocol`, it is refused as a CONNECT.
fn opens_websocket(request: &Request<RecvStream>) -> bool {
    let protocol = request.extensions().get::<Protocol>();
    protocol.is_some_and(|protocol| protocol.as_str() == "websocket")
}

/// Sends the last GOAWAY if the client reads it within the time-out.
async fn send_goaway(mut connection: H2Connection, reason: Reason, budget: &ReadBudget) {
    connection.abrupt_shutdown(reason);
    let closed = poll_fn(|cx| {
        budget.begin();
        let polled = connection.poll_closed(cx);
        budget.wake_if_cut(cx);
        polled
    });
    // A client that reads nothing is not awaited.
    let _ = timer::timeout(GOAWAY_GRACE, closed).await;
}
