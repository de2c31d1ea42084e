//! Reaching a target.

use super::http1::Connection;
use super::shortage::is_our_shortage;
use bytes::Bytes;
use http_body::Body;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

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
    /// Whether it says something of the target, rather than of what this process has run out of.
    pub fn is_the_targets(&self) -> bool {
        match self {
            ConnectError::Full => false,
            ConnectError::Io(error) => !is_our_shortage(error),
            ConnectError::Unresolved | ConnectError::Timeout => true,
        }
    }

    /// The word for the access log.
    pub fn word(&self) -> &'static str {
        match self {
            ConnectError::Unresolved => "target_unresolved",
            ConnectError::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                "target_refused"
            }
            ConnectError::Io(error) if is_our_shortage(error) => "out_of_sockets",
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

/// Dials. `place` is held as long as the connection lives.
///
/// # Errors
/// When the target refuses, cannot be reached, or is not there in time.
pub async fn connect<B: Body<Data = Bytes> + Unpin>(
    address: SocketAddr,
    timeout: Duration,
    place: Option<OwnedSemaphorePermit>,
) -> Result<Box<Connection<B>>, ConnectError> {
    let dial = tokio::time::timeout(timeout, TcpStream::connect(address));
    let stream = dial.await.map_err(|_| ConnectError::Timeout)?.map_err(ConnectError::Io)?;
    stream.set_nodelay(true).map_err(ConnectError::Io)?;
    Ok(Box::new(Connection::new(stream, place)))
}
