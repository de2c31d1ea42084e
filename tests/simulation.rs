//! Properties that hold in each of thousands of random worlds. A failure prints the number of its
//! world: `WORLD=that cargo test --test simulation` replays it alone.

#![allow(clippy::unwrap_used)]

mod worlds;

use http::{Method, StatusCode};
use stayput::testing::decide::candidates::{Candidates, Tier, Tried};
use stayput::testing::decide::cookie_update::{CookieWrite, Shown, cookie_update, wrote};
use stayput::testing::decide::verdict::Verdict;
use stayput::testing::decide::{Live, Outcome, Placement, decide, next_after_failure, successor};
use stayput::testing::http1::fields::Fields;
use stayput::testing::http1::name::Name;
use stayput::testing::model::live::{Drain, Health};
use stayput::testing::model::snapshot::{Group, Snapshot};
use stayput::testing::policy::affinity::token::{Contents, GroupKey, Kind, Pin, Seed, TargetKey};
use std::collections::HashMap;
use std::ops::Range;
use worlds::{Carried, Described, FixedDraw, Numbers, State, TargetPlan, World, get_request};

const NOW: u64 = 1_800_000_000;
const WORLDS: u64 = 2_000;

/// A client of group 0: its pin, and its ranking.
#[derive(Clone, Debug)]
struct Client {
    /// `None` is a token without a pin for the group.
    pin: Option<String>,
    seed: u64,
}

impl Client {
    fn random(world: &World, numbers: &mut Numbers) -> Self {
        let targets = &world.groups[0].targets;
        let at = numbers.below(targets.len() as u64 + 2) as usize;
        let gone = || (at == targets.len()).then(|| "gone".to_owned());
        let pin = targets.get(at).map(|target| target.id.clone()).or_else(gone);
        Self { pin, seed: numbers.next() }
    }

    fn place(&self, snapshot: &Snapshot, live: &impl Live) -> Placement {
        let (group, id) = match &self.pin {
            Some(id) => ("g0", id.as_str()),
            None => ("elsewhere", "s1"),
        };
        let target = TargetKey::of(group, id);
        let pin = Pin { group: GroupKey::of(group), target, issued_at: NOW as u32 };
        let sealed = snapshot.keyring.seal(Kind::Lb, &Contents::new(Seed(self.seed), pin));
        let mut headers = Fields::default();
        headers.append(Name::Cookie, format!("AWSALB={}", sealed.as_str()).as_bytes());
        headers.append_named("x-session-id", self.seed.to_string().as_bytes());
        let request = get_request("/g0/", &headers);
        match decide(&request, snapshot, live, NOW, &mut FixedDraw(self.seed)).outcome {
            Outcome::Forward(placement) => placement,
            other => panic!("{other:?}"),
        }
    }
}

/// Runs the check in every world, or in the one that `WORLD` names.
fn each_world(check: impl Fn(World, &mut Numbers)) {
    let asked = std::env::var("WORLD").ok().map(|text| text.parse::<u64>().unwrap());
    let worlds: Range<u64> = asked.map_or(0..WORLDS, |number| number..number + 1);
    for number in worlds {
        let mut numbers = Numbers(number);
        let world = World::random(&mut numbers).of_lb_cookies();
        let told =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(world, &mut numbers)));
        assert!(told.is_ok(), "that was world {number}: replay it with WORLD={number}");
    }
}

fn id(group: &Group, at: Option<usize>) -> Option<&str> {
    at.map(|at| group.targets[at].id.as_str())
}

