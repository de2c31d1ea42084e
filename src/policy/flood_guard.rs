//! Limits on the work an HTTP/2 client can cause on a connection (RFC 9113 section 10.5). The
//! library bounds each frame and each header block; this file bounds their sum over a connection.

use std::time::{Duration, Instant};

/// Resets of streams in a client's allowance: a page with as many images as streams, left at once;
/// at least this many.
const MIN_RESET_ALLOWANCE: u32 = 200;
/// The allowance regains one reset per interval: a hundred a second, more than a reader's clicks.
const RESET_REGAINED_EVERY: Duration = Duration::from_millis(10);
/// Control-frame allowance. A connection may send eight times (payload + allowance) bytes in total,
/// and the allowance grows with time: one PING per second never exceeds it. nginx has the same
/// ratio, and a mebibyte.
const CONTROL_ALLOWANCE: u64 = 16 << 10;
const CONTROL_ALLOWANCE_PER_SECOND: u64 = 128;
const MAX_TOTAL_TO_PAYLOAD: u64 = 8;
/// Bytes without payload that the first exchange of SETTINGS, WINDOW_UPDATE and PRIORITY may take
/// before the throttle applies.
const OPENING_BYTES: u64 = 2 << 10;

/// Read delay after a turn of mostly control frames: 300 times the CPU time of that turn, so that a
/// hundred such clients take a third of a worker; 1,000 times if the turn carried no payload. A
/// delay costs other clients less than a close, after which the client reconnects at once.
const PAUSE_PER_WORK: u32 = 300;
const MAX_PAUSE: Duration = Duration::from_millis(250);
const EMPTY_PAUSE_PER_WORK: u32 = 1_000;
const MAX_EMPTY_PAUSE: Duration = Duration::from_secs(1);
const MIN_PAUSE: Duration = Duration::from_millis(10);
/// A client is closed after this time of control frames alone, if they come faster than they are
/// read.
const MAX_EMPTY_TIME: Duration = Duration::from_secs(10);

/// Counts the frames of one connection, and decides how fast it is read.
#[derive(Debug)]
pub(crate) struct FloodGuard {
    resets: u32,
    max_resets: u32,
    regained_at: Instant,
    began: Instant,
    payload: u64,
    is_throttled: bool,
    /// The end of the first of the consecutive turns without payload.
    empty_since: Option<Instant>,
}

/// One turn of reading from a client, at its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadTurn {
    /// Bytes of heads and bodies it carried.
    pub carried: u64,
    /// True if it ended at its budget, so that more may be there to read.
    pub was_cut: bool,
    /// CPU time it took; zero if [`FloodGuard::is_throttled`] did not ask for it.
    pub work: Duration,
}

/// The next step of reading a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A turn of reading.
    Read,
    /// A short turn of reading: every other client waits for the turns of a hundred clients that
    /// send control frames alone.
    ReadShort,
    /// No reading for this time, then [`FloodGuard::after_pause`].
    Pause(Duration),
    /// The connection is closed.
    Close,
}

impl FloodGuard {
    /// The guard of a new connection with this maximum of streams.
    pub(crate) fn new(now: Instant, streams: u32) -> Self {
        Self {
            resets: 0,
            max_resets: MIN_RESET_ALLOWANCE.max(streams),
            regained_at: now,
            began: now,
            payload: 0,
            is_throttled: false,
            empty_since: None,
        }
    }

