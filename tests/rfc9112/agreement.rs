//! The codec beside the checker: both read the same bytes, and the bytes that the codec writes are
//! read again by the grammar alone. Every function panics if they differ.

use super::body::{self, Body, Ends};
use super::head::{self, RequestHead, ResponseHead};
use super::{Field, Leniency, Read};
use crate::http1::decode::{Decoder, Framing, From, Malformed};
use crate::http1::encode;
use crate::http1::facts::Facts;
use crate::http1::fields::Fields;
use crate::http1::request::{BadHead, Bounds, Request};
use crate::http1::response::Response;
use bytes::Bytes;
use http::{HeaderMap, Method, Version};
use std::collections::BTreeSet;

/// Leniencies of the codec for a client's head, each with the fact that notes it.
const OF_REQUESTS: [(Leniency, Facts); 9] = [
    (Leniency::BareLf, Facts::BARE_LF),
    (Leniency::EmptyLinesFirst, Facts::LEADING_EMPTY_LINES),
    (
        Leniency::OddBlanks,
        Facts::ODD_BLANKS
            .or(Facts::TAB_BY_METHOD)
            .or(Facts::TAB_BY_TARGET)
            .or(Facts::TAB_FOR_SPACE)
            .or(Facts::TAB_BEFORE_VERSION)
            .or(Facts::BLANK_BEHIND_VERSION),
    ),
    (Leniency::MinorVersion, Facts::MINOR_VERSION),
    (Leniency::Fragment, Facts::FRAGMENT),
    (Leniency::OddTarget, Facts::ODD_TARGET),
    (Leniency::BlankBeforeColon, Facts::BLANK_BEFORE_COLON),
    (Leniency::Folded, Facts::FOLDED),
    (Leniency::ControlInValue, Facts::CONTROL_IN_VALUE),
];

/// Accepted without a fact: the policy refuses a form that a method does not have, and the target
/// decides about a percent sign.
const UNSAID: [Leniency; 1] = [Leniency::NoForm];

/// Forwarded unchanged, so that the target sees them too.
const SENT_ON: [Leniency; 2] = [Leniency::OddTarget, Leniency::NoForm];

/// Leniencies of the codec for a target's head.
const OF_RESPONSES: [Leniency; 2] = [Leniency::BareLf, Leniency::NoReason];

/// Lenient line ends of chunks and trailers depend on the sender; extensions are dropped, so that
/// only their text is checked.
const OF_CHUNKS: [Leniency; 2] = [Leniency::ExtensionText, Leniency::BlankAfterSize];

pub const BOUNDS: Bounds = Bounds { bytes: 16 * 1_024, fields: 100 };
const MAX_RESPONSE: usize = 32 * 1_024;
const MAX_EXTENSION: usize = 1_024;
const MAX_TRAILER: usize = 16 * 1_024;
const MAX_FIELDS: usize = 100;

/// Bytes that could complete a partial message. If the codec refuses the part, none of them may do
/// so.
const ENDINGS: [&str; 26] = [
    "\n",
    "\r\n",
    "\n\n",
    "\n\r\n",
    "\r\n\r\n",
    "a\r\n\r\n",
    ":\r\n\r\n",
    ":a\r\n\r\n",
    "a:b\r\n\r\n",
    "\na:b\r\n\r\n",
    "\r\na:b\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "\nGET / HTTP/1.1\r\n\r\n",
    " / HTTP/1.1\r\n\r\n",
    "/ HTTP/1.1\r\n\r\n",
    " HTTP/1.1\r\n\r\n",
    "HTTP/1.1\r\n\r\n",
    "/1.1\r\n\r\n",
    "1\r\n\r\n",
    ".1 200 \r\n\r\n",
    " 200 \r\n\r\n",
    "00 \r\n\r\n",
    "0\r\n\r\n",
    "\r\n0\r\n\r\n",
    "\n0\r\n\r\n",
    ";a\r\n0\r\n\r\n",
];

fn with(bytes: &[u8], ending: &str) -> Vec<u8> {
    [bytes, ending.as_bytes()].concat()
}

/// Every position in a short text, some of a long one.
fn cuts(length: usize) -> impl Iterator<Item = usize> {
    (0..length).step_by(length / 64 + 1).chain(length.saturating_sub(5)..length)
}

fn shown(bytes: &[u8]) -> String {
    format!("{:?}", bytes.escape_ascii().to_string())
}

fn framing(ends: Ends) -> Framing {
    match ends {
        Ends::After(length) => Framing::Length(length),
        Ends::WithLastChunk => Framing::Chunked,
        Ends::WithConnection => Framing::UntilClose,
    }
}

