//! Parses field values: comma-separated lists, numbers, and lengths, which are lists of numbers.

use super::fields::Fields;
use super::name::Name;

/// Removes the blanks around a list's member (RFC 9110 section 5.6.3).
pub(crate) fn trim(member: &[u8]) -> &[u8] {
    let blank = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let from = member.iter().position(blank).unwrap_or(member.len());
    let to = member.iter().rposition(blank).map_or(from, |last| last + 1);
    &member[from..to]
}

/// The members of comma-separated lists, one list a line (RFC 9110 section 5.6.1). Some may be
/// empty.
pub(crate) fn members<'l>(
    lines: impl DoubleEndedIterator<Item = &'l [u8]>,
) -> impl DoubleEndedIterator<Item = &'l [u8]> {
    lines.flat_map(|line| line.split(|&byte| byte == b',')).map(trim)
}

/// Returns true if the comma-separated lists, one a line, have this member, ignoring case.
pub(crate) fn list_has<'l>(
    lines: impl DoubleEndedIterator<Item = &'l [u8]>,
    member: &[u8],
) -> bool {
    members(lines).any(|said| said.eq_ignore_ascii_case(member))
}

/// Parses digits only. `str::parse` would accept a sign.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// The first Content-Length. The caller knows that all lengths agree.
pub(crate) fn content_length(fields: &Fields) -> Option<u64> {
    let line = fields.get(Name::ContentLength)?;
    number(trim(line.split(|&byte| byte == b',').next()?))
}

/// The length of a message with one Content-Length in digits without leading zeros.
pub(crate) fn usual_length(fields: &Fields) -> Option<u64> {
    let text = fields.get(Name::ContentLength)?;
    let is_usual = matches!(text, [b'0'] | [b'1'..=b'9', ..]);
    if is_usual && !fields.is_repeated(Name::ContentLength) { number(text) } else { None }
}

/// The number on which all lengths agree. If they differ, or one is not a number, the end of the
/// message is ambiguous (RFC 9110 section 8.6).
pub(crate) fn agreed_length(fields: &Fields) -> Option<u64> {
    if let Some(length) = usual_length(fields) {
        return Some(length);
    }
    let mut lengths = members(fields.all(Name::ContentLength)).map(number);
    let first = lengths.next().flatten();
    first.filter(|_| lengths.all(|length| length == first))
}

/// Replaces lengths that agree by one without leading zeros, which some parsers read as octal.
pub(crate) fn write_length_once(fields: &mut Fields, length: u64) {
    if usual_length(fields).is_none() {
        fields.set_length(length);
    }
}
