//! PROXY headers from balancers in front: which peers may send them, and their effects.

use crate::support::tool::has;
use crate::support::{Authority, Browser, Daemon, Origin, Visitor, World, until};
use stayput::testing::policy::proxy_protocol::ProxyFault;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const BEHIND_ANYONE: &str = "proxy_protocol = true\ntrusted_proxies = [\"127.0.0.0/8\"]";
const V1: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 8443\r\n";

/// A header of version 2, built from the specification and without the balancer's code.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family], &length, rest].concat()
}

fn v2_of(source: [u8; 4], port: u16) -> Vec<u8> {
    let ports = [port.to_be_bytes(), 8443_u16.to_be_bytes()].concat();
    v2(0x21, 0x11, &[&source[..], &[198, 51, 100, 1], &ports].concat())
}

/// A client that is announced by this header.
fn announced(world: &World, header: &[u8]) -> Visitor {
    let mut visitor = Visitor::of(world.address());
    visitor.send("");
    visitor.stream().write_all(header).unwrap();
    visitor
}

fn faults(world: &World, fault: ProxyFault) -> u64 {
    let counters = world.server().counters();
    counters.iter().map(|own| own.proxy_faults[fault as usize].value()).sum()
}

fn accepted(world: &World) -> u64 {
    world.server().counters().iter().map(|own| own.accepted.value()).sum()
}