#[test]
fn the_chosen_target_is_a_candidate_or_pinned() {
    each_world(|world, numbers| {
        let (snapshot, live) = (world.snapshot(numbers), world.live());
        let group = &snapshot.groups[0];
        let candidates = Candidates::new(&snapshot, group, &live, &Tried::EMPTY);
        let list: Vec<usize> = candidates.list().collect();
        for _ in 0..8 {
            let client = Client::random(&world, numbers);
            let placement = client.place(&snapshot, &live);
            if placement.only_capped {
                let own = &group.targets[placement.pinned.unwrap()];
                let availability = live.availability(own);
                let keeps = availability.recovering && !live.refused_lately(own);
                let sick = availability.health == Health::Unhealthy && !keeps;
                assert!(candidates.at_cap(own), "nothing to wait for");
                assert!(!sick || candidates.fails_open(), "a place there is of no use");
            }
            match (placement.target, placement.verdict) {
                (Some(at), Verdict::Hit) => assert_eq!(id(group, Some(at)), client.pin.as_deref()),
                (Some(at), verdict) => {
                    assert!(list.contains(&at), "{verdict} chose {at} of {list:?}");
                    assert!(!verdict.is_refusal());
                }
                (None, Verdict::NoTarget) => assert!(list.is_empty(), "{list:?}"),
                (None, Verdict::StrictRefused) => {
                    let pinned = &group.targets[placement.pinned.unwrap()];
                    let availability = live.availability(pinned);
                    let keeps = availability.recovering && !live.refused_lately(pinned);
                    let sick = availability.health == Health::Unhealthy && !keeps;
                    assert!(world.groups[0].strict);
                    assert!(candidates.at_cap(pinned) || sick && !candidates.fails_open());
                }
                (None, verdict) => panic!("{verdict} went nowhere"),
            }
        }
    });
}

#[test]
fn neither_traffic_nor_an_outage_moves_a_client() {
    each_world(|mut world, numbers| {
        world.groups[0].sticky = true;
        let (snapshot, live) = (world.snapshot(numbers), world.live());
        let group = &snapshot.groups[0];
        for _ in 0..8 {
            let client = Client::random(&world, numbers);
            let placement = client.place(&snapshot, &live);
            let Some(pinned) = placement.pinned else { continue };
            let state = live.state(&group.targets[pinned]);
            let availability = state.availability;
            let doubted = availability.health == Health::Suspect
                || availability.health == Health::Unhealthy && availability.recovering;
            if doubted {
                assert_ne!(placement.verdict, Verdict::MovedUnhealthy, "{client:?}");
            }
            let sick = availability.health == Health::Unhealthy && !live.fails_open(group);
            if sick && availability.recovering && state.refused_lately {
                assert_ne!(placement.verdict, Verdict::Hit, "{client:?}");
            }
            // Apart from a cap, only a refused dial makes it spill.
            if doubted && !state.refused_lately && world.groups[0].cap.is_none() {
                let leaves = [Verdict::Spilled, Verdict::StrictRefused];
                assert!(!leaves.contains(&placement.verdict), "{client:?} {placement:?}");
            }
        }
        let candidates = Candidates::new(&snapshot, group, &live, &Tried::EMPTY);
        let of_best = |health: Health| {
            let is = |at: usize| live.availability(&group.targets[at]).health == health;
            candidates.list().any(is)
        };
        if !candidates.fails_open() && of_best(Health::Healthy) {
            let better = candidates.best_tier() == Some(Tier::Serving);
            assert!(!better || !of_best(Health::Suspect), "new clients avoid a suspect target");
        }
    });
}

#[test]
fn the_order_in_the_file_changes_no_successor() {
    each_world(|world, numbers| {
        let (one, other, live) = (world.snapshot(numbers), world.snapshot(numbers), world.live());
        for _ in 0..8 {
            let client = Client::random(&world, numbers);
            let (here, there) = (client.place(&one, &live), client.place(&other, &live));
            let ids = (id(&one.groups[0], here.target), id(&other.groups[0], there.target));
            assert_eq!(ids.0, ids.1, "{client:?}");
            assert_eq!(here.verdict, there.verdict, "{client:?}");
        }
    });
}

