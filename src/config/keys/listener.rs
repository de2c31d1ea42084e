//! `[listener.NAME]`: where traffic comes in.

use super::file::{REDIRECT, RESPOND};
use super::{DAY, HOUR, Key, Kind, always, lasting, optional, word};

pub(super) const LISTENER: &[Key] = &[
    Key::new(
        "address",
        Kind::Either(&[Kind::Text, Kind::List(&Kind::Text)]),
        "An address with its port, or a list of them. `[::]:80` is IPv6 only.",
    )
    .example("\"0.0.0.0:80\""),
    Key::new(
        "default",
        Kind::Either(&[Kind::Name, optional(DEFAULT)]),
        "What no rule took: a group, or `{ respond = {...} }`. Absent: the only group there is; with several groups, 404.",
    )
    .example("\"app\""),
    Key::new(
        "allow_from",
        Kind::List(&Kind::Text),
        "Others are closed at accept: the balancer's security group.",
    )
    .default("[\"0.0.0.0/0\", \"::/0\"]"),
    Key::new(
        "trusted_proxies",
        Kind::List(&Kind::Text),
        "Whose X-Forwarded-* fields are believed. Nobody's, as long as nobody is named.",
    )
    .default("[]"),
    Key::new(
        "x_forwarded_for",
        Kind::Word(&[word("append"), word("preserve"), word("remove")]),
        "What becomes of X-Forwarded-For on its way to the target.",
    )
    .default("\"append\""),
    Key::new("proxy_protocol", Kind::Bool, "Whether peers speak the PROXY protocol first.").default("false").not_yet(),
    Key::new(
        "desync_mitigation",
        Kind::Word(&[word("monitor"), word("defensive"), word("strictest")]),
        "How strictly ambiguous requests are judged.",
    )
    .default("\"defensive\"")
    .not_yet(),
    Key::new("preserve_host", Kind::Bool, "Whether the target sees the Host the client named.").default("true").not_yet(),
    Key::new("drop_invalid_headers", Kind::Bool, "Whether names outside `[-A-Za-z0-9]` are dropped.").default("false").not_yet(),
    Key::new("client_port", Kind::Bool, "X-Forwarded-For with ports.").default("false").not_yet(),
    Key::new(
        "debug_headers",
        Kind::Bool,
        "`x-stayput-verdict` and `x-stayput-target` on the answer and towards the target. They tell a client which replica serves it.",
    )
    .default("false"),
    Key::new("timeouts", always(TIMEOUTS), "How long is waited for a client. Deadlines may fire late by 250 ms, never early."),
    Key::new("limits", always(LIMITS), "How much is taken from a client."),
    Key::new("redirect_to", Kind::Text, "Everything but the rules that name this listener is redirected.").example("\"https\"").not_yet(),
    Key::new("tls", optional(TLS), "Its presence makes it an HTTPS listener.").not_yet(),
];

const DEFAULT: &[Key] = &[
    Key::new("respond", optional(RESPOND), "Answers here.").example("{ status = 404 }"),
    Key::new("redirect", optional(REDIRECT), "Answers with another place.").not_yet(),
];

const TIMEOUTS: &[Key] = &[
    Key::new(
        "header_read",
        lasting(100, HOUR),
        "From accept, or the first byte of a request, to the end of its head: 408 if a byte came, else a silent close.",
    )
    .default("\"15s\""),
    Key::new(
        "idle",
        lasting(100, HOUR),
        "No byte either way: between requests a close, while a body is awaited 408, inside an answer or a tunnel a cut (ALB's idle time-out).",
    )
    .default("\"60s\""),
    Key::new(
        "request",
        lasting(0, DAY),
        "From the end of the head to the last byte of the body: 408. 0 is no limit. It never limits an answer.",
    )
    .default("\"0s\""),
    Key::new(
        "max_lifetime",
        lasting(0, 7 * DAY),
        "After it the next answer ends the connection (ALB's client keep-alive). 0 is no limit.",
    )
    .default("\"1h\""),
];

const LIMITS: &[Key] = &[
    Key::new(
        "header_bytes",
        Kind::Size { min: 8_192, max: 1 << 20 },
        "A request's head: 431 beyond.",
    )
    .default("\"64KiB\""),
    Key::new("headers", Kind::Integer { min: 1, max: 1_000 }, "A request's fields: 431 beyond.")
        .default("100"),
    Key::new(
        "body_bytes",
        Kind::Size { min: 0, max: u64::MAX },
        "A request's body: 413 beyond. 0 is no limit.",
    )
    .default("\"0\""),
    Key::new(
        "connections",
        Kind::Integer { min: 1, max: 10_000_000 },
        "Open connections of this listener; more are closed at accept.",
    )
    .default("20000"),
    Key::new(
        "connections_per_address",
        Kind::Integer { min: 0, max: 1_000_000 },
        "Open connections of one address; 0 is no limit.",
    )
    .default("0")
    .not_yet(),
    Key::new(
        "requests_per_second",
        Kind::Integer { min: 0, max: 1_000_000 },
        "Requests of one address; 0 is no limit.",
    )
    .default("0")
    .not_yet(),
    Key::new(
        "min_body_rate",
        Kind::Size { min: 0, max: 1 << 40 },
        "Bytes a second a body must come with; 0 is no bound.",
    )
    .default("\"0\"")
    .not_yet(),
];

const TLS: &[Key] = &[
    Key::new(
        "certificates",
        Kind::List(&optional(CERTIFICATE)),
        "Chosen by the names inside; the first is the default.",
    )
    .example("[{ cert = \"shop.pem\", key = \"shop.key\" }]"),
    Key::new("min_version", Kind::Word(&[word("1.2"), word("1.3")]), "The oldest TLS spoken.")
        .default("\"1.2\""),
    Key::new("alpn", Kind::List(&Kind::Text), "The protocols offered.")
        .default("[\"h2\", \"http/1.1\"]"),
    Key::new("client_auth", optional(CLIENT_AUTH), "Whether clients show a certificate.")
        .example("{ mode = \"verify\", ca = \"clients.pem\" }"),
];

const CERTIFICATE: &[Key] = &[
    Key::new("cert", Kind::Text, "The chain, PEM.").example("\"shop.pem\""),
    Key::new("key", Kind::Text, "Its key, PEM.").example("\"shop.key\""),
];

const CLIENT_AUTH: &[Key] = &[
    Key::new(
        "mode",
        Kind::Word(&[word("off"), word("passthrough"), word("verify")]),
        "What is asked of them.",
    )
    .default("\"off\""),
    Key::new("ca", Kind::Text, "Who may have signed it.").example("\"clients.pem\""),
];
