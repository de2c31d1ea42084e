//! `anomaly_mitigation`: a target that fails more requests than its peers gets few new clients;
//! when it fails no more than they do, its share grows back step by step (AWS, "Automatic Target
//! Weights").

use super::weight_fraction::WeightFraction;

/// The minimum number of healthy targets: with fewer, no target can be called the exception, and
/// all are normal.
pub(crate) const MIN_HEALTHY: usize = 3;

/// Requests that a target and its peers must have for a judgement.
const SMALLEST_SAMPLE: u64 = 20;

/// Evaluations after which a target is judged by any sample: a target whose share was cut must not
/// wait without end to be judged normal.
const MAX_SAMPLE: u32 = 12;

/// The share an anomalous target keeps, so that its recovery is noticed: a thirty-second.
const MINIMUM: WeightFraction = WeightFraction::of_parts(32);

/// The share a normal target regains with each evaluation, in 1024ths: the whole after twelve,
/// which is a minute.
const GAIN: u16 = 83;

/// Results of requests to a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Requests that got a response or lost their connection.
    pub requests: u64,
    /// Of these, those answered with 5xx and those whose connection failed.
    pub failures: u64,
}

impl Sample {
    fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            failures: self.failures.saturating_add(other.failures),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(other.requests),
            failures: self.failures.saturating_sub(other.failures),
        }
    }

    /// Returns true if its rate of failures is more than twice the peers', and more than ten
    /// percentage points above it: a small difference is chance, and if most targets fail, none is
    /// the exception.
    fn is_worse_than(self, peers: Self) -> bool {
        let wide = |number: u64| u128::from(number);
        let own = (10 * wide(self.failures)).saturating_mul(wide(peers.requests));
        let bound = 20 * wide(peers.failures) + wide(peers.requests);
        own > wide(self.requests).saturating_mul(bound)
    }
}

/// ALB's two words for a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It fails no more than its peers.
    #[default]
    Normal,
    /// It fails more than its peers.
    Anomalous,
}

/// The state of one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AnomalyState {
    /// The last judgement.
    pub judgement: Judgement,
    /// The fraction of its weight that applies to new clients.
    pub fraction: WeightFraction,
    sample: Sample,
    looks: u32,
}

impl Default for AnomalyState {
    fn default() -> Self {
        Self {
            judgement: Judgement::Normal,
            fraction: WeightFraction::WHOLE,
            sample: Sample::default(),
            looks: 0,
        }
    }
}

/// Judges all targets of a group, given the results of their requests since the last evaluation.
/// `None` is a target that is not healthy: its judgement stays, and it is not a peer.
pub(crate) fn check(targets: &mut [(AnomalyState, Option<Sample>)]) {
    let mut all = Sample::default();
    let mut healthy = 0;
    for (state, since) in targets.iter_mut() {
        match *since {
            Some(since) => {
                state.sample = state.sample.plus(since);
                state.looks += 1;
                all = all.plus(state.sample);
                healthy += 1;
            }
            None => (state.sample, state.looks) = (Sample::default(), 0),
        }
    }
    for (state, _) in targets.iter_mut().filter(|(_, since)| since.is_some()) {
        let peers = all.minus(state.sample);
        let enough = state.sample.requests.min(peers.requests) >= SMALLEST_SAMPLE;
        if healthy < MIN_HEALTHY {
            state.apply(Judgement::Normal);
        } else if enough || state.looks >= MAX_SAMPLE {
            // A sample too small to compare cannot make a target anomalous; it can leave it so.
            let may_be = enough || state.judgement == Judgement::Anomalous;
            state.apply(match may_be && state.sample.is_worse_than(peers) {
                true => Judgement::Anomalous,
                false => Judgement::Normal,
            });
        }
        state.fraction = match state.judgement {
            Judgement::Anomalous => MINIMUM,
            Judgement::Normal => state.fraction.plus(GAIN),
        };
    }
}

