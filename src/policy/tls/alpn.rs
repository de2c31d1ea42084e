//! ALPN (RFC 7301): the choice of the protocol for a connection. It is one that the listener lists,
//! or none.

/// HTTP/1.1 by its name in ALPN.
const HTTP1: &[u8] = b"http/1.1";
/// HTTP/1.0, which HTTP/1.1 servers speak too. It is the only protocol that `curl --http1.0`
/// offers.
const HTTP10: &[u8] = b"http/1.0";

/// Returns true if the client's offer is to be ignored, so that the handshake goes on without ALPN.
/// If no offered protocol is listed, the handshake ends with `no_application_protocol` (section
/// 3.2); but a listener with HTTP/1.1 also speaks HTTP/1.0, so a client that offers it gets a
/// handshake without a protocol.
pub(crate) fn is_ignored<'p>(
    listed: impl Iterator<Item = &'p [u8]> + Clone,
    offered: impl Iterator<Item = &'p [u8]> + Clone,
) -> bool {
    let is_listed = |protocol: &[u8]| listed.clone().any(|listed| listed == protocol);
    is_listed(HTTP1)
        && offered.clone().any(|offered| offered == HTTP10)
        && !offered.into_iter().any(is_listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_of_http_1_0_gets_no_protocol_if_http_1_1_is_listed() {
        for (listed, offered, expected) in [
            ("h2 http/1.1", "http/1.0", true),
            ("http/1.1", "http/1.0", true),
            ("http/1.1", "http/1.0 spdy/3", true),
            ("http/1.1", "h2 http/1.0", true),
            ("h2 http/1.1", "h2 http/1.0", false),
            ("http/1.1", "http/1.0 http/1.1", false),
            ("http/1.1", "h2", false),
            ("http/1.1", "http/0.9", false),
            ("h2", "http/1.0", false),
            ("", "http/1.0", false),
            ("http/1.1", "", false),
        ] {
            let words = |text: &'static str| text.split_whitespace().map(str::as_bytes);
            let ignored = is_ignored(words(listed), words(offered));
            assert_eq!(ignored, expected, "{listed:?} {offered:?}");
        }
    }
}