// ---- requests

fn parse_request(bytes: &[u8]) -> (Request, Result<Option<usize>, BadHead>) {
    let mut request = Request::default();
    let parsed = request.parse(bytes, BOUNDS);
    (request, parsed)
}

fn listed(fields: &Fields) -> Vec<Field> {
    let all = fields.iter();
    all.map(|(_, name, value)| (String::from_utf8(name.to_vec()).unwrap(), value.to_vec()))
        .collect()
}

/// One request head, whole and cut.
pub fn request(bytes: &[u8]) {
    let (request, parsed) = parse_request(bytes);
    let allowed: Vec<Leniency> =
        OF_REQUESTS.iter().map(|(leniency, _)| *leniency).chain(UNSAID).collect();
    let what = shown(bytes);
    match (head::request(bytes, &allowed), parsed) {
        (Read::Whole(head), Ok(Some(length))) => {
            assert_eq!(length, head.length, "{what}");
            assert!(head.lines <= BOUNDS.fields && length <= BOUNDS.bytes, "{what}");
            same_request(&request, &head, &what);
            written_request(&request, &head, &what);
            for cut in cuts(length) {
                let part = parse_request(&bytes[..cut]).1;
                assert_eq!(part, Ok(None), "the first {cut} of {what}");
            }
            assert_eq!(parse_request(&bytes[..length]).1, Ok(Some(length)), "{what}");
        }
        (Read::Whole(head), Err(BadHead::TooLarge | BadHead::TargetTooLong)) => {
            assert!(head.lines > BOUNDS.fields || head.length > BOUNDS.bytes, "{what}");
        }
        (Read::Incomplete, Err(BadHead::TooLarge | BadHead::TargetTooLong)) => {
            let lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
            assert!(lines > BOUNDS.fields || bytes.len() >= BOUNDS.bytes, "{what}");
        }
        (Read::Incomplete, Ok(None)) => {}
        (Read::Incomplete, Err(_)) => {
            for ending in ENDINGS {
                let read = head::request(&with(bytes, ending), &allowed);
                assert!(!matches!(read, Read::Whole(_)), "refused too early: {what}{ending:?}");
            }
        }
        (Read::Refused(_), Err(_)) => {}
        (Read::Refused(why), Ok(None)) => {
            let later = parse_request(&with(bytes, "\r\n\r\n")).1;
            assert!(later.is_err(), "never refused ({why}): {what}");
        }
        (read, parsed) => panic!("{parsed:?} and not {read:?}: {what}"),
    }
}

fn same_request(request: &Request, head: &RequestHead, what: &str) {
    assert_eq!(request.method.as_str().as_bytes(), head.method, "{what}");
    assert_eq!(request.target().as_bytes(), head.target, "{what}");
    assert_eq!(request.version == Version::HTTP_10, head.minor == 0, "{what}");
    assert_eq!(listed(&request.fields), head.fields, "{what}");
    for (leniency, fact) in OF_REQUESTS.into_iter().chain([(Leniency::ObsText, Facts::OBS_TEXT)]) {
        let needed = head.needed.contains(&leniency);
        assert_eq!(request.facts.has(fact), needed, "{leniency:?}: {what}");
    }
    // A framing that the grammar refuses is refused by the policy: the codec returns some framing.
    if let Ok(ends) = body::of_request(head) {
        assert_eq!(request.framing(), framing(ends), "{what}");
    }
    assert_eq!(request.keeps_alive(), body::persists(&head.fields, head.minor), "{what}");
    let mut copy = Request::default();
    copy.copy_from(request);
    assert_eq!((copy.target(), listed(&copy.fields)), (request.target(), head.fields.clone()));
    // The parts, in order, are the target without its fragment.
    let mut whole = String::new();
    if let (Some(scheme), Some(authority)) = (request.scheme(), request.authority()) {
        whole = format!("{scheme}://{authority}");
    }
    let origin = request.origin_form();
    match origin.strip_prefix('/') {
        Some(rest) if !request.target().starts_with(&format!("{whole}/")) => whole.push_str(rest),
        _ => whole.push_str(&origin),
    }
    let rest = request.target().strip_prefix(&whole).expect(what);
    assert!(rest.is_empty() || rest.starts_with('#'), "{what}");
    // The first `?` ends the path.
    assert!(!request.path().contains(['?', '#']) && !request.query().contains('#'), "{what}");
}

