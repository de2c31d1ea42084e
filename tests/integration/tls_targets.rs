//! HTTPS to targets: which certificates are accepted, what a failed handshake costs, what crosses.

use crate::support::origin::Then;
use crate::support::terminator::{Authority, Issued, Shaken};
use crate::support::{Origin, Program, SecureOrigin, Terminator, Visitor, World, until};
use rustls::ProtocolVersion;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

/// A balancer with one group of these targets (a, b ...) and these settings.
fn world(targets: &[&str], group: &str) -> World {
    let targets = ('a'..)
        .zip(targets)
        .map(|(id, address)| format!("{{ id = \"{id}\", address = \"{address}\" }}"));
    let targets = targets.collect::<Vec<_>>().join(", ");
    World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n\
         [target_group.app]\ntargets = [{targets}]\n{group}\n"
    ))
}

/// `tls` with the authority and `more`, and checks that only connect, so that only traffic shows
/// the results of handshakes.
fn verified(authority: &Authority, more: &str) -> String {
    format!(
        "tls = {{ ca = \"{}\"{more} }}\nhealth = {{ protocol = \"tcp\" }}",
        authority.ca().display()
    )
}

/// Status and reason of a single request to the only target.
fn outcome(address: &str, group: &str) -> (u16, Option<String>) {
    let world = world(&[address], group);
    let status = Visitor::of(world.address()).get("/").status;
    let record = world.record(|record| record["status"] == status);
    (status, record["error_reason"].as_str().map(str::to_owned))
}

fn failed(status: u16, reason: &str) -> (u16, Option<String>) {
    (status, Some(reason.to_owned()))
}

const SERVED: (u16, Option<String>) = (200, None);

/// Accepts connections, reads the first bytes, sends this text, and closes; keeps all it received.
fn answering(text: &'static str) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heard: Arc<Mutex<Vec<u8>>> = Arc::default();
    let hears = heard.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let hears = hears.clone();
            std::thread::spawn(move || {
                let mut bytes = [0; 4_096];
                let Ok(count @ 1..) = stream.read(&mut bytes) else { return };
                hears.lock().unwrap().extend_from_slice(&bytes[..count]);
                let _ = stream.write_all(text.as_bytes());
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest);
                hears.lock().unwrap().extend_from_slice(&rest);
            });
        }
    });
    (address, heard)
}

#[test]
fn a_certificate_must_be_signed_by_ca_for_the_name_and_the_time() {
    let (authority, other) = (Authority::new(), Authority::new());
    let origin = Origin::named("a");
    let by_name = "app.shop.internal";
    let refused = || failed(502, "target_certificate_refused");
    let named = ", server_name = \"app.shop.internal\"";
    for (what, issued, more, expected) in [
        ("good", authority.issue(by_name), named, SERVED),
        ("a wildcard", authority.issue("*.shop.internal"), named, SERVED),
        ("another name", authority.issue("db.shop.internal"), named, refused()),
        ("expired", authority.issue_expired(by_name), named, refused()),
        ("of another authority", other.issue(by_name), named, refused()),
        ("self-signed", Issued::by_itself(by_name), named, refused()),
        ("for the address", authority.issue("127.0.0.1"), "", SERVED),
        ("for another address", authority.issue("127.0.0.2"), "", refused()),
        ("for a name, asked for the address", authority.issue(by_name), "", refused()),
    ] {
        let target = Terminator::new(&origin, issued);
        let address = target.address().to_string();
        assert_eq!(outcome(&address, &verified(&authority, more)), expected, "{what}");
        if expected == SERVED {
            let alpn = target.shaken().pop().unwrap().alpn;
            assert_eq!(alpn.as_deref(), Some(&b"http/1.1"[..]), "{what}");
        } else {
            until("the alert", || target.attempts().iter().any(Result::is_err).then_some(()));
        }
    }
    assert_eq!(origin.heard().len(), 3, "nothing was asked of those who were refused");
}

