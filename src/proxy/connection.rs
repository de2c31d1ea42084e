//! One client connection from accept to close: hyper drives HTTP/1.1, the worker's tick sets its
//! deadlines, and what it leaves undone is done here.

use super::exchange::Ended;
use super::handle::handle;
use super::handshake::{self, Handshakes};
use super::http2;
use super::progress::lingering::LetGo;
use super::progress::{Expiry, Phase, Progress};
use super::respond;
use super::workplace::Workplace;
use crate::config::settings::Limits;
use crate::ground::clock::Moment;
use crate::net::stream::{Stream, WatchedStream};
use crate::net::timer;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Header fields hyper holds on the stack; another limit moves them to the heap.
const FIELDS_ON_THE_STACK: usize = 100;
/// Bytes hyper may buffer of one client, heads included, where the head's limit allows it.
const BUFFER_BEYOND_HEAD: usize = 256 * 1_024;

/// Why serving stopped.
enum End {
    Done(Result<(), hyper::Error>),
    Expired(Expiry),
    /// Nothing is under way, and has not been for a while.
    Idle,
    /// The client speaks HTTP without TLS on a listener with it.
    PlainHttp,
}

/// Serves a connection until it closes or becomes a tunnel.
///
/// hyper's part of it, with its buffers, is there only while something is going on: an idle
/// connection is a socket and a [`Progress`].
pub async fn serve(
    workplace: Rc<Workplace>,
    progress: Rc<Progress>,
    socket: TcpStream,
    handshakes: Option<Handshakes>,
    limits: &Limits,
) {
    let stream = match handshakes {
        None => Stream::Plain(socket),
        Some(handshakes) => {
            match handshake::shake_hands(&workplace, &progress, socket, &handshakes).await {
                Ok(stream) => stream,
                Err(Some(plain)) => {
                    return finish(&workplace, &progress, Stream::Plain(plain), End::PlainHttp)
                        .await;
                }
                Err(None) => return,
            }
        }
    };
    let mut is_http2 = stream.agreed_on_http2();
    let may_know = matches!(stream, Stream::Plain(_));
    let mut stream = WatchedStream::new(stream, Arc::clone(&progress.watch));
    if may_know {
        is_http2 = begins_http2(&workplace, &progress, &mut stream).await;
    }
    if is_http2 {
        http2::serve(&workplace, &progress, stream, limits).await;
        if let Some(stream) = progress.watch.take_stream() {
            finish(&workplace, &progress, stream, End::Idle).await;
        }
        return;
    }
    let end = loop {
        let waited = poll_fn(|cx| {
            workplace.begin_turn();
            progress.remember_waker(cx.waker());
            match progress.expiry() {
                Some(expiry) => Poll::Ready(Some(expiry)),
                None => stream.poll_readable(cx).map(|()| None),
            }
        });
        if let Some(expiry) = waited.await {
            drop(stream);
            break End::Expired(expiry);
        }
        progress.equip(true);
        match speak(&workplace, &progress, stream, limits).await {
            (End::Idle, Some(idle)) => stream = idle,
            (end, _) => break end,
        }
        progress.equip(false);
    };
    // hyper's machine is gone, and with it whatever it was serving: that is written down now.
    progress.settle_all();
    if let Some(stream) = progress.watch.take_stream() {
        finish(&workplace, &progress, stream, end).await;
    }
}

/// Whether the client knows that HTTP/2 is spoken and begins with its preface (RFC 9113 section
/// 3.3). Decided by the first bytes, which are looked at and left where they are; a client whose
/// time is over has not begun.
async fn begins_http2(
    workplace: &Workplace,
    progress: &Progress,
    stream: &mut WatchedStream,
) -> bool {
    let begins = poll_fn(|cx| {
        workplace.begin_turn();
        progress.remember_waker(cx.waker());
        match progress.expiry() {
            Some(_) => Poll::Ready(false),
            None => stream.poll_begins_with(cx, PREFACE),
        }
    });
    begins.await
}

/// What no HTTP/1.1 request begins with: PRI is no method (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI";

/// Speaks HTTP/1.1 until the connection ends or has been idle for a while; then the stream comes
/// back.
async fn speak(
    workplace: &Rc<Workplace>,
    progress: &Rc<Progress>,
    stream: WatchedStream,
    limits: &Limits,
) -> (End, Option<WatchedStream>) {
    let service = service_fn(|request: Request<Incoming>| {
        handle(workplace.clone(), progress.clone(), request)
    });
    let mut builder = http1::Builder::new();
    // hyper's pipelined flush stays off: it holds answers back as long as anything unread is in
    // the buffer, half a request or a malformed one included.
    builder
        .header_read_timeout(None)
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.header_bytes + BUFFER_BEYOND_HEAD);
    if limits.headers != FIELDS_ON_THE_STACK {
        builder.max_headers(limits.headers);
    }
    // Dropped after the connection, for an answer that is dropped with it may leave a side behind.
    let _until_the_end = LetGo(progress);
    // Boxed, so that a parked connection does not keep the room.
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = Box::new(connection.with_upgrades());
    let end = poll_fn(|cx| {
        workplace.begin_turn();
        progress.remember_waker(cx.waker());
        if let Some(expiry) = progress.unanswerable_expiry() {
            return Poll::Ready(End::Expired(expiry));
        }
        progress.poll_sending(cx);
        let polled = Pin::new(&mut *connection).poll(cx);
        progress.settle(workplace);
        match polled {
            Poll::Ready(done) => Poll::Ready(End::Done(done)),
            Poll::Pending if progress.may_park(workplace.now().monotonic) => Poll::Ready(End::Idle),
            Poll::Pending => Poll::Pending,
        }
    });
    let end = end.await;
    if matches!(end, End::Done(Ok(()))) {
        // hyper is done with a request that it has read; the target may not have taken all of it.
        poll_fn(|cx| {
            workplace.begin_turn();
            progress.remember_waker(cx.waker());
            progress.poll_sending(cx);
            match progress.is_keeping() && progress.expiry().is_none() {
                true => Poll::Pending,
                false => Poll::Ready(()),
            }
        })
        .await;
    }
    match (end, *connection) {
        (End::Idle, connection) => match connection.into_parts() {
            Some(parts) => {
                let mut stream = parts.io.into_inner();
                if !parts.read_buf.is_empty() {
                    // Part of another head came along with the request before.
                    progress.enter(Phase::Head, workplace.now().monotonic, None);
                    stream.put_back(parts.read_buf);
                }
                (End::Idle, Some(stream))
            }
            None => (End::Idle, None),
        },
        (end, _) => (end, None),
    }
}

