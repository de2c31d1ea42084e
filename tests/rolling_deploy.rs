//! Rolling deploys in random worlds: targets are replaced one after the other, browsers come and
//! go, and no client moves without need. A failure prints the number of its world: `WORLD=that
//! cargo test --test rolling_deploy` replays it alone.

#![allow(clippy::unwrap_used)]

mod worlds;

use stayput::testing::decide::cookie_update::{Shown, cookie_update};
use stayput::testing::decide::verdict::Verdict;
use stayput::testing::decide::{Outcome, Placement, decide};
use stayput::testing::http1::fields::Fields;
use stayput::testing::model::live::{Drain, Health};
use stayput::testing::model::snapshot::Snapshot;
use stayput::testing::policy::affinity::token::{Kind, Seed};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use worlds::{Carried, Described, FixedDraw, Numbers, State, TargetPlan, World, get_request};

const BEGIN: u64 = 1_800_000_000;
const WORLDS: u64 = 150;

fn each_world(check: impl Fn(&mut Numbers)) {
    let asked = std::env::var("WORLD").ok().map(|text| text.parse::<u64>().unwrap());
    let worlds: Range<u64> = asked.map_or(0..WORLDS, |number| number..number + 1);
    for number in worlds {
        let mut numbers = Numbers(number);
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&mut numbers)));
        assert!(told.is_ok(), "that was world {number}: replay it with WORLD={number}");
    }
}

/// One group that serves: all targets are healthy, below their cap, and in allowed zones.
fn serving(numbers: &mut Numbers, carried: Carried) -> World {
    let mut world = World::random(numbers);
    world.groups.truncate(1);
    world.weighted.clear();
    let group = &mut world.groups[0];
    (group.sticky, group.carried, group.cap) = (true, carried, None);
    group.settings.retain(|(key, _)| !["cross_zone", "max_in_flight_per_target"].contains(key));
    group.targets.truncate(6);
    group.targets.iter_mut().for_each(|target| target.state = State::FINE);
    world
}

fn fresh(numbers: &mut Numbers, id: String) -> TargetPlan {
    let zone = [None, Some('a'), Some('b')][numbers.below(3) as usize];
    let mut state = State::FINE;
    state.availability.health = Health::Initial;
    TargetPlan { id, weight: numbers.below(6), zone, state }
}

/// The steps of an operator.
#[derive(Clone, Debug)]
enum Step {
    Drain(String),
    DelayOver(String),
    Remove(String),
    Add(String),
    FirstPass(String),
}

/// Every target of a group is replaced, in any order, with this many drained ahead, and the new one
/// before or after the old one leaves.
fn deploy(world: &World, numbers: &mut Numbers) -> Vec<Step> {
    let mut order: Vec<String> =
        world.groups[0].targets.iter().map(|target| target.id.clone()).collect();
    numbers.shuffle(&mut order);
    let ahead = 1 + numbers.below(3) as usize;
    let new_first = order.len() == 1 || numbers.chance(50);
    let mut steps = Vec::new();
    let mut drained = 0;
    for (at, old) in order.iter().enumerate() {
        let until = (at + ahead).min(order.len());
        steps.extend(order[drained.min(until)..until].iter().cloned().map(Step::Drain));
        drained = until;
        let new = format!("t{}", 100 + at);
        let mut turn = vec![Step::Add(new.clone()), Step::DelayOver(old.clone())];
        if numbers.chance(20) {
            // An operator who does not wait.
            turn.pop();
        }
        turn.push(Step::Remove(old.clone()));
        if !new_first {
            turn.rotate_left(1);
        }
        steps.extend(turn);
        steps.push(Step::FirstPass(new));
    }
    steps
}

fn take(step: &Step, world: &mut World, numbers: &mut Numbers) {
    let targets = &mut world.groups[0].targets;
    let mut change = |id: &str, change: &dyn Fn(&mut State)| {
        change(&mut targets.iter_mut().find(|target| target.id == id).unwrap().state);
    };
    match step {
        Step::Drain(id) => change(id, &|state| state.availability.drain = Drain::Running),
        Step::DelayOver(id) => change(id, &|state| state.availability.drain = Drain::Over),
        Step::FirstPass(id) => change(id, &|state| state.availability.health = Health::Healthy),
        Step::Remove(id) => targets.retain(|target| target.id != *id),
        Step::Add(id) => targets.push(fresh(numbers, id.clone())),
    }
}

fn place(
    name: &'static str,
    value: Option<&str>,
    snapshot: &Snapshot,
    live: &Described,
    now: u64,
    turn: u64,
) -> Placement {
    let mut headers = Fields::default();
    if let Some(value) = value {
        headers.append_named(name, value.as_bytes());
    }
    let request = get_request("/g0/", &headers);
    match decide(&request, snapshot, live, now, &mut FixedDraw(turn)).outcome {
        Outcome::Forward(placement) => placement,
        other => panic!("{other:?}"),
    }
}

fn id(snapshot: &Snapshot, at: Option<usize>) -> Option<String> {
    at.map(|at| snapshot.groups[0].targets[at].id.to_string())
}

