//! The life of a request in one file: begin, validate the head, decide, forward or answer.

use super::answer::{Answer, Forwarded, Rest, Served};
use super::client_identity::ClientIdentity;
use super::conn_info::ConnInfo;
use super::deadline::Phase;
use super::exchange::Exchange;
use super::failure::Failure;
use super::live_view::LiveView;
use super::local_response::{self, Page};
use super::protocols;
use super::reconnect;
use super::reconnects::Pass;
use super::recv_body::ClientBody;
use super::request::{self, Asked};
use super::response;
use super::response_body::ResponseBody;
use super::rewrite::{self, Rewritten};
use super::tunnel::Upgrade;
use super::upstream;
use super::upstream::attempt::{self, Attempted, Outgoing, TargetHeaders};
use super::worker_ctx::WorkerCtx;
use crate::config::settings::{Algorithm, Listener};
use crate::decide::candidates::Tried;
use crate::decide::verdict::Verdict;
use crate::decide::{self, Keeps, Outcome, Placement};
use crate::http1::name::Name;
use crate::http1::value::content_length;
use crate::model::in_flight::InFlight;
use crate::model::live::{Drain, Health};
use crate::model::snapshot::{Group, Snapshot, Target};
use crate::net::connect::ConnectError;
use crate::net::timer;
use crate::observe::record::RecordAction;
use crate::policy::headers::connection_auth;
use crate::policy::headers::desync::Treatment;
use crate::policy::headers::request_check::RequestCheck;
use crate::policy::headers::response::Origin;
use crate::policy::routing::conditions::Subject;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Serves one request of either protocol; with `upgrade`, its client may request another protocol.
/// The exchange belongs to the caller and lasts until the response was sent.
pub(super) async fn handle(
    exchange: &mut Exchange,
    body: ClientBody,
    upgrade: Option<Upgrade>,
) -> Answer {
    let awaits_continue = exchange.request.fields.has(Name::Expect);
    let mut body = Some(body);
    let served = serve(exchange, &mut body, upgrade).await;
    let mut request_left = false;
    if let Some(body) = &mut body {
        let unread = awaits_continue || served.as_ref().is_err_and(Failure::closes);
        // No target read the body: if all of it was received, the connection continues.
        request_left = match unread {
            true => !body.is_end_stream(),
            false => !body.is_read_at_once().await,
        };
    }
    match served {
        Ok(Served::Here(response)) => {
            exchange.answer(response.head.status);
            own(exchange, response, request_left)
        }
        Ok(Served::ByTarget(answer)) => {
            exchange.answer(answer.head.status);
            answer
        }
        Err(failure) => refused(exchange, &failure, request_left),
    }
}

/// The response to a request that failed.
pub(super) fn refused(exchange: &mut Exchange, failure: &Failure, request_left: bool) -> Answer {
    exchange.fail(failure);
    let head = exchange.worker.take_response();
    let page = match exchange.log().is_grpc {
        true => local_response::failed_call(head, failure),
        false => local_response::failure(head, failure),
    };
    own(exchange, page, request_left || failure.closes())
}

fn own(exchange: &mut Exchange, page: Page, request_left: bool) -> Answer {
    let Page { mut head, body } = page;
    let listener = &exchange.snapshot.listeners[exchange.info().listener].settings;
    listener.response_fields.write(&mut head.fields, Origin::Own);
    exchange.deadline.enter(Phase::Responding, exchange.worker.now().monotonic, None);
    let closes = exchange.ends_connection() || request_left;
    Answer { head, rest: Rest::Body(ResponseBody::Own(body)), closes }
}

/// The decision on a request whose head was checked.
enum Decided {
    /// The balancer answers it.
    Here(Page),
    /// A target answers it, of the group in the log's placement.
    Forward {
        outgoing: Outgoing,
        identity: ClientIdentity,
        /// The protocol switch the client may get.
        upgrade: Option<Upgrade>,
    },
}

async fn serve(
    exchange: &mut Exchange,
    body: &mut Option<ClientBody>,
    upgrade: Option<Upgrade>,
) -> Result<Served, Failure> {
    // State from before the request is sent is dropped before the wait for its response.
    let (outgoing, identity, upgrade) = match decide_on(exchange, body, upgrade)? {
        Decided::Here(page) => return Ok(Served::Here(page)),
        Decided::Forward { outgoing, identity, upgrade } => (outgoing, identity, upgrade),
    };
    let forwarded = forward(exchange, &outgoing).await?;
    response::answer(exchange, forwarded, outgoing, &identity, upgrade).map(Served::ByTarget)
}

