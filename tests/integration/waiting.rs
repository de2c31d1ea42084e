//! Pinned requests that wait for their own target before they spill: for one that refuses
//! connections, and for a permit at one that is at its cap.

use crate::support::origin::Then;
use crate::support::token::{minted_for, now};
use crate::support::visitor::Answer;
use crate::support::{Origin, Visitor, World, until};
use stayput::testing::policy::affinity::token::{Kind, Seed};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// Checks that do nothing after the first, so that only traffic counts.
const NO_CHECKS: &str = "health = { protocol = \"tcp\", interval = \"300s\", fast_interval = \"300s\", \
                         passive = { connect_failures = 0 } }";

/// A target with its own address that refuses until it is opened, and again after it was closed. It
/// closes each connection after its response, so that every request needs a dial.
struct Restarting {
    address: SocketAddr,
    name: &'static str,
    open: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Restarting {
    /// No other test binds in this network, so the port is free at any time.
    fn closed(name: &'static str) -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(20_000);
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let [_, _, third, fourth] = process.to_be_bytes();
        let address = SocketAddr::from(([127, 77, third, fourth.max(1)], port));
        Self { address, name, open: None }
    }

    fn open(mut self) -> Self {
        let listener = TcpListener::bind(self.address).unwrap();
        let (ends, name) = (Arc::new(AtomicBool::new(false)), self.name);
        let told = Arc::clone(&ends);
        let serve = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if told.load(Ordering::SeqCst) {
                    return;
                }
                answer(stream, name);
            }
        });
        self.open = Some((ends, serve));
        self
    }

    fn close(mut self) -> Self {
        self.end();
        self
    }

    fn end(&mut self) {
        let Some((ends, serve)) = self.open.take() else { return };
        ends.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        serve.join().unwrap();
    }
}

impl Drop for Restarting {
    fn drop(&mut self) {
        self.end();
    }
}

fn answer(mut stream: TcpStream, name: &str) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let head = lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty());
    if head.count() > 0 {
        let length = name.len();
        let text = format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{name}"
        );
        let _ = stream.write_all(text.as_bytes());
    }
}

/// A balancer with these targets, ids a, b, c …, on one worker.
fn world(addresses: &[SocketAddr], group: &str) -> World {
    let targets =
        ('a'..).zip(addresses).map(|(id, at)| format!("{{ id = \"{id}\", address = \"{at}\" }}"));
    let targets = targets.collect::<Vec<_>>().join(", ");
    World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\ndebug_headers = true\n\
         [target_group.app]\ntargets = [{targets}]\n{group}\n{NO_CHECKS}\n"
    ))
}

fn failed_dials(world: &World) -> u64 {
    world.server().counters().iter().map(|own| own.failed_dials.value()).sum()
}

fn verdict(answer: &Answer) -> &str {
    answer.field("x-stayput-verdict").unwrap_or("-")
}

/// A client with a pin to this target.
fn pinned_to(world: &World, target: &str, seed: u64) -> Visitor {
    let mut visitor = Visitor::of(world.address());
    let cookie = minted_for(world, Kind::Lb, "app", target, now(), Seed(seed));
    visitor.jar.insert("AWSALB".into(), cookie);
    visitor
}

#[test]
fn a_pinned_request_waits_for_its_target_to_restart() {
    let (a, b) = (Restarting::closed("a"), Origin::named("b"));
    let world = world(&[a.address, b.address()], "upstream = { reconnect = \"30s\" }");
    let mut visitor = pinned_to(&world, "a", 1);
    let waiting = thread::spawn(move || visitor.get("/"));
    until("it is dialled again", || (failed_dials(&world) >= 2).then_some(()));
    let _a = a.open();
    let answer = waiting.join().unwrap();
    assert_eq!((answer.status, verdict(&answer), &*answer.body), (200, "hit", "a"));
    let record = world.record(|record| record["sticky"] == "hit");
    assert_eq!(record["attempts"], 1);
    assert!(b.heard().iter().all(|heard| heard.is_check()), "the other target got none of it");
    let budget: u64 = world.server().counters().iter().map(|own| own.retries.value()).sum();
    assert_eq!(budget, 0, "nothing was sent, and nothing is spent");
}

#[test]
fn a_new_client_waits_only_if_no_other_target_is_left() {
    let (a, b) = (Restarting::closed("a"), Origin::named("b"));
    let elsewhere = world(&[a.address, b.address()], "upstream = { reconnect = \"30s\" }");
    for _ in 0..4 {
        assert_eq!(Visitor::of(elsewhere.address()).get("/").body, "b");
    }
    let alone = world(&[a.address], "upstream = { reconnect = \"30s\" }");
    let address = alone.address();
    let waiting = thread::spawn(move || Visitor::of(address).get("/"));
    until("it is dialled again", || (failed_dials(&alone) >= 2).then_some(()));
    let _a = a.open();
    let answer = waiting.join().unwrap();
    assert_eq!((answer.status, verdict(&answer), &*answer.body), (200, "new", "a"));
}

