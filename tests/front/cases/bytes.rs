//! Each of the 256 bytes at each position of a request.

use super::{Group, Table, join};

const PLACES: &[(&str, &[u8], &[u8])] = &[
    ("method", b"G", b"T /b HTTP/1.1\r\nHost: shop.example\r\n\r\n"),
    ("method-end", b"GET", b"/b HTTP/1.1\r\nHost: shop.example\r\n\r\n"),
    ("path", b"GET /b", b"b HTTP/1.1\r\nHost: shop.example\r\n\r\n"),
    ("path-start", b"GET ", b"b HTTP/1.1\r\nHost: shop.example\r\n\r\n"),
    ("query", b"GET /b?", b"b HTTP/1.1\r\nHost: shop.example\r\n\r\n"),
    ("absolute-host", b"GET http://shop", b"example/b HTTP/1.1\r\nHost: shop.example\r\n\r\n"),
    ("target-end", b"GET /b", b"HTTP/1.1\r\nHost: shop.example\r\n\r\n"),
    ("version", b"GET /b HTTP/1.", b"\r\nHost: shop.example\r\n\r\n"),
    ("version-major", b"GET /b HTTP/", b".1\r\nHost: shop.example\r\n\r\n"),
    ("line-end", b"GET /b HTTP/1.1\r", b"Host: shop.example\r\n\r\n"),
    ("name-start", b"GET /b HTTP/1.1\r\nHost: shop.example\r\n", b"X: 1\r\n\r\n"),
    ("name", b"GET /b HTTP/1.1\r\nHost: shop.example\r\nX", b"Y: 1\r\n\r\n"),
    ("colon", b"GET /b HTTP/1.1\r\nHost: shop.example\r\nX", b" 1\r\n\r\n"),
    ("value-start", b"GET /b HTTP/1.1\r\nHost: shop.example\r\nX-V:", b"b\r\n\r\n"),
    ("value", b"GET /b HTTP/1.1\r\nHost: shop.example\r\nX-V: a", b"b\r\n\r\n"),
    ("value-end", b"GET /b HTTP/1.1\r\nHost: shop.example\r\nX-V: a", b"\r\n\r\n"),
    ("field-end", b"GET /b HTTP/1.1\r\nHost: shop.example\r\nX-V: a\r", b"X-W: b\r\n\r\n"),
    ("head-end", b"GET /b HTTP/1.1\r\nHost: shop.example\r\n\r", b"\r\n"),
    ("host", b"GET /b HTTP/1.1\r\nHost: shop", b"example\r\n\r\n"),
    ("host-end", b"GET /b HTTP/1.1\r\nHost: shop.example", b"\r\n\r\n"),
    ("length", b"POST /b HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 5", b"\r\n\r\nhello"),
    ("length-start", b"POST /b HTTP/1.1\r\nHost: shop.example\r\nContent-Length:", b"5\r\n\r\nhello"),
    ("length-name", b"POST /b HTTP/1.1\r\nHost: shop.example\r\nContent", b"Length: 5\r\n\r\nhello"),
    ("coding", b"POST /b HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked", b"\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    ("coding-start", b"POST /b HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding:", b"chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    ("coding-name", b"POST /b HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding", b": chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    ("cookie", b"GET /b HTTP/1.1\r\nHost: shop.example\r\nCookie: a=b", b"c; d=e\r\n\r\n"),
    ("connection", b"GET /b HTTP/1.1\r\nHost: shop.example\r\nConnection: x", b"y\r\n\r\n"),
    ("chunk-size", b"POST /b HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n2", b"\r\nab\r\n0\r\n\r\n"),
    ("chunk-size-start", b"POST /b HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n", b"\r\nab\r\n0\r\n\r\n"),
    ("chunk-ext", b"POST /b HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n2;a=", b"b\r\nab\r\n0\r\n\r\n"),
    ("chunk-ext-quoted", b"POST /b HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n2;a=\"", b"\"\r\nab\r\n0\r\n\r\n"),
    ("chunk-line-end", b"POST /b HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n2\r", b"ab\r\n0\r\n\r\n"),
    ("chunk-data-cr", b"POST /b HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab", b"\n0\r\n\r\n"),
    ("chunk-data-lf", b"POST /b HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r", b"0\r\n\r\n"),
    ("chunk-last", b"POST /b HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0", b"\n\r\n"),
    ("chunk-end", b"POST /b HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r", b""),
    ("trailer-name", b"POST /b HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX", b"Y: 1\r\n\r\n"),
    ("trailer-value", b"POST /b HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX: a", b"b\r\n\r\n"),
    ("leading", b"", b"GET /b HTTP/1.1\r\nHost: shop.example\r\n\r\n"),
    ("between", b"GET /b HTTP/1.1\r\nHost: shop.example\r\n\r\n", b"GET /c HTTP/1.1\r\nHost: shop.example\r\n\r\n"),
];

pub fn table() -> Table {
    let mut table = Table::of(Group::Bytes);
    for (name, before, after) in PLACES {
        for byte in 0..=255 {
            table.raw(format!("byte/{name}/{byte}"), join(&[before, &[byte], after]));
            if let (Some(&before), Some(&after)) = (before.last(), after.first()) {
                table.cases.last_mut().unwrap().mark = Some([before, byte, after]);
            }
        }
    }
    table
}
