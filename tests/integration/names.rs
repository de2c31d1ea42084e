//! Targets known by host names: a restart, a silent resolver, and changed addresses.

use crate::support::origin::Then;
use crate::support::token::{minted_for, now};
use crate::support::visitor::Answer;
use crate::support::{Origin, Visitor, World, until};
use stayput::Server;
use stayput::config;
use stayput::testing::control::resolve::Resolver;
use stayput::testing::model::live::{Drain, Health};
use stayput::testing::policy::affinity::token::{Kind, Seed};
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A balancer that has just started; the test waits for nothing.
fn just_started(dir: &Path, targets: &str, more: &str) -> Server {
    let text = format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\ntargets = [{targets}]\n{more}\n"
    );
    let loaded = config::parse(&text, "test.toml", dir)
        .unwrap_or_else(|problems| panic!("{}", problems.render(false)));
    Server::start(loaded.config).unwrap()
}

/// The verdict on `path` in the log of this directory.
fn verdict(dir: &Path, path: &str) -> String {
    until("an access record", || {
        let text = std::fs::read_to_string(dir.join("access.log")).ok()?;
        let mut records = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        let found = records.find(|record: &serde_json::Value| record["uri"] == path)?;
        Some(found["sticky"].as_str().unwrap().to_owned())
    })
}

/// Sends requests until the client is pinned to the origin called `name`.
fn pinned_to(name: &str, server: &Server) -> Visitor {
    until("a pin", || {
        let mut visitor = Visitor::of(server.addresses()[0].1);
        (visitor.get("/pin").body == name).then_some(visitor)
    })
}

/// The same client at another balancer.
fn again(visitor: &Visitor, server: &Server) -> Visitor {
    let mut again = Visitor::of(server.addresses()[0].1);
    again.jar.clone_from(&visitor.jar);
    again
}

#[test]
fn a_restart_moves_no_client_pinned_to_a_resolved_address() {
    let (named, other) = (Origin::named("a"), Origin::named("b"));
    let port = named.address().port();
    for expand in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let targets = format!(
            "{{ id = \"name\", address = \"localhost:{port}\", expand = {expand} }}, \"{}\"",
            other.address()
        );
        let before = just_started(dir.path(), &targets, "");
        let visitor = pinned_to("a", &before);
        drop(before);
        for round in 0..3 {
            let server = just_started(dir.path(), &targets, "");
            let path = format!("/again/{expand}/{round}");
            let answer = again(&visitor, &server).get(&path);
            assert_eq!(answer.body, "a");
            assert_eq!(verdict(dir.path(), &path), "hit");
        }
    }
}

#[test]
fn an_unresolved_name_loses_no_pin() {
    let (named, other) = (Origin::named("a"), Origin::named("b"));
    let port = named.address().port();
    for expand in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let targets = |host: &str| {
            format!(
                "{{ id = \"name\", address = \"{host}:{port}\", expand = {expand} }}, \"{}\"",
                other.address()
            )
        };
        let before = just_started(dir.path(), &targets("localhost"), "");
        let visitor = pinned_to("a", &before);
        drop(before);
        let without = just_started(dir.path(), &targets("nowhere.invalid"), "");
        let mut meanwhile = again(&visitor, &without);
        let answer = meanwhile.get("/meanwhile");
        assert_eq!((answer.body.as_str(), answer.field("set-cookie")), ("b", None));
        assert_eq!(verdict(dir.path(), "/meanwhile"), "spilled");
        drop(without);
        let strict = "stickiness = { on_unavailable = \"strict\" }";
        let strict = just_started(dir.path(), &targets("nowhere.invalid"), strict);
        assert_eq!(again(&visitor, &strict).get("/strict").status, 503);
        drop(strict);
        let after = just_started(dir.path(), &targets("localhost"), "");
        assert_eq!(again(&meanwhile, &after).get("/after").body, "a");
    }
}

/// A name server with one name; each of its answers may differ.
#[derive(Clone)]
struct NameServer {
    says: Arc<Mutex<Box<Saying>>>,
    asked: Arc<AtomicUsize>,
}