#[test]
fn a_target_that_refused_for_reconnect_is_not_waited_for() {
    let (a, b) = (Restarting::closed("a"), Origin::named("b"));
    let reconnect = std::time::Duration::from_secs(2);
    let world = world(&[a.address, b.address()], "upstream = { reconnect = \"2s\" }");
    let timed = |visitor: &mut Visitor| {
        let began = stayput::testing::base::clock::Moment::now();
        let answer = visitor.get("/");
        (answer, stayput::testing::base::clock::Moment::now().since(began))
    };
    let (first, took) = timed(&mut pinned_to(&world, "a", 1));
    assert_eq!((verdict(&first), &*first.body), ("spilled", "b"));
    assert!(took >= reconnect, "{took:?}");
    let before = failed_dials(&world);
    for seed in 2..20 {
        let (next, took) = timed(&mut pinned_to(&world, "a", seed));
        assert_eq!((verdict(&next), &*next.body), ("spilled", "b"));
        assert!(took < reconnect, "{took:?}");
    }
    let dials = failed_dials(&world) - before;
    assert!(dials < 18, "{dials} dials: requests dial it themselves");
    // The dial that is still open succeeds when the target is back.
    let _a = a.open();
    until("the target is met again", || {
        let answer = pinned_to(&world, "a", 1).get("/");
        (verdict(&answer) == "hit").then_some(())
    });
}

#[test]
fn without_reconnect_a_pinned_request_spills_at_once() {
    let (a, b) = (Restarting::closed("a"), Origin::named("b"));
    let world = world(&[a.address, b.address()], "upstream = { reconnect = \"0s\" }");
    // The budget allows thirty retries in ten seconds at low traffic.
    for seed in 0..100 {
        let answer = pinned_to(&world, "a", seed).get("/");
        assert_eq!((verdict(&answer), &*answer.body), ("spilled", "b"));
    }
}

/// The reported situation, past every bound: more concurrent requests than may wait.
#[test]
fn few_dials_serve_ten_thousand_clients_of_a_dead_target() {
    const CLIENTS: u64 = 1_250;
    const ROUNDS: u64 = 8;
    let dead = Restarting::closed("a");
    let (b, c) = (Origin::named("b"), Origin::named("c"));
    let addresses = [dead.address, b.address(), c.address()];
    let world = world(&addresses, "upstream = { reconnect = \"3s\" }");
    let mut first = pinned_to(&world, "a", 0);
    let first = thread::spawn(move || first.get("/"));
    until("it is known to refuse", || (failed_dials(&world) >= 1).then_some(()));
    let began = stayput::testing::base::clock::Moment::now();
    let known = failed_dials(&world);
    let clients: Vec<_> = (1..=CLIENTS)
        .map(|seed| {
            let mut visitor = pinned_to(&world, "a", seed);
            let client = move || (0..ROUNDS).map(|_| visitor.get("/").status).collect::<Vec<_>>();
            thread::Builder::new().stack_size(256 * 1_024).spawn(client).unwrap()
        })
        .collect();
    for client in clients {
        assert_eq!(client.join().unwrap(), [200; ROUNDS as usize]);
    }
    assert_eq!(first.join().unwrap().status, 200);
    let seconds = stayput::testing::base::clock::Moment::now().since(began).as_secs() + 1;
    let dials = failed_dials(&world) - known;
    assert!(dials <= 20 * seconds, "{dials} dials in {seconds} s");
}

#[test]
fn a_client_moved_by_a_spill_waits_for_its_new_target() {
    let (a, b) = (Restarting::closed("a"), Restarting::closed("b").open());
    let c = Origin::named("c");
    let addresses = [a.address, b.address, c.address()];
    let world = world(&addresses, "upstream = { reconnect = \"3s\" }");
    // From here on the client's write is at b.
    let mut writer = (0..)
        .find_map(|seed| {
            let mut visitor = pinned_to(&world, "a", seed);
            // Only the first waits: from then on the target has refused long enough.
            let answer = visitor.ask("POST", "/", &[], "");
            assert_eq!(verdict(&answer), "spilled");
            (answer.body == "b").then_some(visitor)
        })
        .unwrap();
    let b = b.close();
    let other = pinned_to(&world, "b", 1_000).get("/");
    assert_eq!((verdict(&other), &*other.body), ("spilled", "c"), "after its wait");
    let other = pinned_to(&world, "b", 1_001).get("/");
    assert_eq!(verdict(&other), "spilled", "at once");
    let before = failed_dials(&world);
    let waiting = thread::spawn(move || writer.get("/"));
    until("it is dialled meanwhile", || (failed_dials(&world) > before).then_some(()));
    let _b = b.open();
    let answer = waiting.join().unwrap();
    assert_eq!((verdict(&answer), &*answer.body), ("hit", "b"));
}

