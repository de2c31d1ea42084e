use super::*;
use proptest::prelude::*;

fn ends(source: &str, destination: &str) -> Ends {
    Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

#[track_caller]
fn says(header: &[u8], expected: ProxySource) {
    // The bytes after it do not belong to it.
    let with_more = [header, b"GET / HTTP/1.1\r\n"].concat();
    let text = String::from_utf8_lossy(header);
    assert_eq!(parse(&with_more), Ok(Some((expected, header.len()))), "{text:?}");
    for end in 0..header.len() {
        assert_eq!(parse(&header[..end]), Ok(None), "{end} bytes of {text:?}");
    }
}

/// A version 2 header with these four bytes and the rest.
fn binary_header(fixed: [u8; 4], rest: &[u8]) -> Vec<u8> {
    [SIGNATURE, &fixed, rest].concat()
}

#[test]
fn a_text_header_gives_both_ends() {
    let four = ProxySource::Client(ends("192.0.2.1:56324", "198.51.100.1:443"));
    says(b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", four);
    let six = ProxySource::Client(ends("[2001:db8::1]:65535", "[::1]:0"));
    says(b"PROXY TCP6 2001:db8::1 ::1 65535 0\r\n", six);
    let mapped = ProxySource::Client(ends("192.0.2.1:1", "[2001:db8::2]:80"));
    says(b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 80\r\n", mapped);
    says(b"PROXY UNKNOWN\r\n", ProxySource::Someone);
    let long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(MAX_TEXT - 16));
    assert_eq!(long.len(), MAX_TEXT);
    says(long.as_bytes(), ProxySource::Someone);
}

#[test]
fn a_binary_header_gives_both_ends_and_the_bytes_after_them_are_skipped() {
    let four = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb];
    let said = ProxySource::Client(ends("192.0.2.1:56324", "198.51.100.1:443"));
    says(&binary_header([0x21, 0x11, 0, 12], &four), said);
    let with_values = [&four[..], &[0x03, 0, 4, 1, 2, 3, 4]].concat();
    says(&binary_header([0x21, 0x11, 0, 19], &with_values), said);
    let longest = [&four[..], &[0; MAX_LEN - FIXED - 12]].concat();
    says(&binary_header([0x21, 0x11, 2, 8], &longest), said);
    let mut six = [0; 36];
    (six[15], six[31], six[33], six[35]) = (1, 2, 80, 90);
    let said = ProxySource::Client(ends("[::1]:80", "[::2]:90"));
    says(&binary_header([0x21, 0x21, 0, 36], &six), said);
    says(&binary_header([0x20, 0x00, 0, 0], &[]), ProxySource::Itself);
    says(&binary_header([0x20, 0x11, 0, 12], &four), ProxySource::Itself);
    says(&binary_header([0x21, 0x00, 0, 3], &[9, 9, 9]), ProxySource::Someone);
    says(&binary_header([0x21, 0x31, 0, 216], &[7; 216]), ProxySource::Someone);
}

#[test]
fn a_missing_or_malformed_header_is_reported_by_its_cause() {
    let table: &[(&[u8], ProxyFault)] = &[
        (b"GET / HTTP/1.1\r\n", ProxyFault::NoHeader),
        (b"\x16\x03\x01", ProxyFault::NoHeader),
        (b"POST", ProxyFault::NoHeader),
        (b"PROXYTCP4", ProxyFault::NoHeader),
        (b"\r\n\r\nGET", ProxyFault::NoHeader),
        (b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2\n", ProxyFault::Malformed),
        (b"PROXY TCP4 192.0.2.1 198.51.100.1 1\r\n", ProxyFault::Malformed),
        (b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2 3\r\n", ProxyFault::Malformed),
        (b"PROXY TCP4 192.0.2.1  198.51.100.1 1 2\r\n", ProxyFault::Malformed),
        (b"PROXY TCP4 192.0.2.1 198.51.100.1 +1 2\r\n", ProxyFault::Malformed),
        (b"PROXY TCP4 192.0.2.1 198.51.100.1 01 2\r\n", ProxyFault::Malformed),
        (b"PROXY TCP4 192.0.2.1 198.51.100.1 65536 2\r\n", ProxyFault::Malformed),
        (b"PROXY TCP4 192.0.2.256 198.51.100.1 1 2\r\n", ProxyFault::Malformed),
        (b"PROXY TCP4 ::1 ::2 1 2\r\n", ProxyFault::Malformed),
        (b"PROXY TCP6 192.0.2.1 198.51.100.1 1 2\r\n", ProxyFault::Malformed),
        (b"PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n", ProxyFault::Malformed),
        (b"PROXY UNKNOWNS\r\n", ProxyFault::Malformed),
        (b"PROXY \r\n", ProxyFault::Malformed),
        (b"PROXY \xff\r\n", ProxyFault::Malformed),
        (&[b'P'; 200], ProxyFault::NoHeader),
    ];
    for (bytes, fault) in table {
        assert_eq!(parse(bytes), Err(*fault), "{:?}", String::from_utf8_lossy(bytes));
    }
    let endless = [TEXT, &[b' '; MAX_TEXT]].concat();
    assert_eq!(parse(&endless), Err(ProxyFault::TooLong));
    for (fixed, fault) in [
        ([0x11, 0x11, 0, 0], ProxyFault::Malformed),
        ([0x22, 0x11, 0, 0], ProxyFault::Malformed),
        ([0x21, 0x12, 0, 0], ProxyFault::Malformed),
        ([0x21, 0x41, 0, 0], ProxyFault::Malformed),
        ([0x21, 0x11, 0, 11], ProxyFault::Malformed),
        ([0x21, 0x21, 0, 35], ProxyFault::Malformed),
        ([0x21, 0x11, 2, 9], ProxyFault::TooLong),
        ([0x20, 0x00, 0xff, 0xff], ProxyFault::TooLong),
    ] {
        assert_eq!(parse(&binary_header(fixed, &[0; 40])), Err(fault), "{fixed:?}");
    }
}

#[test]
fn addresses_of_two_families_are_written_as_ipv6() {
    let mixed = ProxySource::Client(ends("192.0.2.1:0", "[2001:db8::2]:80"));
    let text = write(Version::V1, &mixed);
    assert_eq!(text, b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 0 80\r\n");
    assert_eq!(write(Version::V2, &mixed).len(), FIXED + 36);
    assert_eq!(write(Version::V1, &ProxySource::Itself), b"PROXY UNKNOWN\r\n");
}

fn address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        any::<([u8; 4], u16)>().prop_map(SocketAddr::from),
        any::<([u8; 16], u16)>().prop_map(SocketAddr::from),
        any::<([u8; 4], u16)>().prop_map(|(four, port)| {
            SocketAddr::new(std::net::Ipv4Addr::from(four).to_ipv6_mapped().into(), port)
        }),
    ]
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

proptest! {
    #[test]
    fn a_written_header_is_read_back_and_no_part_of_it_is_enough(
        source in address(), destination in address(), is_text in any::<bool>(),
    ) {
        let version = if is_text { Version::V1 } else { Version::V2 };
        let header = write(version, &ProxySource::Client(Ends { source, destination }));
        prop_assert!(header.len() <= MAX_TEXT);
        let ends = Ends { source: canonical(source), destination: canonical(destination) };
        says(&header, ProxySource::Client(ends));
    }

    #[test]
    fn any_bytes_are_parsed_or_refused_within_the_bound(
        signed in 0usize..3, bytes in prop::collection::vec(any::<u8>(), 0..700),
    ) {
        let header = [[&b""[..], SIGNATURE, TEXT][signed], &bytes].concat();
        match parse(&header) {
            Ok(Some((_, length))) => prop_assert!(length <= MAX_LEN && length <= header.len()),
            Ok(None) => prop_assert!(header.len() < MAX_LEN),
            Err(_) => {}
        }
    }
}
