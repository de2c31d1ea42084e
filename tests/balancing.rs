//! Placement of new clients by the decision alone: each algorithm over many turns and draws, and
//! the chances that `explain` prints against the shares they lead to.

#![allow(clippy::unwrap_used)]

mod worlds;

use stayput::config;
use stayput::config::settings::Algorithm;
use stayput::testing::decide::candidates::{Candidates, Tried};
use stayput::testing::decide::explanation::{Choice, Explained, Forwarded, explain};
use stayput::testing::decide::verdict::Verdict;
use stayput::testing::decide::{Draw, Keeps, Live, Outcome, decide};
use stayput::testing::http1::fields::Fields;
use stayput::testing::model::forward::Forward;
use stayput::testing::model::live::{Availability, Health};
use stayput::testing::model::snapshot::{Group, Resolutions, Snapshot, Target};
use stayput::testing::model::target_registry::TargetRegistry;
use stayput::testing::policy::affinity::token::Seed;
use stayput::testing::policy::balance::round::Sequence;
use stayput::testing::policy::balance::weight_fraction::WeightFraction;
use std::collections::BTreeMap;
use std::path::Path;
use worlds::{Numbers, State, World, get_request, keyring};

const NOW: u64 = 1_800_000_000;

/// Targets a, b, c ... with these weights in one group.
fn snapshot(weights: &[u16], settings: &str) -> Snapshot {
    let target = |(at, weight): (usize, &u16)| {
        let id = char::from(b'a' + at as u8);
        format!("{{ id = \"{id}\", address = \"10.0.0.1:{}\", weight = {weight} }}", at + 1)
    };
    let targets = weights.iter().enumerate().map(target).collect::<Vec<_>>().join(", ");
    let text = format!(
        "[listener.web]\naddress = \"127.0.0.1:80\"\n[target_group.app]\ntargets = [{targets}]\n{settings}\n"
    );
    let loaded = config::parse(&text, "test", Path::new(""));
    let config = loaded.unwrap_or_else(|problems| panic!("{problems}")).config;
    Snapshot::build(&config, keyring(1, 7), &Resolutions::new(), &mut TargetRegistry::default())
        .unwrap()
}

/// The state of targets by id; a target without an entry is idle, healthy and without anomaly.
#[derive(Default)]
struct FakeLive {
    in_flight: BTreeMap<&'static str, u32>,
    sessions: BTreeMap<&'static str, u32>,
    parts: BTreeMap<&'static str, u16>,
    down: Vec<&'static str>,
}

impl Live for FakeLive {
    fn availability(&self, target: &Target) -> Availability {
        let is_down = self.down.contains(&target.id.as_str());
        let health = if is_down { Health::Unhealthy } else { Health::Healthy };
        Availability { health, ..State::FINE.availability }
    }

    fn at_cap(&self, _target: &Target, _cap: u32) -> bool {
        false
    }

    fn refused_lately(&self, _target: &Target) -> bool {
        false
    }

    fn fails_open(&self, _group: &Group) -> bool {
        false
    }

    fn in_flight(&self, target: &Target) -> u32 {
        self.in_flight.get(target.id.as_str()).copied().unwrap_or(0)
    }

    fn sessions(&self, target: &Target) -> u32 {
        self.sessions.get(target.id.as_str()).copied().unwrap_or(0)
    }

    fn weight_fraction(&self, target: &Target) -> WeightFraction {
        self.parts
            .get(target.id.as_str())
            .map_or(WeightFraction::WHOLE, |parts| WeightFraction::of_parts(*parts))
    }
}

/// One turn, and one draw.
struct Given {
    turn: u64,
    random: u64,
}

impl Draw for Given {
    fn sequence(&mut self, _group: &Group) -> u64 {
        self.turn
    }

    fn rule_sequence(&mut self, _forward: &Forward) -> Sequence {
        Sequence { number: self.turn, key: 7 }
    }

    fn random(&mut self) -> u64 {
        self.random
    }
}

/// The target of a new client with this turn and this draw.
fn placed(snapshot: &Snapshot, live: &FakeLive, turn: u64, random: u64) -> String {
    let headers = Fields::default();
    let request = get_request("/", &headers);
    match decide(&request, snapshot, live, NOW, &mut Given { turn, random }).outcome {
        Outcome::Forward(placement) => {
            assert_eq!(placement.verdict, Verdict::New);
            snapshot.groups[0].targets[placement.target.unwrap()].id.to_string()
        }
        other => panic!("{other:?}"),
    }
}

