//! Python's `grpcio` as client and as target.

use super::{NAME, before, listener, text};
use crate::support::tool::{Tool, python};
use crate::support::{Authority, Origin, Program, World, until};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

/// The check tests the process: an unknown method is `UNIMPLEMENTED`, which passes.
const GRPC: &str = "protocol = \"grpc\"\nhealth = { interval = \"200ms\" }";

/// Two replicas that speak gRPC.
struct Replicas {
    python: &'static Path,
    targets: Vec<Tool>,
    addresses: Vec<SocketAddr>,
}

impl Replicas {
    fn start() -> Option<Self> {
        let python = python()?;
        let begin = |name| Tool::script(python, "grpc_target.py", &[name]);
        let mut targets: Vec<Tool> = ["a", "b"].map(begin).into();
        let addresses = targets.iter_mut().map(Tool::address).collect();
        Some(Self { python, targets, addresses })
    }

    fn before(&self, group: &str) -> (Authority, World) {
        before(&self.addresses, "", group)
    }
}

fn client(python: &Path, scene: &str, address: SocketAddr, authority: Option<&Authority>) -> Tool {
    let ca = authority.map(|authority| authority.path().display().to_string());
    let mut arguments = vec![scene.to_owned(), address.to_string()];
    arguments.extend(ca);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Tool::script(python, "grpc_client.py", &arguments)
}

/// Runs a scene of the client's script with prior knowledge, then over TLS.
fn passes(scene: &str, group: &str) {
    let Some(replicas) = Replicas::start() else { return };
    let (authority, world) = replicas.before(group);
    for (name, authority) in [("plain", None), ("secure", Some(&authority))] {
        let client = client(replicas.python, scene, listener(&world, name), authority);
        assert!(client.output().ends_with("done\n"));
    }
}

#[test]
fn the_four_kinds_of_call_cross_with_messages_of_any_size() {
    passes("kinds", GRPC);
}

#[test]
fn metadata_crosses_before_and_after_the_messages() {
    passes("metadata", GRPC);
}

#[test]
fn every_grpc_status_and_its_message_cross_unchanged() {
    passes("statuses", GRPC);
}

#[test]
fn a_client_with_its_cookie_reaches_the_same_replica() {
    passes("cookie", GRPC);
}

#[test]
fn a_client_with_a_header_key_reaches_the_same_replica() {
    let sticky = "stickiness = { header = { name = \"x-session\" } }";
    passes("header", &format!("{GRPC}\n{sticky}"));
}

#[test]
fn a_deadline_and_a_cancelled_call_reach_the_target() {
    let Some(mut replicas) = Replicas::start() else { return };
    let (_authority, world) = replicas.before(GRPC);
    client(replicas.python, "deadline", listener(&world, "plain"), None).output();
    let mut said = |word: &str| {
        until(word, || {
            let lines: String = replicas.targets.iter_mut().map(|target| target.said()).collect();
            lines.lines().find_map(|line| line.strip_prefix(word).map(str::to_owned))
        })
    };
    let left: f32 = said("hangs ").parse().unwrap();
    assert!(left > 0.0 && left <= 1.5, "the target was given {left} s");
    said("given up hang");
    said("given up endless");
}

#[test]
fn a_call_that_no_target_takes_is_unavailable() {
    let Some(python) = python() else { return };
    let refusing = [Origin::refusing().address(), Origin::refusing().address()];
    let (authority, world) = before(&refusing, "", GRPC);
    for (name, authority) in [("plain", None), ("secure", Some(&authority))] {
        client(python, "unavailable", listener(&world, name), authority).output();
        let record =
            world.record(|record| record["uri"] == "/shop.Cart/who" && record["listener"] == name);
        assert_ne!(record["error_reason"], serde_json::Value::Null);
    }
}

#[test]
fn a_call_whose_target_dies_is_unavailable_and_the_next_is_served() {
    let Some(mut replicas) = Replicas::start() else { return };
    let (_authority, world) = replicas.before(GRPC);
    let client = client(replicas.python, "lost", listener(&world, "plain"), None);
    let at = until("a target has it", || {
        replicas.targets.iter().position(|target| target.said().contains("hangs"))
    });
    drop(replicas.targets.remove(at));
    client.output();
    world.record(|record| record["uri"] == "/shop.Cart/hang");
}

#[test]
fn a_bidirectional_call_finishes_during_drain() {
    let Some(replicas) = Replicas::start() else { return };
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let entry = authority.sign("shop", &[NAME]).entry();
    let program = Program::run(dir.path(), &text(&replicas.addresses, &entry, "", GRPC));
    let mut client = client(replicas.python, "leave", program.address(), None);
    client.line("talks");
    let asked = Instant::now();
    program.terminate();
    program.line(&["draining"]);
    client.tell("go on");
    client.output();
    program.line(&["drained"]);
    assert!(asked.elapsed() < Duration::from_secs(2), "the drain waited for its deadline");
}
