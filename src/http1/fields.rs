//! The fields of one message: their lines as bytes, in order of arrival, and a flat list of
//! positions. Nothing is hashed. Removing a field only marks it; adjacent remaining lines are
//! written in one copy.

use super::encode;
use super::name::{Name, NameSet};
use super::scan;
use std::fmt;
use std::ops::Range;

/// One field: a line of [`Fields::bytes`].
#[derive(Clone, Copy, Debug)]
struct Field {
    /// Offset of the line, and of the name.
    line: u32,
    name_end: u32,
    value: u32,
    value_end: u32,
    /// Offset after the line end.
    end: u32,
    name: Name,
    is_removed: bool,
    /// True if the line may be written unchanged: name, colon, value, CRLF.
    is_plain: bool,
    /// True if the line is not a field here but other parsers may read it as one. `is_removed` is
    /// then true as well.
    is_doubtful: bool,
}

/// Fields in order of arrival. A value holds any bytes except CR, LF and NUL.
#[derive(Clone, Default)]
pub struct Fields {
    bytes: Vec<u8>,
    list: Vec<Field>,
    /// Bits of the known names that are present, and of those present more than once. A name whose
    /// last field was removed has no bit.
    present: u64,
    repeated: u64,
    /// Number of fields that arrived with the message; the rest was appended.
    received: usize,
}

