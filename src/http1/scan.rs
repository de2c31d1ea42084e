//! Finds the parts of a head: eight bytes at a time where that is faster, otherwise with a table.

/// Returns true if the value holds CR, LF or NUL.
#[inline]
pub(super) fn has_line_end(value: &[u8]) -> bool {
    // CR, LF and NUL are below 0x0e, and values rarely hold such a byte: all words are checked
    // without a branch. A tab leads to the exact check.
    let (eights, rest) = value.as_chunks::<8>();
    let below = |word: u64| word.wrapping_sub(ONES * 0x0e) & !word & TOPS;
    let marks = eights.iter().fold(0, |marks, eight| marks | below(u64::from_le_bytes(*eight)));
    let is_low = match value.last_chunk::<8>() {
        // The remainder is within the last eight bytes.
        Some(last) => below(u64::from_le_bytes(*last)) != 0,
        None => rest.iter().any(|&byte| byte < 0x0e),
    };
    (marks != 0 || is_low) && memchr::memchr3(b'\r', b'\n', 0, value).is_some()
}

/// Bytes allowed in a token (RFC 9110 section 5.6.2).
static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(byte as u8,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_'
            | b'`' | b'|' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z');
        byte += 1;
    }
    table
};

/// The index of the first byte at or after `from` that no token may hold; the length if there is
/// none.
#[inline]
pub(crate) fn token_end(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    let length = rest.iter().position(|&byte| !TOKEN[usize::from(byte)]);
    from + length.unwrap_or(rest.len())
}

/// Returns true if the whole text is one token.
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| TOKEN[usize::from(byte)])
}

const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
const TOPS: u64 = u64::from_ne_bytes([0x80; 8]);

/// Marks the bytes of a word that are below `bound` (at most 0x80), are 0x7f, or have the top bit.
#[inline]
fn odd_bytes(word: u64, bound: u8) -> u64 {
    let below = word.wrapping_sub(ONES * u64::from(bound));
    let above = word.wrapping_add(ONES);
    // A byte borrows from the next or carries into it only if it is odd itself, so the lowest mark,
    // which is the only one used, is always right.
    (below | word | above) & TOPS
}

/// The index of the first byte that is below `bound`, 0x7f or above; the length if there is none.
#[inline]
fn first_odd(bytes: &[u8], bound: u8) -> usize {
    let mut rest = bytes;
    // Most parts of a head are short, and the byte after them in the buffer is odd.
    for _ in 0..SHORT_WORDS {
        let Some((eight, behind)) = rest.split_first_chunk::<8>() else {
            return bytes.len() - rest.len() + first_odd_byte(rest, bound);
        };
        let odd = odd_bytes(u64::from_le_bytes(*eight), bound);
        if odd != 0 {
            return bytes.len() - rest.len() + (odd.trailing_zeros() / 8) as usize;
        }
        rest = behind;
    }
    bytes.len() - rest.len() + first_odd_of_long(rest, bound)
}

/// Words checked one by one before larger steps.
const SHORT_WORDS: usize = 3;

/// [`first_odd`] for long parts: larger steps need no branch for each word.
#[inline(never)]
fn first_odd_of_long(bytes: &[u8], bound: u8) -> usize {
    let mut rest = bytes;
    while let Some((block, behind)) = rest.split_first_chunk::<32>() {
        // As numbers relative to `bound`, the bytes that are not odd are the lowest.
        let above = |byte: &u8| byte.wrapping_sub(bound) >= 0x7f - bound;
        if block.iter().fold(false, |odd, byte| odd | above(byte)) {
            break;
        }
        rest = behind;
    }
    while let Some((eight, behind)) = rest.split_first_chunk::<8>() {
        let odd = odd_bytes(u64::from_le_bytes(*eight), bound);
        if odd != 0 {
            return bytes.len() - rest.len() + (odd.trailing_zeros() / 8) as usize;
        }
        rest = behind;
    }
    bytes.len() - rest.len() + first_odd_byte(rest, bound)
}

/// [`first_odd`] one byte at a time.
#[inline]
fn first_odd_byte(bytes: &[u8], bound: u8) -> usize {
    let found = bytes.iter().position(|&byte| byte < bound || byte >= 0x7f);
    found.unwrap_or(bytes.len())
}

/// The index of the first byte that is not visible ASCII or a space.
#[inline]
pub(super) fn text_end(bytes: &[u8]) -> usize {
    first_odd(bytes, 0x20)
}

/// The index of the first byte that is not visible ASCII.
#[inline]
pub(super) fn visible_end(bytes: &[u8]) -> usize {
    first_odd(bytes, 0x21)
}

