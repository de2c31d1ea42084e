//! `[[rule]]`: which request goes where.

use super::{DAY, Key, Kind, forms, secs};

pub(super) static RULE: &[Key] = &[
    Key::new("name", Kind::Text(&forms::NAME), "Unique; stands in logs.")
        .derived("`rule-N`, counted from 1")
        .eg("\"storefront\""),
    Key::new("listeners", Kind::List(&Kind::Text(&forms::NAME)), "The listeners it holds for.")
        .derived("all but those with `redirect_to`")
        .eg("[\"web\"]"),
    Key::new(
        "hosts",
        Kind::List(&Kind::Text(&forms::HOST_PATTERN)),
        "Host names, without the port; `*` stands for any number of characters, `?` for one. \
         Letters' case does not count.",
    )
    .or("[]")
    .eg("[\"shop.example\", \"*.shop.example\"]"),
    Key::new(
        "paths",
        Kind::List(&Kind::Text(&forms::PATH_PATTERN)),
        "Paths as they are sent, not decoded and never the query, with the same wildcards; \
         letters' case counts. `/img/*` does not match `/img`.",
    )
    .or("[]")
    .eg("[\"/img/*\"]"),
    Key::new(
        "methods",
        Kind::List(&Kind::Text(&forms::METHOD)),
        "Methods, to the letter and without wildcards.",
    )
    .or("[]")
    .eg("[\"GET\"]"),
    Key::new(
        "headers",
        Kind::Map(&forms::RULE_FIELD, &Kind::OneOrMany(&Kind::Text(&forms::FIELD_PATTERN))),
        "Header fields and their values, with wildcards in the values; letters' case does not \
         count. Every field must be there; the lines of one that is sent twice are tried in order \
         until one matches.",
    )
    .or("{}")
    .eg("{ \"x-beta\" = [\"yes\"] }"),
    Key::new(
        "query",
        Kind::List(&Kind::Table(QUERY)),
        "Pairs of the query, of which one must be there, compared as they are sent, not decoded; \
         letters' case does not count. Of a request's query, the first 1000 pairs are looked at.",
    )
    .or("[]")
    .eg("[{ key = \"v\", value = \"2\" }]"),
    Key::new(
        "source_ips",
        Kind::List(&Kind::Text(&forms::RANGE)),
        "Client addresses, as `trusted_proxies` make them: behind a trusted proxy the client that \
         X-Forwarded-For names, where ALB judges whoever connected.",
    )
    .or("[]")
    .eg("[\"192.0.2.0/24\"]"),
    Key::new(
        "forward",
        Kind::Either(&[Kind::Text(&forms::NAME), Kind::Named(SHARE)]),
        "The group it goes to, or several with their shares of newcomers; weight 0 takes none, and \
         keeps those it has.",
    )
    .eg("{ stable = { weight = 90 }, canary = { weight = 10 } }"),
    Key::new("respond", Kind::Table(RESPOND), "A fixed answer instead.")
        .eg("{ status = 503, body = \"back soon\" }"),
    Key::new(
        "redirect",
        Kind::Table(REDIRECT),
        "A redirect instead; its parts may hold ALB's `#{host}` and the like. One to the \
         request's own URL is answered 508, a URL over 8 KiB 507.",
    )
    .eg("{ status = 301, scheme = \"https\" }"),
    Key::new(
        "rewrite",
        Kind::Table(REWRITE),
        "What the target sees instead of path and host, with `forward`. The rule matches what the \
         client sent, and the access log keeps it. A result that is no path or no host, and a \
         path with its query over 16 KiB, are answered 500.",
    )
    .eg("{ path = { regex = \"^/api/?(.*)$\", replace = \"/$1\" } }"),
    Key::new(
        "group_stickiness",
        Kind::Table(GROUP_STICKINESS),
        "Keeps a client with its group (`AWSALBTG`; written like the cookie of the first sticky \
         group). The rule then needs a name. Absent: on where several groups are named and one of \
         them is sticky.",
    )
    .eg("{ enabled = true, duration = \"1h\" }"),
    Key::new(
        "failover",
        Kind::Bool,
        "Whether a group with no usable target hands its share to the others, as ALB never does. A \
         group that fails open is not usable here as long as another one is. Pins to a group stay.",
    )
    .or("false"),
    Key::new(
        "failback",
        Kind::Word(&[("return", true), ("stay", true)]),
        "What becomes of a client that `failover` sent to another group, when its own serves \
         again. `return`: it is back, once (`failed_back`). `stay`: its pin went with it.",
    )
    .or("\"return\""),
];

