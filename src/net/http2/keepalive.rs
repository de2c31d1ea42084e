//! Decides when to send a PING on a connection with streams.
//!
//! A dead connection is found only by writing to it, and a call may wait hours for a response. But
//! gRPC servers treat PINGs on a quiet connection as an attack if more than two arrive less than
//! five minutes apart (gRPC, "Keepalive"). So the first PING is sent early, and later ones in the
//! same quiet period late.

use std::time::{Duration, Instant};

/// Quiet time before the first PING.
const FIRST: Duration = Duration::from_secs(30);
/// Time between PINGs in one quiet period: five minutes plus network delay.
const NEXT: Duration = Duration::from_secs(310);
/// After this time without streams, a NAT may have dropped the connection: a PING is sent
/// as soon as it has a stream again.
const LONG_IDLE: Duration = Duration::from_secs(10);
/// Time-out of a PING.
const ANSWER: Duration = Duration::from_secs(10);

/// The last activity of a connection.
#[derive(Debug)]
pub(super) struct Keepalive {
    quiet_since: Instant,
    asked: Option<Instant>,
    /// The time when the last PING of this quiet period was answered.
    answered: Option<Instant>,
}

/// The action to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeepaliveStep {
    /// Nothing.
    Nothing,
    /// Send a PING.
    Ask,
    /// Close: the connection is dead.
    GiveUp,
}

impl Keepalive {
    /// The state of a new connection.
    pub(super) fn new(now: Instant) -> Self {
        Self { quiet_since: now, asked: None, answered: None }
    }

    /// Records that the connection has a stream again after `idle` without one. No response was due
    /// in that time.
    pub(super) fn resume(&mut self, now: Instant, idle: Duration) {
        // Only one PING, and no second before something arrives; see the module.
        let is_due = idle >= LONG_IDLE && self.answered.is_none();
        let before = if is_due { FIRST } else { Duration::ZERO };
        self.quiet_since = now.checked_sub(before).unwrap_or(now);
        self.asked = None;
        self.answered = None;
    }

    /// Returns the action due now. `active`: something arrived on a stream since the last call.
    /// `answered`: the PING in flight was answered.
    pub(super) fn step(&mut self, now: Instant, active: bool, answered: bool) -> KeepaliveStep {
        if active {
            self.quiet_since = now;
            self.answered = None;
        }
        if let Some(asked) = self.asked {
            if answered || active {
                self.asked = None;
                self.answered = answered.then_some(now);
            } else if now.saturating_duration_since(asked) >= ANSWER {
                return KeepaliveStep::GiveUp;
            }
            return KeepaliveStep::Nothing;
        }
        let due = match self.answered {
            None => self.quiet_since + FIRST,
            Some(answered) => answered + NEXT,
        };
        if now < due {
            return KeepaliveStep::Nothing;
        }
        self.asked = Some(now);
        KeepaliveStep::Ask
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Moment;

    /// The seconds within an hour at which a PING is sent, and the second of giving up, if any.
    fn asks(
        active: impl Fn(u64) -> bool,
        answers: impl Fn(u64) -> bool,
    ) -> (Vec<u64>, Option<u64>) {
        let began = Moment::now().monotonic;
        let mut keepalive = Keepalive::new(began);
        let mut asked = Vec::new();
        for second in 1..=3_600 {
            let now = began + Duration::from_secs(second);
            let answered = keepalive.asked.is_some() && answers(second);
            match keepalive.step(now, active(second), answered) {
                KeepaliveStep::Nothing => {}
                KeepaliveStep::Ask => asked.push(second),
                KeepaliveStep::GiveUp => return (asked, Some(second)),
            }
        }
        (asked, None)
    }

    #[test]
    fn a_connection_with_traffic_gets_no_ping() {
        assert_eq!(asks(|second| second % 29 == 0, |_| true), (vec![], None));
    }

    #[test]
    fn a_quiet_connection_gets_one_early_ping_then_as_rare_as_grpc_allows() {
        let (asked, end) = asks(|_| false, |_| true);
        assert_eq!((asked[0], end), (30, None));
        assert!(asked.windows(2).all(|pair| pair[1] - pair[0] > 300), "{asked:?}");
    }

    #[test]
    fn an_unanswered_ping_closes_unless_a_stream_has_traffic() {
        assert_eq!(asks(|_| false, |_| false), (vec![30], Some(40)));
        let (asked, end) = asks(|second| second == 35, |second| second > 60);
        assert_eq!((asked[..2].to_vec(), end), (vec![30, 65], None));
    }

    #[test]
    fn a_resumed_connection_gets_one_ping_at_once() {
        let began = Moment::now().monotonic + Duration::from_secs(60);
        let at = |second| began + Duration::from_secs(second);
        let mut keepalive = Keepalive::new(began);
        keepalive.resume(at(9), Duration::from_secs(9));
        assert_eq!(keepalive.step(at(9), false, false), KeepaliveStep::Nothing);
        keepalive.resume(at(20), Duration::from_secs(10));
        assert_eq!(keepalive.step(at(20), false, false), KeepaliveStep::Ask);
        assert_eq!(keepalive.step(at(21), false, true), KeepaliveStep::Nothing);
        keepalive.resume(at(40), Duration::from_secs(19));
        assert_eq!(keepalive.step(at(40), false, false), KeepaliveStep::Nothing);
        keepalive.step(at(41), true, false);
        keepalive.resume(at(60), Duration::from_secs(19));
        assert_eq!(keepalive.step(at(60), false, false), KeepaliveStep::Ask);
        assert_eq!(keepalive.step(at(70), false, false), KeepaliveStep::GiveUp);
    }
}
