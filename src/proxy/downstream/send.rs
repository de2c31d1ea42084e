//! Sends a response to an HTTP/1.1 client: head and small body in one send, in a framing that the
//! client understands (RFC 9112 section 6).

use crate::http1::encode;
use crate::http1::name::Name;
use crate::http1::request::Request;
use crate::http1::response::{Response, is_bodiless};
use crate::http1::value::list_has;
use crate::observe::counters::Counters;
use crate::proxy::client_io::ClientIo;
use crate::proxy::deadline::{Deadline, Expires, race};
use crate::proxy::exchange::Exchange;
use crate::proxy::response_body::ResponseBody;
use crate::proxy::worker_ctx::WorkerCtx;
use bytes::{Buf, Bytes};
use http::{HeaderMap, Method, Version};
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

/// Bound in bytes on the pieces of a body that are copied after the head or after each other:
/// copying them is faster than a vectored write of two pieces.
const MAX_COPIED: usize = 4 * 1_024;
/// Bytes gathered for one send.
const MAX_GATHERED: usize = 8 * 1_024;

/// The result of sending a response.
pub(super) enum Sent {
    /// The whole response was sent.
    Whole {
        /// The body; its target may still read the request.
        body: ResponseBody,
        /// True if no response may follow on the connection.
        closes: bool,
    },
    /// The target broke off. The part received was sent.
    BrokeOff {
        /// True if a plain end would mark the response as complete.
        ends_by_close: bool,
    },
    /// The client is gone, or the deadline expired.
    Cut {
        /// True if a plain end would mark the response as complete.
        ends_by_close: bool,
    },
}

/// The framing of a response, apart from its head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Framed {
    terms: Terms,
    closes: bool,
}

impl Framed {
    pub(super) fn new(terms: Terms, closes: bool) -> Self {
        Self { terms, closes: closes || !terms.keeps_alive }
    }
}

/// Properties of a request that decide about the framing of its response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// True for HEAD.
    pub(super) wants_no_body: bool,
    /// True if the client speaks HTTP/1.0, which has no chunks.
    pub(super) is_old: bool,
    /// True if the client allows another request.
    pub(super) keeps_alive: bool,
    /// True if the client accepts trailers.
    pub(super) takes_trailers: bool,
    /// True if the client waits for 100 Continue.
    pub(super) awaits_continue: bool,
}

impl Terms {
    pub(super) fn of(request: &Request) -> Self {
        let is_old = request.version == Version::HTTP_10;
        let trailers = request.fields.all(Name::Te);
        Self {
            wants_no_body: request.method == Method::HEAD,
            is_old,
            keeps_alive: request.keeps_alive(),
            takes_trailers: list_has(trailers, b"trailers"),
            awaits_continue: !is_old && request.fields.has(Name::Expect),
        }
    }
}

/// The framing that marks the body's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Nothing,
    Length,
    Chunked { trailers: bool },
    UntilClose,
}

/// Sends a head alone. Returns true if it was sent.
pub(super) async fn head(client: &ClientIo, worker: &WorkerCtx, head: Box<Response>) -> bool {
    let mut out = worker.take_buffer();
    head.write(&mut out);
    write_date(worker, &head, &mut out);
    out.extend_from_slice(b"\r\n");
    worker.give_back_response(head);
    let mut at = 0;
    let sent = poll_fn(|cx| {
        while at < out.len() {
            match ready!(client.poll_write(cx, &out[at..])) {
                Ok(count @ 1..) => at += count,
                _ => return Poll::Ready(false),
            }
        }
        client.poll_flush(cx).map(|flushed| flushed.is_ok())
    })
    .await;
    worker.give_back_buffer(out);
    sent
}

/// Sends a response.
pub(super) async fn answer(
    exchange: &mut Exchange,
    client: &ClientIo,
    mut head: Box<Response>,
    mut body: ResponseBody,
    framed: Framed,
) -> Sent {
    let (worker, deadline) = (&exchange.worker, &exchange.deadline);
    let Framed { terms, mut closes } = framed;
    let mode = mode(&mut head, &body, terms);
    let ends_by_close = mode == Mode::UntilClose;
    closes |= ends_by_close;
    client.ends_by_close(ends_by_close);
    let mut out = worker.take_buffer();
    write_head(worker, head, closes, terms, &mut out);
    let mut writer =
        ResponseWriter { out, at: 0, chunk: Bytes::new(), mode, closes_chunk: false, end: None };
    let end = poll_fn(|cx| {
        body.poll_sending(cx);
        let polled = writer.poll(cx, &mut body, client, &worker.counters);
        if polled.is_pending() {
            if deadline.expiry().is_some() {
                return Poll::Ready(BodyEnd::Cut);
            }
            deadline.waker().remember(cx.waker());
        }
        polled
    })
    .await;
    worker.give_back_buffer(writer.out);
    match end {
        BodyEnd::Whole => {
            client.ends_by_close(false);
            Sent::Whole { body, closes }
        }
        BodyEnd::BrokeOff => Sent::BrokeOff { ends_by_close },
        BodyEnd::Cut => Sent::Cut { ends_by_close },
    }
}

