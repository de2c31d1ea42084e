//! `slow_start`: the share of new clients of a target that becomes healthy grows with time from
//! zero to its weight (AWS, "Edit target group attributes": slow start mode).

use super::weight_fraction::WeightFraction;
use crate::policy::health::progress::State;
use std::time::Duration;

/// A target's stage of slow start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It was in the group when the group began, and no check has decided yet: targets that are
    /// registered together skip slow start.
    Founding,
    /// It is not healthy, or takes no new clients: slow start begins when both change.
    Waiting,
    /// It became healthy at this moment, and its share grows.
    Ramping {
        /// The time on the caller's clock.
        since: Duration,
    },
    /// It has its whole share.
    Full,
}

impl Stage {
    /// Returns its share at `now`, if slow start takes `duration`.
    pub(crate) fn share(self, now: Duration, duration: Duration) -> WeightFraction {
        match self {
            Stage::Ramping { since } => {
                WeightFraction::of_time(now.saturating_sub(since), duration)
            }
            Stage::Founding | Stage::Waiting | Stage::Full => WeightFraction::WHOLE,
        }
    }
}

/// A target of the group and its health now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observation {
    /// Its health state.
    pub state: State,
    /// True if new clients can go to it: it does not drain and has a weight.
    pub takes_unpinned: bool,
}

/// Updates the stages of all targets of a group. A target starts slowly only while another target
/// with a whole share can take the rest; when the last such target goes, all get their whole share.
/// A draining target counts as gone, and starts slowly when it is back.
pub(crate) fn advance(targets: &mut [(Stage, Observation)], now: Duration, duration: Duration) {
    for (stage, seen) in targets.iter_mut() {
        *stage = match (*stage, seen.state) {
            _ if !seen.takes_unpinned => Stage::Waiting,
            (Stage::Founding, State::Initial) => Stage::Founding,
            (Stage::Founding, State::Healthy) => Stage::Full,
            (_, State::Initial | State::Unhealthy) => Stage::Waiting,
            (Stage::Ramping { since }, _) if now.saturating_sub(since) >= duration => Stage::Full,
            (stage, State::Healthy) => stage,
        };
    }
    let is_carried = targets.iter().any(|(stage, _)| *stage == Stage::Full);
    let serves = |seen: &Observation| seen.state == State::Healthy && seen.takes_unpinned;
    for (stage, _) in targets.iter_mut().filter(|(_, seen)| serves(seen)) {
        *stage = match *stage {
            Stage::Waiting if is_carried => Stage::Ramping { since: now },
            _ if !is_carried => Stage::Full,
            stage => stage,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DURATION: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A group observed in these states, one second apart.
    struct Group {
        targets: Vec<(Stage, Observation)>,
        now: u64,
    }

    impl Group {
        fn of(count: usize) -> Self {
            let seen = Observation { state: State::Initial, takes_unpinned: true };
            Self { targets: vec![(Stage::Founding, seen); count], now: 0 }
        }

        fn see(&mut self, states: &[State]) -> Vec<u16> {
            for ((_, seen), state) in self.targets.iter_mut().zip(states) {
                seen.state = *state;
            }
            advance(&mut self.targets, at(self.now), DURATION);
            let share =
                |(stage, _): &(Stage, Observation)| stage.share(at(self.now), DURATION).parts();
            let shares = self.targets.iter().map(share).collect();
            self.now += 1;
            shares
        }
    }

    use State::{Healthy, Initial, Unhealthy};

    #[test]
    fn targets_present_when_the_group_begins_skip_slow_start() {
        let mut group = Group::of(3);
        assert_eq!(group.see(&[Healthy, Initial, Initial]), [1_024; 3]);
        assert_eq!(group.see(&[Healthy, Healthy, Initial]), [1_024; 3]);
        assert_eq!(group.see(&[Healthy, Healthy, Healthy]), [1_024; 3]);
    }

    #[test]
    fn a_returning_target_grows_linearly_and_starts_anew_after_a_failure() {
        let mut group = Group::of(2);
        group.see(&[Healthy, Unhealthy]);
        assert_eq!(group.see(&[Healthy, Healthy])[1], 0);
        group.now += 14;
        assert_eq!(group.see(&[Healthy, Healthy])[1], 512);
        group.see(&[Healthy, Unhealthy]);
        assert_eq!(group.see(&[Healthy, Healthy])[1], 0);
        group.now += 29;
        assert_eq!(group.see(&[Healthy, Healthy]), [1_024; 2]);
        assert_eq!(group.targets[1].0, Stage::Full);
    }

    #[test]
    fn no_target_starts_slowly_if_no_other_serves() {
        let mut group = Group::of(2);
        group.see(&[Unhealthy, Unhealthy]);
        assert_eq!(group.see(&[Healthy, Healthy]), [1_024; 2]);
        let mut group = Group::of(2);
        group.see(&[Healthy, Unhealthy]);
        assert_eq!(group.see(&[Healthy, Healthy])[1], 0);
        assert_eq!(group.see(&[Unhealthy, Healthy])[1], 1_024, "the one that carried it is gone");
        assert_eq!(group.see(&[Healthy, Healthy])[0], 0, "now it is the other's turn");
    }

    #[test]
    fn a_draining_target_takes_no_share_of_others() {
        let mut group = Group::of(2);
        group.targets[0].1.takes_unpinned = false;
        group.see(&[Healthy, Unhealthy]);
        assert_eq!(group.see(&[Healthy, Healthy])[1], 1_024);
    }

    #[test]
    fn a_draining_target_counts_as_gone_and_starts_anew_when_it_is_back() {
        let mut group = Group::of(2);
        group.see(&[Healthy, Unhealthy]);
        group.see(&[Healthy, Healthy]);
        group.now += 20;
        assert!(group.see(&[Healthy, Healthy])[1] > 512);
        group.targets[1].1.takes_unpinned = false;
        group.see(&[Healthy, Healthy]);
        assert_eq!(group.targets[1].0, Stage::Waiting);
        group.targets[1].1.takes_unpinned = true;
        assert_eq!(group.see(&[Healthy, Healthy])[1], 0);
    }

    proptest! {
        #[test]
        fn a_share_falls_only_with_its_target_and_one_target_has_a_whole_share(
            story in prop::collection::vec(prop::collection::vec(0..5u8, 4), 1..200),
        ) {
            let mut group = Group::of(4);
            let mut before = vec![1_024; 4];
            let mut was = vec![Initial; 4];
            for states in story {
                let states: Vec<State> = states
                    .iter()
                    .map(|roll| [Healthy, Healthy, Healthy, Unhealthy, Initial][usize::from(*roll)])
                    .collect();
                let shares = group.see(&states);
                for at in 0..4 {
                    let stayed = was[at] == Healthy && states[at] == Healthy;
                    prop_assert!(!stayed || shares[at] >= before[at], "{before:?} {shares:?}");
                }
                let healthy: Vec<_> = (0..4).filter(|&at| states[at] == Healthy).collect();
                let whole = healthy.iter().any(|&at| shares[at] == 1_024);
                prop_assert!(healthy.is_empty() || whole, "{shares:?}");
                (before, was) = (shares, states);
            }
        }
    }
}
