//! Targets that leave: drain requests, pinned clients, restarts, and what is cut at the end.

use crate::support::origin::Then;
use crate::support::{Origin, Program, Visitor, World, until};
use stayput::testing::model::live::{Drain, Health};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

// A target that is slow because it lacks a CPU must not look like one that is down.
const FAST: &str = "interval = \"400ms\", fast_interval = \"100ms\", healthy_threshold = 1, unhealthy_threshold = 2";

/// Two targets, a and b, with these group and health settings, and a client pinned to a.
fn pinned_to_a(origins: [&Origin; 2], group: &str, health: &str) -> (World, Visitor) {
    let group = format!("{group}\nhealth = {{ {FAST}, {health} }}");
    let world = World::new(&origins, "debug_headers = true", &group);
    let visitor = until("a client pinned to a", || {
        let mut visitor = Visitor::of(world.address());
        (visitor.get("/").body == "a").then_some(visitor)
    });
    (world, visitor)
}

fn comes_to(world: &World, drain: Drain) {
    until(&format!("{drain:?}"), || (world.availability(0).drain == drain).then_some(()));
}

/// The targets that the next new clients reach.
fn new_clients(world: &World) -> String {
    (0..4).map(|_| Visitor::of(world.address()).get("/").body).collect()
}

fn met(visitor: &mut Visitor) -> (String, String) {
    let answer = visitor.get("/");
    let verdict = answer.field("x-stayput-verdict").unwrap().to_owned();
    (answer.body, verdict)
}

#[test]
fn drain_on_404_keeps_pinned_clients_and_can_be_reverted() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let (world, mut visitor) = pinned_to_a([&a, &b], "", "drain_on_404 = true");
    a.answer_checks("404 Leaving");
    comes_to(&world, Drain::Running);
    let checked = a.checks().len();
    until("several checks", || (a.checks().len() > checked + 3).then_some(()));
    assert_eq!(new_clients(&world), "bbbb");
    assert_eq!(met(&mut visitor), ("a".into(), "hit".into()));
    assert_eq!(world.availability(0).health, Health::Healthy, "404 is no failure here");
    a.answer_checks("200 OK");
    comes_to(&world, Drain::No);
    assert!(new_clients(&world).contains('a'));
}

#[test]
fn drain_on_404_moves_clients_at_once_if_pins_are_to_move() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let moves = "draining_pins = \"move\"";
    let (world, mut visitor) = pinned_to_a([&a, &b], moves, "drain_on_404 = true");
    a.answer_checks("404 Leaving");
    comes_to(&world, Drain::Running);
    assert_eq!(met(&mut visitor), ("b".into(), "moved_draining".into()));
}

#[test]
fn without_drain_on_404_a_404_is_a_failed_check() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let (world, mut visitor) = pinned_to_a([&a, &b], "", "drain_on_404 = false");
    a.answer_checks("404 Gone");
    until("it is down", || (world.availability(0).health == Health::Unhealthy).then_some(()));
    assert_eq!(world.availability(0).drain, Drain::No);
    assert_eq!(met(&mut visitor), ("b".into(), "moved_unhealthy".into()));
}

#[test]
fn a_drain_request_by_header_drains_and_the_check_still_counts() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let (world, mut visitor) = pinned_to_a([&a, &b], "", "path = \"/up\"");
    a.answer_checks("200 OK\r\nX-Stayput-Drain: 1");
    comes_to(&world, Drain::Running);
    assert_eq!(new_clients(&world), "bbbb");
    assert_eq!(met(&mut visitor), ("a".into(), "hit".into()));
    a.answer_checks("503 Down\r\nX-Stayput-Drain: 1");
    until("it is down", || (world.availability(0).health == Health::Unhealthy).then_some(()));
    assert_eq!(met(&mut visitor), ("b".into(), "moved_unhealthy".into()));
    // A check that fails during shutdown does not revoke the request to drain; one that passes
    // does.
    a.answer_checks("503 Down");
    let checked = a.checks().len();
    until("several checks", || (a.checks().len() > checked + 3).then_some(()));
    assert_eq!(world.availability(0).drain, Drain::Running);
    a.answer_checks("200 OK");
    comes_to(&world, Drain::No);
}

#[test]
fn a_new_target_that_asks_for_a_drain_gets_no_new_client() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    a.answer_checks("200 OK\r\nx-stayput-drain: 1");
    let health = format!("health = {{ {FAST} }}");
    let world = World::new(&[&a, &b], "", &health);
    assert_eq!(world.availability(0).drain, Drain::Running);
    assert_eq!(new_clients(&world), "bbbb");
}

/// A program whose only group has targets a and b.
fn program(dir: &Path, origins: [&Origin; 2], state: &str) -> Program {
    Program::run(
        dir,
        &format!(
            "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"off\" }}\n\
             [listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\ntargets = [\
             {{ id = \"a\", address = \"{}\", state = \"{state}\" }}, \
             {{ id = \"b\", address = \"{}\" }}]\nhealth = {{ {FAST}, drain_on_404 = true }}\n",
            origins[0].address(),
            origins[1].address()
        ),
    )
}

