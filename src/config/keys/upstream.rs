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
];

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
