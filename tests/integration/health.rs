//! Health checks, suspicion by traffic, readiness and fail-open.

use crate::support::origin::Then;
use crate::support::{Origin, Visitor, World, until};
use stayput::testing::model::live::Health;

const FAST: &str = "interval = \"100ms\", fast_interval = \"100ms\", healthy_threshold = 1, unhealthy_threshold = 1";

#[test]
fn a_check_sends_the_request_alb_sends_with_stayput_as_user_agent() {
    let origin = Origin::named("a");
    let _world = World::new(&[&origin], "", "health = { path = \"/up?deep=1\" }");
    let check = origin.checks().remove(0);
    assert!(check.head.starts_with("GET /up?deep=1 HTTP/1.1\r\n"), "{}", check.head);
    assert_eq!(check.field("host"), Some(origin.address().to_string()));
    assert_eq!(check.field("connection").as_deref(), Some("close"));
    let agent = check.field("user-agent").unwrap();
    assert!(agent.starts_with("ELB-HealthChecker/2.0 stayput/"), "{agent}");
    assert!(check.field("x-forwarded-for").is_none());
}

#[test]
fn a_group_without_a_healthy_target_fails_open_or_answers_503() {
    for (fail_open, status) in [(true, 200), (false, 503)] {
        let origin = Origin::named("a");
        origin.set_healthy(false);
        let group = format!("fail_open = {fail_open}\nhealth = {{ {FAST} }}");
        let world = World::new(&[&origin], "", &group);
        let answer = until("the target is known to be down", || {
            let answer = Visitor::of(world.address()).get("/");
            let health = world.server().published().current().groups[0].targets[0]
                .state
                .availability()
                .health;
            (health == stayput::testing::model::live::Health::Unhealthy && answer.status == status)
                .then_some(answer)
        });
        assert_eq!(answer.status, status);
        origin.set_healthy(true);
        until("it serves again", || {
            (Visitor::of(world.address()).get("/").status == 200).then_some(())
        });
    }
}

#[test]
fn failed_connections_make_a_target_suspect_until_one_succeeds() {
    let (gone, alive) = (Origin::refusing(), Origin::named("b"));
    // Checks probe a port that responds, so that only traffic can show the failure.
    let port = alive.address().port();
    let group = format!(
        "health = {{ interval = \"300s\", timeout = \"5s\", fast_interval = \"100ms\", port = {port} }}"
    );
    let world = World::new(&[&gone, &alive], "", &group);
    for _ in 0..12 {
        assert_eq!(Visitor::of(world.address()).get("/").body, "b", "only the log shows it");
    }
    let health = || world.availability(0).health;
    until("traffic has made it suspect", || (health() == Health::Suspect).then_some(()));
    let before = alive.checks().len();
    // Each check passes, but does not test the traffic port; the dial beside it does.
    until("it is checked more often", || (alive.checks().len() > before + 4).then_some(()));
    assert_eq!(health(), Health::Suspect);
    for _ in 0..6 {
        assert_eq!(Visitor::of(world.address()).get("/").body, "b", "new clients avoid it");
    }
    let _listener = std::net::TcpListener::bind(gone.address()).unwrap();
    until("a connection ends the suspicion", || (health() == Health::Healthy).then_some(()));
}

#[test]
fn only_checks_make_a_target_unhealthy() {
    use crate::support::program::Program;
    let (gone, alive) = (Origin::refusing(), Origin::named("b"));
    let dir = tempfile::tempdir().unwrap();
    // The next check is due much later: the first is made at the start, and passes.
    let listener = std::net::TcpListener::bind(gone.address()).unwrap();
    let health =
        "interval = \"300s\", timeout = \"5s\", fast_interval = \"100ms\", protocol = \"tcp\"";
    let program = Program::run(
        dir.path(),
        &format!(
            "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"off\" }}\n\
             [listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\n\
             stickiness = {{ enabled = false }}\nupstream = {{ timeouts = {{ connect = \"1s\" }} }}\n\
             targets = [{{ id = \"a\", address = \"{}\" }}, {{ id = \"b\", address = \"{}\" }}]\n\
             health = {{ {health} }}\n",
            gone.address(),
            alive.address()
        ),
    );
    let address = program.address();
    program.line(&["target=\"a\"", "to=\"healthy\""]);
    drop(listener);
    until("three connections were refused", || {
        assert_eq!(Visitor::of(address).get("/").body, "b");
        program.lines().iter().any(|line| line.contains("suspect: ")).then_some(())
    });
    // The check that is sent at once, and the next one, are refused as well.
    let down = program.line(&["target=\"a\"", "from=\"healthy\" to=\"unhealthy\""]);
    assert!(!down.contains("traffic"), "its checks took it out: {down}");
    let lines = program.lines();
    let at = |words: &str| lines.iter().position(|line| line.contains(words)).unwrap();
    assert!(at("suspect: ") < at("to=\"unhealthy\""), "{lines:?}");
}

