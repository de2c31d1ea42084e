//! Bodies that count, limit, and hold what must live until the last byte.

use super::exchange::Exchange;
use super::failure::Failure;
use super::http2::recv_body::StreamBody;
use super::progress::Progress;
use super::target_side::TargetSide;
use crate::model::places::InFlight;
use crate::net::http1::BrokenOff;
use crate::observe::counters::Counters;
use crate::policy::headers::hop_by_hop;
use bytes::Bytes;
use http::{HeaderName, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A body that broke off. Whoever reads it only needs to know that it did; why stands with the
/// exchange.
#[derive(Clone, Copy, Debug)]
pub struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body broke off")
    }
}

impl std::error::Error for Broken {}

/// What ended a client's body before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The client left.
    Gone,
    /// It is not framed as it says, or its trailers are too large.
    Malformed,
}

impl Fault {
    /// Of a body over HTTP/1.1: what could not be read is the connection's fault, what could not be
    /// understood the client's.
    fn of(error: &hyper::Error) -> Self {
        let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        match source.map(io::Error::kind) {
            Some(ErrorKind::InvalidInput | ErrorKind::InvalidData) => Self::Malformed,
            _ => Self::Gone,
        }
    }
}

/// Bytes of a request without use that are read so that the connection can go on, if they are there:
/// some four turns of reading.
const MAX_UNWANTED: usize = 64 * 1_024;

/// A client's body as it comes.
#[derive(Debug)]
pub enum ClientBody {
    /// Over HTTP/1.1, or none.
    Http1(Incoming),
    /// Over a stream of HTTP/2.
    Http2(StreamBody),
    /// None, whatever may come on the stream after it.
    Empty,
}

impl ClientBody {
    /// The next frame.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match self {
            Self::Http1(body) => {
                let polled = Pin::new(body).poll_frame(cx);
                polled.map(|frame| Some(frame?.map_err(|error| Fault::of(&error))))
            }
            Self::Http2(body) => body.poll_frame(cx),
            Self::Empty => Poll::Ready(None),
        }
    }

    /// Reads what is there of a body without use; whether that was all. Over HTTP/2 nothing hangs on
    /// that, for no other stream waits for the rest.
    pub async fn is_read_at_once(&mut self) -> bool {
        let Self::Http1(body) = self else { return self.is_end_stream() };
        let mut left = MAX_UNWANTED;
        // hyper reads once it was asked, and is asked once more for that.
        let mut asked = false;
        poll_fn(|cx| {
            loop {
                match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Ready(None) => return Poll::Ready(true),
                    Poll::Ready(Some(Ok(frame))) => {
                        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
                        asked = false;
                        if left == 0 {
                            return Poll::Ready(body.is_end_stream());
                        }
                    }
                    Poll::Ready(Some(Err(_))) => return Poll::Ready(false),
                    Poll::Pending if asked => return Poll::Ready(false),
                    Poll::Pending => {
                        asked = true;
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
            }
        })
        .await
    }

    /// Whether nothing of it is left.
    pub fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
            Self::Empty => true,
        }
    }
}

/// The client's body on its way to a target. It can be taken back as long as no frame of it was
/// read.
#[derive(Debug)]
pub struct RequestBody(pub Rc<Upload>);

/// A client's body on its way to a target.
#[derive(Debug)]
pub struct Upload {
    incoming: RefCell<ClientBody>,
    state: Cell<UploadState>,
    passed: Cell<u64>,
    limit: Option<u64>,
    progress: Rc<Progress>,
    counters: Arc<Counters>,
}

/// How far a client's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadState {
    /// Nothing of it was read, so that it can go to another target.
    Untouched,
    /// Some of it was.
    Begun,
    /// All of it was.
    Finished,
    /// It is larger than the limit.
    TooLarge,
    /// The client framed it badly.
    Malformed,
    /// The client left.
    Abandoned,
}