#[test]
fn with_verify_false_any_certificate_is_accepted_as_in_alb() {
    let (authority, origin) = (Authority::new(), Origin::named("a"));
    for issued in [
        Issued::by_itself("unknown.example"),
        authority.issue_expired("unknown.example"),
        authority.issue("127.0.0.2"),
    ] {
        let target = Terminator::new(&origin, issued);
        let world = world(&[&target.address().to_string()], "tls = { verify = false }");
        assert_eq!(Visitor::of(world.address()).get("/").body, "a");
        // The check used the same TLS settings, without ALPN.
        assert!(!origin.checks().is_empty());
    }
}

#[test]
fn a_name_is_sent_as_sni_and_an_address_never_is() {
    let (authority, origin) = (Authority::new(), Origin::named("a"));
    for (name, address, more, sni) in [
        ("localhost", "localhost", "", Some("localhost")),
        ("app.internal", "localhost", ", server_name = \"app.internal\"", Some("app.internal")),
        ("app.internal", "127.0.0.1", ", server_name = \"app.internal\"", Some("app.internal")),
        ("127.0.0.1", "127.0.0.1", "", None),
        ("127.0.0.1", "localhost", ", server_name = \"127.0.0.1\"", None),
    ] {
        let target = Terminator::new(&origin, authority.issue(name));
        let address = format!("{address}:{}", target.address().port());
        assert_eq!(outcome(&address, &verified(&authority, more)), SERVED, "{address}{more}");
        assert_eq!(target.shaken()[0].sni.as_deref(), sni, "{address}{more}");
    }
}

#[test]
fn tls_1_2_and_1_3_work_and_the_next_connection_resumes() {
    for (version, spoken) in [
        (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
        (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let authority = Authority::new();
        let origin = Origin::saying(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na",
            Then::Close,
        );
        let target = Terminator::speaking(&[version], &origin, authority.issue("127.0.0.1"));
        let world = world(&[&target.address().to_string()], &verified(&authority, ""));
        let mut visitor = Visitor::of(world.address());
        for _ in 0..4 {
            assert_eq!(visitor.get("/").body, "a");
        }
        let alpn = Some(b"http/1.1".to_vec());
        let shaken = |is_resumed| Shaken {
            sni: None,
            alpn: alpn.clone(),
            version: Some(spoken),
            is_resumed,
        };
        let expected = [shaken(false), shaken(true), shaken(true), shaken(true)];
        assert_eq!(target.shaken(), expected, "each request took a connection of its own");
    }
}

#[test]
fn a_tls_connection_to_a_target_is_reused() {
    let authority = Authority::new();
    let origin = Origin::named("a");
    let target = Terminator::new(&origin, authority.issue("127.0.0.1"));
    let world = world(&[&target.address().to_string()], &verified(&authority, ""));
    let mut visitor = Visitor::of(world.address());
    for _ in 0..20 {
        assert_eq!(visitor.get("/").body, "a");
    }
    assert_eq!(target.shaken().len(), 1);
    assert_eq!(origin.heard().last().unwrap().nth, 19);
}

#[test]
fn bodies_chunks_and_trailers_cross_tls_both_ways_unchanged() {
    const LONG: usize = 5 << 20;
    let authority = Authority::new();
    let origin = Origin::scripted(|request, stream| {
        if request.path() == "/trailers" {
            assert_eq!(request.body, b"abcde");
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n");
        } else {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len());
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&request.body);
        }
        Then::KeepAlive
    });
    let target = Terminator::new(&origin, authority.issue("127.0.0.1"));
    let world = world(&[&target.address().to_string()], &verified(&authority, ""));
    let mut visitor = Visitor::of(world.address());
    let body: String = (0..LONG / 8).map(|at| format!("{at:08}")).collect();
    let answer = visitor.ask("POST", "/", &[], &body);
    assert!(answer.whole && answer.body == body, "{} bytes came back", answer.body.len());
    visitor.send(
        "POST /trailers HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\
         Transfer-Encoding: chunked\r\nTrailer: X-Up\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Up: 7\r\n\r\n",
    );
    let answer = visitor.read_answer(false);
    assert_eq!(
        (answer.body.as_str(), &answer.trailers[..]),
        ("hello", &["x-sum: 5".to_owned()][..])
    );
    let heard = origin.heard().pop().unwrap();
    assert!(heard.head.to_ascii_lowercase().contains("x-up: 7"), "{}", heard.head);
    assert_eq!(target.shaken().len(), 1);
}