/// Places clients in a world and in the same world with one more target. `judge` gets the client,
/// its target in the smaller world, in the larger one, and both verdicts. It is not called if the
/// additional target alone decides whether health counts.
fn with_one_more(judge: impl Fn(&Client, [Option<&str>; 2], [Verdict; 2], &Described)) {
    each_world(|world, numbers| {
        let mut larger = world.clone();
        let weight = 1 + numbers.below(5);
        let zone = Some('a');
        larger.groups[0].targets.push(TargetPlan {
            id: "t77".into(),
            weight,
            zone,
            state: State::FINE,
        });
        let (before, after) = (world.snapshot(numbers), larger.snapshot(numbers));
        let live = larger.live();
        let groups = [&before.groups[0], &after.groups[0]];
        if live.fails_open(groups[0]) != live.fails_open(groups[1]) {
            return;
        }
        for _ in 0..8 {
            let client = Client::random(&world, numbers);
            let places = [client.place(&before, &live), client.place(&after, &live)];
            let ids = [id(groups[0], places[0].target), id(groups[1], places[1].target)];
            judge(&client, ids, [places[0].verdict, places[1].verdict], &live);
        }
    });
}

#[test]
fn adding_a_target_moves_no_pin() {
    with_one_more(|client, [before, after], verdicts, live| {
        let pinned = client.pin.as_ref().map(|id| TargetKey::of("g0", id));
        let stays = pinned
            .and_then(|key| live.of(key))
            .is_some_and(|state| state.availability.drain == Drain::No);
        // A draining target keeps its clients only while no other target is there.
        if verdicts[0] == Verdict::Hit && stays {
            assert_eq!(verdicts[1], Verdict::Hit, "{client:?}");
            assert_eq!(before, after, "{client:?}");
        }
    });
}

#[test]
fn a_removed_target_moves_only_its_own_clients() {
    // Seen from the larger world: clients that are not on the additional target do not move when it
    // leaves, unless no other target was serving as well.
    with_one_more(|client, [without, with], verdicts, _| {
        let drains = verdicts.contains(&Verdict::MovedDraining);
        if with != Some("t77") && !drains && verdicts != [Verdict::Off; 2] {
            assert_eq!(without, with, "{client:?} {verdicts:?}");
        }
    });
}

#[test]
fn clients_of_a_removed_target_spread_over_all_others() {
    let mut numbers = Numbers(42);
    let mut world = World::random(&mut numbers).of_lb_cookies();
    let group = &mut world.groups[0];
    (group.sticky, group.cap) = (true, None);
    group.settings.retain(|(key, _)| !["cross_zone", "max_in_flight_per_target"].contains(key));
    let target =
        |at| TargetPlan { id: format!("t{at}"), weight: 1, zone: None, state: State::FINE };
    group.targets = (0..5).map(target).collect();
    let five = world.snapshot(&mut numbers);
    world.groups[0].targets.remove(2);
    let four = world.snapshot(&mut numbers);
    world.groups[0].targets.push(target(2));
    let live = world.live();
    let mut shares: HashMap<String, u32> = HashMap::new();
    for _ in 0..10_000 {
        let mut client = Client { pin: None, seed: numbers.next() };
        client.pin = id(&five.groups[0], client.place(&five, &live).target).map(str::to_owned);
        let placement = client.place(&four, &live);
        let now = id(&four.groups[0], placement.target).unwrap();
        if client.pin.as_deref() == Some("t2") {
            assert_eq!(placement.verdict, Verdict::MovedRemoved);
            *shares.entry(now.to_owned()).or_default() += 1;
        } else {
            assert_eq!((placement.verdict, Some(now)), (Verdict::Hit, client.pin.as_deref()));
        }
    }
    let fair = f64::from(shares.values().sum::<u32>()) / 4.0;
    assert_eq!(shares.len(), 4, "{shares:?}");
    assert!(shares.values().all(|&share| f64::from(share) <= fair * 1.3), "{shares:?}");
}

