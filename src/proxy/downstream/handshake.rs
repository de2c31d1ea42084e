//! A client's handshake under its connection's deadlines: what it is waited for with, what is
//! counted when it fails.

use super::progress::Progress;
use super::worker_ctx::WorkerCtx;
use crate::net::stream::Stream;
use crate::net::tls::acceptor::{self, ANSWERS_AT_ONCE};
use crate::net::tls::certificates::Certificates;
use crate::policy::tls::fault::HandshakeFault;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// What handshakes with clients are made with. A clone is the same one.
#[derive(Clone, Debug)]
pub struct Handshakes {
    /// The listener's.
    pub certificates: Arc<Certificates>,
    /// The worker's.
    pub turns: Rc<Semaphore>,
}

impl Handshakes {
    /// The turns of a worker.
    pub fn turns() -> Rc<Semaphore> {
        Rc::new(Semaphore::new(ANSWERS_AT_ONCE))
    }
}

/// The stream that requests come by; `Err` with a connection that speaks HTTP without TLS and is to
/// be told so, or with nothing.
pub(super) async fn shake_hands(
    worker: &Rc<WorkerCtx>,
    progress: &Rc<Progress>,
    socket: TcpStream,
    handshakes: &Handshakes,
) -> Result<Stream, Option<TcpStream>> {
    // Boxed, so that a connection does not keep the room.
    let mut handshake =
        Box::pin(acceptor::accept(socket, &handshakes.certificates, &handshakes.turns));
    let done = poll_fn(|cx| {
        worker.begin_turn();
        progress.remember_waker(cx.waker());
        match progress.expiry() {
            Some(_) => Poll::Ready(None),
            None => handshake.as_mut().poll(cx).map(Some),
        }
    });
    let refused = match done.await {
        Some(Ok((stream, session))) => {
            worker.counters.handshakes.add_one();
            progress.client.secured(session);
            return Ok(Stream::Tls(stream));
        }
        Some(Err(refused)) => refused,
        // Nothing has failed where the process leaves and the client had not begun.
        None if worker.draining.get() => return Err(None),
        None => HandshakeFault::TimedOut.into(),
    };
    worker.counters.handshake_faults[refused.fault as usize].add_one();
    tracing::debug!(peer = %progress.client.peer, why = refused.fault.word(), "a handshake failed");
    Err(refused.plain)
}
