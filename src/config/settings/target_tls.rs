//! `[target_group.NAME.tls]`: who a target must prove to be.

use rustls_pki_types::{CertificateDer, ServerName};
use std::hash::{Hash, Hasher};
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

/// `[target_group.NAME.tls]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetTls {
    /// Whose word is taken for a target's name.
    pub trust: Trust,
    /// The name every target must have; `None`: each its own.
    pub server_name: Option<ServerName<'static>>,
}

/// Whose word is taken for a target's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// `verify = false`: nobody's; any certificate will do, as with ALB.
    Anyone,
    /// The certificate authorities the operating system trusts.
    System,
    /// Those of `ca`; never empty.
    Authorities(Arc<[CertificateDer<'static>]>),
}

/// Who must be at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsPeer {
    /// Who may vouch for it.
    pub trust: Trust,
    /// The name or address its certificate must have; a name is sent as SNI (RFC 6066 section 3).
    pub name: ServerName<'static>,
    /// Whether HTTP/2 is what must be agreed on (ALPN, RFC 7301), else HTTP/1.1 is.
    pub http2: bool,
}

impl TargetTls {
    /// Any certificate, and each target's own name.
    pub const ANYONE: Self = Self { trust: Trust::Anyone, server_name: None };

    /// Who must be at this address, which was found by this host name if by one, and whether it
    /// must speak HTTP/2.
    pub fn peer(&self, host: Option<&str>, address: IpAddr, http2: bool) -> TlsPeer {
        let own = || {
            let named = host.and_then(server_name);
            named.unwrap_or_else(|| ServerName::from(address))
        };
        let name = self.server_name.clone().unwrap_or_else(own);
        TlsPeer { trust: self.trust.clone(), name, http2 }
    }
}

/// The name as certificates have it: without the dot that ends an absolute one. `None` for what no
/// certificate can have.
pub fn server_name(text: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(text.strip_suffix('.').unwrap_or(text).to_owned()).ok()
}

impl Hash for Trust {
    /// Without the certificates, which are long, and seldom all that differs.
    fn hash<H: Hasher>(&self, state: &mut H) {
        mem::discriminant(self).hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_asked_for_the_groups_name_else_its_own_else_its_address() {
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
