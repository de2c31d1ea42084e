//! Heads: start line and field section (RFC 9112 sections 2 to 5).

use super::{Field, Leniencies, Leniency, Read, is_blank, is_text, is_token, line, trim, uri};
use std::collections::BTreeSet;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    pub method: Vec<u8>,
    pub target: Vec<u8>,
    /// The digit after `HTTP/1.`.
    pub minor: u8,
    pub fields: Vec<Field>,
    /// Lines of the field section, including folded ones.
    pub lines: usize,
    pub length: usize,
    pub needed: BTreeSet<Leniency>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    pub minor: u8,
    pub status: u16,
    pub reason: Vec<u8>,
    pub fields: Vec<Field>,
    pub lines: usize,
    pub length: usize,
    pub needed: BTreeSet<Leniency>,
}

pub struct Section {
    pub fields: Vec<Field>,
    pub lines: usize,
    pub ends: usize,
}

/// `HTTP-message` of a request, without its body.
pub fn request(bytes: &[u8], allowed: &[Leniency]) -> Read<RequestHead> {
    let mut leniencies = Leniencies::allow(allowed);
    let mut at = 0;
    let (text, after) = loop {
        let Some((text, crlf, next)) = line(bytes, at) else { return Read::Incomplete };
        if !crlf && !leniencies.need(Leniency::BareLf) {
            return Read::Refused("LF alone");
        }
        if !text.is_empty() {
            break (text, next);
        }
        if !leniencies.need(Leniency::EmptyLinesFirst) {
            return Read::Refused("an empty line first");
        }
        at = next;
    };
    let words: Vec<&[u8]> =
        text.split(|&byte| is_blank(byte)).filter(|word| !word.is_empty()).collect();
    let [method, target, version] = words[..] else {
        return Read::Refused("a request line of not three words");
    };
    if text != [method, target, version].join(&b' ') && !leniencies.need(Leniency::OddBlanks) {
        return Read::Refused("blanks in the request line");
    }
    if !is_token(method) {
        return Read::Refused("the method is no token");
    }
    let minor = match version {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', digit @ b'0'..=b'9'] => digit - b'0',
        _ => return Read::Refused("the version is none of HTTP/1"),
    };
    if minor > 1 && !leniencies.need(Leniency::MinorVersion) {
        return Read::Refused("a later minor version");
    }
    if let Err(why) = uri::target(target, &mut leniencies) {
        return Read::Refused(why);
    }
    match section(bytes, after, &mut leniencies) {
        Read::Incomplete => Read::Incomplete,
        Read::Refused(why) => Read::Refused(why),
        Read::Whole(Section { fields, lines, ends }) => Read::Whole(RequestHead {
            method: method.to_vec(),
            target: target.to_vec(),
            minor,
            fields,
            lines,
            length: ends,
            needed: leniencies.needed,
        }),
    }
}

/// `HTTP-message` of a response, without its body.
pub fn response(bytes: &[u8], allowed: &[Leniency]) -> Read<ResponseHead> {
    let mut leniencies = Leniencies::allow(allowed);
    let Some((text, crlf, after)) = line(bytes, 0) else { return Read::Incomplete };
    if !crlf && !leniencies.need(Leniency::BareLf) {
        return Read::Refused("LF alone");
    }
    if text.len() < 12 {
        return Read::Refused("too short for a status line");
    }
    let minor = match &text[..9] {
        b"HTTP/1.0 " => 0,
        b"HTTP/1.1 " => 1,
        _ => return Read::Refused("the version is none of HTTP/1"),
    };
    // RFC 9112 section 4 has three digits, RFC 9110 section 15 none below 100.
    let digits = &text[9..12];
    if !digits.iter().all(u8::is_ascii_digit) || digits[0] == b'0' {
        return Read::Refused("no status");
    }
    let status = digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    let reason = match &text[12..] {
        [b' ', reason @ ..] => reason,
        [] if leniencies.need(Leniency::NoReason) => &[],
        _ => return Read::Refused("no space behind the status"),
    };
    if !reason.iter().all(|&byte| is_text(byte)) {
        return Read::Refused("the reason is no text");
    }
    match section(bytes, after, &mut leniencies) {
        Read::Incomplete => Read::Incomplete,
        Read::Refused(why) => Read::Refused(why),
        Read::Whole(Section { fields, lines, ends }) => Read::Whole(ResponseHead {
            minor,
            status,
            reason: reason.to_vec(),
            fields,
            lines,
            length: ends,
            needed: leniencies.needed,
        }),
    }
}

/// `*( field-line CRLF ) CRLF`
pub fn section(bytes: &[u8], from: usize, leniencies: &mut Leniencies) -> Read<Section> {
    // Values are kept raw, with the line ends of folded lines, until the section has ended.
    let mut raw: Vec<Field> = Vec::new();
    let mut at = from;
    let mut lines = 0;
    // The end of the previous line, which belongs to the value if it is folded.
    let mut line_end: &[u8] = b"";
    loop {
        let Some((text, crlf, next)) = line(bytes, at) else { return Read::Incomplete };
        if !crlf && !leniencies.need(Leniency::BareLf) {
            return Read::Refused("LF alone");
        }
        if text.is_empty() {
            let fields = raw.into_iter().map(|(name, value)| (name, cleaned(&value))).collect();
            return Read::Whole(Section { fields, lines, ends: next });
        }
        lines += 1;
        let value = if is_blank(text[0]) {
            let Some((_, value)) = raw.last_mut() else {
                return Read::Refused("a folded line with nothing before it");
            };
            if !leniencies.need(Leniency::Folded) {
                return Read::Refused("a folded line");
            }
            value.extend_from_slice(line_end);
            value.extend_from_slice(&text);
            text.clone()
        } else {
            let Some(colon) = text.iter().position(|&byte| byte == b':') else {
                return Read::Refused("no colon");
            };
            let mut name = text[..colon].to_vec();
            while name.last().is_some_and(|&byte| is_blank(byte)) {
                if !leniencies.need(Leniency::BlankBeforeColon) {
                    return Read::Refused("a blank before the colon");
                }
                name.pop();
            }
            if !is_token(&name) {
                return Read::Refused("the name is no token");
            }
            let value = text[colon + 1..].to_vec();
            raw.push((String::from_utf8(name).unwrap(), value.clone()));
            value
        };
        for byte in value {
            if byte >= 0x80 {
                leniencies.need(Leniency::ObsText);
            } else if !is_text(byte) && !leniencies.need(Leniency::ControlInValue) {
                return Read::Refused("a control byte in a value");
            }
        }
        line_end = if crlf { b"\r\n" } else { b"\n" };
        at = next;
    }
}

/// Replaces control bytes and the ends of folded lines by spaces (RFC 9112 section 5.2, RFC 9110
/// section 5.5), and trims blanks.
fn cleaned(raw: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = raw.iter().map(|&byte| if is_text(byte) { byte } else { b' ' }).collect();
    trim(&spaced).to_vec()
}
