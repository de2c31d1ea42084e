//! `[target_group.NAME.upstream]`: connections to targets.

use super::{DAY, HOUR, Key, Kind, Span, millis};
use std::time::Duration;

pub(super) static UPSTREAM: &[Key] = &[
    Key::new("timeouts", Kind::Table(TIMEOUTS), "How long a target may take.").or("{}"),
    Key::new(
        "max_connections",
        Kind::Integer(0, u32::MAX as u64),
        "Per target and process; 0 is no bound. With HTTP/2 each worker needs one, which carries up \
         to 128 requests at a time, or as many as the target allows.",
    )
    .or("0"),
    Key::new("retries", Kind::Integer(0, 15), "How many other targets may be tried.").or("1"),
    Key::new(
        "reconnect",
        Kind::Duration(WAIT),
        "How long a pinned request whose target refuses connections tries that target again before \
         it spills to another; 0s: it spills at once. One dial at a time tries for all requests of a \
         worker, and once the target has refused for so long in a row, requests spill at once.",
    )
    .or("\"1s\""),
    Key::new(
        "queue",
        Kind::Duration(WAIT),
        "How long a pinned request waits for a place at its target where that is at \
         `max_in_flight_per_target` before it spills to another; 0s: it spills at once. At most 1,024 \
         wait at a target, and places go to them in their order.",
    )
    .or("\"1s\""),
];

/// A client that waits longer gives up; a wait shorter than the first pause between dials is none.
const WAIT: Span =
    Span { zero: true, min: Duration::from_millis(50), max: Duration::from_secs(60) };

static TIMEOUTS: &[Key] = &[
    Key::new("connect", millis(10, 300_000), "Until a connection is ready.").or("\"5s\""),
    Key::new(
        "response",
        millis(10, DAY * 1_000),
        "From the last byte of the request to the head of the response.",
    )
    .or("\"60s\""),
    Key::new(
        "keep_alive",
        Kind::Duration(Span {
            zero: true,
            min: Duration::from_millis(100),
            max: Duration::from_secs(HOUR),
        }),
        "How long an idle connection is kept; stay under the replica's own limit. With HTTP/2 a \
         minute if this is less: what crosses a close is sent again there, unless its body has \
         begun.",
    )
    .or("\"4s\""),
];
