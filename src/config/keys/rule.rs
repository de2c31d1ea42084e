//! `[[rule]]`: which request goes where.

use super::{DAY, Key, Kind, forms, secs};

pub(super) static RULE: &[Key] = &[
    Key::new("name", Kind::Text(&forms::NAME), "Unique; stands in logs.")
        .derived("`rule-N`, counted from 1")
        .eg("\"storefront\""),
    Key::new("listeners", Kind::List(&Kind::Text(&forms::NAME)), "The listeners it holds for.")
        .derived("all")
        .eg("[\"web\"]"),
    Key::new(
        "hosts",
        Kind::List(&Kind::Text(&forms::HOST_PATTERN)),
        "Host names; `*` and `?` are wildcards.",
    )
    .or("[]")
    .eg("[\"shop.example\", \"*.shop.example\"]"),
    Key::new(
        "paths",
        Kind::List(&Kind::Text(&forms::PATH_PATTERN)),
        "Paths; `/img/*` does not match `/img`.",
    )
    .or("[]")
    .eg("[\"/img/*\"]"),
    Key::new("methods", Kind::List(&Kind::Text(&forms::ANY)), "Methods.")
        .or("[]")
        .eg("[\"GET\"]")
        .later(),
    Key::new(
        "headers",
        Kind::Map(&forms::HEADER_NAME, &Kind::List(&Kind::Text(&forms::ANY))),
        "Header fields and their values.",
    )
    .or("{}")
    .eg("{ \"x-beta\" = [\"yes\"] }")
    .later(),
    Key::new("query", Kind::List(&Kind::Table(QUERY)), "Pairs of the query.")
        .or("[]")
        .eg("[{ key = \"v\", value = \"2\" }]")
        .later(),
    Key::new("source_ips", Kind::List(&Kind::Text(&forms::RANGE)), "Client addresses.")
        .or("[]")
        .eg("[\"192.0.2.0/24\"]")
        .later(),
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
        "A redirect instead; its parts may hold ALB's `#{host}` and the like.",
    )
    .eg("{ status = 301, scheme = \"https\" }")
    .later(),
    Key::new("rewrite", Kind::Table(REWRITE), "What the target sees instead.")
        .eg("{ path = { regex = \"^/api/?(.*)$\", replace = \"/$1\" } }")
        .later(),
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
    Key::new("scheme", Kind::Text(&forms::ANY), "The scheme.").or("\"#{protocol}\""),
    Key::new("host", Kind::Text(&forms::ANY), "The host.").or("\"#{host}\""),
    Key::new("port", Kind::Text(&forms::ANY), "The port.").or("\"#{port}\""),
    Key::new("path", Kind::Text(&forms::ANY), "The path.").or("\"/#{path}\""),
    Key::new("query", Kind::Text(&forms::BODY), "The query.").or("\"#{query}\""),
];

static QUERY: &[Key] = &[
    Key::new("key", Kind::Text(&forms::ANY), "The key; absent: any.").eg("\"v\""),
    Key::new("value", Kind::Text(&forms::ANY), "The value.").required().eg("\"2\""),
];

static REWRITE: &[Key] = &[
    Key::new("path", Kind::Table(REPLACE), "The path.")
        .eg("{ regex = \"^/api/?(.*)$\", replace = \"/$1\" }"),
    Key::new("host", Kind::Table(REPLACE), "The host.")
        .eg("{ regex = \"^(.*)$\", replace = \"app.internal\" }"),
];

static REPLACE: &[Key] = &[
    Key::new("regex", Kind::Text(&forms::ANY), "What is replaced.")
        .required()
        .eg("\"^/api/?(.*)$\""),
    Key::new("replace", Kind::Text(&forms::BODY), "By what.").required().eg("\"/$1\""),
];

static GROUP_STICKINESS: &[Key] = &[
    Key::new("enabled", Kind::Bool, "Whether it is on.").or("true"),
    Key::new("duration", secs(1, 7 * DAY), "How long.").or("\"1h\""),
];
