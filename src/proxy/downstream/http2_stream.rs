//! One stream: its request in, its response out. A deadline is checked around both, because a
//! response body whose client reads nothing is never polled and so could not check it.

use crate::http1;
use crate::http1::name::Name;
use crate::http1::response::{self, is_bodiless};
use crate::net::timer;
use crate::observe::error_reason::ErrorReason;
use crate::policy::headers::head::RejectReason;
use crate::policy::headers::http2;
use crate::proxy::answer::{Answer, Rest};
use crate::proxy::deadline::{Deadline, Expires, race};
use crate::proxy::exchange::Exchange;
use crate::proxy::expiry::Expiry;
use crate::proxy::failure::Failure;
use crate::proxy::h2_slot::StreamSlot;
use crate::proxy::h2_tunnel::StreamTunnel;
use crate::proxy::handle::{self, handle};
use crate::proxy::interim::InterimQueue;
use crate::proxy::local_response;
use crate::proxy::recv_body::ClientBody;
use crate::proxy::response_body::ResponseBody;
use crate::proxy::send_budget::{BudgetedBuf, Pieces, SendBudget, poll_room};
use crate::proxy::stream_body::{BodyHandle, StreamBody, poll_data};
use crate::proxy::tunnel::{self, Upgrade};
use crate::proxy::worker_ctx::WorkerCtx;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Response, StatusCode};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Bytes sent that count as progress of the client. Fewer could be sent one at a time without end
/// (a window update may be for a single byte, CVE-2019-9517).
const MIN_PROGRESS: usize = 1_024;
/// Window requested for one piece, in bytes.
const MAX_CLAIM: usize = 64 << 10;

/// The end of a stream.
enum StreamEnd {
    /// The whole response was handed over.
    Whole,
    /// The client reset the stream, or is gone.
    TakenBack,
    /// We reset the stream, with this reason.
    Reset(Reason),
    /// Half a response was ended by trailers with an error status.
    CalledOff,
}

/// A stream that was accepted.
pub(super) struct Opened {
    pub(super) slot: StreamSlot,
    pub(super) head: Rc<http1::request::Request>,
    pub(super) measured: http2::Measured,
    pub(super) opens_websocket: bool,
    pub(super) body: RecvStream,
    pub(super) respond: SendResponse<BudgetedBuf>,
}

