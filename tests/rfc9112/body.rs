//! The end of a message's body (RFC 9112 section 6), and chunks (section 7.1).

use super::head::{RequestHead, ResponseHead, Section, section};
use super::{Field, Leniencies, Leniency, Read, is_blank, is_tchar, is_text, line, trim};
use std::collections::BTreeSet;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    After(u64),
    WithLastChunk,
    WithConnection,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    pub data: Vec<u8>,
    pub trailers: Vec<Field>,
    pub length: usize,
    /// Bytes of all extensions, of trailers, and lines of trailers.
    pub extension: usize,
    pub trailer_bytes: usize,
    pub trailer_lines: usize,
    pub needed: BTreeSet<Leniency>,
}

fn values<'f>(fields: &'f [Field], name: &str) -> Vec<&'f [u8]> {
    let named = fields.iter().filter(|(sent, _)| sent.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.as_slice()).collect()
}

/// The members of a list over all of its lines (RFC 9110 section 5.6.1), without empty ones.
fn members(fields: &[Field], name: &str) -> Vec<String> {
    let lines = values(fields, name);
    let all = lines.iter().flat_map(|line| line.split(|&byte| byte == b','));
    let trimmed = all.map(trim).filter(|member| !member.is_empty());
    trimmed.map(|member| String::from_utf8_lossy(member).to_ascii_lowercase()).collect()
}

/// The one value on which all lines and members of Content-Length agree (RFC 9112 section 6.3, item
/// 5).
fn length(fields: &[Field]) -> Result<Option<u64>, &'static str> {
    let mut said = None;
    for line in values(fields, "content-length") {
        for member in line.split(|&byte| byte == b',') {
            let digits = trim(member);
            if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                return Err("a length that is no number");
            }
            let text = String::from_utf8(digits.to_vec()).unwrap();
            let number = text.parse().map_err(|_| "a length beyond 64 bits")?;
            if said.is_some_and(|said: u64| said != number) {
                return Err("lengths that differ");
            }
            said = Some(number);
        }
    }
    Ok(said)
}

/// True if the body is chunked. Stricter than RFC 9112 section 6.1 on purpose: `chunked` once, in
/// one line, over HTTP/1.1, or refused.
fn is_chunked(fields: &[Field], minor: u8) -> Result<bool, &'static str> {
    match values(fields, "transfer-encoding")[..] {
        [] => Ok(false),
        _ if minor == 0 => Err("codings over HTTP/1.0"),
        [one] if one.eq_ignore_ascii_case(b"chunked") => Ok(true),
        _ => Err("codings that are not one chunked"),
    }
}

/// RFC 9112 section 6.3, items 3 to 7, for a request. Both a coding and a length are refused, as
/// item 3 of the section allows.
pub fn of_request(head: &RequestHead) -> Result<Ends, &'static str> {
    let length = length(&head.fields)?;
    match (is_chunked(&head.fields, head.minor)?, length) {
        (true, None) => Ok(Ends::WithLastChunk),
        (true, Some(_)) => Err("a coding and a length"),
        (false, length) => Ok(Ends::After(length.unwrap_or(0))),
    }
}

/// True if a sender of these fields keeps its connection (RFC 9112 section 9.3).
pub fn persists(fields: &[Field], minor: u8) -> bool {
    let options = members(fields, "connection");
    let says = |option: &str| options.iter().any(|said| said == option);
    !says("close") && (minor > 0 || says("keep-alive"))
}

/// RFC 9112 section 6.3 for the response to a request of this method, and whether the connection
/// may be reused (section 9.3).
pub fn of_response(head: &ResponseHead, asked: &str) -> Result<(Ends, bool), &'static str> {
    let chunked = is_chunked(&head.fields, head.minor)?;
    let length = length(&head.fields)?;
    let persists = persists(&head.fields, head.minor);
    let has_none = asked == "HEAD" || head.status < 200 || [204, 304].contains(&head.status);
    Ok(match (has_none, chunked, length) {
        (true, ..) => (Ends::After(0), persists),
        (false, true, None) => (Ends::WithLastChunk, persists),
        // Item 3: the coding counts, and the connection is closed after it.
        (false, true, Some(_)) => (Ends::WithLastChunk, false),
        (false, false, Some(length)) => (Ends::After(length), persists),
        (false, false, None) => (Ends::WithConnection, false),
    })
}

