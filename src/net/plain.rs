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
        // Fewer bytes than requested mean that the kernel's buffer is empty or full, except in
        // front of TCP's urgent data, and epoll reports the next change: this error makes the
        // runtime forget that the socket was ready, as tokio's own reads and writes do.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{Future, poll_fn};
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream as Peer};
    use std::time::Duration;

    fn pair() -> (TcpStream, Peer) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = Peer::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        (TcpStream::from_std(socket).unwrap(), peer)
    }

    async fn read(socket: &TcpStream, room: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| poll_read(socket, cx, room)).await
    }

    #[tokio::test(flavor = "current_thread")]
    async fn reads_are_woken_after_short_and_after_full_ones_until_the_end() {
        let (socket, peer) = pair();
        let mut room = [0; 4];
        for text in ["ab", "cdef", "ghijklmn", "o"] {
            let mut sender = peer.try_clone().unwrap();
            let sent = std::thread::spawn(move || sender.write_all(text.as_bytes()).unwrap());
            let mut got = Vec::new();
            while got.len() < text.len() {
                let count = read(&socket, &mut room).await.unwrap();
                assert!(count > 0, "the end was read in front of {text}");
                got.extend_from_slice(&room[..count]);
            }
            assert_eq!(got, text.as_bytes());
            sent.join().unwrap();
        }
        (&peer).write_all(b"p").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read(&socket, &mut room).await.unwrap(), 1);
        assert_eq!(read(&socket, &mut room).await.unwrap(), 0);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_write_that_filled_the_socket_is_woken_once_the_peer_reads() {
        let (socket, mut peer) = pair();
        let bytes = vec![7; 1 << 20];
        // The peer reads nothing until the socket takes no more.
        let mut total = 0;
        while let Poll::Ready(count) =
            poll_fn(|cx| Poll::Ready(poll_write(&socket, cx, &bytes))).await
        {
            total += count.unwrap();
        }
        let reader = std::thread::spawn(move || {
            let (mut room, mut left) = (vec![0; 1 << 16], total);
            while left > 0 {
                left -= peer.read(&mut room).unwrap().min(left);
            }
            peer
        });
        assert!(poll_fn(|cx| poll_write(&socket, cx, &bytes)).await.unwrap() > 0);
        reader.join().unwrap();
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_reset_connection_gives_errors_and_no_signal() {
        let (socket, peer) = pair();
        socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        assert!(read(&socket, &mut [0; 4]).await.is_err());
        assert!(poll_fn(|cx| poll_write(&socket, cx, b"x")).await.is_err());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_socket_that_is_always_ready_lets_other_tasks_run() {
        let (socket, mut peer) = pair();
        peer.write_all(&[0; 4_096]).unwrap();
        socket.readable().await.unwrap();
        let mut count = 0;
        let mut task = std::pin::pin!(async {
            while count < 4_096 {
                count += read(&socket, &mut [0; 1]).await.unwrap();
            }
        });
        // The runtime gives a task 128 reads or writes before it must yield.
        poll_fn(|cx| {
            assert!(task.as_mut().poll(cx).is_pending(), "all of it was read in one turn");
            Poll::Ready(())
        })
        .await;
    }
}
