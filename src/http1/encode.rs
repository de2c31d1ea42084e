//! Encodes bodies: counts lengths and frames chunks (RFC 9112 section 7.1).

use http::HeaderMap;

/// Bound in bytes on a chunk's size line.
pub const MAX_SIZE_LINE: usize = 18;

/// Writes a chunk's size line. The length must not be 0: an empty chunk ends the body.
pub fn begin_chunk(out: &mut Vec<u8>, length: usize) {
    debug_assert!(length > 0, "an empty chunk ends the body");
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let first = (usize::BITS - length.leading_zeros()).div_ceil(4).max(1);
    for place in (0..first).rev() {
        out.push(DIGITS[(length >> (4 * place)) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// The bytes after a chunk's data.
pub const CHUNK_END: &[u8] = b"\r\n";

/// Writes the last chunk, its trailers, and the end of the body.
pub fn last_chunk(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        write_field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes one field line.
pub fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_size_is_hexadecimal() {
        for length in [1, 9, 10, 15, 16, 255, 256, 4_096, 65_535, 65_536, usize::MAX] {
            let mut out = Vec::new();
            begin_chunk(&mut out, length);
            assert_eq!(out, format!("{length:x}\r\n").as_bytes());
            assert!(out.len() <= MAX_SIZE_LINE);
        }
    }

    #[test]
    fn the_last_chunk_carries_the_trailers() {
        let mut out = Vec::new();
        last_chunk(&mut out, None);
        assert_eq!(out, b"0\r\n\r\n");
        out.clear();
        let trailers =
            HeaderMap::from_iter([(http::header::ETAG, http::HeaderValue::from_static("\"a\""))]);
        last_chunk(&mut out, Some(&trailers));
        assert_eq!(out, b"0\r\netag: \"a\"\r\n\r\n");
    }
}
