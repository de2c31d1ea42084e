//! A line being written, and its smallest pieces, whatever its format.

/// A line in room that was found to be enough before it was begun, so that no piece grows it. What would
/// not fit is left out.
///
/// Its methods are inlined and hand no reference to it on: its length stays in a register, and a
/// literal is a few moves. Through `Vec`, which may grow with every piece, a line costs twice as much.
#[derive(Debug)]
pub struct Line<'r> {
    room: &'r mut [u8],
    length: usize,
}

impl<'r> Line<'r> {
    /// An empty line in this room.
    pub fn new(room: &'r mut [u8]) -> Self {
        Self { room, length: 0 }
    }

    /// Bytes written so far.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Appends bytes.
    #[inline(always)]
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        let place = self.room.get_mut(self.length..end);
        debug_assert!(place.is_some(), "the room was measured wrongly");
        if let Some(place) = place {
            place.copy_from_slice(bytes);
            self.length = end;
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

    /// Appends text and leaves the parts that are not [`plain`] to `escape`: most texts have none and
    /// are copied at once. `first_plain` is a blank, or `!` where a blank is escaped too.
    #[inline(always)]
    pub(super) fn escaped(&mut self, first_plain: u8, value: &[u8], escape: Escape) {
        if is_plain(first_plain, value) {
            self.bytes(value);
        } else {
            self.length = escape_runs(self.room, self.length, first_plain, value, escape);
        }
    }
}

/// Writing as such, for what is formatted. A line has room for it.
impl std::fmt::Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.put(text);
        Ok(())
    }
}

/// Appends the first character that is not plain, escaped, and returns its length in the text.
pub(super) type Escape = fn(&mut Line<'_>, &[u8]) -> usize;

/// Bytes that a byte of a text takes at most, escaped in any format: `\u0000`.
pub(super) const MAX_ESCAPED: usize = 6;

#[cold]
fn escape_runs(
    room: &mut [u8],
    length: usize,
    first_plain: u8,
    value: &[u8],
    escape: Escape,
) -> usize {
    let mut line = Line { room, length };
    let mut rest = value;
    while !rest.is_empty() {
        let plain = rest.iter().position(|&byte| !plain(first_plain, byte)).unwrap_or(rest.len());
        line.bytes(&rest[..plain]);
        rest = &rest[plain..];
        if !rest.is_empty() {
            rest = &rest[escape(&mut line, rest).clamp(1, rest.len())..];
        }
    }
    line.length
}

/// Whether a byte may stand in every format as it is: visible ASCII from `first_plain` on that neither
/// ends a field nor escapes another byte.
#[inline(always)]
fn plain(first_plain: u8, byte: u8) -> bool {
    (first_plain..=b'~').contains(&byte) && byte != b'"' && byte != b'\\'
}

/// Whether all of a text is plain.
fn is_plain(first_plain: u8, value: &[u8]) -> bool {
    // Of a fixed length and without an early way out, for the compiler makes vector instructions of that.
    fn all<const COUNT: usize>(first_plain: u8, bytes: &[u8; COUNT]) -> bool {
        bytes.iter().fold(true, |all, &byte| all & plain(first_plain, byte))
    }
    if let Some(last) = value.last_chunk::<16>() {
        let (chunks, _) = value.as_chunks::<16>();
        return chunks.iter().all(|chunk| all(first_plain, chunk)) && all(first_plain, last);
    }
    match (value.first_chunk::<8>(), value.last_chunk::<8>()) {
        (Some(first), Some(last)) => all(first_plain, first) && all(first_plain, last),
        _ => value.iter().all(|&byte| plain(first_plain, byte)),
    }
}

/// The two hexadecimal digits of a byte, in lower case.
#[inline(always)]
pub(super) fn hexadecimal(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)])
}

/// The last so many decimal digits of a number, zeros in front.
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
        let length = line.length();
        String::from_utf8(room[..length].to_vec()).unwrap()
    }

    proptest! {
        #[test]
        fn many_bytes_at_a_time_find_what_one_byte_at_a_time_finds(
            value in proptest::collection::vec(
                prop_oneof![1 => any::<u8>(), 60 => 0x20_u8..0x21, 60 => 0x7d_u8..0x7f, 60 => 0x23_u8..0x5c],
                0..70,
            ),
        ) {
            for first_plain in [b' ', b'!'] {
                let one_by_one = value.iter().all(|&byte| plain(first_plain, byte));
                prop_assert_eq!(is_plain(first_plain, &value), one_by_one);
            }
        }

        #[test]
        fn numbers_read_as_the_library_formats_them(value in any::<u64>(), bits in 0..64_u32) {
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
    fn every_byte_is_found_at_every_place() {
        for length in 1..40 {
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut value = vec![b'a'; length];
                    value[at] = byte;
                    assert_eq!(is_plain(b' ', &value), plain(b' ', byte), "{byte} at {at}");
                }
            }
        }
    }
}
