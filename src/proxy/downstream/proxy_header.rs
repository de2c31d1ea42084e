//! PROXY headers in an exchange's terms: who a connection is announced to be from, under which
//! deadline and whose word; and what targets are announced.

use super::exchange::Exchange;
use super::progress::Progress;
use super::worker_ctx::WorkerCtx;
use crate::model::snapshot::Group;
use crate::net::proxy_protocol;
use crate::policy::proxy_protocol::{Announcement, Ends, ProxyFault};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use tokio::net::TcpStream;

/// Reads the header with which a trusted peer opens a connection; whether the connection goes on.
/// What is wrong is counted and not answered: nobody is there to read an answer.
pub async fn hear(worker: &WorkerCtx, progress: &Rc<Progress>, socket: &TcpStream) -> bool {
    let client = &progress.client;
    // Boxed, so that a connection does not keep the room.
    let mut header = Box::pin(proxy_protocol::read(socket));
    let heard = poll_fn(|cx| {
        worker.begin_turn();
        progress.remember_waker(cx.waker());
        match progress.expiry() {
            Some(_) => Poll::Ready(None),
            None => header.as_mut().poll(cx).map(Some),
        }
    });
    let fault = match heard.await {
        Some(Ok(on_behalf_of)) => {
            client.announced(on_behalf_of);
            let snapshot = worker.snapshot();
            let allowed = &snapshot.listeners[client.listener].settings.allow_from;
            let may_come = allowed.is_everyone() || allowed.contains(client.ends().source.ip());
            if !may_come {
                worker.counters.refused.add_one();
            }
            return may_come;
        }
        Some(Err(fault)) => fault,
        // Nothing is wrong where the process leaves and the peer had not begun.
        None if worker.draining.get() => return false,
        None => ProxyFault::TimedOut,
    };
    refuse(worker, client.peer, fault);
    false
}

/// Counts a connection that is closed.
pub fn refuse(worker: &WorkerCtx, peer: SocketAddr, fault: ProxyFault) {
    worker.counters.proxy_faults[fault as usize].add_one();
    tracing::debug!(%peer, why = fault.word(), "no PROXY header that is believed");
}

/// What a group's targets are announced of the client, where they are: the address it is known by,
/// with its port where that is the address it came from, and where it connected to. Boxed, so that no
/// other exchange has room for one.
pub(super) fn of(exchange: &mut Exchange, group: &Group) -> Option<Box<Announcement>> {
    let version = group.settings.send_proxy?;
    let address = exchange.log_mut().address;
    let Ends { source, destination } = exchange.client().ends();
    // The port of a client that X-Forwarded-For names is not known.
    let port = if address == source.ip() { source.port() } else { 0 };
    let ends = Ends { source: SocketAddr::new(address, port), destination };
    Some(Box::new(Announcement { version, ends }))
}
