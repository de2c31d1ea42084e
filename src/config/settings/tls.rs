//! `[listener.NAME.tls]`

use crate::config::certificate_files::CertificateFiles;
use crate::policy::tls::authorities::Authorities;
use crate::policy::tls::pair::Pair;

/// How a listener speaks TLS.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// `certificates`, each as its files had it when the configuration was read; never empty.
    pub certificates: Vec<(CertificateFiles, Pair)>,
    /// `min_version`
    pub min_version: TlsVersion,
    /// `alpn`: whether `http/1.1` is offered; else no protocol is.
    pub offers_http1: bool,
    /// `client_auth`
    pub client_auth: ClientAuth,
    /// Whether targets are told version and cipher.
    pub tls_headers: bool,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2
    V12,
    /// TLS 1.3
    V13,
}

/// Whether clients show a certificate.
#[derive(Clone, Debug)]
pub enum ClientAuth {
    /// They are not asked.
    Off,
    /// They may; the target gets what they showed, and nobody has verified it.
    Passthrough,
    /// They must, one of these authorities'.
    Verify(Authorities),
}
