//! `[[rule]]`: conditions on requests, and actions.

use super::{DAY, Key, Kind, forms, secs};

pub(super) static RULE: &[Key] = &[
    Key::new(
        "name",
        Kind::Text(&forms::NAME),
        "Name of the rule, unique; it is written to logs. Required with `group_stickiness`.",
    )
    .derived("`rule-N`, counted from 1")
    .eg("\"storefront\""),
    Key::new(
        "listeners",
        Kind::List(&Kind::Text(&forms::NAME)),
        "Listeners that the rule applies to.",
    )
    .derived("all but those with `redirect_to`")
    .eg("[\"web\"]"),
    Key::new(
        "hosts",
        Kind::List(&Kind::Text(&forms::HOST_PATTERN)),
        "Host names without port; `*` matches any number of characters, `?` one. Case does not \
         matter. For example, `*.shop.example` matches `www.shop.example`, but not \
         `shop.example`.",
    )
    .or("[]")
    .eg("[\"shop.example\", \"*.shop.example\"]"),
    Key::new(
        "paths",
        Kind::List(&Kind::Text(&forms::PATH_PATTERN)),
        "Paths as sent, not decoded and without the query, with the same wildcards. Case matters. \
         For example, `/img/*` matches `/img/a.png`, but not `/img`.",
    )
    .or("[]")
    .eg("[\"/img/*\"]"),
    Key::new(
        "methods",
        Kind::List(&Kind::Text(&forms::METHOD)),
        "Methods, compared exactly, without wildcards.",
    )
    .or("[]")
    .eg("[\"GET\"]"),
    Key::new(
        "headers",
        Kind::Map(&forms::RULE_FIELD, &Kind::OneOrMany(&Kind::Text(&forms::FIELD_PATTERN))),
        "Header fields and their values, with wildcards in the values; case does not matter. Every \
         field must be present; if a field is sent several times, its lines are tried in order \
         until one matches.",
    )
    .or("{}")
    .eg("{ \"x-beta\" = [\"yes\"] }"),
    Key::new(
        "query",
        Kind::List(&Kind::Table(QUERY)),
        "Query pairs, of which one must be present, compared as sent, not decoded; case does not \
         matter. The first 1000 pairs of a request's query are compared.",
    )
    .or("[]")
    .eg("[{ key = \"v\", value = \"2\" }]"),
    Key::new(
        "source_ips",
        Kind::List(&Kind::Text(&forms::RANGE)),
        "Client addresses. Behind a trusted proxy this is the client in X-Forwarded-For; ALB uses \
         the address of the connection.",
    )
    .or("[]")
    .eg("[\"192.0.2.0/24\"]"),
    Key::new(
        "forward",
        Kind::Either(&[Kind::Text(&forms::NAME), Kind::Named(SHARE)]),
        "Group that serves the request, or several groups with weights for new clients. A group \
         with weight 0 gets no new clients and keeps those it has. For example, `{ stable = { \
         weight = 90 }, canary = { weight = 10 } }`.",
    )
    .eg("{ stable = { weight = 90 }, canary = { weight = 10 } }"),
    Key::new("respond", Kind::Table(RESPOND), "Fixed response in place of `forward`.")
        .eg("{ status = 503, body = \"back soon\" }"),
    Key::new(
        "redirect",
        Kind::Table(REDIRECT),
        "Redirect in place of `forward`; its parts may contain ALB's variables such as `#{host}`. \
         A redirect to the request's own URL is answered 508, a URL over 8 KiB 507.",
    )
    .eg("{ status = 301, scheme = \"https\" }"),
    Key::new(
        "rewrite",
        Kind::Table(REWRITE),
        "Rewrite of the path and host that the target gets, with `forward`. Rules match, and the \
         access log shows, what the client sent. A result that is not a valid path or host, or a \
         path with query over 16 KiB, is answered 500.",
    )
    .eg("{ path = { regex = \"^/api/?(.*)$\", replace = \"/$1\" } }"),
    Key::new(
        "group_stickiness",
        Kind::Table(GROUP_STICKINESS),
        "Keep a client on its group, with the cookie `AWSALBTG`, which has the attributes of the \
         first sticky group's cookie. The rule then needs a `name`. If you leave this table out, \
         it is on where several groups are named and one of them is sticky.",
    )
    .eg("{ enabled = true, duration = \"1h\" }"),
    Key::new(
        "failover",
        Kind::Bool,
        "Send clients of a group without usable targets to the other groups; ALB never does. A \
         group that fails open counts as not usable while another group is usable. Pins to a group \
         stay.",
    )
    .or("false"),
    Key::new(
        "failback",
        Kind::Word(&[("return", true), ("stay", true)]),
        "What happens when the own group of a client that `failover` moved serves again. `return`: \
         the client goes back, once (`failed_back`). `stay`: its pin has moved with it.",
    )
    .or("\"return\""),
];