/// The addresses of the nth answer.
type Saying = dyn Fn(usize) -> Vec<SocketAddr> + Send;

impl NameServer {
    fn new(says: impl Fn(usize) -> Vec<SocketAddr> + Send + 'static) -> Self {
        Self { says: Arc::new(Mutex::new(Box::new(says))), asked: Arc::default() }
    }

    fn listing(origins: &[&Origin]) -> Self {
        let server = Self::new(|_| Vec::new());
        server.list(origins);
        server
    }

    fn say(&self, says: impl Fn(usize) -> Vec<SocketAddr> + Send + 'static) {
        *self.says.lock().unwrap() = Box::new(says);
    }

    fn list(&self, origins: &[&Origin]) {
        let addresses: Vec<_> = origins.iter().map(|origin| origin.address()).collect();
        self.say(move |_| addresses.clone());
    }

    fn resolver(&self) -> Resolver {
        let server = self.clone();
        Resolver::of(Duration::from_millis(20), move |_, _| {
            let nth = server.asked.fetch_add(1, Ordering::SeqCst);
            server.says.lock().unwrap()(nth)
        })
    }

    /// Waits until this many further answers were given and applied. The resolver does not ask
    /// again before it has applied the last answer.
    fn wait_for_answers(&self, count: usize) {
        let before = self.asked.load(Ordering::SeqCst);
        until("answers of the name server", || {
            (self.asked.load(Ordering::SeqCst) > before + count).then_some(())
        });
    }

    /// A balancer whose targets are under `name`.
    fn world(&self, target: &str, group: &str) -> World {
        let text = format!(
            "[runtime]\nworkers = 2\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
             [listener.web]\naddress = \"127.0.0.1:0\"\ndebug_headers = true\n\
             [target_group.app]\n\
             targets = [{{ id = \"name\", address = \"app.internal:80\"{target} }}]\n{group}\n"
        );
        World::of_names(&text, self.resolver())
    }
}

/// Checks that do nothing after the first, so that only traffic counts.
const NO_CHECKS: &str = "health = { protocol = \"tcp\", interval = \"300s\", fast_interval = \"300s\", \
                         passive = { connect_failures = 0 } }";

/// A target that closes after each request, so that each needs a dial.
fn closing(text: &'static str) -> Origin {
    Origin::scripted(move |_, stream| {
        let length = text.len();
        let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}");
        let _ = stream.write_all(format!("{head}\r\n\r\n{text}").as_bytes());
        Then::Close
    })
}

/// A client pinned to the address of this origin under an expanded name.
fn at(origin: &Origin, world: &World, seed: u64) -> Visitor {
    let id = format!("name/{}", origin.address());
    let mut visitor = Visitor::of(world.address());
    let cookie = minted_for(world, Kind::Lb, "app", &id, now(), Seed(seed));
    visitor.jar.insert("AWSALB".into(), cookie);
    visitor
}

/// The state of this origin's address in the published snapshot, if it is there.
fn state(origin: &Origin, world: &World) -> Option<(Health, Drain)> {
    let snapshot = world.server().published().current();
    let mut targets = snapshot.groups[0].targets.iter();
    let found = targets.find(|target| target.address == Some(origin.address()))?;
    let availability = found.state.availability();
    Some((availability.health, availability.drain))
}

/// Waits until an origin has this health; `None` means that it is in no group.
fn await_state(origin: &Origin, world: &World, health: Health, drain: impl Into<Option<Drain>>) {
    let wanted = drain.into().map(|drain| (health, drain));
    until("a state of a target", || (state(origin, world) == wanted).then_some(()));
}

fn told(answer: &Answer) -> (&str, &str) {
    (answer.body.as_str(), answer.field("x-stayput-verdict").unwrap_or("-"))
}

