//! `announce_successor`: the target that is announced gets the client.

use crate::support::visitor::Answer;
use crate::support::{Origin, Visitor, World, until};
use std::path::Path;

const LB: &str = "stickiness = {}";
const APP: &str = "stickiness = { app_cookie = { name = \"sid\" } }";
const HEADER: &str = "stickiness = { header = { name = \"x-session-id\" } }";

/// Targets that start an application session with every response.
fn three() -> [Origin; 3] {
    ["a", "b", "c"].map(|name| {
        let text = format!("HTTP/1.1 200 OK\r\nSet-Cookie: sid={name}\r\nContent-Length: 1\r\nx-stayput-successor: z\r\n\r\n{name}");
        Origin::saying(Box::leak(text.into_boxed_str()), crate::support::origin::Then::KeepAlive)
    })
}

/// A balancer with `announce_successor`; targets in `draining` are drained. All balancers in one
/// directory share a key, as a balancer and its restarted self do.
fn world(dir: &Path, origins: &[Origin], draining: &[&str], group: &str) -> World {
    let key = dir.join("shared.key");
    if !key.exists() {
        let text =
            stayput::testing::policy::affinity::keys::Key::generate([5; 32]).to_base64_line();
        std::fs::write(&key, text.as_bytes()).unwrap();
    }
    let targets = ["a", "b", "c"].iter().zip(origins).map(|(id, origin)| {
        let state = if draining.contains(id) { "drain" } else { "active" };
        format!("{{ id = \"{id}\", address = \"{}\", state = \"{state}\" }}", origin.address())
    });
    let targets = targets.collect::<Vec<_>>().join(", ");
    // `recovery` is off: two of three targets fail within seconds here, which counts as an outage,
    // and their clients would stay.
    World::of_text(&format!(
        "[runtime]\nworkers = 2\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [affinity]\nkeys = [{{ id = 1, file = \"{}\" }}]\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\ndebug_headers = true\n\
         [target_group.app]\ntargets = [{targets}]\ndraining_pins = \"move\"\nrecovery = \"0s\"\n\
         health = {{ interval = \"100ms\", fast_interval = \"100ms\", healthy_threshold = 1, unhealthy_threshold = 1 }}\n\
         announce_successor = true\n{group}\n",
        key.display()
    ))
}

/// One of many clients, with its own path and session id.
struct Client {
    number: usize,
    visitor: Visitor,
}

impl Client {
    fn get(&mut self) -> Answer {
        let answer = self.visitor.ask("GET", &format!("/{}", self.number), &[&self.field()], "");
        assert_eq!(answer.field("x-stayput-successor"), None, "clients are not told");
        answer
    }

    fn field(&self) -> String {
        format!("X-Session-Id: session {}", self.number)
    }

    /// The successor that was announced to the target that served it last.
    fn told(&self, origins: &[Origin], name: &str) -> Option<String> {
        let path = format!("/{}", self.number);
        let origin = &origins["abc".find(name).unwrap()];
        origin.heard().iter().rfind(|heard| heard.path() == path)?.field("x-stayput-successor")
    }
}

fn clients(world: &World) -> Vec<Client> {
    (0..8).map(|number| Client { number, visitor: Visitor::of(world.address()) }).collect()
}

#[test]
fn a_new_clients_target_gets_the_name_of_its_successor() {
    for mode in [LB, APP, HEADER] {
        let (dir, origins) = (tempfile::tempdir().unwrap(), three());
        let before = world(dir.path(), &origins, &[], mode);
        let mut clients = clients(&before);
        let at: Vec<String> = clients.iter_mut().map(|client| client.get().body).collect();
        let told: Vec<_> =
            clients.iter().zip(&at).map(|(client, at)| client.told(&origins, at)).collect();
        for leaving in ["a", "b", "c"] {
            let after = world(dir.path(), &origins, &[leaving], mode);
            let mut of_it = 0;
            for (client, (at, told)) in clients.iter().zip(at.iter().zip(&told)) {
                let mut again = Client { visitor: Visitor::of(after.address()), ..*client };
                again.visitor.jar = client.visitor.jar.clone();
                if at != leaving {
                    let answer = again.get();
                    let verdict = answer.field("x-stayput-verdict");
                    assert_eq!((&answer.body, verdict), (at, Some("hit")), "{mode}");
                    continue;
                }
                let answer = until("the drain is seen", || {
                    Some(again.get()).filter(|answer| answer.body != *at)
                });
                let verdict = answer.field("x-stayput-verdict");
                of_it += 1;
                assert_eq!(verdict, Some("moved_draining"), "{mode}");
                assert_eq!(Some(&answer.body), told.as_ref(), "{mode}");
            }
            assert!(of_it > 0 || mode == HEADER, "no client was at {leaving}");
        }
    }
}

