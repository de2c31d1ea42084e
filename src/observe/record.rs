//! One exchange as it is written down: the fields of ALB's access log, and what became of the pin.

use crate::config::settings::AccessFormat;
use crate::decide::verdict::{GroupVerdict, Verdict};
use std::io::Write;
use std::time::Duration;

/// What is written for one exchange. Borrowed: it is formatted on the worker that served it and
/// never kept.
#[derive(Clone, Debug)]
pub struct Record<'x> {
    /// `http` or `ws`.
    pub kind: &'static str,
    /// When it ended, since the Unix epoch.
    pub ended: Duration,
    /// When the request's head was read, since the Unix epoch.
    pub began: Duration,
    /// The listener it came by.
    pub listener: &'x str,
    /// The client's address, as `trusted_proxies` make it.
    pub client: &'x str,
    /// Who connected: address and port.
    pub peer: &'x str,
    /// The group it went to.
    pub group: Option<&'x str>,
    /// The target's id.
    pub target: Option<&'x str>,
    /// Where the target is.
    pub target_address: Option<&'x str>,
    /// From the request's head to its dispatch; `None` if it was not dispatched.
    pub request_processing: Option<Duration>,
    /// From dispatch to the target's head.
    pub target_processing: Option<Duration>,
    /// From the target's head to the end of the answer.
    pub response_processing: Option<Duration>,
    /// What the client got; ALB's 460 where it was gone, 463 for a forwarding loop.
    pub status: u16,
    /// What the target said.
    pub target_status: Option<u16>,
    /// Bytes from the client, heads included.
    pub received_bytes: u64,
    /// Bytes to the client, heads included.
    pub sent_bytes: u64,
    /// The request's method.
    pub method: &'x str,
    /// Host as the client named it.
    pub host: &'x [u8],
    /// Path and query as sent.
    pub target_uri: &'x [u8],
    /// `HTTP/1.1`
    pub version: &'static str,
    /// The client's User-Agent, of [`LONGEST_USER_AGENT`] bytes at most.
    pub user_agent: &'x [u8],
    /// X-Amzn-Trace-Id as the target got it.
    pub trace_id: &'x [u8],
    /// The rule's name, `default` for the listener's default.
    pub rule: &'x str,
    /// `forward`, `redirect`, `fixed-response`, or `-`.
    pub action: &'static str,
    /// Why the balancer answered itself, or why the exchange broke.
    pub error_reason: Option<&'static str>,
    /// What became of the pin to a group, where the rule names several.
    pub group_sticky: Option<GroupVerdict>,
    /// ALB's class of a request that could be read in two ways, and why; `None` for a compliant one.
    pub classification: Option<(&'static str, &'static str)>,
    /// What became of the pin.
    pub sticky: Option<Verdict>,
    /// What was written into the cookie: `new`, `adopted`, `renewed`, `resealed`, `moved`, `ended`.
    pub set_cookie: Option<&'static str>,
    /// The id of the target a moved or spilled client was pinned to, if it is still in the group.
    pub from: Option<&'x str>,
    /// Targets tried.
    pub attempts: u32,
    /// The worker that served it.
    pub worker: usize,
}

/// Bytes that most records do not exceed.
const USUAL_LENGTH: usize = 1_024;
/// User agents are cut here, as ALB cuts them.
pub const LONGEST_USER_AGENT: usize = 8 * 1_024;

