//! Checks of a request's head before routing. The codec (`http1`) refuses bytes that are not an RFC
//! 9112 message; this file refuses heads that pass the codec and that a proxy must not forward.

use super::header_flags::HeaderFlags;
use crate::http1::facts::Facts;
use crate::http1::fields::Fields;
use crate::http1::name::Name;
use crate::http1::request::Request;
use crate::http1::target::Form;
use crate::http1::value::{agreed_length, content_length, members, write_length_once};
use http::{Method, Version};

/// The reason to refuse a head. The proxy's table of failures maps each to a status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectReason {
    /// No Host, several, or one that is not a valid host (RFC 9112 section 3.2).
    Host,
    /// A request target in a form its method does not allow (RFC 9112 section 3.2).
    TargetForm,
    /// A method longer than ALB accepts.
    Method,
    /// CONNECT or TRACE (ALB answers 405).
    MethodNotAllowed,
    /// Lengths that differ, or one that is not a number (RFC 9110 section 8.6).
    ContentLength,
    /// A Transfer-Encoding that is neither a single `chunked` nor a list of codings.
    TransferEncoding,
    /// A Transfer-Encoding with a coding other than `chunked` (ALB answers 501).
    UnknownCoding,
    /// An Expect other than `100-continue` (RFC 9110 section 10.1.1).
    Expectation,
    /// Connection names an end-to-end field (RFC 9110 section 7.6.1).
    ConnectionOption,
    /// Malformed over HTTP/2 though the library accepted it (RFC 9113 section 8.1.1).
    Malformed,
    /// The target alone is longer than `limits.header_bytes`.
    TargetTooLong,
    /// More bytes or more fields than `limits` allows.
    TooLarge,
    /// More X-Forwarded-For entries than [`MAX_ENTRIES`](super::forwarded::MAX_ENTRIES).
    ForwardingLoop,
    /// It could be read in two ways, and `desync_mitigation` refuses that.
    Desync,
}

/// The maximum length of a method (ALB: 127 characters).
const MAX_METHOD: usize = 127;

/// The authority of a request, as the target gets it and as rules match its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority<'h> {
    /// With the port, as sent; `None` for an HTTP/1.0 request without a host.
    pub text: Option<&'h str>,
}

impl<'h> Authority<'h> {
    /// The host without the port; empty if there is none.
    pub fn host(&self) -> &'h str {
        let text = self.text.unwrap_or_default();
        let literal = match text.starts_with('[') {
            true => memchr::memchr(b']', text.as_bytes()).unwrap_or_default(),
            false => 0,
        };
        // By bytes: most hosts are too short for `memchr` to be faster.
        let colon = text.as_bytes()[literal..].iter().position(|&byte| byte == b':');
        colon.map_or(text, |colon| &text[..literal + colon])
    }

    /// The port, if the authority has one.
    pub fn port(&self) -> Option<u16> {
        let port = self.text?.strip_prefix(self.host())?;
        port.strip_prefix(':')?.parse().ok()
    }

    /// Normalises as ALB does if Host is not preserved (AWS, "Edit attributes for your Application
    /// Load Balancer", host header preservation): lower case; without a port if the listener's is
    /// 80 or 443, else with the listener's if it has none. `None` without a host.
    pub fn normalised(&self, listener_port: u16) -> Option<String> {
        let host = self.host();
        let port = self.text?.get(host.len() + 1..).filter(|port| !port.is_empty());
        let host = host.to_ascii_lowercase();
        Some(match (listener_port, port) {
            (80 | 443, _) => host,
            (_, Some(port)) => format!("{host}:{port}"),
            (own, None) => format!("{host}:{own}"),
        })
    }
}

/// Checks a head and returns its authority; `flags` are the facts of its field names. The authority
/// of an absolute target wins over Host; over HTTP/2 `:authority` and Host must be equal (RFC 9113
/// section 8.3.1).
///
/// # Errors
/// The first reason to refuse.
pub(crate) fn check(request: &Request, flags: HeaderFlags) -> Result<Authority<'_>, RejectReason> {
    let method = &request.method;
    if method.as_str().len() > MAX_METHOD {
        return Err(RejectReason::Method);
    }
    if *method == Method::CONNECT || *method == Method::TRACE {
        return Err(RejectReason::MethodNotAllowed);
    }
    let form_fits = match request.form() {
        Form::Origin | Form::Absolute => true,
        Form::Asterisk => *method == Method::OPTIONS,
        Form::Other => false,
    };
    if !form_fits || request.facts.has(Facts::BAD_TARGET) {
        return Err(RejectReason::TargetForm);
    }
    let is_http2 = request.version == Version::HTTP_2;
    let authority = request.authority();
    let host = match host(request) {
        Ok(host) => host,
        Err(_) if is_http2 && authority.is_some() && !request.fields.has(Name::Host) => None,
        Err(refusal) => return Err(refusal),
    };
    if flags.transfer_encoding {
        check_codings(request)?;
    }
    if flags.content_length {
        agreed_length(&request.fields).ok_or(RejectReason::ContentLength)?;
    }
    if flags.of_the_hop
        && let Some(expect) = request.fields.get(Name::Expect)
        && !expect.eq_ignore_ascii_case(b"100-continue")
    {
        return Err(RejectReason::Expectation);
    }
    let text = match authority {
        Some(authority)
            if is_http2 && host.is_some_and(|host| !host.eq_ignore_ascii_case(authority)) =>
        {
            return Err(RejectReason::Host);
        }
        Some(authority) if is_host(authority) => Some(authority),
        Some(_) => return Err(RejectReason::Host),
        None => host,
    };
    Ok(Authority { text })
}

