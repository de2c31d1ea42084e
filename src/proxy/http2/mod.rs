//! One HTTP/2 connection of a client: how it begins, which of its streams are served, when it is
//! told to open no more, and what ends it. Each stream is served in a task of its own.

mod incoming;
mod outflow;
mod paced;
pub mod stream;
pub mod tunnel;

use super::progress::{Expiry, Phase, Progress};
use super::workplace::Workplace;
use crate::config::settings::Limits;
use crate::ground::clock::Moment;
use crate::net::stream::WatchedStream;
use crate::net::timer::{self, Sleep};
use crate::policy::conduct::Conduct;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use outflow::{Outflow, Queued};
use paced::{Paced, Turn};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// What clients may send before a target takes it, of one stream and of all together. The library
/// bounds small DATA frames by half of the second.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// What the library may hold of one answer for a client that takes nothing.
const MOST_QUEUED_OF_A_STREAM: usize = 64 << 10;
/// Bytes a field costs in SETTINGS_MAX_HEADER_LIST_SIZE beside its name and value (RFC 9113 section
/// 6.5.2).
const FIELD_OVERHEAD: u32 = 32;
/// Memory that heads of requests may take which no target has answered yet, over all streams.
const HEADS: usize = 1 << 20;
/// What a field takes in memory beside its name and value.
const FIELD_IN_MEMORY: usize = 80;
/// Streams whose client took them back before they were served. Each was work for the library
/// alone; the rest is bounded by [`Conduct`].
const MOST_UNSERVED_RESETS: usize = 20;
/// Streams that the client's own errors made the library reset (CVE-2025-8671).
const MOST_ERRONEOUS: usize = 100;
/// Streams reset here within a second on which frames may still come. Those of others count as
/// errors of the client.
const MOST_CLOSED: usize = 256;
/// Requests after which a connection is renewed (ALB: 10,000).
const MOST_REQUESTS: u32 = 10_000;
/// How long a talkative client is not listened to after each turn: three hundred times what the turn
/// took, so that a hundred of them take a third of a worker; where it carried nothing at all, a
/// thousand times. That costs others less than closing, for whoever is closed comes again.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const PAUSE: (u32, Duration) = (300, Duration::from_millis(250));
const PAUSE_FOR_NOTHING: (u32, Duration) = (1_000, Duration::from_secs(1));
/// For how long a client may say nothing but that.
const LONGEST_NOTHING: Duration = Duration::from_secs(10);
/// How long a client may take to hear that it should open no more streams, and how long the last
/// frames may take to go out.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a connection's streams share.
pub(super) struct Shared {
    workplace: Rc<Workplace>,
    progress: Rc<Progress>,
    limits: Limits,
    outflow: Rc<Outflow>,
    conduct: RefCell<Conduct>,
    /// Memory that heads take.
    heads: Cell<usize>,
}

/// Why a connection ended.
enum End {
    /// The client closed it, or the library did for what it says, and has told the client.
    Done(Option<h2::Error>),
    /// The client was told to leave, and has.
    Left,
    Expired(Expiry),
    Abused,
}

