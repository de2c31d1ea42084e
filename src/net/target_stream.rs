//! The bytes to and from a target: plain, or over TLS.

use super::tls::TlsStream;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// An open connection.
#[derive(Debug)]
pub enum TargetStream {
    /// As TCP has it.
    Plain(TcpStream),
    /// After its handshake. Boxed: it is large, and most connections are plain.
    Tls(Box<TlsStream>),
    /// The same where the bytes are a protocol of its own that says when it ends: a peer that
    /// closes TCP without the alert that TLS wants (RFC 8446 section 6.1) has ended all the same.
    TlsTunnel(Box<TlsStream>),
}

impl TargetStream {
    /// Whether the target has, as far as the runtime was told, neither closed it nor said anything
    /// unasked. Costs a system call only if it was told of something.
    pub fn is_quiet(&mut self) -> bool {
        match self {
            Self::Plain(stream) => {
                let read = stream.try_read(&mut [0]);
                read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            }
            // What came may be TLS's own, a ticket above all, which is taken in and is no answer.
            Self::Tls(stream) | Self::TlsTunnel(stream) => {
                let mut byte = [0];
                let mut buffer = ReadBuf::new(&mut byte);
                let look =
                    std::future::poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut buffer));
                // A sweep looks at more of them than a task may read in one turn.
                let look = pin!(tokio::task::coop::unconstrained(look));
                look.poll(&mut Context::from_waker(Waker::noop())).is_pending()
            }
        }
    }

    /// The same after a switch of protocols.
    pub fn into_tunnel(self) -> Self {
        match self {
            Self::Tls(stream) => Self::TlsTunnel(stream),
            other => other,
        }
    }
}

impl AsyncRead for TargetStream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::TlsTunnel(stream) => match ready!(Pin::new(stream).poll_read(cx, buffer)) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                read => Poll::Ready(read),
            },
        }
    }
}

impl AsyncWrite for TargetStream {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) | Self::TlsTunnel(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Tls(stream) | Self::TlsTunnel(stream) => {
                Pin::new(stream).poll_write_vectored(cx, parts)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) | Self::TlsTunnel(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) | Self::TlsTunnel(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
