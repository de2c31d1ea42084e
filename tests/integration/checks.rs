//! Health checks: which request they send, over which transport, and which responses pass.

use crate::support::secure::Secured;
use crate::support::{Origin, SecureOrigin, World, until};
use stayput::testing::model::live::Health;
use std::net::TcpListener;

const FAST: &str = "interval = \"100ms\", fast_interval = \"100ms\", healthy_threshold = 1, unhealthy_threshold = 1";

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A balancer with these groups, each given as name, target and health settings.
fn world(groups: &[(String, String, String)]) -> World {
    let groups = groups.iter().map(|(name, target, health)| {
        format!(
            "[target_group.{name}]\ntargets = [\"{target}\"]\nhealth = {{ {FAST}, {health} }}\n"
        )
    });
    World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"off\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n{}",
        groups.collect::<String>()
    ))
}

/// The health of each group's target, in the order of group names.
fn health(world: &World) -> Vec<Health> {
    let snapshot = world.server().published().current();
    let groups = snapshot.groups.iter();
    groups.map(|group| group.targets[0].state.availability().health).collect()
}

#[track_caller]
fn comes_to(world: &World, expected: &[Health]) {
    until(&format!("{expected:?}"), || (health(world) == expected).then_some(()));
}

#[test]
fn a_matcher_accepts_its_codes_and_no_others() {
    use Health::{Healthy, Unhealthy};
    let cases = [
        ("200", "200 OK", Healthy),
        ("200", "204 No Content", Unhealthy),
        ("200", "302 Found\r\nLocation: /", Unhealthy),
        ("200,202", "202 Accepted", Healthy),
        ("200,202", "201 Created", Unhealthy),
        ("200-299", "299 Fine", Healthy),
        ("200-299", "300 Many", Unhealthy),
        ("200,301-302", "301 Moved", Healthy),
        ("200,301-302", "303 See", Unhealthy),
        ("200-499", "503 Down", Unhealthy),
    ];
    let origins = cases.map(|(_, answer, _)| {
        let origin = Origin::named("a");
        origin.answer_checks(answer);
        origin
    });
    let groups = cases.iter().zip(&origins).enumerate().map(|(at, ((matcher, ..), origin))| {
        (format!("g{at}"), origin.address().to_string(), format!("matcher = \"{matcher}\""))
    });
    let world = world(&groups.collect::<Vec<_>>());
    comes_to(&world, &cases.map(|(.., expected)| expected));
}

#[test]
fn a_check_with_its_own_port_does_not_probe_the_traffic_port() {
    let (serves, asked) = (Origin::named("serves"), Origin::named("asked"));
    asked.set_healthy(false);
    let port = format!("port = {}", asked.address().port());
    let world = world(&[("app".into(), serves.address().to_string(), port)]);
    comes_to(&world, &[Health::Unhealthy]);
    asked.set_healthy(true);
    comes_to(&world, &[Health::Healthy]);
    assert!(serves.checks().is_empty());
    assert_eq!(asked.checks()[0].field("host"), Some(asked.address().to_string()));
}

#[test]
fn a_tls_check_accepts_any_certificate_and_sends_names_as_sni() {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let by_name = SecureOrigin::saying(OK, version);
        let by_address = SecureOrigin::saying(OK, version);
        let https = "protocol = \"https\", path = \"/up\", body = \"ok\"".to_owned();
        let name = format!("localhost:{}", by_name.address().port());
        let world = world(&[
            ("a".into(), by_address.address().to_string(), https.clone()),
            ("b".into(), name, https),
        ]);
        comes_to(&world, &[Health::Healthy, Health::Healthy]);
        assert_eq!(by_address.heard()[0].sni, None);
        let Secured { sni, request: check } = by_name.heard().remove(0);
        assert_eq!(sni.as_deref(), Some("localhost"));
        assert!(check.head.starts_with("GET /up HTTP/1.1\r\n"), "{}", check.head);
        assert_eq!(check.field("host"), Some(by_name.address().to_string()));
        assert_eq!(check.field("connection").as_deref(), Some("close"));
        assert!(check.is_check());
    }
}

#[test]
fn a_tls_check_fails_on_a_bad_response_plain_text_or_silence() {
    const DOWN: &str = "HTTP/1.1 503 Down\r\nContent-Length: 0\r\n\r\n";
    let down = SecureOrigin::saying(DOWN, &rustls::version::TLS13);
    let plain = Origin::named("plain");
    // The kernel accepts connections, but no process reads or writes.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let https = |address: String| {
        let settings = "protocol = \"https\", timeout = \"100ms\"".to_owned();
        (format!("g{}", address.rsplit(':').next().unwrap()), address, settings)
    };
    let addresses = [down.address(), plain.address(), silent.local_addr().unwrap()];
    let world = world(&addresses.map(|address| https(address.to_string())));
    comes_to(&world, &[Health::Unhealthy; 3]);
    assert!(!down.heard().is_empty());
}