#[test]
fn a_name_that_lists_four_of_six_addresses_at_a_time_moves_no_client() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let origins = names.map(Origin::named);
    let all = origins.each_ref().map(Origin::address);
    let names_server = NameServer::new(move |nth| (0..4).map(|at| all[(nth + at) % 6]).collect());
    let world = names_server.world(", expand = true", "");
    until("six healthy targets", || {
        let is_up = |origin| state(origin, &world).is_some_and(|state| state.0 == Health::Healthy);
        origins.iter().all(is_up).then_some(())
    });
    let mut clients: Vec<_> = (0..12).map(|n| at(&origins[n % 6], &world, n as u64)).collect();
    let all_are_at_home = |clients: &mut [Visitor]| {
        for (n, client) in clients.iter_mut().enumerate() {
            assert_eq!(told(&client.get("/")), (names[n % 6], "hit"));
        }
    };
    for _ in 0..6 {
        all_are_at_home(&mut clients);
        names_server.wait_for_answers(1);
    }
    let [a, b, c, d, e, f] = &origins;
    names_server.list(&[a, b, c, d]);
    for (origin, drain) in [(a, Drain::No), (d, Drain::No), (e, Drain::Held), (f, Drain::Held)] {
        await_state(origin, &world, Health::Healthy, drain);
    }
    let mut met = std::collections::BTreeSet::new();
    for _ in 0..24 {
        let mut client = Visitor::of(world.address());
        let first = client.get("/").body;
        assert_eq!(told(&client.get("/")), (first.as_str(), "hit"));
        met.insert(first);
    }
    assert_eq!(met.iter().collect::<Vec<_>>(), ["a", "b", "c", "d"], "held ones are avoided");
    all_are_at_home(&mut clients);
}

#[test]
fn an_unlisted_address_that_refuses_leaves_at_once() {
    let [a, b, c] = ["a", "b", "c"].map(closing);
    let names = NameServer::listing(&[&a, &b, &c]);
    let world =
        names.world(", expand = true", &format!("{NO_CHECKS}\nupstream.reconnect = \"0s\""));
    let (mut one, mut other) = (at(&a, &world, 1), at(&a, &world, 2));
    names.list(&[&b, &c]);
    await_state(&a, &world, Health::Healthy, Drain::Held);
    assert_eq!(told(&one.get("/")), ("a", "hit"));
    assert_eq!(told(&other.get("/")), ("a", "hit"));
    a.stop();
    // The client wrote nothing at the other target, so the pin stays until its target is gone.
    assert_eq!(told(&one.get("/")).1, "spilled");
    await_state(&a, &world, Health::Healthy, None);
    for client in [&mut one, &mut other] {
        let moved = client.get("/");
        let to = moved.body.clone();
        assert!(["b", "c"].contains(&to.as_str()) && told(&moved).1 == "moved_removed");
        assert_eq!(told(&client.get("/")), (to.as_str(), "hit"));
    }
    // The same failure of a listed address costs only the request.
    let mut of_listed = at(&b, &world, 3);
    assert_eq!(told(&of_listed.get("/")), ("b", "hit"));
    b.stop();
    assert_eq!(told(&of_listed.get("/")), ("c", "spilled"));
    names.wait_for_answers(3);
    assert_eq!(state(&b, &world), Some((Health::Healthy, Drain::No)));
    names.list(&[&a, &b, &c]);
    until("a target that is listed again", || state(&a, &world));
}

#[test]
fn an_unlisted_address_that_fails_one_check_leaves() {
    let [a, b] = ["a", "b"].map(Origin::named);
    let names = NameServer::listing(&[&a, &b]);
    let health =
        "health = { interval = \"100ms\", fast_interval = \"100ms\", unhealthy_threshold = 10 }";
    let world = names.world(", expand = true", health);
    let (mut of_a, mut of_b) = (at(&a, &world, 1), at(&b, &world, 2));
    await_state(&b, &world, Health::Healthy, Drain::No);
    names.list(&[&b]);
    await_state(&a, &world, Health::Healthy, Drain::Held);
    assert_eq!(told(&of_a.get("/")), ("a", "hit"));
    let before = b.checks().len();
    b.set_healthy(false);
    until("a failed check", || (b.checks().len() > before + 2).then_some(()));
    b.set_healthy(true);
    assert_eq!(told(&of_b.get("/")), ("b", "hit"));
    a.set_healthy(false);
    await_state(&a, &world, Health::Healthy, None);
    assert_eq!(told(&of_a.get("/")), ("b", "moved_removed"));
    assert_eq!(told(&of_a.get("/")), ("b", "hit"));
}

