//! `[listener.NAME]`: where clients connect.

use super::rule::{REDIRECT, RESPOND};
use super::{DAY, Key, Kind, Span, forms, secs};
use std::time::Duration;

/// A time-out of which `0s` is none.
const OR_NONE: Kind = Kind::Duration(Span {
    zero: true,
    min: Duration::from_millis(100),
    max: Duration::from_secs(7 * DAY),
});

pub(super) static LISTENER: &[Key] = &[
    Key::new(
        "address",
        Kind::OneOrMany(&Kind::Text(&forms::SOCKET)),
        "Where it listens; `[::]:80` is IPv6 only.",
    )
    .required()
    .eg("\"0.0.0.0:80\""),
    Key::new(
        "default",
        Kind::Either(&[Kind::Text(&forms::NAME), Kind::Table(DEFAULT)]),
        "What is done with what no rule took: a group, or an answer.",
    )
    .derived("the only group there is; with several groups 404")
    .eg("\"app\""),
    Key::new(
        "allow_from",
        Kind::List(&Kind::Text(&forms::RANGE)),
        "Who may connect; others are closed at once. With `proxy_protocol` it is the client the \
         header names that may or may not.",
    )
    .or("[\"0.0.0.0/0\", \"::/0\"]"),
    Key::new(
        "trusted_proxies",
        Kind::List(&Kind::Text(&forms::RANGE)),
        "Whose X-Forwarded-* fields and PROXY headers are believed.",
    )
    .or("[]"),
    Key::new(
        "x_forwarded_for",
        Kind::Word(&[("append", true), ("preserve", true), ("remove", true)]),
        "What becomes of X-Forwarded-For.",
    )
    .or("\"append\""),
    Key::new(
        "proxy_protocol",
        Kind::Bool,
        "Whether every connection opens with a PROXY header, of version 1 or 2, before anything \
         else. Only `trusted_proxies` may connect then; who sends no header is closed.",
    )
    .or("false"),
    Key::new(
        "desync_mitigation",
        Kind::Word(&[("monitor", true), ("defensive", true), ("strictest", true)]),
        "How requests that could be read in two ways are met.",
    )
    .or("\"defensive\""),
    Key::new(
        "preserve_host",
        Kind::Bool,
        "Whether the target sees the client's Host as sent. If not: in lower case, without its \
         port on a listener of port 80 or 443, and with the listener's port elsewhere if it has \
         none.",
    )
    .or("true"),
    Key::new(
        "drop_invalid_headers",
        Kind::Bool,
        "Whether fields whose names have other characters than letters, digits and `-` \
         are dropped.",
    )
    .or("false"),
    Key::new(
        "client_port",
        Kind::Bool,
        "Whether what is appended to X-Forwarded-For has the client's port.",
    )
    .or("false"),
    Key::new(
        "response_headers",
        Kind::Map(&forms::HEADER_NAME, &Kind::Text(&forms::HEADER_VALUE)),
        "Fields of every answer, made by a target or here, in the place of a target's own.",
    )
    .or("{}")
    .eg("{ strict-transport-security = \"max-age=31536000\", x-frame-options = \"DENY\" }"),
    Key::new(
        "server",
        Kind::Word(&[("pass", true), ("own", true), ("remove", true)]),
        "What becomes of the Server field: a target's passes and answers made here have none; the \
         same, but answers made here say `stayput`; or no answer has one.",
    )
    .or("\"pass\""),
    Key::new(
        "debug_headers",
        Kind::Bool,
        "Whether x-stayput-verdict and x-stayput-target are shown to clients and \
         targets.",
    )
    .or("false"),
    Key::new("timeouts", Kind::Table(TIMEOUTS), "How long a client may take.").or("{}"),
    Key::new("limits", Kind::Table(LIMITS), "How much a client may send.").or("{}"),
    Key::new(
        "redirect_to",
        Kind::Text(&forms::HTTPS),
        "Only rules that name this listener apply; all else is redirected to the same URL over \
         TLS, with 301 for GET and HEAD and 308 otherwise. A client that came over TLS, as a \
         trusted proxy says, would be sent to where it is: 508.",
    )
    .eg("\"https\""),
    Key::new("tls", Kind::Table(TLS), "Its presence makes it an HTTPS listener."),
];

