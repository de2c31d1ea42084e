use super::*;

fn read(text: &str, asked: Method) -> Result<Option<(usize, Rest, Response)>, BadResponse> {
    let mut response = Response::default();
    let Some(length) = response.parse(text.as_bytes())? else { return Ok(None) };
    let rest = response.frame(&asked)?;
    Ok(Some((length, rest, response)))
}

#[track_caller]
fn check(fields: &str, framing: Framing, keep_alive: bool) {
    let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\nrest");
    let (length, rest, _) = read(&text, Method::GET).unwrap().unwrap();
    assert_eq!(rest, Rest { framing, keep_alive }, "{fields:?}");
    assert_eq!(length, text.len() - 4);
}

#[test]
fn the_head_decides_where_a_body_ends() {
    check("content-length: 5\r\n", Framing::Length(5), true);
    check("Content-Length: 5\r\nCONNECTION: x, Close\r\n", Framing::Length(5), false);
    check("transfer-encoding: Chunked\r\n", Framing::Chunked, true);
    check("transfer-encoding: chunked\r\ncontent-length: 5\r\n", Framing::Chunked, false);
    check("content-length: 5\r\ncontent-length: 5\r\n", Framing::Length(5), true);
    check("content-length: 5, 5\r\n", Framing::Length(5), true);
    check("", Framing::UntilClose, false);
}

#[test]
fn a_length_beside_chunks_is_removed_and_a_list_becomes_one() {
    let text = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n";
    assert!(!read(text, Method::GET).unwrap().unwrap().2.fields.has(Name::ContentLength));
    for (said, goes_on) in
        [("5, 5", "5"), ("5\r\nContent-Length: 05", "5"), ("010", "10"), ("0", "0"), ("00", "0")]
    {
        let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {said}\r\n\r\n");
        let fields = read(&text, Method::GET).unwrap().unwrap().2.fields;
        let lengths: Vec<_> = fields.all(Name::ContentLength).collect();
        assert_eq!(lengths, [goes_on.as_bytes()], "{said:?}");
    }
}

#[test]
fn bodiless_responses_have_no_body_whatever_their_fields() {
    for (line, asked) in [
        ("HTTP/1.1 200 OK", Method::HEAD),
        ("HTTP/1.1 204 No Content", Method::GET),
        ("HTTP/1.1 304 Not Modified", Method::GET),
    ] {
        let text = format!("{line}\r\ncontent-length: 5\r\n\r\n");
        let (_, rest, response) = read(&text, asked).unwrap().unwrap();
        assert_eq!(rest, Rest { framing: Framing::Length(0), keep_alive: true }, "{line}");
        assert_eq!(response.fields.get(Name::ContentLength), Some(&b"5"[..]));
    }
}

#[test]
fn http_1_0_keeps_a_connection_only_with_keep_alive() {
    let read = |fields: &str| {
        let text = format!("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n{fields}\r\n");
        read(&text, Method::GET).unwrap().unwrap().1.keep_alive
    };
    assert!(!read(""));
    assert!(read("connection: keep-alive\r\n"));
}

#[test]
fn ambiguous_heads_are_refused() {
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
    assert!(read(&format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(MAX_HEAD)), Method::GET).is_err());
    assert!(read("HTTP/1.1 200 OK\r\na: b\r\n", Method::GET).unwrap().is_none());
}

#[test]
fn a_custom_reason_is_kept() {
    for (line, reason) in [
        ("HTTP/1.1 200 Fine", "Fine"),
        ("HTTP/1.1 200 OK", "OK"),
        ("HTTP/1.1 200 ", ""),
        ("HTTP/1.1 200", ""),
        ("HTTP/1.1 299 Own", "Own"),
    ] {
        let text = format!("{line}\r\nA: b\r\n\r\n");
        let (_, _, response) = read(&text, Method::GET).unwrap().unwrap();
        assert_eq!(response.reason(), reason.as_bytes(), "{line}");
        let mut out = Vec::new();
        response.write(&mut out);
        let status = response.status.as_str();
        let expected = format!("HTTP/1.1 {status} {reason}\r\nA: b\r\n");
        assert_eq!(out, expected.as_bytes());
    }
}

#[test]
fn a_part_of_a_head_is_incomplete() {
    let text = "HTTP/1.1 200 Fine\r\nA: b\r\nlong-name:  value \r\n\r\n";
    let mut response = Response::default();
    for cut in 0..text.len() {
        assert_eq!(response.parse(&text.as_bytes()[..cut]), Ok(None), "{cut}");
    }
    assert_eq!(response.parse(text.as_bytes()), Ok(Some(text.len())));
}
