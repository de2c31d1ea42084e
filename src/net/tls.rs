//! TLS: towards targets here, with clients in the files below. The one place that knows the library.
//!
//! The cryptography is named here and not taken from the process: with two providers in the tree
//! the library has no default, and says so by a panic at the first handshake.

pub mod acceptor;
pub mod certificates;

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
pub type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

/// Tickets kept for the next handshakes with one target, by each worker. A ticket is used once
/// (RFC 8446 section C.4), and a handshake brings two as a rule.
const MAX_TICKETS: usize = 8;

/// Makes handshakes with one target. A clone is the same one.
#[derive(Clone)]
pub struct Connector {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Connector {
    /// Shakes hands. A host name is sent as SNI; an address never is (RFC 6066 section 3).
    ///
    /// # Errors
    /// When the target does not speak TLS, or none we do, or is not who it must be
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

/// Whether a handshake failed because of the certificate the target showed.
pub fn refuses_certificate(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
}

/// The name of HTTP/2 over TLS (RFC 9113 section 3.2).
const HTTP2: &[u8] = b"h2";

/// Whether HTTP/2 was agreed on. A target that agrees on nothing speaks something else.
pub fn agreed_on_http2(stream: &TlsStream) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(HTTP2)
}

/// Makes connectors; what those of one trust have in common is made once.
#[derive(Debug, Default)]
pub struct Connectors {
    /// As many as there are different ones in the file, and some of the file before.
    known: Vec<(Trust, bool, Arc<ClientConfig>)>,
}

impl Connectors {
    /// One whose every handshake is whole. Each check stands on its own: one that resumes would
    /// not see a key that is gone.
    pub fn whole(&mut self, peer: &TlsPeer) -> Connector {
        let connector = TlsConnector::from(self.config(peer));
        Connector { connector, name: peer.name.clone() }
    }

    /// One that begins where an earlier handshake left off, with this very target: another of its
    /// name would not know the ticket.
    pub fn resuming(&mut self, peer: &TlsPeer) -> Connector {
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
    // It fails for a provider that lacks what TLS 1.2 and 1.3 need, and this one does not.
    #[allow(clippy::expect_used)]
    let builder = builder.with_safe_default_protocol_versions().expect("aws-lc-rs has both");
    let builder = match trust {
        Trust::Anyone => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        }
        // Where there are none the process has not started; nobody is believed then.
        Trust::System => {
            let nobody = |_: &_| Arc::new(RootCertStore::empty());
            builder.with_root_certificates(system().as_ref().map_or_else(nobody, Arc::clone))
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

/// The system trusts no certificate authority that could be found; says where that was looked for.
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

/// Loads what these groups will trust, where that is the system's.
///
/// # Errors
/// When the system has none.
pub fn load_authorities(groups: &[Group]) -> Result<(), NoAuthorities> {
    let wants = |group: &Group| group.tls.as_ref().is_some_and(|tls| tls.trust == Trust::System);
    if groups.iter().any(wants) {
        system().as_ref().map_err(NoAuthorities::clone)?;
    }
    Ok(())
}

/// Read once, when first asked for: it is hundreds of files.
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

/// Believes anyone, as ALB does of its targets (AWS, "Target groups for your Application Load
/// Balancers"): what goes over such a connection is hidden from those who listen and from nobody
/// else. Signatures are not looked at either: they would prove the possession of a key
/// that is nobody's in particular.
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
