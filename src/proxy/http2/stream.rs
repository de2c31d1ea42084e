//! One stream: its request in, its answer out. A deadline is looked at around all of it, for a body
//! whose client takes nothing is never asked (and so could not look at one itself).

use super::incoming::{fault, gather, poll_data};
use super::outflow::{Outflow, Pieces, Queued};
use super::tunnel::StreamTunnel;
use super::{FIELD_IN_MEMORY, Open, Shared};
use crate::net::timer;
use crate::policy::headers::head::Refusal;
use crate::policy::headers::http2;
use crate::proxy::body::{Broken, ClientBody, Fault, ResponseBody};
use crate::proxy::exchange::Exchange;
use crate::proxy::failure::Failure;
use crate::proxy::handle;
use crate::proxy::progress::Progress;
use crate::proxy::progress::lingering::LetGo;
use crate::proxy::respond;
use crate::proxy::upgrade::Upgrade;
use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, DATE, EXPECT, HeaderValue};
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::oneshot;

/// Bytes that show a client to take its answer: fewer could be one at a time, for ever (a window
/// update may be for a single byte, CVE-2019-9517).
const SOME_PROGRESS: usize = 1_024;
/// What is asked of the client's windows for one piece.
const LARGEST_CLAIM: usize = 64 << 10;

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
    open: Open,
    request: Request<RecvStream>,
    mut respond: SendResponse<Queued>,
) {
    let (mut parts, body) = request.into_parts();
    if http2::is_malformed(&parts) {
        respond.send_reset(Reason::PROTOCOL_ERROR);
        return;
    }
    let workplace = Rc::clone(&open.shared.workplace);
    let progress = Rc::clone(&open.progress);
    // Dropped after the answer, which may leave a side behind.
    let _until_the_end = LetGo(&progress);
    let (bytes, fields) = http2::size(&parts);
    let limits = &open.shared.limits;
    let is_too_large = bytes > limits.header_bytes || fields > limits.headers;
    http2::join_crumbs(&mut parts.headers);
    http2::join_lengths(&mut parts.headers);
    let wants_no_body = parts.method == Method::HEAD;
    // Whoever expects it is told to go on once the body is wanted (RFC 9110 section 10.1.1).
    let mut awaits_continue = parts.headers.contains_key(EXPECT) && !body.is_end_stream();
    let is_read = Rc::new(Cell::new(false));
    let left_over = Rc::new(RefCell::new(None));
    let mut tunnel = None;
    let (body, upgrade) = match parts.extensions.remove::<Protocol>() {
        Some(protocol) if protocol.as_str() == "websocket" => {
            let (to_client, from_stream) = oneshot::channel();
            let nonce = [workplace.random(), workplace.random()].map(u64::to_be_bytes);
            let mut bytes = [0; 16];
            bytes.copy_from_slice(nonce.as_flattened());
            let key = http2::open_websocket(&mut parts, bytes);
            tunnel = Some((to_client, body));
            (ClientBody::Empty, Some(Upgrade::Http2(from_stream, key)))
        }
        _ => (ClientBody::Http2(StreamBody::new(body, &open, &is_read, &left_over)), None),
    };
    let exchange = Exchange::begin(workplace.clone(), progress.clone(), &parts);
    progress.watch.note_read(bytes);
    let response = if is_too_large {
        Ok(handle::refused(exchange, Failure::Head(Refusal::TooLarge)))
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
            if is_reset && !is_read.get() {
                return Poll::Ready(Err(End::TakenBack));
            }
            let polled = response.as_mut().poll(cx).map(|Ok(response)| Ok(response));
            if awaits_continue && polled.is_pending() && is_read.get() {
                awaits_continue = false;
                let mut go_on = Response::new(());
                *go_on.status_mut() = StatusCode::CONTINUE;
                // It fails where the stream is gone, which the next turn sees.
                let _ = respond.send_informational(go_on);
            }
            match polled {
                Poll::Pending if is_reset => Poll::Ready(Err(End::TakenBack)),
                polled => polled,
            }
        })
        .await
    };
    open.forget_head();
    let end = match (response, tunnel) {
        (Ok(response), Some((to_client, body)))
            if response.status() == StatusCode::SWITCHING_PROTOCOLS =>
        {
            let head = opened(response);
            if let Ok(stream) = respond.send_response(head, false) {
                let outflow = Rc::clone(&open.shared.outflow);
                // Whoever carries the tunnel writes it down.
                let _ = to_client.send(StreamTunnel::new(stream, body, outflow, open));
            }
            return;
        }
        // A rule's own answer; a target's was refused. It would say that the WebSocket is open.
        (Ok(response), Some(_)) if response.status().is_success() => {
            End::Reset(Reason::CONNECT_ERROR)
        }
        (Ok(response), _) => answer(&open, response, wants_no_body, &mut respond).await,
        (Err(end), _) => end,
    };
    match &end {
        End::Whole => progress.watch.note_flushed(),
        End::TakenBack => open.note_reset(),
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
    let left_over = left_over.take();
    if let (End::Whole, Some(body)) = (end, left_over) {
        drain(body).await;
    }
}

