//! `[target_group.NAME.upstream]`: connections to targets.

use super::{DAY, HOUR, Key, Kind, Span, millis};
use std::time::Duration;

pub(super) static UPSTREAM: &[Key] = &[
    Key::new("timeouts", Kind::Table(TIMEOUTS), "Timeouts for targets.").or("{}"),
    Key::new(
        "max_connections",
        Kind::Integer(0, u32::MAX as u64),
        "Maximum number of connections per target and process; 0 is no limit. With HTTP/2 each \
         worker needs one connection, which carries up to 128 concurrent requests, or as many as \
         the target allows.",
    )
    .or("0"),
    Key::new("retries", Kind::Integer(0, 15), "How many other targets a request may try.").or("1"),
    Key::new(
        "reconnect",
        Kind::Duration(WAIT),
        "How long a pinned request whose target refuses connections retries that target before it \
         goes to another (spills); 0s spills at once. One dial at a time retries for all requests \
         of a worker, and once the target has refused for this long in a row, requests spill at \
         once.",
    )
    .or("\"1s\""),
    Key::new(
        "queue",
        Kind::Duration(WAIT),
        "How long a pinned request waits for a target that is at `max_in_flight_per_target` before \
         it goes to another (spills); 0s spills at once. At most 1,024 requests wait at a target, \
         first come, first served.",
    )
    .or("\"1s\""),
];

/// Bounds of a wait: a client that waits longer gives up, and a shorter wait ends before the first
/// pause between dials.
const WAIT: Span =
    Span { zero: true, min: Duration::from_millis(50), max: Duration::from_secs(60) };

static TIMEOUTS: &[Key] = &[
    Key::new("connect", millis(10, 300_000), "Time until a connection is ready.").or("\"5s\""),
    Key::new(
        "response",
        millis(10, DAY * 1_000),
        "Time from the last byte of the request to the head of the response.",
    )
    .or("\"60s\""),
    Key::new(
        "keep_alive",
        Kind::Duration(Span {
            zero: true,
            min: Duration::from_millis(100),
            max: Duration::from_secs(HOUR),
        }),
        "How long an idle connection is kept. Set it below the replica's own keep-alive timeout. \
         With HTTP/2 the minimum is one minute: a request that crosses a close is sent again \
         there, unless its body has begun.",
    )
    .or("\"4s\""),
];