/// Serves one stream.
pub(super) async fn serve(opened: Opened) {
    let Opened { slot, mut head, measured, opens_websocket, body, mut respond } = opened;
    let worker = Rc::clone(&slot.shared.worker);
    let deadline = Rc::clone(&slot.deadline);
    let limits = &slot.shared.limits;
    let refusal = measured.excess(limits.header_bytes, limits.headers);
    let wants_no_body = head.method == Method::HEAD;
    let ends_at_once = body.is_end_stream();
    // A client with `Expect` gets 100 Continue when the body is first read (RFC 9110 section
    // 10.1.1).
    let awaits_continue = head.fields.has(Name::Expect) && !ends_at_once;
    let mut body_handle = None;
    let mut tunnel = None;
    let (body, upgrade) = if opens_websocket {
        let key = begin_websocket(Rc::make_mut(&mut head), &worker);
        tunnel = Some(body);
        (ClientBody::Empty, Some(Upgrade::Http2(key)))
    } else if ends_at_once {
        (ClientBody::Empty, None)
    } else {
        let handle = body_handle.insert(BodyHandle::default());
        (ClientBody::Http2(StreamBody::new(body, limits, &deadline.io, handle)), None)
    };
    let mut exchange = Exchange::begin(&worker, &slot.shared.conn, &deadline, head);
    deadline.io.add_read(measured.bytes);
    if measured.is_malformed {
        respond.send_reset(Reason::PROTOCOL_ERROR);
        return exchange.fail(&Failure::Head(RejectReason::Malformed));
    }
    let interim = Rc::new(InterimQueue::default());
    exchange.interim = Some(Rc::clone(&interim));
    let answered = if let Some(refusal) = refusal {
        Ok(handle::refused(&mut exchange, &Failure::Head(refusal), false))
    } else {
        // Boxed: it is large, and most of a response's life follows it.
        let handling = Box::pin(handle(&mut exchange, body, upgrade));
        let client = Client {
            respond: &mut respond,
            body: body_handle.as_ref(),
            interim: &interim,
            worker: &worker,
        };
        answer_of(handling, &deadline, client, awaits_continue).await
    };
    slot.release_head();
    let (end, rest) = match (answered, tunnel) {
        (Ok(Answer { head, rest: Rest::Switch(target), .. }), Some(body)) => {
            if let Ok(stream) = respond.send_response(tunnel_head(head, &worker), false) {
                let budget = Rc::clone(&slot.shared.send_budget);
                let client = StreamTunnel::new(stream, body, budget, slot);
                Box::pin(tunnel::carry(exchange, client, target)).await;
            }
            return;
        }
        // A rule's own response; a target's would have been refused. A success status would mean
        // that the WebSocket is open.
        (Ok(Answer { head, .. }), Some(_)) if head.status.is_success() => {
            (StreamEnd::Reset(Reason::CONNECT_ERROR), None)
        }
        (Ok(Answer { head, rest: Rest::Body(body), .. }), _) => {
            let answered = answer(&slot, &mut exchange, head, body, wants_no_body, &mut respond);
            let (end, body) = answered.await;
            (end, Some(body))
        }
        // Only a client that asked for a switch may get one.
        (Ok(_), _) => (StreamEnd::Reset(Reason::INTERNAL_ERROR), None),
        (Err(end), _) => (end, None),
    };
    match &end {
        StreamEnd::Whole => exchange.log_mut().is_complete = true,
        StreamEnd::TakenBack => slot.record_reset(),
        StreamEnd::Reset(reason) => respond.send_reset(*reason),
        StreamEnd::CalledOff => {}
    }
    let is_whole = matches!(end, StreamEnd::Whole);
    match rest.filter(|_| is_whole) {
        Some(mut body) if body.is_sending() => {
            drop(exchange);
            if let Some(_place) = worker.linger() {
                // The rest of the request is sent to the target.
                deadline.linger(worker.now().monotonic);
                let _ = race(&*deadline, poll_fn(|cx| body.poll_sent(cx))).await;
            }
        }
        Some(body) => {
            body.give_back(&exchange);
            drop(exchange);
        }
        None => drop(exchange),
    }
    if is_whole && let Some(body) = body_handle.and_then(|handle| handle.take_unread()) {
        drain(body).await;
    }
}

/// The client's side of a stream while its response is awaited.
struct Client<'s> {
    respond: &'s mut SendResponse<BudgetedBuf>,
    /// The body, unless it was complete with the head.
    body: Option<&'s BodyHandle>,
    interim: &'s InterimQueue,
    worker: &'s WorkerCtx,
}

/// Returns the response of the handler, unless the client resets the stream.
async fn answer_of(
    mut handling: std::pin::Pin<Box<impl Future<Output = Answer>>>,
    deadline: &Deadline,
    client: Client<'_>,
    mut awaits_continue: bool,
) -> Result<Answer, StreamEnd> {
    let Client { respond, body, interim, worker } = client;
    let is_read = || body.is_some_and(BodyHandle::is_read);
    poll_fn(|cx| {
        deadline.waker().remember(cx.waker());
        if deadline.expiry() == Some(Expiry::Stalled) {
            return Poll::Ready(Err(StreamEnd::Reset(Reason::CANCEL)));
        }
        let is_reset = respond.poll_reset(cx).is_ready();
        // While the body is read, the read itself detects a reset or bad framing.
        if is_reset && !is_read() {
            return Poll::Ready(Err(StreamEnd::TakenBack));
        }
        let polled = handling.as_mut().poll(cx);
        for head in interim.take() {
            // Fails if the stream is closed, which the next turn detects.
            let _ = respond.send_informational(to_library(Box::new(head), worker).0);
        }
        if awaits_continue && polled.is_pending() && is_read() {
            awaits_continue = false;
            let mut go_on = Response::new(());
            *go_on.status_mut() = StatusCode::CONTINUE;
            // Fails if the stream is closed, which the next turn detects.
            let _ = respond.send_informational(go_on);
        }
        match polled {
            Poll::Pending if is_reset => Poll::Ready(Err(StreamEnd::TakenBack)),
            polled => polled.map(Ok),
        }
    })
    .await
}

