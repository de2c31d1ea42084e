//! `[listener.NAME.tls]`

use crate::config::certificate_files::CertificateFiles;
use crate::policy::tls::authorities::Authorities;
use crate::policy::tls::pair::Pair;

/// TLS settings of a listener.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// `certificates`, each as read from its files with the configuration; never empty.
    pub certificates: Vec<(CertificateFiles, Pair)>,
    /// `min_version`
    pub min_version: TlsVersion,
    /// `alpn`: the offered protocols; the first one that the client offers too is used. Empty is no
    /// ALPN.
    pub alpn: Vec<Alpn>,
    /// `client_auth`
    pub client_auth: ClientAuth,
    /// True if targets get header fields with the TLS version and cipher.
    pub tls_headers: bool,
}

/// A protocol that TLS agrees on (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// `h2`
    Http2,
    /// `http/1.1`
    Http1,
}

impl Alpn {
    /// Protocol id on the wire.
    pub fn id(self) -> &'static [u8] {
        match self {
            Alpn::Http2 => b"h2",
            Alpn::Http1 => b"http/1.1",
        }
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2
    V12,
    /// TLS 1.3
    V13,
}

/// Client certificates.
#[derive(Clone, Debug)]
pub enum ClientAuth {
    /// Clients are not asked for a certificate.
    Off,
    /// A certificate is optional; the target gets it unverified.
    Passthrough,
    /// A certificate of one of these authorities is required.
    Verify(Authorities),
}
