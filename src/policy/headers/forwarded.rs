//! X-Forwarded-*: the client's address, the peers that may state it, and the values sent to the
//! target.

use super::head::RejectReason;
use super::header_flags::{HeaderFlags, OF_THE_WAY, is_ours, is_suspicious, is_valid};
use crate::base::cidr::AddressSet;
use crate::http1::fields::Fields;
use crate::http1::name::{Name, NameSet};
use crate::http1::value::members;
use std::fmt::Display;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

/// The treatment of `X-Forwarded-For` on its way to the target (AWS, "HTTP headers and Application
/// Load Balancers").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedForMode {
    /// The peer's address is appended at the right.
    Append,
    /// The field is forwarded as received, and not added if absent.
    Preserve,
    /// The field is removed.
    Remove,
}

/// The maximum number of entries of X-Forwarded-For (ALB answers 463 to more; we treat it as a
/// loop).
pub(crate) const MAX_ENTRIES: usize = 30;

/// The client's address: the peer, or if the peer is trusted, the right-most entry of
/// X-Forwarded-For that is not trusted itself. An entry that is not an address ends the search at
/// the last one that was.
pub(crate) fn client_address(peer: IpAddr, trusted: &AddressSet, fields: &Fields) -> IpAddr {
    if trusted.is_empty() || !trusted.contains(peer) {
        return peer;
    }
    let mut client = peer;
    for entry in entries(fields).rev() {
        let Some(address) = address_of(entry) else { break };
        client = address;
        if !trusted.contains(address) {
            break;
        }
    }
    client
}

/// Splits bytes, not UTF-8: one non-UTF-8 entry must not discard the addresses appended after it.
fn entries(fields: &Fields) -> impl DoubleEndedIterator<Item = &[u8]> {
    members(fields.all(Name::XForwardedFor))
}

/// Returns true if so many proxies have forwarded the request that it must be in a loop.
pub(crate) fn is_loop(fields: &Fields) -> bool {
    entries(fields).count() > MAX_ENTRIES
}

