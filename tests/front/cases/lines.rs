//! Methods, targets, versions, and the bytes between and before them.

use super::{Group, Table, request};

const METHODS: &[&str] = &[
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "PATCH",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PROPFIND",
    "M-SEARCH",
    "QUERY",
    "PURGE",
    "get",
    "Get",
    "PRI",
    "X",
    "1GET",
    "!#$%&'*+-.^_`|~",
];

const BAD_METHODS: &[&str] = &[
    "", "GE T", "GET\t", "\tGET", "GE(T", "GET:", "\"GET\"", "GET,", "G\u{c9}T", "GET\0", "{}",
    "GET@", "G/T", "<GET>", "GET;", "[GET]", "G=T", "GE?T", "G\\T",
];

const TARGETS: &[&str] = &[
    "/",
    "/a",
    "/a?b=c",
    "/?",
    "/a?",
    "/a?b?c",
    "//",
    "//a",
    "//evil.example/a",
    "/a//b",
    "/./a",
    "/../a",
    "/a/../b",
    "/%61",
    "/%2f",
    "/%00",
    "/%",
    "/%zz",
    "/%2",
    "/a;b=c",
    "/a:b",
    "/a@b",
    "/a,b",
    "/a!b",
    "/a$b",
    "/a&b",
    "/a'b",
    "/a(b)",
    "/a*b",
    "/a+b",
    "/a=b",
    "/a~b",
    "/[::1]",
    "/a[b]",
    "/a\"b",
    "/a<b>",
    "/a`b",
    "/a{b}",
    "/a|b",
    "/a^b",
    "/a\\b",
    "/a?\"",
    "/a?<>",
    "/a?`",
    "/a?{|}",
    "/a?^\\",
    "/a?[b]=c",
    "/a#b",
    "/#",
    "#",
    "/a?b#c",
    "/a\u{e9}",
    "/a?\u{e9}",
    "/\u{4e16}",
    "/a\0b",
    "/a\tb",
    "/a b",
    "/a?b c",
    "/a\u{7f}b",
    "/a\u{1}b",
    "*",
    "**",
    "*a",
    "/*",
    "a",
    "a/b",
    "?",
    "?a=b",
    "../a",
    "./a",
    ":80",
    "",
    "shop.example",
    "shop.example:80",
    "shop.example:",
    "shop.example:99999",
    "shop.example/a",
    "[::1]:80",
    "127.0.0.1:80",
    "user@shop.example:80",
    "http://shop.example/a",
    "http://shop.example",
    "http://shop.example/",
    "http://shop.example?a=b",
    "http://shop.example#a",
    "http://other.example/a",
    "HTTP://shop.example/a",
    "http://SHOP.example/a",
    "http://shop.example:80/a",
    "http://shop.example:/a",
    "http://shop.example:99999/a",
    "http://shop.example:x/a",
    "http://user@shop.example/a",
    "http://user:pass@shop.example/a",
    "http://[::1]/a",
    "http://[::1]:80/a",
    "http://[::1/a",
    "http://[v1.a]/a",
    "http://127.0.0.1/a",
    "http://127.1/a",
    "http:///a",
    "http://",
    "http:/a",
    "http:a",
    "https://shop.example/a",
    "ftp://shop.example/a",
    "ws://shop.example/a",
    "javascript:alert(1)",
    "h\u{e9}://shop.example/a",
    "http://sh\u{f6}p.example/a",
    "http://shop_1.example/a",
    "http://shop.example./a",
    "http://shop.example:080/a",
    "http://a,b/a",
    "http://a b/a",
    "http://shop%2eexample/a",
    "/http://shop.example/a",
    "/fixed",
    "/fixed/../a",
    "/move",
    "/move?x=\"",
    "/move/%0d%0aX:1",
    "/api",
    "/api/x?y=z",
    "/api/\"x\"",
    "/a?a=b",
    "/a?A=B",
    "/a?c&x=1",
];

