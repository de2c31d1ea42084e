//! The decision explained: the same call as the proxy's, and all possible targets if the algorithm
//! draws one.

use super::candidates::{Candidates, Tried};
use super::group_choice::takers;
use super::group_health::GroupHealth;
use super::verdict::{GroupVerdict, Verdict};
use super::{Draw, Keeps, Live, Outcome, Placement, Request, decide, place};
use crate::base::name::Name;
use crate::config::settings::Algorithm;
use crate::model::forward::Forward;
use crate::model::live::{Availability, Drain, Health};
use crate::model::snapshot::{Action, Group, Snapshot, Target};
use crate::policy::balance::round::Sequence;
use crate::policy::balance::weight_fraction::WeightFraction;
use crate::policy::routing::redirect::Redirect;
use std::collections::HashSet;

/// The explanation of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The rules before the matching one, in order.
    pub passed: Vec<Passed>,
    /// The index of the rule; `None` is the listener's default.
    pub rule: Option<usize>,
    /// The verdict on the pin to a group, if the rule names several.
    pub group_verdict: Option<GroupVerdict>,
    /// The index of the pinned group, if the rule still names it.
    pub pinned_group: Option<usize>,
    /// The action that would be taken.
    pub action: Explained,
}

/// A rule that does not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The index of the rule.
    pub rule: usize,
    /// Its first condition that does not hold, as written in the file.
    pub unmet: String,
}

/// The action that would be taken.
#[derive(Clone, Debug, PartialEq)]
pub enum Explained {
    /// The balancer would answer with this status.
    Respond(u16),
    /// The balancer would answer with a redirect.
    Redirect(Redirect),
    /// 404: no rule matches.
    NoRule,
    /// 503: all groups of the rule have weight 0.
    NoShare,
    /// The request would go to a group.
    Forward(Forwarded),
    /// The request would go to one of several groups, each with its weight: the turn decides.
    ByWeight(Vec<(u16, Forwarded)>),
}

/// The result for a request in one group.
#[derive(Clone, Debug, PartialEq)]
pub struct Forwarded {
    /// The index of the group.
    pub group: usize,
    /// The verdict on the pin to a target.
    pub verdict: Verdict,
    /// The index of the pinned target, if it is still in the group.
    pub pinned: Option<usize>,
    /// True if too few targets are healthy and health is ignored.
    pub fails_open: bool,
    /// The target that would serve.
    pub choice: Choice,
}

/// The target that would serve.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// No target.
    NoTarget,
    /// This target, whatever the algorithm.
    One(usize),
    /// One of these targets: the algorithm decides. The chances add up to 1; they are `None` if the
    /// load of the moment decides.
    OneOf(Vec<(usize, Option<f64>)>),
}

/// Explains a request with this state of the targets.
pub fn explain(
    request: &Request<'_>,
    snapshot: &Snapshot,
    live: &impl Live,
    now: u64,
) -> Explanation {
    let mut draw = RecordingDraw::default();
    let decision = decide(request, snapshot, live, now, &mut draw);
    let pinned_group = decision.group.as_ref().and_then(|choice| {
        let Action::Forward(forward) = &snapshot.rules[decision.rule?].action else { return None };
        let at = forward.share_of(choice.claim.held()?.target)?;
        Some(forward.shares[at].group)
    });
    let action = match decision.outcome {
        Outcome::NoRule => Explained::NoRule,
        Outcome::NoShare => Explained::NoShare,
        Outcome::Respond(fixed) => Explained::Respond(fixed.status),
        Outcome::Redirect(redirect) => Explained::Redirect(redirect.clone()),
        Outcome::Forward(placement) => match decision.rule.map(|at| &snapshot.rules[at].action) {
            Some(Action::Forward(forward)) if draw.rule_drawn => {
                let each = takers(forward, snapshot, live).map(|at| {
                    let share = &forward.shares[at];
                    let mut draw = RecordingDraw::default();
                    let placement = place(request, snapshot, share.group, live, now, &mut draw);
                    (share.weight, forwarded(placement, draw.drawn, snapshot, live))
                });
                Explained::ByWeight(each.collect())
            }
            _ => Explained::Forward(forwarded(placement, draw.drawn, snapshot, live)),
        },
    };
    let group_verdict = decision.group.map(|choice| choice.verdict);
    let passed = passed(request, snapshot, decision.rule);
    Explanation { passed, rule: decision.rule, group_verdict, pinned_group, action }
}

/// The rules of the listener before `taken`, including those that the host table lets the proxy
/// skip.
fn passed(request: &Request<'_>, snapshot: &Snapshot, taken: Option<usize>) -> Vec<Passed> {
    let listener = &snapshot.listeners[request.listener].settings;
    let before = snapshot.rules[..taken.unwrap_or(snapshot.rules.len())].iter().enumerate();
    let here = before.filter(|(_, rule)| rule.settings.holds_for(listener));
    here.filter_map(|(rule, passed)| {
        let unmet = passed.settings.conditions.unmet(&request.subject)?.to_string();
        Some(Passed { rule, unmet })
    })
    .collect()
}

fn forwarded(
    placement: Placement,
    drawn: bool,
    snapshot: &Snapshot,
    live: &impl Live,
) -> Forwarded {
    let group = &snapshot.groups[placement.group];
    let candidates = Candidates::new(snapshot, group, live, &Tried::EMPTY);
    let choice = match placement.target {
        None => Choice::NoTarget,
        Some(_) if drawn && candidates.list().nth(1).is_some() => {
            Choice::OneOf(chances(&candidates, group, placement.keeps))
        }
        Some(at) => Choice::One(at),
    };
    let fails_open = candidates.fails_open();
    let Placement { group, verdict, pinned, .. } = placement;
    Forwarded { group, verdict, pinned, fails_open, choice }
}

