//! A log line that is being written, and its smallest pieces, for all formats.

/// A line in a buffer whose size was computed before, so that no piece grows it. A piece that does
/// not fit is left out, with everything after it.
///
/// Its methods are inlined and pass no reference to it on: as a local variable of one function it
/// stays in registers, and a literal is a few moves. Through `Vec`, which may grow with every
/// piece, a line costs twice as much.
#[derive(Debug)]
pub struct Line<'r> {
    rest: &'r mut [u8],
}

impl<'r> Line<'r> {
    /// Makes an empty line in this buffer.
    pub fn new(room: &'r mut [u8]) -> Self {
        Self { rest: room }
    }

    /// Bytes of the buffer that are left.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// Takes the line out, and leaves one without room.
    pub(super) fn take(&mut self) -> Self {
        Self { rest: std::mem::take(&mut self.rest) }
    }

    /// Appends bytes.
    #[inline(always)]
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        let place = std::mem::take(&mut self.rest).split_at_mut_checked(bytes.len());
        debug_assert!(place.is_some(), "the room was measured wrongly");
        if let Some((place, rest)) = place {
            place.copy_from_slice(bytes);
            self.rest = rest;
        }
    }

    /// Appends text.
    #[inline(always)]
    pub(super) fn put(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Appends a number in decimal.
    #[inline(always)]
    pub(super) fn number(&mut self, value: u64) {
        if value < 10 {
            self.bytes(&[b'0' + value as u8]);
        } else {
            self.put(itoa::Buffer::new().format(value));
        }
    }

    /// Appends a status, of three digits.
    #[inline(always)]
    pub(super) fn status(&mut self, value: u16) {
        self.bytes(&digits::<3>(u32::from(value)));
    }

    /// Appends the hexadecimal digits of these bytes, in lower case.
    #[inline(always)]
    pub(super) fn hexadecimal<const COUNT: usize>(&mut self, bytes: [u8; COUNT]) {
        self.bytes(bytes.map(hexadecimal).as_flattened());
    }

    /// Appends text, and passes the parts that are not [`plain`] to `escape`. Most texts have none
    /// and are copied at once. `FIRST` is a blank, or `!` if a blank is escaped too.
    #[inline(always)]
    pub(super) fn escaped<const FIRST: u8>(&mut self, value: &[u8], escape: Escape) {
        if is_plain::<FIRST>(value) {
            self.bytes(value);
        } else {
            self.rest = escape_runs::<FIRST>(std::mem::take(&mut self.rest), value, escape);
        }
    }
}

/// For `write!`. The line must have the room.
impl std::fmt::Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.put(text);
        Ok(())
    }
}

/// Appends the first character, which is not plain, in escaped form, and returns its length in the
/// text.
pub(super) type Escape = fn(&mut Line<'_>, &[u8]) -> usize;

/// Maximum bytes of one escaped byte, in any format: `\u0000`.
pub(super) const MAX_ESCAPED: usize = 6;

/// Returns the room left.
#[cold]
fn escape_runs<'r, const FIRST: u8>(
    room: &'r mut [u8],
    value: &[u8],
    escape: Escape,
) -> &'r mut [u8] {
    let mut line = Line { rest: room };
    let mut left = value;
    while !left.is_empty() {
        let run = left.iter().position(|&byte| !plain::<FIRST>(byte)).unwrap_or(left.len());
        line.bytes(&left[..run]);
        left = &left[run..];
        if !left.is_empty() {
            left = &left[escape(&mut line, left).clamp(1, left.len())..];
        }
    }
    line.rest
}

