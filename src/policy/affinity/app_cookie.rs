//! The application's own cookie, as a response treats it: whether it is set or ended. The name is
//! compared; the value is never decoded, logged or compared (AWS, "Sticky sessions for your
//! Application Load Balancer": the balancer checks the name only).

use super::cookie_date;

/// What a response does to the application's cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppCookie {
    /// Nothing.
    Untouched,
    /// It sets it.
    Set,
    /// It expires it: the session is over.
    Ended,
}

/// What our cookie beside the application's is called: as the first of ALB's four shards. A token
/// fits into one, so the others are neither written nor read.
pub fn companion_name(companion: &str) -> String {
    format!("{companion}-0")
}

/// What the `Set-Cookie` lines of a response do to the cookie of this name. Of several lines the
/// last counts, for it is the one a browser is left with (RFC 6265 section 5.3 step 11). `now` is in
/// seconds since 1970.
pub fn read<'a>(lines: impl Iterator<Item = &'a [u8]>, name: &str, now: u64) -> AppCookie {
    let attributes = lines.filter_map(|line| attributes_of(line, name)).last();
    match attributes {
        None => AppCookie::Untouched,
        Some(attributes) if is_over(attributes, now) => AppCookie::Ended,
        Some(_) => AppCookie::Set,
    }
}

/// What follows the value, if the line sets the cookie of this name (RFC 6265 section 5.2: up to the
/// first `;`, name and value parted at the first `=`, both trimmed of spaces and tabs).
fn attributes_of<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let end = memchr::memchr(b';', line).unwrap_or(line.len());
    let pair = &line[..end];
    let equals = memchr::memchr(b'=', pair)?;
    (pair[..equals].trim_ascii() == name.as_bytes()).then_some(&line[end..])
}

/// Whether the attributes put an end to the cookie. `Max-Age` counts before `Expires`, and of each
/// the last one that can be read (RFC 6265 sections 5.2 and 5.3 step 3).
fn is_over(attributes: &[u8], now: u64) -> bool {
    let (mut lives, mut date) = (None, None);
    for attribute in attributes.split(|&byte| byte == b';') {
        let Some(equals) = memchr::memchr(b'=', attribute) else { continue };
        let (name, value) =
            (attribute[..equals].trim_ascii(), attribute[equals + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"max-age") {
            lives = has_age(value).or(lives);
        } else if name.eq_ignore_ascii_case(b"expires") {
            date = cookie_date::read(value).or(date);
        }
    }
    match lives {
        Some(lives) => !lives,
        None => date.is_some_and(|date| date <= now),
    }
}

/// Whether a `Max-Age` is more than 0; `None` for what is no number (RFC 6265 section 5.2.2).
fn has_age(value: &[u8]) -> Option<bool> {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.len() == value.len() && digits.iter().any(|&digit| digit != b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_800_000_000;

    fn of(lines: &[&str]) -> AppCookie {
        read(lines.iter().map(|line| line.as_bytes()), "JSESSIONID", NOW)
    }

    #[test]
    fn what_real_stacks_write_is_read_for_what_it_does() {
        use AppCookie::{Ended, Set, Untouched};
        for (line, means) in [
            ("JSESSIONID=5AC6268DD8D4D5D1.s1; Path=/shop; HttpOnly", Set),
            ("JSESSIONID=node01k; Max-Age=1800; Expires=Fri, 15-Jan-2027 08:30:00 GMT", Set),
            ("JSESSIONID=; Max-Age=0; Expires=Thu, 01-Jan-1970 00:00:10 GMT; Path=/", Ended),
            ("JSESSIONID=; expires=Thu, 01 Jan 1970 00:00:00 GMT; path=/; HttpOnly", Ended),
            ("JSESSIONID=deleted; expires=Thu, 01-Jan-1970 00:00:01 GMT; Max-Age=0; path=/", Ended),
            ("JSESSIONID=\"\"; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/", Ended),
            ("JSESSIONID=x; MAX-AGE=-1", Ended),
            ("JSESSIONID=x; Max-Age=00", Ended),
            ("JSESSIONID=x; Max-Age=99999999999999999999", Set),
            ("JSESSIONID=x; Max-Age=60; Max-Age=0", Ended),
            ("JSESSIONID=x; Max-Age=0; Max-Age=soon", Ended),
            ("JSESSIONID=x; Max-Age=", Set),
            ("JSESSIONID=x; Max-Age=-", Set),
            ("JSESSIONID=x; Expires=Thu, 1 Jan 1970 00:00:00 GMT", Ended),
            ("JSESSIONID=x; Expires=Thu, 01 Jan 1970 00:00:00 -0000", Ended),
            ("JSESSIONID=x; Expires=0", Set),
            ("JSESSIONID=x; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=60", Set),
            ("JSESSIONID=x; Max-Age=soon", Set),
            ("JSESSIONID=x; Expires=never", Set),
            ("JSESSIONID=x; Expires=Fri, 15 Jan 2027 08:00:00 GMT", Ended),
            ("JSESSIONID=x; Expires=Fri, 15 Jan 2027 08:00:01 GMT", Set),
            ("JSESSIONID=", Set),
            ("JSESSIONID=a=b; Path=/", Set),
            (" JSESSIONID = x", Set),
            ("jsessionid=x", Untouched),
            ("JSESSIONIDX=x", Untouched),
            ("X=JSESSIONID=x", Untouched),
            ("JSESSIONID; Path=/", Untouched),
            ("other=1; JSESSIONID=x", Untouched),
            ("", Untouched),
        ] {
            assert_eq!(of(&[line]), means, "{line}");
        }
    }

    #[test]
    fn of_several_lines_the_last_of_that_name_counts() {
        let (set, end) = ("JSESSIONID=x; Path=/", "JSESSIONID=; Max-Age=0");
        assert_eq!(of(&[set, end]), AppCookie::Ended);
        assert_eq!(of(&[end, set]), AppCookie::Set);
        assert_eq!(of(&[end, set, "theme=; Max-Age=0"]), AppCookie::Set);
        assert_eq!(of(&[]), AppCookie::Untouched);
    }

    #[test]
    fn a_value_that_is_no_text_is_not_looked_at() {
        let line = b"JSESSIONID=\xff\xfe; Max-Age=0".as_slice();
        assert_eq!(read([line].into_iter(), "JSESSIONID", NOW), AppCookie::Ended);
    }

    proptest! {
        #[test]
        fn whatever_a_target_writes_is_read_without_a_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut named = b"JSESSIONID=".to_vec();
            named.extend_from_slice(&line);
            let told = read([named.as_slice()].into_iter(), "JSESSIONID", NOW);
            prop_assert_ne!(told, AppCookie::Untouched);
            read([line.as_slice()].into_iter(), "JSESSIONID", NOW);
        }
    }
}