#[test]
fn checks_by_body_text_and_by_tcp_pass_and_fail() {
    let origin = Origin::named("a");
    for (health, expected) in [
        ("body = \"ok\"", stayput::testing::model::live::Health::Healthy),
        ("body = \"absent\"", stayput::testing::model::live::Health::Unhealthy),
        ("protocol = \"tcp\"", stayput::testing::model::live::Health::Healthy),
        ("matcher = \"404\"", stayput::testing::model::live::Health::Unhealthy),
    ] {
        let world = World::new(&[&origin], "", &format!("health = {{ {FAST}, {health} }}"));
        until(health, || {
            let health = world.server().published().current().groups[0].targets[0]
                .state
                .availability()
                .health;
            (health == expected).then_some(())
        });
    }
}

#[test]
fn a_host_name_is_one_target_unless_it_is_expanded() {
    let origin = Origin::named("a");
    let port = origin.address().port();
    let world = World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n\
         [target_group.app]\ntargets = [{{ id = \"one\", address = \"localhost:{port}\" }}]\n"
    ));
    let answer = until("the name is known", || {
        Some(Visitor::of(world.address()).get("/")).filter(|answer| answer.status == 200)
    });
    assert_eq!(answer.body, "a");
    let record = world.record(|record| record["status"] == 200);
    assert_eq!(record["target"], "one");
}

#[test]
fn an_unresolved_name_starts_as_down_and_does_not_stop_the_start() {
    let origin = Origin::named("a");
    let world = World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n\
         [target_group.app]\ntargets = [\"nowhere.invalid:80\", \"{}\"]\n",
        origin.address()
    ));
    for _ in 0..4 {
        assert_eq!(Visitor::of(world.address()).get("/").body, "a");
    }
}

#[test]
fn a_check_searches_the_first_64_kib_of_the_body() {
    use stayput::testing::model::live::Health;
    for (before, expected) in [(60_000, Health::Healthy), (70_000, Health::Unhealthy)] {
        let page = format!("{}the word{}", "x".repeat(before), "y".repeat(200_000));
        let address = large_page(page);
        let world = World::of_text(&format!(
            "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"off\" }}\n\
             [listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\n\
             targets = [\"{address}\"]\nhealth = {{ {FAST}, body = \"the word\" }}\n"
        ));
        until("the check has its result", || {
            let snapshot = world.server().published().current();
            let health = snapshot.groups[0].targets[0].state.availability().health;
            (health != Health::Initial).then(|| assert_eq!(health, expected, "{before}"))
        });
    }
}

/// Sends this page on every connection.
fn large_page(page: String) -> std::net::SocketAddr {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            // The check may have closed after it found its text.
            let _ = stream.read(&mut [0; 4_096]);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", page.len());
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(page.as_bytes());
        }
    });
    address
}

#[test]
fn hang_ups_after_a_request_do_not_make_a_target_suspect() {
    let script = |name: &'static str| {
        Origin::scripted(move |request, stream| {
            if request.path() == "/reset" {
                return Then::Close;
            }
            let text = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{name}");
            let _ = std::io::Write::write_all(stream, text.as_bytes());
            Then::KeepAlive
        })
    };
    let (a, b) = (script("a"), script("b"));
    let world = World::new(&[&a, &b], "debug_headers = true", "");
    let mut pinned = [Visitor::of(world.address()), Visitor::of(world.address())];
    let homes: Vec<_> = pinned.iter_mut().map(|visitor| visitor.get("/").body).collect();
    // In a row: a response in between would clear the failures of a target.
    for _ in 0..20 {
        assert_eq!(Visitor::of(world.address()).get("/reset").status, 502);
    }
    for (visitor, home) in pinned.iter_mut().zip(&homes) {
        let answer = visitor.get("/");
        assert_eq!((&answer.body, answer.field("x-stayput-verdict")), (home, Some("hit")));
    }
    for target in &world.server().published().current().groups[0].targets {
        let health = target.state.availability().health;
        assert_eq!(health, stayput::testing::model::live::Health::Healthy);
    }
}