/// Converts the request to the form of HTTP/1.1 for its target. Returns the key for the response.
fn begin_websocket(
    request: &mut http1::request::Request,
    worker: &WorkerCtx,
) -> http2::WebSocketKey {
    let nonce = [worker.random(), worker.random()].map(u64::to_be_bytes);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(nonce.as_flattened());
    http2::open_websocket(request, bytes)
}

/// Reads on for a short time if the response came before the request's end, as over HTTP/1.1:
/// frames in flight to a reset stream would count as client errors, which are limited for each
/// connection. Dropping the stream then asks the client to stop sending (RFC 9113 section 8.1).
async fn drain(mut body: RecvStream) {
    let mut left = MAX_DRAINED;
    let read = poll_fn(|cx| {
        while left > 0 {
            match ready!(poll_data(&mut body, cx)) {
                Some(Ok(data)) => left = left.saturating_sub(data.len()),
                Some(Err(_)) | None => break,
            }
        }
        Poll::Ready(())
    });
    let _ = timer::timeout(DRAIN_TIME, read).await;
}

/// Bound on the bytes read after an early response, and the time below.
const MAX_DRAINED: usize = 1 << 20;
const DRAIN_TIME: Duration = Duration::from_millis(300);

/// The head that opens a WebSocket (RFC 8441 section 5).
fn tunnel_head(mut head: Box<response::Response>, worker: &WorkerCtx) -> Response<()> {
    head.status = StatusCode::OK;
    to_library(head, worker).0
}

/// Converts a head to the library's type, and counts the bytes of its fields.
fn to_library(mut head: Box<response::Response>, worker: &WorkerCtx) -> (Response<()>, usize) {
    http2::strip_answer(&mut head.fields);
    let mut made = Response::new(());
    *made.status_mut() = head.status;
    let sent = http2::add_to_map(&head.fields, made.headers_mut());
    worker.give_back_response(head);
    (made, sent)
}

/// Sends a response.
async fn answer(
    slot: &StreamSlot,
    exchange: &mut Exchange,
    mut head: Box<response::Response>,
    mut body: ResponseBody,
    wants_no_body: bool,
    respond: &mut SendResponse<BudgetedBuf>,
) -> (StreamEnd, ResponseBody) {
    let worker = Rc::clone(&exchange.worker);
    if !head.fields.has(Name::Date) {
        // RFC 9110 section 6.6.1.
        worker.with_today(|date| head.fields.append(Name::Date, date.as_bytes()));
    }
    let is_bodiless = is_bodiless(head.status);
    let own = matches!(body, ResponseBody::Own(_));
    // Only the target can announce the length of its body.
    let says_length =
        own && !wants_no_body && !is_bodiless && !head.fields.has(Name::ContentLength);
    if says_length && let Some(length) = body.left() {
        head.fields.set_length(length);
    }
    let is_all = wants_no_body || is_bodiless || body.is_done();
    let (head, sent) = to_library(head, &worker);
    let Ok(stream) = respond.send_response(head, is_all) else {
        return (StreamEnd::TakenBack, body);
    };
    slot.record_payload(sent);
    slot.deadline.io.add_written(sent);
    if is_all {
        return (StreamEnd::Whole, body);
    }
    let budget = &slot.shared.send_budget;
    let mut sender = ResponseSender {
        slot,
        stream,
        budget,
        pieces: Pieces::default(),
        chunk: Bytes::new(),
        unnoted: 0,
        began: false,
        broke_off: false,
        is_grpc: exchange.log().is_grpc,
    };
    let end = poll_fn(|cx| {
        body.poll_sending(cx);
        if slot.deadline.expiry().is_some() {
            return Poll::Ready(StreamEnd::Reset(Reason::CANCEL));
        }
        let polled = sender.poll(cx, &mut body);
        // The library drops the last frames of a response if its client has reset the stream.
        if matches!(polled, Poll::Ready(StreamEnd::Whole | StreamEnd::TakenBack)) {
            return polled;
        }
        slot.deadline.waker().remember(cx.waker());
        if sender.stream.poll_reset(cx).is_ready() {
            return Poll::Ready(StreamEnd::TakenBack);
        }
        polled
    })
    .await;
    if sender.broke_off {
        exchange.log_mut().error = Some(ErrorReason::TargetBrokeOff);
    }
    (end, body)
}

