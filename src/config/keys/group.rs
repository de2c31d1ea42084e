//! `[target_group.NAME]`: where traffic goes, who keeps whom, and who is asked whether it serves.

use super::{DAY, HOUR, Key, Kind, SECOND, always, lasting, later, optional, word};

pub(super) const GROUP: &[Key] = &[
    Key::new("protocol", Kind::Word(&[word("http1"), later("http2"), later("grpc")]), "What targets speak.").default("\"http1\""),
    Key::new("tls", optional(TLS), "Its presence means HTTPS to targets.").not_yet(),
    Key::new(
        "algorithm",
        Kind::Word(&[
            word("round_robin"),
            later("least_outstanding_requests"),
            later("weighted_random"),
            later("least_sessions"),
        ]),
        "Who serves a client that has no pin.",
    )
    .default("\"round_robin\""),
    Key::new("anomaly_mitigation", Kind::Bool, "Goes with weighted_random.").default("false").not_yet(),
    Key::new("slow_start", lasting(0, 900 * SECOND), "How long a new target's share ramps up.").default("\"0s\"").not_yet(),
    Key::new("cross_zone", Kind::Bool, "False: only targets of `runtime.zone` serve.").default("true"),
    Key::new(
        "targets",
        Kind::List(&Kind::Either(&[Kind::Text, optional(TARGET)])),
        "The replicas: addresses, or tables. An address may be a host name with a port, which is asked for again and again.",
    )
    .example("[\"10.0.0.11:3000\", { id = \"s2\", address = \"10.0.0.12:3000\", weight = 2 }]"),
    Key::new(
        "deregistration_delay",
        lasting(0, HOUR),
        "How long a drained or removed target may finish. The clock of a drain survives a restart.",
    )
    .default("\"300s\""),
    Key::new(
        "draining_pins",
        Kind::Word(&[word("stay"), word("move")]),
        "Pinned clients of a draining target stay until its delay is over, or move at once as with ALB.",
    )
    .default("\"stay\""),
    Key::new("fail_open", Kind::Bool, "Too few are healthy: true uses all, as ALB; false answers 503.").default("true"),
    Key::new("minimum_healthy", always(MINIMUM_HEALTHY), "Fewer than either are too few."),
    Key::new(
        "max_in_flight_per_target",
        Kind::Integer { min: 0, max: 1_000_000 },
        "Over it a pinned request spills: it goes elsewhere once and the pin stays. 0 is no cap.",
    )
    .default("0"),
    Key::new("announce_successor", Kind::Bool, "The target is told who would take over.").default("false").not_yet(),
    Key::new("send_proxy", Kind::Word(&[word("off"), later("v1"), later("v2")]), "PROXY protocol towards targets.").default("\"off\""),
    Key::new("stickiness", always(STICKINESS), "What keeps a client on its target. On by default."),
    Key::new("health", always(HEALTH), "How targets are asked whether they serve. Defaults are ALB's."),
    Key::new("upstream", always(UPSTREAM), "Connections to targets."),
];

const TLS: &[Key] = &[
    Key::new("verify", Kind::Bool, "Whether the target's certificate is verified.").default("true"),
    Key::new("ca", Kind::Text, "Who may have signed it.").example("\"ca.pem\""),
    Key::new("server_name", Kind::Text, "The name in it.").example("\"app.internal\""),
];

const TARGET: &[Key] = &[
    Key::new("id", Kind::Text, "Unique in the group; pins follow it. Absent: the address.")
        .example("\"s2\""),
    Key::new("address", Kind::Text, "An address or host name, with its port.")
        .example("\"10.0.0.12:3000\""),
    Key::new(
        "weight",
        Kind::Integer { min: 0, max: 999 },
        "Its share of newcomers. 0 takes none; pinned clients stay.",
    )
    .default("1"),
    Key::new("zone", Kind::Name, "Where it stands.").example("\"b\""),
    Key::new("route", Kind::Name, "Its name in the application's own cookie.")
        .example("\"tomcat2\"")
        .not_yet(),
    Key::new("state", Kind::Word(&[word("active"), word("drain")]), "`drain`: no newcomers.")
        .default("\"active\""),
    Key::new(
        "expand",
        Kind::Bool,
        "Each address of the host name is a target of its own, `id/address`.",
    )
    .default("false"),
];

