//! Reaching a target.

use super::http1::Connection;
use super::shortage::is_our_shortage;
use super::target_stream::TargetStream;
use super::timer;
use super::tls::{self, Connector};
use crate::observe::error_reason::ErrorReason;
use crate::policy::proxy_protocol::{self, ProxyHeader, ProxySource};
use bytes::Bytes;
use http_body::Body;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
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
    /// It does not speak TLS, or none we do, or broke the handshake off.
    Tls(io::Error),
    /// Its certificate is not one it must have.
    Certificate(io::Error),
    /// It was reached, and does not speak HTTP/2: TLS agreed on another protocol or on none, or
    /// what it said first is no HTTP/2.
    NotHttp2,
    /// It refused a moment ago, and is dialled by one at a time: this was not the one.
    Refusing,
    /// As many connections as it may have, and none came free in time.
    Full,
}

impl ConnectError {
    /// Whether it says something of the target, rather than of what this process has run out of.
    pub fn is_the_targets(&self) -> bool {
        match self {
            // Nothing was dialled.
            ConnectError::Full | ConnectError::Refusing => false,
            ConnectError::Io(error) => !is_our_shortage(error),
            ConnectError::Unresolved
            | ConnectError::Timeout
            | ConnectError::Tls(_)
            | ConnectError::Certificate(_)
            | ConnectError::NotHttp2 => true,
        }
    }

    /// Whether the target may take a connection a moment later: it refused, did not answer, or hung up
    /// on a handshake, as one does that is being started.
    pub fn may_pass(&self) -> bool {
        match self {
            ConnectError::Io(error) => !is_our_shortage(error),
            ConnectError::Timeout | ConnectError::Tls(_) | ConnectError::Refusing => true,
            ConnectError::Unresolved
            | ConnectError::Certificate(_)
            | ConnectError::NotHttp2
            | ConnectError::Full => false,
        }
    }

    /// The word for the access log.
    pub fn word(&self) -> &'static str {
        self.reason().word()
    }

    /// The error reason of a request that this error ends.
    pub fn reason(&self) -> ErrorReason {
        match self {
            ConnectError::Unresolved => ErrorReason::TargetUnresolved,
            ConnectError::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                ErrorReason::TargetRefused
            }
            ConnectError::Refusing => ErrorReason::TargetRefused,
            ConnectError::Io(error) if is_our_shortage(error) => ErrorReason::OutOfSockets,
            ConnectError::Io(_) => ErrorReason::TargetUnreachable,
            ConnectError::Timeout => ErrorReason::TargetConnectTimeout,
            ConnectError::Tls(_) => ErrorReason::TargetTlsFailed,
            ConnectError::Certificate(_) => ErrorReason::TargetCertificateRefused,
            ConnectError::NotHttp2 => ErrorReason::TargetNotHttp2,
            ConnectError::Full => ErrorReason::TargetConnectionsFull,
        }
    }

    /// The same for another who waited for the same connection.
    pub fn again(&self) -> Self {
        let copy = |error: &io::Error| match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(error.kind(), error.to_string()),
        };
        match self {
            ConnectError::Io(error) => ConnectError::Io(copy(error)),
            ConnectError::Tls(error) => ConnectError::Tls(copy(error)),
            ConnectError::Certificate(error) => ConnectError::Certificate(copy(error)),
            ConnectError::Unresolved => ConnectError::Unresolved,
            ConnectError::Timeout => ConnectError::Timeout,
            ConnectError::NotHttp2 => ConnectError::NotHttp2,
            ConnectError::Refusing => ConnectError::Refusing,
            ConnectError::Full => ConnectError::Full,
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Io(error)
            | ConnectError::Tls(error)
            | ConnectError::Certificate(error) => write!(f, "{error}"),
            other => f.write_str(other.word()),
        }
    }
}

impl std::error::Error for ConnectError {}

/// Dials, sends a PROXY header where a client is announced and, with `tls`, shakes hands, all within
/// the time. `place` is held as long as the connection lives.
///
/// # Errors
/// When the target refuses, cannot be reached, is not who it must be, or is not ready in time.
pub async fn connect<B: Body<Data = Bytes> + Unpin>(
    address: SocketAddr,
    timeout: Duration,
    place: Option<OwnedSemaphorePermit>,
    tls: Option<&Connector>,
    proxy_header: Option<&ProxyHeader>,
) -> Result<Box<Connection<B>>, ConnectError> {
    let stream = timer::timeout(timeout, open(address, tls, proxy_header))
        .await
        .map_err(|_| ConnectError::Timeout)??;
    Ok(Box::new(Connection::new(stream, place).with_proxy_ends(proxy_header.map(|to| to.ends))))
}

/// Dials and closes again, having said in a PROXY header that it is for no client, and shaken hands
/// with `tls`, all within the time.
///
/// # Errors
/// As [`connect`].
pub async fn reach(
    address: SocketAddr,
    timeout: Duration,
    tls: Option<&Connector>,
    version: proxy_protocol::Version,
) -> Result<(), ConnectError> {
    let header = proxy_protocol::write(version, &ProxySource::Itself);
    let opened = open_behind(address, tls, Some(header));
    timer::timeout(timeout, opened).await.map_err(|_| ConnectError::Timeout)?.map(drop)
}

/// The bytes to and from a target, as soon as they may be HTTP.
///
/// # Errors
/// When the target refuses, cannot be reached, or is not who it must be.
pub async fn open(
    address: SocketAddr,
    tls: Option<&Connector>,
    proxy_header: Option<&ProxyHeader>,
) -> Result<TargetStream, ConnectError> {
    open_behind(address, tls, proxy_header.map(ProxyHeader::header)).await
}

async fn open_behind(
    address: SocketAddr,
    tls: Option<&Connector>,
    header: Option<Vec<u8>>,
) -> Result<TargetStream, ConnectError> {
    let mut stream = TcpStream::connect(address).await.map_err(ConnectError::Io)?;
    stream.set_nodelay(true).map_err(ConnectError::Io)?;
    if let Some(header) = header {
        stream.write_all(&header).await.map_err(ConnectError::Io)?;
    }
    let Some(tls) = tls else { return Ok(TargetStream::Plain(stream)) };
    // Boxed: a handshake under way is large, and every exchange would have room for one.
    let secured = Box::pin(tls.connect(stream)).await;
    match secured {
        Ok(stream) => Ok(TargetStream::Tls(Box::new(stream))),
        Err(error) if tls::refuses_certificate(&error) => Err(ConnectError::Certificate(error)),
        Err(error) => Err(ConnectError::Tls(error)),
    }
}
