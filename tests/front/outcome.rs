//! The outcome of a case, without the parts that differ from run to run: dates, trace ids, ports,
//! tokens.

use super::cases::Case;
use super::target::{Asked, Connection, Framing, contains, echo, split_lines};
use std::fmt::Write as _;

/// Longer byte strings are recorded as length and hash.
const SHOWN: usize = 80;

/// More fields are recorded as number and hash.
const MAX_FIELDS: usize = 40;

/// The state of the client's connection at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Open,
    Closed,
    Reset,
    /// The client closed.
    Left,
}

/// Keys and values in order. A key with a number (`answer.2.fields`) belongs to the aspect without
/// it (`answer.fields`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome(pub Vec<(String, String)>);

impl Outcome {
    pub fn of(
        case: &Case,
        got: &[u8],
        end: End,
        connections: &mut [Connection],
        port: u16,
    ) -> Self {
        let mut outcome = Self::default();
        let end = match end {
            End::Open => "open",
            End::Closed => "closed",
            End::Reset => "reset",
            End::Left => "left",
        };
        outcome.put("end", end.to_owned());
        let sent = case.sent();
        outcome.put_answers(got, contains(&sent, b"HEAD "), port);
        let mut number = 0;
        for connection in &*connections {
            for asked in &connection.asked {
                number += 1;
                outcome.put_request(number, asked, (number == 1).then_some(&sent), port);
            }
        }
        for connection in connections.iter() {
            if !connection.tunnelled.is_empty() {
                outcome.put("tunnel", shown(&connection.tunnelled));
            }
            if !connection.rest().is_empty() {
                outcome.put("request.rest", shown(connection.rest()));
            }
        }
        let echoes: Vec<String> = connections
            .iter()
            .flat_map(|connection| &connection.asked)
            .map(|asked| escaped(echo(&asked.line).as_bytes()))
            .collect();
        let connections = connections.iter().map(|connection| {
            let end = if connection.has_ended { "ended" } else { connection.end.unwrap_or("kept") };
            format!("{} {end}", connection.asked.len())
        });
        let connections = connections.collect::<Vec<_>>().join(", ");
        // One kept connection is the default and not recorded.
        if !connections.is_empty() && connections != format!("{number} kept") {
            outcome.put("targets", connections);
        }
        outcome.name_echoes(&echoes);
        outcome.name_next();
        if let Some(mark) = &case.mark {
            outcome.hide(mark);
        }
        outcome
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| &**value)
    }

    /// Shortens a target's usual response to one word.
    fn name_echoes(&mut self, echoes: &[String]) {
        for number in 1.. {
            let key = |rest: &str| format!("answer.{number}{rest}");
            let Some(fields) = self.get(&key(".fields")) else { return };
            let body = self.get(&key(".body"));
            let Some(body) = body.filter(|body| echoes.get(number - 1).is_some_and(|e| e == body))
            else {
                continue;
            };
            let mut fields: Vec<_> = fields.split(" | ").map(str::to_owned).collect();
            let usual = [
                format!("content-length: {}", body.replace("\\\\", "\\").len()),
                format!("x-answer: {number}"),
            ];
            if self.get(&key(".framing")) != Some("length")
                || !usual.iter().all(|line| fields.contains(line))
            {
                continue;
            }
            fields.retain(|line| !usual.contains(line));
            fields.push("+echo".into());
            fields.sort();
            let fields = fields.join(" | ");
            self.0.retain(|(known, _)| *known != key(".framing") && *known != key(".body"));
            let part = self.0.iter_mut().find(|(known, _)| *known == key(".fields"));
            part.expect("it was there").1 = fields;
        }
    }

    /// Shortens the request that follows most cases to one word, if it is regular.
    fn name_next(&mut self) {
        let requests = self.0.iter().filter(|(key, _)| aspect_of(key) == "request").count();
        let answers = self.0.iter().filter(|(key, _)| aspect_of(key) == "answer").count();
        let (request, answer) = (format!("request.{requests}"), format!("answer.{answers}"));
        let (request_fields, answer_fields) =
            (format!("{request}.fields"), format!("{answer}.fields"));
        let fields = [self.get(&request_fields), self.get(&answer_fields)];
        let [Some(request_text), Some(answer_text)] = fields else { return };
        let is_usual = |text: &str, usual: &[&str]| text.split(" | ").all(|f| usual.contains(&f));
        if self.get(&request) != Some("GET /next HTTP/1.1")
            || !is_usual(
                request_text,
                &["+forwarded", "+forwarding", "host: shop.example", "host: shop.example:PORT"],
            )
            || self.get(&answer) != Some("HTTP/1.1 200 OK")
            || !is_usual(answer_text, &["+pin", "+guarded", "+echo", "x-frame-options: DENY"])
        {
            return;
        }
        let mut text = format!("{request_text}, {answer_text}");
        if text == "+forwarded | host: shop.example, +echo | +guarded | +pin" {
            text = "usual".to_owned();
        }
        let gone = [request, answer, request_fields, answer_fields];
        self.0.retain(|(key, _)| !gone.contains(key));
        self.put("next", text);
    }

    /// Replaces the byte under test with `{byte}`, so that outcomes that differ only in this byte
    /// become equal.
    fn hide(&mut self, mark: &[u8; 3]) {
        let [mut before, byte, mut after] = mark.map(|byte| escaped(&[byte]));
        // A neighbour that only delimits the value (the colon before it, the CR after it) is not
        // part of the recorded value, so it is left out of the search text.
        if before == ":" {
            before.clear();
        }
        if after == "\\r" {
            after.clear();
        }
        let hidden = format!("{before}{{byte}}{after}");
        let whole = format!("{before}{byte}{after}");
        for (_, value) in &mut self.0 {
            *value = value.replace(&whole, &hidden);
            *value = value.replace(&whole.to_ascii_lowercase(), &hidden.to_ascii_lowercase());
        }
    }

    fn put(&mut self, key: &str, value: String) {
        self.0.push((key.to_owned(), value));
    }

    fn put_answers(&mut self, mut got: &[u8], asks_head: bool, port: u16) {
        let mut number = 0;
        while let Some(end) = got.windows(4).position(|four| four == b"\r\n\r\n") {
            let lines = split_lines(&got[..end]);
            let line = lines[0].escape_ascii().to_string();
            let Some(status) = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)) else {
                break;
            };
            got = &got[end + 4..];
            number += 1;
            let key = |rest: &str| format!("answer.{number}{rest}");
            let fields: Vec<(String, Vec<u8>)> =
                lines[1..].iter().map(|line| parted(line)).collect();
            let value = |name: &str| {
                let mut named = fields.iter().filter(|(known, _)| known == name);
                named.next().map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            };
            self.put(&key(""), line.clone());
            self.put(&key(".fields"), fields_text(&fields, port));
            let length: Option<usize> =
                value("content-length").and_then(|text| text.trim().parse().ok());
            let is_own = value("x-answer").is_none();
            let mut body = Vec::new();
            let framing;
            if status.starts_with('1') && status != "101" {
                framing = "interim";
            } else if status == "101" {
                framing = "tunnel";
                body.extend_from_slice(got);
                got = &[];
            } else if value("x-head").is_some() || matches!(status, "204" | "304") {
                framing = "none";
            } else if value("transfer-encoding").is_some() {
                let (chunks, rest, is_whole) = dechunked(got, &mut |line| {
                    self.put(&key(".trailers"), shown(line));
                });
                framing = if is_whole { "chunked" } else { "chunked, cut short" };
                body = chunks;
                got = rest;
            } else if let Some(length) = length {
                if got.len() >= length {
                    framing = "length";
                    body.extend_from_slice(&got[..length]);
                    got = &got[length..];
                } else if asks_head && is_own {
                    framing = "none";
                } else {
                    framing = "length, cut short";
                    body.extend_from_slice(got);
                    got = &[];
                }
            } else if asks_head && is_own && got.is_empty() {
                framing = "none";
            } else {
                framing = "until the end";
                body.extend_from_slice(got);
                got = &[];
            }
            self.put(&key(".framing"), framing.to_owned());
            if !body.is_empty() {
                self.put(&key(".body"), shown(&body));
            }
        }
        if !got.is_empty() {
            self.put("answer.rest", shown(got));
        }
    }

    fn put_request(&mut self, number: usize, asked: &Asked, sent: Option<&Vec<u8>>, port: u16) {
        let key = |rest: &str| format!("request.{number}{rest}");
        self.put(&key(""), shown(&asked.line));
        let fields = asked.fields.iter();
        let fields = fields.map(|(name, value)| (shown(name), value.clone()));
        let fields: Vec<(String, Vec<u8>)> = fields.collect();
        self.put(&key(".fields"), fields_text(&fields, port));
        if sent.is_some_and(|sent| !keeps_order(sent, &fields)) {
            self.put(&key(".order"), "moved".to_owned());
        }
        let framing = match asked.framing {
            Framing::None => String::new(),
            Framing::Length(length) => format!("length {length}"),
            Framing::Chunked => "chunked".to_owned(),
        };
        if !framing.is_empty() {
            self.put(&key(".framing"), framing);
        }
        if !asked.body.is_empty() {
            self.put(&key(".body"), shown(&asked.body));
        }
        for trailer in &asked.trailers {
            self.put(&key(".trailers"), shown(trailer));
        }
        if !asked.is_whole {
            self.put(&key(".whole"), "no".to_owned());
        }
        if let Some(fault) = asked.fault {
            self.put(&key(".fault"), fault.to_owned());
        }
    }

    /// Values of an aspect, in order.
    pub fn all<'o>(&'o self, aspect: &'o str) -> impl Iterator<Item = &'o str> {
        let parts = self.0.iter().filter(move |(key, _)| aspect_of(key) == aspect);
        parts.map(|(_, value)| &**value)
    }

    /// Status codes of the responses, including interim ones.
    pub fn statuses(&self) -> Vec<u16> {
        let codes = self.all("answer").filter_map(|line| line.get(9..12)?.parse().ok());
        codes.chain(self.all("next").map(|_| 200)).collect()
    }

    /// The number of requests that the target got.
    pub fn requests(&self) -> usize {
        self.all("request").count() + self.all("next").count()
    }
}

