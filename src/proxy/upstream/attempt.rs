//! Common types of a try at a target over any protocol: the request to send, its outcome, and the
//! conditions of a retry.

use crate::base::clock::Moment;
use crate::decide::verdict::Verdict;
use crate::http1::encode::write_field;
use crate::http1::fields::Fields;
use crate::http1::response::Response;
use crate::model::snapshot::{Group, Target};
use crate::net::connect::ConnectError;
use crate::net::http1::RequestError;
use crate::policy::headers::connection_auth;
use crate::policy::proxy_protocol::{Ends, ProxyHeader};
use crate::proxy::deadline::{Deadline, Phase};
use crate::proxy::exchange::Exchange;
use crate::proxy::expiry::Expiry;
use crate::proxy::failure::Failure;
use crate::proxy::upload::{Upload, UploadState};
use crate::proxy::upstream_response::UpstreamResponse;
use crate::proxy::worker_ctx::WorkerCtx;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request as HttpRequest};
use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The request to send, kept as long as a retry is possible.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// The method.
    pub method: Method,
    /// The head.
    pub head: Head,
    /// The client's body, if it has one.
    pub upload: Option<Rc<Upload>>,
    /// True if the body is sent in chunks, because its length was not announced.
    pub is_chunked: bool,
    /// Time the target has to answer.
    pub response_timeout: Duration,
    /// Latest time for the client's last byte.
    pub upload_deadline: Option<Instant>,
}

/// A head in the form of its target's protocol.
#[derive(Debug)]
pub(crate) enum Head {
    /// The bytes of the head, including the empty line.
    Http1(Vec<u8>),
    /// Boxed: it is large, and most targets speak HTTP/1.1.
    Http2(Box<HttpRequest<()>>),
}

/// Fields for a target in addition to the client's request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TargetHeaders<'a> {
    /// The verdict of the request, with `debug_headers`.
    pub verdict: Option<Verdict>,
    /// The id of the client's next target, with `announce_successor`.
    pub successor: Option<&'a str>,
    /// The PROXY header of the connection, with `send_proxy`.
    pub proxy_header: Option<&'a ProxyHeader>,
}

const X_STAYPUT_SUCCESSOR: &str = "x-stayput-successor";
const X_STAYPUT_VERDICT: &str = "x-stayput-verdict";
const X_STAYPUT_TARGET: &str = "x-stayput-target";

impl Outgoing {
    /// Returns true if it may be sent again after a lost connection: no part of the body is lost,
    /// and the target got nothing of the request or the method is idempotent (RFC 9110 section
    /// 9.2.2).
    pub(super) fn may_be_repeated(&self, unsent: bool) -> bool {
        let untouched =
            self.upload.as_ref().is_none_or(|upload| upload.state() == UploadState::Untouched);
        untouched && (unsent || self.method.is_idempotent())
    }

    /// Returns its buffer to the worker.
    pub(in crate::proxy) fn give_back(self, worker: &WorkerCtx) {
        if let Head::Http1(head) = self.head {
            worker.give_back_buffer(head);
        }
    }
}

impl TargetHeaders<'_> {
    /// Calls `field` with each field's name and value.
    fn each(&self, target: &Target, mut field: impl FnMut(&'static str, &str)) {
        if let Some(verdict) = self.verdict {
            field(X_STAYPUT_VERDICT, verdict.word());
            field(X_STAYPUT_TARGET, target.id.as_str());
        }
        if let Some(successor) = self.successor {
            field(X_STAYPUT_SUCCESSOR, successor);
        }
    }

    pub(super) fn write(&self, headers: &mut HeaderMap, target: &Target) {
        self.each(target, |name, value| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        });
    }
}

/// The head for this target: the common head, plus the fields of `self` if there are any.
pub(super) fn head_for<'h>(
    head: &'h [u8],
    target_headers: TargetHeaders<'_>,
    target: &Target,
) -> Cow<'h, [u8]> {
    if target_headers.verdict.is_none() && target_headers.successor.is_none() {
        return Cow::Borrowed(head);
    }
    let mut head = head[..head.len() - BLANK_LINE.len()].to_vec();
    target_headers
        .each(target, |name, value| write_field(&mut head, name.as_bytes(), value.as_bytes()));
    head.extend_from_slice(BLANK_LINE);
    Cow::Owned(head)
}

/// The end of a head.
const BLANK_LINE: &[u8] = b"\r\n";

/// The PROXY header for a group's targets, if it sends one: the client's address, with its port if
/// the client connected from that address, and the address it connected to. Boxed, so that other
/// exchanges reserve no room for it.
pub(in crate::proxy) fn proxy_header(
    exchange: &Exchange,
    group: &Group,
) -> Option<Box<ProxyHeader>> {
    let version = group.settings.send_proxy?;
    let address = exchange.log().address;
    let Ends { source, destination } = exchange.info().ends();
    // The port of a client named by X-Forwarded-For is not known.
    let port = if address == source.ip() { source.port() } else { 0 };
    let ends = Ends { source: SocketAddr::new(address, port), destination };
    Some(Box::new(ProxyHeader { version, ends }))
}

