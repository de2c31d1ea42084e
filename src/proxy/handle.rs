//! The whole life of a request on one screen: begin, judge the head, decide, forward or answer.

use super::announcement;
use super::answer::{self, Served};
use super::attempt::{self, Attempted, Outgoing, Told};
use super::body::{ClientBody, ResponseBody};
use super::client::Client;
use super::exchange::Exchange;
use super::failure::Failure;
use super::progress::{Phase, Progress};
use super::protocols;
use super::reconnect::{self, Pass};
use super::request::{self, Trust};
use super::reroute;
use super::respond;
use super::target_side::TargetSide;
use super::upgrade::{self, Upgrade};
use super::workplace::{AsItIs, Workplace};
use crate::config::settings::{Algorithm, Upstream};
use crate::decide::candidates::Tried;
use crate::decide::verdict::Verdict;
use crate::decide::{self, Keeps, Outcome, Placement};
use crate::model::live::{Drain, Health};
use crate::model::places::InFlight;
use crate::model::snapshot::{Group, Snapshot, Target};
use crate::net::connect::ConnectError;
use crate::net::timer;
use crate::policy::headers::admission::Seen;
use crate::policy::headers::connection_auth;
use crate::policy::headers::desync::Treatment;
use crate::policy::headers::head;
use crate::policy::headers::response::Origin;
use http::header::{CONNECTION, EXPECT, HeaderValue};
use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Serves one request of HTTP/1.1.
pub fn handle(
    workplace: Rc<Workplace>,
    progress: Rc<Progress>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<ResponseBody>, Infallible>> {
    // It begins here: where the client's end came with its request, hyper drops the future unasked.
    let (mut head, body) = request.into_parts();
    let exchange = Exchange::begin(workplace, progress, &head);
    let upgrade = head.extensions.remove::<OnUpgrade>().map(Upgrade::Http1);
    // No future around this one: it is large, and would be moved once more.
    answered(exchange, head, ClientBody::Http1(body), upgrade)
}

/// Serves one request, whatever it came over; with `upgrade` its client may ask for another protocol.
pub(super) async fn answered(
    mut exchange: Exchange,
    head: Parts,
    body: ClientBody,
    upgrade: Option<Upgrade>,
) -> Result<Response<ResponseBody>, Infallible> {
    exchange.progress.request_left(!body.is_end_stream());
    let awaits_continue = head.headers.contains_key(EXPECT);
    let mut body = Some(body);
    let served = serve(&mut exchange, head, &mut body, upgrade).await;
    if let Some(body) = &mut body
        && !awaits_continue
        && !served.as_ref().is_err_and(Failure::closes)
    {
        // Nothing took it: where all of it is here, the connection goes on.
        exchange.progress.request_left(!body.is_read_at_once().await);
    }
    let failure = match served {
        Ok(Served::Here(response)) => {
            exchange.answer(response.status());
            return Ok(own(response, exchange));
        }
        Ok(Served::Switched(response, switch)) => {
            exchange.answer(response.status());
            tokio::task::spawn_local(upgrade::carry(exchange, *switch));
            return Ok(response.map(|()| ResponseBody::of_switch()));
        }
        Ok(Served::ByTarget(response, lease)) => {
            exchange.answer(response.status());
            return Ok(response.map(|()| ResponseBody::of_target(lease, exchange)));
        }
        Err(failure) => failure,
    };
    Ok(refused(exchange, failure))
}

/// The answer to a request that came to nothing.
pub(super) fn refused(mut exchange: Exchange, failure: Failure) -> Response<ResponseBody> {
    exchange.fail(&failure);
    if failure.closes() {
        // Unread bytes may follow; should the connection close, they must not reset it.
        exchange.progress.linger();
    }
    let response = match exchange.story().is_grpc {
        true => respond::failed_call(&failure),
        false => respond::failure(&failure),
    };
    own(response, exchange)
}

fn own(response: Response<bytes::Bytes>, exchange: Exchange) -> Response<ResponseBody> {
    let (mut parts, bytes) = response.into_parts();
    let listener = &exchange.snapshot.listeners[exchange.client().listener].settings;
    listener.response_fields.write(&mut parts.headers, Origin::Own);
    if ends_connection(&exchange) || exchange.progress.has_request_left() {
        parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    exchange.progress.enter(Phase::Responding, exchange.workplace.now().monotonic, None);
    Response::from_parts(parts, ResponseBody::own(bytes, exchange))
}

/// Whether the answer is the connection's last: the process leaves, its life is over, or nothing may
/// follow this request.
pub(super) fn ends_connection(exchange: &Exchange) -> bool {
    exchange.closes_both
        || exchange.workplace.draining.get()
        || exchange.progress.is_old(exchange.workplace.now())
}

async fn serve(
    exchange: &mut Exchange,
    mut parts: Parts,
    body: &mut Option<ClientBody>,
    upgrade: Option<Upgrade>,
) -> Result<Served, Failure> {
    let snapshot = exchange.snapshot.clone();
    let began = exchange.story().began;
    let listener = &snapshot.listeners[exchange.client().listener].settings;
    let trust = Trust::of(exchange, listener, &parts.headers);
    exchange.story().address = trust.address;
    exchange.workplace.note_request(began.unix_seconds());

    let seen = Seen::of(
        &parts.method,
        parts.version,
        &mut parts.headers,
        listener.desync_mitigation,
        listener.drop_invalid_headers,
    );
    if let Some(reason) = seen.found {
        exchange.story().classification = Some(reason.words());
        exchange.workplace.counters.not_compliant.add_one();
    }
    exchange.closes_both = seen.treatment == Treatment::ForwardAndClose;
    let admitted = seen.admit(&parts.method, &parts.uri, parts.version, &parts.headers);
    let authority = admitted.map_err(Failure::Head)?;
    exchange.is_of_many |= trust.peer_is_trusted || !exchange.client().is_known();
    if seen.names.authorization && connection_auth::is_in_request(&parts.headers) {
        exchange.authenticate_connection();
    }
    let described = decide::Request {
        listener: exchange.client().listener,
        host: authority.host(),
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        method: parts.method.as_str(),
        headers: &parts.headers,
        address: trust.address,
    };
    let progress = Rc::clone(&exchange.progress);
    let decision = decide::decide(
        &described,
        &snapshot,
        &AsItIs::of(&exchange.workplace, &progress.client.remembered, &snapshot),
        began.unix_seconds(),
        &mut *exchange.workplace.draw(),
    );
    exchange.story().rule = decision.rule;
    exchange.story().group = decision.group;
    let placement = match decision.outcome {
        Outcome::NoRule => return Err(Failure::NoRule),
        Outcome::NoShare => return Err(Failure::NoShare),
        Outcome::Respond(fixed) => {
            exchange.story().action = "fixed-response";
            return Ok(Served::Here(respond::fixed(fixed)));
        }
        Outcome::Redirect(redirect) => {
            exchange.story().action = "redirect";
            return reroute::redirect(exchange, redirect, &described, &authority, &trust)
                .map(Served::Here);
        }
        Outcome::Forward(placement) => stay(placement, &progress.client, &snapshot),
    };
    exchange.story().action = "forward";
    let protocol = snapshot.groups[placement.group].settings.protocol;
    // HTTP/2 to its targets carries no WebSocket, as with ALB.
    let is_tunnel = matches!(upgrade, Some(Upgrade::Http2(..)));
    let fits = protocols::fits(protocol, parts.version, &parts.method, exchange.story().is_grpc);
    if !fits || (is_tunnel && protocol.is_http2()) {
        return Err(Failure::ProtocolMismatch);
    }
    if listener.limits.body_bytes.is_some_and(|limit| {
        head::content_length(&parts.headers).is_some_and(|length| length > limit)
    }) {
        return Err(Failure::BodyTooLarge);
    }
    let mut host = request::host(exchange, listener, &parts.uri, &authority);
    let rule = decision.rule.map(|at| &snapshot.rules[at].settings);
    if let Some(rewrite) = rule.and_then(|rule| rule.rewrite.as_ref()) {
        let rewritten = reroute::rewrite(exchange, rewrite, &parts.uri, &authority)?;
        host = rewritten.host.or(host);
        if let Some(uri) = rewritten.uri {
            parts.uri = uri;
        }
    }
    let hop = request::prepare(exchange, &mut parts, host, seen.names, &trust, &placement)?;
    let client_upgrade = upgrade.filter(|_| hop.websocket);
    let body = body.take().unwrap_or(ClientBody::Empty);
    let outgoing = request::outgoing(exchange, parts, body, listener, &placement)?;
    let forwarded = forward(exchange, &outgoing, placement).await?;
    answer::answer(exchange, forwarded, &outgoing, &trust, client_upgrade)
}

/// A target's head, and what is held while its body is passed on.
pub(super) struct Forwarded {
    pub(super) response: Response<()>,
    pub(super) side: TargetSide,
    pub(super) placement: Placement,
    /// The index of the target that answered.
    pub(super) target: usize,
    pub(super) in_flight: Option<InFlight>,
}

/// The target with which the client has a connection of its own, where it has no pin: a handshake of
/// NTLM goes on over the connection it began on, and not every client that speaks it keeps cookies.
fn stay(mut placement: Placement, client: &Client, snapshot: &Snapshot) -> Placement {
    if client.owner().is_some() && placement.pinned.is_none() && placement.target.is_some() {
        let targets = &snapshot.groups[placement.group].targets;
        let own = targets.iter().position(|target| client.stays_with(&target.live));
        let serves = |at: &usize| {
            let availability = targets[*at].live.availability();
            availability.health == Health::Healthy && availability.drain == Drain::No
        };
        placement.target = own.filter(serves).or(placement.target);
    }
    placement
}

/// Tries the chosen target and, where nothing reached it, the next ones. A client's own target comes
/// first for a while: at its cap the request waits for a place there, and where it refuses, for the
/// dial that tries it again. Both waits together take no longer than the longer of the two.
async fn forward(
    exchange: &mut Exchange,
    outgoing: &Outgoing,
    first: Placement,
) -> Result<Forwarded, Failure> {
    let snapshot = exchange.snapshot.clone();
    let workplace = Rc::clone(&exchange.workplace);
    let group = &snapshot.groups[first.group];
    let upstream = &group.settings.upstream;
    let announced = announcement::of(exchange, group);
    let began = workplace.now().monotonic;
    let mut placement = first;
    let mut tried = Tried::NOBODY;
    let (mut latest, mut others) = (None, 0);
    let mut in_flight = None;
    if let Some(home) = decide::once_there_is_a_place(&placement, &snapshot) {
        exchange.story().placement = Some(placement.clone());
        let waiting = wait_for_place(&workplace, &snapshot, &home, began);
        in_flight = Box::pin(waiting).await;
        placement = match (in_flight.is_some(), home.target) {
            (true, _) | (_, None) => home,
            // What was decided before the wait is not what holds after it.
            (false, Some(own)) => {
                tried.note(own);
                next(&home, &tried, exchange)
            }
        };
    }
    loop {
        exchange.story().placement = Some(placement.clone());
        let Some(at) = placement.target else { return Err(Failure::Refused(placement.verdict)) };
        let target = &group.targets[at];
        if in_flight.is_none()
            && let Some(bound) = group.settings.in_flight_bound()
        {
            in_flight = target.live.enter(bound);
            if in_flight.is_none() && placement.verdict.is_at_home() {
                let waiting = wait_for_place(&workplace, &snapshot, &placement, began);
                in_flight = Box::pin(waiting).await;
            }
            if in_flight.is_none() {
                // Another request took the last place since the decision: it is at its cap.
                tried.note(at);
                placement = next(&placement, &tried, exchange);
                continue;
            }
        }
        if latest.replace(at) != Some(at) {
            exchange.story().attempts += 1;
            expect_session(group, target, &placement);
        }
        exchange.progress.begin_with(&snapshot, placement.group, at);
        let debug = snapshot.listeners[exchange.client().listener].settings.debug_headers;
        let told = Told {
            verdict: debug.then_some(placement.verdict),
            successor: successor(exchange, &placement, at, &snapshot),
            announced: announced.as_deref(),
        };
        let attempted = attempt::attempt(outgoing, target, told, upstream, exchange);
        let attempted = attempted.await;
        note_outcome(target, &attempted, workplace.worker);
        let failure = match attempted {
            Attempted::Answered(response, side) => {
                return Ok(Forwarded { response, side, placement, target: at, in_flight });
            }
            Attempted::Failed(failure) => return Err(failure),
            Attempted::TryAnother(failure) => failure,
        };
        let refused = matches!(&failure, Failure::Connect(error) if error.may_pass());
        if refused {
            if let Some(pass) = exchange.pass.take() {
                pass.refused();
            }
            if !matches!(failure, Failure::Connect(ConnectError::Refusing)) {
                reconnect::note_refusal(&workplace, group, target);
            }
            let mut without = tried;
            without.note(at);
            let is_home = placement.verdict.is_at_home();
            let live = AsItIs::for_anyone(&workplace);
            if is_home || !decide::has_another(&placement, &without, &snapshot, &live) {
                let waiting = wait_for_connections(&workplace, target, upstream, &placement, began);
                if let Some(pass) = Box::pin(waiting).await {
                    exchange.pass = Some(pass);
                    continue;
                }
            }
        }
        exchange.pass = None;
        in_flight = None;
        tried.note(at);
        let after = next(&placement, &tried, exchange);
        let now = exchange.story().began.unix_seconds();
        // Nothing was sent to a target that refused, so the first spill costs none anything.
        let is_free = refused && others == 0;
        let spent = others >= upstream.retries;
        others += 1;
        let strict = after.verdict == Verdict::StrictRefused;
        let none_left = after.target.is_none();
        if !strict && (none_left || spent || !is_free && !workplace.try_retry(now)) {
            // No other target is asked: what is written down is the attempt that failed last, under
            // the verdict it was made with.
            return Err(failure);
        }
        placement = after;
    }
}

/// Waits for a place at a client's own target, which is at its cap. It ends early where that target
/// cannot serve any more.
async fn wait_for_place(
    workplace: &Workplace,
    snapshot: &Snapshot,
    placement: &Placement,
    began: Instant,
) -> Option<InFlight> {
    let group = &snapshot.groups[placement.group];
    let target = &group.targets[placement.target?];
    let now = workplace.now().monotonic;
    let ends = began + group.settings.upstream.queue;
    let cap = group.settings.in_flight_bound().filter(|_| ends > now)?;
    let mut line = target.live.join_line(cap, spilled_here(target, placement, now))?;
    loop {
        let left = ends.saturating_duration_since(workplace.now().monotonic);
        let place = timer::timeout(left.min(LOOKED_AT), line.place()).await;
        let may_go_home = decide::may_go_home(placement, snapshot, &AsItIs::for_anyone(workplace));
        match place {
            _ if !may_go_home => return None,
            Ok(place) => return place,
            Err(_) if left <= LOOKED_AT => return None,
            Err(_) => workplace.begin_turn(),
        }
    }
}

/// How often a request in line looks whether its target can still serve: a few times in the default
/// `upstream.queue`.
const LOOKED_AT: Duration = Duration::from_millis(250);

/// Waits until a target that refused takes connections again; the pass allows one dial.
async fn wait_for_connections(
    workplace: &Rc<Workplace>,
    target: &Target,
    upstream: &Upstream,
    placement: &Placement,
    began: Instant,
) -> Option<Pass> {
    let in_any_case = spilled_here(target, placement, workplace.now().monotonic);
    reconnect::wait(workplace, &target.live, upstream.reconnect, began, in_any_case).await
}

/// Whether another spill moved the client's pin to this target a moment ago.
fn spilled_here(target: &Target, placement: &Placement, now: Instant) -> bool {
    let seed = decide::ranking_seed(placement);
    seed.is_some_and(|seed| target.live.took_spill_of(seed, now))
}

/// The id of the target that would have this client if `at` were gone, where the group wants its
/// targets to know and there is something to know the client by.
fn successor<'s>(
    exchange: &mut Exchange,
    placement: &Placement,
    at: usize,
    snapshot: &'s Snapshot,
) -> Option<&'s str> {
    let group = &snapshot.groups[placement.group];
    if !group.settings.announce_successor {
        return None;
    }
    let seed = match placement.claim.seed() {
        Some(seed) => seed,
        // The cookie that comes with the answer is made with this one.
        None if group.cookie().is_some() => exchange.fresh_seed(),
        None => return None,
    };
    let workplace = Rc::clone(&exchange.workplace);
    let live = AsItIs::for_anyone(&workplace);
    let successor = decide::successor(placement, at, seed, snapshot, &live)?;
    Some(group.targets[successor].id.as_str())
}

