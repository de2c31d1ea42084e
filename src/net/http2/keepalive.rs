//! When a connection with streams on it is asked whether it still lives.
//!
//! A connection that died without a word is only found by writing on it, and a call may wait for an
//! answer for hours. But servers of gRPC take pings on a quiet connection for an attack if more than
//! two of them come sooner than five minutes after one another (gRPC, "Keepalive"); so the first
//! comes soon, and what follows in the same quiet comes late.

use std::time::{Duration, Instant};

/// Quiet before the first ping.
const FIRST: Duration = Duration::from_secs(30);
/// Between one and the next in the same quiet: five minutes, and some for the way.
const NEXT: Duration = Duration::from_secs(310);
/// Without streams for longer than this it may have died in silence, behind a NAT that forgot it: it
/// is asked as soon as it has one again.
const LONG_IDLE: Duration = Duration::from_secs(10);
/// For the answer.
const ANSWER: Duration = Duration::from_secs(10);

/// What is known of a connection's last signs of life.
#[derive(Debug)]
pub(super) struct Keepalive {
    quiet_since: Instant,
    asked: Option<Instant>,
    /// When the last ping of this quiet was answered.
    answered: Option<Instant>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeepaliveStep {
    /// Nothing.
    Nothing,
    /// A ping is due.
    Ask,
    /// It is dead.
    GiveUp,
}

impl Keepalive {
    /// Of a connection just made.
    pub(super) fn new(now: Instant) -> Self {
        Self { quiet_since: now, asked: None, answered: None }
    }

    /// It has a stream again after having had none for so long: nothing was expected of it meanwhile.
    pub(super) fn resume(&mut self, now: Instant, idle: Duration) {
        // One ping, and not a second before anything came: see above.
        let is_due = idle >= LONG_IDLE && self.answered.is_none();
        let before = if is_due { FIRST } else { Duration::ZERO };
        self.quiet_since = now.checked_sub(before).unwrap_or(now);
        self.asked = None;
        self.answered = None;
    }

    /// Says what to do now. `active`: something came on a stream since it was last asked;
    /// `answered`: the ping under way was.
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

    /// The seconds at which it asks within an hour, and when it gives up, if it does.
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
    fn a_busy_connection_is_never_asked() {
        assert_eq!(asks(|second| second % 29 == 0, |_| true), (vec![], None));
    }

    #[test]
    fn a_quiet_one_is_asked_once_soon_and_then_as_seldom_as_grpc_allows() {
        let (asked, end) = asks(|_| false, |_| true);
        assert_eq!((asked[0], end), (30, None));
        assert!(asked.windows(2).all(|pair| pair[1] - pair[0] > 300), "{asked:?}");
    }

    #[test]
    fn one_that_does_not_answer_is_given_up_and_an_answer_on_a_stream_is_one() {
        assert_eq!(asks(|_| false, |_| false), (vec![30], Some(40)));
        let (asked, end) = asks(|second| second == 35, |second| second > 60);
        assert_eq!((asked[..2].to_vec(), end), (vec![30, 65], None));
    }

    #[test]
    fn one_taken_again_after_a_while_is_asked_at_once_and_not_twice_for_nothing() {
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
