//! Algorithms, slow start and anomaly mitigation: which target new clients get.

use crate::support::origin::Then;
use crate::support::{Origin, Visitor, World, until};
use stayput::testing::model::live::{Health, TargetState};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

const FAST: &str = "health = { interval = \"100ms\", fast_interval = \"100ms\", healthy_threshold = 1, unhealthy_threshold = 1 }";
const UNPINNED: &str = "stickiness = { enabled = false }";

fn text(origins: &[&Origin], group: &str) -> String {
    let targets = ('a'..)
        .zip(origins)
        .map(|(id, origin)| format!("{{ id = \"{id}\", address = \"{}\" }}", origin.address()));
    let targets = targets.collect::<Vec<_>>().join(", ");
    format!(
        "[runtime]\nworkers = 2\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n\
         [target_group.app]\ntargets = [{targets}]\n{group}\n"
    )
}

fn live(world: &World, target: usize) -> Arc<TargetState> {
    Arc::clone(&world.server().published().current().groups[0].targets[target].state)
}

/// Sends this many new clients one after the other, and counts those of each target.
fn new_clients(world: &World, count: usize) -> BTreeMap<String, usize> {
    let mut bodies = BTreeMap::new();
    for _ in 0..count {
        *bodies.entry(Visitor::of(world.address()).get("/").body).or_default() += 1;
    }
    bodies
}

/// A gate that requests wait at until it is opened.
#[derive(Clone, Default)]
struct Door(Arc<(Mutex<bool>, Condvar)>);

impl Door {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let is_open = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(is_open, |is_open| !*is_open).unwrap());
    }
}

#[test]
fn least_outstanding_avoids_a_target_until_its_request_ends() {
    let door = Door::default();
    let origin = |name: &'static str| {
        let door = door.clone();
        Origin::scripted(move |request, stream| {
            if request.path() == "/hold" {
                door.wait();
            }
            let text = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{name}");
            let _ = stream.write_all(text.as_bytes());
            Then::KeepAlive
        })
    };
    let (a, b) = (origin("a"), origin("b"));
    let group = format!("algorithm = \"least_outstanding_requests\"\n{UNPINNED}\n{FAST}");
    let world = World::of_text(&text(&[&a, &b], &group));
    let mut held = Visitor::of(world.address());
    held.send("GET /hold HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    let holder = until("a target holds the request", || {
        [&a, &b].iter().position(|origin| !origin.heard().is_empty())
    });
    let (busy, idle) = [("a", "b"), ("b", "a")][holder];
    let met = new_clients(&world, 10);
    assert_eq!(met, [(idle.to_owned(), 10)].into());
    assert_eq!(live(&world, holder).in_flight(), 1);
    door.open();
    assert_eq!(held.read_answer(false).body, busy);
    until("the held request is counted off", || {
        (live(&world, holder).in_flight() == 0).then_some(())
    });
    let met = new_clients(&world, 10);
    assert_eq!((met["a"], met["b"]), (5, 5), "idle targets take turns");
}

#[test]
fn requests_are_counted_only_if_an_algorithm_compares_them() {
    let door = Door::default();
    let origin = {
        let door = door.clone();
        Origin::scripted(move |_, stream| {
            door.wait();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na");
            Then::KeepAlive
        })
    };
    let world = World::new(&[&origin], "", "");
    let mut held = Visitor::of(world.address());
    held.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    until("the target has it", || (!origin.heard().is_empty()).then_some(()));
    assert_eq!(live(&world, 0).in_flight(), 0);
    door.open();
    assert_eq!(held.read_answer(false).body, "a");
}

