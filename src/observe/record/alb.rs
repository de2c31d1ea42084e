//! A record in the format of Application Load Balancer (AWS, "Access logs for your Application Load
//! Balancer"): 34 fields between blanks, in its order and with its quotes, so that parsers of ALB's
//! logs read it.
//!
//! A field that has no meaning outside AWS is `-`; a name of an AWS resource becomes a name of ours
//! in the same form.

use super::text::{Line, hexadecimal};
use super::time::{Seconds, took};
use super::{Record, RecordAction};
use std::fmt::Write;
use std::time::Duration;

impl Record<'_> {
    pub(super) fn write_alb<'r>(&self, seconds: &mut Seconds, mut room: Line<'r>) -> Line<'r> {
        let line = &mut room;
        line.put(self.kind.word());
        line.put(" ");
        line.bytes(seconds.text(self.responded()));
        line.put(" app/");
        named(line, self.listener);
        line.put(" ");
        line.put(self.source);
        line.put(" ");
        line.put(self.target_address.unwrap_or("-"));
        line.put(" ");
        took::<3>(line, self.request_processing);
        line.put(" ");
        took::<3>(line, self.target_processing.or_else(|| self.until_lost()));
        // ALB's time ends when the response begins to be sent, which is in the turn in which the
        // target's head came.
        line.put(" ");
        took::<3>(line, self.response_processing.map(|_| Duration::ZERO));
        line.put(" ");
        line.status(self.status);
        line.put(" ");
        self.target_status(line);
        line.put(" ");
        line.number(self.received_bytes);
        line.put(" ");
        line.number(self.sent_bytes);
        self.request(line);
        quoted(line, self.user_agent);
        line.put(" ");
        line.put(self.tls.map_or("-", |tls| tls.cipher));
        line.put(" ");
        line.put(self.tls.map_or("-", |tls| tls.version));
        line.put(" ");
        match self.group {
            Some(group) => {
                line.put("targetgroup/");
                named(line, group);
            }
            None => line.put("-"),
        }
        quoted(line, self.trace_id);
        quoted_word(line, self.tls.and_then(|tls| tls.server_name).map(str::as_bytes));
        quoted_word(line, self.tls.map(|tls| tls.certificate.as_bytes()));
        line.put(" ");
        match self.rule_at {
            // A refused request met no rule.
            _ if self.action == RecordAction::None => line.put("-"),
            Some(at) => line.number(at as u64 + 1),
            None => line.put("0"),
        }
        line.put(" ");
        line.bytes(seconds.text(self.began));
        quoted(line, self.action.word().as_bytes());
        quoted_word(line, self.redirect_url);
        // ALB's reasons are about Lambda, WAF and authentication, and none of ours is among them.
        line.put(" \"-\" \"");
        line.put(self.target_address.unwrap_or("-"));
        line.put("\" \"");
        self.target_status(line);
        line.put("\"");
        let (class, why) = self.classification.unwrap_or(("-", "-"));
        quoted(line, class.as_bytes());
        quoted(line, why.as_bytes());
        line.put(" ");
        match self.connection {
            Some(id) => {
                line.put("TID_");
                id.iter().for_each(|half| line.hexadecimal(half.to_be_bytes()));
            }
            None => line.put("-"),
        }
        quoted_word(line, self.transformed_host);
        quoted_word(line, self.transformed_uri);
        quoted_word(line, self.transform_status.map(str::as_bytes));
        // Writing to memory cannot fail, here and below.
        let _ = write!(line, " {}", self.local.ip());
        room
    }

    /// The time at which the response was made, as ALB has it; for a tunnel, the time of its end.
    fn responded(&self) -> Duration {
        match (self.request_processing, self.target_processing) {
            (Some(request), Some(target)) if !self.kind.is_tunnel() => {
                self.began + request + target
            }
            _ => self.ended,
        }
    }

    /// Time from the dispatch until the target closed the connection without an answer. ALB writes
    /// it, but not for a target that was silent until the time-out.
    fn until_lost(&self) -> Option<Duration> {
        let dispatched = self.began + self.request_processing?;
        (self.status == 502).then(|| self.ended.saturating_sub(dispatched))
    }

    fn target_status(&self, line: &mut Line<'_>) {
        match self.target_status {
            Some(status) => line.status(status),
            None => line.put("-"),
        }
    }

    /// `"GET http://shop.example:80/cart HTTP/1.1"`, always three words.
    fn request(&self, line: &mut Line<'_>) {
        line.put(" \"");
        word(line, self.method.as_bytes());
        line.put(if self.tls.is_some() { " https://" } else { " http://" });
        if self.host.is_empty() {
            let _ = write!(line, "{}", self.local);
        } else {
            word(line, self.host);
            if !has_port(self.host) {
                line.put(":");
                line.number(u64::from(self.local.port()));
            }
        }
        word(line, self.target_uri);
        line.put(" ");
        line.put(self.version);
        line.put("\"");
    }
}

