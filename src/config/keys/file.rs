//! The file as a whole: process, keys, log, rules.

use super::group::GROUP;
use super::listener::LISTENER;
use super::{DAY, HOUR, Key, Kind, always, lasting, later, optional, word};

/// Every table of the file.
pub(in super::super) const ROOT: &[Key] = &[
    Key::new("runtime", always(RUNTIME), "The process: its workers, its place, how it leaves."),
    Key::new(
        "affinity",
        optional(AFFINITY),
        "What seals the affinity cookies. Absent: a key is generated once and kept in `state_dir`, so that pins survive a restart; nodes that share clients need the same keys here.",
    ),
    Key::new("admin", optional(ADMIN), "The admin side. Absent: there is none.").not_yet(),
    Key::new("log", always(LOG), "What is written down."),
    Key::new("listener", Kind::Named(LISTENER), "Where traffic comes in, by name."),
    Key::new(
        "rule",
        Kind::Ordered(RULE),
        "Which traffic goes where. The first rule that matches wins; conditions are ANDed, the values in a list are ORed.",
    ),
    Key::new("target_group", Kind::Named(GROUP), "Where traffic goes, by name."),
];

const RUNTIME: &[Key] = &[
    Key::new(
        "workers",
        Kind::Either(&[Kind::Word(&[word("auto")]), Kind::Integer { min: 1, max: 1_024 }]),
        "One event loop, listener socket and upstream pool each; `auto` is one for every core.",
    )
    .default("\"auto\""),
    Key::new("zone", Kind::Name, "Where this balancer stands.").example("\"a\""),
    Key::new(
        "drain_timeout",
        lasting(0, HOUR),
        "On SIGTERM: what is in flight may finish for so long, then it is cut.",
    )
    .default("\"30s\""),
    Key::new(
        "pre_drain_delay",
        lasting(0, HOUR),
        "On SIGTERM: connections are still accepted for so long, until whoever sends them has noticed.",
    )
    .default("\"0s\""),
    Key::new(
        "state_dir",
        Kind::Text,
        "Where the generated key and the clocks of drains are kept. Absent: `$STATE_DIRECTORY`, else `/var/lib/stayput` if that can be written, else `$XDG_STATE_HOME/stayput` or `~/.local/state/stayput`.",
    )
    .example("\"/var/lib/stayput\""),
    Key::new("memory_limit", Kind::Size { min: 0, max: u64::MAX }, "Memory the process may use; 0 is no limit.")
        .default("\"0\"")
        .not_yet(),
];

const AFFINITY: &[Key] = &[Key::new(
    "keys",
    Kind::List(&optional(KEY)),
    "The first seals, all open. To rotate, each step finished on every node before the next: add the new key last, move it first, remove the old one after the longest duration.",
)
.example("[{ id = 2, file = \"affinity-2.key\" }, { id = 1, file = \"affinity-1.key\" }]")];

const KEY: &[Key] = &[
    Key::new("id", Kind::Integer { min: 1, max: 127 }, "Its number in a token.").example("1"),
    Key::new(
        "file",
        Kind::Text,
        "A file of one line: base64 of at least 32 bytes, as `stayput keys new` prints.",
    )
    .example("\"affinity-1.key\""),
];

const ADMIN: &[Key] = &[
    Key::new("address", Kind::Text, "An address, or `unix:` and a path.")
        .default("\"127.0.0.1:9191\""),
    Key::new("token_file", Kind::Text, "Without it the admin side is read-only.")
        .example("\"admin.token\""),
    Key::new("probes", Kind::Text, "Where only /livez, /readyz and /metrics are.")
        .example("\"0.0.0.0:9192\""),
    Key::new("metrics", Kind::Bool, "Whether /metrics is served.").default("true"),
];

const LOG: &[Key] = &[
    Key::new(
        "level",
        Kind::Word(&[word("error"), word("warn"), word("info"), word("debug"), word("trace")]),
        "The least severe line of the operator's log, which goes to standard error.",
    )
    .default("\"info\""),
    Key::new("access", always(ACCESS), "One record for each request."),
];

const ACCESS: &[Key] = &[
    Key::new("to", Kind::Text, "`stdout`, `stderr`, `off`, or the path of a file.")
        .default("\"stdout\""),
    Key::new(
        "format",
        Kind::Word(&[word("json"), later("alb"), later("combined"), word("short")]),
        "`json` carries every field; `short` is for eyes.",
    )
    .default("\"json\""),
];

