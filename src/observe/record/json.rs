//! A record as one JSON object.

use super::Record;
use super::text::{Line, hexadecimal};
use super::time::{Seconds, took};
use crate::decide::cookie_update::CookieWrite;
use crate::decide::verdict::Verdict;
use crate::observe::error_reason::ErrorReason;

impl Record<'_> {
    // A record has thirty fields and is written for every exchange. Through `write!` it cost more
    // than the decision and the forwarding together. So each key is one literal with the
    // punctuation around it, numbers go through `itoa`, and nothing is formatted twice.
    pub(super) fn write_json<'r>(&self, seconds: &mut Seconds, mut room: Line<'r>) -> Line<'r> {
        let line = &mut room;
        line.put("{\"type\":\"");
        line.put(self.kind.word());
        line.put("\",\"time\":\"");
        line.bytes(seconds.text(self.ended));
        line.put("\",\"listener\":\"");
        line.put(self.listener);
        line.put("\",\"client\":\"");
        line.put(self.client);
        line.put("\",\"peer\":\"");
        line.put(self.peer);
        line.put("\"");
        optional(line, ",\"group\":", self.group);
        optional(line, ",\"target\":", self.target);
        optional(line, ",\"target_address\":", self.target_address);
        line.put(",\"request_processing_time\":");
        took::<6>(line, self.request_processing);
        line.put(",\"target_processing_time\":");
        took::<6>(line, self.target_processing);
        line.put(",\"response_processing_time\":");
        took::<6>(line, self.response_processing);
        line.put(",\"status\":");
        line.status(self.status);
        line.put(",\"target_status\":");
        match self.target_status {
            Some(status) => line.status(status),
            None => line.put("null"),
        }
        line.put(",\"received_bytes\":");
        line.number(self.received_bytes);
        line.put(",\"sent_bytes\":");
        line.number(self.sent_bytes);
        line.put(",\"method\":\"");
        line.put(self.method);
        line.put("\",\"host\":\"");
        escape(line, self.host);
        line.put("\",\"uri\":\"");
        escape(line, self.target_uri);
        line.put("\",\"version\":\"");
        line.put(self.version);
        line.put("\",\"user_agent\":\"");
        escape(line, self.user_agent);
        line.put("\",\"trace_id\":\"");
        escape(line, self.trace_id);
        line.put("\",\"rule\":\"");
        line.put(self.rule);
        line.put("\",\"request_creation_time\":\"");
        line.bytes(seconds.text(self.began));
        line.put("\",\"action\":\"");
        line.put(self.action.word());
        line.put("\"");
        optional(line, ",\"error_reason\":", self.error_reason.map(ErrorReason::word));
        sent(line, ",\"redirect_url\":\"", self.redirect_url);
        sent(line, ",\"transformed_host\":\"", self.transformed_host);
        sent(line, ",\"transformed_uri\":\"", self.transformed_uri);
        if let Some(tls) = self.tls {
            line.put(",\"tls\":{\"version\":\"");
            line.put(tls.version);
            line.put("\",\"cipher\":\"");
            line.put(tls.cipher);
            line.put("\"");
            optional(line, ",\"server_name\":", tls.server_name);
            optional(line, ",\"certificate\":", Some(tls.certificate));
            line.put("}");
        }
        if let Some(verdict) = self.group_sticky {
            line.put(",\"group_sticky\":\"");
            line.put(verdict.word());
            line.put("\"");
        }
        if let Some((class, reason)) = self.classification {
            line.put(",\"desync\":{\"class\":\"");
            line.put(class);
            line.put("\",\"reason\":\"");
            line.put(reason);
            line.put("\"}");
        }
        optional(line, ",\"sticky\":", self.sticky.map(Verdict::word));
        optional(line, ",\"set_cookie\":", self.set_cookie.map(CookieWrite::word));
        optional(line, ",\"from\":", self.from);
        line.put(",\"attempts\":");
        line.number(u64::from(self.attempts));
        line.put(",\"worker\":");
        line.number(self.worker as u64);
        line.put("}");
        room
    }
}

