//! The lines between a start line and the empty line: read into [`Fields`].

use super::facts::Facts;
use super::fields::Fields;
use super::name::Name;
use super::request::BadHead;
use super::scan;

impl Fields {
    /// Reads the lines of a head, or of trailers, from `first` to the empty line; the length up to
    /// behind it, or `None` where it is not there yet.
    ///
    /// # Errors
    /// When a line is no field, or there are more than `most`.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        first: usize,
        most: usize,
        facts: &mut Facts,
    ) -> Result<Option<usize>, BadHead> {
        match self.note_lines(bytes, first, most, facts) {
            Ok(Some((end, length))) => {
                self.take(&bytes[first..end]);
                if facts.has(Facts::FOLDED.and(Facts::CONTROL_IN_VALUE)) {
                    self.blank_controls();
                }
                Ok(Some(length))
            }
            unfinished => {
                self.forget_lines();
                unfinished.map(|_| None)
            }
        }
    }

    /// Notes the lines; where the empty line begins, and what is behind it.
    fn note_lines(
        &mut self,
        bytes: &[u8],
        first: usize,
        most: usize,
        facts: &mut Facts,
    ) -> Result<Option<(usize, usize)>, BadHead> {
        // What was taken before stands in front of these lines in the buffer.
        let taken = self.bytes().len();
        let place = |at: usize| taken + at - first;
        let mut at = first;
        let mut count = 0;
        loop {
            match &bytes[at..] {
                [b'\r', b'\n', ..] => {
                    return Ok(Some((at, at + 2)));
                }
                [b'\n', ..] => {
                    facts.note(Facts::BARE_LF);
                    return Ok(Some((at, at + 1)));
                }
                [] | [b'\r'] => return Ok(None),
                _ => {}
            }
            let name_end = scan::token_end(bytes, at);
            if bytes.get(name_end) == Some(&b':')
                && name_end > at
                && let Some(begins) = value_begins(bytes, name_end + 1)
                && let Some(b"\r\n") = bytes.get(begins.1..begins.1 + 2)
                && !matches!(bytes[begins.1 - 1], b' ' | b'\t')
            {
                let (value, value_end) = begins;
                let name = Name::of(&bytes[at..name_end]);
                let line = [at, name_end, value, value_end, value_end + 2].map(place);
                self.note_line(name, line, true);
                at = value_end + 2;
            } else {
                match self.read_odd_field(bytes, at, &place, facts)? {
                    Some(next) => at = next,
                    None => return Ok(None),
                }
            }
            count += 1;
            if count > most {
                return Err(BadHead::TooLarge);
            }
        }
    }

    /// A line that is none of the usual: odd bytes or blanks, a bare LF, a folded line, or not all
    /// there.
    #[cold]
    fn read_odd_field(
        &mut self,
        bytes: &[u8],
        at: usize,
        place: &impl Fn(usize) -> usize,
        facts: &mut Facts,
    ) -> Result<Option<usize>, BadHead> {
        let name_end = scan::token_end(bytes, at);
        let is_folded = matches!(bytes[at], b' ' | b'\t');
        let colon = scan::skip_blanks(bytes, name_end);
        if !is_folded && name_end == at {
            facts.note(if bytes[at] == b':' { Facts::EMPTY_NAME } else { Facts::BAD_NAME });
            return Err(BadHead::Malformed);
        }
        let Some(found) = memchr::memchr(b'\n', &bytes[at..]) else {
            return match bytes.get(colon) {
                Some(b':' | b'\r') | None => Ok(None),
                Some(_) if is_folded => Ok(None),
                Some(_) => {
                    facts.note(Facts::BAD_NAME);
                    Err(BadHead::Malformed)
                }
            };
        };
        let end = at + found + 1;
        let line_end = match bytes[at..end - 1].strip_suffix(b"\r") {
            Some(line) => at + line.len(),
            None => {
                facts.note(Facts::BARE_LF);
                end - 1
            }
        };
        let value_from = if is_folded {
            if self.is_empty() {
                // Nothing stands before it that it could go on with.
                facts.note(Facts::BAD_NAME);
                return Err(BadHead::Malformed);
            }
            facts.note(Facts::FOLDED);
            at
        } else if bytes.get(colon) == Some(&b':') && colon < line_end {
            if colon > name_end {
                facts.note(Facts::BLANK_BEFORE_COLON);
            }
            colon + 1
        } else {
            let has_colon = bytes[at..line_end].contains(&b':');
            facts.note(if has_colon { Facts::BAD_NAME } else { Facts::NO_COLON });
            return Err(BadHead::Malformed);
        };
        let value = scan::skip_blanks(&bytes[..line_end], value_from);
        let trailing = bytes[value..line_end].iter().rev();
        let trailing = trailing.take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let value_end = line_end - trailing;
        let mut is_plain = line_end + 2 == end && value_end == line_end && colon == name_end;
        for &byte in &bytes[value..value_end] {
            match byte {
                0x80.. => facts.note(Facts::OBS_TEXT),
                0..0x20 | 0x7f if byte != b'\t' => {
                    facts.note(Facts::CONTROL_IN_VALUE);
                    is_plain = false;
                }
                _ => {}
            }
        }
        if is_folded {
            self.fold(place(value), place(value_end), place(end));
        } else {
            let name = Name::of(&bytes[at..name_end]);
            self.note_line(name, [at, name_end, value, value_end, end].map(place), is_plain);
        }
        Ok(Some(end))
    }
}

/// Where a value begins and ends that is text throughout.
#[inline]
fn value_begins(bytes: &[u8], from: usize) -> Option<(usize, usize)> {
    let begins = scan::skip_blanks(bytes, from);
    let end = scan::text_end(bytes, begins);
    (end > begins).then_some((begins, end))
}
