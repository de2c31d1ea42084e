//! Evaluates if a shared cache may store a response, and with it the pin in its cookie (RFC 9111).
//! This file only reads the response; the code that writes cookies acts on it.

use crate::http1::fields::Fields;
use crate::http1::name::{Name, NameSet};
use crate::policy::affinity::cookie_date;
use http::{Method, StatusCode};

/// The directive that makes shared caches store a response without our cookie (RFC 9111 section
/// 5.2.2.4).
pub const GUARD: &str = "no-cache=\"set-cookie\"";

/// The fields that state how long a response may be stored.
const SPEAKS: NameSet = NameSet::of(&[Name::CacheControl, Name::Expires]);

/// The evaluation of a response for shared caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// The permission to store it.
    pub cache: SharedCache,
    /// True if it already forbids storing our cookie.
    pub is_guarded: bool,
}

/// The permission of a shared cache to store a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedCache {
    /// It must not store it, or does not: `no-store`, `private`, or no permission.
    MayNotStore,
    /// It may, with a heuristic lifetime (RFC 9111 section 4.2.2) or with revalidation each time.
    MayStore,
    /// It may, and the response states a freshness lifetime: its site wants it stored.
    IsFresh,
}

/// Evaluates the response to a request of this method (RFC 9111 section 3). `now` is in seconds
/// since 1970. `Authorization` is ignored (section 3.5): a cache that does not store such a
/// response loses nothing by the treatment of one that does.
pub fn read(method: &Method, status: StatusCode, fields: &Fields, now: u64) -> Read {
    let cache_control = if fields.has_any(SPEAKS) {
        CacheDirectives::of(fields)
    } else {
        CacheDirectives::default()
    };
    Read { cache: cache_control.to(method, status, fields, now), is_guarded: cache_control.guarded }
}

/// Returns true for the statuses a cache may store without a stated lifetime (RFC 9110 section
/// 15.1), and 304, whose fields it merges into the stored response (RFC 9111 section 3.2).
fn is_kept_by_guess(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 206 | 300 | 301 | 304 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

/// The directives of `Cache-Control` for a shared cache.
#[derive(Default)]
struct CacheDirectives {
    public: bool,
    private: bool,
    no_store: bool,
    must_understand: bool,
    s_maxage: bool,
    guarded: bool,
    /// True if there is an `Expires`, which states a lifetime in its own field.
    expires: bool,
    /// `None` without `max-age`; true if it is above 0.
    max_age: Option<bool>,
}

impl CacheDirectives {
    fn of(fields: &Fields) -> Self {
        let mut found = Self { expires: fields.has(Name::Expires), ..Self::default() };
        for line in fields.all(Name::CacheControl) {
            for (name, value) in directives(line) {
                found.record(name, value);
            }
        }
        found
    }

    fn to(&self, method: &Method, status: StatusCode, fields: &Fields, now: u64) -> SharedCache {
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        // RFC 9110 section 9.3.3 and RFC 5789 section 2: POST and PATCH only with explicit
        // freshness.
        if !is_read && !matches!(*method, Method::POST | Method::PATCH) || status.is_informational()
        {
            return SharedCache::MayNotStore;
        }
        if self.private || self.no_store && !self.must_understand {
            return SharedCache::MayNotStore;
        }
        let expires = self.expires;
        let is_fresh = self.public
            || self.s_maxage
            || self.max_age.unwrap_or_else(|| expires && expires_ahead(fields, now));
        if is_fresh {
            SharedCache::IsFresh
        } else if self.max_age.is_some() || expires || is_read && is_kept_by_guess(status) {
            SharedCache::MayStore
        } else {
            SharedCache::MayNotStore
        }
    }

    fn record(&mut self, name: &[u8], value: Option<&[u8]>) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("public") {
            self.public = true;
        } else if is("private") {
            // With a list of fields it keeps only these out of shared caches.
            self.private |= value.is_none_or(<[u8]>::is_empty);
        } else if is("no-store") {
            self.no_store = true;
        } else if is("must-understand") {
            // A cache that understands the status then ignores `no-store` (RFC 9111 section
            // 5.2.2.3).
            self.must_understand = true;
        } else if is("no-cache") {
            let mut fields = value.unwrap_or_default().split(|byte| *byte == b',');
            self.guarded |=
                fields.any(|field| field.trim_ascii().eq_ignore_ascii_case(b"set-cookie"));
        } else if is("s-maxage") {
            self.s_maxage = true;
        } else if is("max-age") {
            // Of several, a cache takes the first or none (section 4.2.1). Any above 0 counts here.
            let above_zero = value.is_some_and(is_above_zero);
            self.max_age = Some(above_zero || self.max_age == Some(true));
        }
    }
}

