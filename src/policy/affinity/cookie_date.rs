//! The date in a cookie's `Expires`, read as browsers read it (RFC 6265 section 5.1.1): frameworks
//! write it in a dozen forms, and a logout that is not recognised would leave a pin.

use crate::base::calendar::{days_in_month, days_since_1970};

/// The date in seconds since 1970, 0 for all earlier dates; `None` if a browser would not read a
/// date.
pub(crate) fn read(text: &[u8]) -> Option<u64> {
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    for token in text.split(|&byte| is_delimiter(byte)).filter(|token| !token.is_empty()) {
        if time.is_none()
            && let Some(found) = time_of(token)
        {
            time = Some(found);
        } else if day.is_none()
            && let Some(found) = number(token, 1..=2)
        {
            day = Some(found);
        } else if month.is_none()
            && let Some(found) = month_of(token)
        {
            month = Some(found);
        } else if year.is_none()
            && let Some(found) = number(token, 2..=4)
        {
            year = Some(match found {
                70..=99 => found + 1_900,
                0..=69 => found + 2_000,
                _ => found,
            });
        }
    }
    seconds(year?, month?, day?, time?)
}

fn is_delimiter(byte: u8) -> bool {
    matches!(byte, b'\t' | 0x20..=0x2f | 0x3b..=0x40 | 0x5b..=0x60 | 0x7b..=0x7e)
}

/// The leading number of a token, if its count of digits is in this range.
fn number(token: &[u8], digits: std::ops::RangeInclusive<usize>) -> Option<u64> {
    let end = token.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(token.len());
    let value = |sum, digit: &u8| sum * 10 + u64::from(digit - b'0');
    digits.contains(&end).then(|| token[..end].iter().fold(0, value))
}

/// Seconds since midnight.
fn time_of(token: &[u8]) -> Option<u64> {
    let mut fields = token.splitn(3, |&byte| byte == b':');
    let mut whole = || fields.next().filter(|field| field.iter().all(u8::is_ascii_digit));
    let (hours, minutes) = (number(whole()?, 1..=2)?, number(whole()?, 1..=2)?);
    let seconds = number(fields.next()?, 1..=2)?;
    (hours < 24 && minutes < 60 && seconds < 60).then_some((hours * 60 + minutes) * 60 + seconds)
}

fn month_of(token: &[u8]) -> Option<u64> {
    let months = (1..).zip(b"janfebmaraprmayjunjulaugsepoctnovdec".as_chunks::<3>().0);
    let named = token.get(..3)?;
    let mut named_so = months.filter(|(_, name)| named.eq_ignore_ascii_case(*name));
    named_so.next().map(|(month, _)| month)
}

fn seconds(year: u64, month: u64, day: u64, time: u64) -> Option<u64> {
    let (year, month, day) = (year as i64, month as i64, day as i64);
    if year < 1_601 || !(1..=days_in_month(year, month)).contains(&day) {
        return None;
    }
    let midnight = days_since_1970(year, month, day) * 86_400;
    Some(u64::try_from(midnight).map_or(0, |midnight| midnight + time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_date_forms_of_frameworks_are_read_as_browsers_read_them() {
        for (text, means) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Thu, 01-Jan-1970 00:00:10 GMT", Some(10)),
            ("Thu, 01-Jan-70 00:00:01 GMT", Some(1)),
            ("Thu, 1 Jan 1970 00:00:00 GMT", Some(0)),
            ("Thu, 01 Jan 1970 00:00:00 -0000", Some(0)),
            ("Thu, 01 Jan 1970 00:00:00 UTC", Some(0)),
            ("Thu Jan  1 00:00:09 1970", Some(9)),
            ("Thu Jan 01 1970 00:00:00 GMT+0000 (UTC)", Some(0)),
            ("Tue, 12-Oct-1999 00:00:00 GMT", Some(939_686_400)),
            ("Fri, 15 Jan 2027 08:00:00 GMT", Some(1_800_000_000)),
            ("Thu, 29 Feb 2024 23:59:59 GMT", Some(1_709_251_199)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(253_402_300_799)),
            ("Fri, 01 Jan 2100 00:00:00 GMT", Some(4_102_444_800)),
            ("Wed, 31 Dec 1969 23:59:59 GMT", Some(0)),
            // By the letter of the standard, a year of 0 to 69 is of this century, however many
            // digits it has.
            ("Mon, 01-Jan-0001 00:00:00 GMT", Some(978_307_200)),
            ("Fri, 31 Dec 1600 23:59:59 GMT", None),
            ("Thu, 29 Feb 2023 00:00:00 GMT", None),
            ("Thu, 32 Jan 1970 00:00:00 GMT", None),
            ("Thu, 01 Jan 1970 24:00:00 GMT", None),
            ("Thu, 01 Jan 1970 00:00 GMT", None),
            ("0", None),
            ("-1", None),
            ("", None),
            ("never", None),
        ] {
            assert_eq!(read(text.as_bytes()), means, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_date_text_is_read_without_a_panic(text in prop::collection::vec(any::<u8>(), 0..60)) {
            read(&text);
        }

        #[test]
        fn the_standards_form_is_read_as_another_reader_reads_it(moment in 0u64..253_402_300_800) {
            let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH + std::time::Duration::from_secs(moment));
            prop_assert_eq!(read(date.as_bytes()), Some(moment));
        }
    }
}
