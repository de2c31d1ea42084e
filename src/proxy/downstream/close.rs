//! Closes client connections: sends the last bytes and reads on for a limited time.

use crate::base::clock::Moment;
use crate::net::stream::Stream;
use crate::net::timer;
use crate::proxy::conn::{BYTES_AFTER_ABUSE, Conn};
use crate::proxy::deadline::{LINGERS, race};
use crate::proxy::worker_ctx::WorkerCtx;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The way to close a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Close {
    /// At once: the client is gone, or a response was cut.
    AtOnce,
    /// With close_notify over TLS (RFC 8446 section 6.1); no exchange is in progress.
    Idle,
    /// Closes the sending half first and reads on: closing a socket with unread bytes resets the
    /// connection, and the reset may overtake the response (RFC 9112 section 9.6).
    Lingering {
        /// True if the response broke off: TLS must not signal a proper end.
        broke_off: bool,
    },
    /// With a reset after the sent bytes have arrived: a plain end would mark half a response as
    /// complete.
    Reset,
}

/// Time a client has to read the sent bytes before a reset.
const MAX_SEND: Duration = Duration::from_secs(1);

/// Closes the connection.
pub(super) async fn close(worker: &WorkerCtx, conn: &Conn, mut stream: Stream, how: Close) {
    match how {
        Close::AtOnce => {}
        Close::Idle => {
            if stream.is_tls() {
                // Without waiting: either the socket's buffer has room, or the client is gone.
                let _ = timer::timeout(Duration::ZERO, stream.shutdown()).await;
            }
        }
        Close::Reset => {
            let _ = timer::timeout(MAX_SEND, stream.reset_once_sent()).await;
        }
        Close::Lingering { broke_off } => {
            let Some(_place) = worker.linger() else { return };
            conn.close(Moment::now().monotonic, LINGERS);
            // Boxed, so that a connection does not reserve room for it.
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
