//! Cookies as bytes: found in a request without allocating, written into a response.
//!
//! The grammar is RFC 6265 section 5.4 read backwards: `;` separates, blanks around a name or a
//! value do not count, the first `=` ends the name. Nothing is unquoted or percent-decoded, and a
//! comma separates nothing.

use super::SameSite;
use memchr::memchr;

/// The values of every cookie of this name, over all lines in order. Linear in their length.
pub fn values<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
    name: &str,
) -> impl Iterator<Item = &'a [u8]> {
    lines.flat_map(pairs).filter_map(move |pair| {
        let equals = memchr(b'=', pair)?;
        let (found, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
        (found == name.as_bytes()).then_some(value)
    })
}

fn pairs(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let pair = match memchr(b';', line) {
            Some(end) => {
                rest = Some(&line[end + 1..]);
                &line[..end]
            }
            None => {
                rest = None;
                line
            }
        };
        Some(pair)
    })
}

/// A line without the cookies of these names, every other cookie as it came. `None` when there is
/// none of them; empty when nothing else is left, so that the line can go.
pub fn without(line: &[u8], names: &[&str]) -> Option<Vec<u8>> {
    let is_named = |pair: &[u8]| {
        let name = pair.split(|&byte| byte == b'=').next().unwrap_or_default().trim_ascii();
        names.iter().any(|named| named.as_bytes() == name)
    };
    if !pairs(line).any(is_named) {
        return None;
    }
    let mut left = Vec::with_capacity(line.len());
    for pair in pairs(line).filter(|pair| !is_named(pair)) {
        let pair = if left.is_empty() { pair.trim_ascii_start() } else { pair };
        if !left.is_empty() {
            left.push(b';');
        }
        left.extend_from_slice(pair);
    }
    Some(left)
}

/// What a group's cookie always says.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// The main cookie's name; its twin's is that and `CORS`.
    pub name: &'a str,
    /// `Path`
    pub path: &'a str,
    /// `Domain`, if any.
    pub domain: Option<&'a str>,
    /// `HttpOnly`
    pub http_only: bool,
    /// `SameSite` of the main cookie; its twin's is always `None`.
    pub same_site: SameSite,
    /// `Partitioned`
    pub partitioned: bool,
}

/// A Set-Cookie line with all but the token, the date and `Secure` written ahead.
///
/// The order is Expires, Path, Domain, Secure, HttpOnly, SameSite, Partitioned. The `cookie` crate
/// writes another order and cannot be told otherwise, so it reads these lines in the tests instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetCookieTemplate {
    main: Line,
    twin: Line,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    name: Box<str>,
    before_secure: Box<str>,
    after_secure: Box<str>,
}

/// What changes from response to response.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    /// The sealed text.
    pub token: &'a str,
    /// The date of Expires in RFC 9110's form; `None` for a session cookie.
    pub expires: Option<&'a str>,
    /// Whether `Secure` is due.
    pub secure: bool,
}

impl SetCookieTemplate {
    /// Writes ahead what can be.
    pub fn new(attributes: &Attributes<'_>) -> Self {
        let line = |name: String, same_site: SameSite| {
            let mut before = format!("; Path={}", attributes.path);
            if let Some(domain) = attributes.domain {
                before.push_str("; Domain=");
                before.push_str(domain);
            }
            let mut after = String::new();
            after.push_str(if attributes.http_only { "; HttpOnly" } else { "" });
            after.push_str(match same_site {
                SameSite::Unset => "",
                SameSite::Lax => "; SameSite=Lax",
                SameSite::Strict => "; SameSite=Strict",
                SameSite::None => "; SameSite=None",
            });
            after.push_str(if attributes.partitioned { "; Partitioned" } else { "" });
            Line { name: name.into(), before_secure: before.into(), after_secure: after.into() }
        };
        Self {
            main: line(attributes.name.to_owned(), attributes.same_site),
            twin: line(format!("{}CORS", attributes.name), SameSite::None),
        }
    }

    /// Appends the main cookie's line.
    pub fn write(&self, out: &mut Vec<u8>, written: Written<'_>) {
        self.main.write(out, written);
    }

    /// Appends the twin's line.
    pub fn write_twin(&self, out: &mut Vec<u8>, written: Written<'_>) {
        self.twin.write(out, written);
    }
}

