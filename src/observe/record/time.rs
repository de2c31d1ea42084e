//! Moments and how long something took, as they are written down.

use super::text::{number, put};
use crate::ground::calendar::Civil;
use std::io::Write;
use std::time::Duration;

/// Writes times, and keeps the text of the second it wrote last: the next record's is mostly the
/// same.
#[derive(Debug, Default)]
pub struct Seconds {
    second: u64,
    text: Vec<u8>,
}

impl Seconds {
    /// Appends `2026-11-20T22:23:00.186641Z`, ISO 8601 in UTC with microseconds, as ALB writes it.
    pub fn write(&mut self, line: &mut Vec<u8>, time: Duration) {
        if self.second != time.as_secs() || self.text.is_empty() {
            self.second = time.as_secs();
            let Civil { year, month, day, hour, minute, second } = civil(time);
            self.text.clear();
            // Writing to memory cannot fail.
            let _ = write!(
                self.text,
                "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}."
            );
        }
        line.extend_from_slice(&self.text);
        digits::<6>(line, time.subsec_micros());
        put(line, "Z");
    }
}

/// `2026-11-20T22:23:00.186641Z`
pub fn time_text(time: Duration) -> String {
    let mut text = Vec::new();
    Seconds::default().write(&mut text, time);
    String::from_utf8_lossy(&text).into_owned()
}

/// Seconds with so many decimals, the rest cut off; `-1` where the exchange did not get so far.
#[inline(always)]
pub(super) fn took<const DECIMALS: usize>(line: &mut Vec<u8>, time: Option<Duration>) {
    match time {
        Some(time) => {
            number(line, time.as_secs());
            put(line, ".");
            let unit = 10_u32.pow(9 - DECIMALS as u32);
            digits::<DECIMALS>(line, time.subsec_nanos() / unit);
        }
        None => put(line, "-1"),
    }
}

/// When it was, in UTC.
pub(super) fn civil(time: Duration) -> Civil {
    Civil::of(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

/// The last so many digits of a number, zeros in front.
pub(super) fn digits<const COUNT: usize>(line: &mut Vec<u8>, mut value: u32) {
    let mut digits = [b'0'; COUNT];
    for digit in digits.iter_mut().rev() {
        *digit += (value % 10) as u8;
        value /= 10;
    }
    line.extend_from_slice(&digits);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_days_of_leap_years_are_right() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000000Z"),
        ] {
            assert_eq!(time_text(Duration::from_secs(seconds)), expected);
        }
    }
}
