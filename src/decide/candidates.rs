//! Who may take a client that its own target cannot keep, or that has none.

use super::{Draw, Keeps, Live};
use crate::config::settings::Algorithm;
use crate::model::live::{Drain, Health};
use crate::model::snapshot::{Group, Snapshot, Target};
use crate::policy::affinity::token::Seed;
use crate::policy::balance::rendezvous::{self, Candidate};
use crate::policy::balance::weight_fraction::WeightFraction;
use crate::policy::balance::{least_loaded, weighted_random};

/// How good a candidate is. A worse one is looked at only where there is no better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Healthy, or the group fails open.
    Serving,
    /// Something speaks against it, such as connections for traffic that fail, but no check does.
    Doubtful,
    /// Not yet known.
    Initial,
    /// Draining, its delay not over.
    Draining,
}

/// The targets that were tried for one request and did not answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried {
    list: [u32; Self::MAX],
    length: usize,
}

impl Tried {
    /// The most attempts at different targets one request can have; `retries` is checked against it.
    pub const MAX: usize = 16;

    /// Nobody yet.
    pub const EMPTY: Self = Self { list: [0; Self::MAX], length: 0 };

    /// Notes that this target did not answer. Once full, everyone counts as tried.
    pub fn record(&mut self, target: usize) {
        if let Some(place) = self.list.get_mut(self.length) {
            *place = u32::try_from(target).unwrap_or(u32::MAX);
        }
        self.length = (self.length + 1).min(Self::MAX);
    }

    /// Whether it was tried, or no more may be.
    pub fn contains(&self, target: usize) -> bool {
        self.length == Self::MAX
            || self.list[..self.length].iter().any(|&tried| tried as usize == target)
    }
}

/// One group at one moment, with those left out who were tried already.
pub struct Candidates<'s, L> {
    snapshot: &'s Snapshot,
    group: &'s Group,
    live: &'s L,
    tried: &'s Tried,
    fails_open: bool,
}

impl<'s, L: Live> Candidates<'s, L> {
    /// Looks at a group.
    pub fn new(snapshot: &'s Snapshot, group: &'s Group, live: &'s L, tried: &'s Tried) -> Self {
        Self { snapshot, group, live, tried, fails_open: live.fails_open(group) }
    }

    /// Whether health is ignored because too few are healthy.
    pub fn fails_open(&self) -> bool {
        self.fails_open
    }

    /// Whether a target stands in a zone this balancer may use.
    pub fn zone_allows(&self, target: &Target) -> bool {
        self.group.settings.cross_zone || target.zone == self.snapshot.zone
    }

    /// Whether a target has as many requests in flight as it may.
    pub fn at_cap(&self, target: &Target) -> bool {
        self.group
            .settings
            .max_in_flight_per_target
            .is_some_and(|cap| self.live.at_cap(target, cap))
    }

    /// How good a candidate the target of this index is, if it is one at all.
    pub fn tier(&self, at: usize) -> Option<Tier> {
        let target = &self.group.targets[at];
        if target.weight == 0
            || target.address.is_none()
            || !self.zone_allows(target)
            || self.tried.contains(at)
        {
            return None;
        }
        let availability = self.live.availability(target);
        let tier = match (availability.drain, availability.health) {
            (Drain::Over, _) => return None,
            (_, Health::Unhealthy) if !self.fails_open => return None,
            (Drain::Running, _) => Tier::Draining,
            (Drain::No | Drain::Held, Health::Initial) if !self.fails_open => Tier::Initial,
            // Held even where health is ignored: it may be gone, and another is not.
            (Drain::Held, _) => Tier::Doubtful,
            (Drain::No, Health::Suspect) if !self.fails_open => Tier::Doubtful,
            (Drain::No, _) => Tier::Serving,
        };
        (!self.at_cap(target)).then_some(tier)
    }

    /// The best tier anyone is in.
    pub fn best_tier(&self) -> Option<Tier> {
        let mut best = None;
        for at in 0..self.group.targets.len() {
            match self.tier(at) {
                Some(Tier::Serving) => return Some(Tier::Serving),
                tier => best = [best, tier].into_iter().flatten().min(),
            }
        }
        best
    }

