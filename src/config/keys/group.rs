//! `[target_group.NAME]`: replicas that serve the same thing.

use super::health::HEALTH;
use super::stickiness::STICKINESS;
use super::upstream::UPSTREAM;
use super::{Key, Kind, Span, forms};
use std::time::Duration;

pub(super) static GROUP: &[Key] = &[
    Key::new(
        "protocol",
        Kind::Word(&[("http1", true), ("http2", true), ("grpc", true)]),
        "What is spoken to targets: HTTP/1.1, or HTTP/2, over TLS where the group has `tls`, else \
         at once. With `http2` and `grpc` clients must speak HTTP/2 as well, `grpc` takes POST \
         alone, and gRPC does not go to `http1`; anything else is answered 464, as by ALB.",
    )
    .or("\"http1\""),
    Key::new(
        "tls",
        Kind::Table(TLS),
        "Present: HTTPS to targets, over TLS 1.2 or 1.3, and checks by HTTPS.",
    )
    .eg("{ verify = true, server_name = \"app.internal\" }"),
    Key::new(
        "algorithm",
        Kind::Word(&[
            ("round_robin", true),
            ("least_outstanding_requests", true),
            ("weighted_random", true),
            ("least_sessions", true),
        ]),
        "Who serves newcomers, always by weight. `round_robin`: in turn. \
         `least_outstanding_requests`: whoever has the fewest requests and tunnels in flight. \
         `weighted_random`: at random; ALB forbids it together with stickiness, and here it places \
         newcomers only: clients that spill or move follow their seed's ranking with the weights of \
         this file. `least_sessions`: whoever has seen the fewest pinned clients within a pin's \
         lifetime, counted to a few of a hundred; it needs stickiness, and after a restart or for a \
         target that was down the count begins at none and fills as clients return.",
    )
    .or("\"round_robin\""),
    Key::new(
        "anomaly_mitigation",
        Kind::Bool,
        "With `weighted_random`: of three or more healthy targets, one that answers 5xx or loses \
         connections clearly more than the others keeps a thirty-second of its newcomers at once, \
         and has its share back bit by bit, over a minute, once it fails no more than they. Judged \
         every 5s.",
    )
    .or("false"),
    Key::new(
        "slow_start",
        Kind::Duration(Span {
            zero: true,
            min: Duration::from_secs(30),
            max: Duration::from_secs(900),
        }),
        "With `round_robin`: the time in which the share of newcomers of a target that became \
         healthy grows from nothing to its own; 0s is none. Targets that are there when the group \
         begins have theirs at once, and so has everyone while no other target serves fully.",
    )
    .or("\"0s\""),
    Key::new(
        "cross_zone",
        Kind::Bool,
        "False: only targets of `runtime.zone` serve. ALB forbids that together with stickiness; \
         here a client pinned to another zone's target moves once (`moved_zone`).",
    )
    .or("true"),
    Key::new(
        "targets",
        Kind::List(&Kind::Either(&[Kind::Text(&forms::TARGET_ADDRESS), Kind::Table(TARGET)])),
        "Each an address, or a table.",
    )
    .required()
    .eg("[\"10.0.0.11:3000\", { id = \"s2\", address = \"10.0.0.12:3000\", weight = 2, \
         zone = \"b\" }]"),
    Key::new(
        "deregistration_delay",
        Kind::Duration(Span {
            zero: true,
            min: Duration::from_secs(1),
            max: Duration::from_secs(3_600),
        }),
        "How long a drained or removed target may finish.",
    )
    .or("\"300s\""),
    Key::new(
        "hold",
        Kind::Duration(Span {
            zero: true,
            min: Duration::from_secs(1),
            max: Duration::from_secs(3_600),
        }),
        "With `expand = true`: how long an address that its name lists no more is held, for a resolver \
         may answer in part. New clients avoid it, pinned ones stay; then it drains as with \
         `state = \"drain\"`. It is forgotten at once where it refuses or a check fails meanwhile. At \
         most 64 such addresses a name.",
    )
    .or("\"30s\""),
    Key::new(
        "draining_pins",
        Kind::Word(&[("stay", true), ("move", true)]),
        "`stay`: pinned clients of a draining target stay until the delay is over; \
         `move`: they move at once, as with ALB.",
    )
    .or("\"stay\""),
    Key::new(
        "fail_open",
        Kind::Bool,
        "When too few are healthy: use all, as ALB does; false: 503.",
    )
    .or("true"),
    Key::new(
        "recovery",
        Kind::Duration(Span {
            zero: true,
            min: Duration::from_secs(1),
            max: Duration::from_secs(3_600),
        }),
        "After an outage, which is when the group stops to fail open, or when two or more of its \
         healthy targets, and at least half, turned unhealthy within 10s (or two intervals, if that \
         is longer): pinned clients keep targets that are still unhealthy so long, counted from the \
         first that passes a check, and spill where theirs refuses. New clients go to targets that \
         passed. 0s: they move at once.",
    )
    .or("\"30s\""),
    Key::new("minimum_healthy", Kind::Table(MINIMUM_HEALTHY), "Fewer than either are too few.")
        .or("{}"),
    Key::new(
        "max_in_flight_per_target",
        Kind::Integer(0, u32::MAX as u64),
        "Over it a pinned request spills; 0 is no cap.",
    )
    .or("0"),
    Key::new(
        "announce_successor",
        Kind::Bool,
        "Whether the target is told in x-stayput-successor which target would have this client after \
         it, so that it can hand the session over before it leaves.",
    )
    .or("false"),
    Key::new(
        "tunnels_follow",
        Kind::Bool,
        "Whether a WebSocket is closed with 1001, so that the client connects again, once the pin of \
         its client has moved: its target is unhealthy, leaves or has left. False: it stays where it \
         is.",
    )
    .or("false"),
    Key::new(
        "send_proxy",
        Kind::Word(&[("off", true), ("v1", true), ("v2", true)]),
        "Whether connections to targets, checks included, open with a PROXY header: text or binary. \
         It names one client, so no other client's requests go over the connection, and it cannot be had with \
         HTTP/2, which shares them.",
    )
    .or("\"off\""),
    Key::new("stickiness", Kind::Table(STICKINESS), "What keeps a client on its target.").or("{}"),
    Key::new("health", Kind::Table(HEALTH), "How targets are checked.").or("{}"),
    Key::new("upstream", Kind::Table(UPSTREAM), "Connections to targets.").or("{}"),
];