static SHARE: &[Key] =
    &[Key::new("weight", Kind::Integer(0, 999), "Weight among the groups of the rule.").or("1")];

pub(super) static RESPOND: &[Key] = &[
    Key::new("status", Kind::Integer(200, 599), "Status, 2xx, 4xx or 5xx.").required().eg("503"),
    Key::new("content_type", Kind::Text(&forms::CONTENT_TYPE), "Content-Type of the body.")
        .or("\"text/plain\""),
    Key::new("body", Kind::Text(&forms::BODY), "Body of the response.").or("\"\""),
];

pub(super) static REDIRECT: &[Key] = &[
    Key::new("status", Kind::Integer(301, 308), "Status: 301, 302, 303, 307 or 308.")
        .required()
        .eg("301"),
    Key::new(
        "scheme",
        Kind::Word(&[("http", true), ("https", true), ("#{protocol}", true)]),
        "Scheme of the new URL; `#{protocol}` is the scheme of the request, or of \
         X-Forwarded-Proto from a trusted proxy.",
    )
    .or("\"#{protocol}\""),
    Key::new("host", Kind::Text(&forms::REDIRECT_HOST), "Host of the new URL.").or("\"#{host}\""),
    Key::new(
        "port",
        Kind::Either(&[Kind::Text(&forms::REDIRECT_PORT), Kind::Integer(1, 65_535)]),
        "Port of the new URL, left out if it is the scheme's default (ALB always writes it). \
         `#{port}` is the port that the client wrote, or none.",
    )
    .or("\"#{port}\""),
    Key::new(
        "path",
        Kind::Text(&forms::REDIRECT_PATH),
        "Path of the new URL; `#{path}` is the request's path without its first `/`.",
    )
    .or("\"/#{path}\""),
    Key::new(
        "query",
        Kind::Text(&forms::REDIRECT_QUERY),
        "Query of the new URL; `#{query}` is the request's query without its `?`.",
    )
    .or("\"#{query}\""),
];

static QUERY: &[Key] = &[
    Key::new(
        "key",
        Kind::Text(&forms::QUERY_PATTERN),
        "Key of the pair; any key if you leave it out.",
    )
    .eg("\"v\""),
    Key::new(
        "value",
        Kind::Text(&forms::QUERY_PATTERN),
        "Value of the pair; a key sent without `=` has an empty value, which `*` matches.",
    )
    .required()
    .eg("\"2\""),
];

static REWRITE: &[Key] = &[
    Key::new(
        "path",
        Kind::Table(REPLACE),
        "Rewrite of the path with its query. For example, `{ regex = \"^/api/?(.*)$\", replace = \
         \"/$1\" }` rewrites `/api/cart` to `/cart`.",
    )
    .eg("{ regex = \"^/api/?(.*)$\", replace = \"/$1\" }"),
    Key::new(
        "host",
        Kind::Table(REPLACE),
        "Rewrite of the host, matched case-insensitively. The client's port stays, unless the \
         replacement has one.",
    )
    .eg("{ regex = \"^(.*)$\", replace = \"app.internal\" }"),
];

static REPLACE: &[Key] = &[
    Key::new(
        "regex",
        Kind::Text(&forms::REGEX),
        "Regular expression; its first match is replaced. As with ALB, there are no look-arounds, \
         no backreferences and no `\\p{...}`. The compiled expression may take 64 KiB.",
    )
    .required()
    .eg("\"^/api/?(.*)$\""),
    Key::new(
        "replace",
        Kind::Text(&forms::REPLACEMENT),
        "Replacement; `$1` or `${1}` is the first group, `$$` a dollar sign.",
    )
    .required()
    .eg("\"/$1\""),
];

static GROUP_STICKINESS: &[Key] = &[
    Key::new("enabled", Kind::Bool, "Turn group stickiness on.").or("true"),
    Key::new(
        "duration",
        secs(1, 7 * DAY),
        "How long a client keeps its group, counted from its last response.",
    )
    .or("\"1h\""),
];
