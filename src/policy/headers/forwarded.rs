//! X-Forwarded-*: who the client is, who may say so, and what the target is told.

use super::head::Refusal;
use super::names::{Names, is_ours, is_suspicious, is_valid};
use crate::ground::cidr::AddressSet;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, header};
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

/// Bytes, not text: an entry that is none must not take the line with it on which a proxy has added
/// who sent it.
fn entries(headers: &HeaderMap) -> impl DoubleEndedIterator<Item = &[u8]> {
    let lines = headers.get_all(X_FORWARDED_FOR).iter().map(HeaderValue::as_bytes);
    lines.flat_map(|line| line.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii)
}

/// Whether so many proxies have passed the request on that it goes round in circles.
pub fn is_loop(headers: &HeaderMap) -> bool {
    entries(headers).count() > MOST_ENTRIES
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` and `[2001:db8::1]:80`.
fn address_of(entry: &[u8]) -> Option<IpAddr> {
    let entry = std::str::from_utf8(entry).ok()?;
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    bare.parse().ok().or_else(|| entry.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// What is said of a connection with each of its requests, as field values.
#[derive(Clone, Debug)]
pub struct Introduction {
    client: HeaderValue,
    /// Whether `client` is an IPv6 address without brackets.
    is_bare: bool,
    port: HeaderValue,
    proto: &'static str,
}

impl Introduction {
    /// Of a client that connected from `peer` to our `port`, over TLS or not; `client_port` says
    /// whether targets are told the client's port too.
    pub fn new(peer: SocketAddr, port: u16, is_tls: bool, client_port: bool) -> Self {
        let address = peer.ip().to_canonical();
        let client = match client_port {
            true => SocketAddr::new(address, peer.port()).to_string(),
            false => address.to_string(),
        };
        // An address is made of letters, digits, dots, colons and brackets.
        #[allow(clippy::expect_used)]
        let client = HeaderValue::try_from(client).expect("an address is a field value");
        let is_bare = address.is_ipv6() && !client_port;
        let proto = if is_tls { "https" } else { "http" };
        Self { client, is_bare, port: HeaderValue::from(port), proto }
    }
}

/// What is said of the client to the target.
#[derive(Clone, Copy, Debug)]
pub struct Forwarding<'c> {
    /// Who connected, and the port it connected to.
    pub introduction: &'c Introduction,
    /// Whether the peer's own X-Forwarded-Proto and -Port are believed.
    pub peer_is_trusted: bool,
    /// What becomes of X-Forwarded-For. Only [`ForwardedForMode::Append`] says who connected.
    pub mode: ForwardedForMode,
    /// What the names of the request's fields say.
    pub names: Names,
}

/// Removes what an untrusted client may not say, then writes what is true. Call it after
/// hop-by-hop stripping, so that nothing written here can be stripped at the client's wish.
///
/// # Errors
/// [`Refusal::ForwardingLoop`] for more than [`MOST_ENTRIES`] entries.
pub fn write(headers: &mut HeaderMap, forwarding: Forwarding<'_>) -> Result<(), Refusal> {
    let Forwarding { introduction, peer_is_trusted, mode, names } = forwarding;
    let is_listed = names.forwarded_for;
    if names.ours || names.invalid || names.suspicious || names.of_the_way && !peer_is_trusted {
        remove_untrue(headers, peer_is_trusted);
    }
    if is_listed && is_loop(headers) {
        return Err(Refusal::ForwardingLoop);
    }
    match mode {
        ForwardedForMode::Append if is_listed => append(headers, introduction),
        ForwardedForMode::Append => {
            headers.insert(X_FORWARDED_FOR, introduction.client.clone());
        }
        ForwardedForMode::Preserve => {}
        ForwardedForMode::Remove => {
            headers.remove(X_FORWARDED_FOR);
        }
    }
    let believed = |name: HeaderName| peer_is_trusted && headers.contains_key(name);
    let (proto, port) = (believed(X_FORWARDED_PROTO), believed(X_FORWARDED_PORT));
    if !proto {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(introduction.proto));
    }
    if !port {
        headers.insert(X_FORWARDED_PORT, introduction.port.clone());
    }
    Ok(())
}

fn append(headers: &mut HeaderMap, introduction: &Introduction) {
    let client = introduction.client.as_bytes();
    let mut list = Vec::with_capacity(64);
    for line in headers.get_all(X_FORWARDED_FOR).iter().filter(|line| !line.is_empty()) {
        let comma: &[u8] = if list.is_empty() { b"" } else { b", " };
        list.extend_from_slice(comma);
        list.extend_from_slice(line.as_bytes());
    }
    // ALB brackets an IPv6 address only when it adds to an existing list.
    match introduction.is_bare {
        _ if list.is_empty() => list.extend_from_slice(client),
        false => list.extend_from_slice(&[b", ", client].concat()),
        true => list.extend_from_slice(&[b", [", client, b"]"].concat()),
    }
    if let Ok(value) = HeaderValue::try_from(list) {
        headers.insert(X_FORWARDED_FOR, value);
    }
}

/// Removes names that only the balancer may say, in any spelling, and names whose underscore form
/// a target may take for one that was checked here; what reads as another framing; and what only a
/// trusted peer may say of the way so far.
fn remove_untrue(headers: &mut HeaderMap, peer_is_trusted: bool) {
    let is_untrue = |name: &str| {
        if is_valid(name) {
            let of_the_way = matches!(name, "x-forwarded-host" | "forwarded" | "x-real-ip");
            return is_ours(name) || of_the_way && !peer_is_trusted || is_suspicious(name);
        }
        let plain = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let checked = ["forwarded", "x-real-ip", "host", "cookie", "connection"];
        is_suspicious(name)
            || is_ours(&plain)
            || plain.starts_with("x-forwarded-")
            || checked.contains(&plain.as_str())
    };
    let removed: Vec<HeaderName> =
        headers.keys().filter(|name| is_untrue(name.as_str())).cloned().collect();
    for name in removed {
        headers.remove(name);
    }
}

/// Whether a trusted proxy says that the client came over TLS; `None` where it says nothing of it.
pub fn says_tls(headers: &HeaderMap) -> Option<bool> {
    let proto = headers.get(X_FORWARDED_PROTO).map(header::HeaderValue::as_bytes);
    proto.map(|proto| proto.eq_ignore_ascii_case(b"https"))
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

    #[test]
    fn an_entry_that_is_no_text_takes_nobody_along() {
        let line = HeaderValue::from_bytes(b"\xff, 198.51.100.1").unwrap();
        let mut headers = HeaderMap::from_iter([(X_FORWARDED_FOR, line)]);
        let trusted = AddressSet::new(vec!["10.0.0.0/8".parse().unwrap()]);
        let peer = "10.0.0.1".parse().unwrap();
        assert_eq!(client_address(peer, &trusted, &headers).to_string(), "198.51.100.1");
        forward(&mut headers, true, ForwardedForMode::Append).unwrap();
        assert_eq!(headers[X_FORWARDED_FOR].as_bytes(), b"\xff, 198.51.100.1, 192.0.2.9");
    }

    fn forward(
        headers: &mut HeaderMap,
        peer_is_trusted: bool,
        mode: ForwardedForMode,
    ) -> Result<(), Refusal> {
        let introduction =
            &Introduction::new("192.0.2.9:4711".parse().unwrap(), 8080, false, false);
        let names = Names::of(headers);
        write(headers, Forwarding { introduction, peer_is_trusted, mode, names })
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

    #[track_caller]
    fn introduced(peer: &str, client_port: bool, sent: Option<&str>, expected: &str) {
        let mut headers = HeaderMap::new();
        if let Some(sent) = sent {
            headers.insert(X_FORWARDED_FOR, sent.parse().unwrap());
        }
        let introduction = &Introduction::new(peer.parse().unwrap(), 80, false, client_port);
        let (mode, names) = (ForwardedForMode::Append, Names::of(&headers));
        let forwarding = Forwarding { introduction, peer_is_trusted: false, mode, names };
        write(&mut headers, forwarding).unwrap();
        assert_eq!(headers[X_FORWARDED_FOR], expected, "{peer} {client_port} {sent:?}");
    }

    #[test]
    fn an_address_is_written_as_alb_writes_it_with_and_without_its_port() {
        introduced("1.2.3.4:8080", false, None, "1.2.3.4");
        introduced("1.2.3.4:8080", false, Some("a"), "a, 1.2.3.4");
        introduced("1.2.3.4:8080", true, None, "1.2.3.4:8080");
        introduced("1.2.3.4:8080", true, Some("a"), "a, 1.2.3.4:8080");
        introduced("[2001:db8::1]:8080", false, None, "2001:db8::1");
        introduced("[2001:db8::1]:8080", false, Some("a"), "a, [2001:db8::1]");
        introduced("[2001:db8::1]:8080", true, None, "[2001:db8::1]:8080");
        introduced("[2001:db8::1]:8080", true, Some("a"), "a, [2001:db8::1]:8080");
        introduced("[::ffff:1.2.3.4]:8080", true, None, "1.2.3.4:8080");
        introduced("[::ffff:1.2.3.4]:8080", false, Some("a"), "a, 1.2.3.4");
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
            ("content--length", "5"),
            ("x-shop", "kept"),
            ("x_shop", "kept"),
        ]);
        forward(&mut headers, true, ForwardedForMode::Remove).unwrap();
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["x-forwarded-port", "x-forwarded-proto", "x-shop", "x_shop"]);
    }
}