/// The verdict that a client with its session on `home` should get.
fn due(world: &World, home: &str) -> Verdict {
    let group = &world.groups[0];
    let moves = group.settings.contains(&("draining_pins", "\"move\"".to_owned()));
    let target = group.targets.iter().find(|target| target.id == home);
    match target.map(|target| target.state.availability.drain) {
        None => Verdict::MovedRemoved,
        Some(Drain::Running) if moves && somebody_stays(world) => Verdict::MovedDraining,
        Some(Drain::No | Drain::Held | Drain::Running) => Verdict::Hit,
        Some(Drain::Over) => Verdict::MovedDraining,
    }
}

fn somebody_stays(world: &World) -> bool {
    let stays =
        |target: &TargetPlan| target.weight > 0 && target.state.availability.drain == Drain::No;
    world.groups[0].targets.iter().any(stays)
}

/// True if a target may take a client over.
fn may_take_over(world: &World, id: &str) -> bool {
    let target = world.groups[0].targets.iter().find(|target| target.id == id).unwrap();
    match target.state.availability.drain {
        _ if target.weight == 0 => false,
        Drain::No => true,
        Drain::Held | Drain::Running => !somebody_stays(world),
        Drain::Over => false,
    }
}

/// A browser: its newest cookie, and the target that has its session.
#[derive(Default)]
struct Browser {
    cookie: Option<String>,
    home: Option<String>,
    left: HashSet<String>,
}

impl Browser {
    /// One request, which each node decides and one of them serves.
    fn visit(&mut self, world: &World, nodes: &[Snapshot; 2], now: u64, numbers: &mut Numbers) {
        let live = world.live();
        let turn = numbers.next();
        // A new client is placed by turns, which nodes do not share; other clients are not.
        let turns = [turn, if self.home.is_none() { turn } else { numbers.next() }];
        let cookie = self.cookie.as_deref();
        let placed = [0, 1].map(|at| place("cookie", cookie, &nodes[at], &live, now, turns[at]));
        let ids = [0, 1].map(|at| id(&nodes[at], placed[at].target));
        assert_eq!(ids[0], ids[1], "the nodes disagree");
        assert_eq!(placed[0].verdict, placed[1].verdict);
        let verdict = placed[0].verdict;
        let Some(target) = ids[0].clone() else {
            let is_lost = world.groups[0].targets.iter().all(|t| !may_take_over(world, &t.id));
            return assert!(is_lost && verdict == Verdict::NoTarget, "{verdict}");
        };
        let due = self.home.as_deref().map_or(Verdict::New, |home| due(world, home));
        assert_eq!(verdict, due, "home {:?}, sent to {target}", self.home);
        if verdict == Verdict::Hit {
            assert_eq!(self.home.as_ref(), Some(&target));
        } else {
            assert!(may_take_over(world, &target), "{verdict} to {target}");
            if let Some(home) = self.home.replace(target.clone()) {
                assert!(self.left.insert(home.clone()), "{home} was left twice");
                assert!(!self.left.contains(&target), "{target} was left before");
            }
        }
        let serves = usize::from(numbers.chance(50));
        let (placement, node) = (&placed[serves], &nodes[serves]);
        let (seed, at) = (Seed(numbers.next()), placement.target.unwrap());
        if let Some(update) = cookie_update(placement, at, node, now, seed, Shown::default()) {
            let sealed = node.keyring.seal(Kind::Lb, &update.contents);
            self.cookie = Some(format!("AWSALB={}", sealed.as_str()));
        }
    }
}

#[test]
fn a_client_moves_once_when_its_target_leaves_and_not_otherwise() {
    each_world(|numbers| {
        let mut world = serving(numbers, Carried::LbCookie);
        let mut browsers: Vec<Browser> = (0..12).map(|_| Browser::default()).collect();
        let mut nodes = [world.snapshot(numbers), world.snapshot(numbers)];
        let mut now = BEGIN;
        let steps = deploy(&world, numbers);
        // If pins move at the first drain, the others are not draining yet.
        let stay = ("draining_pins", "\"stay\"".to_owned());
        let new_ones_alone =
            replaces_all_at_once(&steps) && world.groups[0].settings.contains(&stay);
        for step in [None].into_iter().chain(steps.into_iter().map(Some)) {
            if let Some(step) = &step {
                take(step, &mut world, numbers);
                if let Step::Add(_) | Step::Remove(_) = step {
                    nodes = [world.snapshot(numbers), world.snapshot(numbers)];
                }
            }
            for browser in &mut browsers {
                // Some clients return, and some sleep while targets come and go.
                for _ in 0..numbers.below(3) {
                    browser.visit(&world, &nodes, now, numbers);
                    now += 1;
                }
            }
        }
        if new_ones_alone && world.groups[0].targets.iter().all(|target| target.weight > 0) {
            assert!(browsers.iter().all(|browser| browser.left.len() <= 1), "somebody moved twice");
        }
    });
}

