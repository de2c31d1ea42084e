//! A TCP socket without TLS, read and written where the runtime already knows that it is ready: no waker
//! is stored then, and the kernel is called without the cancellation points that libc has around it.

use std::io;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::coop;

/// Reads into this room; 0 is the end.
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

/// Calls `call`, which moves up to `size` bytes, until it moves some, or none of them can be moved by now.
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

/// Calls `call` if the socket is known to be ready; pending where it is not, or no longer.
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
        // Fewer bytes than asked for say that the kernel has no more, or no more room, and epoll tells of
        // the next: the runtime forgets with this error that the socket was ready.
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
