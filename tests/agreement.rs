//! `explain` reports the decision that the balancer makes. One side is a snapshot whose targets
//! have a state, asked as the proxy asks it; the other side is a snapshot of a reordered file,
//! explained with the same state as arguments.

#![allow(clippy::unwrap_used)]

mod worlds;

use stayput::testing::base::random::Random;
use stayput::testing::decide::explanation::{AssumedState, Choice, Explained, Forwarded, explain};
use stayput::testing::decide::verdict::{GroupVerdict, Verdict};
use stayput::testing::decide::{Live, Outcome, Placement, Request, decide};
use stayput::testing::http1::fields::Fields;
use stayput::testing::http1::name::Name;
use stayput::testing::model::in_flight::InFlight;
use stayput::testing::model::live::{Availability, Drain, Health};
use stayput::testing::model::snapshot::{Group, Snapshot};
use stayput::testing::policy::affinity::claim;
use stayput::testing::policy::affinity::keys::Keyring;
use stayput::testing::policy::affinity::token::{Contents, GroupKey, Kind, Pin, Seed, TargetKey};
use stayput::testing::proxy::live_view::LiveView;
use std::collections::BTreeMap;
use std::sync::Arc;
use worlds::{Carried, Described, GroupPlan, Numbers, World, get_request, keyring};

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;
const HOUR: u64 = 3_600;
const WORLDS: u64 = 3_000;
const REQUESTS: u64 = 4;

/// Keyrings of the kinds with which a token may have been sealed.
struct Keys {
    ours: Arc<Keyring>,
    same_id: Arc<Keyring>,
    unknown: Arc<Keyring>,
}

#[test]
fn explain_reports_the_decision_the_balancer_makes() {
    let keys = Keys { ours: keyring(1, 7), same_id: keyring(1, 8), unknown: keyring(2, 7) };
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for number in 0..WORLDS {
        let mut numbers = Numbers(number);
        let world = World::random(&mut numbers);
        let (mut running, mut explained) =
            (world.snapshot(&mut numbers), world.snapshot(&mut numbers));
        give_other_addresses(&mut running);
        give_other_addresses(&mut explained);
        let described = world.live().without_refusals();
        let _in_flight = put_into_state(&running, &described);
        for _ in 0..REQUESTS {
            let (path, headers) = request(&world, &keys, &mut numbers);
            let request = get_request(&path, &headers);
            let context = format!("world {number}, {path}, {headers:?}");
            for word in agree(&request, &running, &explained, &described, &context) {
                *seen.entry(word).or_default() += 1;
            }
        }
    }
    let groups = GroupVerdict::ALL.map(|verdict| format!("group {verdict}"));
    let words = Verdict::ALL.map(|verdict| verdict.to_string());
    for word in words.into_iter().chain(groups).chain(["no share".to_owned()]) {
        let count = seen.get(&word).copied().unwrap_or_default();
        assert!(count >= 50, "{word} came {count} times: {seen:?}");
    }
}

/// Asks both sides, and returns the verdicts or the result on which they agree.
#[track_caller]
fn agree(
    request: &Request<'_>,
    running: &Snapshot,
    explained: &Snapshot,
    described: &Described,
    context: &str,
) -> Vec<String> {
    let done = decide(request, running, &LiveView::FOR_ANYONE, NOW, &mut Random::from_seed(1));
    let told = explain(request, explained, described, NOW);
    assert_eq!(done.rule, told.rule, "{context}");
    // Every world has one listener, so each rule before the matching one was passed.
    let passed: Vec<usize> = told.passed.iter().map(|passed| passed.rule).collect();
    let before = 0..told.rule.unwrap_or(explained.rules.len());
    assert_eq!(passed, before.collect::<Vec<_>>(), "{context}");
    let group_verdict = done.group.map(|choice| choice.verdict);
    assert_eq!(group_verdict, told.group_verdict, "{context}");
    let mut words: Vec<_> =
        group_verdict.map(|verdict| format!("group {verdict}")).into_iter().collect();
    words.push(match (done.outcome, told.action) {
        (Outcome::NoRule, Explained::NoRule) => "no rule".to_owned(),
        (Outcome::NoShare, Explained::NoShare) => "no share".to_owned(),
        (Outcome::Respond(fixed), Explained::Respond(status)) => {
            assert_eq!(fixed.status, status, "{context}");
            "respond".to_owned()
        }
        (Outcome::Forward(placement), Explained::Forward(forwarded)) => {
            same(&placement, &forwarded, running, explained, context)
        }
        (Outcome::Forward(placement), Explained::ByWeight(each)) => {
            let name = running.groups[placement.group].name();
            let there = |forwarded: &&Forwarded| explained.groups[forwarded.group].name() == name;
            let mut each = each.iter().map(|(_, forwarded)| forwarded);
            let forwarded = each.find(there).unwrap_or_else(|| panic!("{name}: {context}"));
            same(&placement, forwarded, running, explained, context)
        }
        (done, told) => panic!("{done:?} is not {told:?}: {context}"),
    });
    words
}

