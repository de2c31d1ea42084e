//! Facts about a client connection from accept to close, independent of its requests.

use super::token_cache::Slot;
use crate::base::clock::Moment;
use crate::model::live::TargetState;
use crate::net::pool::{ConnId, Owner};
use crate::net::tls::acceptor::Session;
use crate::policy::headers::forwarded::ForwardedValues;
use crate::policy::proxy_protocol::{Ends, ProxySource};
use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

/// A client connection.
#[derive(Debug)]
pub(crate) struct ConnInfo {
    /// The connection's number in its worker.
    pub id: ConnId,
    /// The remote address of the socket; [`ConnInfo::ends`] gives the client's address.
    pub peer: SocketAddr,
    /// The local address of the socket.
    pub local: SocketAddr,
    /// Index of the listener.
    pub listener: usize,
    /// Time of the accept.
    pub accepted: Moment,
    /// The slot of the token last received or sent on it, in the worker's cache.
    pub last_token: Cell<Slot>,
    /// The PROXY header; empty without one.
    proxy_source: OnceCell<Box<ProxySource>>,
    /// The TLS session; empty without TLS.
    session: OnceCell<Box<Session>>,
    /// Empty unless a target's connection was authenticated for this client connection.
    owner: OnceCell<(Rc<Owner>, RefCell<Weak<TargetState>>)>,
    forwarded_values: OnceCell<ForwardedValues>,
    peer_text: OnceCell<EndText>,
    source_text: OnceCell<EndText>,
    trace_id: OnceCell<[u64; 2]>,
    _permit: ConnPermit,
}

impl ConnInfo {
    /// A connection just accepted.
    pub(crate) fn new(
        id: ConnId,
        (peer, local): (SocketAddr, SocketAddr),
        listener: usize,
        accepted: Moment,
        permit: ConnPermit,
    ) -> Self {
        Self {
            id,
            peer,
            local,
            listener,
            accepted,
            last_token: Cell::default(),
            proxy_source: OnceCell::new(),
            session: OnceCell::new(),
            owner: OnceCell::new(),
            forwarded_values: OnceCell::new(),
            peer_text: OnceCell::new(),
            source_text: OnceCell::new(),
            trace_id: OnceCell::new(),
            _permit: permit,
        }
    }

    /// The forwarding fields for targets, with the client's port if `client_port` is true. Built at
    /// the first request, because many connections never send one; the same for all later ones.
    pub(crate) fn forwarded_values(&self, client_port: bool) -> &ForwardedValues {
        let is_tls = self.session().is_some();
        let Ends { source, destination } = self.ends();
        let new = || ForwardedValues::new(source, destination.port(), is_tls, client_port);
        self.forwarded_values.get_or_init(new)
    }

    /// Records the PROXY header.
    pub(crate) fn set_proxy_source(&self, proxy_source: ProxySource) {
        // A connection has one header.
        let _ = self.proxy_source.set(Box::new(proxy_source));
    }

    /// The source and destination address: from the PROXY header, else from the socket.
    pub(crate) fn ends(&self) -> Ends {
        match self.proxy_source.get().map(|proxy_source| &**proxy_source) {
            Some(ProxySource::Client(ends)) => *ends,
            _ => Ends { source: self.peer, destination: self.local },
        }
    }

    /// Returns true unless the PROXY header names no client (UNKNOWN, UNSPEC). Then the peer, even
    /// if trusted, only forwards fields of an unknown sender.
    pub(crate) fn is_known(&self) -> bool {
        !matches!(self.proxy_source.get().map(|source| &**source), Some(ProxySource::Someone))
    }

    /// Gives this connection target connections of its own from now on.
    pub(crate) fn own_connections(&self) {
        self.owner.get_or_init(Default::default);
    }

    /// The owner of its target connections, if it has its own.
    pub(crate) fn owner(&self) -> Option<&Rc<Owner>> {
        self.owner.get().map(|(owner, _)| owner)
    }