/// Appends an optional text that a client sent or influenced.
fn sent(line: &mut Line<'_>, key: &str, value: Option<&[u8]>) {
    if let Some(value) = value {
        line.put(key);
        escape(line, value);
        line.put("\"");
    }
}

/// Appends text with the bytes escaped that JSON must not carry raw (RFC 8259 section 7), so that
/// no client input can end a line or control a terminal. Bytes that are not UTF-8 become U+FFFD.
#[inline(always)]
fn escape(line: &mut Line<'_>, value: &[u8]) {
    line.escaped::<b' '>(value, escape_one);
}

fn escape_one(line: &mut Line<'_>, text: &[u8]) -> usize {
    match text[0] {
        byte @ (b'"' | b'\\') => line.bytes(&[b'\\', byte]),
        byte if byte.is_ascii() => {
            line.put("\\u00");
            line.bytes(&hexadecimal(byte));
        }
        _ => {
            // Takes all bytes up to the next ASCII byte. The first byte of a UTF-8 sequence states
            // its length, but the sequence may be cut short.
            let end = text.iter().position(u8::is_ascii).unwrap_or(text.len());
            for chunk in text[..end].utf8_chunks() {
                line.put(chunk.valid());
                if !chunk.invalid().is_empty() {
                    line.put("\u{fffd}");
                }
            }
            return end;
        }
    }
    1
}

/// Appends `null`, or a text that needs no escaping: a name from the configuration, a fixed word,
/// an address, digits, or a server name, which rustls accepts only as a valid DNS name.
#[inline(always)]
fn optional(line: &mut Line<'_>, key: &str, value: Option<&str>) {
    line.put(key);
    match value {
        Some(value) => {
            line.put("\"");
            line.put(value);
            line.put("\"");
        }
        None => line.put("null"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Record;
    use super::super::tests::{record, written, written_of};
    use crate::config::settings::AccessFormat;
    use proptest::prelude::*;

    #[test]
    fn a_record_is_one_line_of_json_with_any_client_input() {
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
    fn only_a_non_compliant_request_has_a_class() {
        let json = |classification| -> serde_json::Value {
            let record = Record { classification, ..record() };
            serde_json::from_str(&written_of(&record, AccessFormat::Json)).unwrap()
        };
        let found = json(Some(("Ambiguous", "SuspiciousHeader")));
        assert_eq!(found["desync"]["class"], "Ambiguous");
        assert_eq!(found["desync"]["reason"], "SuspiciousHeader");
        assert!(json(None).get("desync").is_none());
    }

    /// Escapes as in RFC 8259, character by character.
    fn slowly(value: &[u8]) -> String {
        let mut escaped = String::new();
        for c in String::from_utf8_lossy(value).chars() {
            match c {
                '"' | '\\' => escaped.extend(['\\', c]),
                other if other.is_ascii_control() => {
                    escaped.push_str(&format!("\\u{:04x}", u32::from(other)));
                }
                clean => escaped.push(clean),
            }
        }
        escaped
    }

    fn user_agent(value: &[u8]) -> String {
        let line = written_of(&Record { user_agent: value, ..record() }, AccessFormat::Json);
        let begin = line.find("\"user_agent\":\"").unwrap() + "\"user_agent\":\"".len();
        let end = line.find("\",\"trace_id\"").unwrap();
        line[begin..end].to_owned()
    }

    proptest! {
        #[test]
        fn runs_of_bytes_are_escaped_like_single_characters(
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
            mostly_plain in proptest::collection::vec(
                prop_oneof![30 => 0x20_u8..0x7f, 1 => any::<u8>(), 1 => 0xe0_u8..0xe4, 1 => 0x80_u8..0x84],
                0..80,
            ),
            text in any::<String>(),
            evil in r#"["\\\n\x7fé😀a ]{0,12}"#,
        ) {
            for value in [&*bytes, &*mostly_plain, text.as_bytes(), evil.as_bytes()] {
                prop_assert_eq!(user_agent(value), slowly(value));
            }
            // Cut at any byte, so that characters are incomplete.
            for end in 0..evil.len() {
                prop_assert_eq!(user_agent(&evil.as_bytes()[..end]), slowly(&evil.as_bytes()[..end]));
            }
        }
    }
}