const VERSIONS: &[&str] = &[
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/1.2",
    "HTTP/1.3",
    "HTTP/1.4",
    "HTTP/1.5",
    "HTTP/1.6",
    "HTTP/1.7",
    "HTTP/1.8",
    "HTTP/1.9",
    "HTTP/0.9",
    "HTTP/2.0",
    "HTTP/2",
    "HTTP/3.0",
    "HTTP/9.9",
    "HTTP/1.10",
    "HTTP/1.01",
    "HTTP/01.1",
    "HTTP/11",
    "HTTP/1",
    "HTTP/1.",
    "HTTP/.1",
    "HTTP/",
    "HTTP",
    "http/1.1",
    "Http/1.1",
    "HTTP/1.1 ",
    " HTTP/1.1",
    "HTTP /1.1",
    "HTTP/ 1.1",
    "HTTP/1 .1",
    "HTTP/1.1\t",
    "\tHTTP/1.1",
    "HTTP/1.1 x",
    "HTTP/1.1;",
    "HTTP/1,1",
    "HTTP\\1.1",
    "HTTPS/1.1",
    "ICY/1.1",
    "HTTP/1.1.1",
    "HTTP/-1.1",
    "HTTP/+1.1",
    "HTTP/a.b",
    "HTTP/1.a",
    "HTTP/\u{661}.1",
    "RTSP/1.0",
    "SIP/2.0",
    "x",
    "HTTP/1.1\0",
    "HTTP/1.1\r",
    "HTTP/1.1\u{b}",
];

