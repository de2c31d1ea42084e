//! Clients known by a route in the application's cookie, or by a header field.

use crate::support::origin::Then;
use crate::support::visitor::Answer;
use crate::support::{Origin, Visitor, World, until};
use std::collections::HashSet;
use std::io::Write;
use std::sync::{Arc, Mutex};

const FAST: &str = "health = { interval = \"100ms\", fast_interval = \"100ms\", healthy_threshold = 1, unhealthy_threshold = 1 }";
const ROUTE: &str = "stickiness = { route = { cookie = \"JSESSIONID\" } }";
const HEADER: &str = "stickiness = { header = { name = \"x-session-id\" } }";

fn three() -> [Origin; 3] {
    [Origin::named("a"), Origin::named("b"), Origin::named("c")]
}

/// Targets a, b and c with the routes s1, s2 and s3; `more` holds more settings of a.
fn world(origins: &[Origin; 3], more: &str, group: &str) -> World {
    let target = |(at, origin): (usize, &Origin)| {
        let more = if at == 0 { more } else { "" };
        let (id, route) = (["a", "b", "c"][at], at + 1);
        format!(
            "{{ id = \"{id}\", address = \"{}\", route = \"s{route}\"{more} }}",
            origin.address()
        )
    };
    let targets = origins.iter().enumerate().map(target).collect::<Vec<_>>().join(", ");
    World::of_text(&format!(
        "[runtime]\nworkers = 2\nstate_dir = \"state\"\nzone = \"z\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\ndebug_headers = true\n\
         [target_group.app]\ntargets = [{targets}]\n{group}\n"
    ))
}

/// One request of a client that has no cookies.
fn ask(world: &World, path: &str, fields: &[&str]) -> Answer {
    let answer = Visitor::of(world.address()).ask("GET", path, fields, "");
    assert_eq!(answer.all("set-cookie").count(), 0, "nothing is ever set in these modes");
    answer
}

fn told(answer: &Answer) -> (&str, &str) {
    (answer.field("x-stayput-verdict").unwrap_or("-"), &answer.body)
}

/// Sends this many clients with these fields, and returns the targets they reached.
fn met(world: &World, path: &str, fields: &[&str], count: usize) -> HashSet<String> {
    (0..count).map(|_| ask(world, path, fields).body).collect()
}

#[test]
fn a_route_is_followed_from_the_first_request_by_cookie_or_path() {
    let origins = three();
    let world = world(&origins, "", ROUTE);
    for (path, fields, expected) in [
        ("/", &["Cookie: JSESSIONID=5AC6.s2"][..], "b"),
        ("/", &["Cookie: x=1; JSESSIONID=a.b.s3; y=2"], "c"),
        ("/cart;jsessionid=5AC6.s3", &[], "c"),
        ("/cart;v=1;JSESSIONID=5AC6.s3/items?x=1", &[], "c"),
        // The cookie counts first: a container that gets both reads the cookie.
        ("/cart;jsessionid=5AC6.s3", &["Cookie: JSESSIONID=5AC6.s2"], "b"),
        // A session of another application's path; the known one counts.
        ("/", &["Cookie: JSESSIONID=x.other; JSESSIONID=y.s3"], "c"),
        ("/", &["Cookie: JSESSIONID=x.s2; JSESSIONID=y.s3"], "b"),
        ("/", &["Cookie: JSESSIONID=x", "Cookie: JSESSIONID=y.s3"], "c"),
        ("/cart;jsessionid=5AC6.s3", &["Cookie: JSESSIONID=x.other"], "c"),
    ] {
        for _ in 0..2 {
            assert_eq!(told(&ask(&world, path, fields)), ("hit", expected), "{path} {fields:?}");
        }
    }
}

#[test]
fn a_session_with_an_unknown_route_goes_to_one_target_on_all_nodes() {
    let origins = three();
    let world = world(&origins, "", ROUTE);
    for (path, cookie) in [
        ("/", "Cookie: JSESSIONID=5AC6.other"),
        ("/", "Cookie: JSESSIONID=5AC6"),
        ("/", "Cookie: JSESSIONID=5AC6."),
        ("/", "Cookie: JSESSIONID=5AC6.S2"),
        ("/", "Cookie: JSESSIONID=\"5AC6.s2\""),
        ("/", "Cookie: JSESSIONID=5AC6%2Es2"),
        ("/", "Cookie: JSESSIONID=5AC6.s2.gone"),
        ("/x;jsessionid=5AC6", "X-Nothing: 1"),
    ] {
        assert_eq!(told(&ask(&world, path, &[cookie])).0, "new", "{cookie}");
        assert_eq!(met(&world, path, &[cookie], 6).len(), 1, "{cookie}");
    }
    // The container changes the route and keeps the id: only the id names the target.
    let [one, other] = ["one", "other"].map(|route| format!("Cookie: JSESSIONID=5AC6.{route}"));
    assert_eq!(met(&world, "/", &[&one], 1), met(&world, "/", &[&other], 1));
    let ids: Vec<_> = (0..40).map(|id| format!("Cookie: JSESSIONID={id}")).collect();
    let all: HashSet<_> = ids.iter().flat_map(|id| met(&world, "/", &[id], 1)).collect();
    assert_eq!(all.len(), 3, "sessions spread");
}

