//! Which of a rule's groups a request goes to: the one its client is pinned to, else by weight.

use super::candidates::{Candidates, Tier, Tried};
use super::verdict::{GroupVerdict, Verdict};
use super::{Draw, Live, Opening, Request, cookie_lines, place};
use crate::model::forward::{Forward, Share};
use crate::model::snapshot::{Group, Snapshot};
use crate::policy::affinity::claim::{self, Claim, Names, PinState};
use crate::policy::affinity::token::{Defect, Seed};
use crate::policy::balance::rendezvous::{self, Candidate};
use crate::policy::balance::round::Turn;
use crate::policy::balance::{round, weighted_random};

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
    let by_weight = |draw: &mut _| choice.by_weight(request.is_preflight(), draw);
    let Some(sticky) = &forward.sticky else {
        let share = by_weight(draw)?;
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
        Claim::None | Claim::Key(_) => (by_weight(draw), GroupVerdict::New),
        Claim::Unusable(Defect::Malformed) => (by_weight(draw), GroupVerdict::Malformed),
        Claim::Unusable(Defect::Forged) => (by_weight(draw), GroupVerdict::Forged),
        Claim::Unusable(Defect::UnknownKey) => (by_weight(draw), GroupVerdict::UnknownKey),
        Claim::Opened { contents, pin, .. } => match pin {
            PinState::Expired => (by_weight(draw), GroupVerdict::Expired),
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
    Choosing { forward, snapshot, live }.takers()
}

/// A rule's groups at one moment.
struct Choosing<'s, L> {
    forward: &'s Forward,
    snapshot: &'s Snapshot,
    live: &'s L,
}

impl<L> Clone for Choosing<'_, L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for Choosing<'_, L> {}

impl<'s, L: Live> Choosing<'s, L> {
    /// The places of the groups that get newcomers. Under `failover` those that cannot serve are left
    /// out, while another can.
    fn takers(self) -> impl Iterator<Item = usize> + Clone + use<'s, L> {
        let Self { forward, .. } = self;
        let weighs = |at: &usize| forward.shares[*at].weight > 0;
        let all = 0..forward.shares.len();
        let only_able = forward.failover && all.clone().any(|at| weighs(&at) && self.can_serve(at));
        all.filter(weighs).filter(move |&at| !only_able || self.can_serve(at))
    }

    /// The group whose turn it is; for a request that takes none, any, by the same weights.
    fn by_weight(self, is_preflight: bool, draw: &mut impl Draw) -> Option<usize> {
        let Self { forward, .. } = self;
        if let [Share { weight: 1.., .. }] = *forward.shares {
            return Some(0);
        }
        let takers = self.takers().map(|at| (at, forward.shares[at].weight));
        if is_preflight {
            let takers = takers.map(|(at, weight)| (at, u64::from(weight)));
            return weighted_random::drawn(takers, draw.rule_random(forward));
        }
        round::at(takers, draw.rule_turn(forward))
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

    fn rule_turn(&mut self, _: &Forward) -> Turn {
        Turn { number: 0, key: 0 }
    }

    fn random(&mut self) -> u64 {
        0
    }
}
