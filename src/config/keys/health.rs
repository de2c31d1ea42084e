//! `[target_group.NAME.health]`: health checks of targets.

use super::{Key, Kind, forms, millis};

pub(super) static HEALTH: &[Key] = &[
    Key::new(
        "protocol",
        Kind::Word(&[("http", true), ("https", true), ("grpc", true), ("tcp", true)]),
        "Protocol of the health check. `https` uses the group's `tls`; in a group without `tls` it \
         accepts any certificate, as ALB does, and sends a host name as SNI. `tcp` only connects. \
         In a group whose `protocol` is `http2` or `grpc`, checks use HTTP/2 as well. `grpc` is a \
         call: a POST to `path`, over TLS if the group has `tls`. A call to \
         `/grpc.health.v1.Health/Check` asks for the whole server, which must be SERVING.",
    )
    .derived("`grpc` in a `grpc` group, `https` in a group with `tls`, else `http`")
    .eg("\"http\""),
    Key::new("path", Kind::Text(&forms::REQUEST_PATH), "Path of the health check.")
        .derived("`/AWS.ALB/healthcheck` with `protocol = \"grpc\"`, else `/`")
        .eg("\"/\""),
    Key::new(
        "port",
        Kind::Either(&[Kind::Word(&[("traffic", true)]), Kind::Integer(1, 65_535)]),
        "Port of the health check; `traffic` is the target's own port.",
    )
    .or("\"traffic\""),
    Key::new("interval", millis(100, 300_000), "Time between two checks of a target.")
        .or("\"30s\""),
    Key::new("timeout", millis(10, 300_000), "How long a response may take; at most `interval`.")
        .derived("the smaller of 5s and `interval`")
        .eg("\"5s\""),
    Key::new(
        "fast_interval",
        millis(10, 300_000),
        "Time between two checks while a target is new, suspect, recovering or changing state.",
    )
    .or("\"1s\""),
    Key::new(
        "healthy_threshold",
        Kind::Integer(1, 10),
        "Passed checks in a row that make an unhealthy target healthy; one makes a new target \
         healthy.",
    )
    .or("5"),
    Key::new(
        "unhealthy_threshold",
        Kind::Integer(1, 10),
        "Failed checks in a row that make a target unhealthy.",
    )
    .or("2"),
    Key::new(
        "matcher",
        Kind::Text(&forms::MATCHER),
        "Status codes that pass: HTTP codes from 100 to 499, or gRPC codes from 0 to 99. For \
         example, `\"200-299\"`.",
    )
    .derived(
        "12 (`UNIMPLEMENTED`) with `protocol = \"grpc\"`, or 0 (`OK`) if the path is \
         `/grpc.health.v1.Health/Check`; else 200",
    )
    .eg("\"200\""),
    Key::new("body", Kind::Text(&forms::ANY), "Text that the response must contain.").eg("\"ok\""),
    Key::new(
        "drain_on_404",
        Kind::Bool,
        "Treat 404 as a request to drain the target: it gets no new clients until a check passes \
         again. A 404 then counts neither as passed nor as failed. A response with \
         `x-stayput-drain: 1` always requests the same.",
    )
    .or("false"),
    Key::new("passive", Kind::Table(PASSIVE), "Passive health checks, from traffic.").or("{}"),
];

static PASSIVE: &[Key] = &[Key::new(
    "connect_failures",
    Kind::Integer(0, 1_000),
    "Failed traffic connections in a row, on any worker, that make a target suspect; so do 30s in \
     which every connection failed while checks passed. New clients avoid a suspect target, pinned \
     clients stay, a check runs at once, and only failed checks make it unhealthy. 0 turns this \
     off.",
)
.or("3")];
