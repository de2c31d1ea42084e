//! A client's stream that tells what happens on it: bytes either way, and that there was any. Over
//! TLS they are those of HTTP, not of the records around it.
//!
//! The watch is shared with the connection's owner through atomics rather than an `Rc`, for hyper
//! wants its I/O to be `Send` where upgrades are possible. Nobody else touches them: the relaxed
//! loads and stores cost what plain ones do.

use super::tls::acceptor::ServerStream;
use crate::config::settings::Alpn;
use bytes::Bytes;
use socket2::SockRef;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
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

    /// Ready when there is something to read, the end or an error included.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
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
            Stream::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
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

/// What happened on a stream.
#[derive(Debug, Default)]
pub struct Watch {
    active: AtomicBool,
    read: AtomicU64,
    written: AtomicU64,
    flushes: AtomicU64,
    ends: AtomicBool,
    left_behind: Mutex<Option<Stream>>,
}

impl Watch {
    /// Whether a byte went either way since this was last asked.
    pub fn take_active(&self) -> bool {
        self.active.load(Ordering::Relaxed) && {
            self.active.store(false, Ordering::Relaxed);
            true
        }
    }

    /// Bytes read so far.
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Counts bytes that went out past the stream.
    pub fn add_written(&self, bytes: usize) {
        self.note(&self.written, bytes);
    }

    /// Counts bytes that came in past the stream, as they do where a connection has several.
    pub fn note_read(&self, bytes: usize) {
        self.note(&self.read, bytes);
    }

    /// Notes that all that was to be written had been.
    pub fn note_flushed(&self) {
        self.flushes.store(self.flushes.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Has the stream's sending half ended when next all was written that was to be: the answer is the
    /// last, and its request goes on.
    pub fn end_when_flushed(&self) {
        self.ends.store(true, Ordering::Relaxed);
    }

    /// How often all that was to be written had been. hyper flushes its stream only then.
    pub fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Relaxed)
    }

    /// The connection, once whoever read and wrote on it has dropped the stream: for a last word, or to
    /// read on for a while so that the answer is not lost in a reset.
    pub fn take_stream(&self) -> Option<Stream> {
        self.left_behind.lock().ok()?.take()
    }

    fn note(&self, counter: &AtomicU64, bytes: usize) {
        if bytes > 0 {
            counter.store(counter.load(Ordering::Relaxed) + bytes as u64, Ordering::Relaxed);
            self.active.store(true, Ordering::Relaxed);
        }
    }
}

/// The stream.
#[derive(Debug, Default)]
pub struct WatchedStream {
    /// Present until dropped.
    inner: Option<Stream>,
    /// Read before and put back.
    first: Bytes,
    watch: Arc<Watch>,
}

impl WatchedStream {
    /// Watches a stream.
    pub fn new(inner: Stream, watch: Arc<Watch>) -> Self {
        Self { inner: Some(inner), first: Bytes::new(), watch }
    }

    /// Puts bytes back that were read and not used: they are read again first.
    pub fn put_back(&mut self, bytes: Bytes) {
        self.first = bytes;
    }

    /// Ready when there is something to read, the end or an error included.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.inner {
            Some(inner) if self.first.is_empty() => inner.poll_readable(cx),
            _ => Poll::Ready(()),
        }
    }

    /// Whether what comes begins with this; decided as soon as it can be. Where the first bytes leave
    /// it open, as few ever do, they are read and put back.
    pub fn poll_begins_with(&mut self, cx: &mut Context<'_>, expected: &[u8]) -> Poll<bool> {
        loop {
            let known = self.first.len();
            let mut bytes = [0; MOST_EXPECTED];
            let mut buffer = ReadBuf::new(&mut bytes[..expected.len() - known]);
            let Some(Stream::Plain(socket)) = &mut self.inner else { return Poll::Ready(false) };
            let peeked = ready!(socket.poll_peek(cx, &mut buffer));
            let came = buffer.filled();
            if peeked.is_err() || came.is_empty() || !expected[known..].starts_with(came) {
                return Poll::Ready(false);
            }
            if known + came.len() == expected.len() {
                return Poll::Ready(true);
            }
            let mut read = ReadBuf::new(&mut bytes[..1]);
            if ready!(Pin::new(socket).poll_read(cx, &mut read)).is_err() {
                return Poll::Ready(false);
            }
            let mut first = self.first.to_vec();
            first.extend_from_slice(read.filled());
            self.first = first.into();
            self.watch.note_read(1);
        }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut Stream>> {
        self.inner.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl WatchedStream {
    /// A head and a small body are put together first: the kernel takes longer to gather two pieces
    /// than we take to copy them.
    fn write_together(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut together = [const { MaybeUninit::uninit() }; SMALL];
        let mut together = ReadBuf::uninit(&mut together);
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        if length > SMALL {
            return self.stream()?.poll_write_vectored(cx, slices);
        }
        slices.iter().for_each(|slice| together.put_slice(slice));
        self.stream()?.poll_write(cx, together.filled())
    }
}

/// The longest that is looked for.
const MOST_EXPECTED: usize = 8;

/// Bytes that are copied rather than gathered.
const SMALL: usize = 2_048;

impl Drop for WatchedStream {
    fn drop(&mut self) {
        if let Ok(mut left_behind) = self.watch.left_behind.lock() {
            *left_behind = self.inner.take();
        }
    }
}

impl AsyncRead for WatchedStream {
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
        self.watch.note(&self.watch.read, buffer.filled().len() - before);
        polled
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = self.stream()?.poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = polled {
            self.watch.note(&self.watch.written, count);
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = self.write_together(cx, slices);
        if let Poll::Ready(Ok(count)) = polled {
            self.watch.note(&self.watch.written, count);
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.stream()?.poll_flush(cx);
        // Records may still wait for room in the socket.
        if polled.is_ready() {
            self.watch.note_flushed();
            // Where it waits, it is tried again with the next flush, or the stream is closed.
            if self.watch.ends.load(Ordering::Relaxed)
                && self.stream()?.poll_shutdown(cx).is_ready()
            {
                self.watch.ends.store(false, Ordering::Relaxed);
            }
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}
