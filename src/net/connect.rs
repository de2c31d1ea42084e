//! Dials targets.

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

/// Cause of a failed connect to a target.
#[derive(Debug)]
pub enum ConnectError {
    /// The host name has no address.
    Unresolved,
    /// Connection refused, host unreachable, or no local socket available.
    Io(io::Error),
    /// The time-out expired.
    Timeout,
    /// No TLS, no common TLS version or cipher suite, or the handshake broke off.
    Tls(io::Error),
    /// The certificate does not meet the group's requirements.
    Certificate(io::Error),
    /// Connected, but the target does not speak HTTP/2: ALPN chose another protocol or none, or its
    /// first bytes are not HTTP/2.
    NotHttp2,
    /// The target refused a moment ago and is dialled by one request at a time; this request was
    /// not the one.
    Refusing,
    /// The target has its maximum of connections, and none became free in time.
    Full,
}

impl ConnectError {
    /// Returns true if the error is a fault of the target, not a shortage of this process.
    pub fn is_the_targets(&self) -> bool {
        match self {
            // The target was not dialled.
            ConnectError::Full | ConnectError::Refusing => false,
            ConnectError::Io(error) => !is_our_shortage(error),
            ConnectError::Unresolved
            | ConnectError::Timeout
            | ConnectError::Tls(_)
            | ConnectError::Certificate(_)
            | ConnectError::NotHttp2 => true,
        }
    }

    /// Returns true if a connect may succeed a moment later: the target refused, did not answer, or
    /// closed during a handshake, as a starting target does.
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

    /// The reason for the access log.
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

    /// Clones the error for the other requests that waited for this dial.
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

/// Dials the target, sends a PROXY header if the group sends one, and with `tls` completes the
/// handshake, all within the time-out. `place` is held for the life of the connection.
///
/// # Errors
/// If the target refuses, is unreachable, fails verification, or is not ready in time.
pub(crate) async fn connect<B: Body<Data = Bytes> + Unpin>(
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

/// Dials and closes again, after a PROXY header of type LOCAL and the handshake with `tls`, all
/// within the time-out.
///
/// # Errors
/// As [`connect`].
pub(crate) async fn reach(
    address: SocketAddr,
    timeout: Duration,
    tls: Option<&Connector>,
    version: proxy_protocol::Version,
) -> Result<(), ConnectError> {
    let header = proxy_protocol::write(version, &ProxySource::Itself);
    let opened = open_behind(address, tls, Some(header));
    timer::timeout(timeout, opened).await.map_err(|_| ConnectError::Timeout)?.map(drop)
}

/// Opens the stream to a target, ready for HTTP.
///
/// # Errors
/// If the target refuses, is unreachable, or fails verification.
pub(crate) async fn open(
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
    // Boxed: the state of a handshake is large, and every exchange would reserve room for it.
    let secured = Box::pin(tls.connect(stream)).await;
    match secured {
        Ok(stream) => Ok(TargetStream::Tls(Box::new(stream))),
        Err(error) if tls::refuses_certificate(&error) => Err(ConnectError::Certificate(error)),
        Err(error) => Err(ConnectError::Tls(error)),
    }
}
