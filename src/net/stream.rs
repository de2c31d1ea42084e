//! A client's stream, and the counts of what goes over it: bytes either way, and that there was any.
//! Over TLS they are those of HTTP, not of the records around it.

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

/// A connection as it is read and written.
#[derive(Debug)]
pub enum Stream {
    /// As it comes.
    Plain(TcpStream),
    /// Within TLS, after the handshake.
    Tls(Box<ServerStream>),
}

impl Stream {
    /// Whether TLS is around it, so that its end can be said.
    pub fn is_tls(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }

    /// Whether TLS is around it and agreed on HTTP/2 (RFC 9113 section 3.2).
    pub fn agreed_on_http2(&self) -> bool {
        match self {
            Stream::Plain(_) => false,
            Stream::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(Alpn::Http2.id()),
        }
    }

    /// Closes it with a reset, so that its end is not taken for the end of what was said. What was not
    /// sent by now is lost.
    pub fn reset(self) {
        let socket = self.into_socket();
        // It fails on no socket that is open; the close would be a plain one.
        let _ = socket.set_zero_linger();
    }

    /// The same after the kernel has sent what it holds, and the peer has confirmed all but some 3 KiB
    /// of it. What is left is counted by no call that is safe; but a socket whose buffer is as small as
    /// it can be (4,608 bytes with overhead), and which takes nothing beside unsent bytes, is
    /// writable just then (tcp(7), TCP_NOTSENT_LOWAT; `sk_stream_is_writeable`).
    ///
    /// # Errors
    /// Where the socket is no longer one. It is reset all the same, as it is where this is dropped.
    pub async fn reset_once_sent(self) -> io::Result<()> {
        let socket = self.into_socket();
        socket.set_zero_linger()?;
        let options = SockRef::from(&socket);
        options.set_tcp_notsent_lowat(1)?;
        options.set_send_buffer_size(0)?;
        // Registered anew, for the runtime keeps in mind that it was writable before.
        let socket = TcpStream::from_std(socket.into_std()?)?;
        socket.writable().await
    }

    fn into_socket(self) -> TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => stream.into_inner().0,
        }
    }

    /// Reads into this room; 0 is the end.
    #[inline]
    pub fn poll_read_into(
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

    /// Ready when there is something to read, the end or an error included.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let socket = match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => {
                let (socket, session) = stream.get_ref();
                if !session.wants_read() {
                    // It was read ahead, as a request is that came with the handshake's last bytes.
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

    /// Over TLS the end is said first (RFC 8446 section 6.1).
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// What went over a connection, or over one stream of it.
#[derive(Debug, Default)]
pub struct IoCounters {
    active: Cell<bool>,
    read: Cell<u64>,
    written: Cell<u64>,
    /// What was read and written when this was last asked for an exchange.
    before: Cell<(u64, u64)>,
}

impl IoCounters {
    /// Bytes read and written since this was last asked: those of one exchange.
    pub fn take_traffic(&self) -> (u64, u64) {
        let now = (self.read.get(), self.written.get());
        let before = self.before.replace(now);
        (now.0 - before.0, now.1 - before.1)
    }

    /// Whether a byte went either way since this was last asked.
    pub fn take_active(&self) -> bool {
        self.active.replace(false)
    }

    /// Bytes read so far.
    pub fn read(&self) -> u64 {
        self.read.get()
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written.get()
    }

    /// Counts bytes that went out.
    pub fn add_written(&self, bytes: usize) {
        self.record(&self.written, bytes);
    }

    /// Counts bytes that came in.
    pub fn add_read(&self, bytes: usize) {
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

/// Bytes that an HTTP/2 connection of a client begins with (RFC 9113 section 3.4) and no HTTP/1.1
/// request does: PRI is no method.
const PREFACE: &[u8] = b"PRI";

/// Whether what comes begins with HTTP/2's preface, decided as soon as it can be. Bytes that leave it
/// open, as few ever do, are read into `first`.
pub fn poll_begins_http2(
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

/// The place of a stream while a library holds it, for what is done with it afterwards: a last word,
/// or reading on for a while so that what was sent is not lost in a reset.
pub type Reclaimed = Rc<RefCell<Option<Stream>>>;

/// A stream that counts, for HTTP/2's library. Dropped, it leaves the stream behind.
#[derive(Debug)]
pub struct CountedStream {
    /// Present until dropped.
    inner: Option<Stream>,
    /// Read before and put back.
    first: Bytes,
    io: Rc<IoCounters>,
    reclaimed: Reclaimed,
}

impl CountedStream {
    /// Counts what goes over a stream, of which `first` was read already.
    pub fn new(inner: Stream, first: Vec<u8>, io: Rc<IoCounters>, reclaimed: Reclaimed) -> Self {
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
