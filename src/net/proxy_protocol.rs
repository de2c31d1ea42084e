//! Reads a PROXY header from a socket, up to its last byte and not beyond, because another protocol
//! follows.

use crate::policy::proxy_protocol::{MAX_LEN, ProxyFault, ProxySource, parse};
use std::io;
use tokio::net::TcpStream;

/// Reads a header from the socket. It has no time-out of its own: dropping the future ends it.
///
/// # Errors
/// If the header is missing or malformed.
pub(crate) async fn read(stream: &TcpStream) -> Result<ProxySource, ProxyFault> {
    let mut header = [0; MAX_LEN];
    let mut taken = 0;
    loop {
        // Peeked first: only the received bytes show the length of the header.
        let peeked = stream.peek(&mut header[taken..]).await;
        let there = match peeked {
            Ok(count) if count > 0 => taken + count,
            Ok(_) | Err(_) => return Err(ProxyFault::PeerGone),
        };
        let parsed = parse(&header[..there])?;
        let end = parsed.map_or(there, |(_, length)| length);
        while taken < end {
            match stream.try_read(&mut header[taken..end]) {
                Ok(count) if count > 0 => taken += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Ok(_) | Err(_) => return Err(ProxyFault::PeerGone),
            }
        }
        if let Some((proxy_source, length)) = parsed
            && taken == length
        {
            return Ok(proxy_source);
        }
    }
}