/// The last word on a connection that hyper let go of, then the close.
async fn finish(workplace: &Rc<Workplace>, progress: &Progress, mut stream: Stream, end: End) {
    // Over TLS an end is said. What broke off must not look as if it had ended: where the length of
    // a body is that of the connection, this is all that tells.
    let is_silent = matches!(end, End::Expired(Expiry::Silent));
    let broke_off = matches!(end, End::Expired(Expiry::Stalled | Expiry::Deregistered))
        || matches!(&end, End::Done(Err(error)) if !error.is_parse());
    // What is answered to a head that could not be read, why, and whether hyper has done so.
    let unread = match end {
        End::Expired(Expiry::Head) => Some((StatusCode::REQUEST_TIMEOUT, "request_timeout", false)),
        // An HTTP/2 preface: ALB answers 505 on a listener that does not speak it.
        End::Done(Err(error)) if error.is_parse_version_h2() => {
            Some((StatusCode::HTTP_VERSION_NOT_SUPPORTED, "http2_preface", false))
        }
        End::Done(Err(error)) if error.is_parse() => {
            tracing::debug!(peer = %progress.client.peer, %error, "a request that is no HTTP");
            let (status, why) = answered_by_hyper(&error);
            Some((status, why, true))
        }
        // As ALB and nginx answer, rather than with an alert no browser would show.
        End::PlainHttp => Some((StatusCode::BAD_REQUEST, "plain_http", false)),
        End::Expired(_) | End::Done(_) | End::Idle => None,
    };
    if let Some((status, why, is_answered)) = unread {
        workplace.counters.unparsable.add_one();
        if !is_answered {
            let snapshot = workplace.snapshot();
            let listener = &snapshot.listeners[progress.client.listener].settings;
            let answer = respond::raw(status, &listener.response_fields);
            // Best effort: the socket's buffer takes so few bytes at once, or the client is gone.
            if let Ok(Ok(())) = timer::timeout(LAST_WORD, stream.write_all(&answer)).await {
                progress.watch.add_written(answer.len());
            }
        }
        progress.linger();
        Ended::unread(Rc::clone(workplace), &progress.client, status, why).write_now(progress);
    }
    if progress.must_reset() {
        // What was sent before is to arrive before the reset does.
        let _ = timer::timeout(LONGEST_SEND, stream.reset_once_sent()).await;
        progress.ends_by_close(false);
        return;
    }
    if progress.must_linger() {
        linger(workplace, progress, &mut stream, broke_off).await;
    } else if is_silent && stream.is_tls() {
        // At once or not at all: the socket's buffer has room, or the client is gone.
        let _ = timer::timeout(Duration::ZERO, stream.shutdown()).await;
    }
}

/// What hyper answers to a head it cannot read: it tells why, but not the status.
fn answered_by_hyper(error: &hyper::Error) -> (StatusCode, &'static str) {
    match error.is_parse_too_large() {
        // Only its words tell a long target from large fields.
        true if error.to_string() == "URI too long" => (StatusCode::URI_TOO_LONG, "uri_too_long"),
        true => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large"),
        false => (StatusCode::BAD_REQUEST, "malformed_head"),
    }
}

/// How long a client may take to take what was sent before a reset.
const LONGEST_SEND: Duration = Duration::from_secs(1);

/// How long the last answer to a head that could not be read may take to go out.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Reads on after the last byte of the answer: a socket closed with unread bytes resets the connection,
/// and the reset may overtake the answer (RFC 9112 section 9.6).
async fn linger(workplace: &Workplace, progress: &Progress, stream: &mut Stream, broke_off: bool) {
    let Some(_place) = workplace.linger() else { return };
    progress.begin_lingering(Moment::now().monotonic);
    let drain = async {
        let _ = match &mut *stream {
            Stream::Tls(stream) if broke_off => stream.get_mut().0.shutdown().await,
            whole => whole.shutdown().await,
        };
        let mut scratch = [0; 4_096];
        let mut left = progress.lingering_bytes();
        while let Ok(count) = stream.read(&mut scratch).await
            && count > 0
            && count <= left
        {
            left -= count;
            progress.watch.note_read(count);
        }
    };
    let mut drain = Box::pin(drain);
    poll_fn(|cx| {
        progress.remember_waker(cx.waker());
        match progress.expiry() {
            Some(_) if progress.phase() == Phase::Lingering => Poll::Ready(()),
            _ => drain.as_mut().poll(cx),
        }
    })
    .await;
}