impl Fields {
    /// Removes everything and keeps the allocated memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.list.clear();
        self.present = 0;
        self.repeated = 0;
        self.received = 0;
    }

    /// Copies these fields into the allocated memory.
    pub fn copy_from(&mut self, other: &Self) {
        self.bytes.clear();
        self.bytes.extend_from_slice(&other.bytes);
        self.list.clear();
        self.list.extend_from_slice(&other.list);
        let Self { present, repeated, received, .. } = other;
        (self.present, self.repeated, self.received) = (*present, *repeated, *received);
    }

    /// The number of fields.
    pub fn len(&self) -> usize {
        self.list.iter().filter(|field| !field.is_removed).count()
    }

    /// Returns true if there is no field.
    pub fn is_empty(&self) -> bool {
        self.list.iter().all(|field| field.is_removed)
    }

    /// Returns true if there is a field of this name.
    #[inline]
    pub fn has(&self, name: Name) -> bool {
        self.present & name.bit() != 0
    }

    /// Returns true if there is a field of one of these names.
    #[inline]
    pub fn has_any(&self, names: NameSet) -> bool {
        self.present & names.bits() != 0
    }

    /// Returns true if several fields had this name, even if some were removed since.
    #[inline]
    pub fn is_repeated(&self, name: Name) -> bool {
        self.repeated & name.bit() != 0
    }

    /// The value of the first field of this name.
    #[inline]
    pub fn get(&self, name: Name) -> Option<&[u8]> {
        if !self.has(name) {
            return None;
        }
        let field = self.list.iter().find(|field| field.name == name && !field.is_removed)?;
        Some(self.value(field))
    }

    /// The values of all fields of this name, in order.
    #[inline]
    pub fn all(&self, name: Name) -> impl DoubleEndedIterator<Item = &[u8]> + Clone {
        let list = if self.has(name) { &self.list[..] } else { &[] };
        let fields = list.iter().filter(move |field| field.name == name && !field.is_removed);
        fields.map(|field| self.value(field))
    }

    /// The value of the first field of this name, known or not.
    pub fn get_named(&self, name: &str) -> Option<&[u8]> {
        self.all_named(name).next()
    }

    /// The values of all fields of this name, known or not.
    pub fn all_named(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let known = Name::of(name.as_bytes());
        let is_it = move |field: &&Field| {
            !field.is_removed
                && field.name == known
                && (known != Name::Other || self.name(field).eq_ignore_ascii_case(name.as_bytes()))
        };
        self.list.iter().filter(is_it).map(|field| self.value(field))
    }

    /// The first value of this name as received, regardless of later changes.
    pub fn received(&self, name: Name) -> Option<&[u8]> {
        let list = &self.list[..self.received];
        list.iter().find(|field| field.name == name).map(|field| self.value(field))
    }

    /// All fields in order: the known name, the name as sent, the value.
    pub fn iter(&self) -> impl Iterator<Item = (Name, &[u8], &[u8])> {
        let kept = self.list.iter().filter(|field| !field.is_removed);
        kept.map(|field| (field.name, self.name(field), self.value(field)))
    }

    /// Lines that are not fields but that other parsers may read as such: folded lines with a colon
    /// and, in a refused head, the lines for which it was refused. Name and value as sent.
    pub fn doubtful(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let lines = self.list.iter().filter(|field| field.is_doubtful);
        lines.map(|field| (self.name(field), self.value(field)))
    }

    /// The names that are not in [`Name`], as sent.
    #[inline]
    pub fn unknown_names(&self) -> impl Iterator<Item = &[u8]> {
        let unknown = self.list.iter().filter(|field| field.name == Name::Other);
        unknown.filter(|field| !field.is_removed).map(|field| self.name(field))
    }

    /// Removes all fields of this name.
    #[inline]
    pub fn remove(&mut self, name: Name) {
        if !self.has(name) {
            return;
        }
        self.present &= !name.bit();
        self.repeated &= !name.bit();
        for field in self.list.iter_mut().filter(|field| field.name == name) {
            field.is_removed = true;
        }
    }

    /// Removes all fields of this name, known or not.
    pub fn remove_named(&mut self, name: &str) {
        match Name::of(name.as_bytes()) {
            Name::Other => self.retain(|known, sent, _| {
                known != Name::Other || !sent.eq_ignore_ascii_case(name.as_bytes())
            }),
            known => self.remove(known),
        }
    }

    /// Keeps the fields for which `keep` returns true. It gets the known name, the name and the
    /// value.
    pub fn retain(&mut self, mut keep: impl FnMut(Name, &[u8], &[u8]) -> bool) {
        let Self { bytes, list, present, repeated, .. } = self;
        let text = |from: u32, to: u32| &bytes[from as usize..to as usize];
        let mut has = 0;
        for field in list.iter_mut().filter(|field| !field.is_removed) {
            let name = text(field.line, field.name_end);
            field.is_removed = !keep(field.name, name, text(field.value, field.value_end));
            if !field.is_removed {
                has |= field.name.bit();
            }
        }
        *present &= has | Name::Other.bit();
        *repeated &= *present;
    }

    /// Marks all fields as received with the message.
    pub fn record_received(&mut self) {
        self.received = self.list.len();
    }

    /// Appends a field. A value with CR, LF or NUL is not added.
    pub fn append(&mut self, name: Name, value: &[u8]) {
        if is_value(value) {
            self.append_with(name, |line| line.extend_from_slice(value));
        }
    }

    /// Appends a field whose value is written in place. The caller must write a valid value: from a
    /// value of this message, its own text or checked configuration.
    pub fn append_with(&mut self, name: Name, write: impl FnOnce(&mut Vec<u8>)) {
        debug_assert!(name != Name::Other, "a name without a number has a text");
        self.append_line(name, name.text().as_bytes(), write);
    }

    /// Appends a field of any name, which must be a token.
    pub fn append_named(&mut self, name: &str, value: &[u8]) {
        if is_value(value) {
            let known = Name::of(name.as_bytes());
            self.append_line(known, name.as_bytes(), |line| line.extend_from_slice(value));
        }
    }

    /// Appends prepared lines with one copy. Each is a name in lower case, a colon, a space, a
    /// value valid as in [`Fields::append_with`] and CRLF. `each` holds the name of every line and
    /// the offset of the line's end in `lines`.
    #[inline]
    pub fn append_lines(&mut self, lines: &[u8], each: &[(Name, usize)]) {
        let (begins, mut line) = (self.bytes.len(), self.bytes.len());
        self.bytes.extend_from_slice(lines);
        for &(name, end) in each {
            let (name_end, end) = (line + name.text().len(), begins + end);
            debug_assert!(self.bytes[line..name_end] == *name.text().as_bytes());
            self.push(name, [line, name_end, name_end + 2, end - 2, end], true);
            line = end;
        }
    }

    /// Removes all fields of this name and appends this one.
    pub fn set(&mut self, name: Name, value: &[u8]) {
        self.remove(name);
        self.append(name, value);
    }

    /// Removes all Content-Length fields and appends this one.
    pub fn set_length(&mut self, length: u64) {
        self.set(Name::ContentLength, itoa::Buffer::new().format(length).as_bytes());
    }

    /// Removes all fields of this name and appends one. `write` appends the new value to the buffer
    /// and gets the range of the first old value in it, if there was one.
    pub fn rewrite(&mut self, name: Name, write: impl FnOnce(&mut Vec<u8>, Option<Range<usize>>)) {
        let mut list = self.list.iter();
        let first = match self.has(name) {
            true => list.find(|field| field.name == name && !field.is_removed),
            false => None,
        };
        let first = first.map(|field| field.value as usize..field.value_end as usize);
        self.remove(name);
        self.append_with(name, |buffer| write(buffer, first));
    }

    /// Replaces all fields of this name by one at the end: their non-empty values separated by
    /// `between`, then the output of `write`. `write` gets true if there is such a value.
    pub fn join(&mut self, name: Name, between: &[u8], write: impl FnOnce(&mut Vec<u8>, bool)) {
        let begun = self.begin_line(name.text().as_bytes());
        let [_, _, value] = begun;
        let is_one = |field: &&Field| {
            field.name == name && !field.is_removed && field.value < field.value_end
        };
        for field in self.list.iter().filter(is_one) {
            if self.bytes.len() > value {
                self.bytes.extend_from_slice(between);
            }
            self.bytes.extend_from_within(field.value as usize..field.value_end as usize);
        }
        self.remove(name);
        let has_more = self.bytes.len() > value;
        write(&mut self.bytes, has_more);
        self.end_line(name, begun);
    }

    /// [`Fields::set`] for any name, which must be a token.
    pub fn set_named(&mut self, name: &str, value: &[u8]) {
        self.remove_named(name);
        self.append_named(name, value);
    }

    fn append_line(&mut self, name: Name, text: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        let begun = self.begin_line(text);
        write(&mut self.bytes);
        self.end_line(name, begun);
    }

    /// Begins a line with this name. Returns the offsets of the line, of the name's end and of the
    /// value.
    #[inline]
    fn begin_line(&mut self, name: &[u8]) -> [usize; 3] {
        let line = self.bytes.len();
        self.bytes.extend_from_slice(name);
        let name_end = self.bytes.len();
        self.bytes.extend_from_slice(b": ");
        [line, name_end, self.bytes.len()]
    }

    /// Ends a line that was begun and whose value was written.
    fn end_line(&mut self, name: Name, [line, name_end, value]: [usize; 3]) {
        let value_end = self.bytes.len();
        debug_assert!(name_end > line && !scan::has_line_end(&self.bytes[value..]));
        self.bytes.extend_from_slice(b"\r\n");
        self.push(name, [line, name_end, value, value_end, self.bytes.len()], true);
    }

    fn push(&mut self, name: Name, at: [usize; 5], is_plain: bool) {
        // A head is far below 4 GiB: `limits.header_bytes` bounds it.
        let [line, name_end, value, value_end, end] = at.map(|at| at as u32);
        self.list.push(Field {
            line,
            name_end,
            value,
            value_end,
            end,
            name,
            is_removed: false,
            is_plain,
            is_doubtful: false,
        });
        let bit = name.bit() & !Name::Other.bit();
        self.repeated |= self.present & bit;
        self.present |= bit;
    }

    fn name(&self, field: &Field) -> &[u8] {
        &self.bytes[field.line as usize..field.name_end as usize]
    }

    #[inline]
    fn value(&self, field: &Field) -> &[u8] {
        &self.bytes[field.value as usize..field.value_end as usize]
    }

    /// Writes all lines, adjacent ones in one copy. Writes no empty line.
    pub fn write(&self, out: &mut Vec<u8>) {
        let (mut from, mut to) = (0, 0);
        for field in &self.list {
            if field.is_removed {
                continue;
            }
            if field.is_plain && field.line == to {
                to = field.end;
                continue;
            }
            out.extend_from_slice(&self.bytes[from as usize..to as usize]);
            (from, to) = (field.line, field.end);
            if !field.is_plain {
                encode::write_field(out, self.name(field), self.value(field));
                from = to;
            }
        }
        out.extend_from_slice(&self.bytes[from as usize..to as usize]);
    }

    /// Upper bound in bytes of the lines that [`Fields::write`] writes.
    pub fn size(&self) -> usize {
        let kept = self.list.iter().filter(|field| !field.is_removed);
        kept.map(|field| (field.end - field.line) as usize + 2).sum()
    }

    /// Memory held, in bytes.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity() + self.list.capacity() * size_of::<Field>()
    }

    // For the parsers of heads and trailers.

    /// Copies a head's bytes; the positions of [`Fields::record_line`] are offsets in them.
    pub(super) fn begin(&mut self, bytes: &[u8]) {
        self.clear();
        self.bytes.extend_from_slice(bytes);
    }

    /// Copies the lines that were recorded.
    pub(super) fn take(&mut self, lines: &[u8]) {
        self.bytes.extend_from_slice(lines);
    }

    /// Removes recorded lines whose bytes were not copied.
    pub(super) fn forget_lines(&mut self) {
        self.list.clear();
        (self.present, self.repeated, self.received) = (0, 0, 0);
    }

    /// Replaces every control byte of a value except the tab with a space (RFC 9110 section 5.5),
    /// including line ends of folded lines. Then trims blanks at both ends of the value.
    pub(super) fn blank_controls(&mut self) {
        let Self { bytes, list, .. } = self;
        for field in list.iter_mut().filter(|field| !field.is_plain && !field.is_doubtful) {
            let value = &mut bytes[field.value as usize..field.value_end as usize];
            for byte in value.iter_mut().filter(|byte| **byte != b'\t' && byte.is_ascii_control()) {
                *byte = b' ';
            }
            let blanks = value.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            field.value += blanks as u32;
            let text = &value[blanks..];
            let blanks = text.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            field.value_end -= blanks as u32;
        }
    }

    /// The copied bytes, including lines that are not fields.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Records a field line: the offsets of the line, the name's end, the value, the value's end
    /// and the line's end.
    #[inline]
    pub(super) fn record_line(&mut self, name: Name, at: [usize; 5], is_plain: bool) {
        self.push(name, at, is_plain);
    }

    /// Records a line that is not a field here but may be one in another parser.
    #[cold]
    pub(super) fn record_doubtful(&mut self, at: [usize; 5]) {
        self.record_line(Name::Other, at, false);
        if let Some(field) = self.list.last_mut() {
            (field.is_removed, field.is_doubtful) = (true, true);
        }
    }

    /// The name of the last field.
    pub(super) fn last_name(&self) -> Option<Name> {
        let field = self.list.iter().rev().find(|field| !field.is_doubtful);
        field.map(|field| field.name)
    }

    /// Joins a folded line to the value of the last field. [`Fields::blank_controls`] replaces the
    /// line end between them with spaces later (RFC 9112 section 5.2).
    pub(super) fn fold(&mut self, begins: usize, value_end: usize, end: usize) {
        let last = self.list.iter_mut().rev().find(|field| !field.is_doubtful);
        let Some(field) = last else { return };
        field.end = end as u32;
        field.is_plain = false;
        if begins == value_end {
            return;
        }
        if field.value == field.value_end {
            field.value = begins as u32;
        }
        field.value_end = value_end as u32;
    }
}