/// Number of times that each target is chosen in this many turns.
fn counts(snapshot: &Snapshot, live: &FakeLive, turns: u64) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for turn in 0..turns {
        *counts.entry(placed(snapshot, live, turn, 0)).or_default() += 1;
    }
    counts
}

#[test]
fn round_robin_share_follows_the_slow_start_ramp() {
    const TURNS: u64 = 3_000;
    let snapshot = snapshot(&[1, 1, 1], "slow_start = \"30s\"");
    for parts in (0..=1_024).step_by(128) {
        let live = FakeLive { parts: [("b", parts)].into(), ..FakeLive::default() };
        let counts = counts(&snapshot, &live, TURNS);
        let count = |id: &str| counts.get(id).copied().unwrap_or(0) as f64;
        let fair = TURNS as f64 / 3.0;
        let wanted = fair * f64::from(parts) / 1_024.0;
        assert!((count("b") - wanted).abs() <= 10.0, "{parts}: {counts:?}");
        for other in ["a", "c"] {
            let wanted = fair + (fair - wanted) / 2.0;
            assert!((count(other) - wanted).abs() <= 15.0, "{parts}: {counts:?}");
        }
    }
}

#[test]
fn a_ramp_counts_only_in_a_group_with_slow_start() {
    let live = FakeLive { parts: [("b", 0)].into(), ..FakeLive::default() };
    let counts = counts(&snapshot(&[1, 1, 1], ""), &live, 300);
    assert_eq!(counts["b"], 100);
}

#[test]
fn a_lone_target_in_slow_start_serves_all_requests() {
    let snapshot = snapshot(&[1, 1], "slow_start = \"30s\"");
    let live = FakeLive { parts: [("b", 0)].into(), down: vec!["a"], ..FakeLive::default() };
    assert_eq!(counts(&snapshot, &live, 10)["b"], 10);
}

#[test]
fn the_ranking_of_a_seed_ignores_slow_start() {
    let snapshot =
        snapshot(&[1, 1, 1], "algorithm = \"weighted_random\"\nanomaly_mitigation = true");
    let cut = FakeLive { parts: [("a", 32), ("b", 32)].into(), ..FakeLive::default() };
    let (group, whole) = (&snapshot.groups[0], FakeLive::default());
    for seed in 0..1_000 {
        let first = |live| {
            let candidates = Candidates::new(&snapshot, group, live, &Tried::EMPTY);
            candidates.ranked(Seed(seed), None)
        };
        assert_eq!(first(&cut), first(&whole));
    }
}

#[test]
fn weighted_random_gives_an_anomalous_target_1_32_of_its_weight() {
    const DRAWS: u64 = 4_096;
    for (settings, expected) in
        [("", [1.0, 2.0, 5.0]), ("anomaly_mitigation = true", [1.0, 2.0 / 32.0, 5.0])]
    {
        let snapshot =
            snapshot(&[1, 2, 5], &format!("algorithm = \"weighted_random\"\n{settings}"));
        let live = FakeLive { parts: [("b", 32)].into(), ..FakeLive::default() };
        let mut counts: BTreeMap<String, f64> = BTreeMap::new();
        for draw in 0..DRAWS {
            *counts.entry(placed(&snapshot, &live, 0, draw << 52)).or_default() += 1.0;
        }
        let sum: f64 = expected.iter().sum();
        for (id, weight) in ["a", "b", "c"].iter().zip(expected) {
            let wanted = DRAWS as f64 * weight / sum;
            assert!((counts[*id] - wanted).abs() <= 1.0, "{settings} {counts:?}");
        }
    }
}