/// Checks the head, decides, and builds the request for the target.
fn decide_on(
    exchange: &mut Exchange,
    body: &mut Option<ClientBody>,
    upgrade: Option<Upgrade>,
) -> Result<Decided, Failure> {
    let snapshot = Rc::clone(&exchange.snapshot);
    let listener = &snapshot.listeners[exchange.info().listener].settings;
    let began = exchange.log().began;
    let identity = ClientIdentity::of(exchange.info(), listener, &exchange.request.fields);
    exchange.log_mut().address = identity.address;
    exchange.worker.record_request(began.unix_seconds());

    let check = see(exchange, listener);
    exchange.closes_both = check.treatment == Treatment::ForwardAndClose;
    let request = Rc::clone(&exchange.request);
    let authority = check.admit(&request).map_err(Failure::Head)?;
    exchange.is_of_many |= identity.peer_is_trusted || !exchange.info().is_known();
    if check.flags.authorization && connection_auth::is_in_request(&request.fields) {
        exchange.authenticate_connection();
    }
    let described = decide::Request {
        listener: exchange.info().listener,
        subject: Subject {
            host: authority.host(),
            path: request.path(),
            query: request.query(),
            method: request.method.as_str(),
            headers: &request.fields,
            address: identity.address,
        },
    };
    let conn = Rc::clone(&exchange.conn);
    let decision = decide::decide(
        &described,
        &snapshot,
        &LiveView::of(&exchange.worker, &conn.info),
        began.unix_seconds(),
        &mut *exchange.worker.draw(),
    );
    exchange.log_mut().rule = decision.rule;
    exchange.log_mut().group = decision.group.map(Box::new);
    let mut placement = match decision.outcome {
        Outcome::NoRule => return Err(Failure::NoRule),
        Outcome::NoShare => return Err(Failure::NoShare),
        Outcome::Respond(fixed) => {
            exchange.log_mut().action = RecordAction::FixedResponse;
            let head = exchange.worker.take_response();
            return Ok(Decided::Here(local_response::fixed(head, fixed)));
        }
        Outcome::Redirect(redirect) => {
            exchange.log_mut().action = RecordAction::Redirect;
            return rewrite::redirect(
                exchange,
                redirect,
                &described.subject,
                &authority,
                &identity,
            )
            .map(Decided::Here);
        }
        Outcome::Forward(placement) => placement,
    };
    exchange.log_mut().action = RecordAction::Forward;
    stay(&mut placement, &conn.info, &snapshot);
    let protocol = snapshot.groups[placement.group].settings.protocol;
    // HTTP/2 to targets carries no WebSocket, as with ALB.
    let is_tunnel = matches!(upgrade, Some(Upgrade::Http2(_)));
    let is_grpc = exchange.log().is_grpc;
    let fits = protocols::fits(protocol, request.version, &request.method, is_grpc);
    if !fits || (is_tunnel && protocol.is_http2()) {
        return Err(Failure::ProtocolMismatch);
    }
    let length = content_length(&request.fields);
    if listener.limits.body_bytes.is_some_and(|limit| length.is_some_and(|length| length > limit)) {
        return Err(Failure::BodyTooLarge);
    }
    let rule = decision.rule.map(|at| &snapshot.rules[at].settings);
    let rewritten = match rule.and_then(|rule| rule.rewrite.as_ref()) {
        Some(rewrite) => rewrite::rewrite(exchange, rewrite, &request, &authority)?,
        None => Rewritten::default(),
    };
    let body = body.take().unwrap_or(ClientBody::Empty);
    let asked = Asked { authority, flags: check.flags, identity: &identity, rewritten };
    let (outgoing, hop) = request::outgoing(exchange, &asked, body, listener, &placement)?;
    let upgrade = upgrade.filter(|_| hop.websocket);
    // Only the log holds it from here on: the state of a wait is moved for each request.
    exchange.log_mut().placement = Some(placement);
    Ok(Decided::Forward { outgoing, identity, upgrade })
}

/// Checks the head as received, and drops fields with invalid names if the listener is configured
/// so.
fn see(exchange: &mut Exchange, listener: &Listener) -> RequestCheck {
    let (mitigation, drop) = (listener.desync_mitigation, listener.drop_invalid_headers);
    // The head was read for this exchange, which is its only holder so far.
    let request = Rc::make_mut(&mut exchange.request);
    let check = RequestCheck::of(request, mitigation, drop);
    if let Some(reason) = check.found {
        exchange.log_mut().classification = Some(reason.words());
        exchange.worker.counters.not_compliant.add_one();
    }
    check
}

/// Sets the target to the one with which the client has a connection of its own, if the client has
/// no pin: an NTLM handshake continues on the connection it began on, and some of its clients keep
/// no cookies.
fn stay(placement: &mut Placement, client: &ConnInfo, snapshot: &Snapshot) {
    if client.owner().is_some() && placement.pinned.is_none() && placement.target.is_some() {
        let targets = &snapshot.groups[placement.group].targets;
        let own = targets.iter().position(|target| client.stays_with(&target.state));
        let serves = |at: &usize| {
            let availability = targets[*at].state.availability();
            availability.health == Health::Healthy && availability.drain == Drain::No
        };
        placement.target = own.filter(serves).or(placement.target);
    }
}

