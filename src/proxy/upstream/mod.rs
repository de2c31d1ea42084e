//! One try at one target, and what of it may be tried again.

mod http2;
pub(super) mod kept;

use super::body::{RequestBody, Upload, UploadState};
use super::exchange::Exchange;
use super::failure::Failure;
use super::progress::{Phase, Progress};
use super::reconnect;
use super::upstream_response::UpstreamResponse;
use super::worker_ctx::header_value;
use crate::config::settings::Upstream;
use crate::decide::verdict::Verdict;
use crate::ground::clock::Moment;
use crate::model::snapshot::Target;
use crate::net::connect::{self, ConnectError};
use crate::net::http1::send::{Outbound, write_field};
use crate::net::http1::{Connection, Request, Trouble, Waiting};
use crate::net::pool::Place;
use crate::policy::headers::connection_auth;
use crate::policy::proxy_protocol::Announcement;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request as HttpRequest, Response};
use std::borrow::Cow;
use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// What is sent, kept as long as it may have to be sent again.
#[derive(Debug)]
pub struct Outgoing {
    /// The method.
    pub method: Method,
    /// The head.
    pub head: Head,
    /// The client's body, if it has one.
    pub upload: Option<Rc<Upload>>,
    /// Whether the body goes in chunks, for its length was not announced.
    pub chunked: bool,
    /// The head's Trailer.
    pub trailer: Option<HeaderValue>,
    /// A map whose room is used again for the answer's fields.
    pub fields: RefCell<HeaderMap>,
    /// How long the target may take to answer.
    pub response_timeout: Duration,
    /// The latest moment for the client's last byte.
    pub upload_deadline: Option<Instant>,
}

/// A head in the form its target's protocol has for it.
#[derive(Debug)]
pub enum Head {
    /// As it goes over the wire, blank line included.
    Http1(Vec<u8>),
    /// Boxed: it is large, and most targets speak HTTP/1.1.
    Http2(Box<HttpRequest<()>>),
}

/// What a target is told beside the client's request.
#[derive(Clone, Copy, Debug)]
pub struct TargetHeaders<'a> {
    /// Why the request comes to it, with `debug_headers`.
    pub verdict: Option<Verdict>,
    /// Who would have the client after it, with `announce_successor`.
    pub successor: Option<&'a str>,
    /// Who the client is, by the header the connection opens with, with `send_proxy`.
    pub announced: Option<&'a Announcement>,
}

const X_STAYPUT_SUCCESSOR: HeaderName = HeaderName::from_static("x-stayput-successor");

impl Outgoing {
    /// Whether it may be sent again after a connection was lost: nothing of the body is lost, and
    /// the target saw nothing of it or sending it twice is as good as once (RFC 9110 section
    /// 9.2.2).
    fn may_be_repeated(&self, unsent: bool) -> bool {
        let untouched =
            self.upload.as_ref().is_none_or(|upload| upload.state() == UploadState::Untouched);
        untouched && (unsent || self.method.is_idempotent())
    }

    fn outbound(&self) -> Option<Outbound<RequestBody>> {
        let upload = self.upload.as_ref()?;
        let body = RequestBody(Rc::clone(upload));
        Some(Outbound { body, chunked: self.chunked, trailer: self.trailer.clone() })
    }
}

impl TargetHeaders<'_> {
    fn write(&self, headers: &mut HeaderMap, target: &Target) {
        if let Some(verdict) = self.verdict {
            show(headers, verdict, target);
        }
        if let Some(successor) = self.successor {
            headers.insert(X_STAYPUT_SUCCESSOR, header_value(successor));
        }
    }
}

/// The head for this target, which is the same for all but where they are told something.
fn head_for<'h>(head: &'h [u8], told: TargetHeaders<'_>, target: &Target) -> Cow<'h, [u8]> {
    if told.verdict.is_none() && told.successor.is_none() {
        return Cow::Borrowed(head);
    }
    let mut fields = HeaderMap::new();
    told.write(&mut fields, target);
    let mut head = head[..head.len() - BLANK_LINE.len()].to_vec();
    for (name, value) in &fields {
        write_field(&mut head, name, value);
    }
    head.extend_from_slice(BLANK_LINE);
    Cow::Owned(head)
}

/// What ends a head.
pub(super) const BLANK_LINE: &[u8] = b"\r\n";

/// What came of it.
pub enum Attempted {
    /// The target's head, and where its body comes from.
    Answered(Response<()>, UpstreamResponse),
    /// Nothing reached the target, or nothing that counts: another may be tried.
    TryAnother(Failure),
    /// It ends here.
    Failed(Failure),
}

/// Says in a head who serves and why (`debug_headers`).
pub fn show(headers: &mut HeaderMap, verdict: Verdict, target: &Target) {
    headers.insert(X_STAYPUT_VERDICT, HeaderValue::from_static(verdict.word()));
    headers.insert(X_STAYPUT_TARGET, header_value(target.id.as_str()));
}

