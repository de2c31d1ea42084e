//! The choice among a rule's groups: the one that the client is pinned to, else by weight.

use super::candidates::{Candidates, Tier, Tried};
use super::verdict::GroupVerdict;
use super::{Draw, Live, Request, TokenOpener, cookie_lines, place};
use crate::model::affinity::Affinity;
use crate::model::forward::{Forward, GroupShare, GroupSticky};
use crate::model::live::Health;
use crate::model::snapshot::{Group, Snapshot};
use crate::policy::affinity::claim::{self, Claim, CookieNames, PinState};
use crate::policy::affinity::route;
use crate::policy::affinity::token::{Contents, Defect, GroupKey, Pin, Seed};
use crate::policy::balance::rendezvous::{self, Candidate};
use crate::policy::balance::round::Sequence;
use crate::policy::balance::{round, weighted_random};

/// The chosen group, and the verdict on the client's pin to a group.
#[derive(Clone, Debug)]
pub struct GroupChoice {
    /// The verdict.
    pub verdict: GroupVerdict,
    /// The index of the chosen group among the rule's shares.
    pub share: usize,
    /// The index of the client's own group among the shares, if another serves because that group
    /// cannot.
    pub home: Option<usize>,
    /// The claim of the client's cookies.
    pub claim: Claim,
}

/// Chooses among the groups of a rule; `None` if all weights are 0 and the client has no pin.
pub(super) fn choose(
    forward: &Forward,
    request: &Request<'_>,
    snapshot: &Snapshot,
    live: &impl Live,
    now: u64,
    draw: &mut impl Draw,
) -> Option<GroupChoice> {
    let choice = RuleGroups { forward, snapshot, live };
    let by_weight = |draw: &mut _| choice.by_weight(request.is_preflight(), draw);
    let Some(sticky) = &forward.sticky else {
        let share = by_weight(draw)?;
        return Some(GroupChoice {
            verdict: GroupVerdict::Off,
            share,
            home: None,
            claim: Claim::None,
        });
    };
    let claim = claim::find(
        cookie_lines(request),
        CookieNames { main: &sticky.cookie.name, twin: sticky.cookie.twin.as_deref() },
        &TokenOpener { snapshot, live },
        sticky.cookie.kind,
        sticky.key,
        sticky.cookie.lifetime.seconds(),
        now,
    );
    let (own, seed) = (choice.own(&claim), claim.seed());
    let kin = || choice.of_kin(sticky, &claim, now);
    // The client's own group, by a pin or by the route it sends.
    let belongs = match own {
        Some(at) => Some(at),
        None => kin().or_else(|| choice.by_route(request)),
    };
    let verdict = match &claim {
        Claim::None | Claim::Key(_) => GroupVerdict::New,
        Claim::Unusable(Defect::Malformed) => GroupVerdict::Malformed,
        Claim::Unusable(Defect::Forged) => GroupVerdict::Forged,
        Claim::Unusable(Defect::UnknownKey) => GroupVerdict::UnknownKey,
        Claim::Opened { pin: PinState::Absent, .. } => GroupVerdict::New,
        Claim::Opened { pin: PinState::Expired, .. } => GroupVerdict::Expired,
        Claim::Opened { pin: PinState::Held(_), .. } if own.is_none() => GroupVerdict::MovedRemoved,
        Claim::Opened { pin: PinState::Held(_), .. } => GroupVerdict::Hit,
    };
    if let Some(home) = belongs {
        let seed = seed.or_else(|| choice.key_of(request)).unwrap_or(Seed(0));
        let stand_in = choice.stand_in(sticky, &claim, now);
        let (share, met) = choice.hold(home, stand_in, seed, request, now);
        let verdict = match met {
            GroupVerdict::Hit => verdict,
            met => met,
        };
        let home = (share != home).then_some(home);
        return Some(GroupChoice { verdict, share, home, claim });
    }
    let share = match (choice.key_of(request), &claim) {
        (Some(key), _) => choice.ranked(key),
        (None, Claim::Opened { contents, pin: PinState::Absent | PinState::Held(_), .. }) => {
            choice.ranked(contents.seed())
        }
        (None, _) => by_weight(draw),
    };
    Some(GroupChoice { verdict, share: share?, home: None, claim })
}

