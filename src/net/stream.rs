//! A client's stream and its byte counters. Over TLS they count HTTP bytes, not TLS records.

use super::plain;
use super::tls::acceptor::ServerStream;
use crate::config::settings::Alpn;
use bytes::Bytes;
use socket2::SockRef;
use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A client connection, plain or over TLS.
#[derive(Debug)]
pub(crate) enum Stream {
    /// TCP without TLS.
    Plain(TcpStream),
    /// TLS, after the handshake.
    Tls(Box<ServerStream>),
}

impl Stream {
    /// Returns true if the stream uses TLS, which can signal its end.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }

    /// Returns true if TLS negotiated HTTP/2 (RFC 9113 section 3.2).
    pub(crate) fn agreed_on_http2(&self) -> bool {
        match self {
            Stream::Plain(_) => false,
            Stream::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(Alpn::Http2.id()),
        }
    }

    /// Closes it with a reset, so that the end does not look like a complete message. Unsent bytes
    /// are lost.
    pub(crate) fn reset(self) {
        let socket = self.into_socket();
        // Cannot fail on an open socket; otherwise the close is a plain one.
        let _ = socket.set_zero_linger();
    }

    /// Closes it with a reset after the kernel has sent its buffer and the peer has acknowledged
    /// all but some 3 KiB. No safe call reports the unacknowledged bytes; but a socket with the
    /// smallest possible buffer (4,608 bytes with overhead) that accepts no unsent bytes becomes
    /// writable at just that point (tcp(7), TCP_NOTSENT_LOWAT; `sk_stream_is_writeable`).
    ///
    /// # Errors
    /// If the socket is no longer open. It is reset in any case, also when this future is dropped.
    pub(crate) async fn reset_once_sent(self) -> io::Result<()> {
        let socket = self.into_socket();
        socket.set_zero_linger()?;
        let options = SockRef::from(&socket);
        options.set_tcp_notsent_lowat(1)?;
        options.set_send_buffer_size(0)?;
        // Registered again, because the runtime remembers that it was writable before.
        let socket = TcpStream::from_std(socket.into_std()?)?;
        socket.writable().await
    }

    fn into_socket(self) -> TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => stream.into_inner().0,
        }
    }

    /// Reads into `room`; 0 is the end.
    #[inline]
    pub(crate) fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Stream::Plain(socket) => plain::poll_read(socket, cx, room),
            Stream::Tls(stream) => {
                let mut buffer = ReadBuf::new(room);
                ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
                Poll::Ready(Ok(buffer.filled().len()))
            }
        }
    }

    /// Ready if there is something to read, including the end or an error.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let socket = match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => {
                let (socket, session) = stream.get_ref();
                if !session.wants_read() {
                    // Bytes were read ahead, for example a request that arrived with the
                    // handshake's last bytes.
                    return Poll::Ready(());
                }
                socket
            }
        };
        socket.poll_read_ready(cx).map(|_| ())
    }
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(socket) => plain::poll_write(socket, cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    /// Over TLS, sends close_notify first (RFC 8446 section 6.1).
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Byte counters of a connection, or of one stream of it.
#[derive(Debug, Default)]
pub(crate) struct IoCounters {
    active: Cell<bool>,
    read: Cell<u64>,
    written: Cell<u64>,
    /// Bytes read and written at the last call of `take_traffic`.
    before: Cell<(u64, u64)>,
}

impl IoCounters {
    /// Bytes read and written since the last call: those of one exchange.
    pub(crate) fn take_traffic(&self) -> (u64, u64) {
        let now = (self.read.get(), self.written.get());
        let before = self.before.replace(now);
        (now.0 - before.0, now.1 - before.1)
    }

    /// Returns true if a byte was read or written since the last call.
    pub(crate) fn take_active(&self) -> bool {
        self.active.replace(false)
    }

    /// Bytes read so far.
    pub(crate) fn read(&self) -> u64 {
        self.read.get()
    }

    /// Bytes written so far.
    pub(crate) fn written(&self) -> u64 {
        self.written.get()
    }

    /// Counts bytes that went out.
    pub(crate) fn add_written(&self, bytes: usize) {
        self.record(&self.written, bytes);
    }

    /// Counts bytes that came in.
    pub(crate) fn add_read(&self, bytes: usize) {
        self.record(&self.read, bytes);
    }

    #[inline]
    fn record(&self, counter: &Cell<u64>, bytes: usize) {
        if bytes > 0 {
            counter.set(counter.get() + bytes as u64);
            self.active.set(true);
        }
    }
}

/// The first bytes of a client's HTTP/2 connection (RFC 9113 section 3.4). No HTTP/1.1 request
/// begins with them: PRI is not a method.
const PREFACE: &[u8] = b"PRI";

/// Returns true if the stream begins with the HTTP/2 preface, as soon as that is decided. Bytes
/// that leave it open, which are rare, are read into `first`.
pub(crate) fn poll_begins_http2(
    stream: &mut Stream,
    cx: &mut Context<'_>,
    first: &mut Vec<u8>,
) -> Poll<bool> {
    loop {
        let known = first.len();
        let Stream::Plain(socket) = &mut *stream else { return Poll::Ready(false) };
        let mut bytes = [0; PREFACE.len()];
        let mut buffer = ReadBuf::new(&mut bytes[..PREFACE.len() - known]);
        let peeked = ready!(socket.poll_peek(cx, &mut buffer));
        let came = buffer.filled();
        if peeked.is_err() || came.is_empty() || !PREFACE[known..].starts_with(came) {
            return Poll::Ready(false);
        }
        if known + came.len() == PREFACE.len() {
            return Poll::Ready(true);
        }
        let mut read = ReadBuf::new(&mut bytes[..1]);
        if ready!(Pin::new(socket).poll_read(cx, &mut read)).is_err() {
            return Poll::Ready(false);
        }
        first.extend_from_slice(read.filled());
    }
}

/// Holds a stream while a library owns it, for use afterwards: the close, or reading on for a while
/// so that a reset does not destroy sent bytes.
pub(crate) type Reclaimed = Rc<RefCell<Option<Stream>>>;

/// A counting stream for the HTTP/2 library. Dropping it puts the stream into `Reclaimed`.
#[derive(Debug)]
pub(crate) struct CountedStream {
    /// Present until dropped.
    inner: Option<Stream>,
    /// Bytes read earlier and put back.
    first: Bytes,
    io: Rc<IoCounters>,
    reclaimed: Reclaimed,
}

impl CountedStream {
    /// Counts the bytes of a stream, of which `first` was read already.
    pub(crate) fn new(
        inner: Stream,
        first: Vec<u8>,
        io: Rc<IoCounters>,
        reclaimed: Reclaimed,
    ) -> Self {
        Self { inner: Some(inner), first: first.into(), io, reclaimed }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut Stream>> {
        self.inner.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for CountedStream {
    fn drop(&mut self) {
        *self.reclaimed.borrow_mut() = self.inner.take();
    }
}

impl AsyncRead for CountedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let count = self.first.len().min(buffer.remaining());
            buffer.put_slice(&self.first.split_to(count));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let polled = self.stream()?.poll_read(cx, buffer);
        self.io.add_read(buffer.filled().len() - before);
        polled
    }
}

impl AsyncWrite for CountedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = self.stream()?.poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = polled {
            self.io.add_written(count);
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = self.stream()?.poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(count)) = polled {
            self.io.add_written(count);
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}
