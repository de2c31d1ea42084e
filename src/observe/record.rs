//! The access record of one exchange: the fields of ALB's access log, and the verdict on the pin.

mod alb;
mod combined;
mod json;
mod short;
mod text;
mod time;
mod words;

use super::error_reason::ErrorReason;
use crate::config::settings::AccessFormat;
use crate::decide::cookie_update::CookieWrite;
use crate::decide::verdict::{GroupVerdict, Verdict};
use std::net::SocketAddr;
use std::time::Duration;
pub(crate) use text::Line;
pub(crate) use time::{Seconds, time_text};
pub(crate) use words::{RecordAction, RecordKind};

/// The access record of one exchange. It borrows: the worker that served the exchange formats it at
/// once.
#[derive(Clone, Debug)]
pub struct Record<'x> {
    /// The type of the exchange.
    pub kind: RecordKind,
    /// The parameters of the client's TLS; `None` without TLS.
    pub tls: Option<Tls<'x>>,
    /// Time of the end, since the Unix epoch.
    pub ended: Duration,
    /// Time at which the request head was read, since the Unix epoch.
    pub began: Duration,
    /// The name of the listener.
    pub listener: &'x str,
    /// The client's address, as determined by `trusted_proxies`.
    pub client: &'x str,
    /// Address and port of the other end of the socket.
    pub peer: &'x str,
    /// Address and port of the connection's source: that of the PROXY header, if there is one.
    pub source: &'x str,
    /// The address and port that the source connected to.
    pub local: SocketAddr,
    /// The connection's random id, if the format writes it.
    pub connection: Option<[u64; 2]>,
    /// The name of the group.
    pub group: Option<&'x str>,
    /// The id of the target that served.
    pub target: Option<&'x str>,
    /// Address and port of that target.
    pub target_address: Option<&'x str>,
    /// Time from the request head to its dispatch; `None` without a dispatch.
    pub request_processing: Option<Duration>,
    /// Time from the dispatch to the target's response head.
    pub target_processing: Option<Duration>,
    /// Time from the target's response head to the end of the response.
    pub response_processing: Option<Duration>,
    /// The status sent to the client; ALB's 460 if it had left, 463 for a forwarding loop.
    pub status: u16,
    /// The target's status.
    pub target_status: Option<u16>,
    /// Bytes from the client, heads included.
    pub received_bytes: u64,
    /// Bytes to the client, heads included.
    pub sent_bytes: u64,
    /// The request's method; `-` if the head could not be read.
    pub method: &'x str,
    /// The host, as sent.
    pub host: &'x [u8],
    /// Path and query, as sent.
    pub target_uri: &'x [u8],
    /// `HTTP/1.1`; `-` if the head could not be read, and then the other fields of the head are
    /// unknown too.
    pub version: &'static str,
    /// The User-Agent, of [`MAX_USER_AGENT`] bytes at most.
    pub user_agent: &'x [u8],
    /// The Referer, cut likewise; empty if the format does not write it.
    pub referer: &'x [u8],
    /// X-Amzn-Trace-Id, as sent to the target.
    pub trace_id: &'x [u8],
    /// The rule's name; `default` for the listener's default.
    pub rule: &'x str,
    /// The rule's index; `None` for the listener's default and before a rule matched.
    pub rule_at: Option<usize>,
    /// The action of the rule.
    pub action: RecordAction,
    /// The Location of a redirect.
    pub redirect_url: Option<&'x [u8]>,
    /// The host that a rewrite made.
    pub transformed_host: Option<&'x [u8]>,
    /// Path and query that a rewrite made.
    pub transformed_uri: Option<&'x [u8]>,
    /// The result of a rewrite, in ALB's words: `TransformSuccess` and its failures.
    pub transform_status: Option<&'static str>,
    /// The reason for which the balancer answered itself, or for which the exchange broke off.
    pub error_reason: Option<ErrorReason>,
    /// The verdict on the pin to a group, if the rule names several.
    pub group_sticky: Option<GroupVerdict>,
    /// ALB's class of a request that two servers may read differently, and the reason; `None` for a
    /// compliant one.
    pub classification: Option<(&'static str, &'static str)>,
    /// The verdict on the pin to a target.
    pub sticky: Option<Verdict>,
    /// The reason for writing the group's cookie; `None` if it was not written.
    pub set_cookie: Option<CookieWrite>,
    /// The id of the target a moved or spilled client was pinned to, if it is still in the group.
    pub from: Option<&'x str>,
    /// Number of targets tried.
    pub attempts: u32,
    /// The index of the worker.
    pub worker: usize,
}

/// The TLS parameters of a client connection.
#[derive(Clone, Copy, Debug)]
pub struct Tls<'x> {
    /// `TLSv1.3`
    pub version: &'static str,
    /// The cipher suite, by OpenSSL's name.
    pub cipher: &'static str,
    /// The server name of the ClientHello, if a certificate was found by it.
    pub server_name: Option<&'x str>,
    /// `certificate/` and the first digits of its fingerprint, or `session-reused`.
    pub certificate: &'x str,
}

/// Maximum bytes of a User-Agent and a Referer; ALB cuts them there too.
pub(crate) const MAX_USER_AGENT: usize = 8 * 1_024;

