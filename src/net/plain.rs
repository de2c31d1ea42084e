//! A TCP socket without TLS, read and written while the runtime knows it is ready: no waker is
//! stored then, and the kernel is called without libc's cancellation points.

use std::io;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::coop;

/// Reads into `room`; 0 is the end.
#[inline]
pub(super) fn poll_read(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    room: &mut [u8],
) -> Poll<io::Result<usize>> {
    let size = room.len();
    poll_io(socket, cx, Interest::READABLE, size, || Ok(rustix::io::read(socket, &mut *room)?))
}

/// Writes some of these bytes.
#[inline]
pub(super) fn poll_write(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    use rustix::net::SendFlags;
    let send = || Ok(rustix::net::send(socket, bytes, SendFlags::NOSIGNAL)?);
    poll_io(socket, cx, Interest::WRITABLE, bytes.len(), send)
}

/// Calls `call`, which moves up to `size` bytes, until it moves some or the socket would block.
#[inline(always)]
fn poll_io(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    interest: Interest,
    size: usize,
    mut call: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        // A peer that is always ready must not keep the task from yielding.
        let turn = ready!(coop::poll_proceed(cx));
        if let Poll::Ready(moved) = try_io(socket, interest, size, &mut call) {
            turn.made_progress();
            return Poll::Ready(moved);
        }
        drop(turn);
        ready!(poll_ready(socket, cx, interest))?;
    }
}

/// Calls `call` if the socket is known to be ready; pending if it is not, or no longer.
#[inline(always)]
fn try_io(
    socket: &TcpStream,
    interest: Interest,
    size: usize,
    mut call: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    let mut moved = None;
    let called = socket.try_io(interest, || {
        let count = call()?;
        moved = Some(count);
        // Fewer bytes than requested mean that the kernel's buffer is empty or full, and epoll
        // reports the next change: this error makes the runtime forget that the socket was ready.
        if (1..size).contains(&count) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
    });
    match (moved, called) {
        (Some(count), _) => Poll::Ready(Ok(count)),
        (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        (None, called) => Poll::Ready(called),
    }
}

#[inline(never)]
fn poll_ready(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    interest: Interest,
) -> Poll<io::Result<()>> {
    match interest {
        Interest::READABLE => socket.poll_read_ready(cx),
        _ => socket.poll_write_ready(cx),
    }
}
