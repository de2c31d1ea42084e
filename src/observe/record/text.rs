//! The smallest pieces of a line, whatever its format.

// Inlined with what follows, so that a literal is a few moves rather than a call to copy it.
#[inline(always)]
pub(super) fn put(line: &mut Vec<u8>, text: &str) {
    line.extend_from_slice(text.as_bytes());
}

/// A number in decimal.
pub(super) fn number(line: &mut Vec<u8>, value: u64) {
    put(line, itoa::Buffer::new().format(value));
}

/// The two hexadecimal digits of a byte, in lower case.
pub(super) fn hexadecimal(line: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    line.extend([byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]));
}