#[track_caller]
fn same(
    placement: &Placement,
    forwarded: &Forwarded,
    running: &Snapshot,
    explained: &Snapshot,
    context: &str,
) -> String {
    let (here, there) = (&running.groups[placement.group], &explained.groups[forwarded.group]);
    assert_eq!(here.name(), there.name(), "{context}");
    assert_eq!(placement.verdict, forwarded.verdict, "{context}");
    assert_eq!(id(here, placement.pinned), id(there, forwarded.pinned), "{context}");
    let target = id(here, placement.target);
    match &forwarded.choice {
        Choice::NoTarget => assert_eq!(target, None, "{context}"),
        Choice::One(at) => assert_eq!(target, id(there, Some(*at)), "{context}"),
        Choice::OneOf(list) => {
            let ids: Vec<_> = list.iter().map(|(at, _)| id(there, Some(*at))).collect();
            assert!(ids.contains(&target), "{target:?} is none of {ids:?}: {context}");
        }
    }
    placement.verdict.to_string()
}

fn id(group: &Group, at: Option<usize>) -> Option<&str> {
    at.map(|at| group.targets[at].id.as_str())
}

/// Gives some targets' names another address, half a day ago.
fn give_other_addresses(snapshot: &mut Snapshot) {
    let targets = snapshot.groups.iter_mut().flat_map(|group| group.targets.iter_mut());
    for target in targets.filter(|target| target.key.0.is_multiple_of(4)) {
        target.address_since = Some(NOW - DAY / 2);
    }
}

/// Puts a snapshot's targets into the described state; the guards are the requests in flight.
fn put_into_state(snapshot: &Snapshot, described: &Described) -> Vec<InFlight> {
    let mut in_flight = Vec::new();
    for group in &snapshot.groups {
        group.state.set_fails_open(described.fails_open(group));
        for target in &group.targets {
            let state = described.state(target);
            target.state.set_availability(state.availability);
            let cap = group.settings.max_in_flight_per_target.unwrap_or(0);
            // A target with one request less than the cap is below it.
            let requests = if state.is_full { cap } else { cap.saturating_sub(1) };
            in_flight.extend((0..requests).map(|_| target.state.enter(cap).unwrap()));
        }
    }
    in_flight
}

fn request(world: &World, keys: &Keys, numbers: &mut Numbers) -> (String, Fields) {
    let group = &world.groups[numbers.below(world.groups.len() as u64) as usize];
    let path = match numbers.below(20) {
        0 => "/elsewhere".to_owned(),
        1..9 => format!("/w{}/page", numbers.below(world.weighted.len() as u64)),
        _ => format!("/{}/page", group.name),
    };
    let mut headers = Fields::default();
    let mut add = |line: String| headers.append(Name::Cookie, line.as_bytes());
    let (name, kind) = match group.carried {
        Carried::AppCookie { .. } => ("AWSALBAPP-0", Kind::App),
        _ => ("AWSALB", Kind::Lb),
    };
    // Most clients have one cookie; some have two, which may contradict each other.
    for _ in 0..if numbers.chance(10) { 2 } else { 1 } {
        if let Some(token) = token(group, kind, keys, numbers) {
            let twin = if kind == Kind::Lb && numbers.chance(50) { "CORS" } else { "" };
            add(format!("theme=dark; {name}{twin}={token}"));
        }
    }
    if numbers.chance(80)
        && let Some(token) = group_token(world, keys, numbers)
    {
        add(format!("AWSALBTG={token}"));
    }
    let at = numbers.below(group.targets.len() as u64 + 2) as usize;
    let route = group.targets.get(at).map_or("gone", |target| &target.id);
    let session = numbers.below(1_000);
    if numbers.chance(85) {
        add(format!("sid={session}.{route}"));
    }
    if numbers.chance(85) {
        headers.append_named("x-session-id", session.to_string().as_bytes());
    }
    (path, headers)
}

