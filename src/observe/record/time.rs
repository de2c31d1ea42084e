//! Times and durations in log records.

use super::text::{Line, digits};
use crate::base::calendar::Civil;
use std::time::Duration;

/// Writes times, and keeps the text of the last second: the next record usually has the same.
#[derive(Debug)]
pub struct Seconds {
    second: Option<u64>,
    text: [u8; LENGTH],
}

const EPOCH: &[u8; LENGTH] = b"1970-01-01T00:00:00.000000Z";
const LENGTH: usize = "1970-01-01T00:00:00.000000Z".len();

impl Default for Seconds {
    fn default() -> Self {
        Self { second: None, text: *EPOCH }
    }
}

impl Seconds {
    /// `2026-11-20T22:23:00.186641Z`, ISO 8601 in UTC with microseconds, as ALB writes it.
    #[inline(always)]
    pub(super) fn text(&mut self, time: Duration) -> &[u8; LENGTH] {
        if self.second != Some(time.as_secs()) {
            self.begin(time);
        }
        self.text[20..26].copy_from_slice(&digits::<6>(time.subsec_micros()));
        &self.text
    }

    #[cold]
    fn begin(&mut self, time: Duration) {
        self.second = Some(time.as_secs());
        let Civil { year, month, day, hour, minute, second } = civil(time);
        self.text[..4].copy_from_slice(&digits::<4>(year as u32));
        for (at, part) in [(5, month), (8, day), (11, hour), (14, minute), (17, second)] {
            self.text[at..at + 2].copy_from_slice(&digits::<2>(part as u32));
        }
    }
}

/// `2026-11-20T22:23:00.186641Z`
pub(crate) fn time_text(time: Duration) -> String {
    String::from_utf8_lossy(Seconds::default().text(time)).into_owned()
}

/// Appends seconds with this many decimals, the rest cut off; `-1` if the exchange did not get so
/// far.
#[inline(always)]
pub(super) fn took<const DECIMALS: usize>(line: &mut Line<'_>, time: Option<Duration>) {
    let Some(time) = time else { return line.put("-1") };
    let unit = 10_u32.pow(9 - DECIMALS as u32);
    line.number(time.as_secs());
    line.put(".");
    line.bytes(&digits::<DECIMALS>(time.subsec_nanos() / unit));
}

/// The date and time of day, in UTC.
pub(super) fn civil(time: Duration) -> Civil {
    Civil::of(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
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

    #[test]
    fn a_new_second_gets_a_new_text() {
        let mut seconds = Seconds::default();
        for (time, expected) in [
            (Duration::from_micros(59_999_999), b"1970-01-01T00:00:59.999999Z"),
            (Duration::from_secs(60), b"1970-01-01T00:01:00.000000Z"),
            (Duration::from_micros(59_000_001), b"1970-01-01T00:00:59.000001Z"),
            (Duration::from_secs(253_402_300_799), b"9999-12-31T23:59:59.000000Z"),
        ] {
            assert_eq!(seconds.text(time), expected);
        }
    }

    #[test]
    fn digits_below_the_last_decimal_are_cut_off() {
        let text = |time: Option<Duration>| {
            let mut room = [0; 64];
            let mut line = Line::new(&mut room);
            took::<3>(&mut line, time);
            line.put(" ");
            took::<6>(&mut line, time);
            let length = 64 - line.left();
            String::from_utf8(room[..length].to_vec()).unwrap()
        };
        assert_eq!(text(None), "-1 -1");
        assert_eq!(text(Some(Duration::ZERO)), "0.000 0.000000");
        assert_eq!(text(Some(Duration::new(9, 999_999_999))), "9.999 9.999999");
        assert_eq!(text(Some(Duration::new(12_345, 1_001_999))), "12345.001 12345.001001");
    }
}
