//! Durations and sizes as operators write them: a number never stands without its unit, for other
//! proxies read a bare one as milliseconds, seconds or nanoseconds.

use std::time::Duration;

const DURATION_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZE_UNITS: [(&str, u64); 7] = [
    ("B", 1),
    ("kB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
];

/// `250ms`, `1h30m`, `7d`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut total = 0u64;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, unit, after) = leading_quantity(rest)?;
        let (_, factor) = DURATION_UNITS.iter().find(|(known, _)| *known == unit)?;
        total = total.checked_add(number.checked_mul(*factor)?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(Duration::from_millis(total))
}

/// `64KiB`, `1MB`, and `0`, which is nothing in any unit.
pub(super) fn size(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let (number, unit, after) = leading_quantity(text)?;
    let (_, factor) = SIZE_UNITS.iter().find(|(known, _)| known.eq_ignore_ascii_case(unit))?;
    after.is_empty().then_some(number.checked_mul(*factor)?)
}

fn leading_quantity(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, rest) = text.split_at(digits);
    let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (unit, after) = rest.split_at(end);
    Some((number.parse().ok()?, unit, after))
}

/// A duration in the largest units that say it whole.
pub(super) fn write_duration(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if left == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, factor) in DURATION_UNITS.iter().rev() {
        if left >= *factor {
            text.push_str(&format!("{}{unit}", left / factor));
            left %= factor;
        }
    }
    text
}

/// A size in the largest binary unit that says it whole.
pub(super) fn write_size(size: u64) -> String {
    let binary = SIZE_UNITS.iter().rev().filter(|(unit, _)| unit.ends_with("iB"));
    for (unit, factor) in binary {
        if size > 0 && size.is_multiple_of(*factor) {
            return format!("{}{unit}", size / factor);
        }
    }
    if size == 0 { "0".to_owned() } else { format!("{size}B") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_numbers_with_units() {
        for (text, milliseconds) in
            [("250ms", 250), ("1h30m", 5_400_000), ("7d", 604_800_000), ("0s", 0), ("1m1s", 61_000)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
            assert_eq!(duration(&write_duration(duration(text).unwrap())), duration(text));
        }
        for bad in ["", "5", "s", "5 s", "-5s", "5S", "1.5h", "5s5", "99999999999999999999s"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_size_is_a_number_with_a_unit_or_nothing() {
        for (text, bytes) in [("64KiB", 65_536), ("1MB", 1_000_000), ("0", 0), ("7B", 7)] {
            assert_eq!(size(text), Some(bytes), "{text}");
            assert_eq!(size(&write_size(bytes)), Some(bytes));
        }
        for bad in ["", "64", "KiB", "64 KiB", "64KiB1", "1TB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }
}