#[test]
fn without_a_session_the_algorithm_decides() {
    let origins = three();
    let world = world(&origins, "", ROUTE);
    for fields in [
        &[][..],
        &["Cookie: JSESSIONID="],
        &["Cookie: jsessionid=5AC6.s2"],
        &["Cookie: JSESSIONID"],
        &["Cookie: x=JSESSIONID=5AC6.s2"],
    ] {
        assert_eq!(
            told(&ask(&world, "/jsessionid=5AC6.s2?;jsessionid=5AC6.s3", fields)).0,
            "key_absent"
        );
        assert_eq!(met(&world, "/", fields, 3).len(), 3, "{fields:?}");
    }
}

#[test]
fn a_route_brings_a_client_back_when_its_target_returns() {
    let origins = three();
    let world = world(&origins, "", &format!("{ROUTE}\n{FAST}"));
    let cookie = "Cookie: JSESSIONID=5AC6.s1";
    assert_eq!(told(&ask(&world, "/", &[cookie])), ("hit", "a"));
    origins[0].set_healthy(false);
    until("a is down", || {
        (told(&ask(&world, "/", &[cookie])).0 == "moved_unhealthy").then_some(())
    });
    assert_eq!(met(&world, "/", &[cookie], 6).len(), 1, "all meet one successor");
    world.record(|record| record["sticky"] == "moved_unhealthy" && record["from"] == "a");
    origins[0].set_healthy(true);
    until("a is back", || (told(&ask(&world, "/", &[cookie])) == ("hit", "a")).then_some(()));
}

#[test]
fn a_strict_route_gets_503_while_its_target_is_down() {
    let origins = three();
    let group = "stickiness = { route = { cookie = \"JSESSIONID\" }, on_unavailable = \"strict\" }";
    let world = world(&origins, "", &format!("{group}\n{FAST}"));
    let cookie = "Cookie: JSESSIONID=5AC6.s1";
    origins[0].set_healthy(false);
    until("a is down", || (ask(&world, "/", &[cookie]).status == 503).then_some(()));
    world.record(|record| record["error_reason"] == "strict_refused");
    assert_eq!(told(&ask(&world, "/", &["Cookie: JSESSIONID=5AC6.s2"])), ("hit", "b"));
    origins[0].set_healthy(true);
    until("a is back", || (told(&ask(&world, "/", &[cookie])) == ("hit", "a")).then_some(()));
}

#[test]
fn the_route_of_a_draining_target_is_followed_unless_pins_move() {
    let origins = three();
    for (pins, expected) in [("stay", "hit"), ("move", "moved_draining")] {
        let group = format!("{ROUTE}\ndraining_pins = \"{pins}\"");
        let world = world(&origins, ", state = \"drain\"", &group);
        until("new clients leave a alone", || {
            (!met(&world, "/", &[], 6).contains("a")).then_some(())
        });
        let answer = ask(&world, "/", &["Cookie: JSESSIONID=5AC6.s1"]);
        assert_eq!((told(&answer).0, answer.body == "a"), (expected, expected == "hit"));
    }
}

#[test]
fn a_route_of_weight_0_or_of_another_zone_keeps_and_loses_its_clients() {
    let origins = three();
    let cookie = "Cookie: JSESSIONID=5AC6.s1";
    let world_of_0 = world(&origins, ", weight = 0", ROUTE);
    assert_eq!(told(&ask(&world_of_0, "/", &[cookie])), ("hit", "a"));
    assert!(!met(&world_of_0, "/", &[], 6).contains("a"));
    let elsewhere = world(&origins, ", zone = \"z\"", &format!("{ROUTE}\ncross_zone = false"));
    assert_eq!(told(&ask(&elsewhere, "/", &["Cookie: JSESSIONID=5AC6.s2"])), ("moved_zone", "a"));
}

