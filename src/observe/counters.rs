//! Counters. Each worker has its own set, which no other thread writes; a reader sums them.

use crate::policy::proxy_protocol::ProxyFault;
use crate::policy::tls::fault::HandshakeFault;
use std::sync::atomic::{AtomicU64, Ordering};

/// The counters of one worker, on their own cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    /// Client connections accepted.
    pub accepted: Counter,
    /// Client connections closed at accept: outside `allow_from` (known after the PROXY header, if
    /// there is one), over `limits.connections`, or at the reserved descriptors.
    pub refused: Counter,
    /// Pauses of accepting for lack of descriptors.
    pub accept_pauses: Counter,
    /// Exchanges that have ended.
    pub exchanges: Counter,
    /// Heads that could not be read: malformed, too long, too large, too late.
    pub unparsable: Counter,
    /// Requests that two servers may read differently, forwarded or not.
    pub not_compliant: Counter,
    /// Clients that moved to another target.
    pub moved: Counter,
    /// Dials of traffic to targets that failed.
    pub failed_dials: Counter,
    /// Requests sent again.
    pub retries: Counter,
    /// Trailer fields dropped because their names are not allowed in trailers.
    pub trailers_dropped: Counter,
    /// Interim responses of targets (1xx) dropped: the client speaks HTTP/1.1, where some clients
    /// take them for the final response, or the request had its maximum of them.
    pub interim_dropped: Counter,
    /// Reports to the control thread dropped because its queue was full.
    pub reports_dropped: Counter,
    /// Access records dropped because the writer was behind.
    pub records_dropped: Counter,
    /// Cookies sealed with a key that this balancer does not have.
    pub unknown_keys: Counter,
    /// Responses to clients with a pin of another node whose clock was more than a minute ahead of
    /// ours.
    pub clocks_ahead: Counter,
    /// Seconds by which the clock in the latest of these pins was ahead.
    pub clock_ahead_by: Latest,
    /// HTTP/2 requests refused before they became exchanges: too many at once, or too large
    /// together.
    pub refused_streams: Counter,
    /// HTTP/2 connections closed for abuse by the client.
    pub abusive: Counter,
    /// Successful TLS handshakes with clients.
    pub handshakes: Counter,
    /// Failed TLS handshakes with clients, by [`HandshakeFault`].
    pub handshake_faults: [Counter; HandshakeFault::ALL.len()],
    /// Connections closed for lack of a trusted PROXY header, by [`ProxyFault`].
    pub proxy_faults: [Counter; ProxyFault::ALL.len()],
}

/// A gauge: it has the latest value that was set.
#[derive(Debug, Default)]
pub struct Latest(AtomicU64);

impl Latest {
    /// Sets the value. Only the owner writes.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The latest value; 0 before the first.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A counter that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one, by a plain load and store: only the owner writes.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// Adds this many.
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// The current value.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
