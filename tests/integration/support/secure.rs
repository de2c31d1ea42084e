//! A target over TLS with a self-signed certificate.

use super::origin::Heard;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

/// A request as it arrived, and its handshake.
#[derive(Clone)]
pub struct Secured {
    /// The SNI name in the handshake.
    pub sni: Option<String>,
    pub request: Heard,
}

/// The target. It responds to every request with the same bytes and closes, with or without
/// close_notify.
pub struct SecureOrigin {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Secured>>>,
}

impl SecureOrigin {
    /// A target that supports only `version`.
    pub fn saying(bytes: &'static str, version: &'static rustls::SupportedProtocolVersion) -> Self {
        Self::ending(bytes, version, true)
    }

    /// A target that ends with or without close_notify.
    pub fn ending(
        bytes: &'static str,
        version: &'static rustls::SupportedProtocolVersion,
        sends_close_notify: bool,
    ) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["unknown.example".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard: Arc<Mutex<Vec<_>>> = Arc::default();
        let hears = heard.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let (config, heard) = (config.clone(), hears.clone());
                thread::spawn(move || {
                    let connection = ServerConnection::new(config).unwrap();
                    let mut stream = StreamOwned::new(connection, stream);
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let mut byte = [0];
                        // A client that fails the handshake or leaves is not recorded.
                        let Ok(1) = stream.read(&mut byte) else { return };
                        head.push(byte[0]);
                    }
                    let head = String::from_utf8_lossy(&head).into_owned();
                    let sni = stream.conn.server_name().map(str::to_owned);
                    let request = Heard { head, ..Heard::default() };
                    heard.lock().unwrap().push(Secured { sni, request });
                    let _ = stream.write_all(bytes.as_bytes());
                    if sends_close_notify {
                        stream.conn.send_close_notify();
                    }
                    let _ = stream.flush();
                });
            }
        });
        Self { address, heard }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far, without checks.
    pub fn heard(&self) -> Vec<Secured> {
        self.heard.lock().unwrap().clone()
    }
}
