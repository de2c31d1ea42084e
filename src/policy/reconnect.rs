//! One worker's view of one target that refuses connections: when it is dialled again, and how the
//! requests that wait for it are released once it accepts.

use std::time::{Duration, Instant};

/// The first pause between two dials. At this rate, and one dial at a time, a dead target gets at
/// most twenty dials a second from a worker.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The maximum pause: a target that returns is noticed within about a second.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// A target that refuses, or did until a moment ago.
#[derive(Clone, Debug)]
pub(crate) struct Reconnect {
    /// The first refusal of the run.
    since: Instant,
    last_refused: Instant,
    pause: Duration,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// One dial at a time tries it.
    Refusing,
    /// It accepted a connection: the waiting requests are released in batches.
    Opening {
        /// The size of the next batch.
        batch: u32,
        /// Requests of the batch before whose connect has no result yet.
        outstanding: u32,
        /// True if one of them was refused.
        refused: bool,
    },
    /// It accepts connections again.
    Open,
}

impl Reconnect {
    /// The state after the first refusal.
    pub(crate) fn begin(now: Instant) -> Self {
        Self { since: now, last_refused: now, pause: FIRST_PAUSE, stage: Stage::Refusing }
    }

    /// True if one dial at a time tries it.
    pub(crate) fn is_refusing(&self) -> bool {
        self.stage == Stage::Refusing
    }