#[test]
fn spilling_and_moving_lead_to_the_same_target() {
    each_world(|mut world, numbers| {
        let plan = &mut world.groups[0];
        (plan.sticky, plan.strict) = (true, false);
        plan.settings.retain(|(key, _)| *key != "cross_zone");
        let at = numbers.below(plan.targets.len() as u64) as usize;
        let client = Client { pin: Some(plan.targets[at].id.clone()), seed: numbers.next() };
        let snapshot = world.snapshot(numbers);
        let group = &snapshot.groups[0];
        let in_state = |change: &dyn Fn(&mut State)| {
            let mut world = world.clone();
            world.groups[0].targets[at].state = State::FINE;
            change(&mut world.groups[0].targets[at].state);
            let live = world.live();
            (client.place(&snapshot, &live), live)
        };
        let (fine, live) = in_state(&|_| {});
        assert_eq!(fine.verdict, Verdict::Hit);
        let mut tried = Tried::EMPTY;
        tried.record(fine.target.unwrap());
        let failed = next_after_failure(&fine, &tried, &snapshot, &live, &mut FixedDraw(0));
        let (full, _) = in_state(&|state| state.is_full = true);
        let (sick, with_sick) = in_state(&|state| state.availability.health = Health::Unhealthy);
        let (gone, with_gone) = in_state(&|state| state.availability.drain = Drain::Over);
        if group.settings.max_in_flight_per_target.is_some() {
            assert_eq!(full.target, failed.target, "full, failed");
        }
        if !live.fails_open(group) && !with_sick.fails_open(group) {
            assert_eq!(sick.target, failed.target, "unhealthy, failed");
        }
        if live.fails_open(group) == with_gone.fails_open(group) {
            assert_eq!(gone.target, failed.target, "drained, failed");
        }
    });
}

#[test]
fn the_announced_successor_gets_the_client_of_a_removed_target() {
    each_world(|mut world, numbers| {
        let plan = &mut world.groups[0];
        (plan.sticky, plan.strict) = (true, false);
        if numbers.chance(50) {
            plan.carried = Carried::Header;
        }
        let (snapshot, live) = (world.snapshot(numbers), world.live());
        let group = &snapshot.groups[0];
        for _ in 0..8 {
            let mut client = Client::random(&world, numbers);
            let placement = client.place(&snapshot, &live);
            let Some(at) = placement.target else { continue };
            let seed = placement.claim.seed().unwrap();
            let announced = successor(&placement, at, seed, &snapshot, &live);
            if placement.verdict == Verdict::Spilled {
                assert_eq!(announced, placement.pinned, "{client:?}");
                continue;
            }
            client.pin = id(group, Some(at)).map(str::to_owned);
            let mut without = world.clone();
            let targets = &mut without.groups[0].targets;
            let state = targets.iter_mut().find(|target| Some(&target.id) == client.pin.as_ref());
            state.unwrap().state.availability.drain = Drain::Over;
            let without = without.live();
            if live.fails_open(group) == without.fails_open(group) {
                assert_eq!(client.place(&snapshot, &without).target, announced, "{client:?}");
            }
        }
    });
}

/// A target's id and the machine behind it: the first, or that of a changed address.
type Machine = (String, u32);

/// One of two balancers: the state of targets by its own checks and its own resolver.
struct Node {
    world: World,
    snapshot: Snapshot,
    /// Targets that their names no longer list, and that did not respond.
    forgotten: Vec<TargetPlan>,
    /// Time at which it saw another address, by the target's id.
    address_since: HashMap<String, u64>,
    /// Seconds by which its clock is ahead of the other's.
    ahead: u64,
}

impl Node {
    fn new(world: &World, ahead: u64, numbers: &mut Numbers) -> Self {
        let snapshot = world.snapshot(numbers);
        let (forgotten, address_since) = (Vec::new(), HashMap::new());
        Self { world: world.clone(), snapshot, forgotten, address_since, ahead }
    }

    fn change_a_state(&mut self, numbers: &mut Numbers) {
        let targets = &mut self.world.groups[0].targets;
        let at = numbers.below(targets.len() as u64) as usize;
        let state = &mut targets[at].state;
        state.is_full = numbers.chance(30);
        state.availability.recovering = numbers.chance(30);
        state.availability.health = match numbers.below(5) {
            0 => Health::Unhealthy,
            1 => Health::Suspect,
            _ => Health::Healthy,
        };
    }