#[test]
fn the_announced_successor_gets_the_client_down_to_the_last_target() {
    for mode in [LB, HEADER] {
        let (dir, origins) = (tempfile::tempdir().unwrap(), three());
        let world = world(dir.path(), &origins, &[], mode);
        let mut client = Client { number: 3, visitor: Visitor::of(world.address()) };
        let mut at = client.get().body;
        for _ in 0..2 {
            client.get();
            let told = client.told(&origins, &at).unwrap();
            origins["abc".find(&at).unwrap()].set_healthy(false);
            let moved = until("the client moves", || {
                let answer = client.get();
                (answer.body != at).then_some(answer)
            });
            assert_eq!(moved.body, told, "{mode}");
            assert_eq!(moved.field("x-stayput-verdict"), Some("moved_unhealthy"));
            at = moved.body;
        }
        client.get();
        assert_eq!(client.told(&origins, &at), None, "{mode}: no successor is left");
    }
}

#[test]
fn the_successor_field_of_a_client_is_always_removed() {
    let dir = tempfile::tempdir().unwrap();
    let route = "stickiness = { route = { cookie = \"JSESSIONID\" } }";
    for (group, count) in [
        ("stickiness = { enabled = false }", 3),
        (LB, 1),
        // Without its header field a client has no ranking yet, so no successor can be announced.
        ("stickiness = { header = { name = \"x-other\" } }", 3),
        (route, 3),
    ] {
        let origins = three();
        let world = world(dir.path(), &origins[..count], &[], group);
        let lie = ["X-Stayput-Successor: mine", "x_stayput_successor: mine"];
        let answer = Visitor::of(world.address()).ask("GET", "/0", &lie, "");
        let origin = &origins["abc".find(&answer.body).unwrap()];
        let head = origin.heard()[0].head.to_ascii_lowercase();
        assert!(!head.contains("x-stayput-successor"), "{group}: {head}");
    }
    let origins = three();
    let world = World::new(&[&origins[0], &origins[1]], "", "");
    Visitor::of(world.address()).ask("GET", "/", &["X-Stayput-Successor: mine"], "");
    assert_eq!(
        origins[0].heard()[0].field("x-stayput-successor"),
        None,
        "`announce_successor` is off by default"
    );
}

#[test]
fn a_spilled_request_announces_the_clients_own_target() {
    let (dir, mut origins) = (tempfile::tempdir().unwrap(), three());
    let before = world(dir.path(), &origins, &[], LB);
    let mut visitor = Visitor::of(before.address());
    assert_eq!(visitor.get("/").body, "a");
    origins[0] = Origin::refusing();
    let never = "health = { protocol = \"tcp\", interval = \"300s\", fast_interval = \"300s\", passive = { connect_failures = 0 } }";
    let targets = ["a", "b", "c"].iter().zip(&origins);
    let targets = targets
        .map(|(id, origin)| format!("{{ id = \"{id}\", address = \"{}\" }}", origin.address()));
    let after = World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [affinity]\nkeys = [{{ id = 1, file = \"{}\" }}]\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\ndebug_headers = true\n\
         [target_group.app]\nannounce_successor = true\ntargets = [{}]\n{never}\n",
        dir.path().join("shared.key").display(),
        targets.collect::<Vec<_>>().join(", ")
    ));
    let mut again = Visitor::of(after.address());
    again.jar = visitor.jar.clone();
    let answer = again.get("/");
    assert_eq!(answer.field("x-stayput-verdict"), Some("spilled"));
    let origin = &origins["abc".find(&answer.body).unwrap()];
    let heard = origin.heard();
    assert_eq!(heard.last().unwrap().field("x-stayput-successor").as_deref(), Some("a"));
}
