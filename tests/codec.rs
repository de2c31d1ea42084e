//! The codec in `src/http1` against a checker of RFC 9112 that was written for this test: both read
//! the same message from the same bytes, however these are split, and the codec writes only
//! messages of the grammar. `fuzz/` runs the same comparison on bytes from a fuzzer.

// A test may stop at the first error.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, missing_docs)]

mod rfc9112;

use http::Method;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::Config;
use rfc9112::agreement;
use rfc9112::body::{self, Ends};
use rfc9112::head;
use rfc9112::{Leniency, Read};
use stayput::testing::http1;
use stayput::testing::http1::decode::From;
use stayput::testing::http1::request::Request;
use stayput::testing::http1::response::Response;
use std::path::Path;

const SENDERS: [From; 3] =
    [From::Client { lone_lf: false }, From::Client { lone_lf: true }, From::Target];

// ---- tables

#[test]
fn both_parsers_accept_the_examples_of_the_rfcs() {
    // RFC 9112 sections 2.1 and 3.2.1 to 3.2.4, RFC 9110 section 7.2.
    for (text, method, target, minor, fields) in [
        (
            "GET /hello.txt HTTP/1.1\r\nUser-Agent: curl/7.64.1\r\nHost: www.example.com\r\n\
             Accept-Language: en, mi\r\n\r\n",
            "GET",
            "/hello.txt",
            1,
            &[
                ("User-Agent", "curl/7.64.1"),
                ("Host", "www.example.com"),
                ("Accept-Language", "en, mi"),
            ][..],
        ),
        (
            "GET /where?q=now HTTP/1.1\r\nHost: www.example.org\r\n\r\n",
            "GET",
            "/where?q=now",
            1,
            &[("Host", "www.example.org")],
        ),
        (
            "GET http://www.example.org/pub/WWW/TheProject.html HTTP/1.1\r\n\
             Host: www.example.org\r\n\r\n",
            "GET",
            "http://www.example.org/pub/WWW/TheProject.html",
            1,
            &[("Host", "www.example.org")],
        ),
        (
            "CONNECT www.example.com:80 HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
            "CONNECT",
            "www.example.com:80",
            1,
            &[("Host", "www.example.com")],
        ),
        (
            "OPTIONS * HTTP/1.1\r\nHost: www.example.org:8001\r\n\r\n",
            "OPTIONS",
            "*",
            1,
            &[("Host", "www.example.org:8001")],
        ),
        ("GET / HTTP/1.0\r\nA:b\r\nC: \r\n\r\n", "GET", "/", 0, &[("A", "b"), ("C", "")]),
    ] {
        agreement::request(text.as_bytes());
        let Read::Whole(read) = head::request(text.as_bytes(), &[]) else { panic!("{text:?}") };
        assert_eq!((&read.method[..], &read.target[..]), (method.as_bytes(), target.as_bytes()));
        assert_eq!((read.minor, read.length), (minor, text.len()));
        let expected: Vec<_> = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
            .collect();
        assert_eq!(read.fields, expected);
    }
    // RFC 9112 section 4 and RFC 9110 section 15.
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 51\r\nVary: Accept-Encoding\r\n\r\n",
        "HTTP/1.1 404 \r\n\r\n",
        "HTTP/1.0 302 Moved, \u{e9}\r\nLocation: /\r\n\r\n",
    ] {
        agreement::response(text.as_bytes());
        assert!(matches!(head::response(text.as_bytes(), &[]), Read::Whole(_)), "{text:?}");
    }
    // RFC 9112 section 7.1 with what its grammar allows.
    for (text, data, trailers) in [
        ("4\r\nWiki\r\n5\r\npedia\r\n0\r\n\r\n", "Wikipedia", 0),
        ("4;a=b;c=\"d\\\" ;\" ; e\r\nWiki\r\n000\r\nExpires: never\r\n\r\n", "Wiki", 1),
    ] {
        let Read::Whole(read) = body::chunked(text.as_bytes(), &[]) else { panic!("{text:?}") };
        assert_eq!((&read.data[..], read.trailers.len()), (data.as_bytes(), trailers));
        for from in SENDERS {
            agreement::chunked(text.as_bytes(), from, &[3]);
        }
    }
}

