//! The target: `/well` is answered at once, `/large` with 8 MiB, other paths never.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The target's address, and the number of requests that began.
#[derive(Clone)]
pub struct Origin {
    pub address: SocketAddr,
    pub begun: Arc<AtomicUsize>,
}

/// Runs in a thread of its own for as long as the bench does.
pub fn run() -> Origin {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let origin = Origin { address: listener.local_addr().unwrap(), begun: Arc::default() };
    let begun = Arc::clone(&origin.begun);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&begun)));
            }
        });
    });
    origin
}

async fn serve(mut stream: TcpStream, begun: Arc<AtomicUsize>) {
    let mut buffer = Vec::with_capacity(4_096);
    loop {
        buffer.clear();
        while !buffer.windows(4).any(|window| window == b"\r\n\r\n") {
            if matches!(stream.read_buf(&mut buffer).await, Ok(0) | Err(_)) {
                return;
            }
        }
        begun.fetch_add(1, Ordering::Relaxed);
        let head: &[u8] = if buffer.starts_with(b"GET /well ") {
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell"
        } else if buffer.starts_with(b"GET /large ") {
            b"HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n\r\n"
        } else {
            // Until the balancer closes.
            let _ = stream.read_to_end(&mut buffer).await;
            return;
        };
        let pieces = if head.ends_with(b"well") { 0 } else { 128 };
        let mut sent = stream.write_all(head).await;
        for _ in 0..pieces {
            if sent.is_ok() {
                sent = stream.write_all(&[b'x'; 65_536]).await;
            }
        }
        if sent.is_err() {
            return;
        }
    }
}
