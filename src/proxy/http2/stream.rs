//! One stream: its request in, its answer out. A deadline is looked at around all of it, for a body
//! whose client takes nothing is never asked (and so could not look at one itself).

use super::recv_body::{BodyHandle, StreamBody, poll_data};
use super::send_budget::{BudgetedBuf, Pieces, SendBudget, poll_room};
use super::slot::StreamSlot;
use super::tunnel::StreamTunnel;
use crate::policy::headers::head::Refusal;
use crate::policy::headers::http2;
use crate::proxy::body::{Broken, ClientBody, ResponseBody};
use crate::proxy::exchange::Exchange;
use crate::proxy::failure::Failure;
use crate::proxy::handle;
use crate::proxy::interim::InterimQueue;
use crate::proxy::progress::lingering::LetGo;
use crate::proxy::respond;
use crate::proxy::upgrade::Upgrade;
use crate::proxy::workplace::Workplace;
use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, DATE, EXPECT, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::oneshot;

/// Bytes that show a client to take its answer: fewer could be one at a time, for ever (a window
/// update may be for a single byte, CVE-2019-9517).
const MIN_PROGRESS: usize = 1_024;
/// What is asked of the client's windows for one piece.
const MAX_CLAIM: usize = 64 << 10;

/// How a stream ended.
enum End {
    /// With all of its answer handed over.
    Whole,
    /// The client took it back, or is gone.
    TakenBack,
    /// By us, for this reason.
    Reset(Reason),
    /// With trailers that say so, after half of an answer.
    CalledOff,
}