/// `chunked-body`
pub fn chunked(bytes: &[u8], allowed: &[Leniency]) -> Read<Body> {
    let mut leniencies = Leniencies::allow(allowed);
    let (mut data, mut at, mut extension) = (Vec::new(), 0, 0);
    loop {
        let Some((text, crlf, next)) = line(bytes, at) else { return Read::Incomplete };
        if !crlf && !leniencies.need(Leniency::BareLf) {
            return Read::Refused("LF alone");
        }
        let digits: Vec<u8> = text.iter().copied().take_while(u8::is_ascii_hexdigit).collect();
        if digits.is_empty() {
            return Read::Refused("a chunk without a size");
        }
        let rest = &text[digits.len()..];
        if let Err(why) = chunk_extension(rest, &mut leniencies) {
            return Read::Refused(why);
        }
        // Blanks that pad a size are not an extension.
        extension += match trim(rest) {
            [] => text.len().saturating_sub(16),
            _ => rest.len() + digits.len().saturating_sub(16),
        };
        let digits = String::from_utf8(digits).unwrap();
        let digits = match digits.trim_start_matches('0') {
            "" => "0",
            digits => digits,
        };
        let Ok(size) = u64::from_str_radix(digits, 16) else {
            return Read::Refused("a size beyond 64 bits");
        };
        at = next;
        if size == 0 {
            break;
        }
        for _ in 0..size {
            let Some(&byte) = bytes.get(at) else { return Read::Incomplete };
            data.push(byte);
            at += 1;
        }
        match bytes.get(at..) {
            Some([b'\r', b'\n', ..]) => at += 2,
            Some([b'\n', ..]) if leniencies.need(Leniency::BareLf) => at += 1,
            Some([] | [b'\r']) | None => return Read::Incomplete,
            _ => return Read::Refused("no line end behind a chunk"),
        }
    }
    match section(bytes, at, &mut leniencies) {
        Read::Incomplete => Read::Incomplete,
        Read::Refused(why) => Read::Refused(why),
        Read::Whole(Section { fields, lines, ends }) => Read::Whole(Body {
            data,
            trailers: fields,
            length: ends,
            extension,
            trailer_bytes: ends - at,
            trailer_lines: lines,
            needed: leniencies.needed,
        }),
    }
}

/// `*( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )`
fn chunk_extension(text: &[u8], leniencies: &mut Leniencies) -> Result<(), &'static str> {
    if is_extension(text) {
        return Ok(());
    }
    if text.iter().all(|&byte| is_blank(byte)) {
        return match leniencies.need(Leniency::BlankAfterSize) {
            true => Ok(()),
            false => Err("blanks behind a size"),
        };
    }
    let is_behind_semicolon = trim(text).first() == Some(&b';');
    if !is_behind_semicolon || !text.iter().all(|&byte| is_text(byte)) {
        return Err("no extension");
    }
    match leniencies.need(Leniency::ExtensionText) {
        true => Ok(()),
        false => Err("an extension without names"),
    }
}

fn is_extension(text: &[u8]) -> bool {
    let mut rest = text.to_vec();
    rest.reverse();
    // `rest` is read from its end: the next byte is its last.
    let blanks = |rest: &mut Vec<u8>| {
        while rest.last().is_some_and(|&byte| is_blank(byte)) {
            rest.pop();
        }
    };
    let token = |rest: &mut Vec<u8>| {
        let before = rest.len();
        while rest.last().is_some_and(|&byte| is_tchar(byte)) {
            rest.pop();
        }
        rest.len() < before
    };
    while !rest.is_empty() {
        blanks(&mut rest);
        if rest.pop() != Some(b';') {
            return false;
        }
        blanks(&mut rest);
        if !token(&mut rest) {
            return false;
        }
        let mut behind = rest.clone();
        blanks(&mut behind);
        if behind.pop() != Some(b'=') {
            continue;
        }
        blanks(&mut behind);
        rest = behind;
        if rest.last() != Some(&b'"') {
            if !token(&mut rest) {
                return false;
            }
            continue;
        }
        rest.pop();
        loop {
            match rest.pop() {
                Some(b'"') => break,
                Some(b'\\') if rest.pop().is_some_and(is_text) => {}
                Some(b'\\') | None => return false,
                Some(byte) if is_text(byte) => {}
                Some(_) => return false,
            }
        }
    }
    true
}
