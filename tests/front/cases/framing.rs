//! The end of a body: lengths, codings, both, chunks, trailers, and Expect.

use super::{Group, Step, Table, post, request};

const LENGTHS: &[&str] = &[
    "5",
    "0",
    "05",
    "005",
    "0000000000000000000000000005",
    "+5",
    "-5",
    "-0",
    "5 ",
    " 5",
    "\t5",
    "5\t",
    "5 5",
    "5,5",
    "5, 5",
    "5,6",
    "5,",
    ",5",
    ",",
    "",
    " ",
    "0x5",
    "5.0",
    "5e0",
    "1e1",
    "five",
    "5a",
    "a5",
    "\u{665}",
    "5;",
    "5;x=1",
    "\"5\"",
    "'5'",
    "(5)",
    "5\0",
    "\u{b}5",
    "18446744073709551615",
    "18446744073709551616",
    "9223372036854775807",
    "9223372036854775808",
    "99999999999999999999",
    "4294967301",
    "5\r\n 5",
    "5\n",
    "5\r",
    "4",
    "6",
    "1",
    "1_0",
    "NaN",
    "null",
    "5%",
    "\u{a0}5",
    "5\u{a0}",
    "5/1",
    "=5",
    "*",
];

const CODINGS: &[&str] = &[
    "chunked",
    "Chunked",
    "CHUNKED",
    "chunked ",
    " chunked",
    "\tchunked",
    "chunked\t",
    "chunked,",
    ",chunked",
    "chunked, chunked",
    "chunked,chunked",
    "identity",
    "identity, chunked",
    "chunked, identity",
    "gzip",
    "gzip, chunked",
    "chunked, gzip",
    "deflate, chunked",
    "compress",
    "xchunked",
    "chunkedx",
    "chunke",
    "chunk ed",
    "\"chunked\"",
    "'chunked'",
    "chunked;q=1",
    "chunked; foo=bar",
    "x, chunked",
    "chunked\0",
    "\u{b}chunked",
    "chunked\u{b}",
    "chunked\u{fc}",
    "chunked\r\n ",
    "\r\n chunked",
    "",
    " ",
    ",",
    "chunked\u{7f}",
    "c\u{127}unked",
    "trailers",
    "close",
    "chunked identity",
    "(chunked)",
    "cow",
    "chunked, cow",
    "cow, chunked",
    "chunked\n",
    "\u{a0}chunked",
];