    /// The candidates: everyone in the best tier. One that has become better since that was looked
    /// for is one too: a lone target whose first check passes at this very moment must not be missed.
    pub fn list(&self) -> impl Iterator<Item = usize> + Clone {
        let best = self.best_tier();
        let is_in = move |tier: Tier| best.is_some_and(|best| tier <= best);
        (0..self.group.targets.len()).filter(move |&at| self.tier(at).is_some_and(is_in))
    }

    /// The first candidate of the seed's ranking. While the pinned target's zone is known, those
    /// in other zones come first, so that a zone's death moves everyone once.
    pub fn ranked(&self, seed: Seed, pinned: Option<usize>) -> Option<usize> {
        let zone = pinned.and_then(|at| self.group.targets[at].zone.as_ref());
        let elsewhere = |at: &usize| self.group.targets[*at].zone.as_ref() != zone;
        if zone.is_some()
            && let Some(found) = self.best_ranked(seed, self.list().filter(elsewhere))
        {
            return Some(found);
        }
        self.best_ranked(seed, self.list())
    }

    /// The first of the seed's ranking among all targets this balancer may use, in whatever state
    /// they are: where a client belongs that is known by a value alone.
    pub fn preferred(&self, seed: Seed) -> Option<usize> {
        let usable = (0..self.group.targets.len()).filter(|&at| {
            let target = &self.group.targets[at];
            target.weight > 0 && self.zone_allows(target)
        });
        self.best_ranked(seed, usable)
    }

    fn best_ranked(&self, seed: Seed, list: impl Iterator<Item = usize>) -> Option<usize> {
        let candidates = list.map(|at| {
            let target = &self.group.targets[at];
            Candidate { key: target.key, id: target.id.as_str(), weight: target.weight, item: at }
        });
        rendezvous::best(seed, self.group.key, candidates)
    }

    /// Whom the group's algorithm chooses.
    pub fn by_algorithm(&self, keeps: Keeps, draw: &mut impl Draw) -> Option<usize> {
        let by_chance = |draw: u64| weighted_random::drawn(self.weighted(), draw);
        match (self.group.settings.algorithm, keeps) {
            (_, Keeps::Nothing) | (Algorithm::WeightedRandom, _) => by_chance(draw.random()),
            (Algorithm::RoundRobin, Keeps::PerhapsNone) => by_chance(draw.random()),
            (Algorithm::RoundRobin, Keeps::Pin) => self.round_robin(draw.sequence(self.group)),
            (Algorithm::LeastOutstandingRequests, keeps) => {
                self.least_loaded(self.first(keeps, draw), |target| self.live.in_flight(target))
            }
            (Algorithm::LeastSessions, keeps) => {
                self.least_loaded(self.first(keeps, draw), |target| self.live.sessions(target))
            }
        }
    }

    /// Which of equal targets is looked at first: the one whose turn it is, or any.
    fn first(&self, keeps: Keeps, draw: &mut impl Draw) -> u64 {
        match keeps {
            Keeps::Pin => draw.sequence(self.group),
            Keeps::PerhapsNone | Keeps::Nothing => draw.random(),
        }
    }

    /// How much of its weight a target has for newcomers now.
    pub fn weight_fraction(&self, at: usize) -> WeightFraction {
        let settings = &self.group.settings;
        match settings.slow_start.is_some() || settings.anomaly_mitigation.is_some() {
            true => self.live.weight_fraction(&self.group.targets[at]),
            false => WeightFraction::WHOLE,
        }
    }

    /// The candidates, each with what it has of its weight.
    fn weighted(&self) -> impl Iterator<Item = (usize, u64)> + Clone {
        self.list()
            .map(|at| (at, self.weight_fraction(at).of_weight(self.group.targets[at].weight)))
    }