/// A target that holds `/hold` until the gate opens.
fn gated(gate: &Arc<Mutex<()>>) -> Origin {
    let gate = gate.clone();
    Origin::scripted(move |request, stream| {
        if request.path() == "/hold" {
            drop(gate.lock().unwrap());
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na");
        Then::KeepAlive
    })
}

#[test]
fn clients_with_one_route_spill_at_the_cap_and_come_back() {
    let gate = Arc::new(Mutex::new(()));
    let origins = [gated(&gate), Origin::named("b"), Origin::named("c")];
    for (mode, field) in [(ROUTE, "Cookie: JSESSIONID=5AC6.s1"), (HEADER, "")] {
        let world = world(&origins, "", &format!("{mode}\nmax_in_flight_per_target = 1"));
        let field = match field {
            "" => value_of(&world, "a"),
            field => field.to_owned(),
        };
        let before = origins[0].heard().len();
        let closed = gate.lock().unwrap();
        let mut holder = Visitor::of(world.address());
        holder.send(&format!("GET /hold HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n"));
        until("a is busy", || (origins[0].heard().len() > before).then_some(()));
        let spilled = ask(&world, "/", &[&field]);
        assert_eq!(told(&spilled).0, "spilled");
        assert_ne!(spilled.body, "a");
        assert_eq!(met(&world, "/", &[&field], 4), [spilled.body.clone()].into());
        drop(closed);
        assert_eq!(holder.read_answer(false).body, "a");
        until("a is free", || (told(&ask(&world, "/", &[&field])) == ("hit", "a")).then_some(()));
    }
}

/// A header value whose first target by rendezvous hashing is this one.
fn value_of(world: &World, target: &str) -> String {
    let fields = (0..).map(|id| format!("X-Session-Id: {id}"));
    fields.take(100).find(|field| ask(world, "/", &[field]).body == target).unwrap()
}

#[test]
fn one_header_value_always_meets_one_target() {
    let origins = three();
    let world = world(&origins, "", HEADER);
    let mut all = HashSet::new();
    for id in 0..30 {
        let field = format!("X-Session-Id: {id}");
        let first = ask(&world, "/", &[&field]);
        assert_eq!(told(&first).0, "hit");
        assert_eq!(met(&world, "/", &[&field], 3), [first.body.clone()].into());
        all.insert(first.body);
    }
    assert_eq!(all.len(), 3);
}

#[test]
fn a_header_value_returns_to_its_target_and_others_never_leave() {
    let origins = three();
    let world = world(&origins, "", &format!("{HEADER}\n{FAST}"));
    let [homeless, other] = ["a", "b"].map(|target| value_of(&world, target));
    origins[0].set_healthy(false);
    until("a is down", || {
        (told(&ask(&world, "/", &[&homeless])).0 == "moved_unhealthy").then_some(())
    });
    assert_eq!(met(&world, "/", &[&homeless], 6).len(), 1);
    assert_eq!(told(&ask(&world, "/", &[&other])), ("hit", "b"));
    origins[0].set_healthy(true);
    until("a is back", || (told(&ask(&world, "/", &[&homeless])) == ("hit", "a")).then_some(()));
    assert_eq!(told(&ask(&world, "/", &[&other])), ("hit", "b"));
}

#[test]
fn an_absent_or_empty_header_is_no_key_and_the_first_field_counts() {
    let origins = three();
    let world = world(&origins, "", HEADER);
    for fields in [&[][..], &["X-Session-Id:"], &["X-Session-Id:   "], &["X-Session-Ids: 1"]] {
        assert_eq!(told(&ask(&world, "/", fields)).0, "key_absent", "{fields:?}");
        assert_eq!(met(&world, "/", fields, 3).len(), 3, "{fields:?}");
    }
    let [a, b] = ["a", "b"].map(|target| value_of(&world, target));
    assert_eq!(told(&ask(&world, "/", &[&a, &b])), ("hit", "a"));
    assert_eq!(told(&ask(&world, "/", &[&b, &a])), ("hit", "b"));
}

#[test]
fn a_value_of_8_kib_or_of_non_utf8_bytes_is_a_key() {
    let origins = three();
    let world = world(&origins, "", HEADER);
    let long = "v".repeat(8 * 1_024);
    let homes = ["", "1", "2", "3", "4", "5", "é", "\t x"].map(|end| {
        let field = format!("X-Session-Id: {long}{end}");
        assert_eq!(told(&ask(&world, "/", &[&field])).0, "hit");
        let met = met(&world, "/", &[&field], 3);
        assert_eq!(met.len(), 1);
        met.into_iter().next().unwrap()
    });
    assert!(HashSet::from(homes).len() > 1, "the last byte counts too");
}
