//! TLS of the generator's clients: one version, one cipher suite, one group, and counted tickets.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, HandshakeKind, NamedGroup, SignatureScheme,
};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificate::SERVER_NAME;
use crate::measure::Handshakes;

/// Opens connections to one balancer, one after the other, as one client.
pub(crate) struct Dialer {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    tickets: Arc<Tickets>,
    /// The protocol for ALPN.
    protocol: &'static [u8],
}

/// `ServerName` of the certificate.
pub(crate) fn server_name() -> ServerName<'static> {
    // A constant, and a name.
    #[allow(clippy::expect_used)]
    ServerName::try_from(SERVER_NAME).expect("a host name")
}

/// For clients that send one request, over HTTP/1.1.
pub(crate) fn arrivals() -> Arc<ClientConfig> {
    Arc::new(config(HTTP1, &Arc::new(Tickets::unused())))
}

pub(crate) const HTTP1: &[u8] = b"http/1.1";
pub(crate) const HTTP2: &[u8] = b"h2";

impl Dialer {
    /// A dialer that uses the tickets it gets if it `resumes`.
    pub(crate) fn new(address: SocketAddr, protocol: &'static [u8], resumes: bool) -> Self {
        let tickets = Arc::new(Tickets { resumes, ..Tickets::unused() });
        Self { address, config: Arc::new(config(protocol, &tickets)), tickets, protocol }
    }

    /// Connects with a TLS handshake, from an address of its own if one is named.
    ///
    /// # Errors
    ///
    /// As with any connection, and if it is not TLS 1.3 with the requested protocol.
    pub(crate) async fn dial(
        &self,
        source: Option<Ipv4Addr>,
    ) -> io::Result<(TlsStream<TcpStream>, Handshakes)> {
        let socket = TcpSocket::new_v4()?;
        if let Some(source) = source {
            socket.bind((source, 0).into())?;
        }
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream = connector.connect(server_name(), stream).await?;
        let session = stream.get_ref().1;
        if session.alpn_protocol() != Some(self.protocol) {
            return Err(io::Error::other("another protocol than the one asked for"));
        }
        let resumed = u64::from(session.handshake_kind() == Some(HandshakeKind::Resumed));
        Ok((stream, Handshakes { made: 1, resumed, tickets: 0 }))
    }

    /// Number of tickets since the last call.
    pub(crate) fn take_ticket_count(&self) -> u64 {
        self.tickets.given.swap(0, Ordering::Relaxed)
    }
}

fn config(protocol: &[u8], tickets: &Arc<Tickets>) -> ClientConfig {
    let mut provider = aws_lc_rs::default_provider();
    // A suite that all balancers have, so that none pays for a better cipher than the others.
    provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let provider = Arc::new(provider);
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    // It fails for a provider without a suite of this version, and this one has one.
    #[allow(clippy::expect_used)]
    let builder =
        builder.with_protocol_versions(&[&rustls::version::TLS13]).expect("one suite of TLS 1.3");
    let verifier = Arc::new(Anyone(provider));
    let mut config =
        builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let store: Arc<dyn ClientSessionStore> = Arc::clone(tickets) as _;
    config.resumption = Resumption::store(store);
    config
}

/// The tickets of one client: the newest is used, once.
#[derive(Debug)]
struct Tickets {
    resumes: bool,
    newest: Mutex<Option<Tls13ClientSessionValue>>,
    given: AtomicU64,
}

impl Tickets {
    fn unused() -> Self {
        Self { resumes: false, newest: Mutex::new(None), given: AtomicU64::new(0) }
    }
}

impl ClientSessionStore for Tickets {
    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.given.fetch_add(1, Ordering::Relaxed);
        if self.resumes {
            *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(ticket);
        }
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
}

/// Accepts any certificate: the balancer's signature costs it the same, and the generator has less
/// to do.
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
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