/// Tests the checker itself: without a leniency, it refuses the input that needs it.
#[test]
fn the_checker_accepts_the_grammar_and_names_each_deviation() {
    for (text, needed) in [
        ("GET / HTTP/1.1\nA: b\r\n\r\n", Leniency::BareLf),
        ("GET / HTTP/1.1\r\nA: b\n\r\n", Leniency::BareLf),
        ("GET / HTTP/1.1\r\nA: b\r\n\n", Leniency::BareLf),
        ("\r\nGET / HTTP/1.1\r\n\r\n", Leniency::EmptyLinesFirst),
        ("GET  / HTTP/1.1\r\n\r\n", Leniency::OddBlanks),
        ("GET /\tHTTP/1.1\r\n\r\n", Leniency::OddBlanks),
        (" GET / HTTP/1.1\r\n\r\n", Leniency::OddBlanks),
        ("GET / HTTP/1.2\r\n\r\n", Leniency::MinorVersion),
        ("GET /#a HTTP/1.1\r\n\r\n", Leniency::Fragment),
        ("GET /<a HTTP/1.1\r\n\r\n", Leniency::OddTarget),
        ("GET /%a HTTP/1.1\r\n\r\n", Leniency::NoForm),
        ("GET /[a] HTTP/1.1\r\n\r\n", Leniency::NoForm),
        ("GET a HTTP/1.1\r\n\r\n", Leniency::NoForm),
        ("GET http://a:b/ HTTP/1.1\r\n\r\n", Leniency::NoForm),
        ("GET / HTTP/1.1\r\nA : b\r\n\r\n", Leniency::BlankBeforeColon),
        ("GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", Leniency::Folded),
        ("GET / HTTP/1.1\r\nA: \0\r\n\r\n", Leniency::ControlInValue),
        ("GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", Leniency::ControlInValue),
    ] {
        assert!(matches!(head::request(text.as_bytes(), &[]), Read::Refused(_)), "{text:?}");
        let Read::Whole(read) = head::request(text.as_bytes(), &[needed]) else {
            panic!("{text:?}")
        };
        assert_eq!(read.needed.into_iter().collect::<Vec<_>>(), [needed], "{text:?}");
        agreement::request(text.as_bytes());
    }
    for text in ["GET /\r\n\r\n", "G(T / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nA\r\n\r\n"] {
        assert!(matches!(head::request(text.as_bytes(), &[]), Read::Refused(_)), "{text:?}");
        agreement::request(text.as_bytes());
    }
    for (text, needed) in [
        ("1\na\r\n0\r\n\r\n", Leniency::BareLf),
        ("1\r\na\n0\r\n\r\n", Leniency::BareLf),
        ("0\r\nA: b\n\r\n", Leniency::BareLf),
        ("1 \r\na\r\n0\r\n\r\n", Leniency::BlankAfterSize),
        ("1;\r\na\r\n0\r\n\r\n", Leniency::ExtensionText),
        ("1;a=\"b\r\na\r\n0\r\n\r\n", Leniency::ExtensionText),
        ("1;a b\r\na\r\n0\r\n\r\n", Leniency::ExtensionText),
    ] {
        assert!(matches!(body::chunked(text.as_bytes(), &[]), Read::Refused(_)), "{text:?}");
        let Read::Whole(read) = body::chunked(text.as_bytes(), &[needed]) else {
            panic!("{text:?}")
        };
        assert_eq!(read.needed.into_iter().collect::<Vec<_>>(), [needed], "{text:?}");
        for from in SENDERS {
            agreement::chunked(text.as_bytes(), from, &[2]);
        }
    }
}

#[test]
fn a_request_is_framed_by_rfc_9112_section_6_3() {
    for (fields, expected) in [
        ("", Some(Ends::After(0))),
        ("content-length: 5\r\n", Some(Ends::After(5))),
        ("content-length: 5\r\ncontent-length: 5, 05\r\n", Some(Ends::After(5))),
        ("transfer-encoding: chunked\r\n", Some(Ends::WithLastChunk)),
        ("content-length: 5\r\ncontent-length: 6\r\n", None),
        ("content-length: +5\r\n", None),
        ("content-length: 5,\r\n", None),
        ("content-length: 18446744073709551616\r\n", None),
        ("transfer-encoding: chunked\r\ncontent-length: 5\r\n", None),
        ("transfer-encoding: gzip, chunked\r\n", None),
        ("transfer-encoding: chunked, chunked\r\n", None),
    ] {
        let text = format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
        let Read::Whole(read) = head::request(text.as_bytes(), &[]) else { panic!("{text:?}") };
        assert_eq!(body::of_request(&read).ok(), expected, "{fields:?}");
        agreement::request(text.as_bytes());
        // The same fields in a response, whose framing the codec checks itself.
        let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        agreement::response(text.as_bytes());
    }
}