    /// Records the target of its own connection.
    pub(crate) fn stay_with(&self, target: &Arc<TargetState>) {
        if let Some((_, at)) = self.owner.get() {
            *at.borrow_mut() = Arc::downgrade(target);
        }
    }

    /// Returns true if its own connection is to this target.
    pub(crate) fn stays_with(&self, target: &Arc<TargetState>) -> bool {
        let own = self.owner.get();
        own.is_some_and(|(_, at)| std::ptr::eq(at.borrow().as_ptr(), Arc::as_ptr(target)))
    }

    /// Records the TLS session of the handshake.
    pub(crate) fn secured(&self, session: Session) {
        // A connection has one handshake.
        let _ = self.session.set(Box::new(session));
    }

    /// The TLS session, if there was a handshake.
    pub(crate) fn session(&self) -> Option<&Session> {
        self.session.get().map(|session| &**session)
    }

    /// The peer's address and port as text, built for the first record.
    pub(crate) fn peer_text(&self) -> &str {
        &self.peer_end_text().text
    }

    /// The source address and port as text, from the PROXY header if there is one.
    pub(crate) fn source_text(&self) -> &str {
        &self.source_end_text().text
    }

    /// The source address as text, without the port.
    pub(crate) fn source_address_text(&self) -> &str {
        self.source_end_text().address()
    }

    fn peer_end_text(&self) -> &EndText {
        self.peer_text.get_or_init(|| EndText::of(self.peer))
    }

    fn source_end_text(&self) -> &EndText {
        match self.proxy_source.get() {
            None => self.peer_end_text(),
            Some(_) => self.source_text.get_or_init(|| EndText::of(self.ends().source)),
        }
    }

    /// A random id of the connection, made from `random` at the first call.
    pub(crate) fn trace_id(&self, random: impl Fn() -> u64) -> [u64; 2] {
        *self.trace_id.get_or_init(|| [random(), random()])
    }
}

/// An address and port as text, for example `[2001:db8::1]:80`.
#[derive(Debug)]
struct EndText {
    text: Box<str>,
    /// Offsets of the address within the text.
    address_begin: u8,
    address_end: u8,
}

impl EndText {
    fn of(end: SocketAddr) -> Self {
        let text = end.to_string().into_boxed_str();
        let brackets = usize::from(text.starts_with('['));
        let address_end = text.rfind(':').map_or(0, |colon| colon - brackets);
        // The longest has 58 bytes.
        Self { text, address_begin: brackets as u8, address_end: address_end as u8 }
    }

    fn address(&self) -> &str {
        let place = usize::from(self.address_begin)..usize::from(self.address_end);
        self.text.get(place).unwrap_or_default()
    }
}

/// One of a listener's permits for connections; given back when dropped.
#[derive(Debug)]
pub(crate) struct ConnPermit(Arc<AtomicU32>);

impl ConnPermit {
    /// Takes a permit, if the listener has one left.
    pub(crate) fn take(open: &Arc<AtomicU32>, most: u32) -> Option<Self> {
        let enter = |count| (count < most).then_some(count + 1);
        let taken = open.try_update(Ordering::Relaxed, Ordering::Relaxed, enter).is_ok();
        taken.then(|| Self(Arc::clone(open)))
    }
}

impl Drop for ConnPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_gives_no_more_permits_than_its_maximum() {
        let open = Arc::new(AtomicU32::new(0));
        let place = ConnPermit::take(&open, 1);
        assert!(place.is_some() && ConnPermit::take(&open, 1).is_none());
        drop(place);
        assert!(ConnPermit::take(&open, 1).is_some());
    }

    #[test]
    fn an_address_is_printed_without_its_port() {
        for (end, address) in
            [("192.0.2.1:80", "192.0.2.1"), ("[2001:db8::1]:80", "2001:db8::1"), ("[::1]:1", "::1")]
        {
            let text = EndText::of(end.parse().unwrap());
            assert_eq!((&*text.text, text.address()), (end, address));
        }
    }
}