fn clocks(dir: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(dir.join("state/drains.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

#[test]
fn a_restart_keeps_the_start_time_of_a_drain() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    for (answer, state, wished) in
        [("404 Leaving", "active", true), ("200 OK", "drain", false), ("404 Both", "drain", true)]
    {
        let dir = tempfile::tempdir().unwrap();
        a.answer_checks(answer);
        let before = program(dir.path(), [&a, &b], state);
        let kept = until("the clock is written", || {
            let clocks = clocks(dir.path());
            (clocks["app/a"]["wished"] == wished).then_some(clocks)
        });
        before.end();
        let after = program(dir.path(), [&a, &b], state);
        after.line(&["ready"]);
        let checked = a.checks().len();
        until("several checks", || (a.checks().len() > checked + 3).then_some(()));
        assert_eq!(clocks(dir.path()), kept, "{state} {answer}");
        after.line(&["health", "target=\"a\"", "to=\"draining\""]);
        let lines = after.lines();
        assert!(!lines.iter().any(|line| line.contains("draining began")), "{lines:#?}");
        a.answer_checks("200 OK");
        if wished {
            after.line(&["drain request withdrawn", "app/a"]);
        }
        let still = state == "drain";
        until("the end of the wish is kept too", || {
            let clock = &clocks(dir.path())["app/a"];
            (clock.is_object() == still && clock["wished"] != true).then_some(())
        });
    }
}

#[test]
fn a_delay_that_ended_during_a_restart_is_over() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let dir = tempfile::tempdir().unwrap();
    let first = program(dir.path(), [&a, &b], "active");
    let mut visitor = until("a client pinned to a", || {
        let mut visitor = Visitor::of(first.address());
        (visitor.get("/").body == "a").then_some(visitor)
    });
    a.answer_checks("404 Leaving");
    until("the clock is written", || clocks(dir.path())["app/a"].is_object().then_some(()));
    first.end();
    let hour_ago = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() - Duration::from_hours(1);
    let clock =
        serde_json::json!({ "app/a": { "since_ms": hour_ago.as_millis() as u64, "wished": true } });
    std::fs::write(dir.path().join("state/drains.json"), clock.to_string()).unwrap();
    let second = program(dir.path(), [&a, &b], "active");
    second.line(&["health", "target=\"a\"", "to=\"unused\"", "Target.NotRegistered"]);
    second.line(&["health", "target=\"b\"", "to=\"healthy\""]);
    let jar = std::mem::take(&mut visitor.jar);
    let mut visitor = Visitor::of(second.address());
    visitor.jar = jar;
    assert_eq!(visitor.get("/").body, "b");
}

#[test]
fn a_damaged_drain_file_restarts_the_delays() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    for damaged in ["", "{", "[]", "{\"app/a\": 5}", "{\"app/a\": {\"since_ms\": -1}}"] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("state")).unwrap();
        std::fs::write(dir.path().join("state/drains.json"), damaged).unwrap();
        let program = program(dir.path(), [&a, &b], "drain");
        program.line(&["cannot read the saved drain clocks"]);
        program.line(&["draining began", "app/a"]);
    }
}

/// Sends half of the announced body for `/begun`, a 101 for `/tunnel`, and nothing for other paths.
fn endless() -> Origin {
    Origin::scripted(|request, stream| {
        let said: &[u8] = match request.path() {
            "/begun" => b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf",
            "/tunnel" => b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            _ => b"",
        };
        let _ = stream.write_all(said);
        let _ = std::io::Read::read(stream, &mut [0; 1]);
        Then::Close
    })
}

#[test]
fn requests_are_cut_when_the_delay_ends_and_logged() {
    let origin = endless();
    let group = format!("deregistration_delay = \"1s\"\nhealth = {{ {FAST} }}");
    let world = World::new(&[&origin], "", &group);
    let visit = |request: &str| {
        let mut visitor = Visitor::of(world.address());
        visitor.send(&format!("{request}\r\nHost: a\r\n"));
        visitor
    };
    let mut waiting = visit("GET /waiting HTTP/1.1");
    waiting.send("\r\n");
    let mut begun = visit("GET /begun HTTP/1.1");
    begun.send("\r\n");
    let mut tunnel = visit("GET /tunnel HTTP/1.1");
    tunnel.send("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n");
    assert_eq!(tunnel.read_answer(false).status, 101);
    let mut uploading = visit("POST /uploading HTTP/1.1");
    uploading.send("Content-Length: 100\r\n\r\npart");
    until("all are with the target", || (origin.open() >= 4).then_some(()));
    let asked = std::time::Instant::now();
    origin.answer_checks("200 OK\r\nx-stayput-drain: 1");
    assert_eq!(waiting.read_answer(false).status, 502);
    assert!(asked.elapsed() >= Duration::from_secs(1), "cut after {:?}", asked.elapsed());
    assert_eq!(uploading.read_answer(false).status, 502);
    assert!(!begun.read_answer(false).whole);
    assert!(tunnel.sees_close());
    for (uri, status) in [("/waiting", 502), ("/uploading", 502), ("/begun", 200), ("/tunnel", 101)]
    {
        let record = world.record(|record| record["uri"] == uri);
        assert_eq!(record["error_reason"], "target_deregistered", "{uri}");
        assert_eq!(record["status"], status, "{uri}");
    }
}

#[test]
fn client_connections_outlive_a_cut_exchange() {
    let (a, b) = (endless(), Origin::named("b"));
    let group = format!("deregistration_delay = \"1s\"\nhealth = {{ {FAST} }}");
    let world = World::new(&[&a, &b], "", &group);
    let mut visitor = until("a request that waits for a", || {
        let mut visitor = Visitor::of(world.address());
        let had = (a.heard().len(), b.heard().len());
        visitor.send("GET /waiting HTTP/1.1\r\nHost: a\r\n\r\n");
        until("somebody has it", || ((a.heard().len(), b.heard().len()) != had).then_some(()));
        (a.heard().len() > had.0).then_some(visitor)
    });
    a.answer_checks("200 OK\r\nx-stayput-drain: 1");
    let answer = visitor.read_answer(false);
    assert_eq!((answer.status, answer.field("connection")), (502, None));
    assert_eq!(visitor.get("/").body, "b");
}
