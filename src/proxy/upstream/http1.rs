//! One try at a target over HTTP/1.1.

use super::attempt::{
    Attempted, Outgoing, Sent, answered, begin_waiting, ended, expired, log_connect_error, lost,
    record_sent,
};
use crate::model::snapshot::Target;
use crate::net::connect::{self, ConnectError};
use crate::net::http1::send::Outbound;
use crate::net::http1::{Answered, Connection, Request, Waiting};
use crate::net::pool::Checkout;
use crate::policy::proxy_protocol::ProxyHeader;
use crate::proxy::deadline::{Phase, race};
use crate::proxy::exchange::Exchange;
use crate::proxy::failure::Failure;
use crate::proxy::reconnect;
use crate::proxy::upload::RequestBody;
use crate::proxy::upstream_response::UpstreamResponse;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Sends to one target. A pooled connection that turns out to be dead is replaced by a new one,
/// once and silently; there is no other retry here.
pub(super) async fn attempt(
    outgoing: &Outgoing,
    head: &[u8],
    target: &Target,
    proxy_header: Option<&ProxyHeader>,
    connect_timeout: Duration,
    exchange: &mut Exchange,
) -> Attempted {
    let now = exchange.worker.now();
    let own = proxy_header.map(|proxy_header| &proxy_header.ends);
    let owner = exchange.info().owner();
    let (pool, id) = (&exchange.worker.pool, exchange.info().id);
    if let Some(connection) = pool.take(&target.state, own, owner, id, now.monotonic) {
        exchange.log_mut().dispatched = Some(now);
        exchange.pass = None;
        match send(outgoing, head, connection, exchange, now.monotonic).await {
            Sent::Answered(response, side) => return answered(response, side, target, exchange),
            Sent::Ended(failure) => return Attempted::Failed(failure),
            Sent::Lost { unsent } => {
                // An unsent request costs the target nothing.
                if !outgoing.may_be_repeated(unsent)
                    || !unsent && !exchange.worker.try_retry(now.unix_seconds())
                {
                    return Attempted::Failed(Failure::TargetLost);
                }
            }
        }
    }
    // Boxed: a pooled connection serves nearly all requests.
    let dialled = Box::pin(dial(target, proxy_header, connect_timeout, exchange));
    let connection = match dialled.await {
        Ok(connection) => connection,
        Err(failure) => return failure,
    };
    let now = exchange.worker.now();
    exchange.log_mut().dispatched = Some(now);
    match send(outgoing, head, connection, exchange, now.monotonic).await {
        Sent::Answered(response, side) => answered(response, side, target, exchange),
        Sent::Ended(failure) => Attempted::Failed(failure),
        // The target was reached. Its reaction to one request does not show its health, or any
        // client could make it unhealthy with a request that it closes on.
        Sent::Lost { unsent } => lost(outgoing.may_be_repeated(unsent)),
    }
}

/// Dials a new connection, or takes one that came back while all were in use.
async fn dial(
    target: &Target,
    proxy_header: Option<&ProxyHeader>,
    timeout: Duration,
    exchange: &mut Exchange,
) -> Result<Box<Connection<RequestBody>>, Attempted> {
    if exchange.pass.is_none() && !exchange.worker.reconnects.is_open(&target.state) {
        return Err(Attempted::TryAnother(Failure::Connect(ConnectError::Refusing)));
    }
    let now = exchange.worker.now().monotonic;
    exchange.deadline.enter(Phase::Waiting, now, None);
    let pool = &exchange.worker.pool;
    let connected = async {
        let address = target.address.ok_or(ConnectError::Unresolved)?;
        let own = proxy_header.map(|proxy_header| &proxy_header.ends);
        let (owner, id) = (exchange.info().owner(), exchange.info().id);
        match pool.wait_for_place(&target.state, own, owner, id, timeout).await? {
            Checkout::Idle(connection) => Ok(connection),
            Checkout::Dial(place) => {
                let tls = pool.connector(&target.state);
                let dialled = connect::connect(address, timeout, place, tls.as_ref(), proxy_header);
                let connection = dialled.await?;
                reconnect::record_connected(&exchange.worker, &target.state);
                Ok(connection)
            }
        }
    };
    let connected = connected.await;
    if connected.is_ok() {
        exchange.pass = None;
    }
    connected.map_err(|error| {
        log_connect_error(target, &error, exchange);
        if error.is_the_targets() {
            reconnect::record_failed(&exchange.worker, &target.state);
        }
        Attempted::TryAnother(Failure::Connect(error))
    })
}

async fn send(
    outgoing: &Outgoing,
    head: &[u8],
    mut connection: Box<Connection<RequestBody>>,
    exchange: &mut Exchange,
    now: Instant,
) -> Sent {
    let deadline = Rc::clone(&exchange.deadline);
    let worker = Rc::clone(&exchange.worker);
    begin_waiting(outgoing, &deadline, now);
    connection.begin(outbound(outgoing));
    let request = Request { method: &outgoing.method, head };
    let mut response = worker.take_response();
    let mut waiting = Waiting::default();
    let answer = race(
        &*deadline,
        poll_fn(|cx| {
            loop {
                let scratch = &mut *worker.scratch();
                let answer =
                    connection.poll_answer(cx, request, &mut waiting, scratch, &mut response);
                record_sent(outgoing, &deadline, connection.taken(), connection.is_sending());
                match answer {
                    Poll::Ready(Ok(Answered::Interim)) => exchange.interim(&response),
                    Poll::Ready(Ok(Answered::Final)) => return Poll::Ready(Ok(())),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
        }),
    );
    match answer.await {
        Ok(Ok(())) => Sent::Answered(response, UpstreamResponse::Http1(connection)),
        Ok(Err(error)) => ended(outgoing, error),
        Err(expiry) => expired(expiry),
    }
}

fn outbound(outgoing: &Outgoing) -> Option<Outbound<RequestBody>> {
    let upload = outgoing.upload.as_ref()?;
    let body = RequestBody(Rc::clone(upload));
    Some(Outbound { body, chunked: outgoing.is_chunked })
}
