//! A client's TLS handshake under its connection's deadline, and the counters of failures.

use crate::net::stream::Stream;
use crate::net::tls::acceptor::{self, ANSWERS_AT_ONCE};
use crate::net::tls::certificates::Certificates;
use crate::policy::tls::fault::HandshakeFault;
use crate::proxy::conn::Conn;
use crate::proxy::deadline::race;
use crate::proxy::worker_ctx::WorkerCtx;
use std::rc::Rc;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// The resources of a listener's TLS handshakes. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Handshakes {
    /// The listener's certificates.
    pub certificates: Arc<Certificates>,
    /// The worker's permits.
    pub permits: Rc<Semaphore>,
}

impl Handshakes {
    /// Creates the permits of a worker.
    pub(crate) fn permits() -> Rc<Semaphore> {
        Rc::new(Semaphore::new(ANSWERS_AT_ONCE))
    }
}

/// Returns the TLS stream; `Err` with a plain connection whose client speaks HTTP without TLS and
/// can get a response, or with `None`.
pub(super) async fn tls_handshake(
    worker: &WorkerCtx,
    conn: &Conn,
    socket: TcpStream,
    handshakes: &Handshakes,
) -> Result<Stream, Option<TcpStream>> {
    // Boxed, so that a connection does not reserve room for it.
    let handshake =
        Box::pin(acceptor::accept(socket, &handshakes.certificates, &handshakes.permits));
    let refused = match race(conn, handshake).await {
        Ok(Ok((stream, session))) => {
            worker.counters.handshakes.add_one();
            conn.info.secured(session);
            return Ok(Stream::Tls(stream));
        }
        Ok(Err(refused)) => refused,
        // A drain before the client has begun is not a failure.
        Err(_) if worker.draining.get() => return Err(None),
        Err(_) => HandshakeFault::TimedOut.into(),
    };
    worker.counters.handshake_faults[refused.fault as usize].add_one();
    tracing::debug!(
        peer = %conn.info.peer,
        why = refused.fault.word(),
        "TLS handshake with a client failed"
    );
    Err(refused.plain)
}
