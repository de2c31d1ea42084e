//! Reads the lines between a start line and the empty line into [`Fields`].

use super::facts::Facts;
use super::fields::Fields;
use super::name::Name;
use super::request::BadHead;
use super::scan;

impl Fields {
    /// Reads the lines of a head or of trailers, from `first` to the empty line. Returns the offset
    /// after the empty line, or `None` if it has not arrived.
    ///
    /// # Errors
    /// If a line is not a field, or there are more than `most` fields. On a bad line, the available
    /// lines are kept for the log.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        first: usize,
        most: usize,
        facts: &mut Facts,
    ) -> Result<Option<usize>, BadHead> {
        let end = self.record_lines(bytes, first, most, facts);
        self.record_received();
        if let Ok(LinesEnd::Whole(end, _) | LinesEnd::Broken(end)) = end {
            self.take(&bytes[first..end]);
            if facts.has(Facts::FOLDED.or(Facts::CONTROL_IN_VALUE)) {
                self.blank_controls();
            }
        } else {
            self.forget_lines();
        }
        match end? {
            LinesEnd::Whole(_, length) => Ok(Some(length)),
            LinesEnd::NotYet => Ok(None),
            LinesEnd::Broken(_) => Err(BadHead::Malformed),
        }
    }

    /// Records the lines.
    fn record_lines(
        &mut self,
        bytes: &[u8],
        first: usize,
        most: usize,
        facts: &mut Facts,
    ) -> Result<LinesEnd, BadHead> {
        // These lines follow the bytes copied earlier in the buffer.
        let taken = self.bytes().len();
        let place = |at: usize| taken + at - first;
        let mut at = first;
        let mut count = 0;
        loop {
            let usual;
            (at, usual) = self.record_usual(bytes, at, taken.wrapping_sub(first), most - count);
            count += usual;
            if count > most {
                return Err(BadHead::TooLarge);
            }
            let rest = bytes.get(at..).unwrap_or_default();
            match rest {
                [b'\r', b'\n', ..] => return Ok(LinesEnd::Whole(at, at + 2)),
                [b'\n', ..] => {
                    facts.record(Facts::BARE_LF);
                    return Ok(LinesEnd::Whole(at, at + 1));
                }
                [] | [b'\r'] => return Ok(LinesEnd::NotYet),
                _ => {}
            }
            match self.read_odd_field(bytes, at, &place, facts) {
                Odd::Field(next) => at = next,
                Odd::NotYet => return Ok(LinesEnd::NotYet),
                Odd::NoField => return Ok(self.record_rest(bytes, at, &place, most, facts)),
            }
            count += 1;
            if count > most {
                return Err(BadHead::TooLarge);
            }
        }
    }

    /// Records the usual lines from `at` on, at most `most` + 1. Returns the offset of the first
    /// other line and the number of lines recorded. A line's position is its offset plus `shift`.
    // Separate from the odd lines, so that all its state stays in registers.
    #[inline(never)]
    fn record_usual(
        &mut self,
        bytes: &[u8],
        mut at: usize,
        shift: usize,
        most: usize,
    ) -> (usize, usize) {
        let mut count = 0;
        while count <= most
            && let Some(rest) = bytes.get(at..)
            && let Some(line) = UsualLine::of(rest)
        {
            let UsualLine { name, name_end, value, value_end } = line;
            let line = [0, name_end, value, value_end, value_end + 2];
            let begins = at.wrapping_add(shift);
            self.record_line(name, line.map(|at| begins + at), true);
            at += value_end + 2;
            count += 1;
        }
        (at, count)
    }

    /// Reads an unusual line: odd bytes or blanks, a bare LF, a folded line, or an incomplete line.
    #[cold]
    fn read_odd_field(
        &mut self,
        bytes: &[u8],
        at: usize,
        place: &impl Fn(usize) -> usize,
        facts: &mut Facts,
    ) -> Odd {
        let name_end = scan::token_end(bytes, at);
        let is_folded = matches!(bytes[at], b' ' | b'\t');
        let colon = scan::skip_blanks(bytes, name_end);
        if !is_folded && name_end == at {
            return Odd::NoField;
        }
        let Some(found) = memchr::memchr(b'\n', &bytes[at..]) else {
            return match bytes.get(colon) {
                Some(b':' | b'\r') | None => Odd::NotYet,
                Some(_) if is_folded => Odd::NotYet,
                Some(_) => Odd::NoField,
            };
        };
        let end = at + found + 1;
        let line_end = end - 1 - usize::from(bytes[at..end - 1].ends_with(b"\r"));
        let value_from = if is_folded {
            // Without a field before it, a folded line has nothing to continue.
            if self.is_empty() {
                return Odd::NoField;
            }
            at
        } else if bytes.get(colon) == Some(&b':') && colon < line_end {
            colon + 1
        } else {
            return Odd::NoField;
        };
        if line_end + 2 != end {
            facts.record(Facts::BARE_LF);
        }
        let value = scan::skip_blanks(&bytes[..line_end], value_from);
        let trailing = bytes[value..line_end].iter().rev();
        let trailing = trailing.take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let value_end = line_end - trailing;
        let name = match self.last_name() {
            Some(last) if is_folded => last,
            _ => Name::of(&bytes[at..name_end]),
        };
        let odd = record_value(&bytes[value..value_end], facts);
        let is_control = odd.has(Facts::CONTROL_IN_VALUE);
        if is_control || is_folded {
            facts.record(match name {
                Name::ContentLength => Facts::ODD_LENGTH,
                Name::TransferEncoding => Facts::ODD_CODINGS,
                _ => Facts::NONE,
            });
        }
        if is_folded {
            facts.record(Facts::FOLDED);
            // With a blank before its colon, some parsers do not accept the name.
            if name != Name::ContentType || facts.has(Facts::BLANK_BEFORE_COLON) {
                facts.record(Facts::FOLDED_BEYOND_TYPE);
                if bytes[at..line_end].contains(&b':') {
                    self.record_no_field(bytes, [at, line_end, end], place);
                }
            }
            self.fold(place(value), place(value_end), place(end));
        } else {
            let is_spaced = colon > name_end;
            if is_spaced {
                facts.record(Facts::BLANK_BEFORE_COLON);
                if matches!(name, Name::ContentLength | Name::TransferEncoding) {
                    facts.record(Facts::BLANK_BEHIND_FRAMING);
                }
            }
            let is_plain = line_end + 2 == end
                && value_end == line_end
                && !is_spaced
                && !is_control
                && is_usual_gap(&bytes[colon + 1..value]);
            self.record_line(name, [at, name_end, value, value_end, end].map(place), is_plain);
        }
        Odd::Field(end)
    }

    /// Records the bytes from a bad line on, for the log: the head is refused, and no more input is
    /// awaited.
    #[cold]
    fn record_rest(
        &mut self,
        bytes: &[u8],
        from: usize,
        place: &impl Fn(usize) -> usize,
        most: usize,
        facts: &mut Facts,
    ) -> LinesEnd {
        let mut at = from;
        for _ in 0..most {
            if let [] | [b'\n', ..] | [b'\r', b'\n', ..] | [b'\r'] = &bytes[at..] {
                break;
            }
            match self.read_odd_field(bytes, at, place, facts) {
                Odd::Field(next) => {
                    at = next;
                    continue;
                }
                // An incomplete line adds nothing to the log.
                Odd::NotYet => break,
                Odd::NoField => {}
            }
            let found = memchr::memchr(b'\n', &bytes[at..]);
            let end = found.map_or(bytes.len(), |found| at + found + 1);
            let line = &bytes[at..end];
            let line_end = match line.strip_suffix(b"\n") {
                Some(line) if line.ends_with(b"\r") => end - 2,
                Some(_) => {
                    facts.record(Facts::BARE_LF);
                    end - 1
                }
                None => end,
            };
            let is_folded = matches!(bytes[at], b' ' | b'\t');
            facts.record(match memchr::memchr(b':', &bytes[at..line_end]) {
                Some(0) => Facts::EMPTY_NAME,
                // An incomplete line may still get a colon.
                None if found.is_some() && !is_folded => Facts::NO_COLON,
                _ => Facts::BAD_NAME,
            });
            if is_folded {
                facts.record(Facts::FOLDED.or(Facts::FOLDED_BEYOND_TYPE));
            }
            self.record_no_field(bytes, [at, line_end, end], place);
            at = end;
        }
        LinesEnd::Broken(at)
    }

    /// Records a line as other parsers may read it: the name up to the first colon, including
    /// blanks.
    fn record_no_field(
        &mut self,
        bytes: &[u8],
        [at, line_end, end]: [usize; 3],
        place: &impl Fn(usize) -> usize,
    ) {
        let colon = memchr::memchr(b':', &bytes[at..line_end]).map_or(line_end, |found| at + found);
        let value = (colon + 1).min(line_end);
        self.record_doubtful([at, colon, value, line_end, end].map(place));
    }
}

