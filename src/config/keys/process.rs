//! `[runtime]`, `[affinity]`, `[admin]`, `[log]`: the process itself.

use super::{DAY, HOUR, Key, Kind, Span, forms};
use std::time::Duration;

const WAIT: Kind = Kind::Duration(Span {
    zero: true,
    min: Duration::from_millis(1),
    max: Duration::from_secs(HOUR),
});

pub(super) static RUNTIME: &[Key] = &[
    Key::new(
        "workers",
        Kind::Either(&[Kind::Word(&[("auto", true)]), Kind::Integer(1, 1_024)]),
        "One event loop, listener socket and upstream pool each; `auto` is one per \
         core.",
    )
    .or("\"auto\""),
    Key::new("zone", Kind::Text(&forms::NAME), "Where this balancer stands.").eg("\"a\""),
    Key::new(
        "drain_timeout",
        Kind::Duration(Span {
            zero: true,
            min: Duration::from_millis(1),
            max: Duration::from_secs(DAY),
        }),
        "On SIGTERM: what is in flight may take so long to finish, then it is cut.",
    )
    .or("\"30s\""),
    Key::new(
        "pre_drain_delay",
        WAIT,
        "After SIGTERM connections are still accepted for so long, while readiness \
         already says 503.",
    )
    .or("\"0s\""),
    Key::new(
        "state_dir",
        Kind::Text(&forms::FILE_PATH),
        "Where the generated key and the progress of drains are kept.",
    )
    .derived(
        "`$STATE_DIRECTORY`, else `/var/lib/stayput` if writable, else \
         `$XDG_STATE_HOME/stayput` or `~/.local/state/stayput`",
    )
    .eg("\"/var/lib/stayput\""),
    Key::new(
        "memory_limit",
        Kind::Size { zero: true, min: 16 << 20, max: 1 << 50 },
        "The most memory; 0 is no limit.",
    )
    .or("\"0\"")
    .later(),
];

pub(super) static AFFINITY: &[Key] =
    &[Key::new("keys", Kind::List(&Kind::Table(AFFINITY_KEY)), "The first seals, all open.")
        .required()
        .eg("[{ id = 2, file = \"affinity-2.key\" }, { id = 1, file = \"affinity-1.key\" }]")];

static AFFINITY_KEY: &[Key] = &[
    Key::new("id", Kind::Integer(1, 127), "Stands in every token this key sealed; unique.")
        .required()
        .eg("2"),
    Key::new(
        "file",
        Kind::Text(&forms::FILE_PATH),
        "A file of one line: base64 of at least 32 bytes.",
    )
    .required()
    .eg("\"affinity-2.key\""),
];

pub(super) static ADMIN: &[Key] = &[
    Key::new(
        "address",
        Kind::Text(&forms::ANY),
        "Where the admin side listens, or `unix:` and a path.",
    )
    .required()
    .eg("\"127.0.0.1:9191\""),
    Key::new(
        "token_file",
        Kind::Text(&forms::FILE_PATH),
        "Without it the admin side is read-only; required on an address that is not loopback.",
    )
    .eg("\"admin.token\""),
    Key::new(
        "probes",
        Kind::Text(&forms::SOCKET),
        "Only /livez, /readyz and, if `metrics`, /metrics.",
    )
    .eg("\"0.0.0.0:9192\""),
    Key::new("metrics", Kind::Bool, "Whether metrics are shown.").or("true"),
];

pub(super) static LOG: &[Key] = &[
    Key::new(
        "level",
        Kind::Word(&[
            ("error", true),
            ("warn", true),
            ("info", true),
            ("debug", true),
            ("trace", true),
        ]),
        "The least severe level shown.",
    )
    .or("\"info\""),
    Key::new("access", Kind::Table(ACCESS), "The access log: one record per exchange.").or("{}"),
];

static ACCESS: &[Key] = &[
    Key::new("to", Kind::Text(&forms::FILE_PATH), "`stdout`, `stderr`, `off`, or a path.")
        .or("\"stdout\""),
    Key::new(
        "format",
        Kind::Word(&[("json", true), ("alb", true), ("combined", true), ("short", true)]),
        "How a record is written: one JSON object, Application Load Balancer's line, \
         Apache's combined log format, or a short line for eyes.",
    )
    .or("\"json\""),
];