    /// A name server's next answer, or the effect of an earlier one: an unlisted address is held,
    /// then drains, or is removed if it does not respond; and any address may be listed again.
    fn hear_of_names(&mut self, numbers: &mut Numbers) {
        if numbers.chance(30)
            && let Some(plan) = self.forgotten.pop()
        {
            self.world.groups[0].targets.push(TargetPlan { state: State::FINE, ..plan });
            return self.build(numbers);
        }
        let targets = &mut self.world.groups[0].targets;
        let at = numbers.below(targets.len() as u64) as usize;
        let drain = &mut targets[at].state.availability.drain;
        let next = match (*drain, numbers.below(3)) {
            (Drain::No, _) => Some(Drain::Held),
            (Drain::Held | Drain::Running, 0) => Some(Drain::No),
            (Drain::Held, 1) => Some(Drain::Running),
            (Drain::Running, 1) => Some(Drain::Over),
            _ => None,
        };
        if let Some(next) = next {
            *drain = next;
        } else if targets.len() > 1 {
            self.forgotten.push(targets.remove(at));
            self.build(numbers);
        }
    }

    /// From this second on, the name of this target has another address.
    fn see_another_address(&mut self, id: &str, since: u64) {
        self.address_since.insert(id.to_owned(), since);
        self.date_addresses();
    }

    fn build(&mut self, numbers: &mut Numbers) {
        self.snapshot = self.world.snapshot(numbers);
        self.date_addresses();
    }

    fn date_addresses(&mut self) {
        for target in &mut self.snapshot.groups[0].targets {
            target.address_since = self.address_since.get(target.id.as_str()).copied();
        }
    }
}

/// A client that sends one request at a time to two nodes: its newest cookie, and the machine that
/// has its last write.
#[derive(Default)]
struct Writer {
    cookie: Option<String>,
    wrote_at: Option<Machine>,
    /// Place and time of its last `moved_address`.
    told_of: Option<(Machine, u64)>,
}

impl Writer {
    /// One request: decided, refused by some targets, served, and the cookie of the response kept.
    fn ask(
        &mut self,
        node: &Node,
        machines: &HashMap<String, u32>,
        now: u64,
        numbers: &mut Numbers,
    ) -> Verdict {
        let (node, live) = (&node.snapshot, &node.world.live());
        let mut headers = Fields::default();
        if let Some(cookie) = &self.cookie {
            headers.append(Name::Cookie, format!("AWSALB={cookie}").as_bytes());
        }
        let mut turn = FixedDraw(numbers.next());
        let outcome = decide(&get_request("/g0/", &headers), node, live, now, &mut turn).outcome;
        let Outcome::Forward(mut placement) = outcome else { panic!("{outcome:?}") };
        let mut tried = Tried::EMPTY;
        while let Some(at) = placement.target
            && numbers.chance(15)
        {
            tried.record(at);
            placement = next_after_failure(&placement, &tried, node, live, &mut turn);
        }
        let (Some(at), verdict) = (placement.target, placement.verdict) else {
            return placement.verdict;
        };
        let served_by = id(&node.groups[0], Some(at)).unwrap();
        let served_by = (served_by.to_owned(), machines.get(served_by).copied().unwrap_or(0));
        if let Some(home) = self.wrote_at.as_ref().filter(|home| **home != served_by) {
            assert!(
                verdict == Verdict::Spilled || verdict.is_move(),
                "{verdict} went to {served_by:?}, and what was written is at {home:?}"
            );
        }
        let method = [Method::GET, Method::POST, Method::DELETE][numbers.below(3) as usize].clone();
        let status = [200, 204, 303, 404, 409, 500][numbers.below(6) as usize];
        let sets_cookie = numbers.chance(15);
        let status = StatusCode::from_u16(status).unwrap();
        let shown = Shown {
            wrote: wrote(&method, status, sets_cookie),
            is_fresh: method == Method::GET && numbers.chance(30),
            wavers: numbers.chance(20),
            ..Shown::default()
        };
        if verdict == Verdict::MovedAddress {
            let since = node.groups[0].targets[at].address_since.unwrap();
            let again = |(machine, at): &(Machine, u64)| *machine == served_by && *at >= since;
            assert!(!self.told_of.as_ref().is_some_and(again), "told twice of {served_by:?}");
            // A response that must not set a cookie leaves it to the next.
            if !shown.wavers {
                self.told_of = Some((served_by.clone(), now));
            }
        }
        let has_written =
            shown.wrote && (!method.is_safe() && status.as_u16() < 400 || sets_cookie);
        let seed = Seed(numbers.next());
        if let Some(update) = cookie_update(&placement, at, node, now, seed, shown) {
            assert!(update.contents.pins().iter().all(|pin| u64::from(pin.issued_at) <= now));
            let is_move = verdict == Verdict::Spilled || verdict.is_move();
            assert_eq!(update.what == CookieWrite::Moved, is_move, "{verdict}");
            self.cookie = Some(node.keyring.seal(Kind::Lb, &update.contents).as_str().to_owned());
        } else {
            assert!(!(has_written && verdict == Verdict::Spilled), "a write left its pin behind");
        }
        if has_written {
            self.wrote_at = Some(served_by);
        } else if verdict.is_move() {
            // The verdict reported that the session is lost; the following ones belong to the new
            // session.
            self.wrote_at = None;
        }
        verdict
    }
}

