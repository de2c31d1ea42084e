//! `[target_group.NAME.tls]`: verification of targets.

use rustls_pki_types::{CertificateDer, ServerName};
use std::hash::{Hash, Hasher};
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

/// `[target_group.NAME.tls]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetTls {
    /// Certificates that are accepted.
    pub trust: Trust,
    /// The name that every target's certificate must have; `None`: each target its own.
    pub server_name: Option<ServerName<'static>>,
}

/// The authorities whose certificates are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// `verify = false`: any certificate is accepted, as with ALB.
    Anyone,
    /// The certificate authorities that the operating system trusts.
    System,
    /// The authorities of `ca`; never empty.
    Authorities(Arc<[CertificateDer<'static>]>),
}

/// The required peer of a TLS connection to a target.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsPeer {
    /// The authorities whose certificates are accepted.
    pub trust: Trust,
    /// The name or address that the certificate must have; a name is sent as SNI (RFC 6066 section
    /// 3).
    pub name: ServerName<'static>,
    /// True if ALPN (RFC 7301) must agree on HTTP/2, false for HTTP/1.1.
    pub http2: bool,
}

impl TargetTls {
    /// Accepts any certificate, for each target's own name.
    pub const ANYONE: Self = Self { trust: Trust::Anyone, server_name: None };

    /// The required peer at this address. `host` is the host name of the target, if it has one;
    /// `http2` is true if the peer must speak HTTP/2.
    pub fn peer(&self, host: Option<&str>, address: IpAddr, http2: bool) -> TlsPeer {
        let own = || {
            let named = host.and_then(server_name);
            named.unwrap_or_else(|| ServerName::from(address))
        };
        let name = self.server_name.clone().unwrap_or_else(own);
        TlsPeer { trust: self.trust.clone(), name, http2 }
    }
}

/// Converts a name to the form in certificates: without the dot that ends an absolute name. `None`
/// if no certificate can have it.
pub fn server_name(text: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(text.strip_suffix('.').unwrap_or(text).to_owned()).ok()
}

impl Hash for Trust {
    /// Omits the certificates: they are long, and other fields usually differ too.
    fn hash<H: Hasher>(&self, state: &mut H) {
        mem::discriminant(self).hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expected_name_is_the_groups_else_the_hosts_else_the_address() {
        let named = |name: Option<&str>, host: Option<&str>| {
            let tls = TargetTls { trust: Trust::System, server_name: name.and_then(server_name) };
            tls.peer(host, [192, 0, 2, 1].into(), false).name.to_str().into_owned()
        };
        assert_eq!(named(Some("app.internal"), Some("db.example")), "app.internal");
        assert_eq!(named(Some("app.internal"), None), "app.internal");
        assert_eq!(named(None, Some("db.example.")), "db.example");
        assert_eq!(named(None, Some("a_b")), "a_b");
        assert_eq!(named(None, None), "192.0.2.1");
        assert_eq!(named(Some("2001:db8::1"), None), "2001:db8::1");
    }
}