/// Serves an HTTP/2 connection from its preface to its end. The socket is left with the watch.
pub(super) async fn serve(
    workplace: &Rc<Workplace>,
    progress: &Rc<Progress>,
    stream: WatchedStream,
    limits: &Limits,
) {
    let turn = Rc::new(Turn::default());
    let mut handshake =
        Box::pin(builder(limits).handshake::<_, Queued>(Paced::new(stream, Rc::clone(&turn))));
    let begun = poll_fn(|cx| {
        begin_turn(workplace, progress, cx);
        turn.begin();
        let polled = match progress.expiry() {
            Some(_) => Poll::Ready(None),
            None => handshake.as_mut().poll(cx).map(Result::ok),
        };
        turn.ask_for_another(cx);
        polled
    });
    let Some(mut connection) = begun.await else { return };
    drop(handshake);
    let now = workplace.now().monotonic;
    progress.enter(Phase::NoStream, now, None);
    let shared = Rc::new(Shared {
        workplace: Rc::clone(workplace),
        progress: Rc::clone(progress),
        limits: *limits,
        outflow: Rc::default(),
        conduct: RefCell::new(Conduct::new(now, limits.streams)),
        heads: Cell::new(0),
    });
    let mut requests = 0;
    let mut goodbye: Option<Instant> = None;
    let mut written = progress.watch.written();
    let mut pause = None;
    let mut is_talkative = false;
    let mut nothing_since: Option<Instant> = None;
    let end = poll_fn(|cx| {
        begin_turn(workplace, progress, cx);
        // Most never need to know.
        let begun = is_talkative.then(|| Moment::now().monotonic);
        match is_over(&mut pause, cx) {
            true if nothing_since.is_some() => turn.begin_short(),
            true => turn.begin(),
            false => turn.begin_mute(),
        }
        if let Some(expiry) = progress.expiry() {
            return Poll::Ready(End::Expired(expiry));
        }
        if goodbye.is_none() && shared.should_leave(requests) {
            goodbye = Some(workplace.now().monotonic);
            progress.said_goodbye();
            connection.graceful_shutdown();
        }
        // The library goes on with whoever does not answer the PING that asks whether it has heard.
        let has_heard = goodbye.is_some_and(|said| {
            workplace.now().monotonic.saturating_duration_since(said) >= GOODBYE
        });
        loop {
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((_, respond)))) if has_heard => shared.refuse(respond),
                Poll::Ready(Some(Ok((request, respond)))) => {
                    requests += 1;
                    shared.open(request, respond);
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(End::Done(Some(error))),
                Poll::Ready(None) => return Poll::Ready(End::Done(None)),
                Poll::Pending => break,
            }
        }
        if has_heard && progress.open_streams() == 0 && !connection.has_streams() {
            return Poll::Ready(End::Left);
        }
        let total = progress.watch.read() + progress.watch.written();
        let mut conduct = shared.conduct.borrow_mut();
        let carried = turn.take_carried();
        conduct.note_payload(carried);
        if conduct.is_abusive(total, workplace.now().monotonic) {
            return Poll::Ready(End::Abused);
        }
        if pause.is_none() {
            is_talkative = turn.was_cut() && conduct.is_talkative(total);
            let now = workplace.now().monotonic;
            let says_nothing = is_talkative && carried == 0;
            nothing_since = says_nothing.then(|| nothing_since.unwrap_or(now));
            let over = |since| now.saturating_duration_since(since) >= LONGEST_NOTHING;
            if nothing_since.is_some_and(over) {
                return Poll::Ready(End::Abused);
            }
            if is_talkative {
                let work = begun.map_or(Duration::ZERO, |begun| {
                    Moment::now().monotonic.saturating_duration_since(begun)
                });
                let (times, longest) = if says_nothing { PAUSE_FOR_NOTHING } else { PAUSE };
                let time = (work * times).clamp(SHORTEST_PAUSE, longest);
                pause = Some(timer::sleep(time));
                // Its timer begins now.
                is_over(&mut pause, cx);
            } else {
                turn.ask_for_another(cx);
            }
        }
        drop(conduct);
        shared.note_phase(&mut written);
        Poll::Pending
    });
    match end.await {
        End::Done(Some(error)) if error.is_library() => shared.note_error(&error),
        End::Done(_) => {}
        End::Abused => {
            workplace.counters.abusive.add_one();
            tracing::debug!(peer = %progress.client.peer, "an HTTP/2 connection is abused");
            progress.linger_after_abuse();
            say_goodbye(connection, Reason::ENHANCE_YOUR_CALM, &turn).await;
        }
        End::Left | End::Expired(Expiry::Silent) => {
            say_goodbye(connection, Reason::NO_ERROR, &turn).await
        }
        End::Expired(_) => {}
    }
}

fn begin_turn(workplace: &Workplace, progress: &Progress, cx: &Context<'_>) {
    workplace.begin_turn();
    progress.remember_waker(cx.waker());
}

/// Whether nothing is waited for any more.
fn is_over(pause: &mut Option<Sleep>, cx: &mut Context<'_>) -> bool {
    if let Some(sleep) = pause
        && Pin::new(sleep).poll(cx).is_pending()
    {
        return false;
    }
    *pause = None;
    true
}

fn builder(limits: &Limits) -> Builder {
    let clamped = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let fields = clamped(limits.headers).saturating_mul(FIELD_OVERHEAD);
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits.streams)
        // Ours is the smaller bound, and logged; past this one the library answers 431 unseen.
        .max_header_list_size(clamped(limits.header_bytes).saturating_add(fields))
        .max_send_buffer_size(MOST_QUEUED_OF_A_STREAM)
        .max_pending_accept_reset_streams(MOST_UNSERVED_RESETS)
        .max_local_error_reset_streams(Some(MOST_ERRONEOUS))
        .max_concurrent_reset_streams(MOST_CLOSED)
        .enable_connect_protocol();
    builder
}