/// True if all old targets drain and a new one exists before the first old one leaves.
fn replaces_all_at_once(steps: &[Step]) -> bool {
    let first = |wanted: fn(&Step) -> bool| steps.iter().position(wanted);
    let last_drain = steps.iter().rposition(|step| matches!(step, Step::Drain(_)));
    let add = first(|step| matches!(step, Step::Add(_)));
    last_drain < add && add < first(|step| matches!(step, Step::DelayOver(_) | Step::Remove(_)))
}

/// The targets of clients known by a header, by the value.
fn homes(
    world: &World,
    [one, other]: &[Snapshot; 2],
    values: &[String],
    check: impl Fn(&str, &Placement),
) -> Vec<Option<String>> {
    let live = world.live();
    let home = |value: &String| {
        let ask = |node, turn| place("x-session-id", Some(value), node, &live, BEGIN, turn);
        let (here, there) = (ask(one, 1), ask(other, 2));
        assert_eq!(id(one, here.target), id(other, there.target), "the nodes disagree");
        assert_eq!((here.verdict, id(one, here.pinned)), (there.verdict, id(other, there.pinned)));
        check(value, &here);
        id(one, here.pinned)
    };
    values.iter().map(home).collect()
}

#[test]
fn a_header_key_moves_only_if_its_target_leaves_or_a_better_joins() {
    each_world(|numbers| {
        let mut world = serving(numbers, Carried::Header);
        let values: Vec<String> = (0..12).map(|_| format!("{:x}", numbers.next())).collect();
        let mut before: Option<Vec<Option<String>>> = None;
        let mut nodes = [world.snapshot(numbers), world.snapshot(numbers)];
        for step in [None].into_iter().chain(deploy(&world, numbers).into_iter().map(Some)) {
            if let Some(step) = &step {
                take(step, &mut world, numbers);
                if let Step::Add(_) | Step::Remove(_) = step {
                    nodes = [world.snapshot(numbers), world.snapshot(numbers)];
                }
            }
            let check = |value: &str, placement: &Placement| {
                let verdict = placement.verdict;
                match (id(&nodes[0], placement.target), id(&nodes[0], placement.pinned)) {
                    (Some(target), Some(home)) => {
                        assert_eq!(verdict, due(&world, &home), "{value} of {home}");
                        match verdict {
                            Verdict::Hit => assert_eq!(target, home),
                            _ => assert!(may_take_over(&world, &target), "{value} to {target}"),
                        }
                    }
                    (target, _) => assert_eq!((target, verdict), (None, Verdict::NoTarget)),
                }
            };
            let after = homes(&world, &nodes, &values, check);
            for (before, after) in before.iter().flatten().zip(&after) {
                let own = match &step {
                    Some(Step::Add(new)) => after.as_ref() == Some(new),
                    Some(Step::Remove(old)) => before.as_ref() == Some(old),
                    _ => false,
                };
                assert!(own || before == after, "{step:?}: {before:?} to {after:?}");
            }
            before = Some(after);
        }
    });
}

#[test]
fn a_header_key_returns_to_its_target() {
    each_world(|numbers| {
        let mut world = serving(numbers, Carried::Header);
        if world.groups[0].targets.len() == 1 {
            return;
        }
        let values: Vec<String> = (0..12).map(|_| format!("{:x}", numbers.next())).collect();
        let mut homes = |world: &World| {
            let nodes = [world.snapshot(numbers), world.snapshot(numbers)];
            homes(world, &nodes, &values, |_, _| ())
        };
        let before = homes(&world);
        let gone = world.groups[0].targets.remove(0);
        let without = homes(&world);
        assert!(without.iter().flatten().all(|home| *home != gone.id));
        world.groups[0].targets.push(gone);
        assert_eq!(homes(&world), before);
    });
}

#[test]
fn an_added_target_takes_only_its_share_of_header_keys() {
    let mut numbers = Numbers(7);
    let mut world = serving(&mut numbers, Carried::Header);
    let target = |at: u64, weight| {
        let (id, zone, state) = (format!("t{at}"), None, State::FINE);
        TargetPlan { id, weight, zone, state }
    };
    world.groups[0].targets = (0..4).map(|at| target(at, 1)).collect();
    let values: Vec<String> = (0..10_000).map(|at| format!("client {at}")).collect();
    let mut homes = |world: &World| {
        let nodes = [world.snapshot(&mut numbers), world.snapshot(&mut numbers)];
        homes(world, &nodes, &values, |_, _| ())
    };
    let before = homes(&world);
    world.groups[0].targets.push(target(4, 2));
    let after = homes(&world);
    let mut taken: HashMap<&Option<String>, u32> = HashMap::new();
    for (before, after) in before.iter().zip(&after).filter(|(before, after)| before != after) {
        assert_eq!(after.as_deref(), Some("t4"));
        *taken.entry(before).or_default() += 1;
    }
    // Two sixths of all clients: a third of each target's 2,500.
    assert_eq!(taken.len(), 4);
    assert!(taken.values().all(|count| (700..970).contains(count)), "{taken:?}");
}
