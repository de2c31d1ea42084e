//! Several requests on one connection, and each kind of response.

use super::{Group, Step, Table, get, join, post, request};

/// Parts of pipelines: a complete request, and incomplete ones.
fn pieces() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("get", get("")),
        ("post", post("Content-Length: 5\r\n", "hello")),
        ("chunked", post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n")),
        ("head", request("HEAD /a HTTP/1.1", "", "")),
        ("get-body", request("GET /a HTTP/1.1", "Content-Length: 5\r\n", "hello")),
        ("delete-body", request("DELETE /a HTTP/1.1", "Content-Length: 5\r\n", "hello")),
        ("close", get("Connection: close\r\n")),
        ("old", request("GET /a HTTP/1.0", "", "")),
        ("old-kept", request("GET /a HTTP/1.0", "Connection: keep-alive\r\n", "")),
        (
            "old-post",
            request("POST /a HTTP/1.0", "Content-Length: 5\r\nConnection: keep-alive\r\n", "hello"),
        ),
        ("expect", post("Content-Length: 5\r\nExpect: 100-continue\r\n", "hello")),
        ("until-end", request("GET /close HTTP/1.1", "", "")),
        ("early", request("POST /early HTTP/1.1", "Content-Length: 5\r\n", "hello")),
        ("empty-lines", b"\r\n\r\n".to_vec()),
        ("bad-line", b"nonsense\r\n\r\n".to_vec()),
        ("bad-field", get("X A: 1\r\n")),
        ("bad-host", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("bad-length", post("Content-Length: x\r\n", "hello")),
        ("bad-chunk", post("Transfer-Encoding: chunked\r\n", "x\r\n")),
        ("trace", request("TRACE / HTTP/1.1", "", "")),
        ("connect", request("CONNECT a:1 HTTP/1.1", "", "")),
        (
            "smuggle",
            post(
                "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
            ),
        ),
        ("half", b"GET /half HTTP/1.1\r\nHost: sh".to_vec()),
        ("half-body", post("Content-Length: 9\r\n", "hello")),
    ]
}

pub fn table() -> Table {
    let mut table = Table::of(Group::Pipelines);
    let pieces = pieces();
    for (first, one) in &pieces {
        for (second, two) in &pieces {
            table.followed(format!("pipeline/{first}+{second}"), join(&[one, two]));
        }
    }
    for count in [3, 5, 20] {
        for (name, piece) in &pieces[..6] {
            let all: Vec<&[u8]> = (0..count).map(|_| &piece[..]).collect();
            table.raw(format!("pipeline/{name}-x{count}"), all.concat());
            let mut half_closed = vec![Step::Send(all.concat())];
            half_closed.push(Step::HalfClose);
            table.add(format!("pipeline/{name}-x{count}-half-closed"), half_closed);
        }
        let numbered: String =
            (0..count).map(|at| format!("GET /{at} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
        table.raw(format!("pipeline/numbered-x{count}"), numbered.clone());
        table.raw(
            format!("pipeline/numbered-x{count}-last"),
            format!("{numbered}GET /last HTTP/1.1\r\nHost: a\r\n\r\n{numbered}"),
        );
        table.raw(
            format!("pipeline/numbered-x{count}-bad"),
            format!("{numbered}bad\r\n\r\n{numbered}"),
        );
        let mixed: Vec<u8> = (0..count).flat_map(|at| pieces[at % 6].1.clone()).collect();
        table.raw(format!("pipeline/mixed-x{count}"), mixed);
        let turns = (0..count).flat_map(|at| [Step::Send(pieces[at % 6].1.clone()), Step::Settle]);
        table.add(format!("pipeline/in-turn-x{count}"), turns.collect());
        let lines = format!("{}GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n".repeat(count));
        table.raw(format!("pipeline/empty-lines-x{count}"), join(&[&get(""), lines.as_bytes()]));
    }
    table
}

const PATHS: &[&str] = &[
    "plain",
    "chunked",
    "trailers",
    "204",
    "204-length",
    "304",
    "304-length",
    "close",
    "old",
    "last",
    "hints",
    "big",
    "none",
    "many",
    "early",
    "upgrade",
];

/// Each kind of response to each kind of request.
pub fn answers() -> Table {
    let mut table = Table::of(Group::Answers);
    for path in PATHS {
        for method in ["GET", "HEAD", "POST", "OPTIONS"] {
            let body = if method == "POST" { "hello" } else { "" };
            let length = if method == "POST" { "Content-Length: 5\r\n" } else { "" };
            for (kind, version, fields) in [
                ("plain", "1.1", ""),
                ("trailers", "1.1", "TE: trailers\r\nConnection: TE\r\n"),
                ("close", "1.1", "Connection: close\r\n"),
                ("old", "1.0", ""),
                ("old-kept", "1.0", "Connection: keep-alive\r\n"),
                (
                    "upgrade",
                    "1.1",
                    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
                ),
            ] {
                let line = format!("{method} /{path} HTTP/{version}");
                let bytes = request(&line, &format!("{length}{fields}"), body);
                let name = format!("answer/{path}-{method}-{kind}");
                if kind == "upgrade" {
                    let steps = vec![
                        Step::Send(bytes),
                        Step::Settle,
                        Step::Send(b"through the tunnel".to_vec()),
                        Step::Settle,
                        Step::HalfClose,
                    ];
                    table.add(name, steps);
                } else {
                    table.followed(name, bytes);
                }
            }
        }
    }
    table
}