/// The candidates, each with its chance.
fn chances(
    candidates: &Candidates<'_, impl Live>,
    group: &Group,
    keeps: Keeps,
) -> Vec<(usize, Option<f64>)> {
    let list: Vec<usize> = candidates.list().collect();
    let weight = |at: usize| f64::from(group.targets[at].weight);
    let share = |at: usize| {
        f64::from(candidates.weight_fraction(at).parts()) / f64::from(WeightFraction::WHOLE.parts())
    };
    let sum = |part: &dyn Fn(usize) -> f64| list.iter().map(|&at| part(at)).sum::<f64>();
    let algorithm = match (group.settings.algorithm, keeps) {
        (_, Keeps::Nothing) | (Algorithm::RoundRobin, Keeps::PerhapsNone) => {
            Algorithm::WeightedRandom
        }
        (algorithm, _) => algorithm,
    };
    let chance: &dyn Fn(usize) -> Option<f64> = match algorithm {
        Algorithm::LeastOutstandingRequests | Algorithm::LeastSessions => &|_| None,
        Algorithm::WeightedRandom => {
            let all = sum(&|at| weight(at) * share(at));
            &move |at| Some(weight(at) * share(at) / all)
        }
        Algorithm::RoundRobin => {
            // Targets with a whole share, if any, take the turns that targets in slow start pass
            // on.
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

/// A [`Draw`] that records whether the algorithm drew, and whether the rule's weights did.
#[derive(Default)]
struct RecordingDraw {
    drawn: bool,
    rule_drawn: bool,
}

impl Draw for RecordingDraw {
    fn sequence(&mut self, _group: &Group) -> u64 {
        self.drawn = true;
        0
    }

    fn rule_sequence(&mut self, _forward: &Forward) -> Sequence {
        self.rule_drawn = true;
        Sequence { number: 0, key: 0 }
    }

    fn random(&mut self) -> u64 {
        self.drawn = true;
        0
    }

    fn rule_random(&mut self, _forward: &Forward) -> u64 {
        self.rule_drawn = true;
        0
    }
}

/// Assumed state: every target is healthy, except those given as down, suspect, recovering or
/// draining.
#[derive(Clone, Debug, Default)]
pub struct AssumedState {
    down: HashSet<usize>,
    suspect: HashSet<usize>,
    recovering: HashSet<usize>,
    draining: HashSet<usize>,
    zone: Option<Name>,
}

impl AssumedState {
    /// Makes the assumed state for one snapshot; targets are named `group/id`.
    ///
    /// # Errors
    /// The name that no target has.
    pub fn of(snapshot: &Snapshot, down: &[String], draining: &[String]) -> Result<Self, String> {
        let slot = |name: &String| slot(snapshot, name);
        let targets = snapshot.groups.iter().flat_map(|group| &group.targets);
        let written = targets.filter(|target| target.drain).map(|target| Ok(target.state.slot));
        Ok(Self {
            down: down.iter().map(slot).collect::<Result<_, _>>()?,
            draining: draining.iter().map(slot).chain(written).collect::<Result<_, _>>()?,
            zone: snapshot.zone.clone(),
            ..Self::default()
        })
    }

    /// Adds targets that are suspect, and targets that are down in a group that recovers.
    ///
    /// # Errors
    /// The name that no target has.
    pub fn doubting(
        mut self,
        snapshot: &Snapshot,
        suspect: &[String],
        recovering: &[String],
    ) -> Result<Self, String> {
        let slot = |name: &String| slot(snapshot, name);
        self.suspect = suspect.iter().map(slot).collect::<Result<_, _>>()?;
        self.recovering = recovering.iter().map(slot).collect::<Result<_, _>>()?;
        Ok(self)
    }
}

/// The slot of the target of this name.
fn slot(snapshot: &Snapshot, name: &str) -> Result<usize, String> {
    let found = name.split_once('/').and_then(|(group, id)| {
        let group = &snapshot.groups[snapshot.group_named(group)?];
        Some(group.targets[group.target_named(id)?].state.slot)
    });
    found.ok_or_else(|| name.to_owned())
}

impl Live for AssumedState {
    fn availability(&self, target: &Target) -> Availability {
        let is_one_of = |slots: &HashSet<usize>| slots.contains(&target.state.slot);
        let recovering = is_one_of(&self.recovering);
        Availability {
            health: match () {
                () if recovering || is_one_of(&self.down) => Health::Unhealthy,
                () if is_one_of(&self.suspect) => Health::Suspect,
                () => Health::Healthy,
            },
            drain: if is_one_of(&self.draining) { Drain::Running } else { Drain::No },
            recovering,
        }
    }

    fn at_cap(&self, _target: &Target, _cap: u32) -> bool {
        false
    }

    // No traffic is assumed.
    fn refused_lately(&self, _target: &Target) -> bool {
        false
    }

    fn in_flight(&self, _target: &Target) -> u32 {
        0
    }

    fn sessions(&self, _target: &Target) -> u32 {
        0
    }

    fn weight_fraction(&self, _target: &Target) -> WeightFraction {
        WeightFraction::WHOLE
    }

    fn fails_open(&self, group: &Group) -> bool {
        let health = GroupHealth::of(group, self.zone.as_ref(), |target| self.availability(target));
        health.fails_open(group)
    }
}
