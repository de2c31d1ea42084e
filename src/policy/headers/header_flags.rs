//! Facts about the names of a request's fields: a few bit tests for the known names, and one pass
//! over the names without a number.

use crate::http1::fields::Fields;
use crate::http1::name::{Name, NameSet};

/// The facts about a request's field names, as received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderFlags {
    /// It has Content-Length.
    pub content_length: bool,
    /// It has Transfer-Encoding.
    pub transfer_encoding: bool,
    /// A name reads as one of these two without its punctuation.
    pub suspicious: bool,
    /// A field of this connection only.
    pub of_the_hop: bool,
    /// Credentials, which may authenticate the connection.
    pub authorization: bool,
    /// It has X-Forwarded-For.
    pub forwarded_for: bool,
    /// A field about the client that only a trusted proxy may send.
    pub of_the_way: bool,
    /// A name reserved for the balancer.
    pub ours: bool,
    /// A name with characters other than letters, digits and `-`.
    pub invalid: bool,
}

/// Names that belong to one connection (RFC 9110 section 7.6.1), or are handled on it.
pub(super) const OF_THE_HOP: NameSet = NameSet::of(&[
    Name::Connection,
    Name::Te,
    Name::Trailer,
    Name::Upgrade,
    Name::Expect,
    Name::KeepAlive,
    Name::ProxyConnection,
    Name::TransferEncoding,
    Name::Http2Settings,
]);

/// Names about the client that only a trusted proxy may send.
pub(super) const OF_THE_WAY: NameSet =
    NameSet::of(&[Name::XForwardedHost, Name::Forwarded, Name::XRealIp]);

const AUTHORIZATION: NameSet = NameSet::of(&[Name::Authorization, Name::ProxyAuthorization]);

impl HeaderFlags {
    /// Reads each name once.
    #[inline]
    pub fn of(fields: &Fields) -> Self {
        let mut flags = Self {
            content_length: fields.has(Name::ContentLength),
            transfer_encoding: fields.has(Name::TransferEncoding),
            of_the_hop: fields.has_any(OF_THE_HOP),
            authorization: fields.has_any(AUTHORIZATION),
            forwarded_for: fields.has(Name::XForwardedFor),
            of_the_way: fields.has_any(OF_THE_WAY),
            ..Self::default()
        };
        for name in fields.unknown_names() {
            flags.invalid |= !is_valid(name);
            flags.ours |= is_ours(name);
            flags.suspicious |= is_suspicious(name);
        }
        flags
    }
}

/// Returns true if a name, in lower case, belongs to one connection or is handled on it.
pub(super) fn belongs_to_the_hop(name: &str) -> bool {
    OF_THE_HOP.has(Name::of(name.as_bytes()))
}

/// Returns true for names reserved for the balancer, in any case.
pub(crate) fn is_ours(name: impl AsRef<[u8]>) -> bool {
    let name = name.as_ref();
    let prefixes = [SAID_TO_CLIENTS, "x-amzn-mtls-", "x-amzn-tls-"];
    matches!(name, [b'x' | b'X', b'-', ..])
        && prefixes.iter().any(|prefix| begins_with(name, prefix))
}

/// Prefix of the names that the balancer alone sends to clients.
pub(crate) const SAID_TO_CLIENTS: &str = "x-stayput-";

/// Returns true if a name has this prefix, in any case.
pub(crate) fn begins_with(name: &[u8], prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix.as_bytes()))
}