/// True if every format writes the byte as it is: visible ASCII from `FIRST` on that neither ends a
/// field nor escapes another byte.
#[inline(always)]
fn plain<const FIRST: u8>(byte: u8) -> bool {
    (FIRST..=b'~').contains(&byte) && byte != b'"' && byte != b'\\'
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const TOPS: u64 = u64::from_ne_bytes([0x80; 8]);

/// A word in which a top bit is set if one of these bytes is not [`plain`].
#[inline(always)]
fn marks<const FIRST: u8>(word: u64) -> u64 {
    let is_not = |byte: u8| (word ^ (ONES * u64::from(byte))).wrapping_sub(ONES);
    // A byte borrows from the next, or carries into it, only if it is not plain itself. So a word
    // of plain bytes is never marked.
    word | word.wrapping_add(ONES)
        | word.wrapping_sub(ONES * u64::from(FIRST))
        | is_not(b'"')
        | is_not(b'\\')
}

/// True if all of a text is plain; reads eight bytes at a time.
fn is_plain<const FIRST: u8>(value: &[u8]) -> bool {
    if let Some(last) = value.last_chunk::<8>() {
        let (words, _) = value.as_chunks::<8>();
        let last = marks::<FIRST>(u64::from_ne_bytes(*last));
        let all =
            words.iter().fold(last, |all, word| all | marks::<FIRST>(u64::from_ne_bytes(*word)));
        return all & TOPS == 0;
    }
    if let (Some(first), Some(last)) = (value.first_chunk::<4>(), value.last_chunk::<4>()) {
        let (first, last) = (u32::from_ne_bytes(*first), u32::from_ne_bytes(*last));
        return marks::<FIRST>(u64::from(first) << 32 | u64::from(last)) & TOPS == 0;
    }
    value.iter().all(|&byte| plain::<FIRST>(byte))
}

/// The two hexadecimal digits of a byte, in lower case.
#[inline(always)]
pub(super) fn hexadecimal(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)])
}

/// The last `COUNT` decimal digits of a number, with leading zeros.
#[inline(always)]
pub(super) fn digits<const COUNT: usize>(mut value: u32) -> [u8; COUNT] {
    let mut digits = [b'0'; COUNT];
    let (odd, pairs) = digits.as_rchunks_mut::<2>();
    for pair in pairs.iter_mut().rev() {
        *pair = PAIRS[(value % 100) as usize];
        value /= 100;
    }
    if let [digit] = odd {
        *digit += (value % 10) as u8;
    }
    digits
}

/// `00` to `99`.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut at = 0;
    while at < 100 {
        pairs[at] = [b'0' + at as u8 / 10, b'0' + at as u8 % 10];
        at += 1;
    }
    pairs
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(write: impl Fn(&mut Line<'_>)) -> String {
        let mut room = [0; 64];
        let mut line = Line::new(&mut room);
        write(&mut line);
        let length = 64 - line.left();
        String::from_utf8(room[..length].to_vec()).unwrap()
    }

    proptest! {
        #[test]
        fn eight_bytes_at_a_time_find_the_same_as_one_at_a_time(
            value in proptest::collection::vec(
                prop_oneof![1 => any::<u8>(), 60 => 0x20_u8..0x21, 60 => 0x7d_u8..0x7f, 60 => 0x23_u8..0x5c],
                0..70,
            ),
        ) {
            prop_assert_eq!(is_plain::<b' '>(&value), value.iter().all(|&byte| plain::<b' '>(byte)));
            prop_assert_eq!(is_plain::<b'!'>(&value), value.iter().all(|&byte| plain::<b'!'>(byte)));
        }

        #[test]
        fn numbers_are_written_as_the_standard_library_does(value in any::<u64>(), bits in 0..64_u32) {
            let value = value >> bits;
            prop_assert_eq!(line(|line| line.number(value)), value.to_string());
            let (small, status) = ((value % 1_000_000) as u32, 100 + (value % 900) as u16);
            prop_assert_eq!(digits::<6>(small).to_vec(), format!("{small:06}").into_bytes());
            prop_assert_eq!(line(|line| line.status(status)), status.to_string());
            let bytes = value.to_be_bytes();
            prop_assert_eq!(line(|line| line.hexadecimal(bytes)), format!("{value:016x}"));
        }
    }

    #[test]
    fn every_byte_is_found_at_every_position() {
        for length in 1..40 {
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut value = vec![b'a'; length];
                    value[at] = byte;
                    assert_eq!(is_plain::<b' '>(&value), plain::<b' '>(byte), "{byte} at {at}");
                }
            }
        }
    }
}