const MINIMUM_HEALTHY: &[Key] = &[
    Key::new("count", Kind::Integer { min: 1, max: 65_535 }, "So many targets.").default("1"),
    Key::new("percent", Kind::Integer { min: 0, max: 100 }, "So many of a hundred; 0 is off.")
        .default("0"),
];

const STICKINESS: &[Key] = &[
    Key::new("enabled", Kind::Bool, "Whether clients are kept.").default("true"),
    Key::new(
        "lb_cookie",
        optional(LB_COOKIE),
        "A cookie of the balancer's own. This is what holds when no kind is named; only one kind may be.",
    )
    .example("{ name = \"AWSALB\", duration = \"1d\" }"),
    Key::new("app_cookie", optional(APP_COOKIE), "Follows a cookie of the application.")
        .example("{ name = \"JSESSIONID\", companion = \"AWSALBAPP\", duration = \"1d\", adopt = true }")
        .not_yet(),
    Key::new("route", optional(ROUTE), "The application appends the target's route to its cookie.")
        .example("{ cookie = \"JSESSIONID\", separator = \".\" }")
        .not_yet(),
    Key::new("header", optional(HEADER), "Keyed on a header, for clients without cookies.")
        .example("{ name = \"x-session-id\" }")
        .not_yet(),
    Key::new(
        "refresh",
        Kind::Word(&[word("each_response"), word("half_life"), word("never")]),
        "When a pin is written again: with every response as ALB, when half its life is used, or not at all as the Classic ELB.",
    )
    .default("\"each_response\""),
    Key::new(
        "cors_twin",
        Kind::Word(&[word("secure"), word("always"), word("never")]),
        "The twin cookie (`AWSALBCORS`) for cross-site requests: when the client came over TLS, always as ALB, or never.",
    )
    .default("\"secure\""),
    Key::new(
        "secure",
        Kind::Word(&[word("auto"), word("always"), word("never")]),
        "`Secure`: when the client came over TLS or a trusted proxy says so, always, or never.",
    )
    .default("\"auto\""),
    Key::new("http_only", Kind::Bool, "`HttpOnly`: our one addition to ALB's form.").default("true"),
    Key::new(
        "same_site",
        Kind::Word(&[word("unset"), word("lax"), word("strict"), word("none")]),
        "`SameSite` of the main cookie; ALB sets none.",
    )
    .default("\"unset\""),
    Key::new("path", Kind::Text, "The cookie's Path.").default("\"/\""),
    Key::new("domain", Kind::Text, "The cookie's Domain. Absent: the host alone.").example("\"shop.example\""),
    Key::new("partitioned", Kind::Bool, "The cookie is `Partitioned`.").default("false"),
    Key::new("hide_from_target", Kind::Bool, "The target never sees the balancer's cookies.").default("false"),
    Key::new(
        "guard_cache",
        Kind::Bool,
        "Adds `no-cache=\"set-cookie\"` where a response says `public` or `s-maxage` and a cookie is added.",
    )
    .default("true"),
    Key::new(
        "on_unavailable",
        Kind::Word(&[word("move"), word("strict")]),
        "A client whose target cannot serve moves to its successor, or gets 503.",
    )
    .default("\"move\""),
];

const LB_COOKIE: &[Key] = &[
    Key::new("name", Kind::Text, "The cookie's name; its twin's is that and `CORS`.").default("\"AWSALB\""),
    Key::new(
        "duration",
        Kind::Duration { min: SECOND, max: 7 * DAY, words: &["session"] },
        "How long a pin lives without being used. `session`: as long as the browser runs, and at most 7 days.",
    )
    .default("\"1d\""),
];