static SHARE: &[Key] = &[Key::new("weight", Kind::Integer(0, 999), "Its share.").or("1")];

pub(super) static RESPOND: &[Key] = &[
    Key::new("status", Kind::Integer(200, 599), "A 2xx, 4xx or 5xx status.").required().eg("503"),
    Key::new("content_type", Kind::Text(&forms::CONTENT_TYPE), "The type of the body.")
        .or("\"text/plain\""),
    Key::new("body", Kind::Text(&forms::BODY), "The body.").or("\"\""),
];

pub(super) static REDIRECT: &[Key] = &[
    Key::new("status", Kind::Integer(301, 308), "301, 302, 303, 307 or 308.").required().eg("301"),
    Key::new(
        "scheme",
        Kind::Word(&[("http", true), ("https", true), ("#{protocol}", true)]),
        "The scheme; `#{protocol}` is the request's, or what a trusted proxy's X-Forwarded-Proto \
         says.",
    )
    .or("\"#{protocol}\""),
    Key::new("host", Kind::Text(&forms::REDIRECT_HOST), "The host.").or("\"#{host}\""),
    Key::new(
        "port",
        Kind::Either(&[Kind::Text(&forms::REDIRECT_PORT), Kind::Integer(1, 65_535)]),
        "The port, spelled where it is not the scheme's default; ALB always spells it. \
         `#{port}` is the one the client spelled; where it spelled none, none.",
    )
    .or("\"#{port}\""),
    Key::new(
        "path",
        Kind::Text(&forms::REDIRECT_PATH),
        "The path; `#{path}` is the request's without its first `/`.",
    )
    .or("\"/#{path}\""),
    Key::new(
        "query",
        Kind::Text(&forms::REDIRECT_QUERY),
        "The query; `#{query}` is the request's without its `?`.",
    )
    .or("\"#{query}\""),
];

static QUERY: &[Key] = &[
    Key::new("key", Kind::Text(&forms::QUERY_PATTERN), "The key; absent: any.").eg("\"v\""),
    Key::new(
        "value",
        Kind::Text(&forms::QUERY_PATTERN),
        "The value; a key that is sent without `=` has an empty one, which `*` matches.",
    )
    .required()
    .eg("\"2\""),
];

static REWRITE: &[Key] = &[
    Key::new("path", Kind::Table(REPLACE), "The path with its query.")
        .eg("{ regex = \"^/api/?(.*)$\", replace = \"/$1\" }"),
    Key::new(
        "host",
        Kind::Table(REPLACE),
        "The host, in any case. The client's port stays, unless the replacement brings one.",
    )
    .eg("{ regex = \"^(.*)$\", replace = \"app.internal\" }"),
];

static REPLACE: &[Key] = &[
    Key::new(
        "regex",
        Kind::Text(&forms::REGEX),
        "What is replaced, at its first match. As with ALB there are no look-arounds, no \
         backreferences and no `\\p{...}`. Compiled it may take 64 KiB.",
    )
    .required()
    .eg("\"^/api/?(.*)$\""),
    Key::new(
        "replace",
        Kind::Text(&forms::REPLACEMENT),
        "By what; `$1` or `${1}` is the first group, `$$` a dollar.",
    )
    .required()
    .eg("\"/$1\""),
];

static GROUP_STICKINESS: &[Key] = &[
    Key::new("enabled", Kind::Bool, "Whether it is on.").or("true"),
    Key::new("duration", secs(1, 7 * DAY), "How long.").or("\"1h\""),
];