impl Line {
    fn write(&self, out: &mut Vec<u8>, written: Written<'_>) {
        let expires = written.expires.map_or(["", ""], |date| ["; Expires=", date]);
        let secure = if written.secure { "; Secure" } else { "" };
        let parts = [
            &*self.name,
            "=",
            written.token,
            expires[0],
            expires[1],
            &*self.before_secure,
            secure,
            &*self.after_secure,
        ];
        out.reserve(parts.iter().map(|part| part.len()).sum());
        parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cookie::Cookie;
    use proptest::prelude::*;

    #[track_caller]
    fn check(lines: &[&str], name: &str, expected: &[&str]) {
        let found: Vec<_> = values(lines.iter().map(|line| line.as_bytes()), name).collect();
        let expected: Vec<_> = expected.iter().map(|value| value.as_bytes()).collect();
        assert_eq!(found, expected, "{lines:?}");
    }

    #[test]
    fn all_lines_are_one_list_and_the_order_is_kept() {
        check(&["a=1; b=2", "a=3"], "a", &["1", "3"]);
        check(&["AWSALBCORS=x; AWSALB=y"], "AWSALB", &["y"]);
        check(&["XAWSALB=x;AWSALB=y;AWSALBX=z"], "AWSALB", &["y"]);
    }

    #[test]
    fn odd_pairs_are_read_by_the_one_grammar() {
        check(&["a=\"1\""], "a", &["\"1\""]);
        check(&["a=%41"], "a", &["%41"]);
        check(&["a=1,b=2"], "b", &[]);
        check(&["a=1,b=2"], "a", &["1,b=2"]);
        check(&[" a = 1 ;;a"], "a", &["1"]);
        check(&["a=x=y=="], "a", &["x=y=="]);
        check(&["=v; v"], "", &["v"]);
        check(&[""], "a", &[]);
    }

    #[test]
    fn our_cookies_are_taken_out_and_the_others_left_byte_for_byte() {
        let left = |line: &str| {
            without(line.as_bytes(), &["A", "ACORS"]).map(|left| String::from_utf8(left).unwrap())
        };
        assert_eq!(left("x=1; y=\"2\""), None);
        assert_eq!(left("A=1").as_deref(), Some(""));
        assert_eq!(left("x=1; A=2;  y= 3 ; ACORS=4").as_deref(), Some("x=1;  y= 3 "));
        assert_eq!(left("A=1; x=1").as_deref(), Some("x=1"));
    }

    fn written(attributes: &Attributes<'_>, twin: bool, written: Written<'_>) -> String {
        let template = SetCookieTemplate::new(attributes);
        let mut out = Vec::new();
        if twin {
            template.write_twin(&mut out, written)
        } else {
            template.write(&mut out, written)
        }
        String::from_utf8(out).unwrap()
    }

    const ALB: Attributes<'_> = Attributes {
        name: "AWSALB",
        path: "/",
        domain: None,
        http_only: true,
        same_site: SameSite::Unset,
        partitioned: false,
    };
    const DATE: &str = "Wed, 21 Oct 2026 07:28:00 GMT";

    #[test]
    fn the_wire_form_is_the_documented_one() {
        let plain = Written { token: "t", expires: Some(DATE), secure: false };
        assert_eq!(
            written(&ALB, false, plain),
            format!("AWSALB=t; Expires={DATE}; Path=/; HttpOnly")
        );
        assert_eq!(
            written(&ALB, true, Written { secure: true, ..plain }),
            format!("AWSALBCORS=t; Expires={DATE}; Path=/; Secure; HttpOnly; SameSite=None")
        );
        assert_eq!(
            written(&ALB, false, Written { expires: None, ..plain }),
            "AWSALB=t; Path=/; HttpOnly"
        );
    }

    proptest! {
        #[test]
        fn the_cookie_crate_reads_what_is_written(
            http_only: bool, secure: bool, partitioned: bool, session: bool, twin: bool,
            domain in prop::option::of("[a-z]{1,8}\\.example"), path in "/[a-z]{0,5}",
        ) {
            let attributes = Attributes {
                path: &path, domain: domain.as_deref(), http_only, partitioned,
                same_site: SameSite::Strict, ..ALB
            };
            let expires = (!session).then_some(DATE);
            let line = written(&attributes, twin, Written { token: "a-b_c", expires, secure });
            let read = Cookie::parse(line).unwrap();
            prop_assert_eq!(read.name(), if twin { "AWSALBCORS" } else { "AWSALB" });
            prop_assert_eq!(read.value(), "a-b_c");
            prop_assert_eq!(read.http_only(), http_only.then_some(true));
            prop_assert_eq!(read.secure(), secure.then_some(true));
            prop_assert_eq!(read.partitioned(), partitioned.then_some(true));
            prop_assert_eq!(read.path(), Some(path.as_str()));
            prop_assert_eq!(read.domain(), domain.as_deref());
            prop_assert_eq!(read.expires().is_some(), !session);
            let same_site = if twin { cookie::SameSite::None } else { cookie::SameSite::Strict };
            prop_assert_eq!(read.same_site(), Some(same_site));
        }

        #[test]
        fn the_scanner_agrees_with_the_cookie_crate(
            pairs in prop::collection::vec(("[ab]{1,2}", "[a-z=\"%,]{0,6}"), 0..8), wanted in "[ab]{1,2}",
        ) {
            let line = pairs.iter().map(|(name, value)| format!("{name}={value}"));
            let line = line.collect::<Vec<_>>().join("; ");
            let oracle: Vec<String> = Cookie::split_parse(line.as_str())
                .filter_map(Result::ok)
                .filter(|cookie| cookie.name() == wanted)
                .map(|cookie| cookie.value().to_owned())
                .collect();
            let found: Vec<String> = values([line.as_bytes()].into_iter(), &wanted)
                .map(|value| String::from_utf8(value.to_vec()).unwrap())
                .collect();
            prop_assert_eq!(found, oracle);
        }
    }
}
