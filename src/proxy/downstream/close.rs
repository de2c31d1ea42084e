//! The close of a client connection: how much is still said, and how long is read on.

use crate::base::clock::Moment;
use crate::net::stream::Stream;
use crate::net::timer;
use crate::proxy::conn::{BYTES_AFTER_ABUSE, Conn};
use crate::proxy::deadline::{LINGERS, race};
use crate::proxy::worker_ctx::WorkerCtx;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Close {
    /// At once: the client is gone, or an answer was cut.
    AtOnce,
    /// With the word TLS has for it (RFC 8446 section 6.1), nothing being under way.
    Idle,
    /// Its sending half first, then reading on: a socket closed with unread bytes resets the connection,
    /// and the reset may overtake the answer (RFC 9112 section 9.6).
    Lingering {
        /// The answer broke off: TLS must not say that it has ended.
        broke_off: bool,
    },
    /// With a reset, once what was sent has arrived: a plain end would make half an answer look whole.
    Reset,
}

/// How long a client may take to take what was sent before a reset.
const MAX_SEND: Duration = Duration::from_secs(1);

/// Closes it.
pub(super) async fn close(worker: &WorkerCtx, conn: &Conn, mut stream: Stream, how: Close) {
    match how {
        Close::AtOnce => {}
        Close::Idle => {
            if stream.is_tls() {
                // At once or not at all: the socket's buffer has room, or the client is gone.
                let _ = timer::timeout(Duration::ZERO, stream.shutdown()).await;
            }
        }
        Close::Reset => {
            let _ = timer::timeout(MAX_SEND, stream.reset_once_sent()).await;
        }
        Close::Lingering { broke_off } => {
            let Some(_place) = worker.linger() else { return };
            conn.close(Moment::now().monotonic, LINGERS);
            // Boxed, so that a connection does not keep the room.
            let _ = race(conn, Box::pin(read_out(conn, &mut stream, broke_off))).await;
        }
    }
}

async fn read_out(conn: &Conn, stream: &mut Stream, broke_off: bool) {
    let _ = match &mut *stream {
        Stream::Tls(stream) if broke_off => stream.get_mut().0.shutdown().await,
        whole => whole.shutdown().await,
    };
    let mut scratch = [0; 4_096];
    let mut left = if conn.was_abused() { BYTES_AFTER_ABUSE } else { usize::MAX };
    while let Ok(count) = stream.read(&mut scratch).await
        && count > 0
        && count <= left
    {
        left -= count;
        conn.io.add_read(count);
    }
}