/// The indexes among the rule's shares of the groups that get new clients now.
pub(super) fn takers<'s>(
    forward: &'s Forward,
    snapshot: &'s Snapshot,
    live: &'s impl Live,
) -> impl Iterator<Item = usize> + 's {
    RuleGroups { forward, snapshot, live }.takers()
}

/// The pin of a token for this group, if it has not expired.
fn in_force(contents: &Contents, group: GroupKey, lifetime: u32, now: u64) -> Option<Pin> {
    match claim::state(contents.pin(group), lifetime, now) {
        PinState::Held(pin) => Some(pin),
        PinState::Absent | PinState::Expired => None,
    }
}

/// The group that a token names as standing in for the client's own.
#[derive(Clone, Copy, Default)]
struct StandIn {
    /// True if this rule's own pin names it.
    is_own: bool,
    share: Option<usize>,
}

/// A rule's groups at one moment.
struct RuleGroups<'s, L> {
    forward: &'s Forward,
    snapshot: &'s Snapshot,
    live: &'s L,
}

impl<L> Clone for RuleGroups<'_, L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for RuleGroups<'_, L> {}

impl<'s, L: Live> RuleGroups<'s, L> {
    /// The indexes of the groups that get new clients. With `failover`, groups that cannot serve
    /// are left out if another can.
    fn takers(self) -> impl Iterator<Item = usize> + Clone + use<'s, L> {
        let Self { forward, .. } = self;
        let weighs = |at: &usize| forward.shares[*at].weight > 0;
        let all = 0..forward.shares.len();
        let only_able = forward.failover && all.clone().any(|at| weighs(&at) && self.can_serve(at));
        all.filter(weighs).filter(move |&at| !only_able || self.can_serve(at))
    }

    /// The group whose turn it is. A preflight takes no turn and gets a random group, by the same
    /// weights.
    fn by_weight(self, is_preflight: bool, draw: &mut impl Draw) -> Option<usize> {
        let Self { forward, .. } = self;
        if let [GroupShare { weight: 1.., .. }] = *forward.shares {
            return Some(0);
        }
        let takers = self.takers().map(|at| (at, forward.shares[at].weight));
        if is_preflight {
            let takers = takers.map(|(at, weight)| (at, u64::from(weight)));
            return weighted_random::drawn(takers, draw.rule_random(forward));
        }
        round::at(takers, draw.rule_sequence(forward))
    }

    /// The group that the rule's own pin names.
    fn own(self, claim: &Claim) -> Option<usize> {
        self.forward.share_of(claim.held()?.target)
    }

    /// The group of the newest valid pin of another rule that names the same groups.
    fn of_kin(self, sticky: &GroupSticky, claim: &Claim, now: u64) -> Option<usize> {
        let contents = claim.contents()?;
        let pins = sticky.kin.iter().filter_map(|kin| {
            let pin = in_force(contents, kin.key, kin.lifetime, now)?;
            let at = kin.shares.iter().position(|share| *share == pin.target)?;
            Some((pin.issued_at, at))
        });
        pins.max_by_key(|(issued_at, _)| *issued_at).map(|(_, at)| at)
    }

    /// The group that stands in for the client's own, by the pin of this rule or of another rule
    /// with the same groups.
    fn stand_in(self, sticky: &GroupSticky, claim: &Claim, now: u64) -> StandIn {
        let Some(contents) = claim.contents().filter(|_| self.forward.failover) else {
            return StandIn::default();
        };
        let lifetime = sticky.cookie.lifetime.seconds();
        let own = in_force(contents, sticky.stand_in, lifetime, now);
        // One older than the pin itself is from an outage that is over: a cookie that could not be
        // rewritten may still carry it.
        let pinned_at = claim.held().map_or(0, |pin| pin.issued_at);
        let own = own.filter(|pin| pin.issued_at >= pinned_at);
        let own = own.and_then(|pin| self.forward.share_of(pin.target));
        let of_kin = || {
            let pins = sticky.kin.iter().filter_map(|kin| {
                let pin = in_force(contents, kin.stand_in, kin.lifetime, now)?;
                let at = kin.shares.iter().position(|share| *share == pin.target)?;
                Some((pin.issued_at, at))
            });
            pins.max_by_key(|(issued_at, _)| *issued_at).map(|(_, at)| at)
        };
        StandIn { is_own: own.is_some(), share: own.or_else(of_kin) }
    }

    /// The group that has the target of the request's route: the client's session is there.
    fn by_route(self, request: &Request<'_>) -> Option<usize> {
        self.forward.shares.iter().position(|share| {
            let group = &self.snapshot.groups[share.group];
            let Some(Affinity::Route { cookie, separator }) = &group.affinity else { return false };
            let mut sessions =
                route::sessions(cookie_lines(request), request.subject.path, cookie, separator);
            sessions.any(|session| {
                session.route.and_then(|route| group.target_of_route(route)).is_some()
            })
        })
    }

    /// The key of a request for groups that know clients by a value: the value of the header, else
    /// the session id whose route is unknown.
    fn key_of(self, request: &Request<'_>) -> Option<Seed> {
        let groups = || self.forward.shares.iter().map(|share| &self.snapshot.groups[share.group]);
        let by_header = groups().find_map(|group| match &group.affinity {
            Some(Affinity::Header(name)) => {
                let value = request.subject.headers.get_named(name.as_str())?;
                (!value.is_empty()).then(|| Seed::of_value(value))
            }
            _ => None,
        });
        let by_session = || {
            groups().find_map(|group| match &group.affinity {
                Some(Affinity::Route { cookie, separator }) => {
                    let lines = cookie_lines(request);
                    let mut sessions =
                        route::sessions(lines, request.subject.path, cookie, separator);
                    sessions.next().map(|session| session.seed())
                }
                _ => None,
            })
        };
        by_header.or_else(by_session)
    }

    /// The group that serves a client with an own group. While that cannot serve, another does, and
    /// the same one as long as it can.
    fn hold(
        self,
        home: usize,
        stand_in: StandIn,
        seed: Seed,
        request: &Request<'_>,
        now: u64,
    ) -> (usize, GroupVerdict) {
        let is_back = || match stand_in.is_own && stand_in.share != Some(home) {
            true => GroupVerdict::FailedBack,
            false => GroupVerdict::Hit,
        };
        if !self.forward.failover || self.can_serve(home) || self.keeps(home, request, now) {
            return (home, is_back());
        }
        let same = stand_in.share.filter(|&at| at != home && self.can_serve(at));
        match same.or_else(|| self.best_ranked(seed, |other| self.can_serve(other))) {
            Some(other) => (other, GroupVerdict::FailedOver),
            None => (home, is_back()),
        }
    }

    /// True if a group that takes no new clients still has this client's own target: one of weight
    /// 0, or the last below its cap.
    fn keeps(&self, at: usize, request: &Request<'_>, now: u64) -> bool {
        let index = self.forward.shares[at].group;
        let group = &self.snapshot.groups[index];
        if self.live.fails_open(group) {
            return false;
        }
        let placed = place(request, self.snapshot, index, self.live, now, &mut NoDraw);
        // A recovering target will serve at some time; another group serves now.
        placed.verdict.is_at_home()
            && placed.target.is_some_and(|own| {
                self.live.availability(&group.targets[own]).health != Health::Unhealthy
            })
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
            key: share.ranked_as,
            id: self.snapshot.groups[share.group].name(),
            weight: share.weight,
            item: at,
        });
        rendezvous::best(seed, sticky.ranked_as, candidates)
    }

    /// True if a group has a target for new clients. A group that fails open counts only if no
    /// other group can serve, and draining targets get no new clients.
    fn can_serve(&self, at: usize) -> bool {
        let group = &self.snapshot.groups[self.forward.shares[at].group];
        let candidates = Candidates::new(self.snapshot, group, self.live, &Tried::EMPTY);
        !candidates.fails_open() && candidates.best_tier().is_some_and(|tier| tier < Tier::Draining)
    }
}

/// A [`Draw`] for a placement that is computed and not used: it takes no turn.
struct NoDraw;

impl Draw for NoDraw {
    fn sequence(&mut self, _: &Group) -> u64 {
        0
    }

    fn rule_sequence(&mut self, _: &Forward) -> Sequence {
        Sequence { number: 0, key: 0 }
    }

    fn random(&mut self) -> u64 {
        0
    }
}
