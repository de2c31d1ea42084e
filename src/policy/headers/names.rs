//! What the names of a request's fields say, found in one walk over them: looking up a dozen names
//! that are mostly absent costs more.

use http::HeaderMap;
use http::header::{CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING};

/// What is among a request's names, as it was received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Content-Length.
    pub content_length: bool,
    /// Transfer-Encoding.
    pub transfer_encoding: bool,
    /// A name that reads as one of these two once its punctuation is taken away.
    pub suspicious: bool,
    /// Something that belongs to this connection alone.
    pub of_the_hop: bool,
    /// Credentials, of which some are the connection's.
    pub authorization: bool,
    /// X-Forwarded-For.
    pub forwarded_for: bool,
    /// What only a trusted proxy may say of the way so far.
    pub of_the_way: bool,
    /// What only the balancer may say.
    pub ours: bool,
    /// A name with other characters than letters, digits and `-`.
    pub invalid: bool,
}

impl Names {
    /// Looks at each name once.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut names = Self::default();
        for name in headers.keys() {
            names.note(name.as_str());
        }
        names
    }

    fn note(&mut self, name: &str) {
        match name {
            // What nearly every request has, and nothing to look at letter by letter.
            "host" | "user-agent" | "accept" | "accept-encoding" | "accept-language" | "cookie"
            | "referer" | "origin" | "content-type" | "cache-control" => {}
            "content-length" => self.content_length = true,
            "transfer-encoding" => {
                self.transfer_encoding = true;
                self.of_the_hop = true;
            }
            "authorization" | "proxy-authorization" => self.authorization = true,
            "x-forwarded-for" => self.forwarded_for = true,
            "x-forwarded-host" | "forwarded" | "x-real-ip" => self.of_the_way = true,
            other if belongs_to_the_hop(other) => self.of_the_hop = true,
            other => {
                self.ours |= other.starts_with("x-") && is_ours(other);
                self.invalid |= !is_valid(other);
                self.suspicious |= is_suspicious(other);
            }
        }
    }
}

/// Whether a name belongs to one connection (RFC 9110 section 7.6.1), or is met on it.
pub(super) fn belongs_to_the_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "te"
            | "trailer"
            | "upgrade"
            | "expect"
            | "keep-alive"
            | "proxy-connection"
            | "transfer-encoding"
            | "http2-settings"
    )
}

/// Names only the balancer says.
pub fn is_ours(name: &str) -> bool {
    ["x-stayput-", "x-amzn-mtls-", "x-amzn-tls-"].iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a name is one ALB takes for valid: `[-A-Za-z0-9]+` (AWS, "Application Load Balancers",
/// `routing.http.drop_invalid_header_fields.enabled`).
pub fn is_valid(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Whether a name reads as Content-Length or Transfer-Encoding to a target that does not mind its
/// punctuation, and is neither.
pub fn is_suspicious(name: &str) -> bool {
    reads_as(name, &CONTENT_LENGTH) || reads_as(name, &TRANSFER_ENCODING)
}

/// Whether a name has the letters of `field`, in their order, with other punctuation. One shorter
/// than the field is another word: `contentlength` is nobody's spelling of it.
pub(super) fn reads_as(name: &str, field: &HeaderName) -> bool {
    let field = field.as_str();
    name.len() >= field.len() && letters(name).eq(letters(field)) && name != field
}

fn letters(text: &str) -> impl Iterator<Item = u8> {
    text.bytes().filter(u8::is_ascii_alphanumeric)
}

/// Removes every field whose name is not valid.
pub fn drop_invalid(headers: &mut HeaderMap) {
    let invalid: Vec<HeaderName> =
        headers.keys().filter(|name| !is_valid(name.as_str())).cloned().collect();
    for name in invalid {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(names: &[&'static str], expected: Names) {
        let mut headers = HeaderMap::new();
        for name in names {
            headers.append(HeaderName::from_static(name), "x".parse().unwrap());
        }
        assert_eq!(Names::of(&headers), expected, "{names:?}");
    }

    #[test]
    fn an_ordinary_request_has_nothing_to_look_at_twice() {
        check(&["host", "user-agent", "accept", "cookie", "x-shop", "x-requested-with"], {
            Names::default()
        });
    }

    #[test]
    fn each_name_that_matters_is_noticed() {
        let none = Names::default();
        check(&["content-length"], Names { content_length: true, ..none });
        check(&["transfer-encoding"], Names { transfer_encoding: true, of_the_hop: true, ..none });
        for name in ["connection", "te", "trailer", "upgrade", "expect", "keep-alive"] {
            check(&[name], Names { of_the_hop: true, ..none });
        }
        check(&["x-forwarded-for"], Names { forwarded_for: true, ..none });
        for name in ["authorization", "proxy-authorization"] {
            check(&[name], Names { authorization: true, ..none });
        }
        for name in ["x-forwarded-host", "forwarded", "x-real-ip"] {
            check(&[name], Names { of_the_way: true, ..none });
        }
        for name in ["x-stayput-verdict", "x-amzn-mtls-clientcert", "x-amzn-tls-version"] {
            check(&[name], Names { ours: true, ..none });
        }
        check(&["x_shop"], Names { invalid: true, ..none });
        check(&["content_length"], Names { invalid: true, suspicious: true, ..none });
        check(&["transfer--encoding"], Names { suspicious: true, ..none });
    }

    #[test]
    fn a_name_is_suspicious_by_its_letters_and_not_by_a_likeness() {
        for name in [
            "content_length",
            "content-length_",
            "-content-length",
            "content--length",
            "con-tent-length",
            "transfer_encoding",
            "transfer.encoding",
            "transfer-encoding-",
        ] {
            assert!(is_suspicious(name), "{name}");
        }
        for name in [
            "content-length",
            "transfer-encoding",
            "contentlength",
            "transferencoding",
            "x-content-length",
            "content-length-1",
            "content-language",
            "transfer-encodings",
        ] {
            assert!(!is_suspicious(name), "{name}");
        }
    }

    #[test]
    fn only_names_with_other_characters_are_dropped() {
        let mut headers = HeaderMap::new();
        for name in ["x-1", "x_1", "a.b", "accept", "a!"] {
            headers.append(HeaderName::from_static(name), "x".parse().unwrap());
            headers.append(HeaderName::from_static(name), "y".parse().unwrap());
        }
        drop_invalid(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "x-1"]);
    }
}