pub(super) const RESPOND: &[Key] = &[
    Key::new("status", Kind::Integer { min: 200, max: 599 }, "A 2xx, 4xx or 5xx.").default("200"),
    Key::new(
        "content_type",
        Kind::Word(&[
            word("text/plain"),
            word("text/css"),
            word("text/html"),
            word("application/javascript"),
            word("application/json"),
        ]),
        "The Content-Type.",
    )
    .default("\"text/plain\""),
    Key::new("body", Kind::Text, "At most 1,024 characters.").default("\"\""),
];

pub(super) const REDIRECT: &[Key] = &[
    Key::new("status", Kind::Integer { min: 300, max: 308 }, "301, 302, 307 or 308.")
        .default("301"),
    Key::new("scheme", Kind::Text, "The URL's scheme.").default("\"#{protocol}\""),
    Key::new("host", Kind::Text, "The URL's host.").default("\"#{host}\""),
    Key::new("port", Kind::Text, "The URL's port.").default("\"#{port}\""),
    Key::new("path", Kind::Text, "The URL's path.").default("\"/#{path}\""),
    Key::new("query", Kind::Text, "The URL's query.").default("\"#{query}\""),
];

const RULE: &[Key] = &[
    Key::new("name", Kind::Name, "Unique; shown in logs. Absent: its place, `rule-1` the first.").example("\"storefront\""),
    Key::new("listeners", Kind::List(&Kind::Name), "The listeners it holds for. Absent: all.").example("[\"web\"]"),
    Key::new(
        "hosts",
        Kind::List(&Kind::Text),
        "Letters' case does not count; `*` is any number of characters, `?` exactly one. `*.shop.example` does not match `shop.example`.",
    )
    .example("[\"shop.example\", \"*.shop.example\"]"),
    Key::new("paths", Kind::List(&Kind::Text), "Letters' case counts; the query is not looked at. `/img/*` does not match `/img`.")
        .example("[\"/img/*\"]"),
    Key::new("methods", Kind::List(&Kind::Text), "Exact, in capitals.").example("[\"GET\"]").not_yet(),
    Key::new("headers", Kind::Map(&Kind::List(&Kind::Text)), "Values by field name.").example("{ x-beta = [\"yes\"] }").not_yet(),
    Key::new("query", Kind::List(&optional(QUERY)), "Pairs of the query.").example("[{ key = \"v\", value = \"2\" }]").not_yet(),
    Key::new("source_ips", Kind::List(&Kind::Text), "Ranges of client addresses.").example("[\"192.0.2.0/24\"]").not_yet(),
    Key::new(
        "forward",
        Kind::Either(&[Kind::Name, Kind::Map(&optional(SHARE))]),
        "The group it goes to. Several groups with weights are not supported yet.",
    )
    .example("\"app\""),
    Key::new("group_stickiness", optional(GROUP_STICKINESS), "Keeps a client in its group of a weighted rule.").not_yet(),
    Key::new("failover", Kind::Bool, "A group with no usable target hands its share to the others.").default("false").not_yet(),
    Key::new("redirect", optional(REDIRECT), "Answers with another place.").not_yet(),
    Key::new("respond", optional(RESPOND), "Answers here.").example("{ status = 404, body = \"no such site\\n\" }"),
    Key::new("rewrite", optional(REWRITE), "Rewrites what the target sees.").not_yet(),
];

const QUERY: &[Key] = &[
    Key::new("key", Kind::Text, "Its name.").example("\"v\""),
    Key::new("value", Kind::Text, "Its value.").example("\"2\""),
];

const SHARE: &[Key] =
    &[Key::new("weight", Kind::Integer { min: 0, max: 999 }, "Its share.").default("1")];

const GROUP_STICKINESS: &[Key] = &[
    Key::new("enabled", Kind::Bool, "Whether it holds.").default("true"),
    Key::new("duration", lasting(1_000, 7 * DAY), "How long.").default("\"1h\""),
];

const REWRITE: &[Key] = &[
    Key::new("path", optional(REGEX), "Path and query.")
        .example("{ regex = \"^/api/?(.*)$\", replace = \"/$1\" }"),
    Key::new("host", optional(REGEX), "The host.")
        .example("{ regex = \"^a\\\\.\", replace = \"b.\" }"),
];

const REGEX: &[Key] = &[
    Key::new("regex", Kind::Text, "What is looked for.").example("\"^/api/?(.*)$\""),
    Key::new("replace", Kind::Text, "What stands in its place.").example("\"/$1\""),
];