/// Each of these was once read or written wrongly.
#[test]
fn defects_found_by_review_and_fuzzing_stay_fixed() {
    // A tab before the version was not noted; CR and form feed were trimmed as blanks at the ends
    // of the line.
    agreement::request(b"GET /\tHTTP/1.1\r\n\r\n");
    agreement::request(b"GET / HTTP/1.1\r\r\n\r\n");
    agreement::request(b"GET \x0c/ HTTP/1.1\r\n\r\n");
    // The space that replaces a control byte was part of the value; the next reader trims it.
    agreement::request(b"GET / HTTP/1.1\r\nTransfer-Encoding: \x01chunked\0\r\n\r\n");
    agreement::request(b"GET / HTTP/1.1\r\nA: b\r\n \r\n\r\n");
    // A list of equal lengths, which "monitor" accepts, framed no body: the body was the next
    // request.
    agreement::request(b"POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\nhello");
    for from in SENDERS {
        // The next request was read as trailers after an empty line.
        agreement::chunked(b"0\r\nx: y\n\nGET / HTTP/1.1\r\n\r\n", from, &[4]);
        agreement::chunked(b"0\r\nx: y\n\r\nGET / HTTP/1.1\r\n\r\n", from, &[4]);
        // Extensions of up to fourteen bytes per chunk were not counted.
        let small = "1;abcdefghijklm\r\nx\r\n".repeat(80) + "0\r\n\r\n";
        agreement::chunked(small.as_bytes(), from, &[200]);
    }
}

/// Long lines, and inputs as large as a bound, or one more.
#[test]
fn codec_and_checker_have_the_same_bounds() {
    for length in [900, 1_023, 1_024, 1_025, 1_040, 1_041, 1_042, 1_043, 2_000] {
        let digits = "1".to_owned() + &" ".repeat(length) + "\r\nx\r\n0\r\n\r\n";
        let zeros = "0".repeat(length) + "1\r\nx\r\n0\r\n\r\n";
        let extension = "1;".to_owned() + &"e".repeat(length - 1) + "\r\nx\r\n0\r\n\r\n";
        let last = "1;a=b\r\nx\r\n0;".to_owned() + &"e".repeat(length - 5) + "\r\n\r\n";
        for wire in [digits, zeros, extension, last] {
            for from in SENDERS {
                agreement::chunked(wire.as_bytes(), from, &[100]);
            }
        }
    }
    for (line, counts) in [("x: y\r\n", [99, 100, 101]), ("x:\r\n", [99, 100, 101])] {
        for count in counts {
            let lines = line.repeat(count);
            for from in SENDERS {
                agreement::chunked(format!("0\r\n{lines}\r\n").as_bytes(), from, &[9]);
            }
            agreement::request(format!("GET / HTTP/1.1\r\n{lines}\r\n").as_bytes());
            agreement::response(format!("HTTP/1.1 200 OK\r\n{lines}\r\n").as_bytes());
        }
    }
    // The bound of trailers and of request heads, and that of response heads.
    for bound in [16 * 1_024, 32 * 1_024] {
        for length in bound - 2..=bound + 2 {
            let sized = |before: &str| {
                let value = "y".repeat(length - before.len() - "x: \r\n\r\n".len());
                format!("{before}x: {value}\r\n\r\n")
            };
            for from in SENDERS {
                agreement::chunked(("0\r\n".to_owned() + &sized("")).as_bytes(), from, &[200]);
            }
            agreement::request(sized("GET / HTTP/1.1\r\n").as_bytes());
            agreement::response(sized("HTTP/1.1 200 OK\r\n").as_bytes());
        }
    }
}

// ---- the seeds of the fuzzer

#[test]
fn both_agree_on_fuzzer_seeds_whole_and_cut() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (target, check) in [
        ("request_head", agreement::request as fn(&[u8])),
        ("response_head", agreement::response),
        ("body", agreement::body),
    ] {
        let mut count = 0;
        for entry in std::fs::read_dir(seeds.join(target)).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            check(&bytes);
            // The fuzzer found many inputs, which are already short.
            let is_named = !path.file_name().unwrap().to_string_lossy().starts_with("found-");
            for cut in (0..bytes.len().min(100)).step_by(3).filter(|_| is_named) {
                check(&bytes[..cut]);
            }
            count += 1;
        }
        assert!(count > 5, "{target} has seeds");
    }
}