    /// Records a stream that was reset before its response was complete, or refused. Such a request
    /// costs its client two small frames, and a target all of its work (CVE-2023-44487), or us the
    /// reading of its head.
    pub(crate) fn record_reset(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.regained_at);
        let regained = elapsed.as_millis() / RESET_REGAINED_EVERY.as_millis();
        let regained = u32::try_from(regained).unwrap_or(u32::MAX);
        if regained > 0 {
            self.resets = self.resets.saturating_sub(regained);
            self.regained_at = now;
        }
        self.resets += 1;
    }

    /// Records bytes of heads and bodies, in either direction.
    pub(crate) fn record_payload(&mut self, bytes: u64) {
        self.payload = self.payload.saturating_add(bytes);
    }

    /// Returns true if the connection must end, given all its bytes so far: too many streams were
    /// reset, or too many of the bytes were control frames (CVE-2019-9512, 9515 and similar: PING,
    /// SETTINGS, PRIORITY, empty frames).
    pub(crate) fn is_abusive(&self, total: u64, now: Instant) -> bool {
        let seconds = now.saturating_duration_since(self.began).as_secs();
        let growth = seconds.saturating_mul(CONTROL_ALLOWANCE_PER_SECOND);
        let allowance = CONTROL_ALLOWANCE.saturating_add(growth);
        let allowed = self.payload.saturating_add(allowance).saturating_mul(MAX_TOTAL_TO_PAYLOAD);
        self.resets > self.max_resets || total > allowed
    }

    /// Decides the step after a turn of reading, given all bytes of the connection so far.
    /// `turn.carried` was recorded before.
    pub(crate) fn after_turn(&mut self, total: u64, turn: ReadTurn, now: Instant) -> Next {
        self.is_throttled = turn.was_cut && self.is_mostly_control_frames(total);
        let is_empty = self.is_throttled && turn.carried == 0;
        self.empty_since = is_empty.then(|| self.empty_since.unwrap_or(now));
        if !self.is_throttled {
            return Next::Read;
        }
        let over = |since| now.saturating_duration_since(since) >= MAX_EMPTY_TIME;
        if self.empty_since.is_some_and(over) {
            return Next::Close;
        }
        let pause = if is_empty {
            (turn.work * EMPTY_PAUSE_PER_WORK).clamp(MIN_PAUSE, MAX_EMPTY_PAUSE)
        } else {
            (turn.work * PAUSE_PER_WORK).clamp(MIN_PAUSE, MAX_PAUSE)
        };
        Next::Pause(pause)
    }

    /// Decides the step after a pause.
    pub(crate) fn after_pause(&self) -> Next {
        if self.empty_since.is_some() { Next::ReadShort } else { Next::Read }
    }

    /// True if the CPU time of the next turn is needed. Most connections never need a clock for it.
    pub(crate) fn is_throttled(&self) -> bool {
        self.is_throttled
    }

    /// Returns true if more than half of all bytes were control frames. The bound that ends the
    /// connection comes later, but until then other clients should not wait for this one.
    fn is_mostly_control_frames(&self, total: u64) -> bool {
        total > self.payload.saturating_mul(2).saturating_add(OPENING_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Moment;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    const fn us(count: u64) -> Duration {
        Duration::from_micros(count)
    }

    #[test]
    fn leaving_a_page_is_allowed_and_a_flood_of_resets_is_not() {
        let begin = Moment::now().monotonic;
        for (streams, most) in
            [(1, MIN_RESET_ALLOWANCE), (128, MIN_RESET_ALLOWANCE), (1_000, 1_000)]
        {
            let mut guard = FloodGuard::new(begin, streams);
            for _ in 0..most {
                guard.record_reset(begin);
            }
            assert!(!guard.is_abusive(0, begin), "{streams}");
            guard.record_reset(begin);
            assert!(guard.is_abusive(0, begin), "{streams}");
        }
    }

    #[test]
    fn a_hundred_resets_a_second_are_always_allowed_and_more_are_not() {
        for (every, tolerated) in [(10, true), (11, true), (9, false), (1, false)] {
            let begin = Moment::now().monotonic;
            let mut guard = FloodGuard::new(begin, 128);
            for at in 1..=10_000 {
                guard.record_reset(begin + ms(at * every));
            }
            assert_eq!(guard.is_abusive(0, begin), !tolerated, "every {every} ms");
        }
    }

    #[test]
    fn control_frames_are_allowed_in_proportion_to_payload_and_to_time() {
        let begin = Moment::now().monotonic;
        let mut guard = FloodGuard::new(begin, 128);
        let first = 8 * CONTROL_ALLOWANCE;
        assert!(!guard.is_abusive(first, begin));
        assert!(guard.is_abusive(first + 1, begin));
        let minute = begin + Duration::from_mins(1);
        assert!(!guard.is_abusive(first + 60 * 1_024, minute));
        assert!(guard.is_abusive(first + 60 * 1_024 + 1, minute));
        guard.record_payload(1 << 20);
        assert!(!guard.is_abusive(first + (8 << 20), begin));
        assert!(guard.is_abusive(first + (8 << 20) + 1, begin));
    }

    #[test]
    fn a_client_with_more_control_frames_than_payload_is_throttled() {
        let now = Moment::now().monotonic;
        let turn = ReadTurn { carried: 0, was_cut: true, work: Duration::ZERO };
        let mut guard = FloodGuard::new(now, 128);
        for (payload, total, expected) in [
            (0, OPENING_BYTES, Next::Read),
            (0, OPENING_BYTES + 1, Next::Pause(MIN_PAUSE)),
            (1 << 20, OPENING_BYTES + (2 << 20), Next::Read),
            (0, OPENING_BYTES + (2 << 20) + 1, Next::Pause(MIN_PAUSE)),
        ] {
            guard.record_payload(payload);
            assert_eq!(guard.after_turn(total, turn, now), expected, "{payload} of {total}");
            assert_eq!(guard.is_throttled(), expected != Next::Read);
        }
    }

    #[test]
    fn a_pause_is_a_multiple_of_the_turns_cpu_time_between_two_bounds() {
        let now = Moment::now().monotonic;
        let flood = 1 << 20;
        for (carried, was_cut, work, expected) in [
            // A turn that read everything available is no flood, with or without payload.
            (0, false, ms(9), Next::Read),
            (100, false, ms(9), Next::Read),
            // 300 times the work, from 10 ms to 250 ms.
            (1, true, Duration::ZERO, Next::Pause(ms(10))),
            (1, true, us(33), Next::Pause(ms(10))),
            (1, true, us(100), Next::Pause(ms(30))),
            (100, true, us(833), Next::Pause(us(249_900))),
            (100, true, us(834), Next::Pause(ms(250))),
            (100, true, ms(500), Next::Pause(ms(250))),
            // 1,000 times, from 10 ms to a second, if no payload was carried.
            (0, true, Duration::ZERO, Next::Pause(ms(10))),
            (0, true, us(9), Next::Pause(ms(10))),
            (0, true, us(100), Next::Pause(ms(100))),
            (0, true, us(999), Next::Pause(ms(999))),
            (0, true, ms(1), Next::Pause(ms(1_000))),
            (0, true, ms(500), Next::Pause(ms(1_000))),
        ] {
            let mut guard = FloodGuard::new(now, 128);
            let turn = ReadTurn { carried, was_cut, work };
            assert_eq!(guard.after_turn(flood, turn, now), expected, "{turn:?}");
        }
    }

    #[test]
    fn turns_are_short_only_while_they_carry_no_payload() {
        let now = Moment::now().monotonic;
        let mut guard = FloodGuard::new(now, 128);
        assert_eq!(guard.after_pause(), Next::Read, "before any turn");
        for (carried, was_cut, expected) in [
            (0, true, Next::ReadShort),
            (1, true, Next::Read),
            (0, true, Next::ReadShort),
            (0, false, Next::Read),
        ] {
            guard.after_turn(1 << 20, ReadTurn { carried, was_cut, work: ms(1) }, now);
            assert_eq!(guard.after_pause(), expected, "{carried} {was_cut}");
        }
    }

    #[test]
    fn ten_consecutive_seconds_without_payload_end_the_connection() {
        let begin = Moment::now().monotonic;
        let empty = ReadTurn { carried: 0, was_cut: true, work: ms(1) };
        for (between, closes) in [
            (None, true),
            (Some(ReadTurn { carried: 1, ..empty }), false),
            (Some(ReadTurn { was_cut: false, ..empty }), false),
        ] {
            let mut guard = FloodGuard::new(begin, 128);
            let pause = Next::Pause(MAX_EMPTY_PAUSE);
            assert_eq!(guard.after_turn(1 << 20, empty, begin), pause);
            let late = begin + MAX_EMPTY_TIME;
            assert_eq!(guard.after_turn(1 << 20, empty, late - ms(1)), pause);
            if let Some(turn) = between {
                guard.after_turn(1 << 20, turn, late - ms(1));
            }
            let expected = if closes { Next::Close } else { pause };
            assert_eq!(guard.after_turn(1 << 20, empty, late), expected, "{between:?}");
        }
    }
}
