//! Reads as much of a response's head as the measurement needs.

use memchr::memmem;

/// The parts of one response head.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Head<'a> {
    pub(crate) status: u16,
    /// Offset of the body.
    pub(crate) length: usize,
    /// Absent when the body is framed in any other way.
    pub(crate) body: Option<usize>,
    /// The number of the responding replica.
    pub(crate) replica: Option<usize>,
    /// `name=value` of the first cookie set.
    pub(crate) cookie: Option<&'a [u8]>,
}

/// None until the whole head is there.
pub(crate) fn read_head(bytes: &[u8]) -> Option<Head<'_>> {
    let end = memmem::find(bytes, b"\r\n\r\n")?;
    let mut head = Head { length: end + 4, ..Head::default() };
    let (status_line, mut rest) = split_line(&bytes[..end]);
    head.status = status_line.get(9..12).and_then(number).unwrap_or(0) as u16;
    while !rest.is_empty() {
        let line;
        (line, rest) = split_line(rest);
        if let Some(value) = value_of(line, b"content-length:") {
            head.body = number(value);
        } else if let Some(value) = value_of(line, b"x-replica:") {
            head.replica = number(value);
        } else if head.cookie.is_none() {
            head.cookie = value_of(line, b"set-cookie:")
                .map(|value| &value[..memchr::memchr(b';', value).unwrap_or(value.len())]);
        }
    }
    Some(head)
}

fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'\r', bytes) {
        Some(end) => (&bytes[..end], bytes.get(end + 2..).unwrap_or_default()),
        None => (bytes, &[]),
    }
}

fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
