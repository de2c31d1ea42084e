//! PROXY headers to targets, and which client each target connection serves.

use crate::support::announced_origin::Announced;
use crate::support::{AnnouncedOrigin, Daemon, Origin, Visitor, World, until};
use std::net::SocketAddr;

/// A balancer in front of one target, whose group has these settings.
fn world(target: SocketAddr, listener: &str, group: &str) -> World {
    World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n\
         [log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n{listener}\n\
         [target_group.app]\ntargets = [{{ id = \"a\", address = \"{target}\" }}]\n{group}\n"
    ))
}

/// The source and destination in a header of version 2 over IPv4, read by the specification.
fn v2_ends(header: &[u8]) -> (SocketAddr, SocketAddr) {
    assert_eq!(&header[..16], b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
    let address = |at: usize| <[u8; 4]>::try_from(&header[at..at + 4]).unwrap();
    let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    ((address(16), port(24)).into(), (address(20), port(26)).into())
}

fn is_own_business_of_v2(heard: &Announced) -> bool {
    heard.header == b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
}

#[test]
fn a_target_gets_the_proxy_header_before_all_other_bytes() {
    for (settings, origin) in [
        ("", AnnouncedOrigin::plain()),
        ("tls = { verify = false }\n", AnnouncedOrigin::over_tls()),
    ] {
        let text = world(origin.address(), "", &format!("{settings}send_proxy = \"v1\""));
        let mut visitor = Visitor::of(text.address());
        assert_eq!(visitor.get("/").status, 200);
        let client = visitor.stream().local_addr().unwrap();
        let expected = format!(
            "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n",
            client.port(),
            text.address().port()
        );
        assert_eq!(origin.heard()[0].text(), expected);
        let binary = world(origin.address(), "", &format!("{settings}send_proxy = \"v2\""));
        let mut visitor = Visitor::of(binary.address());
        assert_eq!(visitor.get("/").status, 200);
        let client = visitor.stream().local_addr().unwrap();
        assert_eq!(v2_ends(&origin.heard()[1].header), (client, binary.address()));
    }
}

#[test]
fn a_received_proxy_header_is_passed_to_the_target() {
    let origin = AnnouncedOrigin::plain();
    let listener = "proxy_protocol = true\ntrusted_proxies = [\"127.0.0.0/8\"]";
    let world = world(origin.address(), listener, "send_proxy = \"v1\"");
    for header in [
        "PROXY TCP4 192.0.2.1 198.51.100.1 56324 8443\r\n",
        "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n",
    ] {
        let mut visitor = Visitor::of(world.address());
        visitor.send(header);
        assert_eq!(visitor.get("/").status, 200);
        assert_eq!(origin.heard().pop().unwrap().text(), header);
    }
}

#[test]
fn a_connection_with_a_proxy_header_serves_one_client() {
    let origin = AnnouncedOrigin::plain();
    let world = world(origin.address(), "", "send_proxy = \"v1\"");
    let mut visitors = [Visitor::of(world.address()), Visitor::of(world.address())];
    for _ in 0..5 {
        for visitor in &mut visitors {
            assert_eq!(visitor.get("/").status, 200);
            let port = visitor.stream().local_addr().unwrap().port();
            let heard = origin.heard().pop().unwrap();
            assert!(heard.text().contains(&format!(" 127.0.0.1 {port} ")), "{}", heard.text());
        }
    }
    // Each client has its own connection, and keeps it.
    let mut connections: Vec<_> = origin.heard().iter().map(|heard| heard.connection).collect();
    assert!(connections.windows(2).all(|pair| pair[0] != pair[1]), "{connections:?}");
    connections.sort_unstable();
    connections.dedup();
    assert_eq!(connections.len(), 2);
}

#[test]
fn a_client_behind_a_trusted_proxy_is_announced_without_a_port() {
    let origin = AnnouncedOrigin::plain();
    let world = world(origin.address(), "trusted_proxies = [\"127.0.0.1\"]", "send_proxy = \"v1\"");
    // One connection of the proxy, with requests of two clients and then its own.
    let mut proxy = Visitor::of(world.address());
    for client in ["192.0.2.1", "192.0.2.2", "192.0.2.1", "2001:db8::1"] {
        let field = format!("X-Forwarded-For: {client}");
        assert_eq!(proxy.ask("GET", "/", &[&field], "").status, 200);
    }
    assert_eq!(proxy.get("/").status, 200);
    let (own, port) = (proxy.stream().local_addr().unwrap().port(), world.address().port());
    let heard = origin.heard();
    let told: Vec<_> = heard.iter().map(Announced::text).collect();
    let expected = [
        format!("PROXY TCP4 192.0.2.1 127.0.0.1 0 {port}\r\n"),
        format!("PROXY TCP4 192.0.2.2 127.0.0.1 0 {port}\r\n"),
        format!("PROXY TCP4 192.0.2.1 127.0.0.1 0 {port}\r\n"),
        format!("PROXY TCP6 2001:db8::1 ::ffff:127.0.0.1 0 {port}\r\n"),
        format!("PROXY TCP4 127.0.0.1 127.0.0.1 {own} {port}\r\n"),
    ];
    assert_eq!(told, expected);
    assert_eq!(heard[0].connection, heard[2].connection, "the same client's again");
}

#[test]
fn a_client_that_left_frees_its_connection_permit() {
    let origin = AnnouncedOrigin::plain();
    let group = "send_proxy = \"v2\"\nupstream = { max_connections = 1, \
                 timeouts = { keep_alive = \"60s\", connect = \"5s\" } }";
    let world = world(origin.address(), "", group);
    for _ in 0..5 {
        assert_eq!(Visitor::of(world.address()).get("/").status, 200);
    }
    let (mut one, mut other) = (Visitor::of(world.address()), Visitor::of(world.address()));
    for _ in 0..3 {
        assert_eq!(one.get("/").status, 200);
        assert_eq!(other.get("/").status, 200);
    }
}

#[test]
fn connections_of_clients_that_left_do_not_fill_the_pool() {
    let origin = AnnouncedOrigin::plain();
    let group = "send_proxy = \"v2\"\nupstream = { timeouts = { keep_alive = \"60s\" } }";
    let world = world(origin.address(), "", group);
    // More than the pool keeps for one target.
    for _ in 0..260 {
        assert_eq!(Visitor::of(world.address()).get("/").status, 200);
    }
    let mut later = Visitor::of(world.address());
    assert_eq!((later.get("/").status, later.get("/").status), (200, 200));
    let [.., one, again] = &origin.heard()[..] else { panic!("two requests") };
    assert_eq!(one.connection, again.connection);
}

#[test]
fn checks_send_a_local_proxy_header_except_to_another_port() {
    for (version, health) in [
        ("v1", "health = { fast_interval = \"1s\" }"),
        ("v2", "health = { fast_interval = \"1s\" }"),
        ("v2", "health = { protocol = \"tcp\" }"),
    ] {
        let origin = AnnouncedOrigin::plain();
        let _world = world(origin.address(), "", &format!("send_proxy = \"{version}\"\n{health}"));
        let check = until("a check", || origin.all().first().cloned());
        match version {
            "v1" => assert_eq!(check.text(), "PROXY UNKNOWN\r\n"),
            _ => assert!(is_own_business_of_v2(&check), "{check:?}"),
        }
        assert_eq!(check.is_check(), !health.contains("tcp"));
    }
    let (origin, side) = (AnnouncedOrigin::plain(), Origin::named("side"));
    let health = format!("send_proxy = \"v1\"\nhealth = {{ port = {} }}", side.address().port());
    let world = world(origin.address(), "", &health);
    assert_eq!(Visitor::of(world.address()).get("/").status, 200);
    assert!(!side.checks().is_empty());
    assert!(origin.all().iter().all(|heard| !heard.is_check()));
}

#[test]
fn a_real_nginx_accepts_the_proxy_header_and_passes_checks() {
    for version in ["v1", "v2"] {
        let Some(nginx) = Daemon::nginx(|address| {
            format!(
                "server {{ listen {address} proxy_protocol; location / {{ return 200 \
                 \"$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_port\"; }} }}"
            )
        }) else {
            return;
        };
        let listener = "proxy_protocol = true\ntrusted_proxies = [\"127.0.0.1\"]";
        let world = world(nginx.address(), listener, &format!("send_proxy = \"{version}\""));
        for (client, said) in [
            ("TCP4 192.0.2.1 198.51.100.1 56324 8443", "192.0.2.1 56324 8443"),
            ("TCP6 2001:db8::1 2001:db8::2 56324 8443", "2001:db8::1 56324 8443"),
        ] {
            let mut visitor = Visitor::of(world.address());
            visitor.send(&format!("PROXY {client}\r\n"));
            let answer = visitor.get("/");
            assert_eq!((answer.status, &*answer.body), (200, said), "{version}");
        }
        let health = world.availability(0).health;
        assert_eq!(health, stayput::testing::model::live::Health::Healthy, "{version}");
    }
}