#[test]
fn a_tunnel_is_in_flight_until_it_closes() {
    let tunnels = Origin::saying(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        Then::KeepAlive,
    );
    let group = format!("algorithm = \"least_outstanding_requests\"\n{UNPINNED}\n{FAST}");
    let world = World::of_text(&text(&[&tunnels], &group));
    let mut visitor = Visitor::of(world.address());
    visitor.send(
        "GET /chat HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    until("the tunnel counts", || (live(&world, 0).in_flight() == 1).then_some(()));
    visitor.leave();
    until("it does not any more", || (live(&world, 0).in_flight() == 0).then_some(()));
}

/// A group whose targets are all healthy and are compared often.
fn mitigating(origins: &[&Origin]) -> World {
    let group = format!("algorithm = \"weighted_random\"\nanomaly_mitigation = true\n{FAST}");
    let world = World::of_config(&text(origins, &group), |config| {
        config.groups[0].anomaly_mitigation = Some(Duration::from_millis(200));
    });
    until("all are healthy", || {
        let healthy = |at| live(&world, at).availability().health == Health::Healthy;
        (0..origins.len()).all(healthy).then_some(())
    });
    world
}

fn parts(world: &World, target: usize) -> u16 {
    live(world, target).weight_fraction().parts()
}

#[test]
fn a_target_that_answers_500_loses_new_clients_until_it_recovers() {
    let fails = Arc::new(AtomicBool::new(true));
    let failing = {
        let fails = fails.clone();
        Origin::scripted(move |_, stream| {
            let status = if fails.load(Ordering::SeqCst) { "500 Oops" } else { "200 OK" };
            let text = format!("HTTP/1.1 {status}\r\nContent-Length: 1\r\n\r\na");
            let _ = stream.write_all(text.as_bytes());
            Then::KeepAlive
        })
    };
    let (b, c) = (Origin::named("b"), Origin::named("c"));
    let world = mitigating(&[&failing, &b, &c]);
    let mut pinned = until("a client is pinned to the failing target", || {
        let mut visitor = Visitor::of(world.address());
        (visitor.get("/").body == "a").then_some(visitor)
    });
    until("the failing target is cut", || {
        new_clients(&world, 30);
        (parts(&world, 0) == 32).then_some(())
    });
    assert_eq!((parts(&world, 1), parts(&world, 2)), (1_024, 1_024));
    assert_eq!(pinned.get("/").body, "a", "who is pinned stays");
    let met = new_clients(&world, 100).get("a").copied().unwrap_or(0);
    assert!(met < 15, "{met} of a hundred met a target that keeps a thirty-second");
    fails.store(false, Ordering::SeqCst);
    until("its share grows", || {
        new_clients(&world, 30);
        (parts(&world, 0) > 32).then_some(())
    });
    until("it is whole again", || {
        new_clients(&world, 30);
        (parts(&world, 0) == 1_024).then_some(())
    });
}

#[test]
fn a_target_that_drops_connections_is_anomalous_as_one_with_500() {
    let losing = Origin::saying("", Then::Reset);
    let (b, c) = (Origin::named("b"), Origin::named("c"));
    let world = mitigating(&[&losing, &b, &c]);
    until("the losing target is cut", || {
        new_clients(&world, 30);
        (parts(&world, 0) == 32).then_some(())
    });
    assert_eq!((parts(&world, 1), parts(&world, 2)), (1_024, 1_024));
}

#[test]
fn a_target_that_recovers_goes_through_slow_start() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    b.set_healthy(false);
    let group = format!("slow_start = \"30s\"\n{UNPINNED}\n{FAST}");
    let world = World::of_config(&text(&[&a, &b], &group), |config| {
        config.groups[0].slow_start = Some(Duration::from_secs(2));
    });
    until("one is down", || {
        (live(&world, 1).availability().health == Health::Unhealthy).then_some(())
    });
    b.set_healthy(true);
    let parts = until("it is back, and begins slowly", || {
        let (target, parts) = (live(&world, 1), live(&world, 1).weight_fraction().parts());
        (target.availability().health == Health::Healthy && parts < 1_024).then_some(parts)
    });
    until("its share grows", || (live(&world, 1).weight_fraction().parts() > parts).then_some(()));
    until("it has its share", || {
        (live(&world, 1).weight_fraction().parts() == 1_024).then_some(())
    });
    let met = new_clients(&world, 10);
    assert_eq!((met["a"], met["b"]), (5, 5));
}

#[test]
fn sessions_even_out_after_a_target_joins() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    c.set_healthy(false);
    let world =
        World::of_text(&text(&[&a, &b, &c], &format!("algorithm = \"least_sessions\"\n{FAST}")));
    until("one is down", || {
        (live(&world, 2).availability().health == Health::Unhealthy).then_some(())
    });
    let mut visitors: Vec<_> = (0..20).map(|_| Visitor::of(world.address())).collect();
    let mut met: BTreeMap<String, u32> = BTreeMap::new();
    for visitor in &mut visitors {
        *met.entry(visitor.get("/").body).or_default() += 1;
        // A client that returns is not a second session.
        visitor.get("/");
    }
    assert!(met["a"].abs_diff(met["b"]) <= 2, "{met:?}");
    let sessions = |at: usize| live(&world, at).session_sketch().unwrap().count();
    // The count is above the true number until it is taken anew.
    (0..9).for_each(|_| live(&world, 0).session_sketch().unwrap().expect_one());
    until("they are counted", || {
        (u64::from(sessions(0) + sessions(1)).abs_diff(20) <= 1).then_some(())
    });
    c.set_healthy(true);
    until("it is back", || {
        (live(&world, 2).availability().health == Health::Healthy).then_some(())
    });
    let met = new_clients(&world, 8);
    assert_eq!(met.get("c"), Some(&8), "it has the fewest: {met:?}");
    for visitor in &mut visitors {
        assert_ne!(visitor.get("/").body, "c", "who is pinned stays");
    }
    let met = new_clients(&world, 22);
    assert!(met.values().all(|&count| count >= 4), "all have as many now: {met:?}");
}