// ---- near-valid messages

fn one_of(texts: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    select(texts).prop_map(|text| text.as_bytes().to_vec())
}

fn line_end() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![30 => Just(b"\r\n".to_vec()), 1 => one_of(&["\n", "\r", "\r\r\n", "", " \r\n"])]
}

fn blank() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![20 => Just(b" ".to_vec()), 1 => one_of(&["", "\t", "  ", " \t", "\r", "\x0b"])]
}

fn target() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => "/[a-z%0-9./~]{0,6}(\\?[a-z=&/?]{0,4})?".prop_map(String::into_bytes),
        2 => "(http|HTTPS|x-y)://[a-z@:.\\[\\]0-9]{0,6}(/[a-z]{0,3})?(\\?[a-z]{0,2})?(#[a?<]{0,2})?"
            .prop_map(String::into_bytes),
        1 => one_of(&["*", "shop:80", "**", "a", "//", "/#", "/?#?", "/<>\"`{|}\\^", "://", "1://a"]),
        1 => vec(any::<u8>(), 1..4),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => "[ \t]{0,2}[a-z0-9,;=\" ]{0,10}[ \t]{0,2}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..4),
        1 => one_of(&["\u{e9}", "\0", "a\rb", "\x7f", " a\r\n b", "\r\n\t", "a\n \r\n b", "\x01a\x01"]),
    ]
}

/// Lines of a field section, including those that frame the body.
fn fields() -> impl Strategy<Value = Vec<u8>> {
    let any = ("[a-zA-Z!_-]{1,5}".prop_map(String::into_bytes), value())
        .prop_map(|(name, value)| [name, b":".to_vec(), value].concat());
    let field = prop_oneof![
        6 => any,
        4 => one_of(&[
            "Host: shop.example",
            "host:a:80",
            "Content-Length: 5",
            "content-length: 5, 5",
            "Content-Length: 3",
            "content-length: +5",
            "CONTENT-LENGTH: 18446744073709551615",
            "Transfer-Encoding: chunked",
            "transfer-encoding: gzip, Chunked",
            "transfer-encoding: \x0bchunked",
            "Connection: close",
            "connection: keep-alive, x",
            "Connection: , Keep-Alive\t",
        ]),
        1 => one_of(&["A : b", "A", ":", ": a", "A b: c", " a", "\ta: b", "A\0: b", "\u{e9}: a", "A:"]),
    ];
    vec((field, line_end()).prop_map(|(line, end)| [line, end].concat()), 0..5)
        .prop_map(|lines| lines.concat())
}

fn changed(whole: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => select(&b"\r\n \t:;,0a/\0\x7f\xe9"[..]), 1 => any::<u8>()];
    let change = (0_u8..5, any::<Index>(), any::<Index>(), byte);
    let changes = prop_oneof![2 => Just(Vec::new()), 3 => vec(change, 1..4)];
    (whole, changes).prop_map(|(mut bytes, changes)| {
        for (kind, first, second, byte) in changes {
            if bytes.is_empty() {
                break;
            }
            let (from, other) = (first.index(bytes.len()), second.index(bytes.len()));
            let to = (from + 8).min(bytes.len());
            match kind {
                0 => bytes[from] = byte,
                1 => bytes.insert(from, byte),
                2 => drop(bytes.remove(from)),
                3 => {
                    let copied = bytes[from..to].to_vec();
                    bytes.splice(other..other, copied);
                }
                _ => drop(bytes.drain(from..to)),
            }
        }
        bytes
    })
}

fn request_heads() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![9 => Just(Vec::new()), 1 => one_of(&["\r\n", "\n", "\r", "\r\n\r\n"])];
    let method = one_of(&["GET", "POST", "P!ST", "M-SEARCH", "", "G(T", "HEAD", "OPTIONS"]);
    let version = prop_oneof![
        9 => one_of(&["HTTP/1.1", "HTTP/1.0"]),
        1 => one_of(&["HTTP/1.2", "HTTP/1.9", "HTTP/2.0", "http/1.1", "HTTP/1.10", "", "HTTP/1"]),
    ];
    let line = (first, method, blank(), target(), blank(), version, line_end());
    (line, fields(), line_end(), one_of(&["", "body", "GET / HTTP/1.1\r\n\r\n"])).prop_map(
        |((first, method, one, target, two, version, end), fields, empty, rest)| {
            [first, method, one, target, two, version, end, fields, empty, rest].concat()
        },
    )
}

