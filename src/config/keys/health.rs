//! `[target_group.NAME.health]`: how targets are checked.

use super::{Key, Kind, forms, millis};

pub(super) static HEALTH: &[Key] = &[
    Key::new(
        "protocol",
        Kind::Word(&[("http", true), ("https", true), ("grpc", true), ("tcp", true)]),
        "How a target is asked. With `https` the group's `tls` holds for checks too; in a group \
         without, any certificate will do, as with ALB, and a host name is sent as SNI. With `tcp` \
         connecting is enough. In a group whose `protocol` is `http2` or `grpc` checks are HTTP/2 \
         as well, and `grpc` is a call: a POST to `path` over the group's `tls`, or plain. To \
         `/grpc.health.v1.Health/Check` it asks for the whole server, which must be SERVING.",
    )
    .derived("`grpc` where that is the group's, `https` where the group has `tls`, else `http`")
    .eg("\"http\""),
    Key::new("path", Kind::Text(&forms::REQUEST_PATH), "What is asked for.")
        .derived("`/AWS.ALB/healthcheck` with `protocol = \"grpc\"`, else `/`")
        .eg("\"/\""),
    Key::new(
        "port",
        Kind::Either(&[Kind::Word(&[("traffic", true)]), Kind::Integer(1, 65_535)]),
        "The port asked; `traffic` is the one that serves.",
    )
    .or("\"traffic\""),
    Key::new("interval", millis(100, 300_000), "Time between two checks.").or("\"30s\""),
    Key::new("timeout", millis(10, 300_000), "How long an answer may take; at most `interval`.")
        .derived("the smaller of 5s and `interval`")
        .eg("\"5s\""),
    Key::new(
        "fast_interval",
        millis(10, 300_000),
        "Time between two checks while a target is new, suspect, recovering, or \
         changing state.",
    )
    .or("\"1s\""),
    Key::new(
        "healthy_threshold",
        Kind::Integer(1, 10),
        "Passes in a row that bring a target back; the first makes a new one healthy.",
    )
    .or("5"),
    Key::new("unhealthy_threshold", Kind::Integer(1, 10), "Failures in a row that take it out.")
        .or("2"),
    Key::new(
        "matcher",
        Kind::Text(&forms::MATCHER),
        "Accepted status codes: of HTTP from 100 to 499, of gRPC from 0 to 99.",
    )
    .derived(
        "12 (`UNIMPLEMENTED`) with `protocol = \"grpc\"`, and 0 (`OK`) where the path is \
              `/grpc.health.v1.Health/Check`; else 200",
    )
    .eg("\"200\""),
    Key::new("body", Kind::Text(&forms::ANY), "Text the answer must contain.").eg("\"ok\""),
    Key::new(
        "drain_on_404",
        Kind::Bool,
        "Whether 404 means `drain me`: no newcomers until a check passes again. It counts neither \
         as a pass nor as a failure. An answer with `x-stayput-drain: 1` asks for the same always.",
    )
    .or("false"),
    Key::new("passive", Kind::Table(PASSIVE), "What traffic tells.").or("{}"),
];

static PASSIVE: &[Key] = &[Key::new(
    "connect_failures",
    Kind::Integer(0, 1_000),
    "Failed connections of traffic in a row that make a target suspect, on any worker: new clients \
     avoid it, pinned ones stay, a check goes out at once, and only failed checks take it out; or \
     30s in which every connection failed while the checks passed. 0: traffic tells nothing.",
)
.or("3")];
