//! A listener's certificates as they are served, and how they are replaced while it serves.

use crate::config::certificate_files::{CertificateFiles, Unreadable};
use crate::config::settings::{ClientAuth, ListenerTls, TlsVersion};
use crate::policy::tls::alpn;
use crate::policy::tls::certificate::Certificate;
use crate::policy::tls::choice::{ByName, Choice};
use crate::policy::tls::pair::Pair;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// The certificates of one listener, shared by all workers.
pub struct Certificates {
    settings: ListenerTls,
    /// Keys that seal tickets, new ones every six hours; those before them open still. A listener
    /// has its own, so that no ticket leads past what another one asks of its clients.
    tickets: Arc<dyn ProducesTickets>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// Read once a handshake, for as long as it takes to copy a pointer.
    served: RwLock<Arc<Served>>,
}

/// What is served from one reading of the files.
pub struct Served {
    by_name: ByName,
    entries: Vec<CertificateEntry>,
}

/// One certificate, and handshakes with it.
pub(super) struct CertificateEntry {
    pair: Pair,
    /// Its name in the access log.
    pub(super) id: Arc<str>,
    config: Arc<ServerConfig>,
    /// The same without ALPN.
    without_alpn: Arc<ServerConfig>,
}

impl Certificates {
    /// What the configuration found in the files.
    ///
    /// # Errors
    /// When the library takes no part of it, which a checked configuration does not meet.
    pub fn new(settings: &ListenerTls) -> Result<Self, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier: Option<Arc<dyn ClientCertVerifier>> = match &settings.client_auth {
            ClientAuth::Off => None,
            ClientAuth::Passthrough => Some(Arc::new(Unverified(Arc::clone(&provider)))),
            ClientAuth::Verify(authorities) => {
                let roots = authorities.roots();
                let built = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                Some(built.map_err(|error| Error::General(error.to_string()))?)
            }
        };
        let mut made = Self {
            settings: settings.clone(),
            tickets: aws_lc_rs::Ticketer::new()?,
            verifier,
            served: RwLock::new(Arc::new(Served { by_name: ByName::default(), entries: vec![] })),
        };
        let pairs = settings.certificates.iter().map(|(_, pair)| pair.clone()).collect();
        made.served = RwLock::new(Arc::new(made.serve(pairs)?));
        Ok(made)
    }

    /// Reads the files anew. New handshakes use what they hold; connections under way are not
    /// touched. Where one of them is not fit, everything stays as it was.
    ///
    /// # Errors
    /// The files that are not fit, and why.
    pub fn reload(&self) -> Result<(), (CertificateFiles, Unreadable)> {
        let mut pairs = Vec::new();
        for (files, _) in &self.settings.certificates {
            match files.read() {
                Ok(pair) => pairs.push(pair),
                Err(error) => {
                    let (cert, key) = (files.cert.display(), files.key.display());
                    tracing::error!(%cert, %key, %error, "certificate reload failed, the old \
                                                          certificates stay in use");
                    return Err((files.clone(), error));
                }
            }
        }
        match self.serve(pairs) {
            Ok(served) => {
                *self.served.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(served);
            }
            // What the first reading passed, and does not depend on the files.
            Err(error) => {
                tracing::error!(%error, "certificate reload failed, the old certificates stay in \
                                         use")
            }
        }
        Ok(())
    }

    /// What is served now.
    pub fn current(&self) -> Arc<Served> {
        Arc::clone(&self.served.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether and how clients show a certificate.
    pub(super) fn settings(&self) -> &ListenerTls {
        &self.settings
    }

    fn serve(&self, pairs: Vec<Pair>) -> Result<Served, Error> {
        let entry = |pair: Pair| {
            let id = pair.certificate.id_text().into();
            let config = self.config(&pair)?;
            let mut without_alpn = config.clone();
            without_alpn.alpn_protocols.clear();
            let (config, without_alpn) = (Arc::new(config), Arc::new(without_alpn));
            Ok::<_, Error>(CertificateEntry { id, config, without_alpn, pair })
        };
        let by_name = ByName::of(pairs.iter().map(|pair| &pair.certificate));
        Ok(Served { by_name, entries: pairs.into_iter().map(entry).collect::<Result<_, _>>()? })
    }

    fn config(&self, pair: &Pair) -> Result<ServerConfig, Error> {
        let versions: &[_] = match self.settings.min_version {
            TlsVersion::V12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            TlsVersion::V13 => &[&rustls::version::TLS13],
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider).with_protocol_versions(versions)?;
        let builder = match &self.verifier {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        };
        let mut config =
            builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair.certified())));
        config.ignore_client_order = true;
        // What a session needs is in the client's ticket: nothing here grows with the clients.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if self.verifier.is_none() {
            config.ticketer = Arc::clone(&self.tickets);
        } else {
            // Each connection shows its certificate anew, as with ALB.
            config.send_tls13_tickets = 0;
        }
        config.alpn_protocols = self.settings.alpn.iter().map(|alpn| alpn.id().to_vec()).collect();
        Ok(config)
    }
}

impl CertificateEntry {
    /// The configuration of a handshake with this client.
    pub(super) fn config(&self, hello: &ClientHello<'_>) -> &Arc<ServerConfig> {
        let listed = self.config.alpn_protocols.iter().map(Vec::as_slice);
        let offered = hello.alpn().map(Iterator::collect::<Vec<_>>).unwrap_or_default();
        if alpn::is_ignored(listed, offered.iter().copied()) {
            &self.without_alpn
        } else {
            &self.config
        }
    }
}

impl Served {
    /// Each certificate, in the order of the file.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.entries.iter().map(|entry| &entry.pair.certificate)
    }

    /// Which of them this client is shown.
    pub(super) fn choose(&self, hello: &ClientHello<'_>) -> Option<(Choice, &CertificateEntry)> {
        let understood = |at: usize| {
            let (schemes, suites) = (hello.signature_schemes(), hello.cipher_suites());
            self.entries.get(at).is_some_and(|entry| entry.pair.is_understood(schemes, suites))
        };
        let choice = self.by_name.choose(hello.server_name(), understood);
        Some((choice, self.entries.get(choice.certificate)?))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.current().certificates()).finish()
    }
}

/// Takes any certificate a client shows and holds it only to having its key.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ClientCertVerifier for Unverified {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
