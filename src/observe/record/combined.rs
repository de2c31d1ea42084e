//! A record in Apache's combined log format (Apache HTTP Server, "Log Files"), which most log
//! parsers accept.

use super::Record;
use super::text::{Line, digits, hexadecimal};
use super::time::civil;
use crate::base::calendar::Civil;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

impl Record<'_> {
    /// `192.0.2.1 - - [20/Nov/2026:22:23:00 +0000] "GET / HTTP/1.1" 200 366 "-" "curl/8"`
    ///
    /// The time is the start of the request, as in Apache. The byte count includes the head, as
    /// Apache's `%O` does, because we do not count the head separately.
    pub(super) fn write_combined<'r>(&self, mut room: Line<'r>) -> Line<'r> {
        let line = &mut room;
        line.put(self.client);
        line.put(" - - [");
        let Civil { year, month, day, hour, minute, second } = civil(self.began);
        line.bytes(&digits::<2>(day as u32));
        line.put("/");
        line.put(MONTHS[month as usize - 1]);
        line.put("/");
        line.bytes(&digits::<4>(year as u32));
        for part in [hour, minute, second] {
            line.put(":");
            line.bytes(&digits::<2>(part as u32));
        }
        line.put(" +0000] \"");
        if self.version == "-" {
            line.put("-");
        } else {
            escape(line, self.method.as_bytes());
            line.put(" ");
            escape(line, self.target_uri);
            line.put(" ");
            line.put(self.version);
        }
        line.put("\" ");
        line.status(self.status);
        line.put(" ");
        match self.sent_bytes {
            0 => line.put("-"),
            bytes => line.number(bytes),
        }
        quoted(line, self.referer);
        quoted(line, self.user_agent);
        room
    }
}

fn quoted(line: &mut Line<'_>, value: &[u8]) {
    line.put(" \"");
    match value {
        [] => line.put("-"),
        value => escape(line, value),
    }
    line.put("\"");
}

#[inline(always)]
fn escape(line: &mut Line<'_>, value: &[u8]) {
    line.escaped::<b' '>(value, escape_one);
}

/// Appends one byte, escaped as in Apache 2.0.46 and later (`mod_log_config`, "Format Notes"): a
/// quote or a backslash gets a backslash, white space is written as in C, and any other unprintable
/// byte as `\xhh`.
fn escape_one(line: &mut Line<'_>, text: &[u8]) -> usize {
    match text[0] {
        b'"' => line.put("\\\""),
        b'\\' => line.put("\\\\"),
        b'\t' => line.put("\\t"),
        b'\n' => line.put("\\n"),
        b'\x0b' => line.put("\\v"),
        b'\x0c' => line.put("\\f"),
        b'\r' => line.put("\\r"),
        byte => {
            line.put("\\x");
            line.bytes(&hexadecimal(byte));
        }
    }
    1
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
    fn an_absent_value_is_a_hyphen() {
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
        fn no_client_input_ends_a_field_or_a_line(
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
            // Without escaped bytes, the remaining quotes are the six of the format.
            let bare = line.replace(r"\\", "").replace(r#"\""#, "");
            prop_assert_eq!(bare.matches('"').count(), 6);
        }
    }
}
