//! `[target_group.NAME]`: replicas of one application.

use super::health::HEALTH;
use super::stickiness::STICKINESS;
use super::upstream::UPSTREAM;
use super::{Key, Kind, Span, forms};
use std::time::Duration;

pub(super) static GROUP: &[Key] = &[
    Key::new(
        "protocol",
        Kind::Word(&[("http1", true), ("http2", true), ("grpc", true)]),
        "Protocol of the targets: HTTP/1.1, or HTTP/2, over TLS if the group has `tls`, else with \
         prior knowledge. With `http2` and `grpc`, clients must use HTTP/2 too; `grpc` accepts \
         only POST, and `http1` accepts no gRPC. Other requests are answered 464, as by ALB.",
    )
    .or("\"http1\""),
    Key::new(
        "tls",
        Kind::Table(TLS),
        "TLS to targets. Add this table to use HTTPS, over TLS 1.2 or 1.3, for requests and health \
         checks.",
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
        "How new clients are distributed, always by weight. `round_robin`: in turn. \
         `least_outstanding_requests`: to the target with the fewest requests and tunnels in \
         flight. `weighted_random`: at random; ALB forbids it together with stickiness, and here \
         it places only new clients, while clients that spill or move follow the ranking of their \
         seed with the weights of this file. `least_sessions`: to the target with the fewest \
         pinned clients within a pin's lifetime, counted to a few percent; it needs stickiness. \
         After a restart, or for a target that was down, the count starts at zero and grows as \
         clients return.",
    )
    .or("\"round_robin\""),
    Key::new(
        "anomaly_mitigation",
        Kind::Bool,
        "With `weighted_random`: send fewer new clients to an anomalous target. With three or more \
         healthy targets, one that answers 5xx or loses connections clearly more than the others \
         gets a thirty-second of its share at once. Its share grows back over a minute once it \
         fails no more than the others. Evaluated every 5s.",
    )
    .or("false"),
    Key::new(
        "slow_start",
        Kind::Duration(Span {
            zero: true,
            min: Duration::from_secs(30),
            max: Duration::from_secs(900),
        }),
        "With `round_robin`: time in which the share of a target that became healthy grows from \
         zero to its full share of new clients; 0s is off. Targets that exist when the group \
         starts get their full share at once, and so do all targets while no other target serves \
         fully.",
    )
    .or("\"0s\""),
    Key::new(
        "cross_zone",
        Kind::Bool,
        "Use targets of all zones. False: only targets of `runtime.zone` serve. ALB forbids that \
         together with stickiness; here a client pinned to a target of another zone moves once \
         (`moved_zone`).",
    )
    .or("true"),
    Key::new(
        "targets",
        Kind::List(&Kind::Either(&[Kind::Text(&forms::TARGET_ADDRESS), Kind::Table(TARGET)])),
        "Targets, each an address or a table.",
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
        "How long a drained or removed target may finish its requests and sessions.",
    )
    .or("\"300s\""),
    Key::new(
        "hold",
        Kind::Duration(Span {
            zero: true,
            min: Duration::from_secs(1),
            max: Duration::from_secs(3_600),
        }),
        "With `expand = true`: how long an address that the host name no longer lists is kept, \
         because a resolver may return only some of the addresses. New clients avoid it, pinned \
         clients stay; then it drains as with `state = \"drain\"`. It is removed at once if it \
         refuses connections or fails a check meanwhile. At most 64 such addresses per name are \
         kept.",
    )
    .or("\"30s\""),
    Key::new(
        "draining_pins",
        Kind::Word(&[("stay", true), ("move", true)]),
        "`stay`: pinned clients of a draining target stay until `deregistration_delay` is over. \
         `move`: they move at once, as with ALB.",
    )
    .or("\"stay\""),
    Key::new(
        "fail_open",
        Kind::Bool,
        "Use all targets when too few are healthy, as ALB does. False: answer 503.",
    )
    .or("true"),
    Key::new(
        "recovery",
        Kind::Duration(Span {
            zero: true,
            min: Duration::from_secs(1),
            max: Duration::from_secs(3_600),
        }),
        "How long pinned clients keep targets that are still unhealthy after an outage, counted \
         from the first target that passes a check; 0s: they move at once. An outage is when the \
         group failed open, or when two or more of its healthy targets, and at least half, turned \
         unhealthy within 10s (or two intervals, if that is longer). Pinned clients spill if their \
         target refuses; new clients go to targets that passed.",
    )
    .or("\"30s\""),
    Key::new(
        "minimum_healthy",
        Kind::Table(MINIMUM_HEALTHY),
        "Minimum of healthy targets; `fail_open` decides what happens below either value.",
    )
    .or("{}"),
    Key::new(
        "max_in_flight_per_target",
        Kind::Integer(0, u32::MAX as u64),
        "Maximum number of requests in flight per target; a pinned request over it goes to another \
         target (spills). 0 is no limit.",
    )
    .or("0"),
    Key::new(
        "announce_successor",
        Kind::Bool,
        "Tell the target in x-stayput-successor which target would have this client after it, so \
         that it can hand over the session before it leaves.",
    )
    .or("false"),
    Key::new(
        "tunnels_follow",
        Kind::Bool,
        "Close a WebSocket with 1001 once the pin of its client has moved, because its target is \
         unhealthy, leaves or has left, so that the client connects again. False: it stays open at \
         its target.",
    )
    .or("false"),
    Key::new(
        "send_proxy",
        Kind::Word(&[("off", true), ("v1", true), ("v2", true)]),
        "Send a PROXY header on connections to targets, health checks included: `v1` is text, `v2` \
         binary. It names one client, so such a connection carries no other client's requests. You \
         cannot use it with HTTP/2, whose connections are shared.",
    )
    .or("\"off\""),
    Key::new("stickiness", Kind::Table(STICKINESS), "How clients stay on their target.").or("{}"),
    Key::new("health", Kind::Table(HEALTH), "Health checks of the targets.").or("{}"),
    Key::new("upstream", Kind::Table(UPSTREAM), "Connections to the targets.").or("{}"),
];

