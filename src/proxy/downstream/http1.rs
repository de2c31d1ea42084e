//! One HTTP/1.1 client connection as one loop: read a head, handle it, send the response, log it,
//! again. A connection that waits for a head holds no buffer.

use super::close::Close;
use super::send::{self, Framed, Sent, Terms};
use crate::config::settings::Limits;
use crate::http1::decode::Framing;
use crate::http1::request::{Bounds, Request};
use crate::http1::scan;
use crate::net::stream::{CountedStream, Stream};
use crate::observe::error_reason::ErrorReason;
use crate::policy::headers::desync::{self, Mitigation};
use crate::proxy::answer::{Answer, Rest};
use crate::proxy::client_io::{ClientEnd, ClientIo};
use crate::proxy::conn::{Conn, ConnState};
use crate::proxy::deadline::{Deadline, Expires, race};
use crate::proxy::exchange::Exchange;
use crate::proxy::expiry::Expiry;
use crate::proxy::failure::Failure;
use crate::proxy::handle::{self, handle};
use crate::proxy::partial_heads::PartialHead;
use crate::proxy::recv_body::ClientBody;
use crate::proxy::response_body::ResponseBody;
use crate::proxy::tunnel::{self, TargetEnd, Upgrade};
use crate::proxy::worker_ctx::WorkerCtx;
use bytes::Buf;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, ready};

/// Cause of the end of reading heads.
enum NoHead {
    /// The client closed or reset the connection between requests, or within a head.
    Closed,
    /// The idle time-out passed without a request.
    Silent,
    /// The request cannot be served: the part that was read, and the failure.
    Failed(Rc<Request>, Failure),
}

/// The step after an exchange.
enum Next {
    /// Read another head.
    Again,
    /// Close the connection.
    Close(Close),
    /// None: the connection became a tunnel, which has closed.
    Nothing,
}

/// The work left after a response.
enum After {
    Next(Next),
    /// Send the rest of the request to its target.
    Upload(ResponseBody),
}

/// Serves the connection until it ends. Returns the stream, and the way to close it.
pub(super) async fn serve(
    worker: &Rc<WorkerCtx>,
    conn: &Rc<Conn>,
    stream: Stream,
    first: Vec<u8>,
    limits: &Limits,
) -> (Option<Stream>, Close) {
    let client = Rc::new(ClientIo::new(stream, first, Rc::clone(&conn.io)));
    let deadline = Rc::new(Deadline::new(Rc::clone(&conn.io), worker.now().monotonic));
    conn.add(&deadline);
    let loop_ = Loop { worker, conn, client: &client, deadline: &deadline };
    let how = loop {
        let next = match loop_.read_head(limits).await {
            // Boxed, so that an idle connection does not reserve room for it. Written
            // into its box: `Box::pin` would build it elsewhere and move 2.3 KiB.
            Ok(request) => {
                Box::into_pin(Box::write(Box::new_uninit(), loop_.serve_one(request))).await
            }
            Err(NoHead::Closed) => Next::Close(Close::AtOnce),
            Err(NoHead::Silent) => Next::Close(Close::Idle),
            Err(NoHead::Failed(request, failure)) => {
                Next::Close(Box::pin(loop_.refuse(request, failure)).await)
            }
        };
        match next {
            Next::Again => {}
            Next::Close(how) => break how,
            Next::Nothing => break Close::AtOnce,
        }
        client.shrink();
        conn.enter(ConnState::Idle, worker.now().monotonic);
    };
    conn.remove(&deadline);
    (client.take_stream(), how)
}

/// Answers a connection whose first bytes cannot be parsed as requests, and returns its stream.
pub(super) async fn refuse(
    worker: &Rc<WorkerCtx>,
    conn: &Rc<Conn>,
    stream: Stream,
    failure: Failure,
) -> Option<Stream> {
    let client = Rc::new(ClientIo::new(stream, Vec::new(), Rc::clone(&conn.io)));
    let deadline = Rc::new(Deadline::new(Rc::clone(&conn.io), worker.now().monotonic));
    conn.add(&deadline);
    let loop_ = Loop { worker, conn, client: &client, deadline: &deadline };
    loop_.refuse(worker.take_request(), failure).await;
    conn.remove(&deadline);
    client.take_stream()
}

/// References used by a connection's loop.
struct Loop<'c> {
    worker: &'c Rc<WorkerCtx>,
    conn: &'c Rc<Conn>,
    client: &'c Rc<ClientIo>,
    deadline: &'c Rc<Deadline>,
}

/// Bound in bytes on the partial heads that are parsed again with each piece received, so that a
/// head that cannot become valid is refused at once. Larger heads are parsed when their end has
/// arrived: parsing them with every byte would cost the square of their size.
const MAX_READ_AGAIN: usize = 4 * 1_024;

