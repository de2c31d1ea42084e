//! Reads the PROXY header of a client connection under its deadline. Only headers of trusted peers
//! are accepted.

use crate::net::proxy_protocol;
use crate::policy::proxy_protocol::ProxyFault;
use crate::proxy::conn::Conn;
use crate::proxy::deadline::race;
use crate::proxy::worker_ctx::WorkerCtx;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// Reads the header at the start of a trusted peer's connection. Returns true if the connection
/// continues. Faults are counted and get no response, because no client could read it.
pub(crate) async fn read_proxy_header(worker: &WorkerCtx, conn: &Conn, socket: &TcpStream) -> bool {
    let info = &conn.info;
    // Boxed, so that a connection does not reserve room for it.
    let header = Box::pin(proxy_protocol::read(socket));
    let fault = match race(conn, header).await {
        Ok(Ok(proxy_source)) => {
            info.set_proxy_source(proxy_source);
            let snapshot = worker.snapshot();
            let allowed = &snapshot.listeners[info.listener].settings.allow_from;
            let may_come = allowed.allows_all() || allowed.contains(info.ends().source.ip());
            if !may_come {
                worker.counters.refused.add_one();
            }
            return may_come;
        }
        Ok(Err(fault)) => fault,
        // Not a fault: a drain closes connections that have sent nothing.
        Err(_) if worker.draining.get() => return false,
        Err(_) => ProxyFault::TimedOut,
    };
    refuse(worker, info.peer, fault);
    false
}

/// Counts and logs a fault; the caller closes the connection.
pub(crate) fn refuse(worker: &WorkerCtx, peer: SocketAddr, fault: ProxyFault) {
    worker.counters.proxy_faults[fault as usize].add_one();
    tracing::debug!(%peer, why = fault.word(), "PROXY header missing, invalid or not trusted");
}