impl Upload {
    /// A client's body.
    pub fn new(
        incoming: ClientBody,
        limit: Option<u64>,
        progress: Rc<Progress>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            incoming: RefCell::new(incoming),
            state: Cell::new(UploadState::Untouched),
            passed: Cell::new(0),
            limit,
            progress,
            counters,
        }
    }

    /// How far it is.
    pub fn state(&self) -> UploadState {
        self.state.get()
    }

    /// What broke it, if anything did.
    pub fn failure(&self) -> Option<Failure> {
        match self.state.get() {
            UploadState::TooLarge => Some(Failure::BodyTooLarge),
            UploadState::Malformed => Some(Failure::BodyMalformed),
            UploadState::Abandoned => Some(Failure::ClientGone),
            UploadState::Untouched | UploadState::Begun | UploadState::Finished => None,
        }
    }

    fn finish(&self) {
        self.state.set(UploadState::Finished);
        self.progress.request_left(false);
    }

    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let body = &mut *self.incoming.borrow_mut();
        let frame = match std::task::ready!(body.poll_frame(cx)) {
            None => {
                self.finish();
                return Poll::Ready(None);
            }
            Some(Err(fault)) => {
                self.state.set(match fault {
                    Fault::Malformed => UploadState::Malformed,
                    Fault::Gone => UploadState::Abandoned,
                });
                return Poll::Ready(Some(Err(Broken)));
            }
            Some(Ok(frame)) => frame,
        };
        self.state.set(UploadState::Begun);
        let passed = self.passed.get() + frame.data_ref().map_or(0, |data| data.len() as u64);
        self.passed.set(passed);
        if self.limit.is_some_and(|limit| passed > limit) {
            self.state.set(UploadState::TooLarge);
            return Poll::Ready(Some(Err(Broken)));
        }
        if body.is_end_stream() {
            self.finish();
        }
        Poll::Ready(Some(Ok(without_forbidden_trailers(frame, &self.counters))))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.0.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.incoming.borrow().is_end_stream()
    }
}

/// Trailers lose the names that may not be one (RFC 9110 section 6.5.1).
fn without_forbidden_trailers(frame: Frame<Bytes>, counters: &Counters) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            let forbidden: Vec<HeaderName> =
                trailers.keys().filter(|name| !hop_by_hop::may_be_trailer(name)).cloned().collect();
            forbidden.iter().for_each(|name| drop(trailers.remove(name)));
            counters.trailers_dropped.add(forbidden.len() as u64);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

/// What goes to the client.
#[derive(Debug)]
pub struct ResponseBody {
    source: Source,
    /// Ended when the body is let go. `None` where a tunnel carries it on.
    exchange: Option<Exchange>,
}

#[derive(Debug)]
enum Source {
    Own(Option<Bytes>),
    Target(Lease),
    /// It broke off when so many times all that was to be written had been.
    Broken(u64),
    Gone,
}

/// A target's side while its answer is passed on, and what is given back after it.
#[derive(Debug)]
pub struct Lease {
    /// Where it comes from.
    pub side: Held,
    /// To a target of the group of this index,
    pub group: usize,
    /// which is the one of this index.
    pub target: usize,
    /// The place under the target's cap.
    pub in_flight: Option<InFlight>,
}

/// A target's side, and who has a hand on it.
#[derive(Debug)]
pub enum Held {
    /// The answer's body alone.
    Alone(TargetSide),
    /// The client's task too, which sends on what is left of the request.
    Shared(Rc<RefCell<TargetSide>>),
}

impl Held {
    /// Lets the client's task send on what is left of the request.
    pub(super) fn share(self, progress: &Progress) -> Self {
        let shared = Rc::new(RefCell::new(self.into_inner()));
        progress.send_on(&shared);
        Self::Shared(shared)
    }

    /// Whether some of the request is left to be sent.
    pub(super) fn is_sending(&self) -> bool {
        self.with(TargetSide::is_sending)
    }

    /// The side, in one hand again.
    pub(super) fn into_inner(self) -> TargetSide {
        match self {
            Self::Alone(side) => side,
            // The client's task holds it weakly, but while it sends.
            #[allow(clippy::expect_used)]
            Self::Shared(shared) => Rc::try_unwrap(shared).expect("one holder").into_inner(),
        }
    }

    fn with<R>(&self, ask: impl FnOnce(&TargetSide) -> R) -> R {
        match self {
            Self::Alone(side) => ask(side),
            Self::Shared(shared) => ask(&shared.borrow()),
        }
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self {
            Self::Alone(side) => side.poll_frame(cx),
            Self::Shared(shared) => shared.borrow_mut().poll_frame(cx),
        }
    }
}

