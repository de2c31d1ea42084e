//! What a try at a target is made of, whatever the target speaks: what is sent, what came of it, and what of
//! it may be tried again.

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
    pub is_chunked: bool,
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
    pub proxy_header: Option<&'a ProxyHeader>,
}

const X_STAYPUT_SUCCESSOR: &str = "x-stayput-successor";
const X_STAYPUT_VERDICT: &str = "x-stayput-verdict";
const X_STAYPUT_TARGET: &str = "x-stayput-target";

impl Outgoing {
    /// Whether it may be sent again after a connection was lost: nothing of the body is lost, and
    /// the target saw nothing of it or sending it twice is as good as once (RFC 9110 section
    /// 9.2.2).
    pub(super) fn may_be_repeated(&self, unsent: bool) -> bool {
        let untouched =
            self.upload.as_ref().is_none_or(|upload| upload.state() == UploadState::Untouched);
        untouched && (unsent || self.method.is_idempotent())
    }

    /// Keeps its buffer for another request.
    pub(in crate::proxy) fn give_back(self, worker: &WorkerCtx) {
        if let Head::Http1(head) = self.head {
            worker.give_back_buffer(head);
        }
    }
}

impl TargetHeaders<'_> {
    /// Hands over each field and its value.
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

/// The head for this target, which is the same for all but where they are told something.
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

/// What ends a head.
const BLANK_LINE: &[u8] = b"\r\n";

/// What a group's targets are announced of the client, where they are: the address it is known by,
/// with its port where that is the address it came from, and where it connected to. Boxed, so that no
/// other exchange has room for one.
pub(in crate::proxy) fn proxy_header(
    exchange: &Exchange,
    group: &Group,
) -> Option<Box<ProxyHeader>> {
    let version = group.settings.send_proxy?;
    let address = exchange.log().address;
    let Ends { source, destination } = exchange.info().ends();
    // The port of a client that X-Forwarded-For names is not known.
    let port = if address == source.ip() { source.port() } else { 0 };
    let ends = Ends { source: SocketAddr::new(address, port), destination };
    Some(Box::new(ProxyHeader { version, ends }))
}

/// What came of it.
pub enum Attempted {
    /// The target's head, and where its body comes from.
    Answered(Box<Response>, UpstreamResponse),
    /// Nothing reached the target, or nothing that counts: another may be tried.
    TryAnother(Failure),
    /// It ends here.
    Failed(Failure),
}

/// Says in a head which target serves, and why (`debug_headers`).
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
    // What ends with another status follows credentials, which were noticed.
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

/// Says why a target was reached in vain, where the file may be to blame: a line once a minute at
/// most for each target and worker, for every request would be one.
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
    /// The connection died before a byte of an answer came.
    Lost {
        /// Not a byte of the request went out.
        unsent: bool,
    },
    /// The client's fault, or the target's, or time is over.
    Ended(Failure),
}

pub(super) fn ended(outgoing: &Outgoing, error: RequestError) -> Sent {
    match error {
        RequestError::Lost { unsent } => Sent::Lost { unsent },
        // It had the request, and said that this is all: another try is another's to ask for.
        RequestError::Reset => Sent::Ended(Failure::TargetLost),
        // Once a byte of an answer came, nothing is sent again, whatever became of the rest.
        RequestError::Malformed => Sent::Ended(Failure::TargetMalformed),
        RequestError::BodyBroken => {
            let upload = outgoing.upload.as_ref();
            let failure = upload.and_then(|upload| upload.failure());
            Sent::Ended(failure.unwrap_or(Failure::BodyMalformed))
        }
    }
}

/// The failure of a wait that took too long.
pub(super) fn expired(expiry: Expiry) -> Sent {
    Sent::Ended(Failure::of_expiry(expiry))
}

/// Notes how far a request's body is; once all of it was taken, or no more is, its answer is awaited.
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