/// Returns true if the bytes can be a value: they hold no line end and no NUL.
fn is_value(value: &[u8]) -> bool {
    let is_value = !scan::has_line_end(value);
    debug_assert!(is_value, "a value that is none was to be written");
    is_value
}

impl fmt::Debug for Fields {
    /// Prints names only, because values may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.iter().map(|(_, name, _)| String::from_utf8_lossy(name));
        f.debug_list().entries(names).finish()
    }
}

/// Builds fields of these names and values, for tests and for locally made messages.
impl<N: AsRef<str>, V: AsRef<[u8]>> FromIterator<(N, V)> for Fields {
    fn from_iter<T: IntoIterator<Item = (N, V)>>(fields: T) -> Self {
        let mut made = Self::default();
        for (name, value) in fields {
            made.append_named(name.as_ref(), value.as_ref());
            made.received = made.list.len();
        }
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(fields: &Fields) -> String {
        let mut out = Vec::new();
        fields.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn fields() -> Fields {
        [("Host", "a"), ("x-one", "1"), ("Cookie", "c=1"), ("X-Two", "2"), ("cookie", "d=2")]
            .into_iter()
            .collect()
    }

    #[test]
    fn fields_are_found_by_number_and_by_name_in_any_case() {
        let fields = fields();
        assert_eq!(fields.get(Name::Host), Some(&b"a"[..]));
        assert_eq!(fields.all(Name::Cookie).collect::<Vec<_>>(), [b"c=1", b"d=2"]);
        assert_eq!(fields.get_named("x-two"), Some(&b"2"[..]));
        assert_eq!(fields.all_named("COOKIE").count(), 2);
        assert!(fields.is_repeated(Name::Cookie) && !fields.is_repeated(Name::Host));
        assert!(!fields.has(Name::Te) && fields.get(Name::Te).is_none());
        assert_eq!(fields.len(), 5);
    }

    #[test]
    fn removed_fields_are_not_written_and_appended_fields_are_last() {
        let mut fields = fields();
        fields.remove(Name::Cookie);
        fields.set(Name::Host, b"b");
        fields.remove_named("X-ONE");
        fields.append_named("x-new", b"3");
        assert_eq!(written(&fields), "X-Two: 2\r\nhost: b\r\nx-new: 3\r\n");
        assert_eq!(fields.len(), 3);
        assert_eq!(fields.received(Name::Host), Some(&b"a"[..]));
        fields.set(Name::Cookie, b"e");
        assert!(fields.has(Name::Cookie) && !fields.is_repeated(Name::Cookie));
    }

    #[test]
    fn retain_clears_the_bits_of_removed_names() {
        let mut fields = fields();
        fields.retain(|name, _, value| name != Name::Cookie || value == b"d=2");
        assert_eq!(fields.all(Name::Cookie).collect::<Vec<_>>(), [b"d=2"]);
        fields.retain(|name, _, _| name != Name::Cookie);
        assert!(!fields.has(Name::Cookie) && fields.has(Name::Host));
        assert_eq!(written(&fields), "Host: a\r\nx-one: 1\r\nX-Two: 2\r\n");
    }

    #[test]
    fn prepared_lines_equal_fields_appended_one_by_one() {
        let (mut one, mut each) = (fields(), fields());
        let lines = b"host: b\r\nx-real-ip: \r\nte: trailers\r\n";
        one.append_lines(lines, &[(Name::Host, 9), (Name::XRealIp, 22), (Name::Te, 36)]);
        for (name, value) in [(Name::Host, "b"), (Name::XRealIp, ""), (Name::Te, "trailers")] {
            each.append(name, value.as_bytes());
            assert_eq!(one.all(name).last(), Some(value.as_bytes()));
            assert_eq!(one.is_repeated(name), each.is_repeated(name));
        }
        assert_eq!(written(&one), written(&each));
        assert!(one.iter().eq(each.iter()) && one.size() == each.size());
        one.remove(Name::XRealIp);
        assert!(written(&one).ends_with("host: b\r\nte: trailers\r\n"));
        assert_eq!(one.received(Name::Te), None);
    }

    #[test]
    fn values_are_joined_and_rewritten_in_the_buffer() {
        let mut fields: Fields = [("Te", ""), ("cookie", "a=1"), ("Cookie", ""), ("cookie", "b=2")]
            .into_iter()
            .collect();
        fields.join(Name::Cookie, b"; ", |line, has_more| {
            line.extend_from_slice(if has_more { b"; c=3" } else { b"c=3" });
        });
        fields.join(Name::Te, b", ", |line, has_more| {
            line.extend_from_slice(if has_more { b", d" } else { b"d" });
        });
        fields.rewrite(Name::Host, |line, first| {
            assert_eq!(first, None);
            line.extend_from_slice(b"shop");
        });
        fields.rewrite(Name::Host, |line, first| {
            line.extend_from_slice(b"www.");
            line.extend_from_within(first.unwrap());
        });
        assert_eq!(written(&fields), "cookie: a=1; b=2; c=3\r\nte: d\r\nhost: www.shop\r\n");
        assert_eq!(fields.unknown_names().count(), 0);
    }

    #[test]
    #[cfg(not(debug_assertions))]
    fn a_value_with_a_line_end_is_not_added() {
        for value in [&b"a\r\nb: c"[..], b"a\nb", b"a\0", b"a\r"] {
            let mut fields = Fields::default();
            fields.append(Name::Host, value);
            assert!(fields.is_empty());
        }
    }
}