/// Parses `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` and `[2001:db8::1]:80`.
fn address_of(entry: &[u8]) -> Option<IpAddr> {
    let entry = std::str::from_utf8(entry).ok()?;
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    bare.parse().ok().or_else(|| entry.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// The forwarding lines of a connection, as written for a request that brought none of them. It
/// allocates nothing, because every connection has one.
#[derive(Clone, Debug)]
pub(crate) struct ForwardedValues {
    lines: [u8; MAX_LINES],
    /// The end of each line, in the order of [`WRITTEN`].
    ends: [u8; WRITTEN.len()],
    /// True if the client is an IPv6 address without brackets.
    is_bare: bool,
}

/// The fields of the lines.
const WRITTEN: [Name; 3] = [Name::XForwardedFor, Name::XForwardedProto, Name::XForwardedPort];
const ANY_WRITTEN: NameSet = NameSet::of(&WRITTEN);

/// The length of all lines with the longest address,
/// `[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535`, with `https` and a port of five digits.
const MAX_LINES: usize = {
    let [client, proto, port] = WRITTEN;
    let names = client.text().len() + proto.text().len() + port.text().len();
    names + 3 * (2 + 2) + 47 + 5 + 5
};

impl ForwardedValues {
    /// The values for a client that connected from `peer` to our `port`, over TLS or not; with
    /// `client_port` the client's port is included.
    pub(crate) fn new(peer: SocketAddr, port: u16, is_tls: bool, client_port: bool) -> Self {
        let address = peer.ip().to_canonical();
        let whole = SocketAddr::new(address, peer.port());
        let client: &dyn Display = if client_port { &whole } else { &address };
        let proto = if is_tls { "https" } else { "http" };
        let is_bare = address.is_ipv6() && !client_port;
        let mut made = Self { lines: [0; MAX_LINES], ends: [0; WRITTEN.len()], is_bare };
        let mut left = &mut made.lines[..];
        let said = [client, &proto, &port];
        for ((name, said), end) in WRITTEN.iter().zip(said).zip(&mut made.ends) {
            // Each line is at most as long as in `MAX_LINES`, so nothing is cut off.
            let fits = write!(left, "{}: {said}\r\n", name.text()).is_ok();
            debug_assert!(fits, "{said} is too long");
            *end = (MAX_LINES - left.len()) as u8;
        }
        made
    }

    /// The value of the line at an index of [`WRITTEN`].
    fn value(&self, at: usize) -> &[u8] {
        let line = at.checked_sub(1).map_or(0, |before| usize::from(self.ends[before]));
        &self.lines[line + WRITTEN[at].text().len() + 2..usize::from(self.ends[at]) - 2]
    }

    fn client(&self) -> &[u8] {
        self.value(0)
    }

    fn proto(&self) -> &[u8] {
        self.value(1)
    }

    fn port(&self) -> &[u8] {
        self.value(2)
    }

    /// Writes all lines into fields that have none of them.
    fn write(&self, fields: &mut Fields) {
        let ends = self.ends.map(usize::from);
        let [client, proto, port] = WRITTEN;
        let each = [(client, ends[0]), (proto, ends[1]), (port, ends[2])];
        fields.append_lines(&self.lines[..ends[2]], &each);
    }
}

/// The facts about the client that are sent to the target.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forwarding<'c> {
    /// The client's address and the port it connected to.
    pub forwarded_values: &'c ForwardedValues,
    /// True if the peer's own X-Forwarded-Proto and -Port are trusted.
    pub peer_is_trusted: bool,
    /// The treatment of X-Forwarded-For. Only [`ForwardedForMode::Append`] adds the client.
    pub mode: ForwardedForMode,
    /// The facts of the request's field names.
    pub flags: HeaderFlags,
}

/// Removes the fields that an untrusted client may not send, then writes the true ones. Call it
/// after hop-by-hop stripping, so that a client cannot have these lines stripped.
///
/// # Errors
/// [`RejectReason::ForwardingLoop`] for more than [`MAX_ENTRIES`] entries.
pub(crate) fn write(fields: &mut Fields, forwarding: Forwarding<'_>) -> Result<(), RejectReason> {
    let Forwarding { forwarded_values, peer_is_trusted, mode, flags } = forwarding;
    if flags.ours || flags.invalid || flags.suspicious || flags.of_the_way && !peer_is_trusted {
        remove_untrue(fields, peer_is_trusted);
    }
    if flags.forwarded_for && is_loop(fields) {
        return Err(RejectReason::ForwardingLoop);
    }
    if mode == ForwardedForMode::Append && !fields.has_any(ANY_WRITTEN) {
        forwarded_values.write(fields);
        return Ok(());
    }
    match mode {
        ForwardedForMode::Append if fields.has(Name::XForwardedFor) => {
            append(fields, forwarded_values)
        }
        ForwardedForMode::Append => {
            fields.append(Name::XForwardedFor, forwarded_values.client());
        }
        ForwardedForMode::Preserve => {}
        ForwardedForMode::Remove => fields.remove(Name::XForwardedFor),
    }
    if !(peer_is_trusted && fields.has(Name::XForwardedProto)) {
        fields.set(Name::XForwardedProto, forwarded_values.proto());
    }
    if !(peer_is_trusted && fields.has(Name::XForwardedPort)) {
        fields.set(Name::XForwardedPort, forwarded_values.port());
    }
    Ok(())
}

fn append(fields: &mut Fields, forwarded_values: &ForwardedValues) {
    fields.join(Name::XForwardedFor, b", ", |line, has_more| {
        let client = forwarded_values.client();
        if has_more {
            line.extend_from_slice(b", ");
        }
        // ALB brackets an IPv6 address only when it appends to a list.
        if has_more && forwarded_values.is_bare {
            line.push(b'[');
            line.extend_from_slice(client);
            line.push(b']');
        } else {
            line.extend_from_slice(client);
        }
    });
}

/// Removes names reserved for the balancer, in any spelling; names whose underscore form a target
/// may take for a field that was checked here; names that read as framing fields; and the
/// fields of `OF_THE_WAY`, unless the peer is trusted.
fn remove_untrue(fields: &mut Fields, peer_is_trusted: bool) {
    fields.retain(|known, name, _| match known {
        Name::Other => !is_untrue(name),
        known => peer_is_trusted || !OF_THE_WAY.has(known),
    });
}

/// As [`remove_untrue`], for a name without a number.
fn is_untrue(name: &[u8]) -> bool {
    if is_ours(name) || is_suspicious(name) {
        return true;
    }
    if is_valid(name) {
        return false;
    }
    let plain = |byte: &u8| if byte.is_ascii_alphanumeric() { *byte } else { b'-' };
    let plain: Vec<u8> = name.iter().map(plain).collect();
    let checked = [Name::Forwarded, Name::XRealIp, Name::Host, Name::Cookie, Name::Connection];
    let forwarded: &[u8] = b"x-forwarded-";
    is_ours(&plain)
        || plain.get(..forwarded.len()).is_some_and(|start| start.eq_ignore_ascii_case(forwarded))
        || checked.contains(&Name::of(&plain))
}

/// True if a trusted proxy's field states that the client came over TLS; `None` without the field.
pub(crate) fn says_tls(fields: &Fields) -> Option<bool> {
    fields.get(Name::XForwardedProto).map(|proto| proto.eq_ignore_ascii_case(b"https"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[&str]) -> AddressSet {
        AddressSet::new(ranges.iter().map(|range| range.parse().unwrap()).collect())
    }

    fn with(fields: &[(&str, &str)]) -> Fields {
        fields.iter().copied().collect()
    }

    #[track_caller]
    fn has(fields: &Fields, name: Name, expected: &str) {
        let lines: Vec<_> = fields.all(name).map(String::from_utf8_lossy).collect();
        assert_eq!(lines, [expected]);
    }

    fn names(fields: &Fields) -> Vec<String> {
        let names = fields.iter().map(|(_, name, _)| String::from_utf8_lossy(name).into_owned());
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        names
    }

    #[track_caller]
    fn client(peer: &str, lines: &[&str], expected: &str) {
        let fields: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
        let trusted = set(&["10.0.0.0/8"]);
        let got = client_address(peer.parse().unwrap(), &trusted, &with(&fields));
        assert_eq!(got, expected.parse::<IpAddr>().unwrap(), "{peer} {lines:?}");
    }

    #[test]
    fn the_client_is_the_right_most_untrusted_entry() {
        client("192.0.2.9", &["198.51.100.1"], "192.0.2.9");
        client("10.0.0.1", &[], "10.0.0.1");
        client("10.0.0.1", &["6.6.6.6, 198.51.100.1, 10.0.0.7"], "198.51.100.1");
        client("10.0.0.1", &["6.6.6.6", "198.51.100.1:1234"], "198.51.100.1");
        client("10.0.0.1", &["[2001:db8::1]:80"], "2001:db8::1");
        client("10.0.0.1", &["10.0.0.2"], "10.0.0.2");
        client("10.0.0.1", &["6.6.6.6, nonsense, 10.0.0.3"], "10.0.0.3");
    }

    #[test]
    fn a_non_utf8_entry_discards_no_other_entry() {
        let line = b"\xff, 198.51.100.1";
        let mut fields = Fields::from_iter([("x-forwarded-for", line)]);
        let trusted = AddressSet::new(vec!["10.0.0.0/8".parse().unwrap()]);
        let peer = "10.0.0.1".parse().unwrap();
        assert_eq!(client_address(peer, &trusted, &fields).to_string(), "198.51.100.1");
        forward(&mut fields, true, ForwardedForMode::Append).unwrap();
        let written = fields.get(Name::XForwardedFor);
        assert_eq!(written, Some(&b"\xff, 198.51.100.1, 192.0.2.9"[..]));
    }

    fn forward(
        fields: &mut Fields,
        peer_is_trusted: bool,
        mode: ForwardedForMode,
    ) -> Result<(), RejectReason> {
        let forwarded_values =
            &ForwardedValues::new("192.0.2.9:4711".parse().unwrap(), 8080, false, false);
        let flags = HeaderFlags::of(fields);
        write(fields, Forwarding { forwarded_values, peer_is_trusted, mode, flags })
    }

    #[test]
    fn an_untrusted_peers_forwarded_fields_are_replaced() {
        let mut fields = with(&[
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "443"),
            ("x-forwarded-host", "evil"),
            ("x-real-ip", "6.6.6.6"),
            ("forwarded", "for=6.6.6.6"),
        ]);
        forward(&mut fields, false, ForwardedForMode::Append).unwrap();
        has(&fields, Name::XForwardedFor, "6.6.6.6, 192.0.2.9");
        has(&fields, Name::XForwardedProto, "http");
        has(&fields, Name::XForwardedPort, "8080");
        assert_eq!(fields.len(), 3);
    }

    #[test]
    fn a_trusted_peers_forwarded_fields_are_kept() {
        let mut fields = with(&[("x-forwarded-proto", "https"), ("x-forwarded-host", "shop")]);
        forward(&mut fields, true, ForwardedForMode::Append).unwrap();
        has(&fields, Name::XForwardedProto, "https");
        has(&fields, Name::XForwardedHost, "shop");
        has(&fields, Name::XForwardedPort, "8080");
    }

    #[test]
    fn forwarded_for_is_appended_preserved_or_removed() {
        let run = |mode| {
            let mut fields = with(&[("x-forwarded-for", "a"), ("x-forwarded-for", "b")]);
            forward(&mut fields, false, mode).unwrap();
            let lines = fields.all(Name::XForwardedFor).map(String::from_utf8_lossy);
            lines.map(|line| line.into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(run(ForwardedForMode::Append), ["a, b, 192.0.2.9"]);
        assert_eq!(run(ForwardedForMode::Preserve), ["a", "b"]);
        assert!(run(ForwardedForMode::Remove).is_empty());
    }

    #[track_caller]
    fn introduced(peer: &str, client_port: bool, sent: Option<&str>, expected: &str) {
        let mut fields: Fields = sent.iter().map(|sent| ("X-Forwarded-For", sent)).collect();
        let forwarded_values = &ForwardedValues::new(peer.parse().unwrap(), 80, false, client_port);
        let (mode, flags) = (ForwardedForMode::Append, HeaderFlags::of(&fields));
        let forwarding = Forwarding { forwarded_values, peer_is_trusted: false, mode, flags };
        write(&mut fields, forwarding).unwrap();
        has(&fields, Name::XForwardedFor, expected);
    }

    #[test]
    fn an_address_is_written_as_by_alb_with_and_without_its_port() {
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
    fn the_longest_lines_fit_and_do_not_depend_on_the_clients_fields() {
        let peer = "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap();
        let expected = [
            (Name::XForwardedFor, "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
            (Name::XForwardedProto, "https"),
            (Name::XForwardedPort, "65535"),
        ];
        let forwarded_values = &ForwardedValues::new(peer, 65535, true, true);
        for sent in [None, Some("x-forwarded-proto"), Some("x-forwarded-port")] {
            let mut fields: Fields = sent.iter().map(|sent| (sent, "ftp")).collect();
            let (mode, flags) = (ForwardedForMode::Append, HeaderFlags::of(&fields));
            let forwarding = Forwarding { forwarded_values, peer_is_trusted: false, mode, flags };
            write(&mut fields, forwarding).unwrap();
            let written: Vec<_> = fields.iter().map(|(name, _, value)| (name, value)).collect();
            assert_eq!(written, expected.map(|(name, value)| (name, value.as_bytes())));
        }
    }

    #[test]
    fn more_than_thirty_entries_are_a_loop() {
        let list = |count| vec!["192.0.2.1"; count].join(",");
        let mut thirty = with(&[("x-forwarded-for", &list(30))]);
        assert!(forward(&mut thirty, false, ForwardedForMode::Append).is_ok());
        let mut more = with(&[("x-forwarded-for", &list(29)), ("x-forwarded-for", "a, b")]);
        let got = forward(&mut more, false, ForwardedForMode::Append);
        assert_eq!(got, Err(RejectReason::ForwardingLoop));
    }

    #[test]
    fn names_of_the_balancer_are_removed_in_every_spelling() {
        let mut fields = with(&[
            ("x-stayput-verdict", "hit"),
            ("x_stayput_verdict", "hit"),
            ("x-amzn-mtls-clientcert", "x"),
            ("x_amzn-tls_version", "x"),
            ("x_forwarded_for", "6.6.6.6"),
            ("content_length", "5"),
            ("content--length", "5"),
            ("x-shop", "kept"),
            ("x_shop", "kept"),
            ("X-Stayput-Group", "a"),
            ("X_FORWARDED_PORT", "1"),
            ("X.Real_IP", "6.6.6.6"),
        ]);
        forward(&mut fields, true, ForwardedForMode::Remove).unwrap();
        assert_eq!(names(&fields), ["x-forwarded-port", "x-forwarded-proto", "x-shop", "x_shop"]);
    }
}