const X_STAYPUT_VERDICT: HeaderName = HeaderName::from_static("x-stayput-verdict");
const X_STAYPUT_TARGET: HeaderName = HeaderName::from_static("x-stayput-target");

/// Sends to one target.
pub async fn attempt(
    outgoing: &Outgoing,
    target: &Target,
    told: TargetHeaders<'_>,
    upstream: &Upstream,
    exchange: &mut Exchange,
) -> Attempted {
    match &outgoing.head {
        Head::Http1(head) => {
            let head = &*head_for(head, told, target);
            let connect_timeout = reconnect::dial_timeout(&target.live, upstream);
            attempt_http1(outgoing, head, target, told.announced, connect_timeout, exchange).await
        }
        // Boxed: every exchange would have room for one.
        Head::Http2(request) => {
            Box::pin(http2::attempt(outgoing, request, target, told, upstream, exchange)).await
        }
    }
}

/// Sends to one target. A pooled connection that turns out to be dead is replaced by a fresh one,
/// once and unnoticed; that is the only repetition here.
async fn attempt_http1(
    outgoing: &Outgoing,
    head: &[u8],
    target: &Target,
    announced: Option<&Announcement>,
    connect_timeout: Duration,
    exchange: &mut Exchange,
) -> Attempted {
    let now = exchange.worker.now();
    let own = announced.map(|announced| &announced.ends);
    let owner = exchange.client().owner();
    let pool = &exchange.worker.pool;
    if let Some(connection) = pool.take(&target.live, own, owner, now.monotonic) {
        exchange.log_mut().dispatched = Some(now);
        exchange.pass = None;
        match send(outgoing, head, connection, exchange, now.monotonic).await {
            Sent::Answered(response, side) => return answered(response, side, target, exchange),
            Sent::Ended(failure) => return Attempted::Failed(failure),
            Sent::Lost { unsent } => {
                // What was not sent costs no target anything.
                if !outgoing.may_be_repeated(unsent)
                    || !unsent && !exchange.worker.try_retry(now.unix_seconds())
                {
                    return Attempted::Failed(Failure::TargetLost);
                }
            }
        }
    }
    let connection = match dial(target, announced, connect_timeout, exchange).await {
        Ok(connection) => connection,
        Err(failure) => return failure,
    };
    let now = exchange.worker.now();
    exchange.log_mut().dispatched = Some(now);
    match send(outgoing, head, connection, exchange, now.monotonic).await {
        Sent::Answered(response, side) => answered(response, side, target, exchange),
        Sent::Ended(failure) => Attempted::Failed(failure),
        // The target was reached: what it makes of a request is no word on whether it serves, or
        // any client could take it out with a request it hangs up on.
        Sent::Lost { unsent } => lost(outgoing.may_be_repeated(unsent)),
    }
}

fn lost(may_be_repeated: bool) -> Attempted {
    match may_be_repeated {
        true => Attempted::TryAnother(Failure::TargetLost),
        false => Attempted::Failed(Failure::TargetLost),
    }
}

fn answered(
    response: Response<()>,
    side: UpstreamResponse,
    target: &Target,
    exchange: &mut Exchange,
) -> Attempted {
    // What ends with another status follows credentials, which were noticed.
    let is_challenge = matches!(response.status().as_u16(), 401 | 407);
    if is_challenge && connection_auth::is_in_answer(response.headers()) {
        exchange.authenticate_connection();
    }
    if exchange.is_private() {
        match &side {
            UpstreamResponse::Http1(_) => exchange.client().stay_with(&target.live),
            UpstreamResponse::Http2(stream) => stream.take_no_more(),
        }
    }
    Attempted::Answered(response, side)
}

/// A fresh connection, or one that came back while all were in use.
async fn dial(
    target: &Target,
    announced: Option<&Announcement>,
    timeout: Duration,
    exchange: &mut Exchange,
) -> Result<Box<Connection<RequestBody>>, Attempted> {
    if exchange.pass.is_none() && !exchange.worker.reconnects.is_open(&target.live) {
        return Err(Attempted::TryAnother(Failure::Connect(ConnectError::Refusing)));
    }
    let now = exchange.worker.now().monotonic;
    exchange.progress.enter(Phase::Waiting, now, None);
    let pool = &exchange.worker.pool;
    let connected = async {
        let address = target.address.ok_or(ConnectError::Unresolved)?;
        let own = announced.map(|announced| &announced.ends);
        let owner = exchange.progress.client.owner();
        match pool.wait_for_place(&target.live, own, owner, timeout, now).await? {
            Place::Idle(connection) => Ok(connection),
            Place::Dial(place) => {
                let tls = pool.connector(&target.live);
                let dialled = connect::connect(address, timeout, place, tls.as_ref(), announced);
                let connection = dialled.await?;
                reconnect::note_connected(&exchange.worker, &target.live);
                Ok(connection)
            }
        }
    };
    let connected = connected.await;
    if connected.is_ok() {
        exchange.pass = None;
    }
    connected.map_err(|error| {
        tell(target, &error, exchange);
        if error.is_the_targets() {
            reconnect::note_failed(&exchange.worker, &target.live);
        }
        Attempted::TryAnother(Failure::Connect(error))
    })
}

