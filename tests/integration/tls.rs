//! HTTPS listeners: certificates, sessions, and the fields and logs that name them.

use crate::support::origin::Then;
use crate::support::tool::has;
use crate::support::{Authority, Browser, Origin, World};
use std::io::{Read, Write};
use std::process::Command;
use std::time::Duration;

/// A balancer with a listener `web` with these certificates, and `more` in its `tls`.
fn world(origin: &Origin, certificates: &str, more: &str) -> World {
    let tls = format!("tls = {{ certificates = [{certificates}]{more} }}");
    World::new(&[origin], &tls, "")
}

#[test]
fn curl_over_tls_shows_in_the_forwarded_fields_cookie_and_log() {
    if !has(&["curl"]) {
        return;
    }
    let (authority, origin) = (Authority::new(), Origin::named("a"));
    let shop = authority.sign("shop", &["shop.example"]);
    let world = world(&origin, &shop.entry(), "");
    let port = world.address().port();
    for (nth, (version, first_line, path, kind)) in [
        ("--http1.1", "HTTP/1.1 200 OK\r\n", "/cart", "https"),
        ("--http2", "HTTP/2 200 \r\n", "/basket", "h2"),
    ]
    .into_iter()
    .enumerate()
    {
        let output = Command::new("curl")
            .args(["-sSi", version, "--cacert", authority.path().to_str().unwrap()])
            .args(["--resolve", &format!("shop.example:{port}:127.0.0.1")])
            .args(["-H", "x-amzn-tls-version: SSLv2", "-H", "X-Amzn-Mtls-Clientcert: forged"])
            .arg(format!("https://shop.example:{port}{path}"))
            .output()
            .unwrap();
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(answer.starts_with(first_line), "{answer}{output:?}");
        let cookies: Vec<&str> =
            answer.lines().filter(|line| line.starts_with("set-cookie: ")).collect();
        assert!(cookies.iter().all(|line| line.contains("; Secure")), "{cookies:?}");
        assert!(cookies.iter().any(|line| line.contains(" AWSALBCORS=")), "{cookies:?}");
        let heard = &origin.heard()[nth];
        assert_eq!(heard.field("x-forwarded-proto").as_deref(), Some("https"));
        assert_eq!(heard.field("x-forwarded-port"), Some(port.to_string()));
        assert_eq!(heard.field("host"), Some(format!("shop.example:{port}")));
        for forged in ["x-amzn-tls-version", "x-amzn-mtls-clientcert"] {
            assert_eq!(heard.field(forged), None);
        }
        let record = world.record(|record| record["uri"] == path);
        assert_eq!((&record["type"], &record["status"]), (&kind.into(), &200.into()));
        assert_eq!(record["tls"]["version"], "TLSv1.3");
        assert_eq!(record["tls"]["server_name"], "shop.example");
    }
}

#[test]
fn a_client_gets_the_certificate_for_its_sni_name() {
    let (authority, origin) = (Authority::new(), Origin::named("a"));
    let first = authority.sign("first", &["shop.example", "other.example"]);
    let wild = authority.sign("wild", &["*.shop.example"]);
    let exact = authority.sign("exact", &["www.shop.example"]);
    let rsa = authority.sign_for("rsa", &["both.example"], &rcgen::PKCS_RSA_SHA256);
    let ecdsa = authority.sign("ecdsa", &["both.example"]);
    let entries = [&first, &wild, &exact, &rsa, &ecdsa].map(|one| one.entry()).join(", ");
    let world = world(&origin, &entries, "");
    let browser = Browser::trusting(&authority);
    let shown = |browser: &Browser, name: &str| {
        let connection = browser.connect(world.address(), name).unwrap();
        connection.was_shown().to_vec()
    };
    assert_eq!(shown(&browser, "shop.example"), first.der.as_ref());
    assert_eq!(shown(&browser, "img.shop.example"), wild.der.as_ref());
    assert_eq!(shown(&browser, "www.shop.example"), exact.der.as_ref());
    assert_eq!(shown(&browser, "both.example"), ecdsa.der.as_ref());
    // A client that supports only RSA; in TLS 1.2 the cipher suite states it.
    let old = Browser::with(&authority, &[&rustls::version::TLS12], None, |config| {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        let is_rsa = |suite: &rustls::SupportedCipherSuite| {
            suite.suite().as_str().is_some_and(|name| name.contains("ECDHE_RSA"))
        };
        provider.cipher_suites.retain(is_rsa);
        let roots = {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(authority.der()).unwrap();
            roots
        };
        *config = rustls::ClientConfig::builder_with_provider(provider.into())
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    });
    assert_eq!(shown(&old, "both.example"), rsa.der.as_ref());
    // An unknown name gets the first certificate, which the client then refuses.
    assert!(browser.connect(world.address(), "unknown.example").is_err());
}

#[test]
fn a_ticket_resumes_on_any_worker_in_both_tls_versions() {
    let (authority, origin) = (Authority::new(), Origin::named("a"));
    let shop = authority.sign("shop", &["shop.example"]);
    let world = world(&origin, &shop.entry(), "");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let browser = Browser::with(&authority, &[version], None, |_| {});
        for nth in 0..8 {
            let mut connection = browser.connect(world.address(), "shop.example").unwrap();
            // TLS 1.3 tickets come with the first response.
            assert!(connection.get("/").unwrap().contains(" 200 OK"));
            assert_eq!(connection.is_resumed(), nth > 0, "{version:?} {nth}");
            assert_eq!(connection.version(), version.version);
        }
    }
    world.record(|record| record["tls"]["certificate"] == "session-reused");
}

