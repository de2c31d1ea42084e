//! A base set of requests, each stopped at every byte and then closed, half-closed, or continued.

use super::{Group, Step, Table, get, join, post, request};

fn base() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("get", get("")),
        ("get-fields", get("X-A: 1\r\nX-B:\r\nAccept: */*\r\n")),
        ("get-cookie", get("Cookie: a=b; AWSALB=x; c=d\r\n")),
        ("get-close", get("Connection: close\r\n")),
        ("get-query", request("GET /a/b?c=\"d\" HTTP/1.1", "", "")),
        ("get-absolute", b"GET http://shop.example/a HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("get-body", request("GET /a HTTP/1.1", "Content-Length: 5\r\n", "hello")),
        ("head", request("HEAD /a HTTP/1.1", "", "")),
        ("options", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("old", b"GET /a HTTP/1.0\r\n\r\n".to_vec()),
        ("old-kept", b"GET /a HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n".to_vec()),
        ("post", post("Content-Length: 5\r\n", "hello")),
        ("post-empty", post("Content-Length: 0\r\n", "")),
        ("post-expect", post("Content-Length: 5\r\nExpect: 100-continue\r\n", "hello")),
        ("post-early", request("POST /early HTTP/1.1", "Content-Length: 5\r\n", "hello")),
        ("chunked", post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n")),
        (
            "chunked-ext",
            post("Transfer-Encoding: chunked\r\n", "3;a=\"b\"\r\nabc\r\n02\r\nde\r\n0;c\r\n\r\n"),
        ),
        (
            "chunked-trailers",
            post(
                "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n",
                "1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n",
            ),
        ),
        ("chunked-bad", post("Transfer-Encoding: chunked\r\n", "1\r\naa\r\n0\r\n\r\n")),
        ("bare-lf", b"GET /a HTTP/1.1\nHost: a\nX: 1\n\n".to_vec()),
        ("bad-field", get("X A: 1\r\n")),
        ("empty-lines", join(&[b"\r\n\r\n", &get("")])),
        ("two", join(&[&get(""), &get("X-Second: 1\r\n")])),
        (
            "post-get",
            join(&[&post("Content-Length: 2\r\n", "ab"), b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n"]),
        ),
        ("http2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
    ]
}

pub fn table() -> Table {
    let mut table = Table::of(Group::Cuts);
    for (name, bytes) in base() {
        let send = |from: usize, to: usize| Step::Send(bytes[from..to].to_vec());
        let end = bytes.len();
        // A response that comes before its request has ended races with the rest of the request.
        let pause = || if name == "post-early" { Step::Settle } else { Step::Pause };
        for at in 0..=end {
            table.add(
                format!("cut/{name}-closed/{at}"),
                vec![send(0, at), Step::Settle, Step::Close],
            );
            table.add(
                format!("cut/{name}-half-closed/{at}"),
                vec![send(0, at), Step::Settle, Step::HalfClose],
            );
        }
        for at in 1..end {
            table.add(
                format!("cut/{name}-two-pieces/{at}"),
                vec![send(0, at), pause(), send(at, end)],
            );
        }
        for at in 1..end - 1 {
            table.add(
                format!("cut/{name}-three-pieces/{at}"),
                vec![send(0, at), pause(), send(at, at + 1), pause(), send(at + 1, end)],
            );
        }
        // Every byte in a piece of its own.
        let each = (0..end).flat_map(|at| [send(at, at + 1), pause()]);
        table.add(format!("cut/{name}-single-bytes"), each.collect());
    }
    table
}