    /// True if requests may dial it without waiting.
    pub(crate) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// True if a dial failed within the last second.
    pub(crate) fn refused_lately(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last_refused) < Duration::from_secs(1)
    }

    /// True if it has refused for so long that no request waits for it any more.
    pub(crate) fn is_lasting(&self, now: Instant, reconnect: Duration) -> bool {
        self.stage == Stage::Refusing && now.saturating_duration_since(self.since) >= reconnect
    }

    /// Records a refusal of a request that dialled before the first refusal was known, so this did
    /// not release it. If `goes_on`, more dials follow, and it begins a run.
    pub(crate) fn record_refusal(&mut self, now: Instant, goes_on: bool) {
        self.last_refused = now;
        match self.stage {
            _ if !goes_on => self.stage = Stage::Open,
            Stage::Open => {
                (self.since, self.pause, self.stage) = (now, FIRST_PAUSE, Stage::Refusing)
            }
            Stage::Refusing | Stage::Opening { .. } => {}
        }
    }

    /// The pause before the next dial: doubled each time, a quarter more or less, so that workers
    /// and nodes do not dial together; the first pause between batches. `random` is 64 random bits.
    pub(crate) fn pause(&mut self, random: u64) -> Duration {
        let pause = self.pause;
        if self.stage == Stage::Refusing {
            self.pause = (pause * 2).min(MAX_PAUSE);
        }
        // 0.75 to 1.25, in steps of a 512th.
        pause * (384 + (random % 257) as u32) / 512
    }

    /// Records that the dial was refused.
    pub(crate) fn dial_refused(&mut self, now: Instant) {
        self.last_refused = now;
    }

    /// Records that the dial succeeded.
    pub(crate) fn dial_succeeded(&mut self) {
        self.pause = FIRST_PAUSE;
        self.stage = Stage::Opening { batch: 1, outstanding: 0, refused: false };
    }

    /// Ends the dialling.
    pub(crate) fn give_up(&mut self) {
        self.stage = Stage::Open;
    }

    /// The number of waiting requests to release now. If none waits and none is outstanding, the
    /// target is open again.
    pub(crate) fn release_batch(&mut self, waiting: usize) -> usize {
        let Stage::Opening { batch, outstanding: 0, .. } = self.stage else { return 0 };
        if waiting == 0 {
            self.stage = Stage::Open;
            return 0;
        }
        let going = u32::try_from(waiting).unwrap_or(u32::MAX).min(batch);
        self.stage = Stage::Opening { batch, outstanding: going, refused: false };
        going as usize
    }

    /// Records that a released request connected, or was refused. The next batch is twice or half
    /// as large. Returns true if it may go at once; false if others of this batch are outstanding,
    /// or one was refused, which needs a pause. If a batch of one is refused, single dials begin
    /// anew.
    pub(crate) fn outcome(&mut self, connected: bool, now: Instant) -> bool {
        if !connected {
            self.last_refused = now;
        }
        let Stage::Opening { batch, outstanding, refused } = self.stage else { return false };
        let refused = refused || !connected;
        let outstanding = outstanding.saturating_sub(1);
        let (next, row) = match (outstanding, refused) {
            (1.., _) => (batch, None),
            (0, false) => (batch.saturating_mul(2), None),
            (0, true) => (batch / 2, (batch == 1).then_some(now)),
        };
        self.stage = Stage::Opening { batch: next, outstanding, refused };
        if let Some(now) = row {
            (self.since, self.pause, self.stage) = (now, FIRST_PAUSE, Stage::Refusing);
        }
        outstanding == 0 && !refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Moment;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn pauses_double_from_50_ms_to_1_s_and_allow_20_dials_a_second_at_most() {
        let now = Moment::now().monotonic;
        for (random, share) in [(0, 384), (128, 512), (256, 640)] {
            let mut reconnect = Reconnect::begin(now);
            let pauses: Vec<_> = (0..7).map(|_| reconnect.pause(random)).collect();
            let expected =
                [50, 100, 200, 400, 800, 1_000, 1_000].map(|pause| ms(pause) * share / 512);
            assert_eq!(pauses, expected);
            let mut at = Duration::ZERO;
            let dials = pauses.iter().filter(|pause| {
                at += **pause;
                at <= ms(1_000)
            });
            assert!(dials.count() < 20);
        }
    }

    #[test]
    fn batches_double_after_successes_and_halve_after_a_refusal() {
        let now = Moment::now().monotonic;
        let mut reconnect = Reconnect::begin(now);
        assert_eq!(reconnect.release_batch(100), 0, "while it refuses none goes");
        (0..5).for_each(|_| assert!(reconnect.pause(0) < MAX_PAUSE));
        reconnect.dial_succeeded();
        let between = [reconnect.pause(128), reconnect.pause(128)];
        assert_eq!(between, [FIRST_PAUSE; 2], "a batch does not wait as long as a dial");
        let mut sizes = Vec::new();
        for refused in [false, false, false, true, true, false] {
            let size = reconnect.release_batch(100);
            assert_eq!(reconnect.release_batch(100), 0, "one batch at a time");
            sizes.push(size);
            let ends: Vec<_> =
                (0..size).map(|at| reconnect.outcome(!(refused && at == 0), now)).collect();
            let (last, before) = ends.split_last().unwrap();
            assert!(before.iter().all(|goes_on| !goes_on));
            assert_eq!(*last, !refused);
        }
        assert_eq!(sizes, [1, 2, 4, 8, 4, 2]);
        assert_eq!(reconnect.release_batch(1), 1);
        assert!(!reconnect.is_open());
        reconnect.outcome(true, now);
        assert_eq!(reconnect.release_batch(0), 0);
        assert!(reconnect.is_open());
    }

    #[test]
    fn a_refused_batch_of_one_begins_single_dials_anew() {
        let now = Moment::now().monotonic;
        let mut reconnect = Reconnect::begin(now);
        (0..5).for_each(|_| assert!(reconnect.pause(0) < MAX_PAUSE));
        reconnect.dial_succeeded();
        assert_eq!(reconnect.release_batch(5), 1);
        assert!(!reconnect.outcome(false, now + ms(100)));
        assert!(reconnect.is_refusing() && reconnect.release_batch(5) == 0);
        assert_eq!(reconnect.pause(128), FIRST_PAUSE);
        assert!(!reconnect.is_lasting(now + ms(1_099), ms(1_000)), "this is another row");
        assert!(reconnect.is_lasting(now + ms(1_100), ms(1_000)));
    }

    #[test]
    fn a_run_of_refusals_lasts_from_its_first_until_a_success() {
        let begun = Moment::now().monotonic;
        let mut reconnect = Reconnect::begin(begun);
        reconnect.dial_refused(begun + ms(900));
        reconnect.record_refusal(begun + ms(950), true);
        assert!(!reconnect.is_lasting(begun + ms(999), ms(1_000)));
        assert!(reconnect.is_lasting(begun + ms(1_000), ms(1_000)));
        assert!(reconnect.refused_lately(begun + ms(1_949)));
        assert!(!reconnect.refused_lately(begun + ms(1_950)));
        reconnect.dial_succeeded();
        assert!(!reconnect.is_lasting(begun + ms(5_000), ms(1_000)));
        reconnect.release_batch(0);
        reconnect.record_refusal(begun + ms(6_000), true);
        assert!(!reconnect.is_open() && !reconnect.is_lasting(begun + ms(6_999), ms(1_000)));
        assert!(reconnect.is_lasting(begun + ms(7_000), ms(1_000)));
        // Once checks have made it unhealthy, there is no run any more.
        reconnect.record_refusal(begun + ms(8_000), false);
        assert!(reconnect.is_open() && reconnect.refused_lately(begun + ms(8_000)));
    }
}