fn host(request: &Request) -> Result<Option<&str>, RejectReason> {
    let fields = &request.fields;
    let Some(line) = fields.get(Name::Host) else {
        return if request.version < Version::HTTP_11 { Ok(None) } else { Err(RejectReason::Host) };
    };
    let text = std::str::from_utf8(line).ok().filter(|text| is_host(text));
    let text = text.filter(|_| !fields.is_repeated(Name::Host));
    text.map(Some).ok_or(RejectReason::Host)
}

/// Returns true for a host and an optional port (RFC 3986 section 3.2.2, without percent-encoding,
/// which no real host name needs and which two parsers may read differently).
pub(crate) fn is_host(text: &str) -> bool {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((literal, port)) = rest.split_once(']') else { return false };
        let fits = literal.parse::<std::net::Ipv6Addr>().is_ok() || is_future_literal(literal);
        return fits && is_port(port.as_bytes());
    }
    let bytes = text.as_bytes();
    let end = bytes.iter().position(|&byte| !UNRESERVED[usize::from(byte)]).unwrap_or(bytes.len());
    (1..=MAX_HOST).contains(&end) && is_port(&bytes[end..])
}

/// The maximum length of a DNS name.
const MAX_HOST: usize = 255;

/// Returns true if the text after a host is empty, or a colon and a port, which may be empty (RFC
/// 3986 section 3.2.3).
fn is_port(text: &[u8]) -> bool {
    let digits = match text {
        [] => return true,
        [b':', digits @ ..] => digits,
        _ => return false,
    };
    let number = digits.iter().take(MAX_PORT_DIGITS).try_fold(0_u32, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit <= 9).then(|| number * 10 + u32::from(digit))
    });
    digits.len() <= MAX_PORT_DIGITS && number.is_some_and(|number| number <= u32::from(u16::MAX))
}

const MAX_PORT_DIGITS: usize = 5;

/// Bytes allowed in a host name (RFC 3986 section 2.3).
static UNRESERVED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = is_unreserved(byte as u8);
        byte += 1;
    }
    table
};

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Returns true for an address of a future version, `v1.x` (RFC 3986 section 3.2.2): rules and the
/// target treat it as any other name, and it is never resolved.
fn is_future_literal(text: &str) -> bool {
    let Some((version, address)) = text.split_once('.') else { return false };
    let digits = version.strip_prefix(['v', 'V']).unwrap_or_default();
    let fine = |byte: u8| is_unreserved(byte) || b"!$&'()*+,;=:".contains(&byte);
    !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        && !address.is_empty()
        && text.len() <= MAX_HOST
        && address.bytes().all(fine)
}

/// Returns true if a text is a host that a request may name, without a port.
pub(crate) fn is_bare_host(text: &str) -> bool {
    is_host(text) && Authority { text: Some(text) }.host().len() == text.len()
}

/// Exactly one `chunked` is allowed (RFC 9112 section 6.1); any other value allows request
/// smuggling. A message of HTTP/1.0 may not have the field (the same section).
fn check_codings(request: &Request) -> Result<(), RejectReason> {
    if request.version < Version::HTTP_11 {
        return Err(RejectReason::TransferEncoding);
    }
    let (mut chunked, mut foreign, mut last) = (0, false, false);
    for coding in members(request.fields.all(Name::TransferEncoding)) {
        let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
        if coding.is_empty() || !coding.iter().all(token) {
            return Err(RejectReason::TransferEncoding);
        }
        last = coding.eq_ignore_ascii_case(b"chunked");
        match last {
            true => chunked += 1,
            false => foreign = true,
        }
    }
    match (chunked, foreign) {
        (1, false) => Ok(()),
        // If `chunked` is not the last coding, the body has no end (RFC 9112 section 6.3).
        (_, true) if last => Err(RejectReason::UnknownCoding),
        _ => Err(RejectReason::TransferEncoding),
    }
}