pub fn table() -> Table {
    let mut table = Table::of(Group::Lines);
    for method in METHODS {
        for (name, fields, body) in [
            ("bare", "", ""),
            ("length", "Content-Length: 5\r\n", "hello"),
            ("none", "Content-Length: 0\r\n", ""),
            ("chunked", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
            (
                "both",
                "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                "5\r\nhello\r\n0\r\n\r\n",
            ),
        ] {
            for version in ["1.1", "1.0"] {
                let line = format!("{method} /m HTTP/{version}");
                table.followed(
                    format!("line/method-{method}-{name}-{version}"),
                    request(&line, fields, body),
                );
            }
        }
    }
    for (at, method) in BAD_METHODS.iter().enumerate() {
        table.followed(
            format!("line/bad-method/{at}"),
            request(&format!("{method} /m HTTP/1.1"), "", ""),
        );
    }
    for length in [20, 100, 1_000, 10_000, 70_000] {
        let method = "M".repeat(length);
        table.followed(
            format!("line/long-method-{length}"),
            request(&format!("{method} / HTTP/1.1"), "", ""),
        );
    }
    for method in ["GET", "OPTIONS", "CONNECT", "POST"] {
        for (at, target) in TARGETS.iter().enumerate() {
            table.followed(
                format!("line/target-{method}/{at}"),
                request(&format!("{method} {target} HTTP/1.1"), "", ""),
            );
        }
    }
    for (at, target) in TARGETS.iter().enumerate() {
        table.raw(format!("line/target-1.0/{at}"), format!("GET {target} HTTP/1.0\r\n\r\n"));
    }
    for length in [1_000, 8_000, 16_000, 32_000, 60_000, 65_000, 65_536, 66_000, 70_000, 100_000] {
        for (name, text) in [("path", "/"), ("query", "/?")] {
            let target = format!("{text}{}", "a".repeat(length));
            table.followed(
                format!("line/long-{name}-{length}"),
                request(&format!("GET {target} HTTP/1.1"), "", ""),
            );
        }
    }
    for (at, version) in VERSIONS.iter().enumerate() {
        table.followed(format!("line/version/{at}"), request(&format!("GET /v {version}"), "", ""));
        let body = request(&format!("POST /v {version}"), "Content-Length: 2\r\n", "ok");
        table.followed(format!("line/version-body/{at}"), body);
        table.raw(format!("line/version-no-host/{at}"), format!("GET /v {version}\r\n\r\n"));
    }
    let usual = "\r\nHost: shop.example\r\n\r\n";
    for (name, text) in [
        ("0.9", "GET /\r\n".to_owned()),
        ("0.9-bare", "GET /\n".to_owned()),
        ("0.9-host", format!("GET /{usual}")),
        ("0.9-blank", format!("GET / {usual}")),
        ("no-target", format!("GET HTTP/1.1{usual}")),
        ("no-target-blanks", format!("GET  HTTP/1.1{usual}")),
        ("method-alone", format!("GET{usual}")),
        ("two-blanks", format!("GET  / HTTP/1.1{usual}")),
        ("two-blanks-later", format!("GET /  HTTP/1.1{usual}")),
        ("tab", format!("GET\t/ HTTP/1.1{usual}")),
        ("tab-later", format!("GET /\tHTTP/1.1{usual}")),
        ("leading-blank", format!(" GET / HTTP/1.1{usual}")),
        ("trailing-blank", format!("GET / HTTP/1.1 {usual}")),
        ("one-empty-line", format!("\r\nGET / HTTP/1.1{usual}")),
        ("two-empty-lines", format!("\r\n\r\nGET / HTTP/1.1{usual}")),
        ("ten-empty-lines", format!("{}GET / HTTP/1.1{usual}", "\r\n".repeat(10))),
        ("thousand-empty-lines", format!("{}GET / HTTP/1.1{usual}", "\r\n".repeat(1_000))),
        ("empty-bare-line", format!("\nGET / HTTP/1.1{usual}")),
        ("leading-cr", format!("\rGET / HTTP/1.1{usual}")),
        ("leading-cr-cr-lf", format!("\r\r\nGET / HTTP/1.1{usual}")),
        ("leading-nul", format!("\0GET / HTTP/1.1{usual}")),
        ("leading-mark", format!("\u{feff}GET / HTTP/1.1{usual}")),
        ("bare-lf", "GET / HTTP/1.1\nHost: shop.example\n\n".to_owned()),
        ("bare-lf-line", "GET / HTTP/1.1\nHost: shop.example\r\n\r\n".to_owned()),
        ("bare-lf-field", "GET / HTTP/1.1\r\nHost: shop.example\n\r\n".to_owned()),
        ("bare-lf-end", "GET / HTTP/1.1\r\nHost: shop.example\r\n\n".to_owned()),
        ("bare-lf-both-ends", "GET / HTTP/1.1\r\nHost: shop.example\n\n".to_owned()),
        ("bare-cr", "GET / HTTP/1.1\rHost: shop.example\r\r".to_owned()),
        ("bare-cr-line", "GET / HTTP/1.1\rHost: shop.example\r\n\r\n".to_owned()),
        ("bare-cr-end", "GET / HTTP/1.1\r\nHost: shop.example\r\n\r".to_owned()),
        ("cr-cr-lf", "GET / HTTP/1.1\r\r\nHost: shop.example\r\n\r\n".to_owned()),
        ("lf-cr", "GET / HTTP/1.1\n\rHost: shop.example\n\r\n\r".to_owned()),
        ("only-ends", "\r\n\r\n\r\n\r\n".to_owned()),
        ("only-lf", "\n\n\n\n".to_owned()),
        ("nothing", String::new()),
        ("http2-preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("http2-preface-bad", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_owned()),
        ("http2-preface-host", format!("PRI * HTTP/2.0{usual}")),
        ("tls-hello", "\u{16}\u{3}\u{1}\0\u{5}\u{1}\0\0\u{1}\0".to_owned()),
        ("proxy-v1", format!("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1{usual}")),
        ("response", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("smtp", "EHLO shop.example\r\n".to_owned()),
        ("json", "{\"a\": 1}\r\n\r\n".to_owned()),
        ("redis", "*1\r\n$4\r\nPING\r\n".to_owned()),
    ] {
        table.followed(format!("line/shape-{name}"), text.clone());
        let half =
            vec![super::Step::Send(text.into_bytes()), super::Step::Settle, super::Step::HalfClose];
        table.add(format!("line/shape-{name}-half-closed"), half);
    }
    table
}
