//! What an HTTP/2 client may make a connection do before it is told to calm down (RFC 9113 section
//! 10.5). The library bounds each frame and each header block; what adds up is bounded here.

use std::time::{Duration, Instant};

/// Streams a client may reset at once: a page with as many pictures as streams, left at once; at
/// least so many.
const MOST_RESETS: u32 = 200;
/// How soon one more may be reset: a hundred a second, which no reader's clicking comes to.
const FORGIVEN_EVERY: Duration = Duration::from_millis(10);
/// Bytes that may carry nothing beyond eight times what does, and those that time adds to them: a
/// PING a second is borne for ever. nginx has the same ratio, and a mebibyte.
const IDLE_TALK: u64 = 16 << 10;
const IDLE_TALK_A_SECOND: u64 = 128;
const TALK_FOR_PAYLOAD: u64 = 8;

/// Bytes that carry nothing before it is noticed: settings, windows and priorities of a beginning.
const FIRST_WORDS: u64 = 2 << 10;

/// How one connection has behaved so far.
#[derive(Debug)]
pub struct Conduct {
    resets: u32,
    most_resets: u32,
    forgiven_at: Instant,
    begun: Instant,
    payload: u64,
}

impl Conduct {
    /// Of a connection that begins and may have so many streams.
    pub fn new(now: Instant, streams: u32) -> Self {
        let most_resets = MOST_RESETS.max(streams);
        Self { resets: 0, most_resets, forgiven_at: now, begun: now, payload: 0 }
    }

    /// Notes that a stream was taken back before its answer was whole, or was refused. A request
    /// costs its client two small frames that way and a target all of its work (CVE-2023-44487), or
    /// us the reading of its head.
    pub fn note_reset(&mut self, now: Instant) {
        let gone = now.saturating_duration_since(self.forgiven_at);
        let forgiven = gone.as_millis() / FORGIVEN_EVERY.as_millis();
        let forgiven = u32::try_from(forgiven).unwrap_or(u32::MAX);
        if forgiven > 0 {
            self.resets = self.resets.saturating_sub(forgiven);
            self.forgiven_at = now;
        }
        self.resets += 1;
    }

    /// Notes bytes of heads and bodies, either way.
    pub fn note_payload(&mut self, bytes: u64) {
        self.payload = self.payload.saturating_add(bytes);
    }

    /// Whether the connection should end, given all bytes that went over it: too many streams
    /// were taken back, or too much of it was frames that carry nothing (CVE-2019-9512, 9515 and
    /// their kin: PING, SETTINGS, PRIORITY, empty frames).
    pub fn is_abusive(&self, total: u64, now: Instant) -> bool {
        let seconds = now.saturating_duration_since(self.begun).as_secs();
        let idle = IDLE_TALK.saturating_add(seconds.saturating_mul(IDLE_TALK_A_SECOND));
        let allowed = self.payload.saturating_add(idle).saturating_mul(TALK_FOR_PAYLOAD);
        self.resets > self.most_resets || total > allowed
    }

    /// Whether it should be listened to more slowly: most of it carried nothing. What ends it comes
    /// later, but until then others should not wait for it.
    pub fn is_talkative(&self, total: u64) -> bool {
        total > self.payload.saturating_mul(2).saturating_add(FIRST_WORDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::clock::Moment;

    #[test]
    fn a_page_that_is_left_is_forgiven_and_a_flood_of_resets_is_not() {
        let begin = Moment::now().monotonic;
        for (streams, most) in [(1, MOST_RESETS), (128, MOST_RESETS), (1_000, 1_000)] {
            let mut conduct = Conduct::new(begin, streams);
            for _ in 0..most {
                conduct.note_reset(begin);
            }
            assert!(!conduct.is_abusive(0, begin), "{streams}");
            conduct.note_reset(begin);
            assert!(conduct.is_abusive(0, begin), "{streams}");
        }
    }

    #[test]
    fn a_hundred_resets_a_second_go_on_for_ever_and_more_do_not() {
        for (every, tolerated) in [(10, true), (11, true), (9, false), (1, false)] {
            let begin = Moment::now().monotonic;
            let mut conduct = Conduct::new(begin, 128);
            for at in 1..=10_000 {
                conduct.note_reset(begin + Duration::from_millis(at * every));
            }
            assert_eq!(conduct.is_abusive(0, begin), !tolerated, "every {every} ms");
        }
    }

    #[test]
    fn frames_that_carry_nothing_are_borne_in_proportion_to_what_is_carried_and_to_time() {
        let begin = Moment::now().monotonic;
        let mut conduct = Conduct::new(begin, 128);
        let first = 8 * IDLE_TALK;
        assert!(!conduct.is_abusive(first, begin));
        assert!(conduct.is_abusive(first + 1, begin));
        let minute = begin + Duration::from_mins(1);
        assert!(!conduct.is_abusive(first + 60 * 1_024, minute));
        assert!(conduct.is_abusive(first + 60 * 1_024 + 1, minute));
        conduct.note_payload(1 << 20);
        assert!(!conduct.is_abusive(first + (8 << 20), begin));
        assert!(conduct.is_abusive(first + (8 << 20) + 1, begin));
    }

    #[test]
    fn who_carries_half_of_what_it_says_is_not_talkative() {
        let mut conduct = Conduct::new(Moment::now().monotonic, 128);
        assert!(!conduct.is_talkative(FIRST_WORDS));
        assert!(conduct.is_talkative(FIRST_WORDS + 1));
        conduct.note_payload(1 << 20);
        assert!(!conduct.is_talkative(FIRST_WORDS + (2 << 20)));
        assert!(conduct.is_talkative(FIRST_WORDS + (2 << 20) + 1));
    }
}
