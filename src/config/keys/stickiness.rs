//! `[target_group.NAME.stickiness]`: what keeps a client on its target.

use super::{DAY, Key, Kind, forms, secs};

const LIFETIME: Kind = secs(1, 7 * DAY);

pub(super) static STICKINESS: &[Key] = &[
    Key::new("enabled", Kind::Bool, "Whether clients stay.").or("true"),
    Key::new(
        "lb_cookie",
        Kind::Table(LB_COOKIE),
        "The balancer's own cookie. Exactly one of `lb_cookie`, `app_cookie`, `route`, \
         `header`.",
    )
    .or("{}"),
    Key::new(
        "app_cookie",
        Kind::Table(APP_COOKIE),
        "A companion of the application's cookie, made when an answer sets that one. Without the \
         application's cookie a client is not sticky.",
    )
    .eg("{ name = \"JSESSIONID\" }"),
    Key::new(
        "route",
        Kind::Table(ROUTE),
        "The application appends the target's `route` to its cookie, as Tomcat's \
         jvmRoute; where there is no cookie, `;jsessionid=` in the path is read, by the cookie's name \
         in any case. Nothing is stored; a client can choose its target, so set \
         `max_in_flight_per_target`.",
    )
    .eg("{ cookie = \"JSESSIONID\", separator = \".\" }"),
    Key::new(
        "header",
        Kind::Table(HEADER),
        "For clients without cookies: equal values of this field go to the same target. Nothing is \
         stored; a client can choose its target, so set `max_in_flight_per_target`.",
    )
    .eg("{ name = \"x-session-id\" }"),
    Key::new(
        "refresh",
        Kind::Word(&[("each_response", true), ("half_life", true), ("never", true)]),
        "When a good pin is written again: with each response, as ALB does; when half \
         its life is used; never, as the Classic ELB.",
    )
    .or("\"each_response\""),
    Key::new(
        "cors_twin",
        Kind::Word(&[("secure", true), ("always", true), ("never", true)]),
        "When the twin with SameSite=None is written, which is always Secure: over TLS; always, as \
         ALB does; never.",
    )
    .or("\"secure\""),
    Key::new(
        "secure",
        Kind::Word(&[("auto", true), ("always", true), ("never", true)]),
        "When the cookie says Secure; `auto`: where no client can come to anything that writes a \
         cookie of this name over plain HTTP, redirects apart. `stayput check` says what it came to.",
    )
    .or("\"auto\""),
    Key::new(
        "http_only",
        Kind::Bool,
        "Whether scripts are kept from the cookie; ALB's is open to them.",
    )
    .or("true"),
    Key::new(
        "same_site",
        Kind::Word(&[("unset", true), ("lax", true), ("strict", true), ("none", true)]),
        "SameSite of the cookie; `unset` as ALB.",
    )
    .or("\"unset\""),
    Key::new("path", Kind::Text(&forms::COOKIE_PATH), "Path of the cookie.").or("\"/\""),
    Key::new("domain", Kind::Text(&forms::HOST), "Domain of the cookie.").eg("\"shop.example\""),
    Key::new("partitioned", Kind::Bool, "Whether the cookie says Partitioned.").or("false"),
    Key::new(
        "hide_from_target",
        Kind::Bool,
        "Whether the balancer's cookies are kept from targets.",
    )
    .or("false"),
    Key::new(
        "guard_cache",
        Kind::Bool,
        "Whether shared caches are told not to keep our Set-Cookie.",
    )
    .or("true"),
    Key::new(
        "on_unavailable",
        Kind::Word(&[("move", true), ("strict", true)]),
        "A client whose target cannot serve moves, or gets 503.",
    )
    .or("\"move\""),
];

static LB_COOKIE: &[Key] = &[
    Key::new("name", Kind::Text(&forms::COOKIE_NAME), "Its name; the twin's is that and `CORS`.")
        .or("\"AWSALB\""),
    Key::new(
        "duration",
        Kind::Either(&[SESSION, LIFETIME]),
        "How long a pin lives; `session`: as long as the browser keeps it, and at most 7d.",
    )
    .or("\"1d\""),
];

static APP_COOKIE: &[Key] = &[
    Key::new("name", Kind::Text(&forms::COOKIE_NAME), "The application's cookie.")
        .required()
        .eg("\"JSESSIONID\""),
    Key::new(
        "companion",
        Kind::Text(&forms::COOKIE_NAME),
        "Our cookie beside it is called this and `-0`, as ALB's first shard.",
    )
    .or("\"AWSALBAPP\""),
    Key::new("duration", LIFETIME, "How long a pin lives.").or("\"1d\""),
    Key::new(
        "adopt",
        Kind::Bool,
        "Whether a request that brings the application's cookie alone is given a companion.",
    )
    .or("true"),
];

static ROUTE: &[Key] = &[
    Key::new("cookie", Kind::Text(&forms::COOKIE_NAME), "The application's cookie.")
        .required()
        .eg("\"JSESSIONID\""),
    Key::new(
        "separator",
        Kind::Text(&forms::ROUTE),
        "What stands before the route; the last one in the value counts.",
    )
    .or("\".\""),
];

static HEADER: &[Key] = &[Key::new("name", Kind::Text(&forms::HEADER_NAME), "The header field.")
    .required()
    .eg("\"x-session-id\"")];

/// The word that is taken in place of a duration.
const SESSION: Kind = Kind::Word(&[("session", true)]);
