//! Which of a rule's groups a request goes to: the one its client is pinned to, else by weight.

use super::candidates::{Candidates, Tier, Tried};
use super::verdict::{GroupVerdict, Verdict};
use super::{Draw, Live, Opening, Request, cookie_lines, place};
use crate::model::forward::{Forward, Share};
use crate::model::snapshot::{Group, Snapshot};
use crate::policy::affinity::claim::{self, Claim, Names, PinState};
use crate::policy::affinity::token::{Defect, Seed};
use crate::policy::balance::rendezvous::{self, Candidate};
use crate::policy::balance::weighted_random;

/// What became of a client's pin to a group.
#[derive(Clone, Debug)]
pub struct GroupChoice {
    /// What became of it.
    pub verdict: GroupVerdict,
    /// The place among the rule's shares of the group that was chosen.
    pub share: usize,
    /// What the client's cookies said.
    pub claim: Claim,
}

/// Chooses among the groups of a rule; `None` where all weights are 0 and the client has no pin.
pub(super) fn choose(
    forward: &Forward,
    request: &Request<'_>,
    snapshot: &Snapshot,
    live: &impl Live,
    now: u64,
    draw: &mut impl Draw,
) -> Option<GroupChoice> {
    let choice = Choosing { forward, snapshot, live };
    let Some(sticky) = &forward.sticky else {
        let share = choice.by_weight(draw)?;
        return Some(GroupChoice { verdict: GroupVerdict::Off, share, claim: Claim::None });
    };
    let claim = claim::find(
        cookie_lines(request),
        Names { main: &sticky.cookie.name, twin: sticky.cookie.twin.as_deref() },
        &Opening { snapshot, live },
        sticky.cookie.kind,
        sticky.key,
        sticky.cookie.lifetime.seconds(),
        now,
    );
    let (share, verdict) = match &claim {
        Claim::None | Claim::Key(_) => (choice.by_weight(draw), GroupVerdict::New),
        Claim::Unusable(Defect::Malformed) => (choice.by_weight(draw), GroupVerdict::Malformed),
        Claim::Unusable(Defect::Forged) => (choice.by_weight(draw), GroupVerdict::Forged),
        Claim::Unusable(Defect::UnknownKey) => (choice.by_weight(draw), GroupVerdict::UnknownKey),
        Claim::Opened { contents, pin, .. } => match pin {
            PinState::Expired => (choice.by_weight(draw), GroupVerdict::Expired),
            PinState::Absent => (choice.ranked(contents.seed()), GroupVerdict::New),
            PinState::Held(pin) => match forward.share_of(pin.target) {
                None => (choice.ranked(contents.seed()), GroupVerdict::MovedRemoved),
                Some(at) => choice.hold(at, contents.seed(), request, now),
            },
        },
    };
    Some(GroupChoice { verdict, share: share?, claim })
}

/// The places among a rule's shares of the groups that get newcomers just now.
pub(super) fn takers<'s>(
    forward: &'s Forward,
    snapshot: &'s Snapshot,
    live: &'s impl Live,
) -> impl Iterator<Item = usize> + 's {
    let choice = Choosing { forward, snapshot, live };
    let weighs = |at: &usize| forward.shares[*at].weight > 0;
    let all = 0..forward.shares.len();
    let only_able = forward.failover && all.clone().any(|at| weighs(&at) && choice.can_serve(at));
    all.filter(weighs).filter(move |&at| !only_able || choice.can_serve(at))
}

/// A rule's groups at one moment.
struct Choosing<'s, L> {
    forward: &'s Forward,
    snapshot: &'s Snapshot,
    live: &'s L,
}

impl<L: Live> Choosing<'_, L> {
    /// The group whose turn it is. Under `failover` one that cannot serve gives its turns to the
    /// others by their weights, a different one each round.
    fn by_weight(&self, draw: &mut impl Draw) -> Option<usize> {
        let shares = &self.forward.shares;
        if let [Share { weight: 1.., .. }] = **shares {
            return Some(0);
        }
        let (whose, substitute) = self.forward.cycle.at(draw.rule_turn(self.forward))?;
        if !self.forward.failover || self.can_serve(whose) {
            return Some(whose);
        }
        let able = || {
            let shares = shares.iter().enumerate().filter(|(at, _)| self.can_serve(*at));
            shares.map(|(at, share)| (at, u64::from(share.weight)))
        };
        let total: u64 = able().map(|(_, weight)| weight).sum();
        let place = substitute.checked_rem(total).unwrap_or_default();
        Some(weighted_random::placed(able(), place).unwrap_or(whose))
    }

    /// What becomes of a pin to a group the rule names. One whose group cannot serve stays: the
    /// client is back with it as soon as it can.
    fn hold(
        &self,
        at: usize,
        seed: Seed,
        request: &Request<'_>,
        now: u64,
    ) -> (Option<usize>, GroupVerdict) {
        if !self.forward.failover || self.can_serve(at) || self.keeps(at, request, now) {
            return (Some(at), GroupVerdict::Hit);
        }
        match self.best_ranked(seed, |other| self.can_serve(other)) {
            Some(other) => (Some(other), GroupVerdict::FailedOver),
            None => (Some(at), GroupVerdict::Hit),
        }
    }

    /// Whether a group that takes no newcomers still has this client's own target: one of weight 0,
    /// or the last below its cap.
    fn keeps(&self, at: usize, request: &Request<'_>, now: u64) -> bool {
        let group = self.forward.shares[at].group;
        let placed = || place(request, self.snapshot, group, self.live, now, &mut NoDraw);
        !self.live.fails_open(&self.snapshot.groups[group]) && placed().verdict == Verdict::Hit
    }

    /// The first group of the seed's ranking, the same on every worker and node.
    fn ranked(&self, seed: Seed) -> Option<usize> {
        let able = self.forward.failover.then(|| self.best_ranked(seed, |at| self.can_serve(at)));
        able.flatten().or_else(|| self.best_ranked(seed, |_| true))
    }

    fn best_ranked(&self, seed: Seed, wanted: impl Fn(usize) -> bool) -> Option<usize> {
        let sticky = self.forward.sticky.as_ref()?;
        let shares = self.forward.shares.iter().enumerate();
        let candidates = shares.filter(|(at, share)| share.weight > 0 && wanted(*at));
        let candidates = candidates.map(|(at, share)| Candidate {
            key: share.key,
            id: self.snapshot.groups[share.group].name(),
            weight: share.weight,
            item: at,
        });
        rendezvous::best(seed, sticky.key, candidates)
    }

    /// Whether a group has a target for newcomers. Failing open is a last resort, and not taken while
    /// another group needs none; nor are newcomers given to those that are about to leave.
    fn can_serve(&self, at: usize) -> bool {
        let group = &self.snapshot.groups[self.forward.shares[at].group];
        let candidates = Candidates::new(self.snapshot, group, self.live, &Tried::NOBODY);
        !candidates.fails_open() && candidates.best_tier().is_some_and(|tier| tier < Tier::Draining)
    }
}

/// For a client that is only looked at: nobody's turn is taken.
struct NoDraw;

impl Draw for NoDraw {
    fn turn(&mut self, _: &Group) -> u64 {
        0
    }

    fn rule_turn(&mut self, _: &Forward) -> u64 {
        0
    }

    fn random(&mut self) -> u64 {
        0
    }
}