static TLS: &[Key] = &[
    Key::new(
        "verify",
        Kind::Bool,
        "Whether a target's certificate must be signed by someone trusted, valid now, and for the \
         target's name. False: any certificate will do, as with ALB.",
    )
    .or("true"),
    Key::new(
        "ca",
        Kind::Text(&forms::FILE_PATH),
        "A PEM file of one or more certificates: whoever they sign for is trusted, and nobody else.",
    )
    .derived("the certificate authorities the system trusts")
    .eg("\"ca.pem\""),
    Key::new(
        "server_name",
        Kind::Text(&forms::SERVER_NAME),
        "The name the certificate must have, sent as SNI; an IP address is checked and not sent.",
    )
    .derived("each target's host name, else its IP address")
    .eg("\"app.internal\""),
];

static TARGET: &[Key] = &[
    Key::new(
        "id",
        Kind::Text(&forms::TARGET_ID),
        "Pins, weights and drains follow it; unique in the group.",
    )
    .derived("the address")
    .eg("\"s2\""),
    Key::new(
        "address",
        Kind::Text(&forms::TARGET_ADDRESS),
        "Where it is: an IP address or a host name, and a port.",
    )
    .required()
    .eg("\"10.0.0.12:3000\""),
    Key::new("weight", Kind::Integer(0, 999), "Its share of newcomers; 0 is none.").or("1"),
    Key::new("zone", Kind::Text(&forms::NAME), "Where it stands.").eg("\"b\""),
    Key::new(
        "route",
        Kind::Text(&forms::ROUTE),
        "What its application appends to a session's id, such as Tomcat's jvmRoute; unique in the \
         group.",
    )
    .derived("the id")
    .eg("\"tomcat2\""),
    Key::new("state", Kind::Word(&[("active", true), ("drain", true)]), "`drain`: no newcomers.")
        .or("\"active\""),
    Key::new("expand", Kind::Bool, "Whether each address of a host name is a target of its own.")
        .or("false"),
];

static MINIMUM_HEALTHY: &[Key] = &[
    Key::new("count", Kind::Integer(0, 100_000), "So many targets.").or("1"),
    Key::new("percent", Kind::Integer(0, 100), "So many of a hundred; 0 is off.").or("0"),
];
