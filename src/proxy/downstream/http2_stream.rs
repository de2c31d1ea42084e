//! One stream: its request in, its answer out. A deadline is looked at around all of it, for a body
//! whose client takes nothing is never asked (and so could not look at one itself).

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

/// Bytes that show a client to take its answer: fewer could be one at a time, for ever (a window
/// update may be for a single byte, CVE-2019-9517).
const MIN_PROGRESS: usize = 1_024;
/// What is asked of the client's windows for one piece.
const MAX_CLAIM: usize = 64 << 10;

/// How a stream ended.
enum StreamEnd {
    /// With all of its answer handed over.
    Whole,
    /// The client took it back, or is gone.
    TakenBack,
    /// By us, for this reason.
    Reset(Reason),
    /// With trailers that say so, after half of an answer.
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

/// Serves one.
pub(super) async fn serve(opened: Opened) {
    let Opened { slot, mut head, measured, opens_websocket, body, mut respond } = opened;
    let worker = Rc::clone(&slot.shared.worker);
    let deadline = Rc::clone(&slot.deadline);
    let limits = &slot.shared.limits;
    let refusal = measured.excess(limits.header_bytes, limits.headers);
    let wants_no_body = head.method == Method::HEAD;
    let ends_at_once = body.is_end_stream();
    // A client that expects it is told to go on once the body is wanted (RFC 9110 section 10.1.1).
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
        // Boxed: it is large, and most of an answer's life is after it.
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
        // A rule's own answer; a target's was refused. It would say that the WebSocket is open.
        (Ok(Answer { head, .. }), Some(_)) if head.status.is_success() => {
            (StreamEnd::Reset(Reason::CONNECT_ERROR), None)
        }
        (Ok(Answer { head, rest: Rest::Body(body), .. }), _) => {
            let answered = answer(&slot, &mut exchange, head, body, wants_no_body, &mut respond);
            let (end, body) = answered.await;
            (end, Some(body))
        }
        // A switch is answered to those alone that asked for it.
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
                // The target goes on reading what the client goes on sending.
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

/// The client's end of a stream while its answer is awaited.
struct Client<'s> {
    respond: &'s mut SendResponse<BudgetedBuf>,
    /// That of a body that was not all there with the head.
    body: Option<&'s BodyHandle>,
    interim: &'s InterimQueue,
    worker: &'s WorkerCtx,
}

/// The answer of what handles a request, unless its client takes the request back.
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
        // Where its body is being read, that says whether the client took it back or framed it
        // badly.
        if is_reset && !is_read() {
            return Poll::Ready(Err(StreamEnd::TakenBack));
        }
        let polled = handling.as_mut().poll(cx);
        for head in interim.take() {
            // It fails where the stream is gone, which the next turn sees.
            let _ = respond.send_informational(to_library(Box::new(head), worker).0);
        }
        if awaits_continue && polled.is_pending() && is_read() {
            awaits_continue = false;
            let mut go_on = Response::new(());
            *go_on.status_mut() = StatusCode::CONTINUE;
            // It fails where the stream is gone, which the next turn sees.
            let _ = respond.send_informational(go_on);
        }
        match polled {
            Poll::Pending if is_reset => Poll::Ready(Err(StreamEnd::TakenBack)),
            polled => polled.map(Ok),
        }
    })
    .await
}

/// Makes the request one that a target over HTTP/1.1 understands; the key it answers with.
fn begin_websocket(
    request: &mut http1::request::Request,
    worker: &WorkerCtx,
) -> http2::WebSocketKey {
    let nonce = [worker.random(), worker.random()].map(u64::to_be_bytes);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(nonce.as_flattened());
    http2::open_websocket(request, bytes)
}

/// Reads on for a moment where the answer came before the request's end, as over HTTP/1.1: what is on
/// its way to a stream that was reset looks like a client's mistake, of which each connection
/// has few. Then the client is told that no more is read (RFC 9113 section 8.1), by letting go.
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

/// How much and how long is read after an answer that came early.
const MAX_DRAINED: usize = 1 << 20;
const DRAIN_TIME: Duration = Duration::from_millis(300);

/// The head that opens a WebSocket (RFC 8441 section 5).
fn tunnel_head(mut head: Box<response::Response>, worker: &WorkerCtx) -> Response<()> {
    head.status = StatusCode::OK;
    to_library(head, worker).0
}

/// A head as the library has it, and the bytes of its fields.
fn to_library(mut head: Box<response::Response>, worker: &WorkerCtx) -> (Response<()>, usize) {
    http2::strip_answer(&mut head.fields);
    let mut made = Response::new(());
    *made.status_mut() = head.status;
    let sent = http2::add_to_map(&head.fields, made.headers_mut());
    worker.give_back_response(head);
    (made, sent)
}

/// Sends an answer.
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
    // The length of a target's body is the target's to say.
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
        // The library takes the last of an answer from no stream that its client has reset.
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

/// A body on its way out.
struct ResponseSender<'s> {
    slot: &'s StreamSlot,
    stream: SendStream<BudgetedBuf>,
    budget: &'s Rc<SendBudget>,
    /// Those handed over and not sent.
    pieces: Pieces,
    /// What the client has not yet given room for.
    chunk: Bytes,
    /// What went out since it was last noted.
    unnoted: usize,
    /// Whether a frame of the body was handed over.
    began: bool,
    /// Whether the body broke off.
    broke_off: bool,
    is_grpc: bool,
}

impl ResponseSender<'_> {
    fn poll(&mut self, cx: &mut Context<'_>, body: &mut ResponseBody) -> Poll<StreamEnd> {
        loop {
            if self.broke_off {
                return self.poll_end(cx);
            }
            // Nothing is taken from a target that cannot go out.
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
                // Nothing waits for the last of an answer to go out.
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

    /// Ends the stream, with trailers where there are any: HEADERS without a field are a mistake to
    /// some clients.
    fn send_last(&mut self, trailers: HeaderMap) -> Result<(), h2::Error> {
        if trailers.is_empty() {
            let end = BudgetedBuf::new(Bytes::new(), self.budget, self.pieces.share());
            return self.stream.send_data(end, true);
        }
        self.stream.send_trailers(trailers)
    }

    /// Begins to end half of an answer, so that it is not taken for the whole.
    fn call_off(&mut self) -> Option<StreamEnd> {
        self.broke_off = true;
        let trailers = local_response::broken_call();
        if self.is_grpc && self.stream.send_trailers(trailers).is_ok() {
            return Some(StreamEnd::CalledOff);
        }
        // A reset throws away what the library holds of the stream: a head alone too, which nothing
        // tells of but a frame behind it.
        if !self.began {
            let mark = BudgetedBuf::new(Bytes::new(), self.budget, self.pieces.share());
            if self.stream.send_data(mark, false).is_err() {
                return Some(StreamEnd::TakenBack);
            }
        }
        None
    }

    /// Resets the stream once the frames before it have gone out.
    fn poll_end(&mut self, cx: &Context<'_>) -> Poll<StreamEnd> {
        if self.pieces.are_out() {
            return Poll::Ready(StreamEnd::Reset(Reason::INTERNAL_ERROR));
        }
        self.budget.wait(cx);
        Poll::Pending
    }

    /// Asks for room for what is at hand, and for no more: what one stream claims, others lack.
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
