//! A target's response head: what it says, how its body ends, and whether the connection may be
//! used again (RFC 9112 sections 4, 6.3 and 9.3). Read with the same rules hyper reads with.

use super::decode::Framing;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use hyper::ext::ReasonPhrase;

/// A response's head (ALB: 32 K, else 502).
pub const LARGEST_HEAD: usize = 32 * 1_024;
/// Fields of one head, as many as hyper takes.
const MOST_FIELDS: usize = 100;

/// A head that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadHead;

/// What a head says besides its fields.
#[derive(Debug)]
pub struct Head {
    /// Its bytes.
    pub length: usize,
    /// The status.
    pub status: StatusCode,
    /// The reason, where it is not the usual one.
    pub reason: Option<ReasonPhrase>,
    /// How the body ends.
    pub framing: Framing,
    /// Whether another request may follow on the connection.
    pub keep_alive: bool,
}

/// Reads one head off the front of `bytes` into `headers`; `None` if it is not all there.
///
/// # Errors
/// When it is no head, is too large, or frames its body in a way two readers could read
/// differently.
pub fn parse(
    bytes: &Bytes,
    asked: &Method,
    headers: &mut HeaderMap,
) -> Result<Option<Head>, BadHead> {
    let mut room = [const { std::mem::MaybeUninit::uninit() }; MOST_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut response, bytes, &mut room)
        .map_err(|_| BadHead)?;
    let httparse::Status::Complete(length) = parsed else {
        return if bytes.len() > LARGEST_HEAD { Err(BadHead) } else { Ok(None) };
    };
    let (Some(code), Some(reason), Some(version)) =
        (response.code, response.reason, response.version)
    else {
        return Err(BadHead);
    };
    let status = StatusCode::from_u16(code).map_err(|_| BadHead)?;
    if length > LARGEST_HEAD {
        return Err(BadHead);
    }
    headers.clear();
    headers.reserve(response.headers.len());
    for field in response.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| BadHead)?;
        let value = bytes.slice_ref(field.value);
        headers.append(name, HeaderValue::from_maybe_shared(value).map_err(|_| BadHead)?);
    }
    let version = if version == 1 { Version::HTTP_11 } else { Version::HTTP_10 };
    let unusual = status.canonical_reason() != Some(reason);
    let reason = if unusual { ReasonPhrase::try_from(reason.as_bytes()).ok() } else { None };
    if version == Version::HTTP_10 && headers.contains_key(TRANSFER_ENCODING) {
        // Faulty framing: a hop of that version may have passed it on unread (RFC 9112 section 6.1).
        return Err(BadHead);
    }
    let (framing, framed) = framing(status, asked, headers)?;
    let keep_alive = framed && keeps_alive(version, headers);
    Ok(Some(Head { length, status, reason, framing, keep_alive }))
}

/// How the body ends, and whether the head is beyond doubt about it.
fn framing(
    status: StatusCode,
    asked: &Method,
    headers: &mut HeaderMap,
) -> Result<(Framing, bool), BadHead> {
    let length = content_length(headers)?;
    let codings = has(headers, &TRANSFER_ENCODING);
    if codings && !is_chunked(headers) {
        // We never said that we take another coding (RFC 9112 section 7.4).
        return Err(BadHead);
    }
    let bodiless = asked == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if bodiless {
        return Ok((Framing::Length(0), true));
    }
    if codings {
        // With both, Transfer-Encoding counts, Content-Length must not go on, and whoever sends
        // that is not asked again on this connection (RFC 9112 section 6.3).
        headers.remove(CONTENT_LENGTH);
        return Ok((Framing::Chunked, length.is_none()));
    }
    Ok(length.map_or((Framing::UntilClose, false), |length| (Framing::Length(length), true)))
}

/// The one length all of Content-Length agrees on. Several become one line.
fn content_length(headers: &mut HeaderMap) -> Result<Option<u64>, BadHead> {
    let mut length = None;
    let mut count = 0;
    for line in headers.get_all(CONTENT_LENGTH) {
        for text in line.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            count += 1;
            if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
                return Err(BadHead);
            }
            let text = std::str::from_utf8(text).map_err(|_| BadHead)?;
            let said: u64 = text.parse().map_err(|_| BadHead)?;
            if length.is_some_and(|length| length != said) {
                return Err(BadHead);
            }
            length = Some(said);
        }
    }
    if let Some(length) = length.filter(|_| count > 1) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(length)
}

fn is_chunked(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(TRANSFER_ENCODING).iter();
    let first = lines.next().is_some_and(|line| line.as_bytes().eq_ignore_ascii_case(b"chunked"));
    first && lines.next().is_none()
}

