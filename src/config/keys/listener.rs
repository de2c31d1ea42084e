//! `[listener.NAME]`: listening addresses and their settings.

use super::rule::{REDIRECT, RESPOND};
use super::{DAY, Key, Kind, Span, forms, secs};
use std::time::Duration;

/// A time-out, for which `0s` means none.
const OR_NONE: Kind = Kind::Duration(Span {
    zero: true,
    min: Duration::from_millis(100),
    max: Duration::from_secs(7 * DAY),
});

pub(super) static LISTENER: &[Key] = &[
    Key::new(
        "address",
        Kind::OneOrMany(&Kind::Text(&forms::SOCKET)),
        "Address and port to listen on. `[::]:80` is IPv6 only; list both for IPv4 and IPv6.",
    )
    .required()
    .eg("\"0.0.0.0:80\""),
    Key::new(
        "default",
        Kind::Either(&[Kind::Text(&forms::NAME), Kind::Table(DEFAULT)]),
        "Action for requests that no rule matches: a group, or a response.",
    )
    .derived("the only group, or 404 if there are several")
    .eg("\"app\""),
    Key::new(
        "allow_from",
        Kind::List(&Kind::Text(&forms::RANGE)),
        "Addresses that may connect; other connections are closed at once. With `proxy_protocol`, \
         the client address in the header is checked.",
    )
    .or("[\"0.0.0.0/0\", \"::/0\"]"),
    Key::new(
        "trusted_proxies",
        Kind::List(&Kind::Text(&forms::RANGE)),
        "Proxies whose X-Forwarded-* fields and PROXY headers you trust. For example, \
         `[\"10.0.1.0/24\"]` for the balancers in front.",
    )
    .or("[]"),
    Key::new(
        "x_forwarded_for",
        Kind::Word(&[("append", true), ("preserve", true), ("remove", true)]),
        "Add the client to X-Forwarded-For (`append`), leave the field as sent (`preserve`), or \
         remove it (`remove`).",
    )
    .or("\"append\""),
    Key::new(
        "proxy_protocol",
        Kind::Bool,
        "Require a PROXY header, of version 1 or 2, at the start of every connection. Then only \
         `trusted_proxies` may connect, and a connection without the header is closed.",
    )
    .or("false"),
    Key::new(
        "desync_mitigation",
        Kind::Word(&[("monitor", true), ("defensive", true), ("strictest", true)]),
        "How ambiguous requests, which servers could read in two ways (request smuggling), are \
         handled, as with ALB.",
    )
    .or("\"defensive\""),
    Key::new(
        "preserve_host",
        Kind::Bool,
        "Pass the client's Host to the target as sent. If false: in lower case, without its port \
         if the listener's port is 80 or 443; on another port, the listener's port is added if the \
         Host has none.",
    )
    .or("true"),
    Key::new(
        "drop_invalid_headers",
        Kind::Bool,
        "Drop header fields whose names contain characters other than letters, digits and `-`.",
    )
    .or("false"),
    Key::new(
        "client_port",
        Kind::Bool,
        "Append the client's port to its address in X-Forwarded-For.",
    )
    .or("false"),
    Key::new(
        "response_headers",
        Kind::Map(&forms::HEADER_NAME, &Kind::Text(&forms::HEADER_VALUE)),
        "Header fields set on every response, from targets and from the balancer; they replace a \
         target's own fields.",
    )
    .or("{}")
    .eg("{ strict-transport-security = \"max-age=31536000\", x-frame-options = \"DENY\" }"),
    Key::new(
        "server",
        Kind::Word(&[("pass", true), ("own", true), ("remove", true)]),
        "Server field of responses. `pass` keeps the target's, and the balancer's own responses \
         have none; `own` does the same, but the balancer's own responses say `stayput`; `remove` \
         removes it from all.",
    )
    .or("\"pass\""),
    Key::new(
        "debug_headers",
        Kind::Bool,
        "Show x-stayput-verdict and x-stayput-target to clients and targets.",
    )
    .or("false"),
    Key::new("timeouts", Kind::Table(TIMEOUTS), "Timeouts for clients.").or("{}"),
    Key::new("limits", Kind::Table(LIMITS), "Limits for clients.").or("{}"),
    Key::new(
        "redirect_to",
        Kind::Text(&forms::HTTPS),
        "Redirect requests to the same URL over TLS, with 301 for GET and HEAD and 308 otherwise. \
         Only rules that name this listener are tried before. A client that already used TLS, as a \
         trusted proxy says, gets 508, because the redirect would lead to the same URL. For \
         example, `\"https\"`, or `\"https:8443\"` for another port.",
    )
    .eg("\"https\""),
    Key::new("tls", Kind::Table(TLS), "TLS settings. Add this table to make the listener HTTPS."),
];