impl AnomalyState {
    /// Sets the judgement and begins another sample.
    fn apply(&mut self, judgement: Judgement) {
        *self = Self { judgement, fraction: self.fraction, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(requests: u64, failures: u64) -> Option<Sample> {
        Some(Sample { requests, failures })
    }

    /// Returns the group after one more evaluation, and for each target true if it is anomalous.
    fn after(
        group: &mut [(AnomalyState, Option<Sample>)],
        samples: &[Option<Sample>],
    ) -> Vec<bool> {
        for ((_, since), sample) in group.iter_mut().zip(samples) {
            *since = *sample;
        }
        check(group);
        group.iter().map(|(state, _)| state.judgement == Judgement::Anomalous).collect()
    }

    fn group(count: usize) -> Vec<(AnomalyState, Option<Sample>)> {
        vec![(AnomalyState::default(), None); count]
    }

    #[test]
    fn a_failing_target_is_cut_at_once_and_recovers_step_by_step() {
        let mut group = group(3);
        let well = sample(100, 1);
        assert_eq!(after(&mut group, &[well, sample(30, 15), well]), [false, true, false]);
        assert_eq!(group[1].0.fraction, MINIMUM);
        assert_eq!(group[0].0.fraction, WeightFraction::WHOLE);
        let mut before = MINIMUM;
        for _ in 0..12 {
            assert_eq!(after(&mut group, &[well, sample(30, 0), well]), [false; 3]);
            assert!(group[1].0.fraction > before);
            before = group[1].0.fraction;
        }
        assert_eq!(before, WeightFraction::WHOLE);
    }

    #[test]
    fn a_target_is_judged_by_enough_requests_and_enough_healthy_peers() {
        let (well, bad) = (sample(100, 0), sample(100, 60));
        for (samples, expected) in [
            (&[well, bad][..], &[false, false][..]),
            (&[well, bad, None], &[false; 3]),
            (&[well, well, sample(19, 19)], &[false; 3]),
            (&[sample(5, 0), sample(5, 0), bad], &[false; 3]),
            (&[well, well, sample(100, 10)], &[false; 3]),
            (&[well, well, sample(100, 11)], &[false, false, true]),
            (&[well, bad, bad], &[false; 3]),
            (&[well, well, well, bad, bad], &[false, false, false, true, true]),
            (&[bad, bad, bad], &[false; 3]),
        ] {
            assert_eq!(after(&mut group(samples.len()), samples), expected, "{samples:?}");
        }
    }

    #[test]
    fn small_samples_add_up_until_they_are_enough() {
        let mut group = group(3);
        let (well, bad) = (sample(100, 0), sample(5, 5));
        for expected in [false, false, false, true] {
            assert_eq!(after(&mut group, &[well, well, bad])[2], expected);
        }
    }

    #[test]
    fn a_cut_target_without_requests_is_tried_again_within_a_minute() {
        let mut group = group(3);
        let well = sample(100, 0);
        after(&mut group, &[well, well, sample(100, 100)]);
        for look in 1..=MAX_SAMPLE {
            assert_eq!(after(&mut group, &[well, well, sample(0, 0)])[2], look < MAX_SAMPLE);
        }
    }

    proptest! {
        #[test]
        fn shares_stay_in_bounds_and_equal_targets_are_never_anomalous(
            story in prop::collection::vec(
                prop::collection::vec(prop::option::of((any::<u64>(), any::<u64>())), 5), 1..40),
            alike in (1..100_000u64, 0..100_000u64),
        ) {
            let mut random = group(5);
            for samples in story {
                let samples: Vec<_> =
                    samples.iter().map(|one| one.and_then(|(a, b)| sample(a, b % a.max(1)))).collect();
                after(&mut random, &samples);
                for (state, _) in &random {
                    prop_assert!((MINIMUM..=WeightFraction::WHOLE).contains(&state.fraction));
                    prop_assert!(state.looks <= MAX_SAMPLE);
                }
            }
            let same = sample(alike.0, alike.1.min(alike.0));
            prop_assert_eq!(after(&mut group(5), &[same; 5]), [false; 5]);
        }

        #[test]
        fn every_target_has_its_whole_share_three_minutes_after_the_last_failure(
            story in prop::collection::vec(prop::collection::vec((0..200u64, 0..200u64), 4), 0..30),
            rest in prop::collection::vec(0..200u64, 4),
        ) {
            let mut group = group(4);
            for samples in story {
                let samples: Vec<_> = samples.iter().map(|(a, b)| sample(*a, *b.min(a))).collect();
                after(&mut group, &samples);
            }
            let rest: Vec<_> = rest.iter().map(|&requests| sample(requests, 0)).collect();
            for _ in 0..3 * MAX_SAMPLE {
                after(&mut group, &rest);
            }
            prop_assert!(group.iter().all(|(state, _)| state.fraction == WeightFraction::WHOLE));
        }
    }
}
