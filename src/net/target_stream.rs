//! A stream to a target: plain, or over TLS.

use super::plain;
use super::tls::TlsStream;
use socket2::SockRef;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// An open connection.
#[derive(Debug)]
pub enum TargetStream {
    /// TCP without TLS.
    Plain(TcpStream),
    /// TLS after the handshake. Boxed: it is large, and most connections are plain.
    Tls(Box<TlsStream>),
    /// TLS that carries a protocol with its own end marker: a peer that closes TCP without the
    /// required alert (RFC 8446 section 6.1) has also ended properly.
    TlsTunnel(Box<TlsStream>),
}

impl TargetStream {
    /// Returns true if the target, as far as the runtime knows, neither closed it nor sent anything
    /// unasked. Costs a system call only after the runtime reported an event.
    pub fn is_reusable(&mut self) -> bool {
        match self {
            Self::Plain(stream) => {
                let read = stream.try_read(&mut [0]);
                read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            }
            // The bytes may be TLS's own, mostly a ticket, which is processed and is not a
            // response.
            Self::Tls(stream) | Self::TlsTunnel(stream) => {
                let mut byte = [0];
                let mut buffer = ReadBuf::new(&mut byte);
                let look =
                    std::future::poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut buffer));
                // A sweep checks more of them than a task may read in one turn.
                let look = pin!(tokio::task::coop::unconstrained(look));
                look.poll(&mut Context::from_waker(Waker::noop())).is_pending()
            }
        }
    }

    /// [`Self::is_reusable`], including input since the last event. Costs a system call.
    pub fn is_quiet_by_now(&mut self) -> bool {
        self.is_reusable() && !self.has_input_by_now()
    }

    /// Returns true if the kernel holds unread input from the target, or its end. With TLS, a
    /// ticket counts as well.
    fn has_input_by_now(&self) -> bool {
        let socket = match self {
            Self::Plain(stream) => SockRef::from(stream),
            Self::Tls(stream) | Self::TlsTunnel(stream) => SockRef::from(stream.get_ref().0),
        };
        let peeked = socket.peek(&mut [MaybeUninit::uninit()]);
        !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Returns true if the target has sent data or ended. TLS tickets, which follow each handshake,
    /// are processed; an incomplete record does not count. Costs a system call.
    pub fn is_answering_by_now(&mut self) -> bool {
        if !self.has_input_by_now() {
            return false;
        }
        let Self::Tls(stream) = self else { return true };
        let (socket, session) = stream.get_mut();
        // Reads past the runtime, which may not know of the input yet.
        let socket = SockRef::from(&*socket);
        loop {
            match session.read_tls(&mut &*socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(_) | Ok(0) => return true,
                // The error is kept and returned by the next read.
                Ok(_) => match session.process_new_packets() {
                    Ok(state) if state.plaintext_bytes_to_read() == 0 => {}
                    _ => return true,
                },
            }
        }
    }

    /// Reads into `room`; 0 is the end.
    #[inline]
    pub fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if let Self::Plain(stream) = self {
            return plain::poll_read(stream, cx, room);
        }
        let mut buffer = ReadBuf::new(room);
        ready!(Pin::new(self).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Closes the connection, over TLS with close_notify (RFC 8446 section 6.1) if the socket takes
    /// it at once. Nothing may be in progress on it.
    pub fn close(mut self) {
        if let Self::Tls(stream) = &mut self {
            // Not retried: no task waits for the socket any more.
            let _ = Pin::new(stream).poll_shutdown(&mut Context::from_waker(Waker::noop()));
        }
    }

    /// Converts it for a tunnel after a protocol switch.
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
            Self::Plain(stream) => plain::poll_write(stream, cx, bytes),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::target_tls::TargetTls;
    use crate::net::tls::Connectors;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ServerConfig, ServerConnection, StreamOwned};
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::{Arc, mpsc};
    use tokio::io::AsyncReadExt;

    type Served = StreamOwned<ServerConnection, std::net::TcpStream>;

    /// A connection whose target performs scripted steps, each on request.
    async fn connected(
        steps: impl Fn(usize, &mut Served) + Send + 'static,
    ) -> (TargetStream, mpsc::SyncSender<()>, tokio::sync::mpsc::Receiver<()>) {
        let made = rcgen::generate_simple_self_signed(vec!["app.internal".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (go, told) = mpsc::sync_channel(1);
        let (done, is_done) = tokio::sync::mpsc::channel(1);
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let connection = ServerConnection::new(Arc::new(config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            stream.conn.complete_io(&mut stream.sock).unwrap();
            for step in 0.. {
                if told.recv().is_err() {
                    return;
                }
                steps(step, &mut stream);
                done.blocking_send(()).unwrap();
            }
        });
        let peer = TargetTls::ANYONE.peer(None, address.ip(), false);
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let stream = Connectors::default().whole(&peer).connect(stream).await.unwrap();
        (TargetStream::Tls(Box::new(stream)), go, is_done)
    }

    async fn readable(stream: &TargetStream) {
        let (TargetStream::Tls(stream) | TargetStream::TlsTunnel(stream)) = stream else { return };
        stream.get_ref().0.readable().await.unwrap();
    }

    #[tokio::test(flavor = "current_thread")]
    async fn tickets_and_new_keys_are_no_response_but_data_and_an_end_are() {
        for last_word in [Some("x"), None] {
            let (mut stream, go, mut done) =
                connected(move |step, stream| match (step, last_word) {
                    (0, _) => {
                        stream.conn.refresh_traffic_keys().unwrap();
                        stream.flush().unwrap();
                    }
                    (_, Some(word)) => stream.write_all(word.as_bytes()).unwrap(),
                    (_, None) => {
                        stream.conn.send_close_notify();
                        stream.flush().unwrap();
                    }
                })
                .await;
            // The tickets arrive separately after the handshake.
            readable(&stream).await;
            assert!(stream.is_reusable());
            go.send(()).unwrap();
            done.recv().await.unwrap();
            readable(&stream).await;
            assert!(stream.is_reusable());
            go.send(()).unwrap();
            done.recv().await.unwrap();
            readable(&stream).await;
            assert!(!stream.is_reusable(), "{last_word:?}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_end_without_close_notify_is_an_error_except_in_a_tunnel() {
        for is_tunnel in [false, true] {
            let (mut stream, go, mut done) = connected(|_, stream| {
                stream.write_all(b"half").unwrap();
                stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
            })
            .await;
            if is_tunnel {
                stream = stream.into_tunnel();
            }
            go.send(()).unwrap();
            done.recv().await.unwrap();
            let mut all = Vec::new();
            assert_eq!(stream.read_to_end(&mut all).await.is_ok(), is_tunnel);
            assert_eq!(all, b"half");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn close_sends_close_notify_to_the_target() {
        let (stream, go, mut done) = connected(|_, stream| {
            // An end without the alert would be an error.
            assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
        })
        .await;
        stream.close();
        go.send(()).unwrap();
        done.recv().await.unwrap();
    }
}