fn response_heads() -> impl Strategy<Value = Vec<u8>> {
    let version = prop_oneof![
        8 => one_of(&["HTTP/1.1 ", "HTTP/1.0 "]),
        1 => one_of(&["HTTP/1.2 ", "HTTP/2 ", "http/1.1 ", "HTTP/1.1\t", "HTTP/1.1  ", ""]),
    ];
    let status = prop_oneof![
        8 => one_of(&["200", "204", "304", "404", "103", "101", "599", "999"]),
        1 => one_of(&["099", "20", "2000", "+20", "2 0"]),
    ];
    let reason =
        one_of(&[" OK", " ", "", " No Content", " \u{e9}\t", " a\rb", "OK", "  Fine ", " \0"]);
    (version, status, reason, line_end(), fields(), line_end()).prop_map(
        |(version, status, reason, end, fields, empty)| {
            [version, status, reason, end, fields, empty].concat()
        },
    )
}

fn chunked_bodies() -> impl Strategy<Value = Vec<u8>> {
    let extension = prop_oneof![
        5 => Just(Vec::new()),
        2 => one_of(&[";a", ";a=b", " ; a = \"b\\\"\"", "  "]),
        1 => one_of(&[";", ";=", ";a=\"", ";\u{e9}", ";\r", ";\0", " a", ",", "\x0b"]),
    ];
    let size = prop_oneof![9 => Just(0_usize), 1 => 0_usize..3];
    let chunk = (vec(any::<u8>(), 1..20), extension, size, line_end(), line_end()).prop_map(
        |(data, extension, wrong, end, behind)| {
            let digits = format!("{:0>1$x}", data.len() + wrong, wrong * 9 + 1).into_bytes();
            [digits, extension, end, data, behind].concat()
        },
    );
    let last = prop_oneof![9 => Just(b"0".to_vec()), 1 => one_of(&["00", "", "0 ", "0;a", "-0"])];
    let trailers = prop_oneof![2 => Just(Vec::new()), 1 => fields()];
    let rest = one_of(&["", "\r\n", "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"]);
    (vec(chunk, 0..5), last, line_end(), trailers, line_end(), rest).prop_map(
        |(chunks, last, end, trailers, empty, rest)| {
            [chunks.concat(), last, end, trailers, empty, rest].concat()
        },
    )
}

