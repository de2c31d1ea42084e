//! A client's connection from accept to close: the PROXY header, TLS, then HTTP/1.1 or HTTP/2, as
//! the client chooses, and the close.

mod close;
pub(crate) mod handshake;
mod http1;
mod http2;
mod http2_stream;
pub(crate) mod proxy_header;
mod send;

use super::conn::Conn;
use super::deadline::race;
use super::failure::Failure;
use super::worker_ctx::WorkerCtx;
use crate::config::settings::Limits;
use crate::net::stream::{Stream, poll_begins_http2};
use close::{Close, close};
use handshake::{Handshakes, tls_handshake};
use proxy_header::read_proxy_header;
use std::future::poll_fn;
use std::rc::Rc;
use tokio::net::TcpStream;

/// The parameters of a listener's connections.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// True if connections begin with a PROXY header.
    pub is_announced: bool,
    /// Present if the listener uses TLS.
    pub handshakes: Option<Handshakes>,
    /// The listener's limits.
    pub limits: Limits,
}

/// Serves a connection until it closes.
pub(crate) async fn serve(worker: Rc<WorkerCtx>, conn: Rc<Conn>, socket: TcpStream, terms: Terms) {
    // An idle connection costs the size of its future, so one-time steps are boxed.
    if terms.is_announced && !Box::pin(read_proxy_header(&worker, &conn, &socket)).await {
        return;
    }
    let limits = &terms.limits;
    let mut stream = match &terms.handshakes {
        None => Stream::Plain(socket),
        Some(handshakes) => match Box::pin(tls_handshake(&worker, &conn, socket, handshakes)).await
        {
            Ok(stream) => stream,
            Err(None) => return,
            Err(Some(plain)) => {
                let stream = Stream::Plain(plain);
                let refused = http1::refuse(&worker, &conn, stream, Failure::PlainHttp);
                let Some(stream) = Box::pin(refused).await else { return };
                return Box::pin(close(
                    &worker,
                    &conn,
                    stream,
                    Close::Lingering { broke_off: false },
                ))
                .await;
            }
        },
    };
    // Bytes read to distinguish the two protocols.
    let mut first = Vec::new();
    let is_http2 = match stream {
        Stream::Tls(_) => stream.agreed_on_http2(),
        Stream::Plain(_) => {
            let begins = poll_fn(|cx| poll_begins_http2(&mut stream, cx, &mut first));
            // An expired client has not begun.
            race(&*conn, begins).await.unwrap_or(false)
        }
    };
    conn.io.add_read(first.len());
    let (stream, how) = if is_http2 {
        conn.record_http2();
        let left = Box::pin(http2::serve(&worker, &conn, stream, first, limits)).await;
        (left, Close::Idle)
    } else {
        http1::serve(&worker, &conn, stream, first, limits).await
    };
    if let Some(stream) = stream {
        let how = if conn.was_abused() { Close::Lingering { broke_off: false } } else { how };
        Box::pin(close(&worker, &conn, stream, how)).await;
    }
}