/// Returns true if a delta-seconds is above 0; one that is not a number is stale (RFC 9111 section
/// 4.2.1).
fn is_above_zero(value: &[u8]) -> bool {
    value.iter().all(u8::is_ascii_digit) && value.iter().any(|digit| *digit != b'0')
}

/// Returns true if `Expires` is later than the response's own `Date`, or than now without one (RFC
/// 9111 section 4.2.1): a cache stores it for the difference, whatever both clocks show.
fn expires_ahead(fields: &Fields, now: u64) -> bool {
    let made = fields.get(Name::Date).and_then(cookie_date::read).unwrap_or(now);
    let mut ends = fields.all(Name::Expires).filter_map(cookie_date::read);
    ends.any(|end| end > made)
}

/// The directives of a line, each with its argument, unquoted (RFC 9111 section 5.2: a token or a
/// quoted string, in either form).
fn directives(line: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let mut quoted = false;
        let mut escaped = false;
        let end = line.iter().position(|&byte| {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                _ => return byte == b',' && !quoted,
            }
            false
        });
        rest = end.map(|end| &line[end + 1..]);
        let piece = &line[..end.unwrap_or(line.len())];
        Some(match piece.iter().position(|&byte| byte == b'=') {
            None => (piece.trim_ascii(), None),
            Some(equals) => {
                let value = piece[equals + 1..].trim_ascii();
                let value = value.strip_prefix(b"\"").unwrap_or(value);
                let value = value.strip_suffix(b"\"").unwrap_or(value);
                (piece[..equals].trim_ascii(), Some(value))
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::SharedCache::{IsFresh, MayNotStore, MayStore};
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 784_111_777; // Sun, 06 Nov 1994 08:49:37 GMT

    fn fields(lines: &[&str]) -> Fields {
        lines.iter().map(|line| line.split_once(": ").unwrap()).collect()
    }

    fn of(method: &str, status: u16, lines: &[&str]) -> SharedCache {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        read(&method, StatusCode::from_u16(status).unwrap(), &fields(lines), NOW).cache
    }

    #[test]
    fn the_fields_of_a_get_decide_if_it_may_be_stored() {
        for (lines, expected) in [
            (&[][..], MayStore),
            (&["cache-control: no-store"], MayNotStore),
            (&["cache-control: NO-STORE, max-age=60"], MayNotStore),
            (&["cache-control: max-age=60", "cache-control: no-store"], MayNotStore),
            (&["cache-control: private"], MayNotStore),
            (&["cache-control: private, max-age=60"], MayNotStore),
            (&["cache-control: public, private"], MayNotStore),
            (&["cache-control: private=\"set-cookie\""], MayStore),
            (&["cache-control: private=\"x-user, x-cart\", max-age=60"], IsFresh),
            (&["cache-control: private=\"\""], MayNotStore),
            (&["cache-control: no-store, must-understand"], MayStore),
            (&["cache-control: must-understand, no-store, max-age=60"], IsFresh),
            (&["cache-control: public"], IsFresh),
            (&["cache-control: Public , max-age=0"], IsFresh),
            (&["cache-control: s-maxage=60"], IsFresh),
            (&["cache-control: max-age=0, s-maxage=\"60\""], IsFresh),
            (&["cache-control: max-age=1"], IsFresh),
            (&["cache-control: max-age=\"60\""], IsFresh),
            (&["cache-control: max-age=99999999999999999999999"], IsFresh),
            (&["cache-control: max-age=0"], MayStore),
            (&["cache-control: max-age=000"], MayStore),
            (&["cache-control: max-age"], MayStore),
            (&["cache-control: max-age=-1"], MayStore),
            (&["cache-control: max-age=soon"], MayStore),
            (&["cache-control: max-age=0", "cache-control: max-age=60"], IsFresh),
            (&["cache-control: no-cache"], MayStore),
            (&["cache-control: no-cache=\"set-cookie\""], MayStore),
            // Text in quotes is not a directive.
            (&["cache-control: no-cache=\"private, no-store\""], MayStore),
            (&["cache-control: x=\"\\\", no-store\", max-age=5"], IsFresh),
            (&["cache-control: x=\"no-store"], MayStore),
            (&["cache-control: publicity, max-ages=9"], MayStore),
            (&["expires: Sun, 06 Nov 1994 08:49:38 GMT"], IsFresh),
            (&["expires: Sun, 06 Nov 1994 08:49:37 GMT"], MayStore),
            (&["expires: 0"], MayStore),
            // The target's clock is hours behind: the time after its own Date counts.
            (
                &["date: Sun, 06 Nov 1994 02:00:00 GMT", "expires: Sun, 06 Nov 1994 02:01:00 GMT"],
                IsFresh,
            ),
            (
                &["date: Sun, 06 Nov 1994 10:00:00 GMT", "expires: Sun, 06 Nov 1994 10:00:00 GMT"],
                MayStore,
            ),
            // `max-age` overrides `Expires` (section 5.3).
            (&["cache-control: max-age=0", "expires: Sun, 06 Nov 2094 08:49:38 GMT"], MayStore),
        ] {
            assert_eq!(of("GET", 200, lines), expected, "{lines:?}");
            assert_eq!(of("HEAD", 200, lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn without_stated_freshness_method_and_status_decide() {
        let fresh = &["cache-control: max-age=60"][..];
        for status in [200, 203, 204, 206, 300, 301, 304, 308, 404, 405, 410, 414, 501] {
            assert_eq!(of("GET", status, &[]), MayStore, "{status}");
            assert_eq!(of("POST", status, &[]), MayNotStore, "{status}");
        }
        for status in [201, 202, 302, 303, 307, 400, 401, 403, 418, 500, 502, 503] {
            assert_eq!(of("GET", status, &[]), MayNotStore, "{status}");
            assert_eq!(of("GET", status, &["cache-control: max-age=0"]), MayStore, "{status}");
            assert_eq!(of("GET", status, fresh), IsFresh, "{status}");
        }
        for (method, expected) in [
            ("POST", IsFresh),
            ("PATCH", IsFresh),
            ("PUT", MayNotStore),
            ("DELETE", MayNotStore),
            ("OPTIONS", MayNotStore),
            ("CONNECT", MayNotStore),
            ("PROPFIND", MayNotStore),
        ] {
            assert_eq!(of(method, 200, fresh), expected, "{method}");
        }
        assert_eq!(of("GET", 101, fresh), MayNotStore);
    }

    fn is_guarded(fields: &Fields) -> bool {
        read(&Method::GET, StatusCode::OK, fields, NOW).is_guarded
    }

    #[test]
    fn a_guard_of_the_target_is_recognised_in_each_form() {
        for (line, expected) in [
            ("no-cache=\"set-cookie\"", true),
            ("public, No-Cache=\"Set-Cookie\", max-age=60", true),
            ("no-cache=\"x-user, set-cookie\"", true),
            ("no-cache=set-cookie", true),
            ("no-cache", false),
            ("no-cache=\"x-user\"", false),
            ("no-cache=\"set-cookie2\"", false),
            ("private=\"set-cookie\"", false),
            ("x=\"no-cache=set-cookie\"", false),
        ] {
            let answer = fields(&[&format!("cache-control: {line}")]);
            assert_eq!(is_guarded(&answer), expected, "{line}");
        }
        assert!(!is_guarded(&Fields::default()));
        assert!(is_guarded(&fields(&[
            "cache-control: public",
            "cache-control: no-cache=\"set-cookie\""
        ])));
        let mut guarded = Fields::default();
        guarded.append(Name::CacheControl, GUARD.as_bytes());
        assert!(is_guarded(&guarded), "ours is one");
    }

    proptest! {
        #[test]
        fn any_cache_control_line_is_read_without_a_panic(line in prop::collection::vec(32..=255u8, 0..100)) {
            let answer: Fields = [("cache-control", &line), ("expires", &line)].into_iter().collect();
            read(&Method::GET, StatusCode::OK, &answer, NOW);
        }

        /// In any spelling and beside any other directives.
        #[test]
        fn a_response_that_must_not_be_stored_is_never_evaluated_as_storable(
            upper in any::<bool>(),
            forbids in prop_oneof![Just("no-store"), Just("private")],
            others in prop::collection::vec(
                prop_oneof![
                    Just("public"), Just("max-age=60"), Just("s-maxage=9"), Just("x=\"a, b\""),
                    Just("no-cache=\"set-cookie\""), Just("private=\"x-a\""), Just(""),
                ],
                0..4,
            ),
            at in 0..5usize,
            in_lines in any::<bool>(),
        ) {
            let forbids = if upper { forbids.to_ascii_uppercase() } else { forbids.to_owned() };
            let mut all: Vec<&str> = others;
            all.insert(at.min(all.len()), &forbids);
            let lines: Vec<String> = match in_lines {
                true => all.iter().map(|one| format!("cache-control: {one}")).collect(),
                false => vec![format!("cache-control: {}", all.join(","))],
            };
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            prop_assert_eq!(of("GET", 200, &lines), MayNotStore);
        }
    }
}