impl Record<'_> {
    /// Appends the record as one line.
    pub fn write(&self, format: AccessFormat, seconds: &mut Seconds, line: &mut Vec<u8>) {
        match format {
            AccessFormat::Json => self.write_json(seconds, line),
            AccessFormat::Short => self.write_short(line),
        }
        line.push(b'\n');
    }

    // A record has thirty fields and is written for every exchange: through `write!` it cost more
    // than deciding and forwarding together. So each key is one literal with the punctuation
    // around it, numbers go through `itoa`, and nothing is formatted twice.
    fn write_json(&self, seconds: &mut Seconds, line: &mut Vec<u8>) {
        line.reserve(USUAL_LENGTH);
        put(line, "{\"type\":\"");
        put(line, self.kind);
        put(line, "\",\"time\":\"");
        seconds.write(line, self.ended);
        put(line, "\",\"listener\":\"");
        put(line, self.listener);
        put(line, "\",\"client\":\"");
        put(line, self.client);
        put(line, "\",\"peer\":\"");
        put(line, self.peer);
        put(line, "\"");
        optional(line, ",\"group\":", self.group);
        optional(line, ",\"target\":", self.target);
        optional(line, ",\"target_address\":", self.target_address);
        duration(line, ",\"request_processing_time\":", self.request_processing);
        duration(line, ",\"target_processing_time\":", self.target_processing);
        duration(line, ",\"response_processing_time\":", self.response_processing);
        put(line, ",\"status\":");
        number(line, u64::from(self.status));
        put(line, ",\"target_status\":");
        match self.target_status {
            Some(status) => number(line, u64::from(status)),
            None => put(line, "null"),
        }
        put(line, ",\"received_bytes\":");
        number(line, self.received_bytes);
        put(line, ",\"sent_bytes\":");
        number(line, self.sent_bytes);
        put(line, ",\"method\":\"");
        put(line, self.method);
        put(line, "\",\"host\":\"");
        escape(line, self.host);
        put(line, "\",\"uri\":\"");
        escape(line, self.target_uri);
        put(line, "\",\"version\":\"");
        put(line, self.version);
        put(line, "\",\"user_agent\":\"");
        escape(line, self.user_agent);
        put(line, "\",\"trace_id\":\"");
        escape(line, self.trace_id);
        put(line, "\",\"rule\":\"");
        put(line, self.rule);
        put(line, "\",\"request_creation_time\":\"");
        seconds.write(line, self.began);
        put(line, "\",\"action\":\"");
        put(line, self.action);
        put(line, "\"");
        optional(line, ",\"error_reason\":", self.error_reason);
        if let Some(verdict) = self.group_sticky {
            put(line, ",\"group_sticky\":\"");
            put(line, verdict.word());
            put(line, "\"");
        }
        if let Some((class, reason)) = self.classification {
            put(line, ",\"desync\":{\"class\":\"");
            put(line, class);
            put(line, "\",\"reason\":\"");
            put(line, reason);
            put(line, "\"}");
        }
        optional(line, ",\"sticky\":", self.sticky.map(Verdict::word));
        optional(line, ",\"set_cookie\":", self.set_cookie);
        optional(line, ",\"from\":", self.from);
        put(line, ",\"attempts\":");
        number(line, u64::from(self.attempts));
        put(line, ",\"worker\":");
        number(line, self.worker as u64);
        put(line, "}");
    }

    /// `12:00:01 GET /cart 200 b hit 1.2ms`
    fn write_short(&self, line: &mut Vec<u8>) {
        let time = Clock::of(self.ended.as_secs());
        // Writing to memory cannot fail, here and below.
        let _ = write!(line, "{:02}:{:02}:{:02} ", time.hour, time.minute, time.second);
        plain(line, self.method);
        put(line, " ");
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
            let _ = write!(line, " {reason}");
        }
        let took = self.ended.saturating_sub(self.began);
        let _ = write!(line, " {:.1}ms", took.as_secs_f64() * 1_000.0);
    }
}

// Inlined with what follows, so that a literal is a few moves rather than a call to copy it.
#[inline(always)]
fn put(line: &mut Vec<u8>, text: &str) {
    line.extend_from_slice(text.as_bytes());
}

fn number(line: &mut Vec<u8>, value: u64) {
    put(line, itoa::Buffer::new().format(value));
}

/// Appends text with what JSON must not carry raw escaped (RFC 8259 section 7), so that nothing a
/// client sends can end a line or speak to a terminal. What is not UTF-8 becomes U+FFFD.
fn escape(line: &mut Vec<u8>, value: &[u8]) {
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    // No early way out, so that the compiler looks at many bytes at once.
    if value.iter().fold(true, |all, &byte| all & plain(byte)) {
        return line.extend_from_slice(value);
    }
    for c in String::from_utf8_lossy(value).chars() {
        match c {
            '"' => put(line, "\\\""),
            '\\' => put(line, "\\\\"),
            other if other.is_ascii_control() => {
                let _ = write!(line, "\\u{:04x}", u32::from(other));
            }
            clean => put(line, clean.encode_utf8(&mut [0; 4])),
        }
    }
}

/// A name of the configuration or a word of ours, which need no escaping, or `null`.
#[inline(always)]
fn optional(line: &mut Vec<u8>, key: &str, value: Option<&str>) {
    put(line, key);
    match value {
        Some(value) => {
            put(line, "\"");
            put(line, value);
            put(line, "\"");
        }
        None => put(line, "null"),
    }
}

/// ALB's seconds, with microseconds; `-1` where the exchange did not get so far.
#[inline(always)]
fn duration(line: &mut Vec<u8>, key: &str, value: Option<Duration>) {
    put(line, key);
    match value {
        Some(value) => {
            number(line, value.as_secs());
            put(line, ".");
            microseconds(line, value.subsec_micros());
        }
        None => put(line, "-1"),
    }
}