/// Maximum bytes of a line, in any format, without the texts that [`Record::max_length`] counts:
/// keys, fixed words, numbers, times, addresses with ports, TLS parameters. They are some 900.
const MAX_FIXED: usize = 2_048;

impl Record<'_> {
    /// Maximum bytes of its line, in any format.
    pub fn max_length(&self) -> usize {
        let length = |text: Option<&[u8]>| text.map_or(0, <[u8]>::len);
        let name = |text: Option<&str>| text.map_or(0, str::len);
        let sent = self.host.len()
            + self.target_uri.len()
            + self.user_agent.len()
            + self.referer.len()
            + self.trace_id.len()
            + self.method.len()
            + length(self.redirect_url)
            + length(self.transformed_host)
            + length(self.transformed_uri)
            + self.tls.map_or(0, |tls| name(tls.server_name));
        // ALB's format has the target's address twice.
        let names = self.listener.len()
            + self.rule.len()
            + name(self.group)
            + name(self.target)
            + name(self.from)
            + 2 * name(self.target_address);
        MAX_FIXED + names + text::MAX_ESCAPED * sent
    }

    /// Writes the record as one line. The line must have room for [`Record::max_length`] bytes.
    pub fn write(&self, format: AccessFormat, seconds: &mut Seconds, line: &mut Line<'_>) {
        match format {
            // The line is passed by value, because a local variable stays in registers; see
            // [`Line`].
            AccessFormat::Json => *line = self.write_json(seconds, line.take()),
            AccessFormat::Alb => *line = self.write_alb(seconds, line.take()),
            AccessFormat::Combined => *line = self.write_combined(line.take()),
            AccessFormat::Short => self.write_short(line),
        }
        line.put("\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn record() -> Record<'static> {
        Record {
            kind: RecordKind::Http,
            tls: None,
            ended: Duration::new(1_530_570_180, 186_641_000),
            began: Duration::new(1_530_570_180, 100_000_000),
            listener: "web",
            client: "192.0.2.1",
            peer: "192.0.2.1:2817",
            source: "192.0.2.1:2817",
            local: "198.51.100.7:80".parse().unwrap(),
            connection: Some([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210]),
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
            referer: b"",
            trace_id: b"Root=1-58337262-36d228ad5d99923122bbe354",
            rule: "default",
            rule_at: None,
            action: RecordAction::Forward,
            redirect_url: None,
            transformed_host: None,
            transformed_uri: None,
            transform_status: None,
            error_reason: None,
            group_sticky: None,
            classification: None,
            sticky: Some(Verdict::Hit),
            set_cookie: Some(CookieWrite::Renewed),
            from: None,
            attempts: 1,
            worker: 0,
        }
    }

    pub(super) fn written(format: AccessFormat) -> String {
        written_of(&record(), format)
    }

    pub(super) fn written_of(record: &Record<'_>, format: AccessFormat) -> String {
        let mut room = vec![0; record.max_length()];
        let mut line = Line::new(&mut room);
        record.write(format, &mut Seconds::default(), &mut line);
        let length = record.max_length() - line.left();
        room.truncate(length);
        String::from_utf8(room).unwrap()
    }

    #[test]
    fn the_longest_line_fits_its_computed_maximum() {
        let (sent, name, port) =
            ([1; 9_000], "n".repeat(255), "[2001:db8:1234:5678:9abc:def0:1234:5678]:65535");
        let forever = Some(Duration::from_secs(u64::MAX / 8));
        for format in
            [AccessFormat::Json, AccessFormat::Alb, AccessFormat::Combined, AccessFormat::Short]
        {
            let longest = Record {
                kind: RecordKind::Https,
                tls: Some(Tls {
                    version: "TLSv1.3",
                    cipher: "ECDHE-ECDSA-CHACHA20-POLY1305-SHA256",
                    server_name: Some(&name),
                    certificate: "certificate/0123456789abcdef",
                }),
                listener: &name,
                client: port,
                peer: port,
                source: port,
                local: port.parse().unwrap(),
                group: Some(&name),
                target: Some(&name),
                target_address: Some(&name),
                request_processing: forever,
                target_processing: forever,
                response_processing: forever,
                began: Duration::ZERO,
                received_bytes: u64::MAX,
                sent_bytes: u64::MAX,
                method: &name,
                host: &sent,
                target_uri: &sent,
                user_agent: &sent,
                referer: &sent,
                trace_id: &sent,
                rule: &name,
                rule_at: Some(usize::MAX - 1),
                redirect_url: Some(&sent),
                transformed_host: Some(&sent),
                transformed_uri: Some(&sent),
                transform_status: Some("TransformSuccess"),
                error_reason: Some(ErrorReason::TargetCertificateRefused),
                group_sticky: Some(GroupVerdict::New),
                classification: Some(("Severe", "a_reason_that_is_longer_than_all_others")),
                from: Some(&name),
                attempts: u32::MAX,
                worker: usize::MAX,
                ..record()
            };
            // A debug build asserts that no byte is left out.
            assert!(written_of(&longest, format).ends_with('\n'));
            let none: Record<'_> =
                Record { host: b"", target_uri: b"", user_agent: b"", ..longest };
            assert!(written_of(&none, format).len() + 200 < none.max_length());
        }
    }
}
