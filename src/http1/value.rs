//! What values say: comma-separated lists, numbers, and lengths, which are lists of numbers.

use super::fields::Fields;
use super::name::Name;

/// A list's member without the blanks around it (RFC 9110 section 5.6.3).
pub fn trim(member: &[u8]) -> &[u8] {
    let blank = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let from = member.iter().position(blank).unwrap_or(member.len());
    let to = member.iter().rposition(blank).map_or(from, |last| last + 1);
    &member[from..to]
}

/// Members of comma-separated lists, one a line (RFC 9110 section 5.6.1); some may be empty.
pub fn members<'l>(
    lines: impl DoubleEndedIterator<Item = &'l [u8]>,
) -> impl DoubleEndedIterator<Item = &'l [u8]> {
    lines.flat_map(|line| line.split(|&byte| byte == b',')).map(trim)
}

/// Whether comma-separated lists, one a line, have this member in any case.
pub fn list_has<'l>(lines: impl DoubleEndedIterator<Item = &'l [u8]>, member: &[u8]) -> bool {
    members(lines).any(|said| said.eq_ignore_ascii_case(member))
}

/// Digits alone: `str::parse` takes a sign.
pub fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// The length that a message announced, where all its lengths are known to agree: the first.
pub fn content_length(fields: &Fields) -> Option<u64> {
    let line = fields.get(Name::ContentLength)?;
    number(trim(line.split(|&byte| byte == b',').next()?))
}

/// The number on which all lengths agree: where they differ, or one is no number, there is no one end
/// of the message (RFC 9110 section 8.6).
pub fn agreed_length(fields: &Fields) -> Option<u64> {
    // Nearly all say it once.
    if !fields.is_repeated(Name::ContentLength)
        && let Some(length) = fields.get(Name::ContentLength).and_then(number)
    {
        return Some(length);
    }
    let mut lengths = members(fields.all(Name::ContentLength)).map(number);
    let first = lengths.next().flatten();
    first.filter(|_| lengths.all(|length| length == first))
}

/// Leaves of lengths that agree one, written without zeros before it, which some read as the mark of an
/// octal number.
pub fn write_length_once(fields: &mut Fields, length: u64) {
    let is_canonical = match fields.get(Name::ContentLength) {
        Some([b'0']) => true,
        Some([b'1'..=b'9', rest @ ..]) => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !is_canonical || fields.is_repeated(Name::ContentLength) {
        fields.set_length(length);
    }
}
