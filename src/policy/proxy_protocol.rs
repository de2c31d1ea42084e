//! PROXY headers, versions 1 and 2 (HAProxy, "The PROXY protocol"): parsing and writing.

mod fault;
#[cfg(test)]
mod tests;

pub use fault::ProxyFault;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The maximum length of a header in bytes. Both versions fit the smallest TCP segment a host must
/// accept, so that a header comes whole ("The PROXY protocol" section 2); a longer one is refused.
pub(crate) const MAX_LEN: usize = 536;
/// The maximum length of a version 1 header, its line end included (section 2.1).
const MAX_TEXT: usize = 107;

const TEXT: &[u8] = b"PROXY ";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes before the addresses of a version 2 header (section 2.2).
const FIXED: usize = 16;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const UNSPEC: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;

/// The version of a header's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// Both ends of a client's connection, as the process that accepted it saw them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client's address.
    pub source: SocketAddr,
    /// The address it connected to.
    pub destination: SocketAddr,
}

/// The PROXY header that a target gets for a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProxyHeader {
    /// The version to write.
    pub version: Version,
    /// The ends of the client's connection.
    pub ends: Ends,
}

impl ProxyHeader {
    /// The bytes of the header.
    pub(crate) fn header(&self) -> Vec<u8> {
        write(self.version, &ProxySource::Client(self.ends))
    }
}

/// The origin of a connection, as its PROXY header states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxySource {
    /// The proxy itself, to check our health (LOCAL).
    Itself,
    /// An unnamed client (UNKNOWN, UNSPEC), for example one whose two addresses are of different
    /// families.
    Someone,
    /// A client. IPv4 addresses have their own form, not the one within IPv6.
    Client(Ends),
}

/// The content of a header and its length in bytes; `None` while it is incomplete.
///
/// # Errors
/// The defect, as soon as no further byte could correct it.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(ProxySource, usize)>, ProxyFault> {
    match bytes.first() {
        None => Ok(None),
        Some(b'P') => parse_text(bytes),
        Some(b'\r') => parse_binary(bytes),
        Some(_) => Err(ProxyFault::NoHeader),
    }
}

fn parse_text(bytes: &[u8]) -> Result<Option<(ProxySource, usize)>, ProxyFault> {
    let known = bytes.len().min(TEXT.len());
    if bytes[..known] != TEXT[..known] {
        return Err(ProxyFault::NoHeader);
    }
    let within = &bytes[..bytes.len().min(MAX_TEXT)];
    let Some(end) = memchr::memchr(b'\n', within) else {
        return if within.len() == MAX_TEXT { Err(ProxyFault::TooLong) } else { Ok(None) };
    };
    let said = within[..end].strip_suffix(b"\r").and_then(|line| line.get(TEXT.len()..));
    let said = said.ok_or(ProxyFault::Malformed)?;
    let someone = said == b"UNKNOWN" || said.starts_with(b"UNKNOWN ");
    let proxy_source = match someone {
        true => ProxySource::Someone,
        false => ProxySource::Client(text_ends(said).ok_or(ProxyFault::Malformed)?),
    };
    Ok(Some((proxy_source, end + 1)))
}

/// Parses `TCP4 192.0.2.1 198.51.100.1 56324 443`, with single blanks.
fn text_ends(said: &[u8]) -> Option<Ends> {
    let mut words = std::str::from_utf8(said).ok()?.split(' ');
    let is_v4 = match words.next()? {
        "TCP4" => true,
        "TCP6" => false,
        _ => return None,
    };
    let mut address =
        || words.next()?.parse().ok().filter(|address: &IpAddr| address.is_ipv4() == is_v4);
    let (source, destination) = (address()?, address()?);
    let (source_port, destination_port) = (port(words.next()?)?, port(words.next()?)?);
    words.next().is_none().then(|| Ends {
        source: SocketAddr::new(source.to_canonical(), source_port),
        destination: SocketAddr::new(destination.to_canonical(), destination_port),
    })
}