    /// The target whose turn it is; where it is no candidate, its turns go to the candidates by
    /// their weight, a different one each round, so that no neighbour gets a double share. One whose
    /// share still grows leaves some of its turns to those that have theirs.
    fn round_robin(&self, sequence: u64) -> Option<usize> {
        let (scheduled, number) = self.group.schedule.at(sequence)?;
        let weight = |at: usize| (at, u64::from(self.group.targets[at].weight));
        let chosen = match self.tier(scheduled) {
            Some(tier) if tier == Tier::Serving || self.best_tier() == Some(tier) => scheduled,
            _ => {
                let total: u64 = self.list().map(|at| weight(at).1).sum();
                weighted_random::placed(self.list().map(weight), number.checked_rem(total)?)?
            }
        };
        if self.weight_fraction(chosen).takes(number) {
            return Some(chosen);
        }
        // Multiples of the root of two fall evenly too, whichever turns are left.
        let draw = number.wrapping_mul(0x6a09_e667_f3bc_c909);
        let whole =
            self.list().filter(|at| self.weight_fraction(*at) == WeightFraction::WHOLE).map(weight);
        // Where nobody has a whole share, for a moment, it takes the turn after all.
        weighted_random::drawn(whole, draw).or(Some(chosen))
    }

    /// The candidate with the fewest; of equal ones whose turn it is, or who comes after it, so that
    /// idle targets take newcomers in order.
    fn least_loaded(&self, sequence: u64, count: impl Fn(&Target) -> u32) -> Option<usize> {
        let (first, _) = self.group.schedule.at(sequence)?;
        let (after, before) = (self.list().filter(|at| *at >= first), self.list());
        let candidates = after.chain(before.take_while(|at| *at < first)).map(|at| {
            let target = &self.group.targets[at];
            least_loaded::Candidate { count: count(target), weight: target.weight, item: at }
        });
        least_loaded::least_loaded(candidates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::Random;
    use crate::config;
    use crate::model::live::Availability;
    use crate::model::snapshot::Resolutions;
    use crate::model::target_registry::TargetRegistry;
    use crate::policy::affinity::keys::{Key, Keyring};
    use std::cell::Cell;
    use std::sync::Arc;

    /// Healthy from the read of this number on, and not known before.
    struct Settling(Cell<i32>);

    impl Live for Settling {
        fn availability(&self, _: &Target) -> Availability {
            let left = self.0.replace(self.0.get() - 1);
            let health = if left > 0 { Health::Initial } else { Health::Healthy };
            Availability { health, ..Availability::UNKNOWN }
        }

        fn at_cap(&self, _: &Target, _: u32) -> bool {
            false
        }

        fn refused_lately(&self, _: &Target) -> bool {
            false
        }

        fn fails_open(&self, _: &Group) -> bool {
            false
        }

        fn in_flight(&self, _: &Target) -> u32 {
            0
        }

        fn sessions(&self, _: &Target) -> u32 {
            0
        }

        fn weight_fraction(&self, _: &Target) -> WeightFraction {
            WeightFraction::WHOLE
        }
    }

    #[test]
    fn a_target_that_becomes_healthy_while_it_is_looked_at_is_not_missed() {
        let text = "[listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\n\
                    targets = [\"127.0.0.1:1\"]\n";
        let config = config::parse(text, "test.toml", "/".as_ref()).unwrap().config;
        let keyring = Arc::new(Keyring::new(&[Key::generate([7; 32])]).unwrap());
        let (names, mut registry) = (Resolutions::new(), TargetRegistry::default());
        let snapshot = Snapshot::build(&config, keyring, &names, &mut registry).unwrap();
        for reads in 0..6 {
            let live = |reads| Settling(Cell::new(reads));
            let (one, other) = (live(reads), live(reads));
            let group = &snapshot.groups[0];
            let candidates = Candidates::new(&snapshot, group, &one, &Tried::EMPTY);
            assert_eq!(candidates.ranked(Seed(7), None), Some(0), "{reads}");
            let candidates = Candidates::new(&snapshot, group, &other, &Tried::EMPTY);
            assert_eq!(
                candidates.by_algorithm(Keeps::Pin, &mut Random::from_seed(1)),
                Some(0),
                "{reads}"
            );
        }
    }
}
