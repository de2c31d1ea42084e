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
    /// `alpn`: what is offered, the first that the client offers too is taken; empty is nothing.
    pub alpn: Vec<Alpn>,
    /// `client_auth`
    pub client_auth: ClientAuth,
    /// Whether targets are told version and cipher.
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
    /// As it goes over the wire.
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
