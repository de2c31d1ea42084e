//! One try at a target over HTTP/2.

use super::attempt::{
    Attempted, Outgoing, Sent, TargetHeaders, answered, begin_waiting, ended, expired,
    log_connect_error, lost, record_sent,
};
use super::kept_body::KeptBody;
use crate::config::settings::Upstream;
use crate::model::snapshot::Target;
use crate::net::connect::ConnectError;
use crate::net::http2::stream::{StreamPermit, Ticket};
use crate::proxy::deadline::{Phase, race};
use crate::proxy::exchange::Exchange;
use crate::proxy::failure::Failure;
use crate::proxy::reconnect;
use crate::proxy::upstream_response::UpstreamResponse;
use http::Request;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Time during which a refused request is sent to the target again: the default of
/// `upstream.reconnect`, which bounds refused connects.
const MAX_REFUSED: Duration = Duration::from_secs(1);
/// Bound on the tries of a request on another connection after its target sent GOAWAY without
/// processing it.
const MAX_LEFT: u32 = 3;

/// Sends to one target. An unprocessed request is sent to it again, over the same connection if
/// that continues, and spends nothing of the retry budget, because the target did no work. A
/// request lost with a connection that had answered before is sent once more, silently.
pub(super) async fn attempt(
    outgoing: &Outgoing,
    request: &Request<()>,
    target: &Target,
    headers: TargetHeaders<'_>,
    upstream: &Upstream,
    exchange: &mut Exchange,
) -> Attempted {
    let body = outgoing.upload.as_ref().map(KeptBody::of);
    let mut again = Again { left: 0, was_lost: false, refused: None };
    let mut ticket = None;
    loop {
        let place = match place(target, upstream, ticket, exchange).await {
            Ok(place) => place,
            Err(failure) => return failure,
        };
        let (is_proven, connection) = (place.is_proven(), Rc::clone(place.connection()));
        ticket = Some(place.ticket());
        exchange.log_mut().dispatched = Some(exchange.worker.now());
        let mut request = request.clone();
        headers.write(request.headers_mut(), target);
        let unsent = match send(outgoing, request, body.clone(), place, exchange).await {
            Sent::Answered(response, side) => return answered(response, side, target, exchange),
            Sent::Ended(failure) => return Attempted::Failed(failure),
            Sent::Lost { unsent } => unsent,
        };
        let now = exchange.worker.now();
        if unsent {
            let is_whole = body.as_ref().is_none_or(KeptBody::is_whole);
            if !is_whole || !again.may_be_sent(connection.is_backing_off(), now.monotonic) {
                return lost(outgoing.may_be_repeated(true));
            }
            if let Some(body) = &body {
                body.rewind();
            }
            continue;
        }
        let may_be_repeated = outgoing.may_be_repeated(false);
        if again.was_lost || !is_proven {
            return lost(may_be_repeated);
        }
        if !may_be_repeated || !exchange.worker.try_retry(now.unix_seconds()) {
            return Attempted::Failed(Failure::TargetLost);
        }
        again.was_lost = true;
    }
}

/// The retries of a request at this target, by cause.
struct Again {
    /// Connections that the target left without processing the request.
    left: u32,
    /// True after a connection died.
    was_lost: bool,
    /// Time of the first refusal.
    refused: Option<Instant>,
}

impl Again {
    /// Returns true if an unprocessed request may be sent once more: the target refused it, or sent
    /// GOAWAY.
    fn may_be_sent(&mut self, was_refused: bool, now: Instant) -> bool {
        if was_refused {
            let since = *self.refused.get_or_insert(now);
            return now.saturating_duration_since(since) < MAX_REFUSED;
        }
        self.left += 1;
        self.left <= MAX_LEFT
    }
}

async fn place(
    target: &Target,
    upstream: &Upstream,
    ticket: Option<Ticket>,
    exchange: &mut Exchange,
) -> Result<StreamPermit, Attempted> {
    let is_private = exchange.is_private();
    let pool = &exchange.worker.pool;
    let connections = pool.http2(&target.state);
    if ticket.is_none()
        && let Some(place) = connections.room(is_private)
    {
        exchange.pass = None;
        return Ok(place);
    }
    if exchange.pass.is_none() && !exchange.worker.reconnects.is_open(&target.state) {
        return Err(Attempted::TryAnother(Failure::Connect(ConnectError::Refusing)));
    }
    exchange.deadline.enter(Phase::Waiting, exchange.worker.now().monotonic, None);
    let worker = &exchange.worker;
    let taken = match target.address {
        None => {
            reconnect::record_failed(worker, &target.state);
            Err(ConnectError::Unresolved)
        }
        Some(address) => {
            let timeout = reconnect::dial_timeout(&target.state, upstream);
            let state = &target.state;
            let config =
                reconnect::http2_dial_config(worker, state, address, timeout, upstream.keep_alive);
            connections.take(config, state, ticket, is_private).await
        }
    };
    if taken.is_ok() {
        exchange.pass = None;
    }
    taken.map_err(|error| {
        log_connect_error(target, &error, exchange);
        Attempted::TryAnother(Failure::Connect(error))
    })
}

async fn send(
    outgoing: &Outgoing,
    request: Request<()>,
    body: Option<KeptBody>,
    place: StreamPermit,
    exchange: &mut Exchange,
) -> Sent {
    let deadline = Rc::clone(&exchange.deadline);
    begin_waiting(outgoing, &deadline, exchange.worker.now().monotonic);
    let mut stream = match place.begin(request, body.clone()) {
        Ok(stream) => Box::new(stream),
        Err(error) => return ended(outgoing, error),
    };
    let mut response = exchange.worker.take_response();
    let answer = race(
        &*deadline,
        poll_fn(|cx| {
            while let Poll::Ready(Ok(())) = stream.poll_interim(cx, &mut response) {
                exchange.interim(&response);
            }
            let answer = stream.poll_answer(cx, &mut response);
            record_sent(outgoing, &deadline, stream.taken(), stream.is_sending());
            answer
        }),
    );
    match answer.await {
        Ok(Ok(())) => {
            if let Some(body) = body {
                body.forget();
            }
            Sent::Answered(response, UpstreamResponse::Http2(stream))
        }
        Ok(Err(error)) => ended(outgoing, error),
        Err(expiry) => expired(expiry),
    }
}