/// The outcome of a try.
pub(crate) enum Attempted {
    /// The target's head, and the source of its body.
    Answered(Box<Response>, UpstreamResponse),
    /// The target got no part of the request that counts: another target may be tried.
    TryAnother(Failure),
    /// The exchange fails.
    Failed(Failure),
}

/// Adds fields with the target and the verdict to a response head (`debug_headers`).
pub(in crate::proxy) fn show(fields: &mut Fields, verdict: Verdict, target: &Target) {
    fields.set_named(X_STAYPUT_VERDICT, verdict.word().as_bytes());
    fields.set_named(X_STAYPUT_TARGET, target.id.as_str().as_bytes());
}

pub(super) fn lost(may_be_repeated: bool) -> Attempted {
    match may_be_repeated {
        true => Attempted::TryAnother(Failure::TargetLost),
        false => Attempted::Failed(Failure::TargetLost),
    }
}

pub(super) fn answered(
    response: Box<Response>,
    side: UpstreamResponse,
    target: &Target,
    exchange: &mut Exchange,
) -> Attempted {
    // Responses of other statuses follow credentials, which were detected in the request.
    let is_challenge = matches!(response.status.as_u16(), 401 | 407);
    if is_challenge && connection_auth::is_in_answer(&response.fields) {
        exchange.authenticate_connection();
    }
    if exchange.is_private() {
        match &side {
            UpstreamResponse::Http1(_) => exchange.info().stay_with(&target.state),
            UpstreamResponse::Http2(stream) => stream.take_no_more(),
        }
    }
    Attempted::Answered(response, side)
}

/// Logs the cause of a failed connect that the configuration may cause: at most once a minute for
/// each target and worker, because otherwise every request would log it.
pub(super) fn log_connect_error(target: &Target, error: &ConnectError, exchange: &Exchange) {
    let remedy = match error {
        ConnectError::Tls(_) | ConnectError::Certificate(_) => {
            "TLS handshake with a target failed; check its certificate and target_group.*.tls"
        }
        ConnectError::NotHttp2 => {
            "target does not speak HTTP/2; check target_group.*.protocol and .tls"
        }
        _ => return,
    };
    let now = exchange.worker.now().monotonic;
    if !exchange.worker.pool.should_log_failure(&target.state, now) {
        return;
    }
    let placement = exchange.log().placement.as_ref();
    let group = placement.map_or("-", |placement| exchange.snapshot.groups[placement.group].name());
    tracing::warn!(
        group,
        target = target.id.as_str(),
        address = target.address_text.as_deref(),
        error = %error,
        "{remedy}"
    );
}

pub(super) enum Sent {
    Answered(Box<Response>, UpstreamResponse),
    /// The connection was lost before the first byte of a response.
    Lost {
        /// True if no byte of the request was sent.
        unsent: bool,
    },
    /// The client or the target failed, or the deadline expired.
    Ended(Failure),
}

pub(super) fn ended(outgoing: &Outgoing, error: RequestError) -> Sent {
    match error {
        RequestError::Lost { unsent } => Sent::Lost { unsent },
        // The target had the request and ended it; a retry is the client's decision.
        RequestError::Reset => Sent::Ended(Failure::TargetLost),
        // After the first byte of a response no request is sent again, however the rest ends.
        RequestError::Malformed => Sent::Ended(Failure::TargetMalformed),
        RequestError::BodyBroken => {
            let upload = outgoing.upload.as_ref();
            let failure = upload.and_then(|upload| upload.failure());
            Sent::Ended(failure.unwrap_or(Failure::BodyMalformed))
        }
    }
}

/// The failure of an expired wait.
pub(super) fn expired(expiry: Expiry) -> Sent {
    Sent::Ended(Failure::of_expiry(expiry))
}

/// Records the progress of a request's body. Once it is complete or no more is taken, the phase
/// becomes the wait for a response.
pub(super) fn record_sent(
    outgoing: &Outgoing,
    deadline: &Deadline,
    taken: (u64, bool),
    is_sending: bool,
) {
    if outgoing.upload.is_none() || deadline.phase() != Phase::Upload {
        return;
    }
    if is_sending {
        deadline.record_sent(taken.0, taken.1);
    } else {
        let now = Moment::now().monotonic;
        deadline.enter(Phase::Waiting, now, Some(now + outgoing.response_timeout));
    }
}

pub(super) fn begin_waiting(outgoing: &Outgoing, deadline: &Deadline, now: Instant) {
    match &outgoing.upload {
        Some(upload) if upload.state() != UploadState::Finished => {
            deadline.enter_upload(now, outgoing.upload_deadline, outgoing.response_timeout);
        }
        _ => deadline.enter(Phase::Waiting, now, Some(now + outgoing.response_timeout)),
    }
}
