//! Visitors: each sends one request without a cookie, keeps the cookie it gets, and sends it from
//! then on.

use std::io::{self, Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::response::read_head;
use crate::scenario::{Reuse, Scenario};
use crate::tls;

/// One client: its first cookie, and the replica with its session.
pub(crate) struct Visitor {
    pub(crate) cookie: Option<String>,
    pub(crate) replica: usize,
}

impl Visitor {
    /// Sends the first request over a new connection, within TLS if `tls` is set.
    pub(crate) fn arrive(
        address: SocketAddr,
        host: Option<&str>,
        tls: Option<&Arc<ClientConfig>>,
    ) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        match tls {
            None => Self::ask(stream, address, host),
            Some(config) => {
                let session = ClientConnection::new(Arc::clone(config), tls::server_name());
                let session = session.map_err(Error::other)?;
                Self::ask(StreamOwned::new(session, stream), address, host)
            }
        }
    }

    fn ask(
        mut stream: impl Read + Write,
        address: SocketAddr,
        host: Option<&str>,
    ) -> io::Result<Self> {
        let first = Wanted { body: 0, upload: 0, reuse: Reuse::Fresh };
        stream.write_all(&head(address, host, &first, None))?;
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

    /// The head of the request that this visitor repeats.
    pub(crate) fn head(&self, address: SocketAddr, scenario: &Scenario) -> Vec<u8> {
        let &Scenario { body, upload, reuse, returning, .. } = scenario;
        let cookie = self.cookie.as_deref().filter(|_| returning);
        head(address, scenario.host().as_deref(), &Wanted { body, upload, reuse }, cookie)
    }
}

struct Wanted {
    body: usize,
    upload: usize,
    reuse: Reuse,
}

fn head(address: SocketAddr, host: Option<&str>, wanted: &Wanted, cookie: Option<&str>) -> Vec<u8> {
    let Wanted { body, upload, reuse } = *wanted;
    let host = host.map_or_else(|| address.to_string(), str::to_owned);
    let cookie = cookie.map(|cookie| format!("Cookie: {cookie}\r\n")).unwrap_or_default();
    let connection = match reuse {
        Reuse::Kept => "",
        Reuse::Fresh | Reuse::Resumed => "Connection: close\r\n",
    };
    let (method, length) = match upload {
        0 => ("GET", String::new()),
        _ => ("POST", format!("Content-Length: {upload}\r\n")),
    };
    format!(
        "{method} /{body} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: throughput\r\n\
         Accept: */*\r\n{length}{connection}{cookie}\r\n"
    )
    .into_bytes()
}