#[test]
fn a_close_delimited_response_is_complete_only_with_close_notify() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for sends_close_notify in [true, false] {
            let target =
                SecureOrigin::ending("HTTP/1.1 200 OK\r\n\r\nhalf", version, sends_close_notify);
            let group = "tls = { verify = false }\nhealth = { protocol = \"tcp\" }";
            let world = world(&[&target.address().to_string()], group);
            let answer = Visitor::of(world.address()).get("/");
            // The number of bytes that still arrive depends on timing.
            assert_eq!(answer.whole, sends_close_notify);
            assert!(answer.body == "half" || !answer.whole, "{}", answer.body);
        }
    }
}

#[test]
fn ca_may_be_the_targets_own_certificate_or_one_of_several() {
    let (authority, origin) = (Authority::new(), Origin::named("a"));
    let itself = Issued::by_itself("app.internal");
    let all = std::fs::read_to_string(authority.ca()).unwrap() + "# and itself\n" + &itself.pem();
    std::fs::write(authority.ca(), all).unwrap();
    let group = verified(&authority, ", server_name = \"app.internal\"");
    for issued in [itself, authority.issue("app.internal")] {
        let target = Terminator::new(&origin, issued);
        assert_eq!(outcome(&target.address().to_string(), &group), SERVED);
    }
}

#[test]
fn without_ca_the_system_certificates_are_trusted() {
    let (authority, other) = (Authority::new(), Authority::new());
    let origin = Origin::named("a");
    let known = Terminator::new(&origin, authority.issue("127.0.0.1"));
    let unknown = Terminator::new(&origin, other.issue("127.0.0.1"));
    for (target, status) in [(&known, 200), (&unknown, 502)] {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"off\" }}\n\
             [listener.web]\naddress = \"127.0.0.1:0\"\n\
             [target_group.app]\ntargets = [\"{}\"]\ntls = {{}}\n",
            target.address()
        );
        let program = Program::run_with(dir.path(), &text, &[("SSL_CERT_FILE", &authority.ca())]);
        assert_eq!(Visitor::of(program.address()).get("/").status, status);
    }
}

#[test]
fn a_body_is_streamed_over_tls_as_it_arrives() {
    let authority = Authority::new();
    let origin = Origin::scripted(|request, stream| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len());
        let _ = stream.write_all(&[head.as_bytes(), &request.body].concat());
        Then::KeepAlive
    });
    let target = Terminator::new(&origin, authority.issue("127.0.0.1"));
    let world = world(&[&target.address().to_string()], &verified(&authority, ""));
    let mut visitor = Visitor::of(world.address());
    visitor.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234");
    until("the connection is made", || (!target.shaken().is_empty()).then_some(()));
    visitor.send("56789");
    assert_eq!(visitor.read_answer(false).body, "0123456789");
}

#[test]
fn a_websocket_goes_through_tls_and_ends_with_its_target() {
    let authority = Authority::new();
    let origin = Origin::scripted(|_, stream| {
        let _ = stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello",
        );
        let mut scratch = [0; 4];
        stream.read_exact(&mut scratch).unwrap();
        stream.write_all(&scratch).unwrap();
        Then::Close
    });
    let target = Terminator::new(&origin, authority.issue("127.0.0.1"));
    let world = world(&[&target.address().to_string()], &verified(&authority, ""));
    let mut visitor = Visitor::of(world.address());
    visitor.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\nping");
    let mut all = String::new();
    visitor.stream().read_to_string(&mut all).unwrap();
    assert!(all.starts_with("HTTP/1.1 101 ") && all.ends_with("\r\n\r\nhelloping"), "{all}");
    visitor.leave();
    let record = world.record(|record| record["type"] == "ws");
    assert_eq!(record["error_reason"].as_str(), None, "{record}");
}