/// The result of reading the lines.
enum LinesEnd {
    /// Offsets of the empty line and of its end.
    Whole(usize, usize),
    /// The empty line has not arrived.
    NotYet,
    /// A line is not a field; the offset up to which lines were read.
    Broken(usize),
}

/// The kind of an unusual line.
enum Odd {
    /// A field; the offset of the next line.
    Field(usize),
    /// The line is incomplete.
    NotYet,
    /// The line is not a field.
    NoField,
}

/// Records the facts about a value's bytes that are not text, and returns only those facts.
fn record_value(value: &[u8], facts: &mut Facts) -> Facts {
    let mut found = Facts::NONE;
    for &byte in value {
        found.record(match byte {
            0x80.. => Facts::OBS_TEXT,
            0 | b'\r' => Facts::CONTROL_IN_VALUE.or(Facts::NUL_IN_VALUE),
            b'\t' => Facts::NONE,
            ..0x20 | 0x7f => Facts::CONTROL_IN_VALUE,
            _ => Facts::NONE,
        });
    }
    facts.record(found);
    found
}

/// Returns true if the blanks between a colon and a value are written unchanged. A tab or several
/// blanks carry no meaning, and a target may not accept them before a length.
#[inline]
fn is_usual_gap(blanks: &[u8]) -> bool {
    matches!(blanks, b" " | b"")
}