static DEFAULT: &[Key] = &[
    Key::new("respond", Kind::Table(RESPOND), "A fixed answer.").eg("{ status = 404 }"),
    Key::new("redirect", Kind::Table(REDIRECT), "A redirect.")
        .eg("{ status = 301, scheme = \"https\" }"),
];

static TIMEOUTS: &[Key] = &[
    Key::new(
        "header_read",
        secs(1, 3_600),
        "From accept, or a request's first byte, to the end of its head.",
    )
    .or("\"15s\""),
    Key::new("idle", secs(1, 7 * DAY), "No byte either way.").or("\"60s\""),
    Key::new(
        "request",
        OR_NONE,
        "From the end of the head to the last byte of the request; 0s is no limit.",
    )
    .or("\"0s\""),
    Key::new("max_lifetime", OR_NONE, "After it the next answer ends the connection; 0s is never.")
        .or("\"1h\""),
];

static LIMITS: &[Key] = &[
    Key::new(
        "header_bytes",
        Kind::Size { zero: false, min: 8 << 10, max: 1 << 20 },
        "The head of a request.",
    )
    .or("\"64KiB\""),
    Key::new("headers", Kind::Integer(1, 1_000), "The header fields of a request.").or("100"),
    Key::new(
        "body_bytes",
        Kind::Size { zero: true, min: 1, max: 1 << 50 },
        "The body of a request; 0 is no limit.",
    )
    .or("\"0\""),
    Key::new("connections", Kind::Integer(1, 10_000_000), "Open client connections.").or("20000"),
    Key::new(
        "streams",
        Kind::Integer(1, 1_000),
        "Requests under way at once on one HTTP/2 connection (ALB: 128).",
    )
    .or("128"),
    Key::new(
        "connections_per_address",
        Kind::Integer(0, 10_000_000),
        "Of one client address; 0 is no limit.",
    )
    .or("0")
    .later(),
    Key::new(
        "requests_per_second",
        Kind::Integer(0, 10_000_000),
        "Of one client address; 0 is no limit.",
    )
    .or("0")
    .later(),
    Key::new(
        "min_body_rate",
        Kind::Size { zero: true, min: 1, max: 1 << 40 },
        "Bytes a second a request's body must come with; 0 is no limit.",
    )
    .or("\"0\"")
    .later(),
];

static TLS: &[Key] = &[
    Key::new(
        "certificates",
        Kind::List(&Kind::Table(CERTIFICATE)),
        "Chosen by the names inside; the first is the default.",
    )
    .required()
    .eg("[{ cert = \"shop.pem\", key = \"shop.key\" }]"),
    Key::new("min_version", Kind::Word(&[("1.2", true), ("1.3", true)]), "The oldest TLS spoken.")
        .or("\"1.2\""),
    Key::new(
        "alpn",
        Kind::List(&Kind::Word(&[("h2", true), ("http/1.1", true)])),
        "The protocols offered by ALPN, the preferred one first. Without `h2` nobody gets HTTP/2 \
         here.",
    )
    .or("[\"h2\", \"http/1.1\"]"),
    Key::new("client_auth", Kind::Table(CLIENT_AUTH), "Whether clients show a certificate.")
        .or("{}"),
    Key::new(
        "tls_headers",
        Kind::Bool,
        "Whether targets are told x-amzn-tls-version and x-amzn-tls-cipher-suite.",
    )
    .or("false"),
];

static CERTIFICATE: &[Key] = &[
    Key::new("cert", Kind::Text(&forms::FILE_PATH), "The chain, PEM.")
        .required()
        .eg("\"shop.pem\""),
    Key::new("key", Kind::Text(&forms::FILE_PATH), "The private key, PEM.")
        .required()
        .eg("\"shop.key\""),
];

static CLIENT_AUTH: &[Key] = &[
    Key::new(
        "mode",
        Kind::Word(&[("off", true), ("passthrough", true), ("verify", true)]),
        "What is asked of clients: nothing; a certificate that the target gets and nobody has \
         verified; or one that `ca` vouches for, else there is no connection.",
    )
    .or("\"off\""),
    Key::new("ca", Kind::Text(&forms::FILE_PATH), "Whose certificates are taken, PEM.")
        .eg("\"clients.pem\""),
];