#[test]
fn without_hold_an_unlisted_address_drains_at_once() {
    let [a, b] = ["a", "b"].map(Origin::named);
    for (pins, expected) in [("move", ("b", "moved_draining")), ("stay", ("a", "hit"))] {
        let names = NameServer::listing(&[&a, &b]);
        let group = format!("hold = \"0s\"\ndraining_pins = \"{pins}\"");
        let world = names.world(", expand = true", &group);
        let mut client = at(&a, &world, 1);
        assert_eq!(told(&client.get("/")), ("a", "hit"));
        names.list(&[&b]);
        await_state(&a, &world, Health::Healthy, Drain::Running);
        assert_eq!(told(&client.get("/")), expected);
    }
}

/// Waits until the only target is at this origin and the second in which it arrived has passed: a
/// pin of that second counts as older.
fn await_address(origin: &Origin, world: &World) {
    until("another address", || {
        let snapshot = world.server().published().current();
        let target = &snapshot.groups[0].targets[0];
        let since = target.address_since.filter(|_| target.address == Some(origin.address()))?;
        (now() >= since).then_some(())
    });
}

#[test]
fn a_changed_address_yields_moved_address_once_per_client() {
    let [a, b] = ["a", "b"].map(Origin::named);
    for refresh in ["each_response", "half_life", "never"] {
        let names = NameServer::listing(&[&a]);
        let world = names.world("", &format!("stickiness.refresh = \"{refresh}\""));
        let mut clients = [(); 2].map(|()| Visitor::of(world.address()));
        for client in &mut clients {
            assert_eq!(told(&client.get("/")), ("a", "new"));
            assert_eq!(told(&client.get("/")), ("a", "hit"));
        }
        let [early, late] = &mut clients;
        names.list(&[&b]);
        await_address(&b, &world);
        for client in [early, late] {
            let moved = client.get("/");
            assert_eq!(told(&moved), ("b", "moved_address"), "{refresh}");
            assert!(moved.field("set-cookie").is_some(), "{refresh}: else it would be told again");
            for _ in 0..3 {
                assert_eq!(told(&client.get("/")), ("b", "hit"), "{refresh}");
            }
        }
        let mut fresh = Visitor::of(world.address());
        assert_eq!(told(&fresh.get("/")), ("b", "new"));
        assert_eq!(told(&fresh.get("/")), ("b", "hit"));
        // Back to the first machine: clients pinned to the second have their session there.
        names.list(&[&a]);
        await_address(&a, &world);
        assert_eq!(told(&fresh.get("/")), ("a", "moved_address"));
        assert_eq!(told(&fresh.get("/")), ("a", "hit"));
    }
}

#[test]
fn a_late_response_of_the_old_address_counts_as_of_the_old_one() {
    let (release, released) = channel::<()>();
    let (begun, begins) = channel();
    let released = Mutex::new(released);
    let a = Origin::scripted(move |heard, stream| {
        if heard.path() == "/slow" {
            begun.send(()).unwrap();
            let _ = released.lock().unwrap().recv();
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na");
        Then::KeepAlive
    });
    let b = Origin::named("b");
    for is_known in [false, true] {
        let names = NameServer::listing(&[&a]);
        let world = names.world("", "stickiness.refresh = \"each_response\"");
        let mut client = Visitor::of(world.address());
        if is_known {
            client.get("/");
        }
        let asks = thread::spawn(move || {
            let answer = client.ask("POST", "/slow", &[], "a session");
            (client, answer)
        });
        begins.recv().unwrap();
        names.list(&[&b]);
        await_address(&b, &world);
        release.send(()).unwrap();
        let (mut client, answer) = asks.join().unwrap();
        assert_eq!(told(&answer), ("a", if is_known { "hit" } else { "new" }));
        assert_eq!(told(&client.get("/")), ("b", "moved_address"), "its session is at the other");
        assert_eq!(told(&client.get("/")), ("b", "hit"));
    }
}