#[test]
fn least_outstanding_follows_weights_and_rotates_idle_targets() {
    let settings = "algorithm = \"least_outstanding_requests\"";
    let equal = snapshot(&[1, 1, 1], settings);
    let idle: Vec<_> = (0..4).map(|turn| placed(&equal, &FakeLive::default(), turn, 0)).collect();
    assert_eq!(idle, ["a", "b", "c", "a"]);
    let busy = FakeLive { in_flight: [("a", 3), ("b", 1), ("c", 2)].into(), ..FakeLive::default() };
    assert!((0..9).all(|turn| placed(&equal, &busy, turn, 0) == "b"));
    let heavy = snapshot(&[4, 1, 1], settings);
    assert!((0..9).all(|turn| placed(&heavy, &busy, turn, 0) == "a"));
    let two = FakeLive { in_flight: [("b", 1)].into(), ..FakeLive::default() };
    let turns: Vec<_> = (0..3).map(|turn| placed(&equal, &two, turn, 0)).collect();
    assert_eq!(turns, ["a", "c", "c"], "whose turn it is, or who comes next");
}

#[test]
fn least_sessions_sends_new_clients_to_the_lowest_count_by_weight() {
    let snapshot = snapshot(&[2, 1, 1], "algorithm = \"least_sessions\"");
    for (sessions, expected) in [
        ([("a", 100), ("b", 51), ("c", 60)], "a"),
        ([("a", 103), ("b", 51), ("c", 60)], "b"),
        ([("a", 900), ("b", 51), ("c", 0)], "c"),
    ] {
        let live = FakeLive { sessions: sessions.into(), ..FakeLive::default() };
        assert!((0..9).all(|turn| placed(&snapshot, &live, turn, 0) == expected));
    }
}

#[test]
fn no_candidate_has_fewer_in_flight_by_weight_than_the_chosen_one() {
    let mut compared = 0;
    for number in 0..400 {
        let mut numbers = Numbers(number);
        let world = World::random(&mut numbers);
        let (snapshot, live) = (world.snapshot(&mut numbers), world.live());
        let group = &snapshot.groups[0];
        let count = |at: usize| match group.settings.algorithm {
            Algorithm::LeastOutstandingRequests => Some(live.in_flight(&group.targets[at])),
            Algorithm::LeastSessions => Some(live.sessions(&group.targets[at])),
            Algorithm::RoundRobin | Algorithm::WeightedRandom => None,
        };
        let candidates = Candidates::new(&snapshot, group, &live, &Tried::EMPTY);
        for turn in 0..20 {
            let Some(chosen) = candidates.by_algorithm(Keeps::Pin, &mut Given { turn, random: 0 })
            else {
                continue;
            };
            let load = |at| Some(f64::from(count(at)?) / f64::from(group.targets[at].weight));
            let Some(least) = load(chosen) else { continue };
            let others: Vec<_> = candidates.list().filter_map(load).collect();
            assert!(others.iter().all(|load| *load >= least), "world {number}: {others:?}");
            compared += 1;
        }
    }
    assert!(compared > 1_000, "only {compared} were compared");
}

#[test]
fn explained_chances_match_the_shares_of_many_new_clients() {
    const TURNS: u64 = 10_000;
    let mut compared = 0;
    for number in 0..120 {
        let mut numbers = Numbers(number);
        let world = World::random(&mut numbers);
        let (snapshot, live) = (world.snapshot(&mut numbers), world.live());
        let (headers, group) = (Fields::default(), &snapshot.groups[0]);
        let request = get_request("/g0/", &headers);
        let Explained::Forward(Forwarded { choice: Choice::OneOf(chances), .. }) =
            explain(&request, &snapshot, &live, NOW).action
        else {
            continue;
        };
        if chances.iter().any(|(_, chance)| chance.is_none()) {
            continue;
        }
        let candidates = Candidates::new(&snapshot, group, &live, &Tried::EMPTY);
        let mut counts = vec![0.0; group.targets.len()];
        for turn in 0..TURNS {
            let random = ((u128::from(turn) << 64) / u128::from(TURNS)) as u64;
            counts[candidates.by_algorithm(Keeps::Pin, &mut Given { turn, random }).unwrap()] +=
                1.0;
        }
        let all: f64 = chances.iter().filter_map(|(_, chance)| *chance).sum();
        assert!((all - 1.0).abs() < 1e-9, "world {number}: {chances:?}");
        for (at, chance) in chances {
            let got: f64 = counts[at] / TURNS as f64;
            let wanted = chance.unwrap();
            assert!((got - wanted).abs() < 0.02, "world {number}: {at}: {got} for {wanted}");
        }
        compared += 1;
    }
    assert!(compared > 25, "only {compared} were compared");
}