/// Says why a target was reached in vain, where the file may be to blame: a line once a minute at
/// most for each target and worker, for every request would be one.
fn tell(target: &Target, error: &ConnectError, exchange: &mut Exchange) {
    let remedy = match error {
        ConnectError::Tls(_) | ConnectError::Certificate(_) => {
            "no TLS with a target: see its certificate, and target_group.*.tls"
        }
        ConnectError::NotHttp2 => {
            "a target does not speak HTTP/2: see target_group.*.protocol and .tls"
        }
        _ => return,
    };
    let now = exchange.worker.now().monotonic;
    if !exchange.worker.pool.may_tell_failure(&target.live, now) {
        return;
    }
    let snapshot = exchange.snapshot.clone();
    let placement = exchange.log_mut().placement.as_ref();
    let group = placement.map_or("-", |placement| snapshot.groups[placement.group].name());
    tracing::warn!(
        group,
        target = target.id.as_str(),
        address = target.address_text.as_deref(),
        error = %error,
        "{remedy}"
    );
}

enum Sent {
    Answered(Response<()>, UpstreamResponse),
    /// The connection died before a byte of an answer came.
    Lost {
        /// Not a byte of the request went out.
        unsent: bool,
    },
    /// The client's fault, or the target's, or time is over.
    Ended(Failure),
}

async fn send(
    outgoing: &Outgoing,
    head: &[u8],
    mut connection: Box<Connection<RequestBody>>,
    exchange: &Exchange,
    now: Instant,
) -> Sent {
    let progress = &exchange.progress;
    begin_waiting(outgoing, progress, now);
    connection.begin(outgoing.outbound());
    let request = Request { method: &outgoing.method, head };
    let mut fields = outgoing.fields.take();
    let mut waiting = Waiting::default();
    let answer = poll_fn(|cx| {
        let scratch = &mut *exchange.worker.scratch();
        let answer = connection.poll_answer(cx, request, &mut waiting, scratch, &mut fields);
        note_sent(outgoing, progress, connection.taken(), connection.is_sending());
        match (answer, progress.expiry()) {
            (Poll::Ready(answer), _) => Poll::Ready(Ok(answer)),
            (Poll::Pending, Some(expiry)) => Poll::Ready(Err(expiry)),
            (Poll::Pending, None) => Poll::Pending,
        }
    });
    let answer = answer.await;
    match answer {
        Ok(Ok(head)) => {
            let mut response = Response::new(());
            *response.status_mut() = head.status;
            *response.headers_mut() = fields;
            if let Some(reason) = head.reason {
                response.extensions_mut().insert(reason);
            }
            Sent::Answered(response, UpstreamResponse::Http1(connection))
        }
        Ok(Err(trouble)) => ended(outgoing, trouble),
        Err(expiry) => Sent::Ended(Failure::of_expiry(expiry)),
    }
}

fn ended(outgoing: &Outgoing, trouble: Trouble) -> Sent {
    match trouble {
        Trouble::Lost { unsent } => Sent::Lost { unsent },
        // It had the request, and said that this is all: another try is another's to ask for.
        Trouble::Reset => Sent::Ended(Failure::TargetLost),
        // Once a byte of an answer came, nothing is sent again, whatever became of the rest.
        Trouble::Malformed => Sent::Ended(Failure::TargetMalformed),
        Trouble::BodyBroken => {
            let upload = outgoing.upload.as_ref();
            let failure = upload.and_then(|upload| upload.failure());
            Sent::Ended(failure.unwrap_or(Failure::BodyMalformed))
        }
    }
}

/// Notes how far a request's body is; once all of it was taken, or no more is, its answer is awaited.
fn note_sent(outgoing: &Outgoing, progress: &Progress, taken: (u64, bool), is_sending: bool) {
    if outgoing.upload.is_none() || progress.phase() != Phase::Upload {
        return;
    }
    if is_sending {
        progress.note_sent(taken.0, taken.1);
    } else {
        let now = Moment::now().monotonic;
        progress.enter(Phase::Waiting, now, Some(now + outgoing.response_timeout));
    }
}

fn begin_waiting(outgoing: &Outgoing, progress: &Progress, now: Instant) {
    match &outgoing.upload {
        Some(upload) if upload.state() != UploadState::Finished => {
            progress.enter_upload(now, outgoing.upload_deadline, outgoing.response_timeout);
        }
        _ => progress.enter(Phase::Waiting, now, Some(now + outgoing.response_timeout)),
    }
}