/// Leaves one length of a checked request; none beside Transfer-Encoding, which then decides alone
/// (RFC 9112 section 6.3).
pub(crate) fn canonical_length(fields: &mut Fields) {
    if fields.has(Name::TransferEncoding) {
        fields.remove(Name::ContentLength);
    } else if let Some(length) = content_length(fields) {
        write_length_once(fields, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_case(
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
    ) -> Result<String, RejectReason> {
        check_version(Version::HTTP_11, method, target, fields)
    }

    #[track_caller]
    fn check_version(
        version: Version,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
    ) -> Result<String, RejectReason> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = Request::new(method, target, version);
        for (name, value) in fields {
            request.fields.append_named(name, value.as_bytes());
        }
        let authority = check(&request, HeaderFlags::of(&request.fields))?;
        Ok(authority.host().to_owned())
    }

    #[test]
    fn a_request_names_exactly_one_host() {
        for bad in [
            "",
            "a,b",
            "user@a",
            "a/b",
            "a b",
            "a:x",
            "a:123456",
            "a:65536",
            "a:99999",
            "a:+80",
            ":80",
            ":",
            "a:8\u{e9}",
            "\u{e9}",
            "[::1",
            "[::1]x",
            "[::1]:8x",
            "[zz]",
            "a%00",
            "a:1:2",
            "[::1]:65536",
            "[::1%251]",
            "[v.x]",
            "[v1.]",
            "[v1]",
            "[vg.x]",
            "[v1.a/b]",
            "[v1.a b]",
            "[v1.x]y",
            "[v1.x",
            "v1.x]",
            "[1.2.3.4]",
        ] {
            assert_eq!(
                check_case("GET", "/", &[("host", bad)]),
                Err(RejectReason::Host),
                "{bad:?}"
            );
        }
        for (good, host) in [
            ("a", "a"),
            ("a.b:80", "a.b"),
            ("a:65535", "a"),
            ("[::1]:80", "[::1]"),
            ("a:", "a"),
            ("[v1.x]", "[v1.x]"),
            ("[vF.a:b,c;d=!]:80", "[vF.a:b,c;d=!]"),
        ] {
            assert_eq!(check_case("GET", "/", &[("host", good)]).as_deref(), Ok(host));
        }
        assert_eq!(check_case("GET", "/", &[]), Err(RejectReason::Host));
        let twice = [("host", "a"), ("host", "a")];
        assert_eq!(check_case("GET", "/", &twice), Err(RejectReason::Host));
    }

    #[test]
    fn an_authority_has_its_explicit_port() {
        for (text, port) in [
            ("a", None),
            ("a:", None),
            ("a:80", Some(80)),
            ("[::1]", None),
            ("[::1]:8080", Some(8080)),
            ("[v1.a:b]", None),
            ("[v1.a:b]:81", Some(81)),
        ] {
            assert_eq!(Authority { text: Some(text) }.port(), port, "{text}");
            assert_eq!(is_bare_host(text), port.is_none() && text != "a:", "{text}");
        }
        assert_eq!(Authority { text: None }.port(), None);
    }

    #[test]
    fn a_host_that_is_not_preserved_gets_the_listeners_port_or_none() {
        let normalised = |text, port| Authority { text: Some(text) }.normalised(port).unwrap();
        for (text, port, expected) in [
            ("Example.com", 80, "example.com"),
            ("example.com:80", 80, "example.com"),
            ("example.com:8443", 443, "example.com"),
            ("example.com", 8080, "example.com:8080"),
            ("example.com:", 8080, "example.com:8080"),
            ("example.com:9090", 8080, "example.com:9090"),
            ("[2001:DB8::1]:80", 80, "[2001:db8::1]"),
            ("[2001:db8::1]", 8080, "[2001:db8::1]:8080"),
            ("[2001:db8::1]:9", 8080, "[2001:db8::1]:9"),
        ] {
            assert_eq!(normalised(text, port), expected, "{text} on {port}");
        }
        assert_eq!(Authority { text: None }.normalised(80), None);
    }

    #[test]
    fn leading_zeros_of_a_length_are_removed() {
        for (sent, expected) in [
            (&["005"][..], "5"),
            (&["0"], "0"),
            (&["000"], "0"),
            (&["50"], "50"),
            (&["5", "5"], "5"),
            (&["5", "05"], "5"),
            (&["7, 7"], "7"),
        ] {
            let lines = sent.iter().map(|value| ("Content-Length", value));
            let mut fields: Fields = lines.clone().collect();
            canonical_length(&mut fields);
            assert_eq!(fields.all(Name::ContentLength).collect::<Vec<_>>(), [expected.as_bytes()]);
            // With chunked coding there is none.
            let mut fields: Fields = lines.chain([("Transfer-Encoding", &"chunked")]).collect();
            canonical_length(&mut fields);
            assert!(!fields.has(Name::ContentLength));
        }
    }

    #[test]
    fn a_message_has_one_length() {
        let length = |lines: &[&str]| {
            let mut fields = vec![("host", "a")];
            fields.extend(lines.iter().map(|line| ("content-length", *line)));
            check_case("POST", "/", &fields).err()
        };
        for good in [&["5"][..], &["005"], &["5", "5"], &["5, 05"]] {
            assert_eq!(length(good), None, "{good:?}");
        }
        for bad in [
            &[""][..],
            &["+5"],
            &["0x5"],
            &["5 5"],
            &["5", "6"],
            &["5, 6"],
            &["5,"],
            &["5", ""],
            &["99999999999999999999"],
        ] {
            assert_eq!(length(bad), Some(RejectReason::ContentLength), "{bad:?}");
        }
    }

    #[test]
    fn an_absolute_target_wins_over_host() {
        let host = check_case("GET", "http://b.example:81/x", &[("host", "a.example")]);
        assert_eq!(host.as_deref(), Ok("b.example"));
    }

    #[test]
    fn over_http2_authority_and_host_agree_and_one_is_present() {
        let of = |target, fields: &[_]| check_version(Version::HTTP_2, "GET", target, fields);
        let with_authority = "https://a.example:81/x";
        assert_eq!(of(with_authority, &[]).as_deref(), Ok("a.example"));
        assert_eq!(of(with_authority, &[("host", "A.example:81")]).as_deref(), Ok("a.example"));
        assert_eq!(of("/x", &[("host", "a.example")]).as_deref(), Ok("a.example"));
        for (target, fields) in [
            (with_authority, &[("host", "b.example:81")][..]),
            (with_authority, &[("host", "a.example")]),
            (with_authority, &[("host", "")]),
            (with_authority, &[("host", "a.example:81"), ("host", "a.example:81")]),
            ("https://user@a.example/x", &[]),
            ("/x", &[]),
        ] {
            assert_eq!(of(target, fields), Err(RejectReason::Host), "{target} {fields:?}");
        }
    }

    #[test]
    fn a_target_has_a_form_that_its_method_allows() {
        for (method, target) in [
            ("GET", "*"),
            ("GET", "example.com:80"),
            ("GET", "a/b"),
            ("OPTIONS", "**"),
            ("GET", "/\u{e9}"),
            ("GET", "http://a/\u{e9}"),
        ] {
            let got = check_case(method, target, &[("host", "a")]);
            assert_eq!(got, Err(RejectReason::TargetForm), "{method} {target}");
        }
        assert!(check_case("OPTIONS", "*", &[("host", "a")]).is_ok());
        for target in ["/", "/\"<a>`", "/{a|b}\\^", "http://a", "https://a?b"] {
            assert!(check_case("GET", target, &[("host", "a")]).is_ok(), "{target}");
        }
        for method in ["CONNECT", "TRACE"] {
            let got = check_case(method, "/", &[("host", "a")]);
            assert_eq!(got, Err(RejectReason::MethodNotAllowed));
        }
        assert_eq!(check_case(&"M".repeat(128), "/", &[("host", "a")]), Err(RejectReason::Method));
    }

    #[test]
    fn only_a_single_chunked_is_an_allowed_transfer_encoding() {
        let coding = |lines: &[&str]| {
            let mut fields = vec![("host", "a")];
            fields.extend(lines.iter().map(|line| ("transfer-encoding", *line)));
            check_case("POST", "/", &fields).err()
        };
        assert_eq!(coding(&["Chunked"]), None);
        for bad in
            [&[",chunked"][..], &["chunked, chunked"], &["chunked", "chunked"], &["ch\tunked"]]
        {
            assert_eq!(coding(bad), Some(RejectReason::TransferEncoding), "{bad:?}");
        }
        let old = [("transfer-encoding", "chunked")];
        let old = check_version(Version::HTTP_10, "POST", "/", &old);
        assert_eq!(old, Err(RejectReason::TransferEncoding));
        for endless in [&["xchunked"][..], &["gzip"], &["chunked, gzip"], &["chunked", "identity"]]
        {
            assert_eq!(coding(endless), Some(RejectReason::TransferEncoding), "{endless:?}");
        }
        for foreign in [&["gzip, chunked"][..], &["identity", "chunked"], &["x", "chunked"]] {
            assert_eq!(coding(foreign), Some(RejectReason::UnknownCoding), "{foreign:?}");
        }
    }

    #[test]
    fn an_expectation_other_than_continue_is_refused() {
        let expect = |value| check_case("POST", "/", &[("host", "a"), ("expect", value)]).err();
        assert_eq!(expect("100-Continue"), None);
        assert_eq!(expect("y 100-continue"), Some(RejectReason::Expectation));
    }
}