/// Parses digits without a sign or a leading zero.
fn port(text: &str) -> Option<u16> {
    let plain = text == "0" || text.starts_with(|first: char| matches!(first, '1'..='9'));
    text.parse().ok().filter(|_| plain)
}

fn parse_binary(bytes: &[u8]) -> Result<Option<(ProxySource, usize)>, ProxyFault> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] != SIGNATURE[..known] {
        return Err(ProxyFault::NoHeader);
    }
    let Some(&[command, family, high, low]) = bytes.get(known..FIXED) else { return Ok(None) };
    let end = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if end > MAX_LEN {
        return Err(ProxyFault::TooLong);
    }
    let Some(rest) = bytes.get(FIXED..end) else { return Ok(None) };
    // Bytes after the addresses (TLVs) are skipped, as the protocol allows.
    let client = match (command, family) {
        (LOCAL, _) => return Ok(Some((ProxySource::Itself, end))),
        (PROXY, UNSPEC | UNIX_STREAM) => return Ok(Some((ProxySource::Someone, end))),
        (PROXY, TCP4) => binary_ends::<4>(rest),
        (PROXY, TCP6) => binary_ends::<16>(rest),
        _ => None,
    };
    Ok(Some((ProxySource::Client(client.ok_or(ProxyFault::Malformed)?), end)))
}

/// Source, destination and their ports, with addresses of `SIZE` bytes.
fn binary_ends<const SIZE: usize>(rest: &[u8]) -> Option<Ends>
where
    IpAddr: From<[u8; SIZE]>,
{
    let (source, rest) = rest.split_first_chunk::<SIZE>()?;
    let (destination, rest) = rest.split_first_chunk::<SIZE>()?;
    let &[a, b, c, d, ..] = rest else { return None };
    let end = |address: [u8; SIZE], port| {
        SocketAddr::new(IpAddr::from(address).to_canonical(), u16::from_be_bytes(port))
    };
    Some(Ends { source: end(*source, [a, b]), destination: end(*destination, [c, d]) })
}

/// Writes a header. Version 1 has one word for a proxy's own connections and those of an unnamed
/// client. If the two addresses are of different families, the IPv4 one is written within IPv6 (RFC
/// 4291 section 2.5.5.2), because a header has one family.
pub(crate) fn write(version: Version, proxy_source: &ProxySource) -> Vec<u8> {
    let (command, ends) = match proxy_source {
        ProxySource::Itself => (LOCAL, None),
        ProxySource::Someone => (PROXY, None),
        ProxySource::Client(ends) => (PROXY, Some(ends)),
    };
    match (version, ends) {
        (Version::V1, None) => b"PROXY UNKNOWN\r\n".to_vec(),
        (Version::V1, Some(ends)) => text(ends),
        (Version::V2, None) => [SIGNATURE, &[command, UNSPEC, 0, 0]].concat(),
        (Version::V2, Some(ends)) => binary(ends),
    }
}

fn text(ends: &Ends) -> Vec<u8> {
    let (source, destination) = of_one_family(ends);
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let ports = (ends.source.port(), ends.destination.port());
    format!("PROXY {family} {source} {destination} {} {}\r\n", ports.0, ports.1).into_bytes()
}

fn binary(ends: &Ends) -> Vec<u8> {
    let (family, addresses) = match of_one_family(ends) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            (TCP4, [source.octets(), destination.octets()].concat())
        }
        (source, destination) => {
            (TCP6, [widened(source).octets(), widened(destination).octets()].concat())
        }
    };
    let ports = [ends.source.port().to_be_bytes(), ends.destination.port().to_be_bytes()].concat();
    // 12 or 36 bytes.
    let length = (addresses.len() + ports.len()) as u8;
    [SIGNATURE, &[PROXY, family, 0, length], &addresses, &ports].concat()
}

fn of_one_family(ends: &Ends) -> (IpAddr, IpAddr) {
    match (ends.source.ip().to_canonical(), ends.destination.ip().to_canonical()) {
        both @ (IpAddr::V4(_), IpAddr::V4(_)) => both,
        (source, destination) => (widened(source).into(), widened(destination).into()),
    }
}

fn widened(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}