static DEFAULT: &[Key] = &[
    Key::new("respond", Kind::Table(RESPOND), "Fixed response.").eg("{ status = 404 }"),
    Key::new("redirect", Kind::Table(REDIRECT), "Redirect.")
        .eg("{ status = 301, scheme = \"https\" }"),
];

static TIMEOUTS: &[Key] = &[
    Key::new(
        "header_read",
        secs(1, 3_600),
        "Time from accept, or from the first byte of a request, to the end of its head.",
    )
    .or("\"15s\""),
    Key::new(
        "idle",
        secs(1, 7 * DAY),
        "Time without a byte in either direction, after which the connection is closed.",
    )
    .or("\"60s\""),
    Key::new(
        "request",
        OR_NONE,
        "Time from the end of the head to the last byte of the request; 0s is no limit.",
    )
    .or("\"0s\""),
    Key::new(
        "max_lifetime",
        OR_NONE,
        "Age after which a connection ends with its next response; 0s is no limit.",
    )
    .or("\"1h\""),
];

static LIMITS: &[Key] = &[
    Key::new(
        "header_bytes",
        Kind::Size { zero: false, min: 8 << 10, max: 1 << 20 },
        "Size of a request's head.",
    )
    .or("\"64KiB\""),
    Key::new("headers", Kind::Integer(1, 1_000), "Number of header fields of a request.").or("100"),
    Key::new(
        "body_bytes",
        Kind::Size { zero: true, min: 1, max: 1 << 50 },
        "Size of a request's body; 0 is no limit.",
    )
    .or("\"0\""),
    Key::new("connections", Kind::Integer(1, 10_000_000), "Number of open client connections.")
        .or("20000"),
    Key::new(
        "streams",
        Kind::Integer(1, 1_000),
        "Number of concurrent requests on one HTTP/2 connection (ALB: 128).",
    )
    .or("128"),
    Key::new(
        "connections_per_address",
        Kind::Integer(0, 10_000_000),
        "Limit per client address; 0 is no limit.",
    )
    .or("0")
    .later(),
    Key::new(
        "requests_per_second",
        Kind::Integer(0, 10_000_000),
        "Limit per client address; 0 is no limit.",
    )
    .or("0")
    .later(),
    Key::new(
        "min_body_rate",
        Kind::Size { zero: true, min: 1, max: 1 << 40 },
        "Minimum rate of a request's body in bytes per second; 0 is no limit.",
    )
    .or("\"0\"")
    .later(),
];

static TLS: &[Key] = &[
    Key::new(
        "certificates",
        Kind::List(&Kind::Table(CERTIFICATE)),
        "Certificates with their keys. The server name that a client sends (SNI) selects the \
         certificate by the names in it; the first is the default.",
    )
    .required()
    .eg("[{ cert = \"shop.pem\", key = \"shop.key\" }]"),
    Key::new(
        "min_version",
        Kind::Word(&[("1.2", true), ("1.3", true)]),
        "Oldest TLS version that is accepted.",
    )
    .or("\"1.2\""),
    Key::new(
        "alpn",
        Kind::List(&Kind::Word(&[("h2", true), ("http/1.1", true)])),
        "Protocols offered in ALPN, the preferred one first. Without `h2`, clients cannot use \
         HTTP/2.",
    )
    .or("[\"h2\", \"http/1.1\"]"),
    Key::new("client_auth", Kind::Table(CLIENT_AUTH), "Client certificates (mutual TLS).").or("{}"),
    Key::new(
        "tls_headers",
        Kind::Bool,
        "Send x-amzn-tls-version and x-amzn-tls-cipher-suite to targets.",
    )
    .or("false"),
];

static CERTIFICATE: &[Key] = &[
    Key::new("cert", Kind::Text(&forms::FILE_PATH), "PEM file of the certificate chain.")
        .required()
        .eg("\"shop.pem\""),
    Key::new("key", Kind::Text(&forms::FILE_PATH), "PEM file of the private key.")
        .required()
        .eg("\"shop.key\""),
];

static CLIENT_AUTH: &[Key] = &[
    Key::new(
        "mode",
        Kind::Word(&[("off", true), ("passthrough", true), ("verify", true)]),
        "`off` requests no client certificate; `passthrough` passes the client's certificate to \
         the target without verifying it; `verify` requires a certificate signed by `ca`, else the \
         handshake fails.",
    )
    .or("\"off\""),
    Key::new(
        "ca",
        Kind::Text(&forms::FILE_PATH),
        "PEM file of the CA certificates that sign client certificates, for `verify`.",
    )
    .eg("\"clients.pem\""),
];
