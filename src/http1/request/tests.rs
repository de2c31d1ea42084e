use super::*;
use crate::http1::name::Name;
use proptest::prelude::*;

const BOUNDS: Bounds = Bounds { bytes: 4_096, fields: 10 };

fn parse(text: &[u8]) -> (Request, Result<Option<usize>, BadHead>) {
    let mut request = Request::default();
    let parsed = request.parse(text, BOUNDS);
    (request, parsed)
}

fn written(request: &Request) -> String {
    let mut out = Vec::new();
    request.fields.write(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[test]
fn a_usual_head_is_parsed_and_its_lines_are_written_unchanged() {
    let text =
        b"POST /cart?item=1 HTTP/1.1\r\nHost: shop\r\nX-Odd_Case: a, b\r\nCookie: c=1\r\n\r\nbody";
    let (request, parsed) = parse(text);
    assert_eq!(parsed, Ok(Some(text.len() - 4)));
    assert_eq!((request.method.as_str(), request.version), ("POST", Version::HTTP_11));
    assert_eq!(
        (request.target(), request.path(), request.query()),
        ("/cart?item=1", "/cart", "item=1")
    );
    assert_eq!(request.fields.get(Name::Host), Some(&b"shop"[..]));
    assert_eq!(request.fields.get_named("x-odd_case"), Some(&b"a, b"[..]));
    assert!(request.facts.is_empty());
    assert_eq!(written(&request), "Host: shop\r\nX-Odd_Case: a, b\r\nCookie: c=1\r\n");
}

/// A folded line in a field other than Content-Type.
const FOLDED: Facts = Facts::FOLDED.or(Facts::FOLDED_BEYOND_TYPE);

#[test]
fn odd_spellings_are_recorded_and_written_as_rfc_9112_defines() {
    for (head, facts, fields) in [
        ("GET / HTTP/1.1\nHost: a\n\n", Facts::BARE_LF, "Host: a\r\n"),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", Facts::BARE_LF, "Host: a\r\n"),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Facts::LEADING_EMPTY_LINES, "Host: a\r\n"),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Facts::ODD_BLANKS, "Host: a\r\n"),
        ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", Facts::ODD_BLANKS, "Host: a\r\n"),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Facts::ODD_BLANKS, "Host: a\r\n"),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Facts::BLANK_BEHIND_VERSION, "Host: a\r\n"),
        ("GET / \tHTTP/1.1\r\nHost: a\r\n\r\n", Facts::TAB_BEFORE_VERSION, "Host: a\r\n"),
        ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", Facts::TAB_BY_METHOD, "Host: a\r\n"),
        ("\tGET / HTTP/1.1\r\nHost: a\r\n\r\n", Facts::TAB_BY_METHOD, "Host: a\r\n"),
        ("GET \t/ HTTP/1.1\r\nHost: a\r\n\r\n", Facts::TAB_BY_TARGET, "Host: a\r\n"),
        ("GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", Facts::TAB_BY_TARGET, "Host: a\r\n"),
        ("GET  /\tHTTP/1.1\r\nHost: a\r\n\r\n", Facts::TAB_FOR_SPACE, "Host: a\r\n"),
        ("GET /\t HTTP/1.1\r\nHost: a\r\n\r\n", Facts::TAB_BY_TARGET, "Host: a\r\n"),
        ("GET / HTTP/1.5\r\nHost: a\r\n\r\n", Facts::MINOR_VERSION, "Host: a\r\n"),
        ("GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", Facts::FRAGMENT, "Host: a\r\n"),
        ("GET /<a> HTTP/1.1\r\nHost: a\r\n\r\n", Facts::ODD_TARGET, "Host: a\r\n"),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Facts::BLANK_BEFORE_COLON, "Host: a\r\n"),
        ("GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", FOLDED, "A: b   c\r\n"),
        ("GET / HTTP/1.1\r\nA:\r\n\tc\r\nB: d\r\n\r\n", FOLDED, "A: c\r\nB: d\r\n"),
        ("GET / HTTP/1.1\r\nA: b\r\n \r\nB: c\r\n\r\n", FOLDED, "A: b\r\nB: c\r\n"),
        (
            "GET / HTTP/1.1\r\nContent-Type: b\r\n c\r\n\r\n",
            Facts::FOLDED,
            "Content-Type: b   c\r\n",
        ),
        (
            "GET / HTTP/1.1\r\nContent-Length:\r\n 5\r\n\r\n",
            FOLDED.or(Facts::ODD_LENGTH),
            "Content-Length: 5\r\n",
        ),
        (
            "GET / HTTP/1.1\r\nTransfer-Encoding\t: chunked\x01\r\n\r\n",
            Facts::BLANK_BEFORE_COLON
                .or(Facts::BLANK_BEHIND_FRAMING)
                .or(Facts::CONTROL_IN_VALUE)
                .or(Facts::ODD_CODINGS),
            "Transfer-Encoding: chunked\r\n",
        ),
        ("GET / HTTP/1.1\r\nA: b\x01c\x7f\r\n\r\n", Facts::CONTROL_IN_VALUE, "A: b c\r\n"),
        (
            "GET / HTTP/1.1\r\nA: b\0c\x01d\re\r\n\r\n",
            Facts::CONTROL_IN_VALUE.or(Facts::NUL_IN_VALUE),
            "A: b c d e\r\n",
        ),
        (
            "GET / HTTP/1.1\r\nA: \x01b\0\r\n\r\n",
            Facts::CONTROL_IN_VALUE.or(Facts::NUL_IN_VALUE),
            "A: b\r\n",
        ),
        ("GET / HTTP/1.1\r\nA: \u{e9}\r\n\r\n", Facts::OBS_TEXT, "A: \u{e9}\r\n"),
        ("GET / HTTP/1.1\r\nA:  b \t\r\nC:\r\n\r\n", Facts::NONE, "A: b\r\nC:\r\n"),
        ("GET / HTTP/1.1\r\nA:b\r\nC:  d\r\n\r\n", Facts::NONE, "A:b\r\nC: d\r\n"),
        ("GET / HTTP/1.1\r\nContent-Length:\t5\r\n\r\n", Facts::NONE, "Content-Length: 5\r\n"),
    ] {
        let (request, parsed) = parse(head.as_bytes());
        assert_eq!(parsed, Ok(Some(head.len())), "{head:?}");
        assert_eq!(request.facts, facts, "{head:?}");
        assert_eq!(written(&request), fields, "{head:?}");
    }
}

#[test]
fn malformed_heads_are_refused_with_their_facts() {
    for (head, facts, target) in [
        ("GET /\r\n", Facts::NO_VERSION, "/"),
        ("GET\r\n", Facts::NO_TARGET, ""),
        ("GET HTTP/1.1\r\n\r\n", Facts::NO_TARGET, ""),
        ("GET  HTTP/1.1\r\n\r\n", Facts::NO_TARGET, ""),
        ("GET / HTTP/0.9\r\n\r\n", Facts::OLD_VERSION, "/"),
        ("GET / HTTP/1.1\x0c\r\n\r\n", Facts::BAD_VERSION, "/"),
        ("GET / HTTP/1.1\r\r\n\r\n", Facts::BAD_VERSION, "/"),
        ("GET / HTTP/2.0\r\n\r\n", Facts::BAD_VERSION, "/"),
        ("GET / http/1.1\r\n\r\n", Facts::BAD_VERSION, "/"),
        ("GET \x0c/ HTTP/1.1\r\n\r\n", Facts::BAD_TARGET, ""),
        ("GET / HTTP/1.10\r\n\r\n", Facts::BAD_VERSION, "/"),
        ("GET /a b HTTP/1.1\r\n\r\n", Facts::BAD_TARGET, "/a"),
        ("GET /a\x01 HTTP/1.1\r\n\r\n", Facts::CONTROL_IN_TARGET, "/a"),
        ("GET /a\rb HTTP/1.1\r\n\r\n", Facts::NUL_IN_TARGET, "/a"),
        ("GET /\u{e9} HTTP/1.1\r\n\r\n", Facts::BAD_TARGET, "/"),
        ("G(T / HTTP/1.1\r\n\r\n", Facts::BAD_METHOD, ""),
        ("\x16\x03\x01", Facts::BAD_METHOD, ""),
        ("GET / HTTP/1.1\r\nHost\r\n\r\n", Facts::NO_COLON, "/"),
        ("GET / HTTP/1.1\r\n: a\r\n\r\n", Facts::EMPTY_NAME, "/"),
        ("GET / HTTP/1.1\r\nA b: c\r\n\r\n", Facts::BAD_NAME, "/"),
        ("GET / HTTP/1.1\r\n a: c\r\n\r\n", Facts::BAD_NAME, "/"),
        ("GET / HTTP/1.1\r\nA(: c\r\n\r\n", Facts::BAD_NAME, "/"),
    ] {
        let (request, parsed) = parse(head.as_bytes());
        assert_eq!(parsed, Err(BadHead::Malformed), "{head:?}");
        assert!(request.facts.has(facts), "{head:?}");
        assert_eq!(request.target(), target, "{head:?}");
    }
    assert_eq!(parse(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").1, Err(BadHead::Http2Preface));
}

#[test]
fn the_available_part_of_a_refused_head_is_kept_for_the_log() {
    for head in [
        "GET / HTTP/1.1\r\nHost: a\r\nB(: c\r\nD: e\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nB(: c\nD: e\r\nF",
        "GET /\r\nHost: a\r\nD: e\r\n\r\n",
    ] {
        let (request, parsed) = parse(head.as_bytes());
        assert_eq!(parsed, Err(BadHead::Malformed), "{head:?}");
        assert_eq!(written(&request), "Host: a\r\nD: e\r\n", "{head:?}");
        assert_eq!(request.target(), "/");
    }
    // A folded line is not a field here, but other parsers may read it as one.
    let (request, parsed) = parse(b"GET / HTTP/1.1\r\nA: b\r\n Content-Length : 5\r\nC: d\r\n\r\n");
    assert!(parsed.is_ok() && !request.fields.has(Name::ContentLength));
    let doubtful: Vec<_> = request.fields.doubtful().collect();
    assert_eq!(doubtful, [(&b" Content-Length "[..], &b" 5"[..])]);
    assert_eq!(written(&request), "A: b   Content-Length : 5\r\nC: d\r\n");
}

#[test]
fn a_body_is_framed_by_its_coding_or_its_first_length() {
    for (fields, framing) in [
        ("", Framing::Length(0)),
        ("Content-Length: 5\r\n", Framing::Length(5)),
        ("Content-Length: 5, 5\r\n", Framing::Length(5)),
        ("Content-Length: 05 ,5\r\nContent-Length: 5\r\n", Framing::Length(5)),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Framing::Chunked),
    ] {
        let (request, _) = parse(format!("POST / HTTP/1.1\r\n{fields}\r\n").as_bytes());
        assert_eq!(request.framing(), framing, "{fields:?}");
    }
}

#[test]
fn the_log_gets_the_part_of_the_target_that_arrived() {
    for (head, target) in [
        (&b"GET /abc HTTP/0.9\r\n\r\n"[..], &b"/abc"[..]),
        (b"GET /abc HTTP/2.0\r\n\r\n", b"/abc"),
        (b"GET /abc\r\n\r\n", b"/abc"),
        (b"GET http://a.example/abc?x HTTP/2.0\r\n\r\n", b"/abc?x"),
        (b"GET /abc/de", b"/abc/de"),
        (b"GET /abc?de HTT", b"/abc?de"),
        (b"GET /a\x01bc HTTP/1.1\r\n\r\n", b"/a"),
        (b"GET ", b"-"),
        (b"GE", b"-"),
    ] {
        assert_eq!(*parse(head).0.logged_target(), *target, "{}", head.escape_ascii());
    }
}

#[test]
fn a_head_over_a_bound_is_refused() {
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(BOUNDS.bytes));
    assert_eq!(parse(&long.as_bytes()[..BOUNDS.bytes]).1, Err(BadHead::TargetTooLong));
    // Also if the whole head arrives at once.
    assert_eq!(parse(long.as_bytes()).1, Err(BadHead::TargetTooLong));
    let long = format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(BOUNDS.bytes));
    assert_eq!(parse(long.as_bytes()).1, Err(BadHead::TooLarge));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(BOUNDS.fields + 1));
    assert_eq!(parse(many.as_bytes()).1, Err(BadHead::TooLarge));
    let enough = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(BOUNDS.fields));
    assert_eq!(parse(enough.as_bytes()).1, Ok(Some(enough.len())));
}

