//! A TLS terminator that makes an HTTPS target of an [`Origin`] and records each handshake, and the
//! certificate authority for such targets.

use super::Origin;
use data_encoding::BASE64;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{HandshakeKind, ProtocolVersion, ServerConfig, SupportedProtocolVersion};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A certificate and its key.
pub struct Issued {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Issued {
    /// A self-signed certificate.
    pub fn by_itself(name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        Self { chain: vec![made.cert.der().clone()], key }
    }

    /// The certificate as PEM, for `ca`.
    pub fn pem(&self) -> String {
        pem(&self.chain[0])
    }
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = BASE64.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

/// Signs certificates; its own certificate is in a PEM file.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), pem(issuer.der())).unwrap();
        Self { issuer, dir }
    }

    /// Path of the authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Signs for a host name or an IP address.
    pub fn issue(&self, name: &str) -> Issued {
        self.sign(CertificateParams::new(vec![name.to_owned()]).unwrap())
    }

    /// Signs a certificate that expired years ago.
    pub fn issue_expired(&self, name: &str) -> Issued {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Issued { chain: vec![certificate.der().clone()], key }
    }
}

/// The handshake of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shaken {
    /// The SNI name in the handshake.
    pub sni: Option<String>,
    /// The protocol negotiated by ALPN.
    pub alpn: Option<Vec<u8>>,
    pub version: Option<ProtocolVersion>,
    pub is_resumed: bool,
}

/// The terminator. Its threads live as long as the process, as those of an [`Origin`] do.
pub struct Terminator {
    address: SocketAddr,
    shaken: Arc<Mutex<Vec<Result<Shaken, String>>>>,
}

impl Terminator {
    /// A terminator before this origin, with every supported TLS version.
    pub fn new(origin: &Origin, issued: Issued) -> Self {
        Self::speaking(rustls::ALL_VERSIONS, origin, issued)
    }

    /// A terminator with only these TLS versions.
    pub fn speaking(
        versions: &[&'static SupportedProtocolVersion],
        origin: &Origin,
        issued: Issued,
    ) -> Self {
        Self::speaking_before(versions, origin.address(), issued)
    }

    /// A terminator before this address.
    pub fn before(origin: SocketAddr, issued: Issued) -> Self {
        Self::speaking_before(rustls::ALL_VERSIONS, origin, issued)
    }

    fn speaking_before(
        versions: &[&'static SupportedProtocolVersion],
        origin: SocketAddr,
        issued: Issued,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(issued.chain, issued.key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shaken: Arc<Mutex<Vec<_>>> = Arc::default();
        let keep = shaken.clone();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let acceptor = TlsAcceptor::from(Arc::new(config));
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(terminate(stream, acceptor.clone(), origin, keep.clone()));
                }
            });
        });
        Self { address, shaken }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All finished handshakes, with their results.
    pub fn attempts(&self) -> Vec<Result<Shaken, String>> {
        self.shaken.lock().unwrap().clone()
    }

    /// The handshakes that succeeded.
    pub fn shaken(&self) -> Vec<Shaken> {
        self.attempts().into_iter().filter_map(Result::ok).collect()
    }
}

async fn terminate(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    origin: SocketAddr,
    keep: Arc<Mutex<Vec<Result<Shaken, String>>>>,
) {
    let mut stream = match acceptor.accept(stream).await {
        Ok(stream) => stream,
        Err(error) => {
            keep.lock().unwrap().push(Err(error.to_string()));
            return;
        }
    };
    let session = stream.get_ref().1;
    let shaken = Shaken {
        sni: session.server_name().map(str::to_owned),
        alpn: session.alpn_protocol().map(<[u8]>::to_vec),
        version: session.protocol_version(),
        is_resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
    };
    keep.lock().unwrap().push(Ok(shaken));
    let mut plain = TcpStream::connect(origin).await.unwrap();
    // Either side may break off; the test checks the result.
    let _ = tokio::io::copy_bidirectional(&mut stream, &mut plain).await;
}