/// Chooses the framing of the body and writes it into the head.
fn mode(head: &mut Response, body: &ResponseBody, terms: Terms) -> Mode {
    let has_length = head.fields.has(Name::ContentLength);
    let is_bodiless = is_bodiless(head.status);
    let left = body.left();
    let own = matches!(body, ResponseBody::Own(_));
    if terms.wants_no_body || is_bodiless {
        // A page's length is known; the length of a target's body is in the target's head.
        if let (true, false, false, Some(length)) = (own, is_bodiless, has_length, left) {
            head.fields.set_length(length);
        }
        return Mode::Nothing;
    }
    if has_length {
        return Mode::Length;
    }
    if let Some(length) = left {
        head.fields.set_length(length);
        return Mode::Length;
    }
    if terms.is_old {
        // It would announce trailers that are not sent.
        head.fields.remove(Name::Trailer);
        return Mode::UntilClose;
    }
    head.fields.append(Name::TransferEncoding, b"chunked");
    Mode::Chunked { trailers: terms.takes_trailers }
}

fn write_head(
    worker: &WorkerCtx,
    mut head: Box<Response>,
    closes: bool,
    terms: Terms,
    out: &mut Vec<u8>,
) {
    if closes {
        head.fields.set(Name::Connection, b"close");
    } else if terms.is_old {
        head.fields.set(Name::Connection, b"keep-alive");
    }
    head.write(out);
    write_date(worker, &head, out);
    out.extend_from_slice(b"\r\n");
    worker.give_back_response(head);
}

/// Adds Date if the target sent none (RFC 9110 section 6.6.1).
fn write_date(worker: &WorkerCtx, head: &Response, out: &mut Vec<u8>) {
    if !head.fields.has(Name::Date) {
        worker.with_today(|date| encode::write_field(out, b"date", date.as_bytes()));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyEnd {
    Whole,
    BrokeOff,
    Cut,
}

/// The state of sending a response.
struct ResponseWriter {
    /// Heads, chunk lines, and small pieces of the body; sent up to `at`.
    out: Vec<u8>,
    at: usize,
    /// A large piece of the body, sent after `out`.
    chunk: Bytes,
    mode: Mode,
    /// True if the line end of a chunk is still to be written.
    closes_chunk: bool,
    /// The end of the body; `None` before it.
    end: Option<BodyEnd>,
}

impl ResponseWriter {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut ResponseBody,
        client: &ClientIo,
        counters: &Counters,
    ) -> Poll<BodyEnd> {
        loop {
            let is_waiting = self.gather(cx, body, counters).is_pending();
            if self.at < self.out.len() || !self.chunk.is_empty() {
                match ready!(client.poll_write_both(cx, &self.out[self.at..], &self.chunk)) {
                    Ok(count @ 1..) => self.advance(count),
                    _ => return Poll::Ready(BodyEnd::Cut),
                }
                continue;
            }
            if let Some(end) = self.end {
                let flushed = ready!(client.poll_flush(cx));
                return Poll::Ready(if flushed.is_ok() { end } else { BodyEnd::Cut });
            }
            if is_waiting {
                // TLS may hold written bytes; a plain stream never does.
                if let Poll::Ready(Err(_)) = client.poll_flush(cx) {
                    return Poll::Ready(BodyEnd::Cut);
                }
                return Poll::Pending;
            }
        }
    }

    /// Takes the available body, up to the bytes of one send. Pending if none is available.
    fn gather(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut ResponseBody,
        counters: &Counters,
    ) -> Poll<()> {
        if self.mode == Mode::Nothing {
            self.end = Some(BodyEnd::Whole);
        }
        while self.end.is_none() && self.chunk.is_empty() && self.out.len() - self.at < MAX_GATHERED
        {
            match ready!(body.poll_frame(cx, counters)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.take(data, body),
                    Err(frame) => self.finish(frame.into_trailers().ok()),
                },
                Some(Err(_)) => {
                    // The client must see that the response is incomplete: the connection closes
                    // without a last chunk, or short of the length.
                    self.end = Some(BodyEnd::BrokeOff);
                }
                None => self.finish(None),
            }
        }
        if self.end == Some(BodyEnd::Whole) {
            body.release_place();
        }
        Poll::Ready(())
    }

    fn take(&mut self, data: Bytes, body: &ResponseBody) {
        if data.is_empty() {
            return;
        }
        let is_chunked = matches!(self.mode, Mode::Chunked { .. });
        if is_chunked {
            self.close_chunk();
            encode::begin_chunk(&mut self.out, data.len());
            self.closes_chunk = true;
        }
        if data.len() <= MAX_COPIED {
            self.out.extend_from_slice(&data);
        } else {
            self.chunk = data;
        }
        // Checked only if the end of the body needs no bytes of ours.
        if !is_chunked && body.is_done() {
            self.end = Some(BodyEnd::Whole);
        }
    }

    fn close_chunk(&mut self) {
        if std::mem::take(&mut self.closes_chunk) {
            self.out.extend_from_slice(encode::CHUNK_END);
        }
    }

    fn finish(&mut self, trailers: Option<HeaderMap>) {
        self.end = Some(BodyEnd::Whole);
        if let Mode::Chunked { trailers: takes } = self.mode {
            self.close_chunk();
            encode::last_chunk(&mut self.out, trailers.as_ref().filter(|_| takes));
        }
    }

    fn advance(&mut self, count: usize) {
        let of_out = count.min(self.out.len() - self.at);
        self.at += of_out;
        self.chunk.advance(count - of_out);
        if self.at == self.out.len() {
            self.out.clear();
            self.at = 0;
        }
    }
}

/// Closes the sending half after the response, and sends the rest of the request until the target
/// has it or the deadline expires.
pub(super) async fn end_and_upload(
    client: &ClientIo,
    deadline: &Deadline,
    body: &mut ResponseBody,
) {
    let mut ended = false;
    let upload = poll_fn(|cx| {
        ended = ended || client.poll_shutdown(cx).is_ready();
        body.poll_sent(cx)
    });
    let _ = race(deadline, upload).await;
}