#[test]
fn the_proxy_header_sets_client_address_and_port() {
    let mut six = [0; 36];
    (six[0], six[1], six[15], six[31]) = (0x20, 0x01, 1, 2);
    (six[33], six[34], six[35]) = (80, 0x20, 0xfb);
    let with_values = [v2_of([192, 0, 2, 1], 5), vec![4, 0, 1, 9]].concat();
    let with_values = v2(0x21, 0x11, &with_values[16..]);
    let text_six = b"PROXY TCP6 2001:db8::7 2001:db8::8 1 8443\r\n".to_vec();
    let origin = Origin::named("a");
    let world = World::new(&[&origin], BEHIND_ANYONE, "");
    for (nth, (header, client)) in [
        (V1.to_vec(), "192.0.2.1"),
        (v2_of([192, 0, 2, 1], 5), "192.0.2.1"),
        (with_values, "192.0.2.1"),
        (text_six, "2001:db8::7"),
        (v2(0x21, 0x21, &six), "2001::1"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut visitor = announced(&world, &header);
        assert_eq!(visitor.get(&format!("/{nth}")).status, 200, "{header:?}");
        // The header belongs to the connection, not to the request.
        assert_eq!(visitor.get("/again").status, 200, "{header:?}");
        for heard in &origin.heard()[2 * nth..] {
            assert_eq!(heard.field("x-forwarded-for").as_deref(), Some(client));
            let port = heard.field("x-forwarded-port");
            assert_eq!(port.as_deref(), Some("8443"));
        }
        let record = world.record(|record| record["uri"] == format!("/{nth}"));
        assert_eq!(record["client"], client);
        let peer = visitor.stream().local_addr().unwrap().to_string();
        assert_eq!(record["peer"], peer);
    }
}

#[test]
fn trust_in_forwarded_fields_depends_on_the_announced_client() {
    let trusted = "proxy_protocol = true\ntrusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]";
    let origin = Origin::named("a");
    let world = World::new(&[&origin], trusted, "");
    let fields = ["X-Forwarded-For: 6.6.6.6, 198.51.100.7", "X-Forwarded-Proto: https"];
    for (nth, (header, client, last, proto)) in [
        // An untrusted peer may send any field.
        (v2_of([192, 0, 2, 1], 5), "192.0.2.1", "192.0.2.1", "http"),
        // A trusted proxy behind a trusted balancer.
        (v2_of([10, 0, 0, 9], 5), "198.51.100.7", "10.0.0.9", "https"),
        // The balancer itself (LOCAL).
        (v2(0x20, 0, &[]), "198.51.100.7", "127.0.0.1", "https"),
        // An address that the header does not state (UNSPEC).
        (v2(0x21, 0, &[]), "127.0.0.1", "127.0.0.1", "http"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1", "127.0.0.1", "http"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut visitor = announced(&world, &header);
        assert_eq!(visitor.ask("GET", &format!("/{nth}"), &fields, "").status, 200);
        let heard = &origin.heard()[nth];
        let told = format!("6.6.6.6, 198.51.100.7, {last}");
        assert_eq!(heard.field("x-forwarded-for"), Some(told), "{nth}");
        assert_eq!(heard.field("x-forwarded-proto").as_deref(), Some(proto), "{nth}");
        let record = world.record(|record| record["uri"] == format!("/{nth}"));
        assert_eq!(record["client"], client, "{nth}");
    }
}

#[test]
fn an_announced_client_keeps_its_target_over_new_connections_and_clients() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let world = World::new(&[&a, &b], BEHIND_ANYONE, "");
    let mut visitor = announced(&world, V1);
    let first = visitor.get("/").body;
    for port in 0..10 {
        visitor.leave();
        visitor.send("");
        // Whatever the header says, the cookie decides the target.
        visitor.stream().write_all(&v2_of([192, 0, 2, port], 1)).unwrap();
        assert_eq!(visitor.get("/").body, first);
    }
}

#[test]
fn tls_begins_right_after_the_proxy_header() {
    let (authority, origin) = (Authority::new(), Origin::named("a"));
    let shop = authority.sign("shop", &["shop.example"]);
    let listener = format!("{BEHIND_ANYONE}\ntls = {{ certificates = [{}] }}", shop.entry());
    let world = World::new(&[&origin], &listener, "");
    let browser = Browser::trusting(&authority);
    for header in [V1.to_vec(), v2_of([192, 0, 2, 1], 5)] {
        let connected = browser.connect_behind(world.address(), "shop.example", &header);
        let answer = connected.unwrap().get("/").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let heard = origin.heard().pop().unwrap();
        assert_eq!(heard.field("x-forwarded-for").as_deref(), Some("192.0.2.1"));
        assert_eq!(heard.field("x-forwarded-proto").as_deref(), Some("https"));
        assert_eq!(heard.field("x-forwarded-port").as_deref(), Some("8443"));
    }
    assert!(browser.get(world.address(), "/").is_err(), "a handshake without a header");
    until("a handshake is no header", || (faults(&world, ProxyFault::NoHeader) == 1).then_some(()));
}

/// The output of curl with these arguments, behind a PROXY header of its own.
fn curl(world: &World, authority: &Authority, jar: &Path, arguments: &[&str], url: &str) -> String {
    let port = world.address().port();
    let output = Command::new("curl")
        .args(["-sS", "--haproxy-protocol", "-w", " %{http_version}"])
        .args(["--cacert", authority.path().to_str().unwrap()])
        .args(["--resolve", &format!("shop.example:{port}:127.0.0.1")])
        .args(["-b", jar.to_str().unwrap(), "-c", jar.to_str().unwrap()])
        .args(arguments)
        .arg(url.replace("PORT", &port.to_string()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?} {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn curl_is_sticky_behind_both_proxy_versions_with_and_without_tls() {
    if !has(&["curl"]) {
        return;
    }
    let (a, b, authority) = (Origin::named("a"), Origin::named("b"), Authority::new());
    let shop = authority.sign("shop", &["shop.example"]);
    let over_tls = format!("{BEHIND_ANYONE}\ntls = {{ certificates = [{}] }}", shop.entry());
    let plain = World::new(&[&a, &b], BEHIND_ANYONE, "");
    let secure = World::new(&[&a, &b], &over_tls, "");
    for (world, arguments, url, version) in [
        (&plain, "--http1.1", "http://shop.example:PORT/", "1.1"),
        (&plain, "--http2-prior-knowledge", "http://shop.example:PORT/", "2"),
        (&secure, "--http1.1", "https://shop.example:PORT/", "1.1"),
        (&secure, "--http2", "https://shop.example:PORT/", "2"),
    ] {
        let jar = authority.dir().join(format!("jar {version} {}", world.address().port()));
        let first = curl(world, &authority, &jar, &[arguments], url);
        assert!(first == format!("a {version}") || first == format!("b {version}"), "{first}");
        for _ in 0..3 {
            assert_eq!(curl(world, &authority, &jar, &[arguments], url), first);
        }
    }
}

#[test]
fn a_proxy_header_may_come_in_bytes_or_with_the_request() {
    let origin = Origin::named("a");
    let world = World::new(&[&origin], BEHIND_ANYONE, "");
    for header in [V1.to_vec(), v2_of([192, 0, 2, 1], 5)] {
        let mut visitor = announced(&world, &[]);
        for byte in &header {
            visitor.stream().write_all(&[*byte]).unwrap();
        }
        assert_eq!(visitor.get("/").status, 200);
        let request = b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n";
        let mut visitor = announced(&world, &[&header[..], request, request].concat());
        assert_eq!(visitor.read_answer(false).status, 200);
        assert_eq!(visitor.read_answer(false).status, 200);
    }
}

#[test]
fn an_untrusted_peer_is_closed_and_counted_whatever_it_sends() {
    let origin = Origin::named("a");
    let listener = "proxy_protocol = true\ntrusted_proxies = [\"127.0.0.2\"]";
    let world = World::new(&[&origin], listener, "");
    for header in [V1, b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n", b""] {
        let mut visitor = Visitor::of(world.address());
        visitor.send("");
        // The connection may have been closed already.
        let _ = visitor.stream().write_all(header);
        assert!(visitor.sees_close());
    }
    until("three untrusted peers", || (faults(&world, ProxyFault::Untrusted) == 3).then_some(()));
    assert!(origin.heard().is_empty());
}

/// Sends these bytes and, if `ends`, a FIN. Checks that the only response is a close.
fn is_closed_in_silence(world: &World, bytes: &[u8], ends: bool) {
    let mut visitor = announced(world, bytes);
    if ends {
        visitor.stream().shutdown(std::net::Shutdown::Write).unwrap();
    }
    let mut answer = Vec::new();
    // Unread bytes may turn the end into a reset.
    let _ = visitor.stream().read_to_end(&mut answer);
    assert!(answer.is_empty(), "{:?} {answer:?}", String::from_utf8_lossy(bytes));
}

#[test]
fn an_invalid_proxy_header_closes_silently_and_is_counted() {
    let origin = Origin::named("a");
    let world = World::new(&[&origin], BEHIND_ANYONE, "");
    let endless = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat();
    // The length alone is invalid, so the rest is not awaited.
    let oversize = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"[..], &[0; 64]].concat();
    let half = &v2_of([192, 0, 2, 1], 5)[..20];
    for (bytes, ends, fault) in [
        (&b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"[..], false, ProxyFault::NoHeader),
        (b"\x16\x03\x01\x02\x00\x01\x00", false, ProxyFault::NoHeader),
        (b"\0", false, ProxyFault::NoHeader),
        (b"PROXY TCP4 192.0.2.1 198.51.100.1 1\r\n", false, ProxyFault::Malformed),
        (&v2(0x22, 0x11, &[0; 12]), false, ProxyFault::Malformed),
        (&v2(0x21, 0x11, &[0; 11]), false, ProxyFault::Malformed),
        (&endless, false, ProxyFault::TooLong),
        (&oversize, false, ProxyFault::TooLong),
        (half, true, ProxyFault::PeerGone),
        (&V1[..V1.len() - 1], true, ProxyFault::PeerGone),
        (b"", true, ProxyFault::PeerGone),
    ] {
        let before = faults(&world, fault);
        is_closed_in_silence(&world, bytes, ends);
        until(fault.word(), || (faults(&world, fault) == before + 1).then_some(()));
    }
    assert!(origin.heard().is_empty());
    assert_eq!(announced(&world, V1).get("/").status, 200);
}

#[test]
fn an_unfinished_proxy_header_closes_in_time() {
    let origin = Origin::named("a");
    let listener = format!("{BEHIND_ANYONE}\ntimeouts = {{ header_read = \"1s\" }}");
    let world = World::new(&[&origin], &listener, "");
    for bytes in [&V1[..20], &v2_of([192, 0, 2, 1], 5)[..13], b""] {
        let begun = Instant::now();
        is_closed_in_silence(&world, bytes, false);
        assert!(begun.elapsed() >= Duration::from_millis(990), "{:?}", begun.elapsed());
    }
    // Sending on, however slowly, does not prolong the time.
    let begun = Instant::now();
    let mut stream = TcpStream::connect(world.address()).unwrap();
    let sent = V1.iter().take_while(|byte| {
        // One byte now and then, on purpose.
        std::thread::sleep(Duration::from_millis(100));
        stream.write_all(&[**byte]).is_ok()
    });
    assert!(sent.count() < V1.len(), "closed before the end of the header");
    assert!(begun.elapsed() >= Duration::from_millis(990), "{:?}", begun.elapsed());
    until("four that took too long", || (faults(&world, ProxyFault::TimedOut) == 4).then_some(()));
}

#[test]
fn allowed_clients_are_checked_against_the_announced_address() {
    let origin = Origin::named("a");
    let listener = format!("{BEHIND_ANYONE}\nallow_from = [\"192.0.2.0/24\"]");
    let world = World::new(&[&origin], &listener, "");
    assert_eq!(announced(&world, V1).get("/").status, 200);
    let said = ["X-Forwarded-For: 192.0.2.1"];
    // An untrusted client, and a LOCAL header, which is checked by the peer's own address.
    for header in [v2_of([203, 0, 113, 1], 5), v2(0x20, 0, &[]), b"PROXY UNKNOWN\r\n".to_vec()] {
        let answer = announced(&world, &header).ask("GET", "/", &said, "");
        assert_eq!(answer.status, 0, "{header:?}");
    }
    let refused = || world.server().counters().iter().map(|own| own.refused.value()).sum::<u64>();
    until("three are refused", || (refused() == 3).then_some(()));
    assert_eq!(origin.heard().len(), 1);
}

#[test]
fn albs_log_has_the_announced_client_and_where_it_came_to() {
    let origin = Origin::named("a");
    let world = World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n\
         [log]\naccess = {{ to = \"access.log\", format = \"alb\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n{BEHIND_ANYONE}\n\
         [target_group.app]\ntargets = [\"{}\"]\n",
        origin.address()
    ));
    assert_eq!(announced(&world, V1).get("/cart").status, 200);
    let line = world.line(|line| line.contains("/cart"));
    assert!(line.contains(" 192.0.2.1:56324 "), "{line}");
    assert!(line.contains("http://shop.example:8443/cart"), "{line}");
}

#[test]
fn a_real_haproxy_announces_its_clients_in_either_version() {
    let origin = Origin::named("a");
    let listener = "proxy_protocol = true\ntrusted_proxies = [\"127.0.0.3\"]";
    let world = World::new(&[&origin], listener, "");
    for (nth, send) in ["send-proxy", "send-proxy-v2"].into_iter().enumerate() {
        let file = |address: SocketAddr| {
            format!(
                "defaults\n mode tcp\n timeout connect 5s\n timeout client 10s\n timeout server 10s\n\
                 listen front\n bind {address}\n server lb {} source 127.0.0.3 {send} \
                 check check-send-proxy inter 100ms\n",
                world.address()
            )
        };
        let Some(haproxy) = Daemon::haproxy(file) else { return };
        // The checks of HAProxy itself, which send LOCAL headers, come first.
        let before = accepted(&world);
        until("HAProxy's checks", || (accepted(&world) >= before + 3).then_some(()));
        let mut visitor = Visitor::of(haproxy.address());
        assert_eq!(visitor.get(&format!("/{nth}")).status, 200);
        let heard = origin.heard().pop().unwrap();
        assert_eq!(heard.field("x-forwarded-for").as_deref(), Some("127.0.0.1"));
        assert_eq!(heard.field("x-forwarded-port"), Some(haproxy.address().port().to_string()));
        let record = world.record(|record| record["uri"] == format!("/{nth}"));
        assert_eq!(record["client"], "127.0.0.1");
        assert!(record["peer"].as_str().unwrap().starts_with("127.0.0.3:"), "{record}");
    }
    assert_eq!(ProxyFault::ALL.map(|fault| faults(&world, fault)), [0; 6]);
}

#[test]
fn many_unfinished_proxy_headers_delay_no_other_client() {
    let origin = Origin::named("a");
    let world = World::new(&[&origin], BEHIND_ANYONE, "");
    let crowd: Vec<TcpStream> = (0..100)
        .map(|nth| {
            let mut stream = TcpStream::connect(world.address()).unwrap();
            stream.write_all(&V1[..nth % V1.len()]).unwrap();
            stream
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(announced(&world, V1).get("/").status, 200);
    }
    drop(crowd);
}

#[test]
fn check_refuses_proxy_protocol_without_trusted_proxies() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stayput.toml");
    for (trusted, code) in [("", 1), ("trusted_proxies = []", 1), (BEHIND_ANYONE, 0)] {
        let proxy_protocol = if code == 1 { "proxy_protocol = true\n" } else { "" };
        let text = format!(
            "[listener.web]\naddress = \"127.0.0.1:0\"\n{proxy_protocol}{trusted}\n\
             [target_group.app]\ntargets = [\"127.0.0.1:1\"]\nsend_proxy = \"v1\"\n"
        );
        std::fs::write(&path, text).unwrap();
        let mut check = Command::new(env!("CARGO_BIN_EXE_stayput"));
        let output = check.args(["check", "-c"]).arg(&path).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert_eq!(told.contains("allows only trusted proxies to connect"), code == 1, "{told}");
    }
}