/// A key without its number.
pub fn aspect_of(key: &str) -> String {
    let words = key.split('.').filter(|word| !word.bytes().all(|byte| byte.is_ascii_digit()));
    words.collect::<Vec<_>>().join(".")
}

fn parted(line: &[u8]) -> (String, Vec<u8>) {
    let at = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
    let value = line.get(at + 1..).unwrap_or_default();
    let value = value.strip_prefix(b" ").unwrap_or(value);
    (shown(&line[..at].to_ascii_lowercase()), value.to_vec())
}

/// The fields, sorted. Each group of fields that nearly every message has is replaced by one word,
/// for example `+forwarded`.
fn fields_text(fields: &[(String, Vec<u8>)], port: u16) -> String {
    let mut lines: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name}: {}", normalised(name, value, port)))
        .collect();
    lines.sort();
    for (word, usual) in [
        (
            "+forwarded",
            &[
                "x-amzn-trace-id: *",
                "x-forwarded-for: 127.0.0.1",
                "x-forwarded-port: PORT",
                "x-forwarded-proto: http",
            ][..],
        ),
        (
            "+forwarding",
            &["x-amzn-trace-id: *", "x-forwarded-port: PORT", "x-forwarded-proto: http"],
        ),
        ("+pin", &["date: *", "set-cookie: AWSALB=*; Expires=*; Max-Age=86400; Path=/; HttpOnly"]),
        ("+guarded", &["cache-control: no-cache=\"set-cookie\""]),
    ] {
        let once = |line: &str| lines.iter().filter(|known| *known == line).count() == 1;
        if usual.iter().all(|line| once(line)) {
            lines.retain(|line| !usual.contains(&&**line));
            lines.insert(0, word.to_owned());
        }
    }
    if lines.len() > MAX_FIELDS {
        let all = lines.join("\n");
        return format!(
            "{} | ... {} fields, {}",
            lines[..3].join(" | "),
            lines.len(),
            hash(all.as_bytes())
        );
    }
    lines.join(" | ")
}

