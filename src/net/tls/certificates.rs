//! A listener's certificates and their replacement during operation.

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
    /// Keys that seal tickets: new ones every six hours; the previous ones still open tickets. Each
    /// listener has its own keys, so that a ticket cannot bypass another listener's client
    /// verification.
    tickets: Arc<dyn ProducesTickets>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// Read once a handshake, for as long as it takes to copy a pointer.
    served: RwLock<Arc<Served>>,
}

/// The certificates of one reading of the files.
pub struct Served {
    by_name: ByName,
    entries: Vec<CertificateEntry>,
}

/// One certificate and the configuration of its handshakes.
pub(super) struct CertificateEntry {
    pair: Pair,
    /// The name in the access log.
    pub(super) id: Arc<str>,
    config: Arc<ServerConfig>,
    /// A copy of the configuration without ALPN.
    without_alpn: Arc<ServerConfig>,
}

impl Certificates {
    /// Builds the certificates that the configuration read from the files.
    ///
    /// # Errors
    /// If the library refuses a part of them, which does not occur with a checked configuration.
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

    /// Reads the files again. New handshakes use the new content; open connections are not
    /// affected. If one file is invalid, nothing changes.
    ///
    /// # Errors
    /// The invalid files and their errors.
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
            // Parts that do not depend on the files and passed at the first reading.
            Err(error) => {
                tracing::error!(%error, "certificate reload failed, the old certificates stay in \
                                         use")
            }
        }
        Ok(())
    }

    /// The certificates in use now.
    pub fn current(&self) -> Arc<Served> {
        Arc::clone(&self.served.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The listener's client verification settings.
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
        // The client's ticket holds the session: no state here grows with the number of clients.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if self.verifier.is_none() {
            config.ticketer = Arc::clone(&self.tickets);
        } else {
            // Each connection sends its client certificate again, as with ALB.
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

    /// Selects the certificate for this client.
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

/// Accepts any client certificate and verifies only the possession of its key.
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
