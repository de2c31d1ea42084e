//! Python's `websockets` as client and as target.

use super::{before, listener, text};
use crate::support::tool::{Tool, python};
use crate::support::{Authority, Program, World, until};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

pub(super) const FAST: &str = "health = { interval = \"200ms\", path = \"/\" }";

/// Two replicas that speak WebSocket.
pub(super) struct Replicas {
    python: &'static Path,
    targets: [Tool; 2],
    addresses: [SocketAddr; 2],
}

impl Replicas {
    pub(super) fn start() -> Option<Self> {
        let python = python()?;
        let mut targets =
            ["a", "b"].map(|name| Tool::script(python, "websocket_target.py", &[name]));
        let addresses = targets.each_mut().map(Tool::address);
        Some(Self { python, targets, addresses })
    }

    pub(super) fn before(&self, listener: &str, group: &str) -> (Authority, World) {
        before(&self.addresses, listener, group)
    }

    fn client(&self, scene: &str, address: SocketAddr) -> Tool {
        Tool::script(self.python, "websocket_client.py", &[scene, &format!("ws://{address}")])
    }

    fn secure_client(&self, scene: &str, address: SocketAddr, authority: &Authority) -> Tool {
        let (url, ca) = (format!("wss://{address}"), authority.path().display().to_string());
        Tool::script(self.python, "websocket_client.py", &[scene, &url, &ca])
    }
}

/// Runs scenes of the client's script in clear text and over TLS.
fn passes(scene: &str, settings: &str) {
    let Some(replicas) = Replicas::start() else { return };
    let (authority, world) = replicas.before(settings, FAST);
    let plain = replicas.client(scene, listener(&world, "plain"));
    let secure = replicas.secure_client(scene, listener(&world, "secure"), &authority);
    assert!(plain.output().ends_with("done\n"));
    assert!(secure.output().ends_with("done\n"));
}

#[test]
fn messages_pings_and_close_codes_cross_unchanged() {
    passes("messages", "");
}

#[test]
fn a_websocket_with_its_cookie_reaches_the_same_replica() {
    passes("reconnect", "");
}

#[test]
fn a_silent_connection_is_cut_and_one_that_pings_is_not() {
    passes("idle", "timeouts = { idle = \"2s\" }");
}

#[test]
fn a_websocket_outlives_its_replicas_drain_and_moves_on_reconnect() {
    let Some(mut replicas) = Replicas::start() else { return };
    let group = format!("deregistration_delay = \"2s\"\n{FAST}");
    let (_authority, world) = replicas.before("", &group);
    let mut client = replicas.client("stay", listener(&world, "plain"));
    let home = client.line("with");
    let at = usize::from(home == "b");
    let asked = Instant::now();
    replicas.targets[at].tell("drain");
    until("it drains", || {
        (world.availability(at).drain != stayput::testing::model::live::Drain::No).then_some(())
    });
    client.tell("speak");
    client.line("spoke");
    assert_eq!(client.line("closed"), "1006");
    assert!(asked.elapsed() >= Duration::from_secs(2), "cut after {:?}", asked.elapsed());
    client.tell("again");
    let other = if home == "a" { "b" } else { "a" };
    assert_eq!(client.line("again"), format!("{other} moved_draining"));
    client.output();
    let record = world.record(|record| record["error_reason"] == "target_deregistered");
    assert_eq!((&record["type"], &record["status"]), (&"ws".into(), &101.into()));
}

#[test]
fn a_websocket_that_follows_its_pin_is_closed_with_1001() {
    for (pins, over_tls) in
        [("draining_pins = \"move\"", true), ("deregistration_delay = \"1s\"", false)]
    {
        let Some(mut replicas) = Replicas::start() else { return };
        let group = format!("tunnels_follow = true\n{pins}\n{FAST}");
        let (authority, world) = replicas.before("", &group);
        let mut client = match over_tls {
            true => replicas.secure_client("stay", listener(&world, "secure"), &authority),
            false => replicas.client("stay", listener(&world, "plain")),
        };
        let home = client.line("with");
        client.tell("speak");
        client.line("spoke");
        replicas.targets[usize::from(home == "b")].tell("drain");
        assert_eq!(client.line("closed"), "1001");
        client.tell("again");
        let other = if home == "a" { "b" } else { "a" };
        assert_eq!(client.line("again"), format!("{other} moved_draining"));
        client.output();
        world.record(|record| record["error_reason"] == "pin_moved");
    }
}

#[test]
fn the_close_frame_of_a_stopping_replica_reaches_the_client() {
    let Some(mut replicas) = Replicas::start() else { return };
    let (_authority, world) = replicas.before("", FAST);
    let mut client = replicas.client("stay", listener(&world, "plain"));
    let home = client.line("with");
    // Any word but `speak` makes the client wait without sending.
    client.tell("stay");
    replicas.targets[usize::from(home == "b")].tell("leave");
    assert_eq!(client.line("closed"), "1001");
    // The replica has closed its port, so the next connection to it is refused; the client is
    // served by the other replica.
    client.tell("again");
    let other = if home == "a" { "b" } else { "a" };
    assert!(client.line("again").starts_with(&format!("{other} ")));
    client.output();
}

#[test]
fn sigterm_keeps_websockets_open_until_the_drain_ends() {
    let Some(replicas) = Replicas::start() else { return };
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let entry = authority.sign("shop", &[super::NAME]).entry();
    let program = Program::run(dir.path(), &text(&replicas.addresses, &entry, "", FAST));
    let mut client = replicas.client("stay", program.address());
    client.line("with");
    let asked = Instant::now();
    program.terminate();
    program.line(&["draining"]);
    client.tell("speak");
    client.line("spoke");
    assert_eq!(client.line("closed"), "1006");
    assert!(asked.elapsed() >= Duration::from_secs(2), "cut after {:?}", asked.elapsed());
    program.line(&["exchanges cut", "cut=1"]);
    client.tell("leave");
    client.output();
}
