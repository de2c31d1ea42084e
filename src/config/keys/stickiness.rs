//! `[target_group.NAME.stickiness]`: settings that keep a client on its target.

use super::{DAY, Key, Kind, forms, secs};

const LIFETIME: Kind = secs(1, 7 * DAY);

pub(super) static STICKINESS: &[Key] = &[
    Key::new("enabled", Kind::Bool, "Turn stickiness on.").or("true"),
    Key::new(
        "lb_cookie",
        Kind::Table(LB_COOKIE),
        "Stickiness by a cookie that the balancer sets. Set exactly one of `lb_cookie`, \
         `app_cookie`, `route` and `header`.",
    )
    .or("{}"),
    Key::new(
        "app_cookie",
        Kind::Table(APP_COOKIE),
        "Stickiness by a cookie that the balancer sets beside the application's cookie, when a \
         response sets that one. A client without the application's cookie is not sticky.",
    )
    .eg("{ name = \"JSESSIONID\" }"),
    Key::new(
        "route",
        Kind::Table(ROUTE),
        "Stickiness by the target's `route` at the end of the application's cookie, as with \
         Tomcat's jvmRoute. Without the cookie, the path parameter with the cookie's name in any \
         case, such as `;jsessionid=`, is read. Nothing is stored. A client can choose its target, \
         so set `max_in_flight_per_target`.",
    )
    .eg("{ cookie = \"JSESSIONID\", separator = \".\" }"),
    Key::new(
        "header",
        Kind::Table(HEADER),
        "Stickiness by a header field, for clients without cookies: equal values go to the same \
         target. Nothing is stored. A client can choose its target, so set \
         `max_in_flight_per_target`.",
    )
    .eg("{ name = \"x-session-id\" }"),
    Key::new(
        "refresh",
        Kind::Word(&[("each_response", true), ("half_life", true), ("never", true)]),
        "When a valid pin is written again: with `each_response`, as ALB does; after `half_life` \
         of its duration; or `never`, as the Classic ELB.",
    )
    .or("\"each_response\""),
    Key::new(
        "cors_twin",
        Kind::Word(&[("secure", true), ("always", true), ("never", true)]),
        "When the CORS twin is written, a second cookie with SameSite=None that is always Secure: \
         `secure` over TLS; `always`, as ALB does; `never`.",
    )
    .or("\"secure\""),
    Key::new(
        "secure",
        Kind::Word(&[("auto", true), ("always", true), ("never", true)]),
        "Secure attribute of the cookie. `auto` sets it if no client can reach a group with a \
         cookie of this name over plain HTTP, redirects apart; `stayput check` prints the result.",
    )
    .or("\"auto\""),
    Key::new(
        "http_only",
        Kind::Bool,
        "HttpOnly attribute of the cookie: scripts cannot read it. ALB does not set it.",
    )
    .or("true"),
    Key::new(
        "same_site",
        Kind::Word(&[("unset", true), ("lax", true), ("strict", true), ("none", true)]),
        "SameSite attribute of the cookie; `unset` as with ALB.",
    )
    .or("\"unset\""),
    Key::new("path", Kind::Text(&forms::COOKIE_PATH), "Path attribute of the cookie.").or("\"/\""),
    Key::new(
        "domain",
        Kind::Text(&forms::HOST),
        "Domain attribute of the cookie. If you leave it out, the cookie is for the request's host \
         only.",
    )
    .eg("\"shop.example\""),
    Key::new("partitioned", Kind::Bool, "Partitioned attribute of the cookie.").or("false"),
    Key::new(
        "hide_from_target",
        Kind::Bool,
        "Remove the balancer's cookies from requests to targets.",
    )
    .or("false"),
    Key::new(
        "guard_cache",
        Kind::Bool,
        "Tell shared caches not to store the balancer's Set-Cookie.",
    )
    .or("true"),
    Key::new(
        "on_unavailable",
        Kind::Word(&[("move", true), ("strict", true)]),
        "What happens if a client's target cannot serve: the client moves to another target \
         (`move`), or gets 503 (`strict`).",
    )
    .or("\"move\""),
];

static LB_COOKIE: &[Key] = &[
    Key::new(
        "name",
        Kind::Text(&forms::COOKIE_NAME),
        "Name of the cookie; the twin has this name and `CORS`.",
    )
    .or("\"AWSALB\""),
    Key::new(
        "duration",
        Kind::Either(&[SESSION, LIFETIME]),
        "How long a pin is valid. `session`: as long as the browser keeps the cookie, and at most \
         7d.",
    )
    .or("\"1d\""),
];

static APP_COOKIE: &[Key] = &[
    Key::new("name", Kind::Text(&forms::COOKIE_NAME), "Name of the application's cookie.")
        .required()
        .eg("\"JSESSIONID\""),
    Key::new(
        "companion",
        Kind::Text(&forms::COOKIE_NAME),
        "Name of the balancer's cookie, without the suffix `-0`, which is ALB's for the first \
         shard.",
    )
    .or("\"AWSALBAPP\""),
    Key::new("duration", LIFETIME, "How long a pin is valid.").or("\"1d\""),
    Key::new(
        "adopt",
        Kind::Bool,
        "Give a companion cookie to a request that has only the application's cookie.",
    )
    .or("true"),
];

static ROUTE: &[Key] = &[
    Key::new("cookie", Kind::Text(&forms::COOKIE_NAME), "Name of the application's cookie.")
        .required()
        .eg("\"JSESSIONID\""),
    Key::new(
        "separator",
        Kind::Text(&forms::ROUTE),
        "Separator before the route; the last one in the value counts. For example, with `\".\"` \
         the cookie value `A1B2.tomcat2` has the route `tomcat2`.",
    )
    .or("\".\""),
];

static HEADER: &[Key] =
    &[Key::new("name", Kind::Text(&forms::HEADER_NAME), "Name of the header field.")
        .required()
        .eg("\"x-session-id\"")];

/// The word accepted instead of a duration.
const SESSION: Kind = Kind::Word(&[("session", true)]);
