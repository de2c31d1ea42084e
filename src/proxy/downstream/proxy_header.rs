//! The PROXY header of a client connection: read under the connection's deadline, believed of trusted
//! peers alone.

use crate::net::proxy_protocol;
use crate::policy::proxy_protocol::ProxyFault;
use crate::proxy::conn::Conn;
use crate::proxy::deadline::race;
use crate::proxy::worker_ctx::WorkerCtx;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// Reads the header with which a trusted peer opens a connection; whether the connection goes on.
/// What is wrong is counted and not answered: no client is there to read an answer.
pub async fn read_proxy_header(worker: &WorkerCtx, conn: &Conn, socket: &TcpStream) -> bool {
    let info = &conn.info;
    // Boxed, so that a connection does not keep the room.
    let header = Box::pin(proxy_protocol::read(socket));
    let fault = match race(conn, header).await {
        Ok(Ok(proxy_source)) => {
            info.set_proxy_source(proxy_source);
            let snapshot = worker.snapshot();
            let allowed = &snapshot.listeners[info.listener].settings.allow_from;
            let may_come = allowed.is_everyone() || allowed.contains(info.ends().source.ip());
            if !may_come {
                worker.counters.refused.add_one();
            }
            return may_come;
        }
        Ok(Err(fault)) => fault,
        // Nothing is wrong where the process leaves and the peer had not begun.
        Err(_) if worker.draining.get() => return false,
        Err(_) => ProxyFault::TimedOut,
    };
    refuse(worker, info.peer, fault);
    false
}

/// Counts a connection that is closed.
pub fn refuse(worker: &WorkerCtx, peer: SocketAddr, fault: ProxyFault) {
    worker.counters.proxy_faults[fault as usize].add_one();
    tracing::debug!(%peer, why = fault.word(), "PROXY header missing, invalid or not trusted");
}