/// `a`, whose only permit is held until the gate opens, and `b`.
struct Full {
    world: World,
    a: Origin,
    gate: Sender<()>,
}

impl Full {
    fn with(queue: &str) -> Self {
        let (gate, held) = channel::<()>();
        let held = Mutex::new(held);
        let a = Origin::scripted(move |heard, stream| {
            if heard.path().starts_with("/hold") {
                let _ = held.lock().unwrap().recv();
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na");
            Then::KeepAlive
        });
        let b = Origin::named("b");
        let group = format!(
            "max_in_flight_per_target = 1\nupstream = {{ queue = \"{queue}\" }}\n{NO_CHECKS}"
        );
        // Two workers: they share one queue.
        let world = World::new(&[&a, &b], "debug_headers = true", &group);
        std::mem::forget(b);
        Self { world, a, gate }
    }

    /// Sends a request with a pin to a, and does not wait for the response.
    fn ask(&self, path: &'static str, seed: u64) -> JoinHandle<Answer> {
        let mut visitor = pinned_to(&self.world, "a", seed);
        thread::spawn(move || visitor.get(path))
    }

    fn heard(&self) -> Vec<String> {
        let requests = self.a.heard().into_iter().filter(|heard| !heard.is_check());
        requests.map(|heard| heard.path().to_owned()).collect()
    }

    fn waiting(&self) -> usize {
        let snapshot = self.world.server().published().current();
        snapshot.groups[0].targets[0].state.waiting() as usize
    }
}

#[test]
fn requests_at_the_cap_wait_in_order_across_workers() {
    let full = Full::with("60s");
    let paths = ["/hold/0", "/hold/1", "/hold/2", "/hold/3", "/hold/4"];
    let mut answers = vec![full.ask(paths[0], 0)];
    until("the place is taken", || (full.heard() == paths[..1]).then_some(()));
    for (at, path) in paths.iter().enumerate().skip(1) {
        answers.push(full.ask(path, at as u64));
        until("it waits", || (full.waiting() == at).then_some(()));
    }
    // A new client takes no permit that others wait for.
    assert_eq!(Visitor::of(full.world.address()).get("/").body, "b");
    for at in 1..=paths.len() {
        assert_eq!(full.heard(), paths[..at]);
        full.gate.send(()).unwrap();
        if at < paths.len() {
            until("the next has the place", || (full.heard().len() > at).then_some(()));
        }
    }
    for answer in answers {
        let answer = answer.join().unwrap();
        assert_eq!((answer.status, verdict(&answer), &*answer.body), (200, "hit", "a"));
    }
}

#[test]
fn a_request_that_waited_for_queue_spills_and_leaves_its_pin() {
    let full = Full::with("100ms");
    let held = full.ask("/hold", 0);
    until("the place is taken", || (full.heard() == ["/hold"]).then_some(()));
    let spilled = full.ask("/", 1).join().unwrap();
    assert_eq!((verdict(&spilled), &*spilled.body), ("spilled", "b"));
    assert_eq!(spilled.all("set-cookie").count(), 0);
    assert_eq!(full.waiting(), 0);
    full.gate.send(()).unwrap();
    assert_eq!(verdict(&held.join().unwrap()), "hit");
}

#[test]
fn a_client_that_stops_waiting_frees_its_turn() {
    let full = Full::with("60s");
    let held = full.ask("/hold", 0);
    until("the place is taken", || (full.heard() == ["/hold"]).then_some(()));
    let mut leaver = pinned_to(&full.world, "a", 1);
    let cookie = leaver.jar["AWSALB"].clone();
    leaver.send(&format!("GET /left HTTP/1.1\r\nHost: x\r\nCookie: AWSALB={cookie}\r\n\r\n"));
    until("it waits", || (full.waiting() == 1).then_some(()));
    let next = full.ask("/next", 2);
    until("both wait", || (full.waiting() == 2).then_some(()));
    leaver.leave();
    until("one has left", || (full.waiting() == 1).then_some(()));
    full.gate.send(()).unwrap();
    assert_eq!(verdict(&next.join().unwrap()), "hit");
    assert_eq!(verdict(&held.join().unwrap()), "hit");
    assert_eq!(full.heard(), ["/hold", "/next"]);
    full.world.record(|record| record["uri"] == "/left" && record["status"] == 460);
}
