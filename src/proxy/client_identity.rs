//! The client of a request, and the trust in the peer that sent it.

use super::conn_info::ConnInfo;
use crate::config::settings;
use crate::http1::fields::Fields;
use crate::policy::headers::forwarded;
use std::net::IpAddr;

/// The client, from its connection and from the trusted proxies before the balancer.
pub(super) struct ClientIdentity {
    pub(super) address: IpAddr,
    pub(super) peer_is_trusted: bool,
    pub(super) came_over_tls: bool,
}

impl ClientIdentity {
    pub(super) fn of(client: &ConnInfo, listener: &settings::Listener, headers: &Fields) -> Self {
        let (peer, trusted) = (client.ends().source.ip(), &listener.trusted_proxies);
        let peer_is_trusted = !trusted.is_empty() && client.is_known() && trusted.contains(peer);
        Self {
            address: match peer_is_trusted {
                true => forwarded::client_address(peer, trusted, headers),
                false => peer,
            },
            peer_is_trusted,
            came_over_tls: match peer_is_trusted.then(|| forwarded::says_tls(headers)).flatten() {
                Some(said) => said,
                None => client.session().is_some(),
            },
        }
    }
}
