//! A decision in words: the same call as the proxy's, and whom it may choose where it draws.

use super::candidates::{Candidates, Tried};
use super::standing::Standing;
use super::verdict::Verdict;
use super::{Draw, Live, Outcome, Request, decide};
use crate::config::settings::Algorithm;
use crate::ground::name::Name;
use crate::model::live::{Availability, Drain, Health};
use crate::model::snapshot::{Group, Snapshot, Target};
use crate::policy::balance::share::Share;
use std::collections::HashSet;

/// Where a request would go.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The index of the rule; `None` is the listener's default.
    pub rule: Option<usize>,
    /// What would be done.
    pub action: Explained,
}

/// What would be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Explained {
    /// It would be answered with this status.
    Respond(u16),
    /// 404: no rule takes it.
    NoRule,
    /// It would go to a group.
    Forward {
        /// The index of the group.
        group: usize,
        /// What becomes of the pin.
        verdict: Verdict,
        /// The index of the target the client is pinned to, if it is still in the group.
        pinned: Option<usize>,
        /// Who would serve.
        choice: Choice,
    },
}

/// Who would serve.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// Nobody.
    Nobody,
    /// This target and no other.
    One(usize),
    /// One of these, each with its chance, all of which make 1: the algorithm decides. No chances where
    /// that is whoever has the fewest at the moment.
    OneOf(Vec<(usize, Option<f64>)>),
}

/// Explains a request in a world.
pub fn explain(
    request: &Request<'_>,
    snapshot: &Snapshot,
    live: &impl Live,
    now: u64,
) -> Explanation {
    let mut draw = Noticing { drawn: false };
    let decision = decide(request, snapshot, live, now, &mut draw);
    let action = match decision.outcome {
        Outcome::NoRule => Explained::NoRule,
        Outcome::Respond(fixed) => Explained::Respond(fixed.status),
        Outcome::Forward(placement) => {
            let group = &snapshot.groups[placement.group];
            let choice = match placement.target {
                None => Choice::Nobody,
                Some(_) if draw.drawn => {
                    let candidates = Candidates::new(snapshot, group, live, &Tried::NOBODY);
                    Choice::OneOf(chances(&candidates, group))
                }
                Some(at) => Choice::One(at),
            };
            Explained::Forward {
                group: placement.group,
                verdict: placement.verdict,
                pinned: placement.pinned,
                choice,
            }
        }
    };
    Explanation { rule: decision.rule, action }
}

/// The candidates, and how often each is chosen.
fn chances(candidates: &Candidates<'_, impl Live>, group: &Group) -> Vec<(usize, Option<f64>)> {
    let list: Vec<usize> = candidates.list().collect();
    let weight = |at: usize| f64::from(group.targets[at].weight);
    let share =
        |at: usize| f64::from(candidates.share(at).parts()) / f64::from(Share::WHOLE.parts());
    let sum = |part: &dyn Fn(usize) -> f64| list.iter().map(|&at| part(at)).sum::<f64>();
    let chance: &dyn Fn(usize) -> Option<f64> = match group.settings.algorithm {
        Algorithm::LeastOutstandingRequests | Algorithm::LeastSessions => &|_| None,
        Algorithm::WeightedRandom => {
            let all = sum(&|at| weight(at) * share(at));
            &move |at| Some(weight(at) * share(at) / all)
        }
        Algorithm::RoundRobin => {
            // What those who begin slowly leave goes to those who have their whole share, if any.
            let whole = |at: usize| if share(at) < 1.0 { 0.0 } else { weight(at) };
            let (all, whole_ones) = (sum(&weight), sum(&whole));
            let left = sum(&|at| weight(at) * (1.0 - share(at)));
            &move |at| match whole_ones > 0.0 {
                true => Some((weight(at) * share(at) + left * whole(at) / whole_ones) / all),
                false => Some(weight(at) / all),
            }
        }
    };
    list.iter().map(|&at| (at, chance(at))).collect()
}

/// Notices whether the algorithm was asked.
struct Noticing {
    drawn: bool,
}

impl Draw for Noticing {
    fn turn(&mut self, _group: &Group) -> u64 {
        self.drawn = true;
        0
    }

    fn random(&mut self) -> u64 {
        self.drawn = true;
        0
    }
}

/// A world in which every target is healthy, but for those that are said to be down or draining.
#[derive(Clone, Debug, Default)]
pub struct Assumed {
    down: HashSet<usize>,
    draining: HashSet<usize>,
    zone: Option<Name>,
}

impl Assumed {
    /// That world, for one picture; targets are named `group/id`.
    ///
    /// # Errors
    /// The name that no target has.
    pub fn of(snapshot: &Snapshot, down: &[String], draining: &[String]) -> Result<Self, String> {
        let slot = |name: &String| -> Result<usize, String> {
            let found = name.split_once('/').and_then(|(group, id)| {
                let group = &snapshot.groups[snapshot.group_named(group)?];
                Some(group.targets[group.target_named(id)?].live.slot)
            });
            found.ok_or_else(|| name.clone())
        };
        let targets = snapshot.groups.iter().flat_map(|group| &group.targets);
        let written = targets.filter(|target| target.drain).map(|target| Ok(target.live.slot));
        Ok(Self {
            down: down.iter().map(slot).collect::<Result<_, _>>()?,
            draining: draining.iter().map(slot).chain(written).collect::<Result<_, _>>()?,
            zone: snapshot.zone.clone(),
        })
    }
}

impl Live for Assumed {
    fn availability(&self, target: &Target) -> Availability {
        let is_down = self.down.contains(&target.live.slot);
        let drains = self.draining.contains(&target.live.slot);
        Availability {
            health: if is_down { Health::Unhealthy } else { Health::Healthy },
            drain: if drains { Drain::Running } else { Drain::No },
            suspect: false,
        }
    }

    fn at_cap(&self, _target: &Target, _cap: u32) -> bool {
        false
    }

    fn in_flight(&self, _target: &Target) -> u32 {
        0
    }

    fn sessions(&self, _target: &Target) -> u32 {
        0
    }

    fn share(&self, _target: &Target) -> Share {
        Share::WHOLE
    }

    fn fails_open(&self, group: &Group) -> bool {
        let standing = Standing::of(group, self.zone.as_ref(), |target| self.availability(target));
        standing.fails_open(group)
    }
}