fn normalised(name: &str, value: &[u8], port: u16) -> String {
    if name == "set-cookie" && value.starts_with(b"AWSALB") {
        return without_token(&escaped(value));
    }
    if matches!(name, "x-forwarded-port" | "host" | "location") {
        let value = escaped(value).replace(&port.to_string(), "PORT");
        return shown(value.as_bytes());
    }
    let text = shown(value);
    match name {
        "date" => "*".to_owned(),
        "x-amzn-trace-id" if text.starts_with("Root=1-") => match text.split_once(';') {
            Some((_, rest)) => format!("*;{rest}"),
            None => "*".to_owned(),
        },
        "x-amzn-trace-id" if text.starts_with("Self=1-") => match text.split_once(';') {
            Some((_, rest)) => format!("Self=*;{rest}"),
            None => "Self=*".to_owned(),
        },
        _ => text,
    }
}

/// The balancer's cookie without the parts that differ each time.
fn without_token(text: &str) -> String {
    let (pair, rest) = text.split_once(';').unwrap_or((text, ""));
    let name = pair.split('=').next().unwrap();
    let rest = rest.split(';').map(|part| match part.trim().split_once('=') {
        Some(("Expires", _)) => "Expires=*",
        _ => part.trim(),
    });
    format!("{name}=*; {}", rest.collect::<Vec<_>>().join("; "))
}