/// A token of any kind, or none.
fn token(group: &GroupPlan, kind: Kind, keys: &Keys, numbers: &mut Numbers) -> Option<String> {
    let target = &group.targets[numbers.below(group.targets.len() as u64) as usize].id;
    any_token(kind, &group.name, target, DAY, keys, numbers)
}

/// A token of one of the rules with several groups.
fn group_token(world: &World, keys: &Keys, numbers: &mut Numbers) -> Option<String> {
    let at = numbers.below(world.weighted.len() as u64);
    let group = &world.groups[numbers.below(world.groups.len() as u64) as usize];
    any_token(Kind::Group, &format!("w{at}"), &group.name, HOUR, keys, numbers)
}

/// A token that pins `group` to `target`, or one with one of the possible defects.
fn any_token(
    kind: Kind,
    group: &str,
    target: &str,
    lifetime: u64,
    keys: &Keys,
    numbers: &mut Numbers,
) -> Option<String> {
    let fresh = NOW - numbers.below(lifetime) + numbers.below(61);
    let seed = numbers.next();
    let sealed = |ring: &Keyring, group: &str, target: &str, issued_at: u64| {
        let (target, group) = (TargetKey::of(group, target), GroupKey::of(group));
        let pin = Pin { group, target, issued_at: issued_at as u32 };
        Some(ring.seal(kind, &Contents::new(Seed(seed), pin)).as_str().to_owned())
    };
    match numbers.below(100) {
        0..5 => None,
        5..8 => Some("nonsense".to_owned()),
        8..10 => Some("A".repeat(56)),
        10..14 => sealed(&keys.same_id, group, target, fresh),
        14..18 => sealed(&keys.unknown, group, target, fresh),
        18..22 => sealed(&keys.ours, group, target, NOW - lifetime - numbers.below(DAY)),
        // Sealed by a node whose clock is ahead: the pin is valid.
        22..24 => sealed(&keys.ours, group, target, NOW + 61 + numbers.below(DAY)),
        24..28 => sealed(&keys.ours, group, "gone", fresh),
        28..32 => sealed(&keys.ours, "elsewhere", target, fresh),
        32..35 => {
            // A full token, without a pin for this group.
            let pin = |at: u64| Pin {
                group: GroupKey(at as u32),
                target: TargetKey(at),
                issued_at: fresh as u32,
            };
            let mut contents = Contents::new(Seed(seed), pin(0));
            for at in 1..8 {
                let Pin { group, target, .. } = pin(at);
                contents = claim::renew(Some(&contents), Seed(0), group, target, fresh, |_| None);
            }
            Some(keys.ours.seal(kind, &contents).as_str().to_owned())
        }
        35..75 if kind == Kind::Group => {
            // A pin to another group, which may exist no more.
            let own = Pin {
                group: GroupKey::of(group),
                target: TargetKey::of(group, target),
                issued_at: fresh as u32,
            };
            let (stand_in, other) = (GroupKey::of_stand_in(group), TargetKey::of(group, "g1"));
            let contents = Contents::new(Seed(seed), own);
            let contents = claim::renew(Some(&contents), Seed(0), stand_in, other, fresh, |_| None);
            Some(keys.ours.seal(kind, &contents).as_str().to_owned())
        }
        _ => sealed(&keys.ours, group, target, fresh),
    }
}

#[test]
fn explain_counts_only_targets_of_its_zone_in_fail_open() {
    let text = "[runtime]\nzone = \"a\"\n[listener.web]\naddress = \"127.0.0.1:80\"\n\
        [target_group.app]\ncross_zone = false\ntargets = [\n\
        { id = \"near\", address = \"10.0.0.1:80\", zone = \"a\" },\n\
        { id = \"far\", address = \"10.0.0.2:80\", zone = \"b\" }]\n";
    let loaded = stayput::config::parse(text, "test", std::path::Path::new("")).unwrap();
    let mut registry = stayput::testing::model::target_registry::TargetRegistry::default();
    let snapshot = Snapshot::build(
        &loaded.config,
        keyring(1, 7),
        &stayput::testing::model::snapshot::Resolutions::new(),
        &mut registry,
    );
    let snapshot = snapshot.unwrap();
    let world = AssumedState::of(&snapshot, &["app/near".to_owned()], &[]).unwrap();
    assert!(world.fails_open(&snapshot.groups[0]));
    let near = &snapshot.groups[0].targets[snapshot.groups[0].target_named("near").unwrap()];
    let sick = Availability { health: Health::Unhealthy, drain: Drain::No, recovering: false };
    assert_eq!(world.availability(near), sick);
}