fn next(placement: &Placement, tried: &Tried, exchange: &Exchange) -> Placement {
    let mut draw = exchange.workplace.draw();
    decide::next_after_failure(
        placement,
        tried,
        &exchange.snapshot,
        &AsItIs::for_anyone(&exchange.workplace),
        &mut *draw,
    )
}

/// Counts a newcomer on its way where targets are compared by their sessions.
fn expect_session(group: &Group, target: &Target, placement: &Placement) {
    if group.settings.algorithm == Algorithm::LeastSessions
        && placement.keeps != Keeps::Nothing
        && decide::ranking_seed(placement).is_none()
        && let Some(sessions) = target.live.sessions()
    {
        sessions.expect_one();
    }
}

/// Counts what came of a request where targets are compared by that: 5xx and connection errors (AWS,
/// "Automatic Target Weights"). What the client broke, or this process lacks, is no failure of it.
fn note_outcome(target: &Target, attempted: &Attempted, worker: usize) {
    let Some(outcomes) = target.live.outcomes() else { return };
    match attempted {
        Attempted::Answered(response, _) => {
            outcomes.note(worker, response.status().is_server_error());
        }
        Attempted::TryAnother(failure) | Attempted::Failed(failure) => match failure {
            Failure::Connect(error) if !error.is_the_targets() => {}
            Failure::Connect(_) | Failure::TargetLost | Failure::TargetMalformed => {
                outcomes.note(worker, true);
            }
            _ => {}
        },
    }
}