#[test]
fn a_target_with_a_failed_handshake_gets_no_plain_text() {
    let (talks, heard) = answering("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    let (closes, _) = answering("");
    for (address, reason) in [(talks, "target_tls_failed"), (closes, "target_tls_failed")] {
        for tls in ["{ verify = false }", "{}"] {
            let group = format!("tls = {tls}\nhealth = {{ protocol = \"tcp\" }}");
            assert_eq!(outcome(&address.to_string(), &group), failed(502, reason), "{tls}");
        }
    }
    let heard = heard.lock().unwrap();
    assert!(!heard.is_empty());
    for plain in ["GET", "shop.example", "HTTP"] {
        assert!(!heard.windows(plain.len()).any(|window| window == plain.as_bytes()), "{plain}");
    }
}

#[test]
fn a_hanging_handshake_is_504_after_the_connect_time_out() {
    // The kernel accepts connections, but no process reads or writes.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let group = "tls = { verify = false }\nhealth = { protocol = \"tcp\" }\n\
                 upstream = { timeouts = { connect = \"200ms\" } }";
    let address = silent.local_addr().unwrap().to_string();
    assert_eq!(outcome(&address, group), failed(504, "target_connect_timeout"));
}

#[test]
fn every_kind_of_failed_handshake_is_retried_on_the_next_target() {
    let authority = Authority::new();
    let origin = Origin::named("b");
    let good = Terminator::new(&origin, authority.issue("app.internal"));
    let impostor = Terminator::new(&Origin::named("x"), Issued::by_itself("app.internal"));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (talks, _) = answering("HTTP/1.1 400 Bad Request\r\n\r\n");
    for bad in [impostor.address(), silent.local_addr().unwrap(), talks] {
        let group = format!(
            "{}\nupstream = {{ timeouts = {{ connect = \"300ms\" }} }}",
            verified(&authority, ", server_name = \"app.internal\"")
        );
        let world = world(&[&bad.to_string(), &good.address().to_string()], &group);
        for _ in 0..2 {
            // One of two new clients in turn reaches the bad one first; a POST may be retried too.
            let answer = Visitor::of(world.address()).ask("POST", "/", &[], "body");
            assert_eq!((answer.status, answer.body.as_str()), (200, "b"), "{bad}");
        }
        let record = world.record(|record| record["attempts"] == 2);
        assert_eq!(record["target"], "b", "{record}");
    }
}

#[test]
fn failed_handshakes_in_traffic_make_a_target_suspect() {
    let authority = Authority::new();
    let impostor = Terminator::new(&Origin::named("x"), Issued::by_itself("app.internal"));
    let world = world(&[&impostor.address().to_string()], &verified(&authority, ""));
    let healthy = || world.availability(0).health == stayput::testing::model::live::Health::Healthy;
    until("it can be connected to", || healthy().then_some(()));
    for _ in 0..3 {
        assert_eq!(Visitor::of(world.address()).get("/").status, 502);
    }
    until("it is marked", || (!healthy()).then_some(()));
}

#[test]
fn checks_of_a_group_with_tls_use_its_tls_settings() {
    let authority = Authority::new();
    let (origin, wrong) = (Origin::named("a"), Origin::named("b"));
    let good = Terminator::new(&origin, authority.issue("app.internal"));
    let bad = Terminator::new(&wrong, authority.issue("db.internal"));
    let targets = [good.address().to_string(), bad.address().to_string()];
    let targets = targets.each_ref().map(String::as_str);
    let tls = format!(
        "tls = {{ ca = \"{}\", server_name = \"app.internal\" }}\n",
        authority.ca().display()
    );
    use stayput::testing::model::live::Health::{Healthy, Unhealthy};
    const FAST: &str = "interval = \"100ms\", fast_interval = \"100ms\", unhealthy_threshold = 1";
    for (protocol, expected) in [
        ("", [Healthy, Unhealthy]),
        (", protocol = \"https\"", [Healthy, Unhealthy]),
        // Plain on purpose: a target that supports only TLS fails it.
        (", protocol = \"http\"", [Unhealthy, Unhealthy]),
        (", protocol = \"tcp\"", [Healthy, Healthy]),
    ] {
        let world = world(&targets, &format!("{tls}health = {{ {FAST}{protocol} }}"));
        until(&format!("{expected:?} with {protocol:?}"), || {
            ([0, 1].map(|at| world.availability(at).health) == expected).then_some(())
        });
    }
    assert_eq!(good.shaken()[0].sni.as_deref(), Some("app.internal"));
    assert!(!origin.checks().is_empty() && wrong.checks().is_empty());
    assert!(good.shaken().iter().all(|shaken| !shaken.is_resumed), "each check is whole");
}

#[test]
fn failed_handshakes_are_logged_with_target_and_cause_and_limited() {
    let authority = Authority::new();
    let impostor = Terminator::new(&Origin::named("x"), Issued::by_itself("app.internal"));
    let dir = tempfile::tempdir().unwrap();
    let program = Program::run(
        dir.path(),
        &format!(
            "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"off\" }}\n\
             [listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\n\
             targets = [{{ id = \"s1\", address = \"{}\" }}]\n\
             tls = {{ ca = \"{}\", server_name = \"app.internal\" }}\n\
             health = {{ protocol = \"tcp\", passive = {{ connect_failures = 0 }} }}\n",
            impostor.address(),
            authority.ca().display()
        ),
    );
    let address = program.address();
    for _ in 0..5 {
        assert_eq!(Visitor::of(address).get("/").status, 502);
    }
    let line = program.line(&["TLS handshake with a target failed", "s1"]);
    assert!(line.contains("UnknownIssuer") && line.contains("app"), "{line}");
    let told = program
        .lines()
        .into_iter()
        .filter(|line| line.contains("TLS handshake with a target failed"));
    assert_eq!(told.count(), 1);
}

#[test]
fn missing_system_certificates_are_reported_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let path = dir.path().join("stayput.toml");
    let text = |tls: &str| {
        format!(
            "[runtime]\nstate_dir = \"state\"\n[listener.web]\naddress = \"127.0.0.1:0\"\n\
             [target_group.app]\ntargets = [\"127.0.0.1:1\"]\ntls = {{ {tls} }}\n"
        )
    };
    std::fs::write(&path, text("")).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_stayput"));
    command.arg("run").arg("-c").arg(&path).env("SSL_CERT_FILE", &empty);
    let run = command.env_remove("SSL_CERT_DIR").output().unwrap();
    let told = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(1), "{told}");
    assert!(told.contains("no system CA certificates") && told.contains("SSL_CERT_FILE"), "{told}");
}

#[test]
fn explain_says_that_a_target_is_reached_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stayput.toml");
    let text = "[listener.web]\naddress = \"127.0.0.1:8080\"\n[target_group.app]\n\
                targets = [{ id = \"s1\", address = \"10.0.0.1:8443\" }]\ntls = { verify = false }\n\
                stickiness = { header = { name = \"x-session-id\" } }\n";
    std::fs::write(&path, text).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_stayput"));
    let run = command
        .args(["explain", "http://127.0.0.1:8080/", "-H", "x-session-id: 7", "-c"])
        .arg(&path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(said.contains("s1  https://10.0.0.1:8443"), "{said}");
}
