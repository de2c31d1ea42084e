//! The candidates of a group: the targets that may take a client whose own target cannot, or that
//! has none.

use super::{Draw, Keeps, Live};
use crate::config::settings::Algorithm;
use crate::model::live::{Drain, Health};
use crate::model::snapshot::{Group, Snapshot, Target};
use crate::policy::affinity::token::Seed;
use crate::policy::balance::rendezvous::{self, Candidate};
use crate::policy::balance::weight_fraction::WeightFraction;
use crate::policy::balance::{least_loaded, weighted_random};

/// The quality of a candidate. A worse tier is used only if no better one has a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Healthy, or the group fails open.
    Serving,
    /// Suspect or held: no check fails, but connections of traffic do, or its name no longer lists
    /// it.
    Doubtful,
    /// No check has passed yet.
    Initial,
    /// Draining, with its delay not over.
    Draining,
}

/// The targets that were tried for one request without a response.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried {
    list: [u32; Self::MAX],
    length: usize,
}

impl Tried {
    /// Maximum number of different targets one request may try; `retries` is checked against it.
    pub const MAX: usize = 16;

    /// No target tried yet.
    pub const EMPTY: Self = Self { list: [0; Self::MAX], length: 0 };

    /// Records that this target did not answer. When full, every target counts as tried.
    pub fn record(&mut self, target: usize) {
        if let Some(place) = self.list.get_mut(self.length) {
            *place = u32::try_from(target).unwrap_or(u32::MAX);
        }
        self.length = (self.length + 1).min(Self::MAX);
    }

    /// True if it was tried, or no more targets may be.
    pub fn contains(&self, target: usize) -> bool {
        self.length == Self::MAX
            || self.list[..self.length].iter().any(|&tried| tried as usize == target)
    }
}

/// A group at one moment, without the targets already tried.
pub struct Candidates<'s, L> {
    snapshot: &'s Snapshot,
    group: &'s Group,
    live: &'s L,
    tried: &'s Tried,
    fails_open: bool,
}

impl<'s, L: Live> Candidates<'s, L> {
    /// Reads the state of a group.
    pub fn new(snapshot: &'s Snapshot, group: &'s Group, live: &'s L, tried: &'s Tried) -> Self {
        Self { snapshot, group, live, tried, fails_open: live.fails_open(group) }
    }

    /// True if health is ignored because too few targets are healthy.
    pub fn fails_open(&self) -> bool {
        self.fails_open
    }

    /// True if the target is in a zone that this balancer may use.
    pub fn zone_allows(&self, target: &Target) -> bool {
        self.group.settings.cross_zone || target.zone == self.snapshot.zone
    }

    /// True if the target has as many requests in flight as its cap.
    pub fn at_cap(&self, target: &Target) -> bool {
        self.group
            .settings
            .max_in_flight_per_target
            .is_some_and(|cap| self.live.at_cap(target, cap))
    }

    /// The tier of the target of this index; `None` if it is no candidate.
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
            // A held target stays doubtful even if health is ignored: it may be gone, and another
            // is not.
            (Drain::Held, _) => Tier::Doubtful,
            (Drain::No, Health::Suspect) if !self.fails_open => Tier::Doubtful,
            (Drain::No, _) => Tier::Serving,
        };
        (!self.at_cap(target)).then_some(tier)
    }

    /// The best tier that has a target.
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

    /// The candidates: all targets in the best tier. A target that became better since the best
    /// tier was computed is one too: a lone target whose first check passes at this moment must not
    /// be missed.
    pub fn list(&self) -> impl Iterator<Item = usize> + Clone {
        let best = self.best_tier();
        let is_in = move |tier: Tier| best.is_some_and(|best| tier <= best);
        (0..self.group.targets.len()).filter(move |&at| self.tier(at).is_some_and(is_in))
    }

    /// The first candidate of the seed's ranking. If the pinned target has a zone, candidates in
    /// other zones come first, so that the loss of a zone moves each client once.
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

    /// The first of the seed's ranking among all targets this balancer may use, in any state: the
    /// own target of a client that is known by a value alone.
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

    /// The target that the group's algorithm chooses.
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

    /// The sequence number that breaks ties between equal targets: the next turn, or a random one.
    fn first(&self, keeps: Keeps, draw: &mut impl Draw) -> u64 {
        match keeps {
            Keeps::Pin => draw.sequence(self.group),
            Keeps::PerhapsNone | Keeps::Nothing => draw.random(),
        }
    }

    /// The fraction of its weight that a target has for new clients now.
    pub fn weight_fraction(&self, at: usize) -> WeightFraction {
        let settings = &self.group.settings;
        match settings.slow_start.is_some() || settings.anomaly_mitigation.is_some() {
            true => self.live.weight_fraction(&self.group.targets[at]),
            false => WeightFraction::WHOLE,
        }
    }

    /// The candidates, each with the current part of its weight.
    fn weighted(&self) -> impl Iterator<Item = (usize, u64)> + Clone {
        self.list()
            .map(|at| (at, self.weight_fraction(at).of_weight(self.group.targets[at].weight)))
    }

    /// The target whose turn it is. If it is no candidate, its turns go to the candidates by
    /// weight, to a different one each round, so that no neighbour gets a double share. A target in
    /// slow start passes some of its turns to targets with their whole share.
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
        // Multiples of the root of two are evenly distributed, whichever turns are left.
        let draw = number.wrapping_mul(0x6a09_e667_f3bc_c909);
        let whole =
            self.list().filter(|at| self.weight_fraction(*at) == WeightFraction::WHOLE).map(weight);
        // If no target has a whole share for a moment, the chosen one takes the turn after all.
        weighted_random::drawn(whole, draw).or(Some(chosen))
    }

    /// The candidate with the least load; of equal ones the one whose turn it is, or the next after
    /// it, so that idle targets take new clients in order.
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

    /// Healthy from this number of reads on, and `Initial` before.
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
    fn a_target_that_becomes_healthy_during_the_choice_is_chosen() {
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
