//! The status codes with which a health check passes.

use std::fmt;
use std::ops::RangeInclusive;

/// A set of status codes in ALB's notation: `200`, `200,202`, `200-299`, and mixtures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher(Vec<RangeInclusive<u16>>);

impl Matcher {
    /// Parses codes from 100 to 499 and ranges of them, `None` for any other text; ALB never counts
    /// a 5xx as healthy (AWS, "Health checks for your target groups").
    pub fn http(text: &str) -> Option<Self> {
        Self::of(text, 3..=3, 100..=499)
    }

    /// Parses gRPC codes from 0 to 99 and ranges of them, `None` for any other text.
    pub fn grpc(text: &str) -> Option<Self> {
        Self::of(text, 1..=2, 0..=99)
    }

    fn of(text: &str, digits: RangeInclusive<usize>, codes: RangeInclusive<u16>) -> Option<Self> {
        let code = |text: &str| -> Option<u16> {
            let plain = digits.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
            text.parse().ok().filter(|code| plain && codes.contains(code))
        };
        let ranges = text.split(',').map(|part| {
            let part = part.trim();
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let (from, to) = (code(from.trim())?, code(to.trim())?);
            (from <= to).then_some(from..=to)
        });
        ranges.collect::<Option<Vec<_>>>().map(Self)
    }

    /// Returns true if a check with this status passes.
    pub fn accepts(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match (range.start(), range.end()) {
                (one, end) if one == end => write!(f, "{comma}{one}")?,
                (from, to) => write!(f, "{comma}{from}-{to}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matcher_parses_codes_lists_and_ranges_only() {
        let mixed = Matcher::http("200, 301-302").unwrap();
        for (status, accepted) in
            [(200, true), (201, false), (301, true), (302, true), (303, false)]
        {
            assert_eq!(mixed.accepts(status), accepted, "{status}");
        }
        assert_eq!(mixed.to_string(), "200,301-302");
        for bad in ["", "2xx", "200-", "500", "299-200", "200,,201", "0200", "-200"] {
            assert!(Matcher::http(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn grpc_codes_have_one_or_two_digits_and_differ_from_http_codes() {
        for (text, accepted) in [("12", "12"), ("0-99", "0-99"), ("0,12", "0,12")] {
            assert_eq!(Matcher::grpc(text).unwrap().to_string(), accepted);
            assert!(Matcher::http(text).is_none());
        }
        for bad in ["", "200", "0-100", "5-4", "-1", "012", "OK"] {
            assert!(Matcher::grpc(bad).is_none(), "{bad:?}");
        }
    }
}