#[test]
fn albs_log_names_cipher_version_server_name_and_certificate() {
    let (authority, origin) = (Authority::new(), Origin::named("a"));
    let shop = authority.sign("shop", &["shop.example"]);
    let tls = format!("tls = {{ certificates = [{}], tls_headers = true }}", shop.entry());
    let world = World::of_text(&format!(
        "[log]\naccess = {{ to = \"access.log\", format = \"alb\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n{tls}\n\
         [target_group.app]\ntargets = [\"{}\"]\n",
        origin.address()
    ));
    let browser = Browser::with(&authority, &[&rustls::version::TLS12], None, |_| {});
    browser.get(world.address(), "/first").unwrap();
    let line = world.line(|line| line.contains("/first"));
    assert!(line.starts_with("https "), "{line}");
    assert!(line.contains("\"GET https://shop.example:"), "{line}");
    let (cipher, version) = ("ECDHE-ECDSA-AES256-GCM-SHA384", "TLSv1.2");
    assert!(line.contains(&format!(" {cipher} {version} targetgroup/app/")), "{line}");
    assert!(line.contains(" \"shop.example\" \"certificate/"), "{line}");
    let heard = &origin.heard()[0];
    assert_eq!(heard.field("x-amzn-tls-version").as_deref(), Some(version));
    assert_eq!(heard.field("x-amzn-tls-cipher-suite").as_deref(), Some(cipher));
}

#[test]
fn replaced_certificates_serve_new_handshakes_unless_broken() {
    let (authority, origin) = (Authority::new(), Origin::named("a"));
    let old = authority.sign("shop", &["shop.example"]);
    let world = world(&origin, &old.entry(), "");
    let certificates = world.server().certificates()[0].clone().unwrap();
    let connect =
        || Browser::trusting(&authority).connect(world.address(), "shop.example").unwrap();
    let mut before = connect();
    assert_eq!(before.was_shown(), old.der.as_ref());
    let new = authority.sign("shop", &["shop.example"]);
    certificates.reload().unwrap();
    assert_eq!(connect().was_shown(), new.der.as_ref());
    // The other certificate's key with this certificate, then no key at all.
    std::fs::copy(&authority.sign("other", &["x.example"]).key_path, &new.key_path).unwrap();
    let refused = certificates.reload().unwrap_err();
    assert_eq!(refused.1.to_string(), "the private key does not match the certificate");
    std::fs::remove_file(&new.key_path).unwrap();
    assert!(certificates.reload().is_err());
    assert_eq!(connect().was_shown(), new.der.as_ref());
    // Existing connections are unchanged.
    assert!(before.get("/").unwrap().contains(" 200 OK"));
}

#[test]
fn megabyte_bodies_cross_tls_and_the_idle_connection_serves_again() {
    let authority = Authority::new();
    let echo = Origin::scripted(|heard, stream| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", heard.body.len());
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(&heard.body);
        Then::KeepAlive
    });
    let shop = authority.sign("shop", &["shop.example"]);
    let world = world(&echo, &shop.entry(), "");
    let browser = Browser::trusting(&authority);
    let mut connection = browser.connect(world.address(), "shop.example").unwrap();
    let body = "0123456789abcdef".repeat(128 << 10);
    for path in ["/first", "/second"] {
        let answer = connection
            .ask(&format!(
                "POST {path} HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ))
            .unwrap();
        assert!(answer.ends_with(&body), "{path}: {} bytes", answer.len());
        let record = world.record(|record| record["uri"] == path);
        let sent = record["sent_bytes"].as_u64().unwrap();
        assert_eq!(sent, answer.len() as u64, "bytes of HTTP are counted, not those of TLS");
        // Longer than the time after which buffers are given back.
        std::thread::sleep(Duration::from_millis(400));
    }
}

#[test]
fn a_tunnel_over_tls_is_one_row_of_type_wss() {
    let origin = Origin::scripted(|_, stream| {
        let _ = stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        let mut word = [0; 4];
        let _ = stream.read_exact(&mut word);
        let _ = stream.write_all(&word);
        Then::Close
    });
    let authority = Authority::new();
    let shop = authority.sign("shop", &["shop.example"]);
    let world = world(&origin, &shop.entry(), "");
    let mut connection =
        Browser::trusting(&authority).connect(world.address(), "shop.example").unwrap();
    let answer = connection
        .ask(
            "GET /socket HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n",
        )
        .unwrap();
    assert!(answer.contains(" 101 "), "{answer}");
    connection.stream.write_all(b"ping").unwrap();
    let mut echoed = [0; 4];
    connection.stream.read_exact(&mut echoed).unwrap();
    assert_eq!(&echoed, b"ping");
    drop(connection);
    assert_eq!(world.record(|record| record["uri"] == "/socket")["type"], "wss");
}

#[test]
fn a_redirect_keeps_the_scheme_of_the_request() {
    let (authority, origin) = (Authority::new(), Origin::named("a"));
    let shop = authority.sign("shop", &["shop.example"]);
    let world = World::of_text(&format!(
        "[log]\naccess = {{ to = \"off\" }}\n[listener.secure]\naddress = \"127.0.0.1:0\"\ntls = {{ certificates = [{}] }}\n\
         default = {{ redirect = {{ status = 302, path = \"/new\" }} }}\n\
         [target_group.app]\ntargets = [\"{}\"]\n",
        shop.entry(),
        origin.address()
    ));
    let answer = Browser::trusting(&authority).get(world.address(), "/old").unwrap();
    assert!(answer.contains("\r\nlocation: https://shop.example/new\r\n"), "{answer}");
}