/// Returns true if a name is valid to ALB: `[-A-Za-z0-9]+` (AWS, "Application Load Balancers",
/// `routing.http.drop_invalid_header_fields.enabled`).
pub(crate) fn is_valid(name: &[u8]) -> bool {
    name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

/// Returns true if a name is neither Content-Length nor Transfer-Encoding, but reads as one to a
/// target that ignores its punctuation.
pub(crate) fn is_suspicious(name: &[u8]) -> bool {
    reads_as(name, Name::ContentLength) || reads_as(name, Name::TransferEncoding)
}

/// Returns true if a name has the letters of `field`, in their order, with other punctuation; or
/// the first of them and enough punctuation to be as long, which ALB's classifier counts too. A
/// shorter name is another word: `contentlength` is not a spelling of the field.
pub(super) fn reads_as(name: &[u8], field: Name) -> bool {
    let field = field.text().as_bytes();
    if name.len() < field.len() || name.eq_ignore_ascii_case(field) {
        return false;
    }
    let mut expected = letters(field);
    let mut count = 0;
    let is_prefix = letters(name).inspect(|_| count += 1).all(|is| expected.next() == Some(is));
    is_prefix && count > 0
}

/// Letters and digits in lower case. Two letters beyond ASCII have an ASCII upper case: the long s
/// (U+017F) and the dotless i (U+0131).
fn letters(text: &[u8]) -> impl Iterator<Item = u8> {
    (0..text.len()).filter_map(|at| match text[at..] {
        [0xc5, 0xbf, ..] => Some(b's'),
        [0xc4, 0xb1, ..] => Some(b'i'),
        [byte, ..] if byte.is_ascii_alphanumeric() => Some(byte.to_ascii_lowercase()),
        _ => None,
    })
}

/// Removes each field whose name is not valid.
pub(crate) fn drop_invalid(fields: &mut Fields) {
    fields.retain(|known, name, _| known != Name::Other || is_valid(name));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(names: &[&str], expected: HeaderFlags) {
        let upper: Vec<_> = names.iter().map(|name| name.to_ascii_uppercase()).collect();
        let fields: Fields = names.iter().map(|name| (name, "x")).collect();
        assert_eq!(HeaderFlags::of(&fields), expected, "{names:?}");
        let fields: Fields = upper.iter().map(|name| (name, "x")).collect();
        assert_eq!(HeaderFlags::of(&fields), expected, "{upper:?}");
    }

    #[test]
    fn an_ordinary_request_has_no_flag() {
        check(&["host", "user-agent", "accept", "cookie", "x-shop", "x-requested-with"], {
            HeaderFlags::default()
        });
    }

    #[test]
    fn each_name_that_matters_sets_its_flag() {
        let none = HeaderFlags::default();
        check(&["content-length"], HeaderFlags { content_length: true, ..none });
        check(
            &["transfer-encoding"],
            HeaderFlags { transfer_encoding: true, of_the_hop: true, ..none },
        );
        for name in ["connection", "te", "trailer", "upgrade", "expect", "keep-alive"] {
            check(&[name], HeaderFlags { of_the_hop: true, ..none });
        }
        check(&["x-forwarded-for"], HeaderFlags { forwarded_for: true, ..none });
        for name in ["authorization", "proxy-authorization"] {
            check(&[name], HeaderFlags { authorization: true, ..none });
        }
        for name in ["x-forwarded-host", "forwarded", "x-real-ip"] {
            check(&[name], HeaderFlags { of_the_way: true, ..none });
        }
        for name in ["x-stayput-verdict", "x-amzn-mtls-clientcert", "x-amzn-tls-version"] {
            check(&[name], HeaderFlags { ours: true, ..none });
        }
        check(&["x_shop"], HeaderFlags { invalid: true, ..none });
        check(&["content_length"], HeaderFlags { invalid: true, suspicious: true, ..none });
        check(&["transfer--encoding"], HeaderFlags { suspicious: true, ..none });
    }

    #[test]
    fn a_name_is_suspicious_by_its_letters_not_by_similarity() {
        for name in [
            "content_length",
            "content-length_",
            "-content-length",
            "content--length",
            "con-tent-length",
            "transfer_encoding",
            "transfer.encoding",
            "transfer-encoding-",
            "content-lengt_",
            "c_____________",
            "Tran\u{17f}fer-Encoding",
            "transfer-encod\u{131}ng",
        ] {
            assert!(is_suspicious(name.as_bytes()), "{name}");
        }
        for name in [
            "content-length",
            "transfer-encoding",
            "contentlength",
            "transferencoding",
            "x-content-length",
            "content-length-1",
            "______________",
            "content-type___",
            "content-language",
            "transfer-encodings",
        ] {
            assert!(!is_suspicious(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn only_names_with_other_characters_are_dropped() {
        let names = ["x-1", "x_1", "a.b", "accept", "a!"];
        let twice = names.iter().flat_map(|name| [(name, "x"), (name, "y")]);
        let mut fields: Fields = twice.collect();
        drop_invalid(&mut fields);
        let left: Vec<_> = fields.iter().map(|(_, name, _)| name).collect();
        assert_eq!(left, [&b"x-1"[..], b"x-1", b"accept", b"accept"]);
    }
}
