//! Recovery of a group after an outage: decides which of its targets that are down keep their
//! clients meanwhile.
//!
//! A target that fails alone loses its clients. If many fail together, the cause is usually shared:
//! a network, a host, a pause. They come back one by one, with their sessions, and the first to
//! pass a check must not take the others' clients for good. So a group *recovers*
//!
//! * when it leaves fail-open: all of its targets that are down are in recovery;
//! * when two or more targets, and at least half of those that served, fail within the window: the
//!   failed targets are in recovery. A serving target whose latest check failed counts as well, so
//!   that the first to reach its threshold does not lose its clients just before the second does.
//!
//! A target leaves the recovery when it serves again, is gone, or its deregistration delay is over.
//! The others leave when the recovery time is over. The time runs from the first check that one of
//! them passes. If none passes, it runs from the failure, because clients of a target that hangs
//! must not wait without end; but not while no other target serves, as none could take the clients.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// The bounds of a recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Its duration; zero disables recovery.
    pub recovery: Duration,
    /// Failures within this time are one outage.
    pub window: Duration,
    /// Extra time at the end for targets whose latest check passed, to reach their threshold.
    pub grace: Duration,
}

impl Limits {
    /// The limits of a group with this recovery time and these checks.
    pub(crate) fn of(recovery: Duration, interval: Duration, to_be_healthy: Duration) -> Self {
        let window = MIN_WINDOW.max(interval.saturating_mul(2));
        Self { recovery, window, grace: to_be_healthy }
    }
}

/// The minimum window: targets are checked at different moments, so they notice an outage at
/// different times.
const MIN_WINDOW: Duration = Duration::from_secs(10);

/// A target's state by its checks, with the trend of the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CheckedState {
    /// No check has decided yet.
    Unknown,
    /// It serves.
    Serving,
    /// It serves, and its latest check failed.
    Failing,
    /// It is down.
    Down,
    /// It is down, and its latest check passed.
    Passing,
}

impl CheckedState {
    fn serves(self) -> bool {
        matches!(self, Self::Serving | Self::Failing)
    }

    fn is_down(self) -> bool {
        matches!(self, Self::Down | Self::Passing)
    }
}

/// One target at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupMember {
    /// Identifies the target. Another address is another target.
    pub key: u64,
    /// Its state by its checks.
    pub state: CheckedState,
    /// True if it is draining: then its failure is no outage.
    pub drains: bool,
}

/// The change that an evaluation made to a group's recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// No change.
    None,
    /// This many of its targets recover from now on.
    Begun(usize),
    /// The recovery has ended; this many targets are still down and lose their clients.
    Over(usize),
}

/// The recovery of one group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recovery {
    fails_open: bool,
    serving: HashSet<u64>,
    /// Targets that failed within the window and are down, with the time; an outage empties this.
    falls: HashMap<u64, Instant>,
    /// The targets in recovery.
    members: HashSet<u64>,
    /// Failed targets that keep their clients because checks of others fail too.
    presumed: HashSet<u64>,
    /// Start of the recovery time; `None` while it does not run.
    since: Option<Instant>,
    has_passed: bool,
}

impl Recovery {
    /// Returns true if a target that is down keeps its clients.
    pub(crate) fn has(&self, key: u64) -> bool {
        self.members.contains(&key) || self.presumed.contains(&key)
    }

    /// Evaluates the group: all of its targets that this balancer may use and whose deregistration
    /// delay is not over.
    pub(crate) fn check(
        &mut self,
        targets: &[GroupMember],
        fails_open: bool,
        limits: Limits,
        now: Instant,
    ) -> Change {
        let recovered = !self.members.is_empty();
        let down: HashMap<u64, CheckedState> = targets
            .iter()
            .filter(|target| target.state.is_down())
            .map(|target| (target.key, target.state))
            .collect();
        let is_down = |key: &u64| down.contains_key(key);
        let serves_again =
            |target: &GroupMember| target.state.serves() && self.members.contains(&target.key);
        let mut has_passed_now = targets.iter().any(serves_again);
        let left_fail_open = self.fails_open && !fails_open;
        self.fails_open = fails_open;
        self.falls
            .retain(|key, at| is_down(key) && now.saturating_duration_since(*at) <= limits.window);
        self.members.retain(is_down);
        self.presumed.clear();
        for target in targets.iter().filter(|target| target.state.is_down() && !target.drains) {
            if self.serving.contains(&target.key) {
                self.falls.insert(target.key, now);
                if recovered {
                    self.members.insert(target.key);
                }
            }
        }
        let count = |is: &dyn Fn(&GroupMember) -> bool| {
            targets.iter().filter(|target| !target.drains && is(target)).count()
        };
        let serving = count(&|target| target.state.serves());
        let failing = count(&|target| target.state == CheckedState::Failing);
        self.serving.clear();
        self.serving
            .extend(targets.iter().filter(|target| target.state.serves()).map(|target| target.key));
        if limits.recovery.is_zero() {
            self.members.clear();
            return Change::None;
        }
        if left_fail_open {
            self.members.extend(down.keys());
            self.falls.clear();
            (self.since, self.has_passed) = (Some(now), true);
        } else if is_outage(self.falls.len(), serving) {
            self.members.extend(self.falls.drain().map(|(key, _)| key));
            (self.since, self.has_passed) = (None, false);
        } else if !self.falls.is_empty() && is_outage(self.falls.len() + failing, serving - failing)
        {
            self.presumed.extend(self.falls.keys());
        }
        if self.members.is_empty() {
            (self.since, self.has_passed) = (None, false);
            return if recovered { Change::Over(0) } else { Change::None };
        }
        let passing = |key: &u64| down.get(key) == Some(&CheckedState::Passing);
        if fails_open || (serving == 0 && !self.has_passed) {
            self.since = None;
        } else if self.since.is_none() {
            self.since = Some(now);
        }
        has_passed_now |= self.members.iter().any(passing);
        if !self.has_passed && has_passed_now {
            (self.since, self.has_passed) = (Some(now), true);
        }
        let elapsed = self.since.map(|since| now.saturating_duration_since(since));
        if elapsed.is_some_and(|elapsed| elapsed >= limits.recovery + limits.grace) {
            self.members.clear();
        } else if elapsed.is_some_and(|elapsed| elapsed >= limits.recovery) {
            self.members.retain(passing);
        }
        match (recovered, self.members.len()) {
            (false, count @ 1..) => Change::Begun(count),
            (true, 0) => Change::Over(down.len()),
            _ => Change::None,
        }
    }
}

/// Returns true if this many failed targets, beside this many serving ones, are an outage.
fn is_outage(fell: usize, serving: usize) -> bool {
    fell >= 2 && fell >= serving
}

#[cfg(test)]
mod tests;