/// Six digits.
fn microseconds(line: &mut Vec<u8>, mut value: u32) {
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit += (value % 10) as u8;
        value /= 10;
    }
    line.extend_from_slice(&digits);
}

/// Text for a line without quotes: control characters and blanks become `?`.
fn plain(line: &mut Vec<u8>, value: &str) {
    for c in value.chars() {
        let c = if c.is_control() || c == ' ' { '?' } else { c };
        put(line, c.encode_utf8(&mut [0; 4]));
    }
}

struct Clock {
    year: i64,
    month: u32,
    day: u32,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Clock {
    /// The civil date of a second since the epoch, in UTC (Howard Hinnant's `civil_from_days`).
    fn of(seconds: u64) -> Self {
        let days = i64::try_from(seconds / 86_400).unwrap_or(0) + 719_468;
        let era = days / 146_097;
        let day_of_era = days % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: month as u32,
            day: day as u32,
            hour: seconds / 3_600 % 24,
            minute: seconds / 60 % 60,
            second: seconds % 60,
        }
    }
}

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
            let Clock { year, month, day, hour, minute, second } = Clock::of(self.second);
            self.text.clear();
            let _ = write!(
                self.text,
                "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}."
            );
        }
        line.extend_from_slice(&self.text);
        microseconds(line, time.subsec_micros());
        put(line, "Z");
    }
}

/// `2026-11-20T22:23:00.186641Z`
pub fn time_text(time: Duration) -> String {
    let mut text = Vec::new();
    Seconds::default().write(&mut text, time);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record<'static> {
        Record {
            kind: "http",
            ended: Duration::new(1_530_570_180, 186_641_000),
            began: Duration::new(1_530_570_180, 100_000_000),
            listener: "web",
            client: "192.0.2.1",
            peer: "192.0.2.1:2817",
            group: Some("app"),
            target: Some("s1"),
            target_address: Some("10.0.0.1:80"),
            request_processing: Some(Duration::from_micros(5)),
            target_processing: Some(Duration::from_micros(1_500)),
            response_processing: None,
            status: 200,
            target_status: Some(200),
            received_bytes: 34,
            sent_bytes: 366,
            method: "GET",
            host: b"www.example.com",
            target_uri: b"/a?b=\"c\"\\",
            version: "HTTP/1.1",
            user_agent: b"evil\r\n\x1b[31m",
            trace_id: b"Root=1-58337262-36d228ad5d99923122bbe354",
            rule: "default",
            action: "forward",
            error_reason: None,
            group_sticky: None,
            classification: None,
            sticky: Some(Verdict::Hit),
            set_cookie: Some("renewed"),
            from: None,
            attempts: 1,
            worker: 0,
        }
    }

    fn written(format: AccessFormat) -> String {
        let mut line = Vec::new();
        record().write(format, &mut Seconds::default(), &mut line);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_json_record_is_one_line_of_json_whatever_the_client_sent() {
        let line = written(AccessFormat::Json);
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.bytes().all(|byte| byte == b'\n' || !byte.is_ascii_control()));
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["time"], "2018-07-02T22:23:00.186641Z");
        assert_eq!(json["uri"], "/a?b=\"c\"\\");
        assert_eq!(json["user_agent"], "evil\r\n\u{1b}[31m");
        assert_eq!(json["target_processing_time"], 0.0015);
        assert_eq!(json["response_processing_time"], -1);
        assert_eq!(json["sticky"], "hit");
        assert_eq!(json["from"], serde_json::Value::Null);
    }

    #[test]
    fn only_a_request_that_is_not_compliant_has_a_class() {
        let json = |classification| -> serde_json::Value {
            let mut line = Vec::new();
            let record = Record { classification, ..record() };
            record.write(AccessFormat::Json, &mut Seconds::default(), &mut line);
            serde_json::from_slice(&line).unwrap()
        };
        let found = json(Some(("Ambiguous", "SuspiciousHeader")));
        assert_eq!(found["desync"]["class"], "Ambiguous");
        assert_eq!(found["desync"]["reason"], "SuspiciousHeader");
        assert!(json(None).get("desync").is_none());
    }

    #[test]
    fn a_short_record_reads_as_a_sentence() {
        let line = written(AccessFormat::Short);
        assert_eq!(line, "22:23:00 GET /a?b=\"c\"\\ 200 s1 hit 86.6ms\n");
    }

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