#[test]
fn a_write_moves_the_pin_unless_the_verdict_explains_why_not() {
    let met = std::cell::RefCell::new(HashMap::<Verdict, u32>::new());
    each_world(|mut world, numbers| {
        (world.groups[0].sticky, world.groups[0].strict) = (true, false);
        // The second node's clock is ahead of the first one's by up to five minutes, or addresses
        // change. Not both: a pin has the time of the node that wrote it.
        let addresses_change = numbers.chance(40);
        let ahead = if addresses_change { 0 } else { numbers.below(300) };
        let mut nodes = [0, ahead].map(|ahead| Node::new(&world, ahead, numbers));
        let mut machines = HashMap::new();
        let (mut writer, mut time) = (Writer::default(), NOW);
        for _ in 0..16 {
            // Several changes may happen within one second, the resolution of a pin.
            time += numbers.below(8);
            for node in &mut nodes {
                if numbers.chance(30) {
                    node.change_a_state(numbers);
                }
                if numbers.chance(25) {
                    node.hear_of_names(numbers);
                }
            }
            if addresses_change && numbers.chance(20) {
                let targets = &world.groups[0].targets;
                let id = &targets[numbers.below(targets.len() as u64) as usize].id;
                *machines.entry(id.clone()).or_default() += 1;
                // Both nodes see it at once: a node that has not resolved the name yet continues
                // with the old machine, and no verdict can report that.
                for node in &mut nodes {
                    node.see_another_address(id, time + 1);
                }
            }
            let node = &nodes[numbers.below(2) as usize];
            let verdict = writer.ask(node, &machines, time + node.ahead, numbers);
            *met.borrow_mut().entry(verdict).or_default() += 1;
        }
    });
    let met = met.into_inner();
    if std::env::var("WORLD").is_err() {
        for verdict in [
            Verdict::Hit,
            Verdict::New,
            Verdict::Spilled,
            Verdict::MovedUnhealthy,
            Verdict::MovedRemoved,
            Verdict::MovedDraining,
            Verdict::MovedAddress,
        ] {
            assert!(met.get(&verdict).is_some_and(|count| *count > 100), "{verdict}: {met:?}");
        }
    }
    assert_eq!(met.get(&Verdict::Expired), None, "clocks alone end no pin");
}

#[test]
fn no_target_is_tried_twice() {
    each_world(|world, numbers| {
        let (snapshot, live) = (world.snapshot(numbers), world.live());
        let mut placement = Client::random(&world, numbers).place(&snapshot, &live);
        let (mut tried, mut list) = (Tried::EMPTY, Vec::new());
        while let Some(at) = placement.target {
            assert!(!list.contains(&at), "{at} was tried: {list:?}");
            list.push(at);
            tried.record(at);
            let turn = &mut FixedDraw(numbers.next());
            placement = next_after_failure(&placement, &tried, &snapshot, &live, turn);
        }
        assert!(placement.verdict.is_refusal());
        assert!(list.len() <= Tried::MAX);
    });
}