impl Loop<'_> {
    /// Waits for a request's head.
    async fn read_head(&self, limits: &Limits) -> Result<Rc<Request>, NoHead> {
        let Self { worker, conn, client, .. } = self;
        let bounds = Bounds { bytes: limits.header_bytes, fields: limits.headers };
        let mut partial = None;
        if client.has_input() {
            // Bytes received with the previous request, or while the protocol was detected.
            let mut input = client.take_input();
            match self.parse(&input, bounds)? {
                Some((request, length)) => {
                    input.advance(length);
                    client.put_back(input);
                    return Ok(request);
                }
                None => partial = Some(self.begin_partial(&input)),
            }
        }
        let read = poll_fn(|cx| {
            loop {
                let Some(head) = &mut partial else {
                    let mut scratch = worker.scratch();
                    let count = ready!(client.poll_read(cx, &mut scratch)).unwrap_or(0);
                    if count == 0 {
                        return Poll::Ready(Err(NoHead::Closed));
                    }
                    let came = &scratch[..count];
                    match self.parse(came, bounds)? {
                        Some((request, length)) => {
                            self.keep(&came[length..]);
                            return Poll::Ready(Ok(request));
                        }
                        None => partial = Some(self.begin_partial(came)),
                    }
                    continue;
                };
                worker.partial_heads.grow(head, bounds.bytes + 1);
                let count = ready!(client.poll_read_more(cx, &mut head.bytes)).unwrap_or(0);
                if count == 0 {
                    return Poll::Ready(Err(NoHead::Closed));
                }
                let length = head.bytes.len();
                let is_due = length <= MAX_READ_AGAIN
                    || length >= bounds.bytes
                    || scan::head_end(&head.bytes, head.searched).is_some();
                head.searched = length;
                if is_due && let Some((request, length)) = self.parse(&head.bytes, bounds)? {
                    self.keep(&head.bytes[length..]);
                    return Poll::Ready(Ok(request));
                }
            }
        });
        match race(&***conn, read).await {
            Ok(read) => read,
            Err(Expiry::Head) => Err(self.unfinished(partial, Failure::HeadTimeout)),
            Err(Expiry::HeadsFull) => Err(self.unfinished(partial, Failure::HeadsFull)),
            Err(_) => Err(NoHead::Silent),
        }
    }

    /// Builds a request from a head whose rest is no longer awaited, with the part of the target
    /// received.
    fn unfinished(&self, partial: Option<PartialHead>, failure: Failure) -> NoHead {
        let mut request = self.worker.take_request();
        if let Some(head) = partial {
            let bounds = Bounds { bytes: usize::MAX, fields: usize::MAX };
            // The head is incomplete; the parts received are kept.
            let _ = Rc::make_mut(&mut request).parse(&head.bytes, bounds);
        }
        NoHead::Failed(request, failure)
    }

    fn begin_partial(&self, came: &[u8]) -> PartialHead {
        if self.conn.state() != ConnState::Head {
            self.conn.enter(ConnState::Head, self.worker.now().monotonic);
        }
        self.worker.partial_heads.begin(self.conn, came)
    }

    /// Keeps the bytes after a head: its body, or further requests.
    fn keep(&self, rest: &[u8]) {
        if !rest.is_empty() {
            self.client.put_back(bytes::Bytes::copy_from_slice(rest));
        }
    }

    /// Parses a head at the front of these bytes; `None` if it is incomplete.
    fn parse(&self, bytes: &[u8], bounds: Bounds) -> Result<Option<(Rc<Request>, usize)>, NoHead> {
        let mut request = self.worker.take_request();
        // A head taken from the worker has no other holder.
        let parsed = Rc::make_mut(&mut request).parse(bytes, bounds);
        match parsed {
            Ok(Some(length)) => Ok(Some((request, length))),
            Ok(None) => {
                self.worker.give_back_request(&mut request);
                Ok(None)
            }
            Err(bad) => Err(NoHead::Failed(request, Failure::Unread(bad))),
        }
    }

    /// Serves one request and sends its response.
    async fn serve_one(&self, request: Rc<Request>) -> Next {
        let Self { worker, conn, client, deadline } = self;
        conn.enter(ConnState::Busy, worker.now().monotonic);
        let terms = Terms::of(&request);
        let framing = request.framing();
        let mut exchange = Exchange::begin(worker, conn, deadline, request);
        client.begin_body(framing, takes_lone_lf(&exchange), terms.awaits_continue);
        let body = match framing {
            Framing::Length(0) => ClientBody::Empty,
            _ => ClientBody::Http1(Rc::clone(client)),
        };
        let Some(answer) = self.handle(&mut exchange, body).await else {
            // The client is gone; dropping the exchange logs that.
            return Next::Close(Close::AtOnce);
        };
        let Answer { head, rest, closes } = answer;
        let framed = Framed::new(terms, closes);
        match rest {
            Rest::Switch(target) => {
                let is_sent = send::head(client, worker, head).await;
                Box::pin(self.carry(exchange, is_sent, target)).await
            }
            Rest::Body(body) => {
                let sent = send::answer(&mut exchange, client, head, body, framed).await;
                match self.after(exchange, sent) {
                    After::Next(next) => next,
                    After::Upload(body) => Box::pin(self.upload(body)).await,
                }
            }
        }
    }

    /// Produces the response; `None` if the client left before.
    async fn handle(&self, exchange: &mut Exchange, body: ClientBody) -> Option<Answer> {
        let Self { worker, client, deadline, .. } = self;
        let mut handling = pin!(handle(exchange, body, Some(Upgrade::Http1)));
        poll_fn(|cx| {
            if let Poll::Ready(answer) = handling.as_mut().poll(cx) {
                return Poll::Ready(Some(answer));
            }
            if deadline.expiry() == Some(Expiry::Gone) {
                return Poll::Ready(None);
            }
            deadline.waker().remember(cx.waker());
            // While the body is read, the read itself detects a lost client.
            if client.is_whole() {
                match client.poll_end(cx) {
                    Poll::Ready(ClientEnd::Gone) => return Poll::Ready(None),
                    Poll::Ready(ClientEnd::HalfClosed) => {
                        deadline.record_half_closed(worker.now().monotonic);
                    }
                    Poll::Pending => {}
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Runs a tunnel after its head was sent to the client.
    async fn carry(&self, exchange: Exchange, is_sent: bool, target: TargetEnd) -> Next {
        let Self { conn, client, .. } = self;
        let rest = client.take_input();
        if is_sent && let Some(stream) = client.take_stream() {
            let io = Rc::clone(&conn.io);
            let stream = CountedStream::new(stream, rest.to_vec(), io, Rc::default());
            tunnel::carry(exchange, stream, target).await;
        }
        Next::Nothing
    }

    /// Logs a sent response and returns the next step.
    fn after(&self, mut exchange: Exchange, sent: Sent) -> After {
        let Self { client, .. } = self;
        let next = match sent {
            Sent::Whole { body, closes } => {
                exchange.log_mut().is_complete = true;
                if body.is_sending() {
                    return After::Upload(body);
                }
                body.give_back(&exchange);
                // Unread bytes would reset the connection when it closes.
                let is_read = client.is_whole() && !client.has_input();
                match (closes, is_read) {
                    (false, _) => Next::Again,
                    (true, true) => Next::Close(Close::Idle),
                    (true, false) => Next::Close(Close::Lingering { broke_off: false }),
                }
            }
            Sent::BrokeOff { ends_by_close } => {
                exchange.log_mut().error = Some(ErrorReason::TargetBrokeOff);
                Next::Close(match ends_by_close {
                    true => Close::Reset,
                    false => Close::Lingering { broke_off: true },
                })
            }
            Sent::Cut { ends_by_close } => {
                Next::Close(if ends_by_close { Close::Reset } else { Close::AtOnce })
            }
        };
        After::Next(next)
    }

    /// Sends the rest of a request to its target after the response was sent.
    async fn upload(&self, mut body: ResponseBody) -> Next {
        let Self { worker, client, deadline, .. } = self;
        let Some(_place) = worker.linger() else { return Next::Close(Close::AtOnce) };
        deadline.linger(worker.now().monotonic);
        send::end_and_upload(client, deadline, &mut body).await;
        Next::Close(Close::Lingering { broke_off: false })
    }

    /// Answers a head that could not be parsed, and logs it with the part of the target received.
    async fn refuse(&self, request: Rc<Request>, failure: Failure) -> Close {
        let Self { worker, conn, client, deadline } = self;
        worker.counters.unparsable.add_one();
        tracing::debug!(peer = %conn.info.peer, why = failure.word(), "invalid request head");
        conn.enter(ConnState::Busy, worker.now().monotonic);
        let mut exchange = Exchange::begin(worker, conn, deadline, request);
        exchange.log_mut().is_unread = true;
        if let Failure::Unread(bad) = failure
            && let Some(reason) = desync::of_bad_head(&exchange.request, bad)
        {
            exchange.log_mut().classification = Some(reason.words());
        }
        let Answer { head, rest, .. } = handle::refused(&mut exchange, &failure, true);
        if let Rest::Body(body) = rest {
            // A response to HEAD has no body, even if the request's head was too large.
            let framed = Framed::new(Terms::of(&exchange.request), true);
            let sent = send::answer(&mut exchange, client, head, body, framed).await;
            if matches!(sent, Sent::Whole { .. }) {
                exchange.log_mut().is_complete = true;
            }
        }
        Close::Lingering { broke_off: false }
    }
}

/// Returns true if LF alone may end a line of the client's chunks.
fn takes_lone_lf(exchange: &Exchange) -> bool {
    let listener = &exchange.snapshot.listeners[exchange.info().listener].settings;
    listener.desync_mitigation == Mitigation::Monitor
}
