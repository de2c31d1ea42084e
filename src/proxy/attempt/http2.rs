//! One try at a target over HTTP/2.

use super::{
    Attempted, Outgoing, Sent, Told, answered, begin_waiting, ended, lost, note_sent, tell,
};
use crate::config::settings::Upstream;
use crate::model::report::Report;
use crate::model::snapshot::Target;
use crate::net::connect::ConnectError;
use crate::net::http2::connections::Way;
use crate::net::http2::stream::Place;
use crate::proxy::body::RequestBody;
use crate::proxy::exchange::Exchange;
use crate::proxy::failure::Failure;
use crate::proxy::progress::Phase;
use crate::proxy::target_side::TargetSide;
use http::{HeaderMap, Request, Response};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

/// Sends to one target. What it did nothing with, or what was lost with a connection that had
/// answered before, goes to it once more, unnoticed: over the same connection if that goes on.
pub(super) async fn attempt(
    outgoing: &Outgoing,
    request: &Request<()>,
    target: &Target,
    told: Told<'_>,
    upstream: &Upstream,
    exchange: &mut Exchange,
) -> Attempted {
    let mut is_repeated = false;
    loop {
        let place = match place(target, upstream, exchange).await {
            Ok(place) => place,
            Err(failure) => return failure,
        };
        let is_proven = place.is_proven();
        exchange.story().dispatched = Some(exchange.workplace.now());
        let mut request = request.clone();
        told.write(request.headers_mut(), target);
        match send(outgoing, request, place, exchange).await {
            Sent::Answered(response, side) => return answered(response, side, target, exchange),
            Sent::Ended(failure) => return Attempted::Failed(failure),
            Sent::Lost { unsent } => {
                let may_be_repeated = outgoing.may_be_repeated(unsent);
                if is_repeated || !(unsent || is_proven) {
                    return lost(may_be_repeated);
                }
                let now = exchange.workplace.now();
                if !may_be_repeated || !exchange.workplace.try_retry(now.unix_seconds()) {
                    return Attempted::Failed(Failure::TargetLost);
                }
                is_repeated = true;
            }
        }
    }
}

async fn place(
    target: &Target,
    upstream: &Upstream,
    exchange: &mut Exchange,
) -> Result<Place, Attempted> {
    let pool = &exchange.workplace.pool;
    let connections = pool.http2(&target.live);
    if let Some(place) = connections.room() {
        return Ok(place);
    }
    exchange.progress.enter(Phase::Waiting, exchange.workplace.now().monotonic, None);
    let workplace = Rc::clone(&exchange.workplace);
    let live = Arc::clone(&target.live);
    let failed = Box::new(move || workplace.report(Report::ConnectFailed(Arc::clone(&live))));
    let taken = match target.address {
        None => {
            failed();
            Err(ConnectError::Unresolved)
        }
        Some(address) => {
            let (timeout, keep_alive) = (upstream.connect, upstream.keep_alive);
            let tls = pool.connector(&target.live);
            connections.take(Way { address, timeout, tls, keep_alive, failed }, &target.live).await
        }
    };
    taken.map_err(|error| {
        tell(target, &error, exchange);
        Attempted::TryAnother(Failure::Connect(error))
    })
}

async fn send(
    outgoing: &Outgoing,
    request: Request<()>,
    place: Place,
    exchange: &Exchange,
) -> Sent {
    let progress = &exchange.progress;
    begin_waiting(outgoing, progress, exchange.workplace.now().monotonic);
    let body = outgoing.upload.as_ref().map(|upload| RequestBody(Rc::clone(upload)));
    let mut stream = match place.begin(request, body) {
        Ok(stream) => Box::new(stream),
        Err(trouble) => return ended(outgoing, trouble),
    };
    let mut fields = HeaderMap::new();
    let answer = poll_fn(|cx| {
        let answer = stream.poll_answer(cx, &mut fields);
        note_sent(outgoing, progress, stream.taken(), stream.is_sending());
        match (answer, progress.expiry()) {
            (Poll::Ready(answer), _) => Poll::Ready(Ok(answer)),
            (Poll::Pending, Some(expiry)) => Poll::Ready(Err(expiry)),
            (Poll::Pending, None) => Poll::Pending,
        }
    });
    match answer.await {
        Ok(Ok(status)) => {
            let mut response = Response::new(());
            *response.status_mut() = status;
            *response.headers_mut() = fields;
            Sent::Answered(response, TargetSide::Http2(stream))
        }
        Ok(Err(trouble)) => ended(outgoing, trouble),
        Err(expiry) => Sent::Ended(Failure::of_expiry(expiry)),
    }
}
