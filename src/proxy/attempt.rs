//! One try at one target, and what of it may be tried again.

use super::body::{RequestBody, Upload, UploadState};
use super::client::{Client, Expiry, Phase};
use super::exchange::Exchange;
use super::failure::Failure;
use super::workplace::header_value;
use crate::decide::verdict::Verdict;
use crate::model::report::Report;
use crate::model::snapshot::Target;
use crate::net::connect::{self, ConnectError, Connection};
use crate::net::pool::Place;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};
use hyper::body::Incoming;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Bytes a target may send before its final head: many interim answers, or much of a body that
/// came along with the head, but not without end.
const MOST_BEFORE_HEAD: u64 = 1024 * 1024;

/// What is sent, kept as long as it may have to be sent again.
#[derive(Debug)]
pub struct Outgoing {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub uri: Uri,
    /// What the target is told.
    pub headers: HeaderMap,
    /// The client's body, if it has one.
    pub upload: Option<Rc<Upload>>,
    /// How long the target may take to answer.
    pub response_timeout: Duration,
    /// The latest moment for the client's last byte.
    pub upload_deadline: Option<Instant>,
}

impl Outgoing {
    /// Whether sending it twice is as good as once (RFC 9110 section 9.2.2) and nothing of the
    /// body is lost.
    fn may_be_repeated(&self) -> bool {
        self.method.is_idempotent() && self.is_untouched()
    }

    fn is_untouched(&self) -> bool {
        self.upload.as_ref().is_none_or(|upload| upload.state() == UploadState::Untouched)
    }

    fn request(&self, shown: Option<Verdict>, target: &Target) -> Request<RequestBody> {
        let body = match &self.upload {
            Some(upload) => RequestBody::Upload(Rc::clone(upload)),
            None => RequestBody::Empty,
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        if let Some(verdict) = shown {
            show(request.headers_mut(), verdict, target);
        }
        request
    }
}

/// What came of it.
pub enum Attempted {
    /// The target's head, and the connection its body comes on.
    Answered(Response<Incoming>, Connection<RequestBody>),
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

/// Sends to one target. A pooled connection that turns out to be dead is replaced by a fresh one,
/// once and unnoticed; that is the only repetition here.
pub async fn attempt(
    outgoing: &Outgoing,
    target: &Target,
    shown: Option<Verdict>,
    connect_timeout: Duration,
    exchange: &mut Exchange,
) -> Attempted {
    let now = exchange.workplace.now();
    exchange.story().dispatched = Some(now);
    if let Some(connection) = exchange.workplace.pool.take(&target.live, now.monotonic) {
        let request = outgoing.request(shown, target);
        match send(request, outgoing, connection, exchange, now.monotonic).await {
            Sent::Answered(response, connection) => {
                return answered(response, connection, target, exchange);
            }
            Sent::Ended(failure) => return Attempted::Failed(failure),
            Sent::Lost { answer_began: true, .. } => {
                return Attempted::Failed(Failure::TargetMalformed);
            }
            Sent::Lost { unsent, .. } => {
                let repeatable = unsent || outgoing.may_be_repeated();
                if !repeatable || !exchange.workplace.try_retry(now.unix_seconds()) {
                    return Attempted::Failed(Failure::TargetLost);
                }
            }
        }
    }
    let connection = match dial(target, connect_timeout, exchange).await {
        Ok(connection) => connection,
        Err(failure) => return failure,
    };
    let request = outgoing.request(shown, target);
    let now = exchange.workplace.now().monotonic;
    match send(request, outgoing, connection, exchange, now).await {
        Sent::Answered(response, connection) => answered(response, connection, target, exchange),
        Sent::Ended(failure) => Attempted::Failed(failure),
        Sent::Lost { answer_began: true, .. } => Attempted::Failed(Failure::TargetMalformed),
        Sent::Lost { unsent, .. } => {
            exchange.workplace.report(Report::ConnectFailed(target.live.clone()));
            match unsent || outgoing.may_be_repeated() {
                true => Attempted::TryAnother(Failure::TargetLost),
                false => Attempted::Failed(Failure::TargetLost),
            }
        }
    }
}

fn answered(
    response: Response<Incoming>,
    connection: Connection<RequestBody>,
    target: &Target,
    exchange: &Exchange,
) -> Attempted {
    if target.live.availability().suspect {
        exchange.workplace.report(Report::Answered(target.live.clone()));
    }
    Attempted::Answered(response, connection)
}

/// A fresh connection, or one that came back while all were in use.
async fn dial(
    target: &Target,
    timeout: Duration,
    exchange: &Exchange,
) -> Result<Connection<RequestBody>, Attempted> {
    let now = exchange.workplace.now().monotonic;
    exchange.client.enter(Phase::Waiting, now, None);
    let pool = &exchange.workplace.pool;
    let connected = async {
        let address = target.address.ok_or(ConnectError::Unresolved)?;
        match pool.wait_for_place(&target.live, timeout, now).await? {
            Place::Idle(connection) => Ok(connection),
            Place::Dial(place) => connect::connect(address, timeout, place).await,
        }
    };
    connected.await.map_err(|error| {
        if !matches!(error, ConnectError::Full) {
            exchange.workplace.report(Report::ConnectFailed(target.live.clone()));
        }
        Attempted::TryAnother(Failure::Connect(error))
    })
}

enum Sent {
    Answered(Response<Incoming>, Connection<RequestBody>),
    /// The connection died before a whole head was there.
    Lost {
        /// The message came back whole: not a byte of it went out.
        unsent: bool,
        /// Some of an answer came, or of what should have been one.
        answer_began: bool,
    },
    /// The client's fault, or time is over.
    Ended(Failure),
}

async fn send(
    request: Request<RequestBody>,
    outgoing: &Outgoing,
    mut connection: Connection<RequestBody>,
    exchange: &Exchange,
    now: Instant,
) -> Sent {
    let client = &exchange.client;
    begin_waiting(outgoing, client, now);
    let read_before = connection.watch.read();
    connection.watch.limit_reading(Some(MOST_BEFORE_HEAD));
    let answer = connection.sender.try_send_request(request);
    let sent = tokio::select! {
        biased;
        sent = answer => sent,
        expiry = client.expired() => {
            client.settle_expiry();
            return Sent::Ended(match expiry {
                Expiry::Request => Failure::RequestTimeout,
                _ => Failure::ResponseTimeout,
            });
        }
    };
    connection.watch.limit_reading(None);
    let mut error = match sent {
        Ok(response) => return Sent::Answered(response, connection),
        Err(error) => error,
    };
    let unsent = error.take_message().is_some();
    if let Some(failure) = outgoing.upload.as_ref().and_then(|upload| upload.failure()) {
        return Sent::Ended(failure);
    }
    // Once a byte of an answer came, nothing is sent again, whatever became of the rest.
    Sent::Lost { unsent, answer_began: connection.watch.read() > read_before }
}

fn begin_waiting(outgoing: &Outgoing, client: &Client, now: Instant) {
    match &outgoing.upload {
        Some(upload) if upload.state() != UploadState::Finished => {
            client.enter(Phase::Upload, now, outgoing.upload_deadline);
        }
        _ => client.enter(Phase::Waiting, now, Some(now + outgoing.response_timeout)),
    }
}