fn cases(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

proptest! {
    #![proptest_config(cases(6_000))]

    #[test]
    fn both_agree_on_random_request_heads(bytes in changed(request_heads())) {
        agreement::request(&bytes);
    }

    #[test]
    fn both_agree_on_random_response_heads(bytes in changed(response_heads())) {
        agreement::response(&bytes);
    }

    #[test]
    fn both_agree_on_random_chunked_bodies(
        bytes in changed(chunked_bodies()),
        from in select(&SENDERS[..]),
        lengths in vec(1_u8..40, 0..5),
    ) {
        agreement::chunked(&bytes, from, &lengths);
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn both_agree_on_a_head_cut_at_every_byte(bytes in request_heads(), answer in response_heads()) {
        for cut in 0..bytes.len() {
            agreement::request(&bytes[..cut]);
        }
        for cut in 0..answer.len() {
            agreement::response(&answer[..cut]);
        }
    }

    #[test]
    fn both_agree_on_a_body_in_pieces_of_every_size(bytes in chunked_bodies(), from in select(&SENDERS[..])) {
        for size in 1..=bytes.len().min(60) as u8 {
            agreement::chunked(&bytes, from, &[size]);
        }
        for first in 0..bytes.len().min(200) as u8 {
            agreement::chunked(&bytes, from, &[first, 255]);
        }
    }

    #[test]
    fn a_body_ends_at_its_length_or_at_the_close(
        bytes in vec(any::<u8>(), 1..80),
        length in 1_u64..100,
        lengths in vec(1_u8..20, 0..5),
        from in select(&SENDERS[..]),
    ) {
        agreement::by_length(&bytes, length, from, &lengths);
        agreement::by_length(&bytes, u64::MAX, from, &lengths);
        agreement::until_close(&bytes, &lengths);
    }
}

// ---- whole requests

proptest! {
    #![proptest_config(cases(1_000))]

    /// A request's head and body in sequence: the body that the checker frames ends where the
    /// decoder stops, and later bytes are left.
    #[test]
    fn both_agree_on_whole_random_requests(
        chunks in vec(vec(any::<u8>(), 1..30), 0..4),
        is_chunked in any::<bool>(),
        lengths in vec(1_u8..40, 0..4),
    ) {
        let data = chunks.concat();
        let mut wire = b"POST /a HTTP/1.1\r\nhost: a\r\n".to_vec();
        if is_chunked {
            wire.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
            for chunk in &chunks {
                http1::encode::begin_chunk(&mut wire, chunk.len());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(http1::encode::CHUNK_END);
            }
            http1::encode::last_chunk(&mut wire, None);
        } else {
            wire.extend_from_slice(format!("content-length: {}\r\n\r\n", data.len()).as_bytes());
            wire.extend_from_slice(&data);
        }
        let ends = wire.len();
        wire.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n");
        let Read::Whole(head) = head::request(&wire, &[]) else { panic!("{wire:?}") };
        let mut request = Request::default();
        prop_assert_eq!(request.parse(&wire, agreement::BOUNDS), Ok(Some(head.length)));
        match body::of_request(&head).unwrap() {
            Ends::After(length) => {
                prop_assert_eq!(head.length as u64 + length, ends as u64);
                if length > 0 {
                    agreement::by_length(&wire[head.length..], length, SENDERS[0], &lengths);
                }
            }
            Ends::WithLastChunk => {
                let Read::Whole(read) = body::chunked(&wire[head.length..], &[]) else {
                    panic!("{wire:?}")
                };
                prop_assert_eq!((&read.data, head.length + read.length), (&data, ends));
                agreement::chunked(&wire[head.length..], SENDERS[0], &lengths);
            }
            Ends::WithConnection => panic!("no request ends with its connection"),
        }
    }
}

// ---- httparse

proptest! {
    #![proptest_config(cases(1_000))]

    /// httparse as a third reader of plain heads.
    #[test]
    fn httparse_reads_plain_heads_as_the_codec_does(
        method in select(vec!["GET", "POST", "M-SEARCH"]),
        target in "/[a-z0-9._~%/?=&-]{0,12}",
        status in 100_u16..600,
        reason in "[a-zA-Z ]{0,8}",
        fields in vec(("[a-zA-Z0-9-]{1,8}", "([a-z0-9;=\"/]{1,6}( [a-z]{1,3})?)?"), 0..6),
    ) {
        let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let text = format!("{method} {target} HTTP/1.1\r\n{lines}\r\n");
        let mut storage = [httparse::EMPTY_HEADER; 8];
        let mut other = httparse::Request::new(&mut storage);
        let length = other.parse(text.as_bytes()).unwrap().unwrap();
        let mut request = Request::default();
        prop_assert_eq!(request.parse(text.as_bytes(), agreement::BOUNDS), Ok(Some(length)));
        prop_assert_eq!(other.method, Some(request.method.as_str()));
        prop_assert_eq!(other.path, Some(request.target()));
        let expected: Vec<(&[u8], &[u8])> =
            other.headers.iter().map(|field| (field.name.as_bytes(), field.value)).collect();
        let read: Vec<(&[u8], &[u8])> =
            request.fields.iter().map(|(_, name, value)| (name, value)).collect();
        prop_assert_eq!(read, expected);

        let text = format!("HTTP/1.1 {status} {reason}\r\n{lines}\r\n");
        let mut storage = [httparse::EMPTY_HEADER; 8];
        let mut other = httparse::Response::new(&mut storage);
        let length = other.parse(text.as_bytes()).unwrap().unwrap();
        let mut response = Response::default();
        prop_assert_eq!(response.parse(text.as_bytes()), Ok(Some(length)));
        prop_assert_eq!(other.code, Some(response.status.as_u16()));
        prop_assert_eq!(other.reason.map(str::as_bytes), Some(response.reason()));
        let expected: Vec<(&[u8], &[u8])> =
            other.headers.iter().map(|field| (field.name.as_bytes(), field.value)).collect();
        let read: Vec<(&[u8], &[u8])> =
            response.fields.iter().map(|(_, name, value)| (name, value)).collect();
        prop_assert_eq!(read, expected);
        let rest = response.frame(&Method::HEAD);
        prop_assert!(rest.is_ok() || text.to_ascii_lowercase().contains("content-length"));
    }
}