/// Tells the client that this is the end, as far as it takes it.
async fn say_goodbye(
    mut connection: Connection<Paced<WatchedStream>, Queued>,
    reason: Reason,
    turn: &Turn,
) {
    connection.abrupt_shutdown(reason);
    let closed = poll_fn(|cx| {
        turn.begin();
        let polled = connection.poll_closed(cx);
        turn.ask_for_another(cx);
        polled
    });
    // Whoever takes nothing is not waited for.
    let _ = timer::timeout(GOODBYE, closed).await;
}

impl Shared {
    /// Whether the client should open its next streams on another connection: the process leaves,
    /// or this one has served for long enough.
    fn should_leave(&self, requests: u32) -> bool {
        requests >= MOST_REQUESTS
            || self.workplace.draining.get()
            || self.progress.is_old(self.workplace.now())
    }

    /// Serves a stream, or refuses it unseen, so that it can safely be sent again (RFC 9113 section
    /// 8.7). The library counts streams until they are closed on the wire; here one counts until
    /// nothing is done for it any more.
    fn open(self: &Rc<Self>, request: Request<RecvStream>, respond: SendResponse<Queued>) {
        let head = stream::memory(&request);
        let is_full = self.progress.open_streams() >= self.limits.streams as usize;
        // One is served however large it may be by `limits.header_bytes`.
        let others = self.heads.get();
        if is_full || (others > 0 && others + head > HEADS) {
            return self.refuse(respond);
        }
        let open = Open::new(Rc::clone(self), head);
        tokio::task::spawn_local(Box::pin(stream::serve(open, request, respond)));
    }

    fn refuse(&self, mut respond: SendResponse<Queued>) {
        respond.send_reset(Reason::REFUSED_STREAM);
        self.workplace.counters.refused_streams.add_one();
        self.note_reset();
    }

    /// Notes why the library ended the connection.
    fn note_error(&self, error: &h2::Error) {
        let counters = &self.workplace.counters;
        match error.reason() {
            Some(Reason::ENHANCE_YOUR_CALM) => counters.abusive.add_one(),
            _ => counters.unparsable.add_one(),
        }
        tracing::debug!(peer = %self.progress.client.peer, %error, "HTTP/2 that is none");
    }

    fn note_reset(&self) {
        let now = self.workplace.now().monotonic;
        self.conduct.borrow_mut().note_reset(now);
    }

    /// Wakes who waits for room, and notes what the connection waits for.
    fn note_phase(&self, written: &mut u64) {
        self.outflow.wake_if_room();
        let phase = match (self.outflow.is_empty(), self.progress.open_streams()) {
            (false, _) => Phase::Unsent,
            (true, 0) => Phase::NoStream,
            (true, _) => Phase::Streams,
        };
        let written_now = self.progress.watch.written();
        let goes_on = phase == Phase::Unsent && written_now != *written;
        *written = written_now;
        if goes_on || phase != self.progress.phase() {
            self.progress.enter(phase, self.workplace.now().monotonic, None);
        }
    }
}

/// An open stream. Dropping it makes room for another.
pub(super) struct Open {
    shared: Rc<Shared>,
    /// How far the stream is.
    progress: Rc<Progress>,
    head: Cell<usize>,
}

impl Open {
    fn new(shared: Rc<Shared>, head: usize) -> Self {
        shared.heads.set(shared.heads.get() + head);
        let progress = shared.progress.open_stream();
        Self { shared, progress, head: Cell::new(head) }
    }

    /// Notes that nobody needs the request's head any more.
    fn forget_head(&self) {
        self.shared.heads.set(self.shared.heads.get() - self.head.take());
    }

    fn note_payload(&self, bytes: usize) {
        self.shared.conduct.borrow_mut().note_payload(bytes as u64);
    }

    /// Notes that the client took its request back.
    fn note_reset(&self) {
        self.shared.note_reset();
        // The connection's own task judges it.
        self.shared.progress.wake();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.forget_head();
        self.shared.progress.close_stream(&self.progress);
    }
}
