//! A client over TLS that writes HTTP/1.1 by hand.

use super::certificates::{Authority, Signed};
use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// The client; its sessions are resumed.
#[derive(Clone)]
pub struct Browser {
    config: Arc<ClientConfig>,
}

/// A connection of the client.
pub struct Secure {
    pub stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Browser {
    /// A client that trusts this authority.
    pub fn trusting(authority: &Authority) -> Self {
        Self::with(authority, rustls::ALL_VERSIONS, None, |_| {})
    }

    /// A client that shows this certificate on request.
    pub fn showing(authority: &Authority, own: &Signed) -> Self {
        Self::with(authority, rustls::ALL_VERSIONS, Some(own), |_| {})
    }

    /// A client with these TLS versions, this certificate, and further changes.
    pub fn with(
        authority: &Authority,
        versions: &[&'static SupportedProtocolVersion],
        own: Option<&Signed>,
        change: impl FnOnce(&mut ClientConfig),
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                builder.with_client_auth_cert(vec![own.der.clone()], own.key.clone_key()).unwrap()
            }
        };
        change(&mut config);
        Self { config: Arc::new(config) }
    }

    /// Connects with a TLS handshake and this SNI name.
    pub fn connect(&self, address: SocketAddr, name: &str) -> io::Result<Secure> {
        self.connect_behind(address, name, b"")
    }

    /// Connects as `connect` does, but sends these bytes before the handshake.
    pub fn connect_behind(
        &self,
        address: SocketAddr,
        name: &str,
        first: &[u8],
    ) -> io::Result<Secure> {
        let mut socket = TcpStream::connect(address)?;
        socket.write_all(first)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connection = ClientConnection::new(self.config.clone(), name).unwrap();
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Secure { stream })
    }

    /// `GET path` of `shop.example` on a new connection. Returns head and body.
    pub fn get(&self, address: SocketAddr, path: &str) -> io::Result<String> {
        self.connect(address, "shop.example")?.get(path)
    }
}

impl Secure {
    /// `GET path`. Returns head and body of the response, which has a length.
    pub fn get(&mut self, path: &str) -> io::Result<String> {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n\r\n"))
    }

    /// Sends this text. Returns head and body of the response, which has a length.
    pub fn ask(&mut self, text: &str) -> io::Result<String> {
        self.stream.write_all(text.as_bytes())?;
        self.stream.flush()?;
        self.answer()
    }

    /// Reads one response.
    pub fn answer(&mut self) -> io::Result<String> {
        let mut answer = String::new();
        loop {
            let whole = answer.split_once("\r\n\r\n").is_some_and(|(head, body)| {
                let fields = head.to_ascii_lowercase();
                let length = fields
                    .split_once("content-length: ")
                    .map(|(_, rest)| rest.split("\r\n").next().unwrap().parse::<usize>().unwrap());
                body.len() >= length.unwrap_or(0)
            });
            if whole {
                return Ok(answer);
            }
            let mut scratch = [0; 16_384];
            match self.stream.read(&mut scratch)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => answer.push_str(&String::from_utf8_lossy(&scratch[..count])),
            }
        }
    }

    /// True if the session was resumed.
    pub fn is_resumed(&self) -> bool {
        self.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    pub fn version(&self) -> ProtocolVersion {
        self.stream.conn.protocol_version().unwrap()
    }

    /// The server's certificate.
    pub fn was_shown(&self) -> &[u8] {
        self.stream.conn.peer_certificates().unwrap()[0].as_ref()
    }
}