const APP_COOKIE: &[Key] = &[
    Key::new("name", Kind::Text, "The application's cookie.").example("\"JSESSIONID\""),
    Key::new("companion", Kind::Text, "The balancer's beside it.").default("\"AWSALBAPP\""),
    Key::new("duration", lasting(SECOND, 7 * DAY), "How long a pin lives.").default("\"1d\""),
    Key::new("adopt", Kind::Bool, "Whether a cookie that came without a companion gets one.")
        .default("true"),
];

const ROUTE: &[Key] = &[
    Key::new("cookie", Kind::Text, "The application's cookie.").example("\"JSESSIONID\""),
    Key::new("separator", Kind::Text, "What stands before the route.").default("\".\""),
];

const HEADER: &[Key] = &[Key::new("name", Kind::Text, "The field.").example("\"x-session-id\"")];

const HEALTH: &[Key] = &[
    Key::new("protocol", Kind::Word(&[word("http"), later("https"), later("grpc"), word("tcp")]), "`tcp`: connecting is enough.")
        .default("\"http\""),
    Key::new("path", Kind::Text, "What is asked for, with its query.").default("\"/\""),
    Key::new(
        "port",
        Kind::Either(&[Kind::Word(&[word("traffic")]), Kind::Integer { min: 1, max: 65_535 }]),
        "The port asked: the one that serves, or another.",
    )
    .default("\"traffic\""),
    Key::new("interval", lasting(100, 300 * SECOND), "Time between two checks.").default("\"30s\""),
    Key::new("timeout", lasting(50, 120 * SECOND), "How long an answer may take. Absent: 5s, or the interval if that is shorter.")
        .example("\"5s\""),
    Key::new(
        "fast_interval",
        lasting(100, 300 * SECOND),
        "Time between two checks while a target is new, marked down by traffic, or changing its state.",
    )
    .default("\"1s\""),
    Key::new("healthy_threshold", Kind::Integer { min: 1, max: 10 }, "Passes in a row that bring a target back; the first makes a new one healthy.")
        .default("5"),
    Key::new("unhealthy_threshold", Kind::Integer { min: 1, max: 10 }, "Failures in a row that take it out.").default("2"),
    Key::new("matcher", Kind::Text, "Accepted codes: `200`, `200,202`, `200-299`.").default("\"200\""),
    Key::new("body", Kind::Text, "Text the answer must contain, within its first 64 KiB.").example("\"ok\""),
    Key::new("drain_on_404", Kind::Bool, "A 404 to a check drains the target.").default("false").not_yet(),
    Key::new("passive", always(PASSIVE), "What traffic itself tells."),
];

const PASSIVE: &[Key] = &[Key::new(
    "connect_failures",
    Kind::Integer { min: 0, max: 1_000 },
    "So many failed connections in a row, on any worker, take a target out; any answer clears them, and only checks bring it back. 0 is never.",
)
.default("3")];

const UPSTREAM: &[Key] = &[
    Key::new("timeouts", always(TIMEOUTS), "How long is waited for a target."),
    Key::new(
        "max_connections",
        Kind::Integer { min: 0, max: 1_000_000 },
        "Connections to one target from this process; requests wait for one as long as `connect` says, at most 1,024 of them. 0 is no bound.",
    )
    .default("0"),
    Key::new("retries", Kind::Integer { min: 0, max: 15 }, "How many other targets may be tried when one cannot be connected to.").default("1"),
];

const TIMEOUTS: &[Key] = &[
    Key::new("connect", lasting(1, 120 * SECOND), "Dial to ready; then the next target, else 504.")
        .default("\"5s\""),
    Key::new(
        "response",
        lasting(100, DAY),
        "From the last byte of the request to the head of the answer: 504.",
    )
    .default("\"60s\""),
    Key::new(
        "keep_alive",
        lasting(0, HOUR),
        "How long an idle connection is kept. Stay under the replica's own limit: Node's is 5s.",
    )
    .default("\"4s\""),
];
