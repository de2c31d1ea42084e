//! The two targets: each responds to every request as an nginx would, with five fields and a body
//! of 87 bytes. The body's first byte is the target's name.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

/// Length of each response's body.
pub(crate) const BODY: usize = 87;

/// Starts both targets; they end with the process.
pub(crate) fn start() -> io::Result<[SocketAddr; 2]> {
    Ok([target("1")?, target("2")?])
}

fn target(name: &'static str) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream, name));
        }
    });
    Ok(address)
}

fn answer(mut stream: TcpStream, name: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let filler = ".".repeat(BODY - name.len());
    let answer = format!(
        "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Sun, 29 Nov 2026 12:00:00 GMT\r\n\
         Content-Type: text/plain\r\nContent-Length: {BODY}\r\nConnection: keep-alive\r\n\r\n\
         {name}{filler}"
    );
    let mut room = [0; 16_384];
    let mut filled = 0;
    loop {
        let count = stream.read(&mut room[filled..])?;
        if count == 0 {
            return Ok(());
        }
        filled += count;
        if room[..filled].ends_with(b"\r\n\r\n") {
            filled = 0;
            stream.write_all(answer.as_bytes())?;
        }
    }
}
