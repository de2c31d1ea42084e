//! TLS: towards a target here, with clients in the files below.
//!
//! The cryptography is named here and not taken from the process: with two providers in the tree
//! the library has no default, and says so by a panic at the first handshake.

pub mod acceptor;
pub mod certificates;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A connection to a target after the handshake.
pub type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

/// Makes handshakes, all with one configuration. A clone is the same one.
#[derive(Clone)]
pub struct Connector(TlsConnector);

impl Connector {
    /// Takes whatever certificate a target shows, as ALB does of its targets (AWS, "Target groups
    /// for your Application Load Balancers"). What goes over such a connection is hidden from those
    /// who listen and from nobody else.
    pub fn unverified() -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let anyone = Arc::new(Anyone(Arc::clone(&provider)));
        let builder = ClientConfig::builder_with_provider(provider);
        // It fails for a provider that lacks what TLS 1.2 and 1.3 need, and this one does not.
        #[allow(clippy::expect_used)]
        let builder = builder.with_safe_default_protocol_versions().expect("aws-lc-rs has both");
        let mut config =
            builder.dangerous().with_custom_certificate_verifier(anyone).with_no_client_auth();
        // Each check stands on its own: one that resumes would not see a key that is gone.
        config.resumption = Resumption::disabled();
        Self(TlsConnector::from(Arc::new(config)))
    }

    /// Shakes hands over a connection with `address`. A host name is sent as SNI; an address never
    /// is (RFC 6066 section 3), so without a name there is none.
    ///
    /// # Errors
    /// When the target does not speak TLS, or no TLS we do.
    pub async fn connect(
        &self,
        stream: TcpStream,
        address: IpAddr,
        name: Option<&str>,
    ) -> io::Result<TlsStream> {
        // A name that DNS takes and TLS does not, one with an underscore, goes without SNI.
        let named = name.and_then(|name| ServerName::try_from(name.to_owned()).ok());
        let name = named.unwrap_or_else(|| ServerName::from(address));
        self.0.connect(name, stream).await
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

/// Believes anyone. Signatures are not looked at either: they would prove the possession of a key
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