/// Chunked bodies behind `Transfer-Encoding: chunked`.
const CHUNKS: &[(&str, &str)] = &[
    ("empty", "0\r\n\r\n"),
    ("one", "5\r\nhello\r\n0\r\n\r\n"),
    ("two", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
    ("bytes", "1\r\nh\r\n1\r\ne\r\n1\r\nl\r\n1\r\nl\r\n1\r\no\r\n0\r\n\r\n"),
    ("hex-lower", "a\r\n0123456789\r\n0\r\n\r\n"),
    ("hex-upper", "A\r\n0123456789\r\n0\r\n\r\n"),
    ("hex-mixed", "0aA\r\n0123456789\r\n0\r\n\r\n"),
    ("leading-zeros", "0000000005\r\nhello\r\n0\r\n\r\n"),
    ("many-leading-zeros", "00000000000000000000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("last-zeros", "5\r\nhello\r\n00000\r\n\r\n"),
    ("last-many-zeros", "5\r\nhello\r\n0000000000000000000000\r\n\r\n"),
    ("size-prefix", "0x5\r\nhello\r\n0\r\n\r\n"),
    ("size-sign", "+5\r\nhello\r\n0\r\n\r\n"),
    ("size-minus", "-5\r\nhello\r\n0\r\n\r\n"),
    ("size-blank-before", " 5\r\nhello\r\n0\r\n\r\n"),
    ("size-blank-after", "5 \r\nhello\r\n0\r\n\r\n"),
    ("size-blanks-after", "5   \r\nhello\r\n0\r\n\r\n"),
    ("size-tab-after", "5\t\r\nhello\r\n0\r\n\r\n"),
    ("size-blank-in", "1 0\r\nhello\r\n0\r\n\r\n"),
    ("size-empty", "\r\nhello\r\n0\r\n\r\n"),
    ("size-word", "five\r\nhello\r\n0\r\n\r\n"),
    ("size-g", "5g\r\nhello\r\n0\r\n\r\n"),
    ("size-underscore", "0_5\r\nhello\r\n0\r\n\r\n"),
    ("size-nul", "5\0\r\nhello\r\n0\r\n\r\n"),
    ("size-obs", "5\u{e9}\r\nhello\r\n0\r\n\r\n"),
    ("size-15", "fffffffffffffff\r\nhello"),
    ("size-16", "ffffffffffffffff\r\nhello"),
    ("size-17", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("size-17-zero", "00000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("size-overflow", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
    ("size-too-small", "4\r\nhello\r\n0\r\n\r\n"),
    ("size-too-large", "6\r\nhello\r\n0\r\n\r\n"),
    ("ext-name", "5;a\r\nhello\r\n0\r\n\r\n"),
    ("ext-value", "5;a=b\r\nhello\r\n0\r\n\r\n"),
    ("ext-quoted", "5;a=\"b c\"\r\nhello\r\n0\r\n\r\n"),
    ("ext-quoted-semicolon", "5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n"),
    ("ext-quoted-pair", "5;a=\"b\\\"c\"\r\nhello\r\n0\r\n\r\n"),
    ("ext-quoted-open", "5;a=\"b\r\nhello\r\n0\r\n\r\n"),
    ("ext-blanks", "5 ; a = b\r\nhello\r\n0\r\n\r\n"),
    ("ext-empty", "5;\r\nhello\r\n0\r\n\r\n"),
    ("ext-two", "5;a=b;c=d\r\nhello\r\n0\r\n\r\n"),
    ("ext-last", "5\r\nhello\r\n0;a=b\r\n\r\n"),
    ("ext-lf", "5;a\nhello\r\n0\r\n\r\n"),
    ("ext-cr", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
    ("ext-nul", "5;a=\0\r\nhello\r\n0\r\n\r\n"),
    ("ext-control", "5;a=\u{1}\r\nhello\r\n0\r\n\r\n"),
    ("ext-tab", "5;a=\tb\r\nhello\r\n0\r\n\r\n"),
    ("ext-obs", "5;a=\u{e9}\r\nhello\r\n0\r\n\r\n"),
    ("ext-del", "5;a=\u{7f}\r\nhello\r\n0\r\n\r\n"),
    ("ext-comma", "5,a\r\nhello\r\n0\r\n\r\n"),
    ("ext-equals", "5=a\r\nhello\r\n0\r\n\r\n"),
    ("ext-lf-smuggles", "5;\nGET /smuggled HTTP/1.1\r\n0\r\n\r\n"),
    ("size-lf", "5\nhello\r\n0\r\n\r\n"),
    ("size-cr", "5\rhello\r\n0\r\n\r\n"),
    ("size-cr-x", "5\rx\nhello\r\n0\r\n\r\n"),
    ("data-lf", "5\r\nhello\n0\r\n\r\n"),
    ("data-cr", "5\r\nhello\r0\r\n\r\n"),
    ("data-none", "5\r\nhello0\r\n\r\n"),
    ("data-xx", "5\r\nhelloxx0\r\n\r\n"),
    ("data-cr-x", "5\r\nhello\rx0\r\n\r\n"),
    ("data-lf-lf", "5\r\nhello\n\n0\r\n\r\n"),
    ("last-lf", "5\r\nhello\r\n0\n\r\n"),
    ("last-lf-lf", "5\r\nhello\r\n0\n\n"),
    ("end-lf", "5\r\nhello\r\n0\r\n\n"),
    ("end-cr", "5\r\nhello\r\n0\r\n\r"),
    ("end-none", "5\r\nhello\r\n0\r\n"),
    ("end-xx", "5\r\nhello\r\n0\r\nxx"),
    ("no-last", "5\r\nhello\r\n"),
    ("all-lf", "5\nhello\n0\n\n"),
    ("trailer", "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"),
    ("trailers", "5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\nX-Sum: 3\r\n\r\n"),
    ("trailer-case", "5\r\nhello\r\n0\r\nx-SUM: 1\r\n\r\n"),
    ("trailer-empty", "5\r\nhello\r\n0\r\nX-Sum:\r\n\r\n"),
    ("trailer-blanks", "5\r\nhello\r\n0\r\nX-Sum:   1  \r\n\r\n"),
    ("trailer-length", "5\r\nhello\r\n0\r\nContent-Length: 3\r\n\r\n"),
    ("trailer-encoding", "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("trailer-host", "5\r\nhello\r\n0\r\nHost: evil.example\r\n\r\n"),
    ("trailer-cookie", "5\r\nhello\r\n0\r\nCookie: AWSALB=x\r\n\r\n"),
    ("trailer-authorization", "5\r\nhello\r\n0\r\nAuthorization: x\r\n\r\n"),
    ("trailer-forwarded", "5\r\nhello\r\n0\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n"),
    ("trailer-ours", "5\r\nhello\r\n0\r\nX-Stayput-Verdict: hit\r\n\r\n"),
    ("trailer-connection", "5\r\nhello\r\n0\r\nConnection: close\r\n\r\n"),
    ("trailer-expect", "5\r\nhello\r\n0\r\nExpect: 100-continue\r\n\r\n"),
    ("trailer-te", "5\r\nhello\r\n0\r\nTE: trailers\r\n\r\n"),
    ("trailer-trailer", "5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n"),
    ("trailer-no-colon", "5\r\nhello\r\n0\r\nX-Sum\r\n\r\n"),
    ("trailer-empty-name", "5\r\nhello\r\n0\r\n: 1\r\n\r\n"),
    ("trailer-blank-name", "5\r\nhello\r\n0\r\nX Sum: 1\r\n\r\n"),
    ("trailer-blank-colon", "5\r\nhello\r\n0\r\nX-Sum : 1\r\n\r\n"),
    ("trailer-leading-blank", "5\r\nhello\r\n0\r\n X-Sum: 1\r\n\r\n"),
    ("trailer-folded", "5\r\nhello\r\n0\r\nX-Sum: 1\r\n 2\r\n\r\n"),
    ("trailer-lf", "5\r\nhello\r\n0\r\nX-Sum: 1\n\r\n"),
    ("trailer-lf-only", "5\r\nhello\r\n0\r\nX-Sum: 1\n\n"),
    ("trailer-cr", "5\r\nhello\r\n0\r\nX-Sum: 1\rX: 2\r\n\r\n"),
    ("trailer-nul", "5\r\nhello\r\n0\r\nX-Sum: \0\r\n\r\n"),
    ("trailer-obs", "5\r\nhello\r\n0\r\nX-Sum: \u{e9}\r\n\r\n"),
    ("trailer-underscore", "5\r\nhello\r\n0\r\nX_Sum: 1\r\n\r\n"),
    ("trailer-request-like", "5\r\nhello\r\n0\r\nGET / HTTP/1.1\r\n\r\n"),
];

const EXPECTS: &[&str] = &[
    "100-continue",
    "100-Continue",
    "100-CONTINUE",
    " 100-continue ",
    "100",
    "",
    "continue",
    "100-continue, 100-continue",
    "100-continue;a",
    "\"100-continue\"",
    "200-ok",
    "100-continue,",
    "x=y",
];

pub fn table() -> Table {
    let mut table = Table::of(Group::Framing);
    for method in ["POST", "GET", "PUT"] {
        for version in ["1.1", "1.0"] {
            for (at, length) in LENGTHS.iter().enumerate() {
                let line = format!("{method} /l HTTP/{version}");
                let fields = format!("Content-Length: {length}\r\n");
                table.followed(
                    format!("length/{method}-{version}/{at}"),
                    request(&line, &fields, "hello"),
                );
            }
            for (at, coding) in CODINGS.iter().enumerate() {
                let line = format!("{method} /t HTTP/{version}");
                let body = "5\r\nhello\r\n0\r\n\r\n";
                let fields = format!("Transfer-Encoding: {coding}\r\n");
                table.followed(
                    format!("coding/{method}-{version}/{at}"),
                    request(&line, &fields, body),
                );
                if version == "1.1" {
                    let both = format!("Content-Length: 15\r\n{fields}");
                    table.followed(
                        format!("both/length-first-{method}/{at}"),
                        request(&line, &both, body),
                    );
                    let both = format!("{fields}Content-Length: 5\r\n");
                    table.followed(
                        format!("both/coding-first-{method}/{at}"),
                        request(&line, &both, body),
                    );
                }
            }
        }
    }
    for (at, first) in LENGTHS.iter().enumerate() {
        let fields = format!("Content-Length: 5\r\nContent-Length: {first}\r\n");
        table.followed(format!("length/second/{at}"), post(&fields, "hello"));
        let fields = format!("Content-Length: {first}\r\nX-A: 1\r\ncontent-length: 5\r\n");
        table.followed(format!("length/first/{at}"), post(&fields, "hello"));
    }
    for (at, first) in CODINGS.iter().enumerate() {
        let body = "5\r\nhello\r\n0\r\n\r\n";
        let fields = format!("Transfer-Encoding: {first}\r\nTransfer-Encoding: chunked\r\n");
        table.followed(format!("coding/first/{at}"), post(&fields, body));
        let fields = format!("Transfer-Encoding: chunked\r\ntransfer-encoding: {first}\r\n");
        table.followed(format!("coding/second/{at}"), post(&fields, body));
    }
    for (name, fields) in [
        ("like-underscore", "Content_Length: 5\r\n"),
        ("like-and-real", "Content_Length: 3\r\nContent-Length: 5\r\n"),
        ("blank-before-colon", "Content-Length : 5\r\n"),
        ("tab-before-colon", "Content-Length\t: 5\r\n"),
        ("folded-value", "Content-Length:\r\n 5\r\n"),
        ("leading-blank", " Content-Length: 5\r\n"),
        ("coding-blank-before-colon", "Transfer-Encoding : chunked\r\n"),
        ("coding-leading-blank", " Transfer-Encoding: chunked\r\n"),
        ("coding-bare-lf", "X: 1\nTransfer-Encoding: chunked\r\n"),
        ("coding-bare-cr", "X: 1\rTransfer-Encoding: chunked\r\n"),
        ("coding-nul", "Transfer-Encoding\0: chunked\r\n"),
        ("length-nul", "Content-Length\0: 5\r\n"),
        ("three-lengths", "Content-Length: 5\r\nContent-Length: 5\r\nContent-Length: 5\r\n"),
        ("coding-case", "tRANSFER-eNCODING: cHUNKED\r\n"),
        ("length-case", "cONTENT-lENGTH: 5\r\n"),
        ("close", "Connection: close\r\nContent-Length: 5\r\n"),
    ] {
        table.followed(format!("framing/{name}"), post(fields, "hello"));
        table.followed(format!("framing/{name}-chunks"), post(fields, "5\r\nhello\r\n0\r\n\r\n"));
    }
    for (name, body) in CHUNKS {
        for (kind, fields) in [
            ("plain", "Transfer-Encoding: chunked\r\n"),
            ("announced", "Transfer-Encoding: chunked\r\nTE: trailers\r\nTrailer: X-Sum\r\n"),
        ] {
            table.followed(format!("chunks/{kind}-{name}"), post(fields, body));
        }
        let steps = vec![
            Step::Send(post("Transfer-Encoding: chunked\r\n", "")),
            Step::Settle,
            Step::Send(body.as_bytes().to_vec()),
            Step::Settle,
            Step::HalfClose,
        ];
        table.add(format!("chunks/later-{name}"), steps);
    }
    for count in [500, 1_000, 1_020, 1_030, 2_000, 8_000, 20_000] {
        let one = format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(count));
        table.followed(
            format!("chunks/ext-long-{count}"),
            post("Transfer-Encoding: chunked\r\n", &one),
        );
        let many = format!("{}0\r\n\r\n", "1;a=b\r\nx\r\n".repeat(count / 4));
        table.followed(
            format!("chunks/ext-many-{count}"),
            post("Transfer-Encoding: chunked\r\n", &many),
        );
        let blanks = format!("5{}\r\nhello\r\n0\r\n\r\n", " ".repeat(count));
        table.followed(
            format!("chunks/blanks-long-{count}"),
            post("Transfer-Encoding: chunked\r\n", &blanks),
        );
        let trailer = format!("0\r\nX-Sum: {}\r\n\r\n", "a".repeat(count));
        table.followed(
            format!("chunks/trailer-long-{count}"),
            post("Transfer-Encoding: chunked\r\n", &trailer),
        );
        let lines: String = (0..count / 10).map(|at| format!("X-{at}: 1\r\n")).collect();
        table.followed(
            format!("chunks/trailers-{}", count / 10),
            post("Transfer-Encoding: chunked\r\n", &format!("0\r\n{lines}\r\n")),
        );
    }
    for size in [1_000, 8_192, 16_384, 65_536, 200_000] {
        let body = "0123456789abcdef".repeat(size / 16);
        table.followed(
            format!("body/length-{size}"),
            post(&format!("Content-Length: {}\r\n", body.len()), &body),
        );
        let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        table.followed(
            format!("body/chunk-{size}"),
            post("Transfer-Encoding: chunked\r\n", &chunks),
        );
    }
    for (at, expect) in EXPECTS.iter().enumerate() {
        for version in ["1.1", "1.0"] {
            let head = |fields: &str| {
                request(
                    &format!("POST /e HTTP/{version}"),
                    &format!("Expect: {expect}\r\n{fields}"),
                    "",
                )
            };
            let length = head("Content-Length: 5\r\n");
            let chunked = head("Transfer-Encoding: chunked\r\n");
            table.followed(
                format!("expect/at-once-{version}/{at}"),
                [&length[..], b"hello"].concat(),
            );
            for (kind, head, body) in [
                ("length", &length, &b"hello"[..]),
                ("chunked", &chunked, b"5\r\nhello\r\n0\r\n\r\n"),
            ] {
                let steps = vec![
                    Step::Send(head.clone()),
                    Step::Settle,
                    Step::Send(body.to_vec()),
                    Step::Settle,
                    Step::Send(super::get("")),
                ];
                table.add(format!("expect/{kind}-{version}/{at}"), steps);
            }
            table.followed(format!("expect/no-body-{version}/{at}"), head(""));
            table.followed(format!("expect/empty-{version}/{at}"), head("Content-Length: 0\r\n"));
        }
    }
    table
}
