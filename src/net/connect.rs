//! Reaching a target: dial, then HTTP/1.1 on the connection, with one task that drives it.

use super::stream::{Watch, WatchedStream};
use http_body::Body;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;

/// A response's head (ALB: 32 K, else 502).
const LARGEST_RESPONSE_HEAD: usize = 32 * 1_024;
/// Bytes hyper buffers for one connection, either way; the most a slow client can make us hold.
const LARGEST_BUFFER: usize = 256 * 1_024;

/// Why a target could not be reached.
#[derive(Debug)]
pub enum ConnectError {
    /// Its host name has no address.
    Unresolved,
    /// Refused, unreachable, or no socket to be had.
    Io(io::Error),
    /// Not in time.
    Timeout,
    /// As many connections as it may have, and none came free in time.
    Full,
}

impl ConnectError {
    /// The word for the access log.
    pub fn word(&self) -> &'static str {
        match self {
            ConnectError::Unresolved => "target_unresolved",
            ConnectError::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                "target_refused"
            }
            ConnectError::Io(_) => "target_unreachable",
            ConnectError::Timeout => "target_connect_timeout",
            ConnectError::Full => "target_connections_full",
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Io(error) => write!(f, "{error}"),
            other => f.write_str(other.word()),
        }
    }
}

impl std::error::Error for ConnectError {}

/// One connection to a target. Dropping it closes the socket at once, whatever is under way on it,
/// so that a client that leaves cancels what it asked for.
pub struct Connection<B> {
    /// Where requests go in.
    pub sender: SendRequest<B>,
    /// What happens on the socket.
    pub watch: Arc<Watch>,
    task: AbortHandle,
    _place: Option<OwnedSemaphorePermit>,
}

impl<B> Drop for Connection<B> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<B> fmt::Debug for Connection<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("closed", &self.sender.is_closed()).finish()
    }
}

/// Dials and makes ready. `place` is held as long as the connection lives.
///
/// # Errors
/// When the target refuses, cannot be reached, or is not there in time.
pub async fn connect<B>(
    address: SocketAddr,
    timeout: Duration,
    place: Option<OwnedSemaphorePermit>,
) -> Result<Connection<B>, ConnectError>
where
    B: Body + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let dial = tokio::time::timeout(timeout, TcpStream::connect(address));
    let stream = dial.await.map_err(|_| ConnectError::Timeout)?.map_err(ConnectError::Io)?;
    stream.set_nodelay(true).map_err(ConnectError::Io)?;
    let (stream, watch) = WatchedStream::new(stream);
    let handshake = http1::Builder::new()
        .max_header_size(LARGEST_RESPONSE_HEAD)
        .max_buf_size(LARGEST_BUFFER)
        .handshake(TokioIo::new(stream));
    let (sender, connection) =
        handshake.await.map_err(|error| ConnectError::Io(io::Error::other(error)))?;
    let task = tokio::task::spawn_local(async move {
        // Its error reaches whoever waits for an answer on it; an idle connection's is nobody's.
        let _ = connection.with_upgrades().await;
    });
    Ok(Connection { sender, watch, task: task.abort_handle(), _place: place })
}
