//! Why a connection that must open with a PROXY header is closed, in words that are few and fixed.

/// The cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyFault {
    /// It is from a peer that `trusted_proxies` does not name.
    Untrusted,
    /// The header was not whole after `timeouts.header_read`.
    TimedOut,
    /// The connection ended before the header did.
    PeerGone,
    /// What came is no PROXY header.
    NoHeader,
    /// It begins like one, and cannot be read.
    Malformed,
    /// It is longer than it may be.
    TooLong,
}

impl ProxyFault {
    /// All of them, in the order in which they are counted.
    pub const ALL: [Self; 6] = [
        Self::Untrusted,
        Self::TimedOut,
        Self::PeerGone,
        Self::NoHeader,
        Self::Malformed,
        Self::TooLong,
    ];

    /// Its word.
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
