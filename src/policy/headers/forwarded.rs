//! X-Forwarded-*: who the client is, who may say so, and what the target is told.

use super::head::Refusal;
use crate::ground::cidr::AddressSet;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, header};
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// What becomes of `X-Forwarded-For` on its way to the target (AWS, "HTTP headers and Application
/// Load Balancers").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedForMode {
    /// The peer's address is added at the right.
    Append,
    /// It goes on as it came, and is not made where it is absent.
    Preserve,
    /// It is removed.
    Remove,
}

/// `X-Forwarded-For`
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `X-Forwarded-Proto`
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `X-Forwarded-Port`
pub const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// The most entries of X-Forwarded-For (ALB answers 463 to more; we take it for a loop).
pub const MOST_ENTRIES: usize = 30;

/// The client's address: the peer, or, where the peer is trusted, the right-most entry of
/// X-Forwarded-For that is not trusted itself. An entry that is no address ends the search at the
/// last one that was.
pub fn client_address(peer: IpAddr, trusted: &AddressSet, headers: &HeaderMap) -> IpAddr {
    if trusted.is_empty() || !trusted.contains(peer) {
        return peer;
    }
    let mut client = peer;
    for entry in entries(headers).rev() {
        let Some(address) = address_of(entry) else { break };
        client = address;
        if !trusted.contains(address) {
            break;
        }
    }
    client
}