/// The forwarded bytes are the same message, by the grammar alone.
fn written_request(request: &Request, head: &RequestHead, what: &str) {
    let mut out = Vec::new();
    let target = request.origin_form();
    out.extend_from_slice(format!("{} {target} HTTP/1.1\r\n", request.method).as_bytes());
    let before = out.len();
    request.fields.write(&mut out);
    assert!(out.len() - before <= request.fields.size(), "{what}");
    out.extend_from_slice(b"\r\n");
    let written = shown(&out);
    let Read::Whole(again) = head::request(&out, &SENT_ON) else {
        panic!("{what} is written as {written}, which is no message");
    };
    assert_eq!(again.length, out.len(), "{what}: {written}");
    assert_eq!(again.method, head.method, "{what}: {written}");
    assert_eq!(again.target, target.as_bytes(), "{what}: {written}");
    assert_eq!(again.fields, head.fields, "{what}: {written}");
    // Without its first field, and with one more.
    let mut changed = request.fields.clone();
    let mut expected = head.fields.clone();
    if let Some((first, _)) = expected.first().cloned() {
        changed.remove_named(&first);
        expected.retain(|(name, _)| !name.eq_ignore_ascii_case(&first));
    }
    changed.append_named("x-appended", b"1");
    expected.push(("x-appended".to_owned(), b"1".to_vec()));
    let mut out = b"GET / HTTP/1.1\r\n".to_vec();
    changed.write(&mut out);
    out.extend_from_slice(b"\r\n");
    let Read::Whole(again) = head::request(&out, &[]) else { panic!("{what}: {}", shown(&out)) };
    assert_eq!((again.fields, again.length), (expected, out.len()), "{what}: {}", shown(&out));
}

// ---- responses

fn parse_response(bytes: &[u8]) -> (Response, Option<Option<usize>>) {
    let mut response = Response::default();
    let parsed = response.parse(bytes).ok();
    (response, parsed)
}

/// One response head, whole and cut, and the end of its body.
pub fn response(bytes: &[u8]) {
    let (response, parsed) = parse_response(bytes);
    let what = shown(bytes);
    match (head::response(bytes, &OF_RESPONSES), parsed) {
        (Read::Whole(head), Some(Some(length))) => {
            assert_eq!(length, head.length, "{what}");
            assert!(head.lines <= MAX_FIELDS && length <= MAX_RESPONSE, "{what}");
            assert_eq!(response.status.as_u16(), head.status, "{what}");
            assert_eq!(response.reason(), head.reason, "{what}");
            assert_eq!(response.version == Version::HTTP_10, head.minor == 0, "{what}");
            assert_eq!(listed(&response.fields), head.fields, "{what}");
            written_response(&response, &head, &what);
            framed_response(&response, &head, &what);
            for cut in cuts(length) {
                let part = parse_response(&bytes[..cut]).1;
                assert_eq!(part, Some(None), "the first {cut} of {what}");
            }
            assert_eq!(parse_response(&bytes[..length]).1, Some(Some(length)), "{what}");
        }
        (Read::Whole(head), None) => {
            let is_large = head.lines > MAX_FIELDS || head.length > MAX_RESPONSE;
            assert!(is_large, "refused: {what}");
        }
        (Read::Incomplete, Some(None)) | (Read::Refused(_), None) => {}
        (Read::Incomplete, None) => {
            let lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
            let is_large = lines > MAX_FIELDS || bytes.len() > MAX_RESPONSE;
            for ending in ENDINGS {
                let read = head::response(&with(bytes, ending), &OF_RESPONSES);
                let is_whole = matches!(read, Read::Whole(_));
                assert!(is_large || !is_whole, "refused too early: {what}{ending:?}");
            }
        }
        (Read::Refused(why), Some(None)) => {
            let later = parse_response(&with(bytes, "\r\n\r\n")).1;
            assert_eq!(later, None, "never refused ({why}): {what}");
        }
        (read, parsed) => panic!("{parsed:?} and not {read:?}: {what}"),
    }
}

fn written_response(response: &Response, head: &ResponseHead, what: &str) {
    let mut out = Vec::new();
    response.write(&mut out);
    out.extend_from_slice(b"\r\n");
    let written = shown(&out);
    let Read::Whole(again) = head::response(&out, &[]) else {
        panic!("{what} is written as {written}, which is no message");
    };
    assert_eq!(again.length, out.len(), "{what}: {written}");
    assert_eq!((again.status, &again.reason), (head.status, &head.reason), "{what}: {written}");
    assert_eq!(again.fields, head.fields, "{what}: {written}");
}