/// The index of the first colon, among the first [`MAX_USUAL_NAME`] bytes.
#[inline]
pub(super) fn colon(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    for _ in 0..MAX_USUAL_NAME / 8 {
        let Some((eight, behind)) = rest.split_first_chunk::<8>() else {
            let found = rest.iter().position(|&byte| byte == b':')?;
            return Some(bytes.len() - rest.len() + found);
        };
        let word = u64::from_le_bytes(*eight) ^ (ONES * u64::from(b':'));
        // The lowest mark is the first colon; higher marks may be wrong.
        let marks = word.wrapping_sub(ONES) & !word & TOPS;
        if marks != 0 {
            return Some(bytes.len() - rest.len() + (marks.trailing_zeros() / 8) as usize);
        }
        rest = behind;
    }
    None
}

/// Bound in bytes on a usual name. Longer names are read with the odd lines.
const MAX_USUAL_NAME: usize = 64;

/// The index after the blanks at `from`.
#[inline]
pub(super) fn skip_blanks(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(b' ' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}

/// The index after the head's last byte, its empty line included. The search starts at `from`,
/// before which no head ends, and also finds an end within the two bytes before `from`.
pub(crate) fn head_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from.saturating_sub(2);
    while let Some(found) = memchr::memchr(b'\n', bytes.get(at..)?) {
        let next = at + found + 1;
        match &bytes[next..] {
            [b'\n', ..] => return Some(next + 1),
            [b'\r', b'\n', ..] => return Some(next + 2),
            _ => at = next,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn eight_bytes_at_a_time_match_one_byte_at_a_time(
            bytes in proptest::collection::vec(
                prop_oneof![8 => 0x1e_u8..0x23, 8 => 0x7d_u8..0x82, 20 => 0x40_u8..0x60, 1 => any::<u8>()],
                0..160,
            ),
            from in 0_usize..4,
        ) {
            for (bound, found) in [
                (0x20, text_end as fn(&[u8]) -> usize),
                (0x21, visible_end),
            ] {
                let slow = bytes.iter().enumerate().skip(from).find(|(_, byte)| {
                    **byte < bound || **byte >= 0x7f
                });
                let from = from.min(bytes.len());
                let expected = slow.map_or(bytes.len(), |(at, _)| at);
                prop_assert_eq!(from + found(&bytes[from..]), expected);
            }
        }
    }

    proptest! {
        #[test]
        fn the_first_colon_is_found(
            bytes in proptest::collection::vec(prop_oneof![10 => 0x38_u8..0x3d, 1 => any::<u8>()], 0..80),
            from in 0_usize..4,
        ) {
            let from = from.min(bytes.len());
            let first = bytes[from..].iter().position(|byte| *byte == b':').map(|at| from + at);
            match colon(&bytes[from..]) {
                None => prop_assert!(first.is_none_or(|at| at - from >= MAX_USUAL_NAME)),
                found => prop_assert_eq!(found.map(|at| from + at), first),
            }
        }

        #[test]
        fn a_line_end_is_found_at_any_position(
            mut value in proptest::collection::vec(prop_oneof![Just(b'\t'), 0x20_u8..], 0..40),
            ends in proptest::option::of((any::<proptest::sample::Index>(), 0_usize..3)),
        ) {
            if let Some((at, which)) = ends.filter(|_| !value.is_empty()) {
                let at = at.index(value.len());
                value[at] = [b'\r', b'\n', 0][which];
                prop_assert!(has_line_end(&value));
            } else {
                prop_assert!(!has_line_end(&value));
            }
        }
    }

    #[test]
    fn a_head_ends_with_its_empty_line_wherever_the_search_starts() {
        for (text, end) in [
            ("GET / HTTP/1.1\r\na: b\r\n\r\nrest", Some(24)),
            ("GET / HTTP/1.1\n\nrest", Some(16)),
            ("GET / HTTP/1.1\r\n\nrest", Some(17)),
            ("GET / HTTP/1.1\r\na: b\r\n", None),
            ("GET / HTTP/1.1\r\na: b\r\n\r", None),
        ] {
            assert_eq!(head_end(text.as_bytes(), 0), end, "{text:?}");
            // For each cut into two pieces.
            for cut in 0..text.len() {
                let first = head_end(&text.as_bytes()[..cut], 0);
                let found = first.or_else(|| head_end(text.as_bytes(), cut));
                assert_eq!(found, end, "{text:?} cut at {cut}");
            }
        }
    }
}