fn entries(headers: &HeaderMap) -> impl DoubleEndedIterator<Item = &str> {
    let lines = headers.get_all(X_FORWARDED_FOR).iter();
    lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).map(str::trim)
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` and `[2001:db8::1]:80`.
fn address_of(entry: &str) -> Option<IpAddr> {
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    bare.parse().ok().or_else(|| entry.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// What is said of a connection with each of its requests, as field values.
#[derive(Clone, Debug)]
pub struct Introduction {
    address: HeaderValue,
    port: HeaderValue,
}

impl Introduction {
    /// Of a client that connected from `peer` to our `port`.
    pub fn new(peer: IpAddr, port: u16) -> Self {
        let address = peer.to_canonical().to_string();
        // An address is made of letters, digits, dots and colons.
        #[allow(clippy::expect_used)]
        let address = HeaderValue::try_from(address).expect("an address is a field value");
        Self { address, port: HeaderValue::from(port) }
    }
}

/// What is said of the client to the target.
#[derive(Clone, Copy, Debug)]
pub struct Forwarding<'c> {
    /// Who connected.
    pub peer: IpAddr,
    /// The same, ready to be written, and the port it connected to.
    pub introduction: &'c Introduction,
    /// Whether the peer's own X-Forwarded-Proto and -Port are believed.
    pub peer_is_trusted: bool,
    /// What becomes of X-Forwarded-For.
    pub mode: ForwardedForMode,
}

/// Removes what an untrusted client may not say, then writes what is true. Call it after
/// hop-by-hop stripping, so that nothing written here can be stripped at the client's wish.
///
/// # Errors
/// [`Refusal::ForwardingLoop`] for more than [`MOST_ENTRIES`] entries.
pub fn write(headers: &mut HeaderMap, forwarding: Forwarding<'_>) -> Result<Hygiene, Refusal> {
    let Forwarding { introduction, peer_is_trusted, .. } = forwarding;
    let (hygiene, is_listed) = look_at_names(headers, peer_is_trusted);
    if is_listed && entries(headers).count() > MOST_ENTRIES {
        return Err(Refusal::ForwardingLoop);
    }
    match forwarding.mode {
        ForwardedForMode::Append if is_listed => append(headers, forwarding.peer),
        ForwardedForMode::Append => {
            headers.insert(X_FORWARDED_FOR, introduction.address.clone());
        }
        ForwardedForMode::Preserve => {}
        ForwardedForMode::Remove => {
            headers.remove(X_FORWARDED_FOR);
        }
    }
    let believed = |name: HeaderName| peer_is_trusted && headers.contains_key(name);
    let (proto, port) = (believed(X_FORWARDED_PROTO), believed(X_FORWARDED_PORT));
    if !proto {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if !port {
        headers.insert(X_FORWARDED_PORT, introduction.port.clone());
    }
    Ok(hygiene)
}

fn append(headers: &mut HeaderMap, peer: IpAddr) {
    let peer = peer.to_canonical();
    let mut text = String::with_capacity(64);
    for line in headers.get_all(X_FORWARDED_FOR) {
        if let Ok(line) = line.to_str() {
            let comma = if text.is_empty() { "" } else { ", " };
            text.push_str(comma);
            text.push_str(line);
        }
    }
    // ALB brackets an IPv6 address only when it adds to an existing list. Writing to a String
    // cannot fail.
    let _ = match peer {
        _ if text.is_empty() => write!(text, "{peer}"),
        IpAddr::V4(peer) => write!(text, ", {peer}"),
        IpAddr::V6(peer) => write!(text, ", [{peer}]"),
    };
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(X_FORWARDED_FOR, value);
    }
}

/// What was found among the names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hygiene {
    /// A name that reads as Content-Length or Transfer-Encoding once its punctuation is taken
    /// away. It never reaches a target, and both connections are closed after the exchange.
    pub suspicious: bool,
}

/// Removes names that only the balancer may say, in any spelling, and names whose underscore form
/// a target may take for one that was checked here; and what only a trusted peer may say of the
/// way so far. Also says whether there is an X-Forwarded-For: one walk is cheaper than a walk and a
/// lookup.
fn look_at_names(headers: &mut HeaderMap, peer_is_trusted: bool) -> (Hygiene, bool) {
    let mut is_listed = false;
    let mut hygiene = Hygiene::default();
    let mut removed: Vec<HeaderName> = Vec::new();
    for name in headers.keys() {
        let text = name.as_str();
        let ours = text.starts_with("x-") && is_ours(text);
        is_listed |= text == "x-forwarded-for";
        let of_the_way = matches!(text, "x-forwarded-host" | "forwarded" | "x-real-ip");
        let disguised = text.bytes().any(|byte| !byte.is_ascii_alphanumeric() && byte != b'-');
        if disguised {
            let plain = text.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
            let framing: String = plain.chars().filter(char::is_ascii_alphanumeric).collect();
            let suspicious = framing == "contentlength" || framing == "transferencoding";
            hygiene.suspicious |= suspicious;
            let checked = ["forwarded", "x-real-ip", "host", "cookie", "connection"];
            if suspicious
                || is_ours(&plain)
                || plain.starts_with("x-forwarded-")
                || checked.contains(&plain.as_str())
            {
                removed.push(name.clone());
            }
        } else if ours || of_the_way && !peer_is_trusted {
            removed.push(name.clone());
        }
    }
    for name in removed {
        headers.remove(name);
    }
    (hygiene, is_listed)
}

/// Names only the balancer says.
pub fn is_ours(name: &str) -> bool {
    ["x-stayput-", "x-amzn-mtls-", "x-amzn-tls-"].iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a trusted proxy says that the client came over TLS.
pub fn says_tls(headers: &HeaderMap) -> bool {
    let proto = headers.get(X_FORWARDED_PROTO).map(header::HeaderValue::as_bytes);
    proto.is_some_and(|proto| proto.eq_ignore_ascii_case(b"https"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[&str]) -> AddressSet {
        AddressSet::new(ranges.iter().map(|range| range.parse().unwrap()).collect())
    }

    fn with(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        headers
    }

    #[track_caller]
    fn client(peer: &str, lines: &[&str], expected: &str) {
        let fields: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
        let trusted = set(&["10.0.0.0/8"]);
        let got = client_address(peer.parse().unwrap(), &trusted, &with(&fields));
        assert_eq!(got, expected.parse::<IpAddr>().unwrap(), "{peer} {lines:?}");
    }

    #[test]
    fn the_client_is_the_right_most_entry_nobody_vouches_for() {
        client("192.0.2.9", &["198.51.100.1"], "192.0.2.9");
        client("10.0.0.1", &[], "10.0.0.1");
        client("10.0.0.1", &["6.6.6.6, 198.51.100.1, 10.0.0.7"], "198.51.100.1");
        client("10.0.0.1", &["6.6.6.6", "198.51.100.1:1234"], "198.51.100.1");
        client("10.0.0.1", &["[2001:db8::1]:80"], "2001:db8::1");
        client("10.0.0.1", &["10.0.0.2"], "10.0.0.2");
        client("10.0.0.1", &["6.6.6.6, nonsense, 10.0.0.3"], "10.0.0.3");
    }

    fn forward(
        headers: &mut HeaderMap,
        peer_is_trusted: bool,
        mode: ForwardedForMode,
    ) -> Result<Hygiene, Refusal> {
        let peer = "192.0.2.9".parse().unwrap();
        let introduction = &Introduction::new(peer, 8080);
        write(headers, Forwarding { peer, introduction, peer_is_trusted, mode })
    }

    #[test]
    fn a_strangers_word_about_the_way_is_replaced() {
        let mut headers = with(&[
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "443"),
            ("x-forwarded-host", "evil"),
            ("x-real-ip", "6.6.6.6"),
            ("forwarded", "for=6.6.6.6"),
        ]);
        forward(&mut headers, false, ForwardedForMode::Append).unwrap();
        assert_eq!(headers["x-forwarded-for"], "6.6.6.6, 192.0.2.9");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-port"], "8080");
        assert_eq!(headers.len(), 3);
    }

    #[test]
    fn a_trusted_peers_word_stands() {
        let mut headers = with(&[("x-forwarded-proto", "https"), ("x-forwarded-host", "shop")]);
        forward(&mut headers, true, ForwardedForMode::Append).unwrap();
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "shop");
        assert_eq!(headers["x-forwarded-port"], "8080");
    }

    #[test]
    fn forwarded_for_is_appended_preserved_or_removed() {
        let run = |mode| {
            let mut headers = with(&[("x-forwarded-for", "a"), ("x-forwarded-for", "b")]);
            forward(&mut headers, false, mode).unwrap();
            let lines = headers.get_all("x-forwarded-for").iter();
            lines.map(|line| line.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(run(ForwardedForMode::Append), ["a, b, 192.0.2.9"]);
        assert_eq!(run(ForwardedForMode::Preserve), ["a", "b"]);
        assert!(run(ForwardedForMode::Remove).is_empty());
    }

    #[test]
    fn more_than_thirty_entries_are_a_loop() {
        let list = |count| vec!["192.0.2.1"; count].join(",");
        let mut thirty = with(&[("x-forwarded-for", &list(30))]);
        assert!(forward(&mut thirty, false, ForwardedForMode::Append).is_ok());
        let mut more = with(&[("x-forwarded-for", &list(29)), ("x-forwarded-for", "a, b")]);
        let got = forward(&mut more, false, ForwardedForMode::Append);
        assert_eq!(got, Err(Refusal::ForwardingLoop));
    }

    #[test]
    fn our_own_names_are_removed_in_every_spelling() {
        let mut headers = with(&[
            ("x-stayput-verdict", "hit"),
            ("x_stayput_verdict", "hit"),
            ("x-amzn-mtls-clientcert", "x"),
            ("x_amzn-tls_version", "x"),
            ("x_forwarded_for", "6.6.6.6"),
            ("content_length", "5"),
            ("x-shop", "kept"),
            ("x_shop", "kept"),
        ]);
        let got = forward(&mut headers, true, ForwardedForMode::Remove).unwrap();
        assert!(got.suspicious);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["x-forwarded-port", "x-forwarded-proto", "x-shop", "x_shop"]);
    }
}