/// Serves one.
pub(super) async fn serve(
    slot: StreamSlot,
    request: Request<RecvStream>,
    mut respond: SendResponse<BudgetedBuf>,
) {
    let (mut parts, body) = request.into_parts();
    let workplace = Rc::clone(&slot.shared.workplace);
    let progress = Rc::clone(&slot.progress);
    if http2::is_malformed(&parts) {
        respond.send_reset(Reason::PROTOCOL_ERROR);
        let mut exchange = Exchange::begin(workplace, Rc::clone(&progress), &parts);
        progress.watch.note_read(http2::size(&parts).0);
        exchange.fail(&Failure::Head(Refusal::Malformed));
        drop(exchange);
        return progress.settle_all();
    }
    // Dropped after the answer, which may leave a side behind.
    let _until_the_end = LetGo(&progress);
    let limits = &slot.shared.limits;
    let (bytes, fields) = http2::size(&parts);
    let is_too_large = bytes > limits.header_bytes || fields > limits.headers;
    let too_large = is_too_large.then(|| http2::excess(&parts, limits.header_bytes));
    http2::join_crumbs(&mut parts.headers);
    http2::join_lengths(&mut parts.headers);
    let wants_no_body = parts.method == Method::HEAD;
    // A client that expects it is told to go on once the body is wanted (RFC 9110 section 10.1.1).
    let mut awaits_continue = parts.headers.contains_key(EXPECT) && !body.is_end_stream();
    let handle = BodyHandle::default();
    let mut tunnel = None;
    let (body, upgrade) = if opens_websocket(&mut parts) {
        let (to_client, upgrade) = begin_websocket(&mut parts, &workplace);
        tunnel = Some((to_client, body));
        (ClientBody::Empty, Some(upgrade))
    } else {
        let body = StreamBody::new(body, limits, &progress.watch, &handle);
        (ClientBody::Http2(body), None)
    };
    let mut exchange = Exchange::begin(workplace.clone(), progress.clone(), &parts);
    progress.watch.note_read(bytes);
    let interim = Rc::new(InterimQueue::default());
    exchange.interim = Some(Rc::clone(&interim));
    let response = if let Some(refusal) = too_large {
        Ok(handle::refused(exchange, Failure::Head(refusal)))
    } else {
        // Boxed: it is large, and most of an answer's life is after it.
        let mut response = Box::pin(handle::answered(exchange, parts, body, upgrade));
        poll_fn(|cx| {
            workplace.begin_turn();
            progress.remember_waker(cx.waker());
            if progress.unanswerable_expiry().is_some() {
                return Poll::Ready(Err(End::Reset(Reason::CANCEL)));
            }
            let is_reset = respond.poll_reset(cx).is_ready();
            // Where its body is being read, that says whether the client took it back or framed it
            // badly.
            if is_reset && !handle.is_read() {
                return Poll::Ready(Err(End::TakenBack));
            }
            let polled = response.as_mut().poll(cx).map(|Ok(response)| Ok(response));
            for head in interim.take() {
                // It fails where the stream is gone, which the next turn sees.
                let _ = respond.send_informational(head);
            }
            if awaits_continue && polled.is_pending() && handle.is_read() {
                awaits_continue = false;
                let mut go_on = Response::new(());
                *go_on.status_mut() = StatusCode::CONTINUE;
                let _ = respond.send_informational(go_on);
            }
            match polled {
                Poll::Pending if is_reset => Poll::Ready(Err(End::TakenBack)),
                polled => polled,
            }
        })
        .await
    };
    slot.release_head();
    let end = match (response, tunnel) {
        (Ok(response), Some((to_client, body)))
            if response.status() == StatusCode::SWITCHING_PROTOCOLS =>
        {
            let head = opened(response);
            if let Ok(stream) = respond.send_response(head, false) {
                let budget = Rc::clone(&slot.shared.send_budget);
                // The task of the tunnel writes it down.
                let _ = to_client.send(StreamTunnel::new(stream, body, budget, slot));
            }
            return;
        }
        // A rule's own answer; a target's was refused. It would say that the WebSocket is open.
        (Ok(response), Some(_)) if response.status().is_success() => {
            End::Reset(Reason::CONNECT_ERROR)
        }
        (Ok(response), _) => answer(&slot, response, wants_no_body, &mut respond).await,
        (Err(end), _) => end,
    };
    match &end {
        End::Whole => progress.watch.note_flushed(),
        End::TakenBack => slot.note_reset(),
        End::Reset(reason) => respond.send_reset(*reason),
        End::CalledOff => {}
    }
    progress.settle_all();
    if progress.is_keeping() {
        // The target goes on reading what the client goes on sending.
        progress.begin_lingering(workplace.now().monotonic);
        poll_fn(|cx| {
            workplace.begin_turn();
            progress.remember_waker(cx.waker());
            progress.poll_sending(cx);
            match progress.expiry().is_some() || !progress.is_keeping() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
        progress.let_go();
    }
    if let (End::Whole, Some(body)) = (end, handle.take_unread()) {
        drain(body).await;
    }
}

/// Whether the request asks for a WebSocket by an extended CONNECT (RFC 8441 section 4). Without its
/// `:protocol` another one is refused as a CONNECT.
fn opens_websocket(parts: &mut Parts) -> bool {
    let protocol = parts.extensions.remove::<Protocol>();
    protocol.is_some_and(|protocol| protocol.as_str() == "websocket")
}

/// Makes the request one that a target over HTTP/1.1 understands, and the channel through which the
/// tunnel gets the client's stream once the target has agreed.
fn begin_websocket(
    parts: &mut Parts,
    workplace: &Workplace,
) -> (oneshot::Sender<StreamTunnel>, Upgrade) {
    let (to_client, from_stream) = oneshot::channel();
    let nonce = [workplace.random(), workplace.random()].map(u64::to_be_bytes);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(nonce.as_flattened());
    let key = http2::open_websocket(parts, bytes);
    (to_client, Upgrade::Http2(from_stream, key))
}

/// Reads on for a moment where the answer came before the request's end, as over HTTP/1.1: what is on
/// its way to a stream that was reset looks like a client's mistake, of which each connection
/// has few. Then the client is told that nobody listens (RFC 9113 section 8.1), by letting go.
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
    let _ = tokio::time::timeout(DRAIN_TIME, read).await;
}

/// How much and how long is read after an answer that came early.
const MAX_DRAINED: usize = 1 << 20;
const DRAIN_TIME: Duration = Duration::from_millis(300);

/// The head that opens a WebSocket (RFC 8441 section 5).
fn opened(response: Response<ResponseBody>) -> Response<()> {
    let (parts, _) = response.into_parts();
    let mut head = Response::new(());
    *head.headers_mut() = parts.headers;
    http2::strip_answer(StatusCode::SWITCHING_PROTOCOLS, head.headers_mut());
    head
}

/// Sends an answer.
async fn answer(
    slot: &StreamSlot,
    response: Response<ResponseBody>,
    wants_no_body: bool,
    respond: &mut SendResponse<BudgetedBuf>,
) -> End {
    let (mut parts, body) = response.into_parts();
    let headers = &mut parts.headers;
    http2::strip_answer(parts.status, headers);
    if !headers.contains_key(DATE) {
        // As hyper adds it over HTTP/1.1 (RFC 9110 section 6.6.1).
        headers.insert(DATE, slot.shared.workplace.date());
    }
    let no_body = wants_no_body
        || parts.status == StatusCode::NO_CONTENT
        || parts.status == StatusCode::NOT_MODIFIED;
    if !no_body
        && !headers.contains_key(CONTENT_LENGTH)
        && let Some(length) = body.own_length()
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let sent: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let is_all = no_body || body.is_end_stream();
    let mut head = Response::new(());
    *head.status_mut() = parts.status;
    *head.headers_mut() = parts.headers;
    let Ok(stream) = respond.send_response(head, is_all) else { return End::TakenBack };
    slot.note_payload(sent);
    slot.progress.watch.add_written(sent);
    if is_all {
        return End::Whole;
    }
    let budget = &slot.shared.send_budget;
    let mut sending = Sending {
        slot,
        stream,
        budget,
        pieces: Pieces::default(),
        chunk: Bytes::new(),
        unnoted: 0,
        began: false,
        broke_off: false,
    };
    let mut body = pin!(body);
    poll_fn(|cx| {
        slot.shared.workplace.begin_turn();
        slot.progress.remember_waker(cx.waker());
        slot.progress.poll_sending(cx);
        if slot.progress.unanswerable_expiry().is_some() {
            return Poll::Ready(End::Reset(Reason::CANCEL));
        }
        if sending.stream.poll_reset(cx).is_ready() {
            return Poll::Ready(End::TakenBack);
        }
        sending.poll(cx, body.as_mut())
    })
    .await
}

/// A body on its way out.
struct Sending<'s> {
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
    /// Whether the body did.
    broke_off: bool,
}