/// `shop/` and 16 digits in place of AWS's id: the same at each start and on each node.
fn named(line: &mut Line<'_>, name: &str) {
    line.put(name);
    line.put("/");
    // FNV-1a: its result is the same on every platform, and a collision helps no attacker.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    line.hexadecimal(hash.to_be_bytes());
}

fn has_port(host: &[u8]) -> bool {
    let colon = host.iter().rposition(|&byte| byte == b':');
    colon.is_some_and(|colon| !host[colon..].contains(&b']'))
}

/// Appends a field in quotes that may hold blanks.
fn quoted(line: &mut Line<'_>, value: &[u8]) {
    line.put(" \"");
    match value {
        [] => line.put("-"),
        value => line.escaped::<b' '>(value, escape),
    }
    line.put("\"");
}

/// Appends a field in quotes that holds no blank.
fn quoted_word(line: &mut Line<'_>, value: Option<&[u8]>) {
    line.put(" \"");
    match value {
        None | Some([]) => line.put("-"),
        Some(value) => word(line, value),
    }
    line.put("\"");
}

/// Appends text with its blanks escaped.
fn word(line: &mut Line<'_>, value: &[u8]) {
    line.escaped::<b'!'>(value, escape);
}

/// Appends a byte that is not plain, or that could end a field, as `\xHH`. Quotes too: parsers of
/// ALB's logs know no escaped quote.
fn escape(line: &mut Line<'_>, text: &[u8]) -> usize {
    line.put("\\x");
    line.bytes(&hexadecimal(text[0]));
    1
}

#[cfg(test)]
mod tests {
    use super::super::tests::{record, written_of};
    use super::super::{Record, RecordAction, RecordKind, Tls};
    use crate::config::settings::AccessFormat;
    use proptest::prelude::*;
    use regex::bytes::Regex;
    use std::sync::LazyLock;
    use std::time::Duration;

    /// The expression of the table that AWS's Athena documentation publishes ("Create the table for
    /// ALB access logs"), without the backslashes its SQL needs. Hive holds it against whole lines.
    static ATHENA: LazyLock<Regex> = LazyLock::new(|| {
        let published = include_str!("../../../tests/vectors/athena-alb.regex");
        Regex::new(&format!("^{}$", published.trim_end())).unwrap()
    });