/// The known name; `None` if the bytes are not a token.
#[inline]
fn token_name(sent: &[u8]) -> Option<Name> {
    // Every known name is a token.
    let name = Name::of(sent);
    (name != Name::Other || scan::is_token(sent)).then_some(name)
}

/// A usual line: a token, a colon, at most one blank, text without trailing blanks, CRLF. Offsets
/// are relative to the line.
struct UsualLine {
    name: Name,
    name_end: usize,
    value: usize,
    value_end: usize,
}

impl UsualLine {
    /// Parses the first line of these bytes if it is usual.
    #[inline]
    fn of(bytes: &[u8]) -> Option<Self> {
        // Without this check the empty line would match a colon of a later line.
        if let [b'\r' | b'\n', ..] = bytes {
            return None;
        }
        let (sent, rest) = bytes.split_at_checked(scan::colon(bytes)?)?;
        let name = token_name(sent)?;
        let (begins, text) = match rest {
            [_, b' ', text @ ..] => (2, text),
            [_, text @ ..] => (1, text),
            [] => return None,
        };
        let length = scan::text_end(text);
        let (text, rest) = text.split_at_checked(length)?;
        // Several blanks, or a tab, are not written unchanged; text holds no tab.
        let ([b'!'..=b'~', ..], [.., b'!'..=b'~'], [b'\r', b'\n', ..]) = (text, text, rest) else {
            return None;
        };
        let value = sent.len() + begins;
        Some(Self { name, name_end: sent.len(), value, value_end: value + length })
    }
}
