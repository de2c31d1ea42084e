//! A target that expects a PROXY header before all other bytes, TLS included, and keeps it
//! unchanged.

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A request; without a head, the end of a connection that sent none.
#[derive(Clone, Debug, Default)]
pub struct Announced {
    /// Number of the connection at this target, from 0.
    pub connection: usize,
    /// The bytes of its header.
    pub header: Vec<u8>,
    pub head: String,
}

impl Announced {
    pub fn is_check(&self) -> bool {
        self.head.contains("ELB-HealthChecker/2.0")
    }

    /// The header of version 1 as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.header).into_owned()
    }
}

/// The target. It responds to every request with 200 and keeps the connection.
pub struct AnnouncedOrigin {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Announced>>>,
}

impl AnnouncedOrigin {
    pub fn plain() -> Self {
        Self::new(None)
    }

    /// A target with a TLS handshake after the header.
    pub fn over_tls() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["unknown.example".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        Self::new(Some(Arc::new(config)))
    }

    fn new(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard: Arc<Mutex<Vec<Announced>>> = Arc::default();
        let hears = heard.clone();
        thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let Ok(mut stream) = stream else { return };
                let (tls, heard) = (tls.clone(), hears.clone());
                thread::spawn(move || {
                    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
                    let Some(header) = read_header(&mut stream) else { return };
                    let came = Announced { connection, header, head: String::new() };
                    match tls {
                        None => serve(stream, &came, &heard),
                        Some(tls) => {
                            let connection = ServerConnection::new(tls).unwrap();
                            serve(StreamOwned::new(connection, stream), &came, &heard);
                        }
                    }
                });
            }
        });
        Self { address, heard }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far, without checks.
    pub fn heard(&self) -> Vec<Announced> {
        self.all().into_iter().filter(|heard| !heard.is_check() && !heard.head.is_empty()).collect()
    }

    /// All requests so far.
    pub fn all(&self) -> Vec<Announced> {
        self.heard.lock().unwrap().clone()
    }
}

/// Reads a header by the specification, without the balancer's code.
fn read_header(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut header = vec![0; 1];
    stream.read_exact(&mut header).ok()?;
    let mut more = |header: &mut Vec<u8>, count: usize| {
        let begin = header.len();
        header.resize(begin + count, 0);
        stream.read_exact(&mut header[begin..]).ok()
    };
    if header == b"P" {
        while !header.ends_with(b"\r\n") {
            more(&mut header, 1)?;
        }
    } else {
        more(&mut header, 15)?;
        let rest = usize::from(header[14]) << 8 | usize::from(header[15]);
        more(&mut header, rest)?;
    }
    Some(header)
}

fn serve(mut stream: impl Read + Write, came: &Announced, heard: &Mutex<Vec<Announced>>) {
    for nth in 0.. {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            let Ok(1) = stream.read(&mut byte) else {
                if nth == 0 {
                    heard.lock().unwrap().push(came.clone());
                }
                return;
            };
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        heard.lock().unwrap().push(Announced { head, ..came.clone() });
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let _ = stream.flush();
    }
}