#[test]
fn an_absolute_target_has_an_authority() {
    let (request, _) = parse(b"GET http://shop:8080?x=1 HTTP/1.1\r\n\r\n");
    assert_eq!(request.authority(), Some("shop:8080"));
    assert_eq!(request.scheme(), Some("http"));
    assert_eq!((request.path(), request.query()), ("/", "x=1"));
    assert_eq!(request.origin_form(), "/?x=1");
    let (request, _) = parse(b"GET /a?b#c HTTP/1.1\r\n\r\n");
    assert_eq!((request.authority(), &*request.origin_form()), (None, "/a?b"));
}

proptest! {
    /// A part of a head is incomplete, or is refused for the same reason as the whole head.
    #[test]
    fn a_part_of_a_head_is_incomplete_or_refused_as_the_whole(
        head in "(GET|P!ST) /[a-z?<\u{e9} ]{0,4} HTTP/1.[0-9]\r?\n([a-zA-Z:]{1,3}[: ][ \ta-z\x01\r]{0,3}\r?\n){0,4}\r?\n",
        cut in any::<proptest::sample::Index>(),
    ) {
        let head = head.as_bytes();
        let (_, whole) = parse(head);
        let cut = cut.index(head.len());
        let (_, part) = parse(&head[..cut]);
        match (whole, part) {
            (Ok(Some(length)), Ok(Some(found))) => prop_assert_eq!(length, found),
            (Ok(Some(length)), Ok(None)) => prop_assert!(cut < length),
            (Ok(Some(_)), Err(bad)) => prop_assert!(false, "{:?}", bad),
            (Err(whole), Err(part)) => prop_assert_eq!(whole, part),
            (Err(_), part) => prop_assert!(part != Ok(Some(cut)) || cut > 0),
            (Ok(None), part) => prop_assert!(part.is_ok()),
        }
    }

    #[test]
    fn no_input_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
        let mut text = b"GET / HTTP/1.1\r\n".to_vec();
        text.extend_from_slice(&bytes);
        let (request, _) = parse(&text);
        let _ = written(&request);
    }
}
