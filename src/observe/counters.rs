//! What is counted. Each worker has its own set and nobody else writes it; a reader adds them up.

use crate::policy::proxy_protocol::ProxyFault;
use crate::policy::tls::fault::HandshakeFault;
use std::sync::atomic::{AtomicU64, Ordering};

/// One worker's counters, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    /// Client connections accepted.
    pub accepted: Counter,
    /// Client connections closed at accept: not in `allow_from` (which with a PROXY header is known
    /// once that was read), over `limits.connections`, or at the descriptors kept back.
    pub refused: Counter,
    /// Times accepting paused because descriptors had run out.
    pub accept_pauses: Counter,
    /// Exchanges that ended.
    pub exchanges: Counter,
    /// Heads that could not be read: malformed, too long, too large, too late.
    pub unparsable: Counter,
    /// Requests that could be read in two ways, whatever was done with them.
    pub not_compliant: Counter,
    /// Clients that moved to another target.
    pub moved: Counter,
    /// Dials of traffic to targets that failed.
    pub failed_dials: Counter,
    /// Requests sent again.
    pub retries: Counter,
    /// Trailers dropped because their name may not be one.
    pub trailers_dropped: Counter,
    /// Interim answers of targets (1xx) dropped: the client speaks HTTP/1.1, where some take them for
    /// the answer, or they were past a request's bound.
    pub interim_dropped: Counter,
    /// Reports to the control thread dropped because its queue was full.
    pub reports_dropped: Counter,
    /// Access records dropped because the writer was behind.
    pub records_dropped: Counter,
    /// Cookies sealed with a key this balancer lacks.
    pub unknown_keys: Counter,
    /// Answers to clients whose pin another node made while its clock was far ahead of ours.
    pub clocks_ahead: Counter,
    /// By how many seconds, the last time.
    pub clock_ahead_by: Latest,
    /// Requests over HTTP/2 refused unseen: too many at once, or too large together.
    pub refused_streams: Counter,
    /// HTTP/2 connections closed for what their client did with them.
    pub abusive: Counter,
    /// Handshakes with clients that succeeded.
    pub handshakes: Counter,
    /// Those that failed, each under its [`HandshakeFault`].
    pub handshake_faults: [Counter; HandshakeFault::ALL.len()],
    /// Connections closed for want of a PROXY header that is believed, each under its
    /// [`ProxyFault`].
    pub proxy_faults: [Counter; ProxyFault::ALL.len()],
}

/// The latest of the values there were.
#[derive(Debug, Default)]
pub struct Latest(AtomicU64);

impl Latest {
    /// Takes the place of the one before. Only its owner writes.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// What it is; 0 before there was one.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that only goes up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more. A plain load and store: only its owner writes.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// What it stands at.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
