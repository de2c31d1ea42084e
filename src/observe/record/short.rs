//! A record as one short line for people at a terminal.

use super::Record;
use super::text::Line;
use super::time::civil;
use crate::decide::verdict::Verdict;
use std::fmt::Write;

impl Record<'_> {
    /// `12:00:01 GET /cart 200 b hit 1.2ms`
    pub(super) fn write_short(&self, line: &mut Line<'_>) {
        let time = civil(self.ended);
        // Writing to memory cannot fail, here and below.
        let _ = write!(line, "{:02}:{:02}:{:02} ", time.hour, time.minute, time.second);
        plain(line, self.method);
        line.put(" ");
        plain(line, &String::from_utf8_lossy(self.target_uri));
        let _ = write!(line, " {}", self.status);
        if let Some(target) = self.target {
            let _ = write!(line, " {target}");
        }
        if let Some(verdict) = self.sticky {
            let _ = write!(line, " {verdict}");
        }
        if let Some(from) = self.from.filter(|_| self.sticky != Some(Verdict::Hit)) {
            let _ = write!(line, " (was {from})");
        }
        if let Some(reason) = self.error_reason {
            let _ = write!(line, " {}", reason.word());
        }
        let took = self.ended.saturating_sub(self.began);
        let _ = write!(line, " {:.1}ms", took.as_secs_f64() * 1_000.0);
    }
}

/// Appends text for a line without quotes: control characters and blanks become `?`.
fn plain(line: &mut Line<'_>, value: &str) {
    for c in value.chars() {
        let c = if c.is_control() || c == ' ' { '?' } else { c };
        line.put(c.encode_utf8(&mut [0; 4]));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::written;
    use crate::config::settings::AccessFormat;

    #[test]
    fn a_short_record_has_time_request_status_target_and_verdict() {
        let line = written(AccessFormat::Short);
        assert_eq!(line, "22:23:00 GET /a?b=\"c\"\\ 200 s1 hit 86.6ms\n");
    }
}
