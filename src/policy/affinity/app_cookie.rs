//! The `Set-Cookie` lines of a target's response: set or clear the app cookie, and any other cookie
//! that is not the balancer's. The name is compared; the value is never decoded, logged or compared
//! (AWS, "Sticky sessions for your Application Load Balancer": the balancer checks the name only).

use super::cookie_date;

/// The name of the companion cookie: that of the first of ALB's four shards. A token fits into one
/// shard, so the others are neither written nor read.
pub(crate) fn companion_name(companion: &str) -> String {
    format!("{companion}-0")
}

/// Returns true if the `Set-Cookie` lines of a response set the cookie of this name. A line that
/// clears it is ignored, before or after one that sets it: frameworks clear an old path after the
/// new cookie, and another context may have a session under the same name. `now` is in seconds
/// since 1970.
pub(crate) fn sets<'a>(lines: impl Iterator<Item = &'a [u8]>, name: &str, now: u64) -> bool {
    sets_any(lines, |found| found == name.as_bytes(), now)
}

/// Returns true if the `Set-Cookie` lines of a response set a cookie other than those of these
/// names, which are the balancer's own.
pub(crate) fn sets_other<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
    ours: &[impl AsRef<str>],
    now: u64,
) -> bool {
    sets_any(lines, |found| ours.iter().all(|name| found != name.as_ref().as_bytes()), now)
}

fn sets_any<'a>(
    mut lines: impl Iterator<Item = &'a [u8]>,
    is_wanted: impl Fn(&[u8]) -> bool,
    now: u64,
) -> bool {
    lines.any(|line| {
        parted(line).is_some_and(|(name, attributes)| is_wanted(name) && !clears(attributes, now))
    })
}

/// Splits a line into the cookie's name and the text after its value (RFC 6265 section 5.2: up to
/// the first `;`, split at the first `=`, both sides trimmed of spaces and tabs).
fn parted(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b';', line).unwrap_or(line.len());
    let pair = &line[..end];
    let equals = memchr::memchr(b'=', pair)?;
    Some((pair[..equals].trim_ascii(), &line[end..]))
}

