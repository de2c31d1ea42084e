//! Request targets (RFC 9112 section 3.2) by the grammar of RFC 3986.

use super::{Leniencies, Leniency};

/// Checks that a target may stand in a request line.
pub fn target(text: &[u8], leniencies: &mut Leniencies) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("no target");
    }
    if !text.iter().all(|byte| (0x21..=0x7e).contains(byte)) {
        return Err("a byte in the target that is not visible");
    }
    // RFC 9112 section 3.2 knows no fragment. Its bytes are dropped with it.
    let begins_late = authority_end(text);
    let text = match text[begins_late..].iter().position(|&byte| byte == b'#') {
        Some(at) => {
            if !leniencies.need(Leniency::Fragment) {
                return Err("a fragment in the target");
            }
            &text[..begins_late + at]
        }
        None => text,
    };
    if !text[begins_late..].iter().all(|&byte| is_uri_byte(byte)) {
        return if leniencies.need(Leniency::OddTarget) { Ok(()) } else { Err("no byte of a URI") };
    }
    if !has_form(text) && !leniencies.need(Leniency::NoForm) {
        return Err("none of the four forms of a target");
    }
    Ok(())
}

/// The start of the path of an absolute form; 0 for other forms.
fn authority_end(text: &[u8]) -> usize {
    let Some((scheme, rest)) = split_scheme(text) else { return 0 };
    let ends = |byte: &u8| b"/?#".contains(byte);
    scheme + rest.iter().position(ends).unwrap_or(rest.len())
}

/// The length of a scheme with its `://`, and the text after it.
fn split_scheme(text: &[u8]) -> Option<(usize, &[u8])> {
    let at = (0..text.len()).find(|&at| text[at..].starts_with(b"://"))?;
    let scheme = &text[..at];
    let is_scheme = scheme.first()?.is_ascii_alphabetic()
        && scheme.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_scheme.then_some((at + 3, &text[at + 3..]))
}

/// `unreserved / gen-delims / sub-delims / "%"`
fn is_uri_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte)
}

/// True if the target has one of the four forms.
fn has_form(text: &[u8]) -> bool {
    if text == b"*" {
        return true;
    }
    let (path, query) = match text.iter().position(|&byte| byte == b'?') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &b""[..]),
    };
    if !is_pchars(query, b"/?") {
        return false;
    }
    if path.starts_with(b"/") {
        return is_pchars(path, b"/");
    }
    if let Some((scheme, _)) = split_scheme(text) {
        let end = authority_end(text);
        let rest = path.get(end..).unwrap_or_default();
        return is_authority(&text[scheme..end]) && is_pchars(rest, b"/");
    }
    // authority-form: uri-host ":" port
    is_authority(text) && !text.contains(&b'@') && text.contains(&b':')
}

/// True for `pchar` and these bytes, with complete percent-encodings.
fn is_pchars(text: &[u8], more: &[u8]) -> bool {
    let mut at = 0;
    while at < text.len() {
        let byte = text[at];
        if byte == b'%' {
            let digits = text.get(at + 1..at + 3);
            if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                return false;
            }
            at += 3;
            continue;
        }
        if !(byte.is_ascii_alphanumeric()
            || b"-._~!$&'()*+,;=:@".contains(&byte)
            || more.contains(&byte))
        {
            return false;
        }
        at += 1;
    }
    true
}

/// `[ userinfo "@" ] host [ ":" port ]`, a host in brackets by its bytes alone.
fn is_authority(text: &[u8]) -> bool {
    let host_and_port = match text.iter().rposition(|&byte| byte == b'@') {
        Some(at) if text[..at].contains(&b'@') || !is_pchars(&text[..at], b"") => return false,
        Some(at) => &text[at + 1..],
        None => text,
    };
    let (host, port) = match host_and_port.iter().rposition(|&byte| byte == b':') {
        Some(at) if !host_and_port[at..].contains(&b']') => {
            (&host_and_port[..at], &host_and_port[at + 1..])
        }
        _ => (host_and_port, &b""[..]),
    };
    let is_host = match host {
        [b'[', inner @ .., b']'] => is_pchars(inner, b"") && !inner.contains(&b'@'),
        host => is_pchars(host, b"") && !host.contains(&b':') && !host.contains(&b'@'),
    };
    is_host && port.iter().all(u8::is_ascii_digit)
}