impl Sending<'_> {
    fn poll(&mut self, cx: &mut Context<'_>, mut body: Pin<&mut ResponseBody>) -> Poll<End> {
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
                    return Poll::Ready(End::TakenBack);
                };
                let piece = self.chunk.split_to(room.min(self.chunk.len()));
                let is_last = self.chunk.is_empty() && body.is_end_stream();
                self.note(piece.len());
                let queued = BudgetedBuf::new(piece, self.budget, &self.pieces);
                self.began = true;
                if self.stream.send_data(queued, is_last).is_err() {
                    return Poll::Ready(End::TakenBack);
                }
                if is_last {
                    return Poll::Ready(End::Whole);
                }
                self.claim();
                continue;
            }
            let sent = match ready!(body.as_mut().poll_frame(cx)) {
                Some(Err(Broken)) => {
                    if let Some(end) = self.call_off(&mut body) {
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
            return Poll::Ready(sent.map_or(End::TakenBack, |()| End::Whole));
        }
    }

    /// Ends the stream, with trailers where there are any: HEADERS without a field are a mistake to
    /// some clients.
    fn send_last(&mut self, trailers: HeaderMap) -> Result<(), h2::Error> {
        if trailers.is_empty() {
            let end = BudgetedBuf::new(Bytes::new(), self.budget, &self.pieces);
            return self.stream.send_data(end, true);
        }
        self.stream.send_trailers(trailers)
    }

    /// Begins to end half of an answer, so that it is not taken for the whole.
    fn call_off(&mut self, body: &mut ResponseBody) -> Option<End> {
        if body.is_of_call() && self.stream.send_trailers(respond::broken_call()).is_ok() {
            return Some(End::CalledOff);
        }
        self.broke_off = true;
        // A reset throws away what the library holds of the stream: a head alone too, which nothing
        // tells of but a frame behind it.
        if !self.began {
            let mark = BudgetedBuf::new(Bytes::new(), self.budget, &self.pieces);
            if self.stream.send_data(mark, false).is_err() {
                return Some(End::TakenBack);
            }
        }
        None
    }

    /// Resets the stream once the frames before it have gone out.
    fn poll_end(&mut self, cx: &Context<'_>) -> Poll<End> {
        if self.pieces.are_out() {
            return Poll::Ready(End::Reset(Reason::INTERNAL_ERROR));
        }
        self.budget.wait(cx);
        Poll::Pending
    }

    /// Asks for room for what is at hand, and for no more: what one stream claims, others lack.
    fn claim(&mut self) {
        self.stream.reserve_capacity(self.chunk.len().min(MAX_CLAIM));
    }

    fn note(&mut self, bytes: usize) {
        self.slot.note_payload(bytes);
        self.unnoted += bytes;
        if self.unnoted >= MIN_PROGRESS || self.chunk.is_empty() {
            self.slot.progress.watch.add_written(std::mem::take(&mut self.unnoted));
        }
    }
}
