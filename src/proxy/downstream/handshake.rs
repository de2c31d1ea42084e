//! A client's handshake under its connection's deadline, and what is counted where it fails.

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

/// What handshakes with clients are made with. A clone is the same one.
#[derive(Clone, Debug)]
pub struct Handshakes {
    /// The listener's.
    pub certificates: Arc<Certificates>,
    /// The worker's.
    pub permits: Rc<Semaphore>,
}

impl Handshakes {
    /// The permits of a worker.
    pub fn permits() -> Rc<Semaphore> {
        Rc::new(Semaphore::new(ANSWERS_AT_ONCE))
    }
}

/// The stream that requests come by; `Err` with a connection that speaks HTTP without TLS and is to
/// be told so, or with nothing.
pub(super) async fn tls_handshake(
    worker: &WorkerCtx,
    conn: &Conn,
    socket: TcpStream,
    handshakes: &Handshakes,
) -> Result<Stream, Option<TcpStream>> {
    // Boxed, so that a connection does not keep the room.
    let handshake =
        Box::pin(acceptor::accept(socket, &handshakes.certificates, &handshakes.permits));
    let refused = match race(conn, handshake).await {
        Ok(Ok((stream, session))) => {
            worker.counters.handshakes.add_one();
            conn.info.secured(session);
            return Ok(Stream::Tls(stream));
        }
        Ok(Err(refused)) => refused,
        // Nothing has failed where the process leaves and the client had not begun.
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