/// Reads on for a moment where the answer came before the request's end, as over HTTP/1.1: what is on
/// its way to a stream that was reset looks like a client's mistake, of which each connection
/// has few. Then the client is told that nobody listens (RFC 9113 section 8.1), by letting go.
async fn drain(mut body: RecvStream) {
    let mut left = DRAINED;
    let read = poll_fn(|cx| {
        while left > 0 {
            match ready!(poll_data(&mut body, cx)) {
                Some(Ok(data)) => left = left.saturating_sub(data.len()),
                Some(Err(_)) | None => break,
            }
        }
        Poll::Ready(())
    });
    let _ = timer::timeout(DRAINED_FOR, read).await;
}

/// How much and how long is read after an answer that came early.
const DRAINED: usize = 1 << 20;
const DRAINED_FOR: Duration = Duration::from_millis(300);

/// The head that opens a WebSocket (RFC 8441 section 5).
fn opened(response: Response<ResponseBody>) -> Response<()> {
    let (parts, _) = response.into_parts();
    let mut head = Response::new(());
    *head.headers_mut() = parts.headers;
    http2::strip_answer(head.headers_mut());
    head
}

/// Sends an answer.
async fn answer(
    open: &Open,
    response: Response<ResponseBody>,
    wants_no_body: bool,
    respond: &mut SendResponse<Queued>,
) -> End {
    let (mut parts, body) = response.into_parts();
    let headers = &mut parts.headers;
    http2::strip_answer(headers);
    if !headers.contains_key(DATE) {
        // As hyper adds it over HTTP/1.1 (RFC 9110 section 6.6.1).
        headers.insert(DATE, open.shared.workplace.date());
    }
    let no_body = wants_no_body
        || parts.status == StatusCode::NO_CONTENT
        || parts.status == StatusCode::NOT_MODIFIED;
    if !no_body
        && !headers.contains_key(CONTENT_LENGTH)
        && let Some(length) = body.size_hint().exact()
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let sent: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let is_all = no_body || body.is_end_stream();
    let mut head = Response::new(());
    *head.status_mut() = parts.status;
    *head.headers_mut() = parts.headers;
    let Ok(stream) = respond.send_response(head, is_all) else { return End::TakenBack };
    open.note_payload(sent);
    open.progress.watch.add_written(sent);
    if is_all {
        return End::Whole;
    }
    let outflow = &open.shared.outflow;
    let mut sending = Sending {
        open,
        stream,
        outflow,
        pieces: Pieces::default(),
        chunk: Bytes::new(),
        unnoted: 0,
        began: false,
        broke_off: false,
    };
    let mut body = pin!(body);
    poll_fn(|cx| {
        open.shared.workplace.begin_turn();
        open.progress.remember_waker(cx.waker());
        open.progress.poll_sending(cx);
        if open.progress.unanswerable_expiry().is_some() {
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
    open: &'s Open,
    stream: SendStream<Queued>,
    outflow: &'s Rc<Outflow>,
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
            if self.outflow.is_full(cx) {
                return Poll::Pending;
            }
            if !self.chunk.is_empty() {
                let Ok(room) = ready!(poll_room(&mut self.stream, cx)) else {
                    return Poll::Ready(End::TakenBack);
                };
                let piece = self.chunk.split_to(room.min(self.chunk.len()));
                let is_last = self.chunk.is_empty() && body.is_end_stream();
                self.note(piece.len());
                let queued = Queued::new(piece, self.outflow, &self.pieces);
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
                        self.stream.send_trailers(trailers)
                    }
                },
                None => {
                    let end = Queued::new(Bytes::new(), self.outflow, &self.pieces);
                    self.stream.send_data(end, true)
                }
            };
            return Poll::Ready(sent.map_or(End::TakenBack, |()| End::Whole));
        }
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
            let mark = Queued::new(Bytes::new(), self.outflow, &self.pieces);
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
        self.outflow.wait(cx);
        Poll::Pending
    }

    /// Asks for room for what is at hand, and for no more: what one stream claims, others lack.
    fn claim(&mut self) {
        self.stream.reserve_capacity(self.chunk.len().min(LARGEST_CLAIM));
    }

    fn note(&mut self, bytes: usize) {
        self.open.note_payload(bytes);
        self.unnoted += bytes;
        if self.unnoted >= SOME_PROGRESS || self.chunk.is_empty() {
            self.open.progress.watch.add_written(std::mem::take(&mut self.unnoted));
        }
    }
}