    /// The fields of a line, without their quotes.
    fn fields(line: &str) -> Vec<&str> {
        let mut rest = line.strip_suffix('\n').unwrap();
        let mut fields = Vec::new();
        loop {
            let (field, after) = match rest.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').unwrap(),
                None => rest.split_at(rest.find(' ').unwrap_or(rest.len())),
            };
            fields.push(field);
            match after.strip_prefix(' ') {
                Some(more) => rest = more,
                None => {
                    assert_eq!(after, "", "a quote is followed by a blank or the end");
                    return fields;
                }
            }
        }
    }

    fn alb(record: &Record<'_>) -> String {
        written_of(record, AccessFormat::Alb)
    }

    fn refused() -> Record<'static> {
        Record {
            group: None,
            target: None,
            target_address: None,
            request_processing: None,
            target_processing: None,
            target_status: None,
            status: 400,
            action: RecordAction::None,
            trace_id: b"",
            ..record()
        }
    }

    #[test]
    fn a_record_is_albs_34_fields_in_its_order() {
        let record = Record {
            target_uri: b"/cart?a=1",
            user_agent: b"curl/7.46.0",
            response_processing: Some(Duration::from_secs(9)),
            ..record()
        };
        assert_eq!(
            alb(&record),
            concat!(
                "http 2018-07-02T22:23:00.101505Z app/web/5ea0e11948721ef1 192.0.2.1:2817 ",
                "10.0.0.1:80 0.000 0.001 0.000 200 200 34 366 ",
                "\"GET http://www.example.com:80/cart?a=1 HTTP/1.1\" \"curl/7.46.0\" - - ",
                "targetgroup/app/e74fa719056a838c \"Root=1-58337262-36d228ad5d99923122bbe354\" ",
                "\"-\" \"-\" 0 2018-07-02T22:23:00.100000Z \"forward\" \"-\" \"-\" ",
                "\"10.0.0.1:80\" \"200\" \"-\" \"-\" TID_0123456789abcdeffedcba9876543210 ",
                "\"-\" \"-\" \"-\" 198.51.100.7\n",
            )
        );
        assert_eq!(fields(&alb(&record)).len(), 34);
    }

    #[test]
    fn redirects_and_rewrites_have_their_own_fields() {
        let record = Record {
            rule_at: Some(6),
            redirect_url: Some(b"https://shop.example:443/a b"),
            classification: Some(("Ambiguous", "EmptyHeader")),
            transformed_host: Some(b"internal.example"),
            transformed_uri: Some(b"/v2/cart"),
            transform_status: Some("TransformSuccess"),
            ..record()
        };
        let line = alb(&record);
        let fields = fields(&line);
        assert_eq!(fields[20], "7");
        assert_eq!(fields[23], r"https://shop.example:443/a\x20b");
        assert_eq!(fields[27..29], ["Ambiguous", "EmptyHeader"]);
        assert_eq!(fields[30..33], ["internal.example", "/v2/cart", "TransformSuccess"]);
    }

    #[test]
    fn tls_parameters_are_in_albs_fields() {
        let tls = Tls {
            version: "TLSv1.2",
            cipher: "ECDHE-RSA-AES128-GCM-SHA256",
            server_name: Some("shop.example"),
            certificate: "certificate/0123456789abcdef",
        };
        let line =
            alb(&Record { kind: RecordKind::Https, tls: Some(tls), target_uri: b"/", ..record() });
        let shown = fields(&line);
        assert_eq!((shown[0], shown[12]), ("https", "GET https://www.example.com:80/ HTTP/1.1"));
        assert_eq!(shown[14..16], ["ECDHE-RSA-AES128-GCM-SHA256", "TLSv1.2"]);
        assert_eq!(shown[18..20], ["shop.example", "certificate/0123456789abcdef"]);
        assert!(ATHENA.is_match(line.trim_end().as_bytes()));
        let unnamed = Tls { server_name: None, certificate: "session-reused", ..tls };
        let line = alb(&Record { kind: RecordKind::Wss, tls: Some(unnamed), ..record() });
        assert_eq!(fields(&line)[18..20], ["-", "session-reused"]);
        assert_eq!(fields(&line)[1], "2018-07-02T22:23:00.186641Z");
    }

    #[test]
    fn the_request_field_always_has_three_words() {
        for (host, uri, version, expected) in [
            ("shop.example", "/a", "HTTP/1.1", "GET http://shop.example:80/a HTTP/1.1"),
            ("shop.example:8080", "/", "HTTP/1.0", "GET http://shop.example:8080/ HTTP/1.0"),
            ("[2001:db8::1]", "/", "HTTP/1.1", "GET http://[2001:db8::1]:80/ HTTP/1.1"),
            ("[2001:db8::1]:81", "/", "HTTP/1.1", "GET http://[2001:db8::1]:81/ HTTP/1.1"),
            ("", "/", "HTTP/1.0", "GET http://198.51.100.7:80/ HTTP/1.0"),
            ("a \" b", "/\"", "HTTP/1.1", r"GET http://a\x20\x22\x20b:80/\x22 HTTP/1.1"),
        ] {
            let (host, target_uri) = (host.as_bytes(), uri.as_bytes());
            let line = alb(&Record { host, target_uri, version, ..record() });
            assert_eq!(fields(&line)[12], expected);
        }
        let unread = Record { method: "-", host: b"", target_uri: b"-", version: "-", ..refused() };
        assert_eq!(fields(&alb(&unread))[12], "- http://198.51.100.7:80- -");
        assert!(ATHENA.is_match(alb(&unread).trim_end().as_bytes()));
    }

    #[test]
    fn times_of_phases_not_reached_are_minus_one() {
        let after = |status, target_status, target_processing, response_processing| {
            let request_processing = Some(Duration::from_millis(5));
            let line = alb(&Record {
                status,
                target_status,
                request_processing,
                target_processing,
                response_processing,
                ..record()
            });
            fields(&line)[5..8].join(" ")
        };
        let took = Some(Duration::from_millis(1_234));
        assert_eq!(after(200, Some(200), took, took), "0.005 1.234 0.000");
        // The target closed the connection: the time until then is written.
        assert_eq!(after(502, None, None, None), "0.005 0.081 -1");
        // The target was silent until the time-out, or the client left before the response.
        assert_eq!(after(504, None, None, None), "0.005 -1 -1");
        assert_eq!(after(460, None, None, None), "0.005 -1 -1");
        let line = alb(&refused());
        let fields = fields(&line);
        assert_eq!(fields[4..8], ["-", "-1", "-1", "-1"]);
        assert_eq!((fields[9], fields[16], fields[20]), ("-", "-", "-"));
    }

    #[test]
    fn the_time_of_a_tunnel_is_its_end() {
        let line = alb(&Record { kind: RecordKind::Ws, ..record() });
        assert_eq!(fields(&line)[1], "2018-07-02T22:23:00.186641Z");
    }

    proptest! {
        #[test]
        fn no_client_input_adds_a_field_or_a_line(
            host in proptest::collection::vec(any::<u8>(), 0..24),
            uri in proptest::collection::vec(any::<u8>(), 1..24),
            user_agent in proptest::collection::vec(any::<u8>(), 0..24),
            trace_id in proptest::collection::vec(any::<u8>(), 0..24),
            evil in r#"[" \\\n\r:a-]{0,12}"#,
        ) {
            for (host, uri, user_agent, trace_id) in [
                (&*host, &*uri, &*user_agent, &*trace_id),
                (evil.as_bytes(), evil.as_bytes(), evil.as_bytes(), evil.as_bytes()),
            ] {
                let line = alb(&Record {
                    host,
                    target_uri: uri,
                    user_agent,
                    trace_id,
                    redirect_url: Some(uri),
                    transformed_host: Some(host),
                    transformed_uri: Some(uri),
                    ..record()
                });
                prop_assert!(line.trim_end_matches('\n').bytes().all(|byte| matches!(byte, b' '..=b'~')));
                let fields = fields(&line);
                prop_assert_eq!(fields.len(), 34);
                prop_assert_eq!(fields[12].split(' ').count(), 3);
                prop_assert_eq!(fields[22], "forward");
                let parts = ATHENA.captures(line.trim_end().as_bytes()).unwrap();
                let part = |at: usize| std::str::from_utf8(parts.get(at).unwrap().as_bytes()).unwrap();
                prop_assert_eq!(part(4), "192.0.2.1");
                prop_assert_eq!(part(11), "200");
                prop_assert_eq!(part(15), "GET");
                prop_assert_eq!(part(18), fields[13]);
                prop_assert_eq!(part(27), "forward");
                prop_assert_eq!(part(34), "TID_0123456789abcdeffedcba9876543210");
            }
        }
    }
}
