//! The whole life of a request on one screen: begin, judge the head, decide, forward or answer.

use super::attempt::{self, Attempted, Outgoing, show};
use super::body::{Lease, ResponseBody, Upload, UploadState};
use super::client::{Client, Phase};
use super::exchange::Exchange;
use super::failure::Failure;
use super::respond;
use super::upgrade::{self, Switch};
use super::workplace::{AsItIs, Workplace, header_value};
use crate::config::settings::{self, Stickiness};
use crate::decide::candidates::Tried;
use crate::decide::renewal::renewal;
use crate::decide::verdict::Verdict;
use crate::decide::{self, Outcome, Placement};
use crate::ground::clock::Moment;
use crate::model::live::InFlight;
use crate::net::connect::Connection;
use crate::policy::affinity::cookie::{self, Written};
use crate::policy::affinity::token::{Kind, Seed};
use crate::policy::affinity::{CorsTwin, Lifetime, SecureAttribute};
use crate::policy::headers::forwarded::{self, Forwarding, Hygiene};
use crate::policy::headers::head::{self, Refusal};
use crate::policy::headers::{hop_by_hop, trace_id};
use http::header::{CACHE_CONTROL, CONNECTION, COOKIE, HOST, HeaderName, HeaderValue, SET_COOKIE};
use http::{HeaderMap, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use std::rc::Rc;

/// Serves one request.
pub async fn handle(
    workplace: Rc<Workplace>,
    client: Rc<Client>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let mut exchange = Exchange::begin(workplace, client, &request);
    let failure = match serve(&mut exchange, request).await {
        Ok(Served::Here(response)) => {
            exchange.answer(response.status());
            return own(response, exchange);
        }
        Ok(Served::Switched(response, switch)) => {
            exchange.answer(response.status());
            tokio::task::spawn_local(upgrade::carry(exchange, *switch));
            return response.map(|()| ResponseBody::of_switch());
        }
        Ok(Served::ByTarget(response, lease)) => {
            let (parts, incoming) = response.into_parts();
            exchange.answer(parts.status);
            let body = ResponseBody::of_target(incoming, *lease, exchange);
            return Response::from_parts(parts, body);
        }
        Err(failure) => failure,
    };
    exchange.fail(&failure);
    if failure.closes() {
        exchange.client.linger();
    }
    own(respond::failure(&failure), exchange)
}

enum Served {
    Here(Response<bytes::Bytes>),
    ByTarget(Response<Incoming>, Box<Lease>),
    Switched(Response<()>, Box<Switch>),
}

fn own(response: Response<bytes::Bytes>, mut exchange: Exchange) -> Response<ResponseBody> {
    let (mut parts, bytes) = response.into_parts();
    if ends_connection(&exchange) {
        parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let now = exchange.story().began.monotonic;
    exchange.client.enter(Phase::Responding, now, None);
    Response::from_parts(parts, ResponseBody::own(bytes, exchange))
}

/// Whether the answer is the connection's last: the process leaves, or its life is over.
fn ends_connection(exchange: &Exchange) -> bool {
    exchange.workplace.draining.get() || exchange.client.is_old(Moment::now())
}

async fn serve(exchange: &mut Exchange, request: Request<Incoming>) -> Result<Served, Failure> {
    let snapshot = exchange.snapshot.clone();
    let began = exchange.story().began;
    let listener = &snapshot.listeners[exchange.client.listener].settings;
    let trust = Trust::of(exchange, listener, request.headers());
    exchange.story().address = trust.address;
    exchange.workplace.note_request(began.unix_seconds());

    let (mut parts, body) = request.into_parts();
    let authority = head::check(&parts.method, &parts.uri, parts.version, &parts.headers)
        .map_err(Failure::Head)?;
    let described = decide::Request {
        listener: exchange.client.listener,
        host: authority.host(),
        path: parts.uri.path(),
        headers: &parts.headers,
    };
    let decision =
        decide::decide(&described, &snapshot, &AsItIs, began.unix_seconds(), &mut AsItIs);
    exchange.story().rule = decision.rule;
    let placement = match decision.outcome {
        Outcome::NoRule => return Err(Failure::NoRule),
        Outcome::Respond(fixed) => {
            exchange.story().action = "fixed-response";
            return Ok(Served::Here(respond::fixed(fixed)));
        }
        Outcome::Forward(placement) => placement,
    };
    exchange.story().action = "forward";
    if listener.limits.body_bytes.is_some_and(|limit| {
        head::content_length(&parts.headers).is_some_and(|length| length > limit)
    }) {
        return Err(Failure::BodyTooLarge);
    }
    let host = authority.text.map(header_value);
    let hop = prepare(exchange, &mut parts, host, &trust, &placement)?;
    let client_upgrade = parts.extensions.remove::<OnUpgrade>().filter(|_| hop.websocket);
    let outgoing = outgoing(exchange, parts, body, listener, &placement);
    let forwarded = forward(exchange, &outgoing, placement).await?;
    answer(exchange, forwarded, &outgoing, &trust, client_upgrade)
}

/// What the client's way says of it, before its fields are rewritten.
struct Trust {
    address: std::net::IpAddr,
    peer_is_trusted: bool,
    came_over_tls: bool,
}

impl Trust {
    fn of(exchange: &Exchange, listener: &settings::Listener, headers: &HeaderMap) -> Self {
        let peer = exchange.client.peer.ip();
        let trusted = &listener.trusted_proxies;
        let peer_is_trusted = !trusted.is_empty() && trusted.contains(peer);
        Self {
            address: forwarded::client_address(peer, trusted, headers),
            peer_is_trusted,
            came_over_tls: peer_is_trusted && forwarded::says_tls(headers),
        }
    }
}

/// Makes the head the target gets: hop-by-hop fields go first, then what is true is written.
fn prepare(
    exchange: &mut Exchange,
    parts: &mut http::request::Parts,
    host: Option<HeaderValue>,
    trust: &Trust,
    placement: &Placement,
) -> Result<hop_by_hop::Hop, Failure> {
    let snapshot = exchange.snapshot.clone();
    let listener = &snapshot.listeners[exchange.client.listener].settings;
    let headers = &mut parts.headers;
    let mut hop = hop_by_hop::strip_request(headers).map_err(Failure::Head)?;
    hop.websocket &= parts.version == Version::HTTP_11 && parts.method == http::Method::GET;
    let forwarding = Forwarding {
        peer: exchange.client.peer.ip(),
        peer_is_trusted: trust.peer_is_trusted,
        mode: listener.x_forwarded_for,
        port: exchange.client.local.port(),
    };
    let Hygiene { suspicious } = forwarded::write(headers, forwarding).map_err(Failure::Head)?;
    if suspicious {
        return Err(Failure::Head(Refusal::TransferEncoding));
    }
    let local = || header_value(&exchange.client.local.to_string());
    headers.insert(HOST, host.unwrap_or_else(local));
    join_cookies(headers);
    let random = (exchange.workplace.random(), exchange.workplace.random() as u32);
    let seconds = exchange.story().began.unix_seconds();
    trace_id::write(headers, seconds, random);
    exchange.story().trace_id = headers.get(trace_id::X_AMZN_TRACE_ID).cloned();
    let group = &snapshot.groups[placement.group];
    if let (Some(cookie), Some(stickiness)) = (&group.cookie, &group.settings.stickiness)
        && stickiness.hide_from_target
    {
        hide(headers, &[&cookie.name, &cookie.twin]);
    }
    if hop.takes_trailers {
        hop_by_hop::write_takes_trailers(headers);
    }
    if hop.websocket {
        hop_by_hop::write_websocket(headers);
    }
    Ok(hop)
}

/// Several Cookie lines become one, in order (RFC 9113 section 8.2.3 says how).
fn join_cookies(headers: &mut HeaderMap) {
    let lines = headers.get_all(COOKIE);
    if lines.iter().nth(1).is_none() {
        return;
    }
    let lines: Vec<&[u8]> = lines.iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

fn hide(headers: &mut HeaderMap, names: &[&str]) {
    let left = headers.get(COOKIE).and_then(|line| cookie::without(line.as_bytes(), names));
    match left {
        None => {}
        Some(left) if left.is_empty() => drop(headers.remove(COOKIE)),
        Some(left) => {
            if let Ok(left) = HeaderValue::from_bytes(&left) {
                headers.insert(COOKIE, left);
            }
        }
    }
}

fn outgoing(
    exchange: &mut Exchange,
    parts: http::request::Parts,
    body: Incoming,
    listener: &settings::Listener,
    placement: &Placement,
) -> Outgoing {
    let upstream = &exchange.snapshot.groups[placement.group].settings.upstream;
    let response_timeout = upstream.response;
    let upload = (!body.is_end_stream()).then(|| {
        let client = exchange.client.clone();
        let counters = exchange.workplace.counters.clone();
        let limit = listener.limits.body_bytes;
        Rc::new(Upload::new(body, limit, response_timeout, client, counters))
    });
    let began = exchange.story().began.monotonic;
    let uri = match parts.uri.path_and_query() {
        Some(target) => Uri::from(target.clone()),
        None => Uri::from_static("/"),
    };
    Outgoing {
        method: parts.method,
        uri,
        headers: parts.headers,
        upload,
        response_timeout,
        upload_deadline: listener.timeouts.request.map(|request| began + request),
    }
}

struct Forwarded {
    response: Response<Incoming>,
    connection: Connection<super::body::RequestBody>,
    placement: Placement,
    target: usize,
    in_flight: Option<InFlight>,
}

/// Tries the chosen target and, where nothing reached it, the next ones.
async fn forward(
    exchange: &mut Exchange,
    outgoing: &Outgoing,
    first: Placement,
) -> Result<Forwarded, Failure> {
    let snapshot = exchange.snapshot.clone();
    let group = &snapshot.groups[first.group];
    let upstream = &group.settings.upstream;
    let mut placement = first;
    let mut tried = Tried::NOBODY;
    let mut last_failure = None;
    loop {
        exchange.story().placement = Some(placement.clone());
        let Some(at) = placement.target else {
            // A target that failed explains more than "nobody is left", unless the group is strict.
            let strict = placement.verdict == Verdict::StrictRefused;
            let refused = Failure::Refused(placement.verdict);
            return Err(last_failure.filter(|_| !strict).unwrap_or(refused));
        };
        let target = &group.targets[at];
        let in_flight = match group.settings.max_in_flight_per_target {
            None => None,
            Some(cap) => match target.live.enter(cap) {
                Some(place) => Some(place),
                None => {
                    // Another worker took the last place since the decision: it is over its cap.
                    tried.note(at);
                    placement = next(&placement, &tried, &snapshot);
                    continue;
                }
            },
        };
        exchange.story().attempts += 1;
        let debug = snapshot.listeners[exchange.client.listener].settings.debug_headers;
        let shown = debug.then_some(placement.verdict);
        let attempted = attempt::attempt(outgoing, target, shown, upstream.connect, exchange);
        let failure = match attempted.await {
            Attempted::Answered(response, connection) => {
                return Ok(Forwarded { response, connection, placement, target: at, in_flight });
            }
            Attempted::Failed(failure) => return Err(failure),
            Attempted::TryAnother(failure) => failure,
        };
        let now = exchange.story().began.unix_seconds();
        if exchange.story().attempts > upstream.retries || !exchange.workplace.try_retry(now) {
            return Err(failure);
        }
        tried.note(at);
        last_failure = Some(failure);
        placement = next(&placement, &tried, &snapshot);
    }
}

fn next(
    placement: &Placement,
    tried: &Tried,
    snapshot: &crate::model::snapshot::Snapshot,
) -> Placement {
    decide::next_after_failure(placement, tried, snapshot, &AsItIs, &mut AsItIs)
}

/// Makes the head the client gets.
fn answer(
    exchange: &mut Exchange,
    forwarded: Forwarded,
    outgoing: &Outgoing,
    trust: &Trust,
    client_upgrade: Option<OnUpgrade>,
) -> Result<Served, Failure> {
    let Forwarded { mut response, connection, placement, target, in_flight } = forwarded;
    let now = Moment::now();
    let snapshot = exchange.snapshot.clone();
    let group = &snapshot.groups[placement.group];
    let story = exchange.story();
    story.answered = Some(now);
    story.target_status = Some(response.status());
    exchange.client.enter(Phase::Responding, now.monotonic, None);

    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if switches && client_upgrade.is_none() {
        return Err(Failure::UnaskedUpgrade);
    }
    let headers = response.headers_mut();
    hop_by_hop::strip_response(headers);
    remove_our_names(headers);
    write_cookies(exchange, headers, &placement, target, trust, now);
    if snapshot.listeners[exchange.client.listener].settings.debug_headers {
        show(headers, placement.verdict, &group.targets[target]);
    }
    let lease = Lease {
        connection,
        target: group.targets[target].live.clone(),
        keep_alive: group.settings.upstream.keep_alive,
        in_flight,
        upload: outgoing.upload.clone(),
    };
    if switches && let Some(client_upgrade) = client_upgrade {
        hop_by_hop::write_websocket(headers);
        let target = hyper::upgrade::on(&mut response);
        let switch = Switch { client: client_upgrade, target, lease };
        return Ok(Served::Switched(response.map(|_| ()), Box::new(switch)));
    }
    let early = lease.upload.as_ref().is_some_and(|upload| upload.state() != UploadState::Finished);
    if early {
        exchange.client.linger();
    }
    if early || ends_connection(exchange) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(Served::ByTarget(response, Box::new(lease)))
}

fn remove_our_names(headers: &mut HeaderMap) {
    let ours: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("x-stayput-")).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
}

/// Adds the group's cookie, and its twin where due.
fn write_cookies(
    exchange: &mut Exchange,
    headers: &mut HeaderMap,
    placement: &Placement,
    target: usize,
    trust: &Trust,
    now: Moment,
) {
    let snapshot = exchange.snapshot.clone();
    let group = &snapshot.groups[placement.group];
    let (Some(cookie), Some(stickiness)) = (&group.cookie, &group.settings.stickiness) else {
        return;
    };
    let workplace = exchange.workplace.clone();
    let fresh_seed = Seed(workplace.random());
    let renewal = renewal(placement, target, &snapshot, now.unix_seconds(), fresh_seed);
    let Some(renewal) = renewal else { return };
    let sealed = snapshot.keyring.seal(Kind::Lb, &renewal.contents);
    let secure = match stickiness.secure {
        SecureAttribute::Auto => trust.came_over_tls,
        SecureAttribute::Always => true,
        SecureAttribute::Never => false,
    };
    let twin = match stickiness.cors_twin {
        CorsTwin::Secure => trust.came_over_tls,
        CorsTwin::Always => true,
        CorsTwin::Never => false,
    };
    workplace.with_date(renewal.expires, |date| {
        let expires = (stickiness.lifetime != Lifetime::Session).then_some(date);
        let written = Written { token: sealed.as_str(), expires, secure };
        let mut append = |line: Vec<u8>| {
            if let Ok(line) = HeaderValue::try_from(line) {
                headers.append(SET_COOKIE, line);
            }
        };
        let mut line = Vec::new();
        cookie.template.write(&mut line, written);
        append(line);
        if twin {
            let mut line = Vec::new();
            cookie.template.write_twin(&mut line, written);
            append(line);
        }
    });
    guard_cache(headers, stickiness);
    exchange.story().set_cookie = Some(renewal.what);
}

/// Tells shared caches not to keep our Set-Cookie where the response says they may keep the rest
/// (RFC 9111 section 5.2.2.4).
fn guard_cache(headers: &mut HeaderMap, stickiness: &Stickiness) {
    let is_shared = |line: &HeaderValue| {
        line.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii).any(|directive| {
            let name = directive.split(|&byte| byte == b'=').next().unwrap_or_default();
            name.eq_ignore_ascii_case(b"public") || name.eq_ignore_ascii_case(b"s-maxage")
        })
    };
    if stickiness.guard_cache && headers.get_all(CACHE_CONTROL).iter().any(is_shared) {
        let guard = HeaderValue::from_static("no-cache=\"set-cookie\"");
        headers.append(CACHE_CONTROL, guard);
    }
}
