//! Visitors: each asks once without a cookie, keeps what it is given, and sends that ever after.

use std::io::{self, Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::response::read_head;
use crate::scenario::{Reuse, Scenario};

/// One client: the cookie it was first given, and the replica that holds its session.
pub(crate) struct Visitor {
    pub(crate) cookie: Option<String>,
    pub(crate) replica: u8,
}

impl Visitor {
    /// Makes first contact over a connection of its own.
    pub(crate) fn arrive(address: SocketAddr) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(&request(address, 0, Reuse::Fresh, None))?;
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            if let Some(head) = read_head(&bytes) {
                let Some(replica) = head.replica.filter(|_| head.status == 200) else {
                    let message = format!("first contact was answered {}", head.status);
                    return Err(Error::new(ErrorKind::InvalidData, message));
                };
                let text = |cookie| String::from_utf8_lossy(cookie).into_owned();
                return Ok(Self { cookie: head.cookie.map(text), replica });
            }
            let count = stream.read(&mut chunk)?;
            if count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            bytes.extend_from_slice(&chunk[..count]);
        }
    }

    /// The request this visitor sends again and again.
    pub(crate) fn request(&self, address: SocketAddr, scenario: &Scenario) -> Vec<u8> {
        request(address, scenario.body, scenario.reuse, self.cookie.as_deref())
    }
}

fn request(address: SocketAddr, body: usize, reuse: Reuse, cookie: Option<&str>) -> Vec<u8> {
    let cookie = cookie.map(|cookie| format!("Cookie: {cookie}\r\n")).unwrap_or_default();
    let connection = match reuse {
        Reuse::Kept => "",
        Reuse::Fresh => "Connection: close\r\n",
    };
    format!(
        "GET /{body} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: throughput\r\n\
         Accept: */*\r\n{connection}{cookie}\r\n"
    )
    .into_bytes()
}