/// How many bytes the client has room for, at least one; an error where it is gone.
pub(super) fn poll_room(
    stream: &mut SendStream<Queued>,
    cx: &mut Context<'_>,
) -> Poll<Result<usize, Broken>> {
    loop {
        match stream.capacity() {
            0 => match ready!(stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(Broken)),
            },
            room => return Poll::Ready(Ok(room)),
        }
    }
}

/// A request's body as it comes over a stream.
pub struct StreamBody {
    /// Present until dropped.
    stream: Option<RecvStream>,
    /// Where the stream goes when nobody wants the rest of it.
    left_over: Rc<RefCell<Option<RecvStream>>>,
    /// Whether anyone has asked for it.
    is_read: Rc<Cell<bool>>,
    shared: Rc<Shared>,
    progress: Rc<Progress>,
}

impl fmt::Debug for StreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamBody").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl StreamBody {
    fn new(
        stream: RecvStream,
        open: &Open,
        is_read: &Rc<Cell<bool>>,
        left_over: &Rc<RefCell<Option<RecvStream>>>,
    ) -> Self {
        Self {
            stream: Some(stream),
            left_over: Rc::clone(left_over),
            is_read: Rc::clone(is_read),
            shared: Rc::clone(&open.shared),
            progress: Rc::clone(&open.progress),
        }
    }

    /// The next frame.
    pub(in crate::proxy) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.is_read.set(true);
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        match ready!(poll_data(stream, cx)) {
            Some(data) => Poll::Ready(Some(data.map(|data| {
                let data = gather(stream, cx, data);
                self.progress.watch.note_read(data.len());
                Frame::data(data)
            }))),
            None => {
                let trailers = ready!(stream.poll_trailers(cx)).map_err(|error| fault(&error));
                let fitting = trailers.and_then(|trailers| match trailers {
                    Some(trailers) if self.are_too_large(&trailers) => Err(Fault::Malformed),
                    trailers => Ok(trailers),
                });
                Poll::Ready(fitting.transpose().map(|trailers| trailers.map(Frame::trailers)))
            }
        }
    }

    /// The library holds trailers to its own, larger limit, and drops what is beyond it.
    fn are_too_large(&self, trailers: &HeaderMap) -> bool {
        let limits = &self.shared.limits;
        let field = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
        trailers.len() > limits.headers
            || trailers.iter().map(field).sum::<usize>() > limits.header_bytes
    }

    /// Whether nothing is left of it.
    pub(in crate::proxy) fn is_end_stream(&self) -> bool {
        self.stream.as_ref().is_none_or(RecvStream::is_end_stream)
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        *self.left_over.borrow_mut() = self.stream.take().filter(|stream| !stream.is_end_stream());
    }
}

/// Memory that a request's head takes.
pub(super) fn memory<B>(request: &Request<B>) -> usize {
    let headers: &HeaderMap = request.headers();
    let fields = headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    let target = request.uri().path().len() + request.uri().query().map_or(0, str::len);
    fields.map(|field| field + FIELD_IN_MEMORY).sum::<usize>() + target
}