/// Whether a name is there. Comparing the few names of an answer costs less than hashing this one.
fn has(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.keys().any(|key| key == name)
}

fn keeps_alive(version: Version, headers: &HeaderMap) -> bool {
    if !has(headers, &CONNECTION) {
        return version == Version::HTTP_11;
    }
    let options = || {
        let lines = headers.get_all(CONNECTION).iter();
        lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b',')).map(<[u8]>::trim_ascii)
    };
    let says = |option: &[u8]| options().any(|said| said.eq_ignore_ascii_case(option));
    !says(b"close") && (version == Version::HTTP_11 || says(b"keep-alive"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, asked: Method) -> Result<Option<(Head, HeaderMap)>, BadHead> {
        let mut headers = HeaderMap::new();
        let head = parse(&Bytes::copy_from_slice(text.as_bytes()), &asked, &mut headers)?;
        Ok(head.map(|head| (head, headers)))
    }

    #[track_caller]
    fn check(fields: &str, framing: Framing, keep_alive: bool) {
        let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\nrest");
        let (head, _) = read(&text, Method::GET).unwrap().unwrap();
        assert_eq!((head.framing, head.keep_alive), (framing, keep_alive), "{fields:?}");
        assert_eq!(head.length, text.len() - 4);
    }

    #[test]
    fn a_body_ends_as_its_head_says() {
        check("content-length: 5\r\n", Framing::Length(5), true);
        check("Content-Length: 5\r\nCONNECTION: x, Close\r\n", Framing::Length(5), false);
        check("transfer-encoding: Chunked\r\n", Framing::Chunked, true);
        check("transfer-encoding: chunked\r\ncontent-length: 5\r\n", Framing::Chunked, false);
        check("content-length: 5\r\ncontent-length: 5\r\n", Framing::Length(5), true);
        check("content-length: 5, 5\r\n", Framing::Length(5), true);
        check("", Framing::UntilClose, false);
    }

    #[test]
    fn a_length_beside_chunks_goes_no_further_and_a_list_becomes_one() {
        let text = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n";
        assert!(!read(text, Method::GET).unwrap().unwrap().1.contains_key(CONTENT_LENGTH));
        let text = "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\n";
        assert_eq!(read(text, Method::GET).unwrap().unwrap().1[CONTENT_LENGTH], "5");
    }

    #[test]
    fn answers_without_a_body_have_none_whatever_their_fields_say() {
        for (line, asked) in [
            ("HTTP/1.1 200 OK", Method::HEAD),
            ("HTTP/1.1 204 No Content", Method::GET),
            ("HTTP/1.1 304 Not Modified", Method::GET),
        ] {
            let text = format!("{line}\r\ncontent-length: 5\r\n\r\n");
            let (head, headers) = read(&text, asked).unwrap().unwrap();
            assert_eq!((head.framing, head.keep_alive), (Framing::Length(0), true), "{line}");
            assert_eq!(headers[CONTENT_LENGTH], "5");
        }
    }

    #[test]
    fn http_1_0_keeps_a_connection_only_where_it_says_so() {
        let read = |fields: &str| {
            let text = format!("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n{fields}\r\n");
            read(&text, Method::GET).unwrap().unwrap().0.keep_alive
        };
        assert!(!read(""));
        assert!(read("connection: keep-alive\r\n"));
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for bad in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\nconnection: keep-alive\r\n\r\n",
            "HTTP/1.1 200 OK\r\nbad name: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nname : 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: 1\r\n folded\r\n\r\n",
            "HTTP/3.0 200 OK\r\n\r\n",
            "HTTP/1.1 99 Low\r\n\r\n",
            "SSH-2.0-OpenSSH\r\n",
        ] {
            assert!(read(bad, Method::GET).is_err(), "{bad:?}");
        }
        assert!(
            read(&format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(LARGEST_HEAD)), Method::GET)
                .is_err()
        );
        assert!(read("HTTP/1.1 200 OK\r\na: b\r\n", Method::GET).unwrap().is_none());
    }

    #[test]
    fn a_reason_of_its_own_is_kept() {
        let (head, _) = read("HTTP/1.1 200 Fine\r\n\r\n", Method::GET).unwrap().unwrap();
        assert_eq!(head.reason.unwrap().as_bytes(), b"Fine");
        let (head, _) = read("HTTP/1.1 200 OK\r\n\r\n", Method::GET).unwrap().unwrap();
        assert!(head.reason.is_none());
    }
}