/// The state of sending a body.
struct ResponseSender<'s> {
    slot: &'s StreamSlot,
    stream: SendStream<BudgetedBuf>,
    budget: &'s Rc<SendBudget>,
    /// Pieces handed to the library and not sent yet.
    pieces: Pieces,
    /// Bytes for which the client has not given window yet.
    chunk: Bytes,
    /// Bytes sent since the deadline was last informed.
    unnoted: usize,
    /// True if a frame of the body was handed over.
    began: bool,
    /// True if the body broke off.
    broke_off: bool,
    is_grpc: bool,
}

impl ResponseSender<'_> {
    fn poll(&mut self, cx: &mut Context<'_>, body: &mut ResponseBody) -> Poll<StreamEnd> {
        loop {
            if self.broke_off {
                return self.poll_end(cx);
            }
            // Take nothing from the target that cannot be sent.
            if self.budget.is_full(cx) {
                return Poll::Pending;
            }
            if !self.chunk.is_empty() {
                let Some(room) = ready!(poll_room(&mut self.stream, cx)) else {
                    return Poll::Ready(StreamEnd::TakenBack);
                };
                let piece = self.chunk.split_to(room.min(self.chunk.len()));
                let is_last = self.chunk.is_empty() && body.is_done();
                self.record(piece.len());
                // The last piece of a response is not awaited.
                let of = if is_last { Pieces::default() } else { self.pieces.share() };
                let queued = BudgetedBuf::new(piece, self.budget, of);
                self.began = true;
                if self.stream.send_data(queued, is_last).is_err() {
                    return Poll::Ready(StreamEnd::TakenBack);
                }
                if is_last {
                    return Poll::Ready(StreamEnd::Whole);
                }
                self.claim();
                continue;
            }
            let sent = match ready!(body.poll_frame(cx, &self.slot.shared.worker.counters)) {
                Some(Err(_)) => {
                    if let Some(end) = self.call_off() {
                        return Poll::Ready(end);
                    }
                    continue;
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.chunk = data;
                        self.claim();
                        continue;
                    }
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        self.send_last(trailers)
                    }
                },
                None => self.send_last(HeaderMap::new()),
            };
            return Poll::Ready(sent.map_or(StreamEnd::TakenBack, |()| StreamEnd::Whole));
        }
    }

    /// Ends the stream, with trailers if there are any: some clients treat HEADERS without fields
    /// as an error.
    fn send_last(&mut self, trailers: HeaderMap) -> Result<(), h2::Error> {
        if trailers.is_empty() {
            let end = BudgetedBuf::new(Bytes::new(), self.budget, self.pieces.share());
            return self.stream.send_data(end, true);
        }
        self.stream.send_trailers(trailers)
    }

    /// Begins to abort a response, so that half of it does not look complete.
    fn call_off(&mut self) -> Option<StreamEnd> {
        self.broke_off = true;
        let trailers = local_response::broken_call();
        if self.is_grpc && self.stream.send_trailers(trailers).is_ok() {
            return Some(StreamEnd::CalledOff);
        }
        // A reset discards everything the library holds of the stream, even a lone head; only a
        // frame after the head shows that the head was sent.
        if !self.began {
            let mark = BudgetedBuf::new(Bytes::new(), self.budget, self.pieces.share());
            if self.stream.send_data(mark, false).is_err() {
                return Some(StreamEnd::TakenBack);
            }
        }
        None
    }

    /// Resets the stream after the frames before the reset were sent.
    fn poll_end(&mut self, cx: &Context<'_>) -> Poll<StreamEnd> {
        if self.pieces.are_out() {
            return Poll::Ready(StreamEnd::Reset(Reason::INTERNAL_ERROR));
        }
        self.budget.wait(cx);
        Poll::Pending
    }

    /// Requests window for the available bytes only: window reserved by one stream is not available
    /// to others.
    fn claim(&mut self) {
        self.stream.reserve_capacity(self.chunk.len().min(MAX_CLAIM));
    }

    fn record(&mut self, bytes: usize) {
        self.slot.record_payload(bytes);
        self.unnoted += bytes;
        if self.unnoted >= MIN_PROGRESS || self.chunk.is_empty() {
            self.slot.deadline.io.add_written(std::mem::take(&mut self.unnoted));
        }
    }
}
