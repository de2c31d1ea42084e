//! `[runtime]`, `[affinity]`, `[admin]`, `[log]`: settings of the process.

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
        "Number of worker threads. Each has its own event loop, listener socket and upstream pool; \
         `auto` starts one per core.",
    )
    .or("\"auto\""),
    Key::new(
        "zone",
        Kind::Text(&forms::NAME),
        "Zone of this balancer. With `cross_zone = false` it uses only targets of this zone.",
    )
    .eg("\"a\""),
    Key::new(
        "drain_timeout",
        Kind::Duration(Span {
            zero: true,
            min: Duration::from_millis(1),
            max: Duration::from_secs(DAY),
        }),
        "How long requests in flight may take to finish after SIGTERM; then they are cut.",
    )
    .or("\"30s\""),
    Key::new(
        "pre_drain_delay",
        WAIT,
        "How long new connections are still accepted after SIGTERM, while readiness already \
         answers 503. For example, set it to the time your front balancer needs to notice.",
    )
    .or("\"0s\""),
    Key::new(
        "state_dir",
        Kind::Text(&forms::FILE_PATH),
        "Directory for the generated affinity key and the progress of drains.",
    )
    .derived(
        "`$STATE_DIRECTORY`, else `/var/lib/stayput` if writable, else \
         `$XDG_STATE_HOME/stayput` or `~/.local/state/stayput`",
    )
    .eg("\"/var/lib/stayput\""),
    Key::new(
        "memory_limit",
        Kind::Size { zero: true, min: 16 << 20, max: 1 << 50 },
        "Memory limit; 0 is no limit.",
    )
    .or("\"0\"")
    .later(),
];

pub(super) static AFFINITY: &[Key] = &[Key::new(
    "keys",
    Kind::List(&Kind::Table(AFFINITY_KEY)),
    "Affinity keys. The first key seals new tokens; all keys open tokens. To rotate keys, add \
         the new one last on every node, then move it first.",
)
.required()
.eg("[{ id = 2, file = \"affinity-2.key\" }, { id = 1, file = \"affinity-1.key\" }]")];

static AFFINITY_KEY: &[Key] = &[
    Key::new(
        "id",
        Kind::Integer(1, 127),
        "Number of the key, unique; every token names the key that sealed it.",
    )
    .required()
    .eg("2"),
    Key::new(
        "file",
        Kind::Text(&forms::FILE_PATH),
        "Key file of one line: base64 of at least 32 bytes. For example, `stayput keys new > \
         affinity-1.key` creates one.",
    )
    .required()
    .eg("\"affinity-2.key\""),
];

pub(super) static ADMIN: &[Key] = &[
    Key::new(
        "address",
        Kind::Text(&forms::ANY),
        "Address of the admin interface, or `unix:` and a path.",
    )
    .required()
    .eg("\"127.0.0.1:9191\""),
    Key::new(
        "token_file",
        Kind::Text(&forms::FILE_PATH),
        "File with the access token. Without it the admin interface is read-only; you must set it \
         if the address is not loopback.",
    )
    .eg("\"admin.token\""),
    Key::new(
        "probes",
        Kind::Text(&forms::SOCKET),
        "Address that serves only /livez, /readyz and, if `metrics` is on, /metrics.",
    )
    .eg("\"0.0.0.0:9192\""),
    Key::new("metrics", Kind::Bool, "Serve metrics.").or("true"),
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
        "Lowest level of messages that are written. For example, `warn` writes warnings and \
         errors.",
    )
    .or("\"info\""),
    Key::new("access", Kind::Table(ACCESS), "Access log, with one record per exchange.").or("{}"),
];

static ACCESS: &[Key] = &[
    Key::new(
        "to",
        Kind::Text(&forms::FILE_PATH),
        "Destination: `stdout`, `stderr`, `off`, or the path of a file.",
    )
    .or("\"stdout\""),
    Key::new(
        "format",
        Kind::Word(&[("json", true), ("alb", true), ("combined", true), ("short", true)]),
        "Format of a record: `json` is one JSON object, `alb` the line of an Application Load \
         Balancer, `combined` Apache's combined log format, `short` a short line for reading.",
    )
    .or("\"json\""),
];