static TLS: &[Key] = &[
    Key::new(
        "verify",
        Kind::Bool,
        "Verify a target's certificate: it must be signed by a trusted CA, valid now, and for the \
         target's name. False: any certificate is accepted, as with ALB.",
    )
    .or("true"),
    Key::new(
        "ca",
        Kind::Text(&forms::FILE_PATH),
        "PEM file of one or more CA certificates. Only targets with a certificate signed by one of \
         them are trusted.",
    )
    .derived("the CA certificates of the system")
    .eg("\"ca.pem\""),
    Key::new(
        "server_name",
        Kind::Text(&forms::SERVER_NAME),
        "Name that the certificate must have, sent as SNI; an IP address is verified, but not \
         sent.",
    )
    .derived("each target's host name, else its IP address")
    .eg("\"app.internal\""),
];

static TARGET: &[Key] = &[
    Key::new(
        "id",
        Kind::Text(&forms::TARGET_ID),
        "Id of the target, unique in the group. Pins, weights and drains belong to the id.",
    )
    .derived("the address")
    .eg("\"s2\""),
    Key::new("address", Kind::Text(&forms::TARGET_ADDRESS), "IP address or host name, and port.")
        .required()
        .eg("\"10.0.0.12:3000\""),
    Key::new(
        "weight",
        Kind::Integer(0, 999),
        "Weight among new clients; 0 is none. For example, a target of weight 2 gets twice as many \
         as one of weight 1.",
    )
    .or("1"),
    Key::new("zone", Kind::Text(&forms::NAME), "Zone of the target.").eg("\"b\""),
    Key::new(
        "route",
        Kind::Text(&forms::ROUTE),
        "Route that the application appends to a session id, such as Tomcat's jvmRoute; unique in \
         the group.",
    )
    .derived("the id")
    .eg("\"tomcat2\""),
    Key::new(
        "state",
        Kind::Word(&[("active", true), ("drain", true)]),
        "`drain`: the target gets no new clients and drains.",
    )
    .or("\"active\""),
    Key::new("expand", Kind::Bool, "Make each address of the host name a target of its own.")
        .or("false"),
];

static MINIMUM_HEALTHY: &[Key] = &[
    Key::new("count", Kind::Integer(0, 100_000), "Minimum number of healthy targets.").or("1"),
    Key::new(
        "percent",
        Kind::Integer(0, 100),
        "Minimum percentage of healthy targets; 0 is off. For example, with 50, fewer than half are \
         too few.",
    )
    .or("0"),
];
