//! Reasons for closing a connection without a valid PROXY header, as a fixed set of words.

/// The reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyFault {
    /// The peer is not in `trusted_proxies`.
    Untrusted,
    /// The header was incomplete after `timeouts.header_read`.
    TimedOut,
    /// The connection ended before the header did.
    PeerGone,
    /// The bytes are not a PROXY header.
    NoHeader,
    /// The bytes begin like a header but cannot be parsed.
    Malformed,
    /// The header is longer than the maximum.
    TooLong,
}

impl ProxyFault {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 6] = [
        Self::Untrusted,
        Self::TimedOut,
        Self::PeerGone,
        Self::NoHeader,
        Self::Malformed,
        Self::TooLong,
    ];

    /// The reason's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::TimedOut => "timed_out",
            Self::PeerGone => "peer_gone",
            Self::NoHeader => "no_header",
            Self::Malformed => "malformed",
            Self::TooLong => "too_long",
        }
    }
}