/// Tries the chosen target and, if the request did not reach it, the next ones. A client's own
/// target gets extra time: at its cap, the request waits for a place there; if it refuses, the
/// request waits for a new dial. Both waits together are bounded by the longer of the two.
async fn forward(exchange: &mut Exchange, outgoing: &Outgoing) -> Result<Forwarded, Failure> {
    let snapshot = Rc::clone(&exchange.snapshot);
    let worker = Rc::clone(&exchange.worker);
    let Some(first) = &exchange.log().placement else { return Err(Failure::NoRule) };
    let group_at = first.group;
    let home = decide::once_there_is_a_place(first, &snapshot);
    let group = &snapshot.groups[group_at];
    let upstream = &group.settings.upstream;
    let proxy_header = attempt::proxy_header(exchange, group);
    let began = worker.now().monotonic;
    let mut tried = Tried::EMPTY;
    let (mut latest, mut others) = (None, 0);
    let mut in_flight = None;
    if let Some(home) = home {
        let waited = Box::pin(wait_at_home(exchange, home, &mut tried, began)).await;
        in_flight = waited;
    }
    loop {
        let Some(placement) = &exchange.log().placement else { return Err(Failure::NoRule) };
        let (verdict, is_home) = (placement.verdict, placement.verdict.is_at_home());
        let Some(at) = placement.target else { return Err(Failure::Refused(verdict)) };
        let target = &group.targets[at];
        if in_flight.is_none()
            && let Some(bound) = group.settings.in_flight_bound()
        {
            in_flight = target.state.enter(bound);
            if in_flight.is_none() && is_home {
                let waiting = wait_for_place(&worker, &snapshot, placement, began);
                in_flight = Box::pin(waiting).await;
            }
            if in_flight.is_none() {
                // Another request took the last place since the decision: the target is at its cap.
                tried.record(at);
                exchange.log_mut().placement = next(exchange, &tried);
                continue;
            }
        }
        if latest.replace(at) != Some(at) {
            expect_session(group, target, placement);
            exchange.log_mut().attempts += 1;
        }
        exchange.deadline.begin_with(&snapshot, group_at, at);
        let debug = snapshot.listeners[exchange.info().listener].settings.debug_headers;
        let target_headers = TargetHeaders {
            verdict: debug.then_some(verdict),
            successor: successor(exchange, at, &snapshot),
            proxy_header: proxy_header.as_deref(),
        };
        let attempted =
            upstream::attempt(outgoing, target, target_headers, upstream, exchange).await;
        record_outcome(target, &attempted, worker.index);
        let failure = match attempted {
            Attempted::Answered(response, side) => {
                return Ok(Forwarded { response, side, target: at, in_flight });
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
                reconnect::record_refusal(&worker, group, target);
            }
            let waiting = wait_for_connections(exchange, &tried, at, began);
            if let Some(pass) = Box::pin(waiting).await {
                exchange.pass = Some(pass);
                continue;
            }
        }
        exchange.pass = None;
        in_flight = None;
        tried.record(at);
        let after = next(exchange, &tried);
        let now = exchange.log().began.unix_seconds();
        // A refusing target received nothing, so the first spill costs no retry budget.
        let is_free = refused && others == 0;
        let spent = others >= upstream.retries;
        others += 1;
        let strict = after.as_ref().is_some_and(|after| after.verdict == Verdict::StrictRefused);
        let none_left = after.as_ref().is_none_or(|after| after.target.is_none());
        if !strict && (none_left || spent || !is_free && !worker.try_retry(now)) {
            // No other target is tried: the log gets the attempt that failed last and its verdict.
            return Err(failure);
        }
        exchange.log_mut().placement = after;
    }
}

/// Waits for a place at the client's own target, which was at its cap when the request was placed,
/// and then places the request there or elsewhere.
async fn wait_at_home(
    exchange: &mut Exchange,
    home: Placement,
    tried: &mut Tried,
    began: Instant,
) -> Option<InFlight> {
    let snapshot = Rc::clone(&exchange.snapshot);
    let in_flight = wait_for_place(&exchange.worker, &snapshot, &home, began).await;
    let own = home.target;
    exchange.log_mut().placement = Some(home);
    if let (None, Some(own)) = (&in_flight, own) {
        // A decision from before the wait is outdated after it.
        tried.record(own);
        exchange.log_mut().placement = next(exchange, tried);
    }
    in_flight
}

