//! TLS: with targets in this file, with clients in the files below. Only this module uses the
//! library.
//!
//! The cryptography provider is named here and not taken from the process: with two providers in
//! the tree the library has no default, and panics at the first handshake.

pub(crate) mod acceptor;
pub(crate) mod certificates;

use crate::config::settings::Group;
use crate::config::settings::target_tls::{TlsPeer, Trust};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A connection to a target after the handshake.
pub(crate) type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

/// Bound on the tickets kept for the next handshakes with one target, in each worker. A ticket is
/// used once (RFC 8446 section C.4), and a handshake usually brings two.
const MAX_TICKETS: usize = 8;

/// Performs handshakes with one target. Clones share their state.
#[derive(Clone)]
pub struct Connector {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Connector {
    /// Performs the handshake. A host name is sent as SNI; an address never is (RFC 6066 section
    /// 3).
    ///
    /// # Errors
    /// If the target does not speak TLS or shares no version or suite, or fails verification
    /// ([`refuses_certificate`]). Nothing but the handshake was sent then.
    pub async fn connect(&self, stream: TcpStream) -> io::Result<TlsStream> {
        self.connector.connect(self.name.clone(), stream).await
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Returns true if a handshake failed because of the target's certificate.
pub(crate) fn refuses_certificate(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
}

/// The ALPN name of HTTP/2 (RFC 9113 section 3.2).
const HTTP2: &[u8] = b"h2";

/// Returns true if HTTP/2 was negotiated. A target without ALPN does not speak it here.
pub(crate) fn agreed_on_http2(stream: &TlsStream) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(HTTP2)
}

/// Creates connectors. The configuration of equal peer settings is shared.
#[derive(Debug, Default)]
pub(crate) struct Connectors {
    /// One for each distinct setting in the file, and some of the previous file.
    known: Vec<(Trust, bool, Arc<ClientConfig>)>,
}

impl Connectors {
    /// A connector that never resumes. Each check is independent: a resumed handshake would not
    /// notice a lost key.
    pub(crate) fn whole(&mut self, peer: &TlsPeer) -> Connector {
        let connector = TlsConnector::from(self.config(peer));
        Connector { connector, name: peer.name.clone() }
    }

    /// A connector that resumes earlier handshakes with this very target: another target of the
    /// same name would not know the ticket.
    pub(crate) fn resuming(&mut self, peer: &TlsPeer) -> Connector {
        let mut config = (*self.config(peer)).clone();
        config.resumption = Resumption::in_memory_sessions(MAX_TICKETS);
        Connector { connector: TlsConnector::from(Arc::new(config)), name: peer.name.clone() }
    }

    fn config(&mut self, peer: &TlsPeer) -> Arc<ClientConfig> {
        let is_known =
            |(trust, http2, _): &&(Trust, bool, _)| (trust, *http2) == (&peer.trust, peer.http2);
        if let Some((.., config)) = self.known.iter().find(is_known) {
            return Arc::clone(config);
        }
        self.known.retain(|(known, ..)| match known {
            Trust::Authorities(certificates) => Arc::strong_count(certificates) > 1,
            Trust::Anyone | Trust::System => true,
        });
        let config = Arc::new(config(&peer.trust, peer.http2));
        self.known.push((peer.trust.clone(), peer.http2, Arc::clone(&config)));
        config
    }
}

fn config(trust: &Trust, http2: bool) -> ClientConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    // Fails only for a provider without the primitives of TLS 1.2 and 1.3; this one has them.
    #[allow(clippy::expect_used)]
    let builder = builder.with_safe_default_protocol_versions().expect("aws-lc-rs has both");
    let builder = match trust {
        Trust::Anyone => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        }
        // Without system roots the start fails; an empty store here trusts no certificate.
        Trust::System => {
            let empty = |_: &_| Arc::new(RootCertStore::empty());
            builder.with_root_certificates(system().as_ref().map_or_else(empty, Arc::clone))
        }
        Trust::Authorities(certificates) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates.iter().cloned());
            builder.with_root_certificates(roots)
        }
    };
    let mut config = builder.with_no_client_auth();
    let spoken: &[u8] = if http2 { HTTP2 } else { b"http/1.1" };
    config.alpn_protocols = vec![spoken.to_vec()];
    config.resumption = Resumption::disabled();
    config
}

/// Error: no certificate authority found in the system. Holds the places searched.
#[derive(Clone, Debug)]
pub struct NoAuthorities(String);

impl fmt::Display for NoAuthorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(why) = self;
        write!(
            f,
            "no system CA certificates found, but target_group.*.tls needs them{why}: install \
             ca-certificates, set SSL_CERT_FILE, or set `ca` in `target_group.*.tls`"
        )
    }
}

impl std::error::Error for NoAuthorities {}

/// Loads the system's certificate authorities, if these groups trust them.
///
/// # Errors
/// If the system has none.
pub(crate) fn load_authorities(groups: &[Group]) -> Result<(), NoAuthorities> {
    let wants = |group: &Group| group.tls.as_ref().is_some_and(|tls| tls.trust == Trust::System);
    if groups.iter().any(wants) {
        system().as_ref().map_err(NoAuthorities::clone)?;
    }
    Ok(())
}

/// The system's authorities, read once at first use: they are hundreds of files.
fn system() -> &'static Result<Arc<RootCertStore>, NoAuthorities> {
    static SYSTEM: OnceLock<Result<Arc<RootCertStore>, NoAuthorities>> = OnceLock::new();
    SYSTEM.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (taken, _) = roots.add_parsable_certificates(found.certs);
        match (taken, found.errors.first()) {
            (0, Some(error)) => Err(NoAuthorities(format!(" ({error})"))),
            (0, None) => Err(NoAuthorities(String::new())),
            _ => Ok(Arc::new(roots)),
        }
    })
}

/// Accepts any certificate, as ALB does of its targets (AWS, "Target groups for your Application
/// Load Balancers"): the connection is protected from passive eavesdroppers only. Signatures are
/// not checked either: they would prove possession of a key that identifies no one.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
