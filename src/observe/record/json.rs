//! A record as one JSON object.

use super::Record;
use super::text::{number, put};
use super::time::{Seconds, took};
use crate::decide::verdict::Verdict;
use std::io::Write;

/// Bytes that most records do not exceed.
const USUAL_LENGTH: usize = 1_024;

impl Record<'_> {
    // A record has thirty fields and is written for every exchange: through `write!` it cost more
    // than deciding and forwarding together. So each key is one literal with the punctuation
    // around it, numbers go through `itoa`, and nothing is formatted twice.
    pub(super) fn write_json(&self, seconds: &mut Seconds, line: &mut Vec<u8>) {
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
        put(line, ",\"request_processing_time\":");
        took::<6>(line, self.request_processing);
        put(line, ",\"target_processing_time\":");
        took::<6>(line, self.target_processing);
        put(line, ",\"response_processing_time\":");
        took::<6>(line, self.response_processing);
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
        sent(line, ",\"redirect_url\":\"", self.redirect_url);
        sent(line, ",\"transformed_host\":\"", self.transformed_host);
        sent(line, ",\"transformed_uri\":\"", self.transformed_uri);
        if let Some(tls) = self.tls {
            put(line, ",\"tls\":{\"version\":\"");
            put(line, tls.version);
            put(line, "\",\"cipher\":\"");
            put(line, tls.cipher);
            put(line, "\"");
            optional(line, ",\"server_name\":", tls.server_name);
            optional(line, ",\"certificate\":", Some(tls.certificate));
            put(line, "}");
        }
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
}

/// Appends what there seldom is, made of what a client sent.
fn sent(line: &mut Vec<u8>, key: &str, value: Option<&[u8]>) {
    if let Some(value) = value {
        put(line, key);
        escape(line, value);
        put(line, "\"");
    }
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
                // Writing to memory cannot fail.
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

#[cfg(test)]
mod tests {
    use super::super::Record;
    use super::super::tests::{record, written, written_of};
    use crate::config::settings::AccessFormat;

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
            let record = Record { classification, ..record() };
            serde_json::from_str(&written_of(&record, AccessFormat::Json)).unwrap()
        };
        let found = json(Some(("Ambiguous", "SuspiciousHeader")));
        assert_eq!(found["desync"]["class"], "Ambiguous");
        assert_eq!(found["desync"]["reason"], "SuspiciousHeader");
        assert!(json(None).get("desync").is_none());
    }
}
