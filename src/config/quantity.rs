//! Durations and sizes in the file: each number has a unit.

use std::time::Duration;

/// Reason why a text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Defect {
    /// A bare number: the unit could be seconds or milliseconds.
    NoUnit,
    /// Any other error.
    Unreadable,
}

const DURATIONS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZES: &[(&str, u64)] = &[
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

/// Parses `250ms`, `30s`, `1h30m`, `7d`: integers, each with its unit.
///
/// # Errors
/// If a unit is missing, or the text is not of this form.
pub(super) fn duration(text: &str) -> Result<Duration, Defect> {
    let mut rest = text;
    let mut sum: u64 = 0;
    while !rest.is_empty() {
        let (number, unit, left) = leading(rest)?;
        let factor = factor(DURATIONS, unit)?;
        let part = number.checked_mul(factor).ok_or(Defect::Unreadable)?;
        sum = sum.checked_add(part).ok_or(Defect::Unreadable)?;
        rest = left;
    }
    if text.is_empty() { Err(Defect::Unreadable) } else { Ok(Duration::from_millis(sum)) }
}

/// Parses `64KiB`, `1MB`, `512B`, and `0`, which needs no unit.
///
/// # Errors
/// If the unit is missing, or the text is not of this form.
pub(super) fn size(text: &str) -> Result<u64, Defect> {
    if text == "0" {
        return Ok(0);
    }
    let (number, unit, left) = leading(text)?;
    if !left.is_empty() {
        return Err(Defect::Unreadable);
    }
    number.checked_mul(factor(SIZES, unit)?).ok_or(Defect::Unreadable)
}

/// Formats a duration for [`duration`], in the largest units that hold it exactly.
pub(super) fn duration_text(duration: Duration) -> String {
    let mut left = duration.as_millis();
    let mut text = String::new();
    for (unit, factor) in DURATIONS.iter().rev() {
        let count = left / u128::from(*factor);
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
            left %= u128::from(*factor);
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// Formats a size for [`size`], in the largest unit that holds it exactly.
pub(super) fn size_text(size: u64) -> String {
    let fits = |(_, factor): &&(&str, u64)| size.is_multiple_of(*factor);
    match SIZES.iter().filter(fits).max_by_key(|(_, factor)| *factor) {
        Some((unit, factor)) if size > 0 => format!("{}{unit}", size / factor),
        _ => "0".into(),
    }
}

/// Splits off the first number and unit; the third value is the rest of the text.
fn leading(text: &str) -> Result<(u64, &str, &str), Defect> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    let number = number.parse().map_err(|_| Defect::Unreadable)?;
    let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
    let (unit, left) = rest.split_at(letters);
    if unit.is_empty() && left.is_empty() {
        return Err(Defect::NoUnit);
    }
    Ok((number, unit, left))
}

fn factor(units: &[(&str, u64)], unit: &str) -> Result<u64, Defect> {
    let found = units.iter().find(|(name, _)| *name == unit);
    found.map(|(_, factor)| *factor).ok_or(Defect::Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_duration_is_integers_each_with_its_unit() {
        for (text, millis) in
            [("250ms", 250), ("30s", 30_000), ("1h30m", 5_400_000), ("7d", 604_800_000), ("0s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(duration("30"), Err(Defect::NoUnit));
        assert_eq!(duration("1h30"), Err(Defect::NoUnit));
        for bad in ["", "s", "1.5s", "-1s", "1 s", "30sec", "99999999999999999999s"] {
            assert_eq!(duration(bad), Err(Defect::Unreadable), "{bad}");
        }
    }

    #[test]
    fn a_size_has_one_unit_and_only_zero_needs_none() {
        for (text, bytes) in [("64KiB", 65_536), ("1MB", 1_000_000), ("0", 0), ("7B", 7)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        assert_eq!(size("10"), Err(Defect::NoUnit));
        for bad in ["", "1kb", "1MiB1KiB", "KiB"] {
            assert_eq!(size(bad), Err(Defect::Unreadable), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_formatted_quantity_parses_to_the_same_value(millis in 0..u64::MAX / 2, bytes: u64) {
            let time = Duration::from_millis(millis);
            prop_assert_eq!(duration(&duration_text(time)), Ok(time));
            prop_assert_eq!(size(&size_text(bytes)), Ok(bytes));
        }
    }
}