/// Waits for a place at a client's own target, which is at its cap. Ends early if that target can
/// no longer serve.
async fn wait_for_place(
    worker: &WorkerCtx,
    snapshot: &Snapshot,
    placement: &Placement,
    began: Instant,
) -> Option<InFlight> {
    let group = &snapshot.groups[placement.group];
    let target = &group.targets[placement.target?];
    let now = worker.now().monotonic;
    let ends = began + group.settings.upstream.queue;
    let cap = group.settings.in_flight_bound().filter(|_| ends > now)?;
    let mut line = target.state.join_queue(cap, spilled_here(target, placement, now))?;
    loop {
        let left = ends.saturating_duration_since(worker.now().monotonic);
        let place = timer::timeout(left.min(LOOKED_AT), line.place()).await;
        let may_go_home = decide::may_go_home(placement, snapshot, &LiveView::for_anyone(worker));
        match place {
            _ if !may_go_home => return None,
            Ok(place) => return place,
            Err(_) if left <= LOOKED_AT => return None,
            Err(_) => worker.begin_turn(),
        }
    }
}

/// Interval at which a waiting request checks if its target can still serve: a few times within the
/// default `upstream.queue`.
const LOOKED_AT: Duration = Duration::from_millis(250);

/// Waits until a refusing target accepts connections again, if the request has no better target.
/// The pass allows one dial.
async fn wait_for_connections(
    exchange: &Exchange,
    tried: &Tried,
    at: usize,
    began: Instant,
) -> Option<Pass> {
    let (worker, snapshot) = (&exchange.worker, &exchange.snapshot);
    let placement = exchange.log().placement.as_ref()?;
    let mut without = *tried;
    without.record(at);
    let is_home = placement.verdict.is_at_home();
    let live = LiveView::for_anyone(worker);
    if !is_home && decide::has_another(placement, &without, snapshot, &live) {
        return None;
    }
    let group = &snapshot.groups[placement.group];
    let (target, reconnect) = (&group.targets[at], group.settings.upstream.reconnect);
    let in_any_case = spilled_here(target, placement, worker.now().monotonic);
    reconnect::wait(worker, &target.state, reconnect, began, in_any_case).await
}

/// Returns true if another spill moved the client's pin to this target a moment ago.
fn spilled_here(target: &Target, placement: &Placement, now: Instant) -> bool {
    let seed = decide::ranking_seed(placement);
    seed.is_some_and(|seed| target.state.took_spill_of(seed, now))
}

/// The id of the target that would get this client if target `at` were gone. `None` unless the
/// group announces it and something identifies the client.
fn successor<'s>(exchange: &mut Exchange, at: usize, snapshot: &'s Snapshot) -> Option<&'s str> {
    let placement = exchange.log().placement.as_ref()?;
    let group = &snapshot.groups[placement.group];
    if !group.settings.announce_successor {
        return None;
    }
    let seed = match placement.claim.seed() {
        Some(seed) => seed,
        // The response's cookie will be made with this seed.
        None if group.cookie().is_some() => exchange.fresh_seed(),
        None => return None,
    };
    let live = LiveView::for_anyone(&exchange.worker);
    let placement = exchange.log().placement.as_ref()?;
    let successor = decide::successor(placement, at, seed, snapshot, &live)?;
    Some(group.targets[successor].id.as_str())
}

/// Decides the next placement of a request after the targets in `tried` failed.
fn next(exchange: &Exchange, tried: &Tried) -> Option<Placement> {
    let placement = exchange.log().placement.as_ref()?;
    let mut draw = exchange.worker.draw();
    let live = LiveView::for_anyone(&exchange.worker);
    Some(decide::next_after_failure(placement, tried, &exchange.snapshot, &live, &mut *draw))
}

/// Counts a new client on its way, if targets are compared by their sessions.
fn expect_session(group: &Group, target: &Target, placement: &Placement) {
    if group.settings.algorithm == Algorithm::LeastSessions
        && placement.keeps != Keeps::Nothing
        && decide::ranking_seed(placement).is_none()
        && let Some(sessions) = target.state.session_sketch()
    {
        sessions.expect_one();
    }
}

/// Counts the outcome of a request, if targets are compared by outcomes: 5xx and connection errors
/// (AWS, "Automatic Target Weights"). Faults of the client and shortages of this process do not
/// count against a target.
fn record_outcome(target: &Target, attempted: &Attempted, worker: usize) {
    let Some(stats) = target.state.request_stats() else { return };
    match attempted {
        Attempted::Answered(response, _) => {
            stats.record(worker, response.status.is_server_error());
        }
        Attempted::TryAnother(failure) | Attempted::Failed(failure) => match failure {
            Failure::Connect(error) if !error.is_the_targets() => {}
            Failure::Connect(_) | Failure::TargetLost | Failure::TargetMalformed => {
                stats.record(worker, true);
            }
            _ => {}
        },
    }
}
