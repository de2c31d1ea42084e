//! `slow_start`: a target that becomes healthy gets a share of newcomers that grows with time from
//! nothing to its own (AWS, "Edit target group attributes": slow start mode).

use super::weight_fraction::WeightFraction;
use crate::policy::health::progress::State;
use std::time::Duration;

/// How far a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It was there when the group began, and nothing is known of it yet: those who are registered
    /// together do not begin slowly.
    Founding,
    /// It is not healthy, or takes no newcomers: it will begin slowly when it is and does.
    Waiting,
    /// It became healthy at this moment, and its share grows.
    Ramping {
        /// On the caller's clock.
        since: Duration,
    },
    /// It has its whole share.
    Full,
}

impl Stage {
    /// The share it has now, where the whole takes `duration`.
    pub fn share(self, now: Duration, duration: Duration) -> WeightFraction {
        match self {
            Stage::Ramping { since } => {
                WeightFraction::of_time(now.saturating_sub(since), duration)
            }
            Stage::Founding | Stage::Waiting | Stage::Full => WeightFraction::WHOLE,
        }
    }
}

/// A target of the group, as its health is now.
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    /// What is known of it.
    pub state: State,
    /// It does not drain and has a weight, so that newcomers can go to it.
    pub takes_unpinned: bool,
}

/// Takes all targets of a group to where they are now. A target begins slowly only while another,
/// that does not, can take what it leaves; when the last such one goes, all have their whole share.
/// One that drains has left, and begins anew when it is back.
pub fn advance(targets: &mut [(Stage, Observation)], now: Duration, duration: Duration) {
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

    /// A group that is seen in these states, one second after the other.
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
    fn those_who_are_there_when_the_group_begins_have_their_whole_share_one_after_the_other() {
        let mut group = Group::of(3);
        assert_eq!(group.see(&[Healthy, Initial, Initial]), [1_024; 3]);
        assert_eq!(group.see(&[Healthy, Healthy, Initial]), [1_024; 3]);
        assert_eq!(group.see(&[Healthy, Healthy, Healthy]), [1_024; 3]);
    }

    #[test]
    fn a_target_that_comes_back_grows_linearly_and_begins_anew_when_it_falls() {
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
    fn nobody_begins_slowly_where_nobody_else_serves() {
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
    fn one_that_drains_carries_nobody() {
        let mut group = Group::of(2);
        group.targets[0].1.takes_unpinned = false;
        group.see(&[Healthy, Unhealthy]);
        assert_eq!(group.see(&[Healthy, Healthy])[1], 1_024);
    }

    #[test]
    fn one_that_drains_has_left_and_begins_anew_when_it_is_back() {
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
        fn a_share_falls_only_when_the_target_does_and_somebody_has_a_whole_one(
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