fn framed_response(response: &Response, head: &ResponseHead, what: &str) {
    for asked in [Method::GET, Method::HEAD] {
        let mut response = response.clone();
        let framed = response.frame(&asked).ok();
        let ends = body::of_response(head, asked.as_str()).ok();
        let said = framed.map(|rest| (rest.framing, rest.keep_alive));
        let expected = ends.map(|(ends, persists)| (framing(ends), persists));
        assert_eq!(said, expected, "{asked} {what}");
        let Some((ends, _)) = ends else { continue };
        // The forwarded response is framed the same way, and by one field alone unless it is
        // bodiless.
        let mut out = Vec::new();
        response.write(&mut out);
        out.extend_from_slice(b"\r\n");
        let Read::Whole(again) = head::response(&out, &[]) else { panic!("{}", shown(&out)) };
        let on = again.fields.iter().filter(|(name, _)| {
            ["content-length", "transfer-encoding"].contains(&name.to_ascii_lowercase().as_str())
        });
        let (on, again) = (
            on.count(),
            body::of_response(&ResponseHead { minor: head.minor, ..again }, asked.as_str()),
        );
        assert_eq!(again.map(|(ends, _)| ends), Ok(ends), "{asked} {what}: {}", shown(&out));
        let is_framed =
            asked == Method::GET && head.status >= 200 && ![204, 304].contains(&head.status);
        assert!(!is_framed || on <= 1, "{asked} {what}: {}", shown(&out));
    }
}

// ---- bodies

/// The result of a body's decoder for a sequence of pieces.
#[derive(Debug, PartialEq)]
struct Decoded {
    data: Vec<u8>,
    trailers: HeaderMap,
    is_done: bool,
    /// Number of bytes after the body.
    rest: usize,
    lost: bool,
}

fn decode(framing: Framing, from: From, pieces: &[&[u8]]) -> Result<Decoded, Malformed> {
    let mut decoder = Decoder::new(framing, from);
    let (mut data, mut trailers, mut rest) = (Vec::new(), HeaderMap::new(), 0);
    for piece in pieces {
        let mut input = Bytes::copy_from_slice(piece);
        while let Some(frame) = decoder.decode(&mut input)? {
            assert!(trailers.is_empty(), "a frame behind the trailers");
            match frame.into_data() {
                Ok(frame) => {
                    assert!(!frame.is_empty(), "an empty frame");
                    data.extend_from_slice(&frame);
                }
                Err(frame) => trailers = frame.into_trailers().unwrap(),
            }
        }
        assert!(input.is_empty() || decoder.is_done(), "input is left, and the body has not ended");
        rest += input.len();
    }
    let (is_done, lost) = (decoder.is_done(), decoder.has_lost_trailers());
    Ok(Decoded { data, trailers, is_done, rest, lost })
}

/// Values by lower-case name; lines of one name keep their order.
fn grouped(fields: &[Field]) -> BTreeSet<(String, Vec<Vec<u8>>)> {
    let names: BTreeSet<String> =
        fields.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    let values = |name: &str| {
        let named = fields.iter().filter(|(sent, _)| sent.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.clone()).collect()
    };
    names.into_iter().map(|name| (name.clone(), values(&name))).collect()
}

fn of_map(map: &HeaderMap) -> Vec<Field> {
    map.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

/// The bytes in pieces of these lengths, repeated.
fn pieces<'b>(bytes: &'b [u8], lengths: &[u8]) -> Vec<&'b [u8]> {
    let (mut pieces, mut at) = (Vec::new(), 0);
    for &length in lengths.iter().cycle() {
        let to = bytes.len().min(at + usize::from(length).max(1));
        pieces.push(&bytes[at..to]);
        at = to;
        if at == bytes.len() {
            break;
        }
    }
    pieces
}

/// A chunked body in pieces of these lengths, all at once, and byte by byte.
pub fn chunked(bytes: &[u8], from: From, lengths: &[u8]) {
    let mut allowed = OF_CHUNKS.to_vec();
    if from == (From::Client { lone_lf: true }) {
        allowed.push(Leniency::BareLf);
    }
    let read = body::chunked(bytes, &allowed);
    let what = shown(bytes);
    for lengths in [lengths, &[1], &[u8::MAX]] {
        let lengths = if lengths.is_empty() { &[7] } else { lengths };
        one_chunked(&read, decode(Framing::Chunked, from, &pieces(bytes, lengths)), from, bytes);
    }
    one_chunked(&read, decode(Framing::Chunked, from, &[bytes]), from, bytes);
    if let Read::Incomplete = read
        && decode(Framing::Chunked, from, &[bytes]).is_err()
    {
        for ending in ENDINGS {
            let read = body::chunked(&with(bytes, ending), &allowed);
            assert!(!is_taken(&read), "refused too early: {what}{ending:?}");
        }
    }
    if let Read::Refused(why) = read
        && decode(Framing::Chunked, from, &[bytes]).is_ok_and(|decoded| !decoded.lost)
    {
        let later = decode(Framing::Chunked, from, &[bytes, b"\r\n\r\n"]);
        assert!(later.is_err(), "never refused ({why}): {from:?} {what}");
    }
}