/// Returns true if the attributes delete the cookie. `Max-Age` has precedence over `Expires`, and
/// of each the last one that can be read counts (RFC 6265 sections 5.2 and 5.3 step 3).
fn clears(attributes: &[u8], now: u64) -> bool {
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

/// True if a `Max-Age` is more than 0; `None` if it is not a number (RFC 6265 section 5.2.2).
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

    fn of(lines: &[&str]) -> bool {
        sets(lines.iter().map(|line| line.as_bytes()), "JSESSIONID", NOW)
    }

    #[test]
    fn set_cookie_lines_of_real_frameworks_are_read_correctly() {
        const SETS: bool = true;
        const CLEARS: bool = false;
        const IS_OF_ANOTHER: bool = false;
        for (line, means) in [
            ("JSESSIONID=5AC6268DD8D4D5D1.s1; Path=/shop; HttpOnly", SETS),
            ("JSESSIONID=node01k; Max-Age=1800; Expires=Fri, 15-Jan-2027 08:30:00 GMT", SETS),
            ("JSESSIONID=; Max-Age=0; Expires=Thu, 01-Jan-1970 00:00:10 GMT; Path=/", CLEARS),
            ("JSESSIONID=; expires=Thu, 01 Jan 1970 00:00:00 GMT; path=/; HttpOnly", CLEARS),
            (
                "JSESSIONID=deleted; expires=Thu, 01-Jan-1970 00:00:01 GMT; Max-Age=0; path=/",
                CLEARS,
            ),
            ("JSESSIONID=\"\"; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/", CLEARS),
            ("JSESSIONID=x; MAX-AGE=-1", CLEARS),
            ("JSESSIONID=x; Max-Age=00", CLEARS),
            ("JSESSIONID=x; Max-Age=99999999999999999999", SETS),
            ("JSESSIONID=x; Max-Age=60; Max-Age=0", CLEARS),
            ("JSESSIONID=x; Max-Age=0; Max-Age=soon", CLEARS),
            ("JSESSIONID=x; Max-Age=", SETS),
            ("JSESSIONID=x; Max-Age=-", SETS),
            ("JSESSIONID=x; Expires=Thu, 1 Jan 1970 00:00:00 GMT", CLEARS),
            ("JSESSIONID=x; Expires=Thu, 01 Jan 1970 00:00:00 -0000", CLEARS),
            ("JSESSIONID=x; Expires=0", SETS),
            ("JSESSIONID=x; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=60", SETS),
            ("JSESSIONID=x; Max-Age=soon", SETS),
            ("JSESSIONID=x; Expires=never", SETS),
            ("JSESSIONID=x; Expires=Fri, 15 Jan 2027 08:00:00 GMT", CLEARS),
            ("JSESSIONID=x; Expires=Fri, 15 Jan 2027 08:00:01 GMT", SETS),
            ("JSESSIONID=", SETS),
            ("JSESSIONID=a=b; Path=/", SETS),
            (" JSESSIONID = x", SETS),
            ("jsessionid=x", IS_OF_ANOTHER),
            ("JSESSIONIDX=x", IS_OF_ANOTHER),
            ("X=JSESSIONID=x", IS_OF_ANOTHER),
            ("JSESSIONID; Path=/", IS_OF_ANOTHER),
            ("other=1; JSESSIONID=x", IS_OF_ANOTHER),
            ("", IS_OF_ANOTHER),
        ] {
            assert_eq!(of(&[line]), means, "{line}");
        }
    }

    #[test]
    fn a_line_that_sets_the_cookie_counts_beside_lines_that_clear_it() {
        let (set, clear) = ("JSESSIONID=x; Path=/", "JSESSIONID=; Max-Age=0; Path=/old");
        for (lines, expected) in [
            (&[][..], false),
            (&[set], true),
            (&[clear], false),
            (&[clear, clear], false),
            (&[set, clear], true),
            (&[clear, set], true),
            (&[clear, set, clear], true),
            (&[clear, "theme=dark"], false),
            (&[set, "theme=; Max-Age=0"], true),
        ] {
            assert_eq!(of(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn own_and_cleared_cookies_do_not_count_as_cookies_of_the_target() {
        let ours = ["AWSALB", "AWSALBCORS"];
        for (lines, expected) in [
            (&[][..], false),
            (&["cart=7"], true),
            (&["AWSALB=x; Path=/", "AWSALBCORS=x"], false),
            (&["AWSALB=x", "cart=7; Max-Age=60"], true),
            (&["cart=; Max-Age=0"], false),
            (&["awsalb=x"], true),
            (&["no cookie"], false),
        ] {
            let bytes = lines.iter().map(|line| line.as_bytes());
            assert_eq!(sets_other(bytes, &ours, NOW), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_value_that_is_not_text_is_not_read() {
        for (line, expected) in [
            (b"JSESSIONID=\xff\xfe; Max-Age=0".as_slice(), false),
            (b"JSESSIONID=\xff\xfe; Max-Age=1", true),
        ] {
            assert_eq!(sets([line].into_iter(), "JSESSIONID", NOW), expected);
        }
    }

    proptest! {
        #[test]
        fn any_set_cookie_line_is_read_without_a_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut named = b"JSESSIONID=".to_vec();
            named.extend_from_slice(&line);
            let told = sets([named.as_slice()].into_iter(), "JSESSIONID", NOW);
            // Text after the line that sets the cookie changes nothing.
            let lines = [named.as_slice(), b"JSESSIONID=; Max-Age=0"];
            prop_assert_eq!(sets(lines.into_iter(), "JSESSIONID", NOW), told);
            sets([line.as_slice()].into_iter(), "JSESSIONID", NOW);
        }
    }
}