/// True if field names come in the order in which the client sent them.
fn keeps_order(sent: &[u8], fields: &[(String, Vec<u8>)]) -> bool {
    let end = sent.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(sent.len());
    let names: Vec<String> =
        split_lines(&sent[..end]).iter().skip(1).map(|line| parted(line).0).collect();
    let arrived: Vec<&String> =
        fields.iter().map(|(name, _)| name).filter(|name| names.contains(name)).collect();
    let left: Vec<&String> = names.iter().filter(|name| arrived.contains(name)).collect();
    arrived == left
}

/// The body, the bytes after it, and whether its end was found.
fn dechunked<'b>(mut rest: &'b [u8], trailer: &mut dyn FnMut(&[u8])) -> (Vec<u8>, &'b [u8], bool) {
    let mut body = Vec::new();
    let line = |rest: &[u8]| rest.windows(2).position(|pair| pair == b"\r\n");
    while let Some(at) = line(rest) {
        let size = std::str::from_utf8(&rest[..at]).ok();
        let Some(size) = size.and_then(|text| usize::from_str_radix(text, 16).ok()) else {
            return (body, rest, false);
        };
        rest = &rest[at + 2..];
        if size == 0 {
            while let Some(at) = line(rest) {
                let content = &rest[..at];
                rest = &rest[at + 2..];
                if content.is_empty() {
                    return (body, rest, true);
                }
                trailer(content);
            }
            return (body, rest, false);
        }
        if rest.len() < size + 2 {
            body.extend_from_slice(&rest[..size.min(rest.len())]);
            return (body, &[], false);
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
    (body, rest, false)
}

/// Bytes as text on one line, without the backslashes that quotes do not need here.
fn escaped(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().replace("\\\"", "\"").replace("\\'", "'")
}

/// Bytes as text; of long ones the start, the length and a hash.
pub fn shown(bytes: &[u8]) -> String {
    if bytes.len() > SHOWN {
        let start = bytes[..24].escape_ascii();
        return format!("{start}... {} bytes, {}", bytes.len(), hash(bytes));
    }
    escaped(bytes)
}

/// FNV-1a, of which 40 bits are kept.
pub fn hash(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut text = String::new();
    let _ = write!(text, "{:010x}", hash >> 24);
    text
}