/// True if the body is complete and within the bounds.
fn is_taken(read: &Read<Body>) -> bool {
    match read {
        Read::Whole(body) => body.extension <= MAX_EXTENSION && !has_large_trailers(body),
        _ => false,
    }
}

fn has_large_trailers(body: &Body) -> bool {
    body.trailer_bytes > MAX_TRAILER || body.trailer_lines > MAX_FIELDS
}

fn one_chunked(read: &Read<Body>, decoded: Result<Decoded, Malformed>, from: From, bytes: &[u8]) {
    let what = &shown(bytes);
    match (read, decoded) {
        (Read::Whole(body), Ok(decoded)) if has_large_trailers(body) => {
            assert!(from == From::Target && decoded.lost && decoded.is_done, "{what}");
            assert_eq!(decoded.data, body.data, "{what}");
        }
        (Read::Whole(body), Ok(decoded)) => {
            assert!(body.extension <= MAX_EXTENSION, "{what}");
            assert!(decoded.is_done && !decoded.lost, "not done: {what}");
            assert_eq!(decoded.data, body.data, "{what}");
            assert_eq!(decoded.rest, bytes.len() - body.length, "bytes behind it: {what}");
            assert_eq!(grouped(&of_map(&decoded.trailers)), grouped(&body.trailers), "{what}");
            written_body(&decoded, what);
        }
        (read @ Read::Whole(_), Err(Malformed)) => {
            assert!(!is_taken(read), "refused: {from:?} {what}");
        }
        (_, Err(Malformed)) => {}
        (read, Ok(decoded)) => {
            assert!(
                !decoded.is_done || decoded.lost,
                "{decoded:?} and not {read:?}: {from:?} {what}"
            );
        }
    }
}

/// The forwarded bytes are the same body, by the grammar alone.
fn written_body(decoded: &Decoded, what: &str) {
    let mut out = Vec::new();
    for piece in decoded.data.chunks(300) {
        encode::begin_chunk(&mut out, piece.len());
        out.extend_from_slice(piece);
        out.extend_from_slice(encode::CHUNK_END);
    }
    encode::last_chunk(&mut out, Some(&decoded.trailers));
    let Read::Whole(again) = body::chunked(&out, &[]) else {
        panic!("{what} is written as {}, which is no body", shown(&out));
    };
    assert_eq!(again.length, out.len(), "{what}");
    assert_eq!(again.data, decoded.data, "{what}");
    assert_eq!(grouped(&again.trailers), grouped(&of_map(&decoded.trailers)), "{what}");
}

/// A body with a length.
pub fn by_length(bytes: &[u8], length: u64, from: From, lengths: &[u8]) {
    let lengths = if lengths.is_empty() { &[7] } else { lengths };
    let decoded = decode(Framing::Length(length), from, &pieces(bytes, lengths)).unwrap();
    let whole = usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len());
    assert_eq!(decoded.data, &bytes[..whole]);
    assert_eq!(decoded.rest, bytes.len() - whole);
    assert_eq!(decoded.is_done, whole as u64 == length);
}

/// A body that ends with its connection.
pub fn until_close(bytes: &[u8], lengths: &[u8]) {
    let lengths = if lengths.is_empty() { &[7] } else { lengths };
    let decoded = decode(Framing::UntilClose, From::Target, &pieces(bytes, lengths)).unwrap();
    assert_eq!((&decoded.data[..], decoded.is_done, decoded.rest), (bytes, false, 0));
}

/// A body from fuzzer input: a byte for the sender and the framing, one for the number of piece
/// lengths, these, and the body.
pub fn body(input: &[u8]) {
    let [first, count, rest @ ..] = input else { return };
    let Some((lengths, bytes)) = rest.split_at_checked(usize::from(count % 8)) else { return };
    let from = match first % 3 {
        0 => From::Client { lone_lf: false },
        1 => From::Client { lone_lf: true },
        _ => From::Target,
    };
    match first / 3 % 8 {
        0 => by_length(bytes, u64::from(*count), from, lengths),
        1 => until_close(bytes, lengths),
        _ => chunked(bytes, from, lengths),
    }
}
