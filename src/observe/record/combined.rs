//! A record in Apache's combined log format (Apache HTTP Server, "Log Files"), which most programs
//! that read access logs take.

use super::Record;
use super::text::{hexadecimal, number, put};
use super::time::{civil, digits};
use crate::ground::calendar::Civil;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

impl Record<'_> {
    /// `192.0.2.1 - - [20/Nov/2026:22:23:00 +0000] "GET / HTTP/1.1" 200 366 "-" "curl/8"`
    ///
    /// The time is that of the request, as with Apache. Bytes are those that went out, heads
    /// included, as with Apache's `%O`: what of them was the head is not counted apart.
    pub(super) fn write_combined(&self, line: &mut Vec<u8>) {
        put(line, self.client);
        put(line, " - - [");
        let Civil { year, month, day, hour, minute, second } = civil(self.began);
        digits::<2>(line, day as u32);
        put(line, "/");
        put(line, MONTHS[month as usize - 1]);
        put(line, "/");
        digits::<4>(line, year as u32);
        for part in [hour, minute, second] {
            put(line, ":");
            digits::<2>(line, part as u32);
        }
        put(line, " +0000] \"");
        if self.version == "-" {
            put(line, "-");
        } else {
            escape(line, self.method.as_bytes());
            put(line, " ");
            escape(line, self.target_uri);
            put(line, " ");
            put(line, self.version);
        }
        put(line, "\" ");
        number(line, u64::from(self.status));
        put(line, " ");
        match self.sent_bytes {
            0 => put(line, "-"),
            bytes => number(line, bytes),
        }
        quoted(line, self.referer);
        quoted(line, self.user_agent);
    }
}

fn quoted(line: &mut Vec<u8>, value: &[u8]) {
    put(line, " \"");
    match value {
        [] => put(line, "-"),
        value => escape(line, value),
    }
    put(line, "\"");
}

/// As Apache escapes since 2.0.46 (`mod_log_config`, "Format Notes"): a quote and a backslash get a
/// backslash, white space is written as in C, and what else cannot be printed as `\xhh`.
fn escape(line: &mut Vec<u8>, value: &[u8]) {
    for &byte in value {
        match byte {
            b'"' => put(line, "\\\""),
            b'\\' => put(line, "\\\\"),
            b'\t' => put(line, "\\t"),
            b'\n' => put(line, "\\n"),
            b'\x0b' => put(line, "\\v"),
            b'\x0c' => put(line, "\\f"),
            b'\r' => put(line, "\\r"),
            b' '..=b'~' => line.push(byte),
            _ => {
                put(line, "\\x");
                hexadecimal(line, byte);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Record;
    use super::super::tests::{record, written_of};
    use crate::config::settings::AccessFormat;
    use proptest::prelude::*;

    fn combined(record: &Record<'_>) -> String {
        written_of(record, AccessFormat::Combined)
    }

    #[test]
    fn a_record_reads_as_apache_writes_it() {
        let record = Record {
            target_uri: b"/cart",
            referer: b"https://shop.example/",
            user_agent: b"curl/8",
            ..record()
        };
        assert_eq!(
            combined(&record),
            "192.0.2.1 - - [02/Jul/2018:22:23:00 +0000] \"GET /cart HTTP/1.1\" 200 366 \
             \"https://shop.example/\" \"curl/8\"\n"
        );
    }

    #[test]
    fn what_is_absent_is_a_hyphen() {
        let unread = Record {
            method: "-",
            target_uri: b"-",
            version: "-",
            status: 408,
            sent_bytes: 0,
            user_agent: b"",
            ..record()
        };
        let expected = "192.0.2.1 - - [02/Jul/2018:22:23:00 +0000] \"-\" 408 - \"-\" \"-\"\n";
        assert_eq!(combined(&unread), expected);
    }

    #[test]
    fn escapes_are_apaches() {
        let line = combined(&Record { referer: b"\"\\\t\n\r\x0b\x0c\x1b\x7f\xe9", ..record() });
        assert!(line.contains(r#" "\"\\\t\n\r\v\f\x1b\x7f\xe9" "#), "{line}");
    }

    proptest! {
        #[test]
        fn nothing_a_client_sends_ends_a_field_or_a_line(
            uri in proptest::collection::vec(any::<u8>(), 1..24),
            referer in r#"[" \\\n\ra]{0,12}"#,
            user_agent in proptest::collection::vec(any::<u8>(), 0..24),
        ) {
            let line = combined(&Record {
                target_uri: &uri,
                referer: referer.as_bytes(),
                user_agent: &user_agent,
                ..record()
            });
            prop_assert!(line.trim_end_matches('\n').bytes().all(|byte| matches!(byte, b' '..=b'~')));
            // Without what is escaped, the quotes that are left are the six of the format.
            let bare = line.replace(r"\\", "").replace(r#"\""#, "");
            prop_assert_eq!(bare.matches('"').count(), 6);
        }
    }
}