impl Lease {
    fn give_back(self, exchange: &Exchange) {
        // A stream ends by itself.
        let TargetSide::Http1(mut connection) = self.side.into_inner() else { return };
        if connection.rest() && !exchange.closes_both && !exchange.closes_target {
            let group = &exchange.snapshot.groups[self.group];
            let workplace = &exchange.workplace;
            let until = workplace.now().monotonic + group.settings.upstream.keep_alive;
            let target = &group.targets[self.target].live;
            let owner = exchange.client().owner();
            workplace.pool.give_back(target, connection, owner, until);
        }
    }
}

impl ResponseBody {
    /// A body the balancer made.
    pub fn own(bytes: Bytes, exchange: Exchange) -> Self {
        let bytes = Some(bytes).filter(|bytes| !bytes.is_empty());
        Self { source: Source::Own(bytes), exchange: Some(exchange) }
    }

    /// No body, and nothing that ends with it: the answer that begins a tunnel.
    pub fn of_switch() -> Self {
        Self { source: Source::Own(None), exchange: None }
    }

    /// A target's body, passed on.
    pub fn of_target(lease: Lease, mut exchange: Exchange) -> Self {
        if exchange.story().version == Version::HTTP_10
            && lease.side.with(TargetSide::left).is_none()
        {
            exchange.progress.ends_by_close(true);
        }
        Self { source: Source::Target(lease), exchange: Some(exchange) }
    }
}

impl ResponseBody {
    /// Bytes of a body that the balancer made; of a target's body the target says.
    pub(super) fn own_length(&self) -> Option<usize> {
        match &self.source {
            Source::Own(bytes) => bytes.as_ref().map(Bytes::len),
            Source::Target(_) | Source::Broken(_) | Source::Gone => None,
        }
    }

    /// Whether it is the answer to a gRPC call.
    pub(super) fn is_of_call(&mut self) -> bool {
        self.exchange.as_mut().is_some_and(|exchange| exchange.story().is_grpc)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        match &mut this.source {
            Source::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Gone => Poll::Ready(None),
            Source::Broken(flushes) => match &this.exchange {
                Some(exchange) if exchange.progress.watch.flushes() == *flushes => Poll::Pending,
                _ => Poll::Ready(Some(Err(Broken))),
            },
            Source::Target(lease) => {
                let polled = std::task::ready!(lease.side.poll_frame(cx));
                let Some(exchange) = &mut this.exchange else {
                    return Poll::Ready(Some(Err(Broken)));
                };
                match polled {
                    Some(Ok(frame)) => {
                        let counters = &exchange.workplace.counters;
                        Poll::Ready(Some(Ok(without_forbidden_trailers(frame, counters))))
                    }
                    Some(Err(_)) => {
                        // The client must see that the answer is not whole: hyper closes without
                        // a last chunk, or short of the length.
                        exchange.story().error = Some("target_broke_off");
                        exchange.progress.linger();
                        // hyper throws away what it has not written yet: it hears of this after
                        // that. It asks again once all of it has been written.
                        let flushes = exchange.progress.watch.flushes();
                        let is_http2 = exchange.story().version == Version::HTTP_2;
                        this.source = Source::Broken(flushes);
                        if is_http2 { Poll::Ready(Some(Err(Broken))) } else { Poll::Pending }
                    }
                    None => {
                        exchange.story().is_complete = true;
                        Poll::Ready(None)
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(bytes) => bytes.is_none(),
            Source::Target(lease) => lease.side.with(TargetSide::is_done),
            Source::Broken(_) => false,
            Source::Gone => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Source::Target(lease) => {
                lease.side.with(TargetSide::left).map(SizeHint::with_exact).unwrap_or_default()
            }
            Source::Broken(_) => SizeHint::default(),
            Source::Gone => SizeHint::with_exact(0),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // hyper does not ask again for the end of a body that said it had ended, nor at all for one
        // of ours where the answer has none (HEAD).
        let own = matches!(self.source, Source::Own(_));
        let said_so = own || self.is_end_stream();
        let Some(exchange) = &mut self.exchange else { return };
        exchange.story().is_complete |= said_so;
        if exchange.story().is_complete
            && let Source::Target(lease) = std::mem::replace(&mut self.source, Source::Gone)
            && let Some(exchange) = &self.exchange
        {
            let place = match lease.side.is_sending() {
                true => exchange.workplace.linger(),
                false => None,
            };
            match place {
                Some(place) => exchange.progress.keep(lease, place),
                None => lease.give_back(exchange),
            }
        }
    }
}
