//! Clients with TLS certificates of their own.

use crate::support::{Authority, Browser, Origin, World, until};
use stayput::testing::policy::tls::fault::HandshakeFault;

fn world(authority: &Authority, origin: &Origin, client_auth: &str) -> World {
    let shop = authority.sign("shop", &["shop.example"]);
    let tls =
        format!("tls = {{ certificates = [{}], client_auth = {{ {client_auth} }} }}", shop.entry());
    World::new(&[origin], &tls, "")
}

fn verify(authority: &Authority) -> String {
    format!("mode = \"verify\", ca = {:?}", authority.path())
}

fn fault(world: &World, fault: HandshakeFault) {
    until(fault.word(), || {
        let counters = world.server().counters();
        counters.iter().any(|own| own.handshake_faults[fault as usize].value() > 0).then_some(())
    });
}

#[test]
fn a_verified_client_is_described_in_albs_fields_and_cannot_forge_them() {
    let (authority, origin) = (Authority::new(), Origin::named("a"));
    let world = world(&authority, &origin, &verify(&authority));
    let own = authority.sign_client("till 7", |parameters| {
        parameters.serial_number = Some(vec![0x03, 0xa5, 0xb1].into());
        parameters.not_before = rcgen::date_time_ymd(2025, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2035, 1, 1);
    });
    let mut connection =
        Browser::showing(&authority, &own).connect(world.address(), "shop.example").unwrap();
    let forged = "GET / HTTP/1.1\r\nHost: shop.example\r\nX-Amzn-Mtls-Clientcert: forged\r\n\
                  X-Amzn-Mtls-Clientcert-Subject: CN=root\r\nx_amzn_mtls_clientcert_leaf: y\r\n\r\n";
    assert!(connection.ask(forged).unwrap().contains(" 200 OK"));
    let heard = &origin.heard()[0];
    let field = |name: &str| heard.field(&format!("x-amzn-mtls-clientcert{name}"));
    assert_eq!(field("-serial-number").as_deref(), Some("03A5B1"));
    assert_eq!(field("-issuer").as_deref(), Some("CN=test authority"));
    assert!(field("-subject").unwrap().contains("CN=till 7"));
    let validity = "NotBefore=2025-01-01T00:00:00Z;NotAfter=2035-01-01T00:00:00Z";
    assert_eq!(field("-validity").as_deref(), Some(validity));
    assert!(field("-leaf").unwrap().starts_with("-----BEGIN%20CERTIFICATE-----%0A"));
    assert_eq!(field(""), None);
    assert!(!heard.head.contains("forged") && !heard.head.contains("x_amzn"), "{}", heard.head);
}

#[test]
fn a_client_without_a_valid_certificate_gets_no_connection() {
    let (authority, origin) = (Authority::new(), Origin::named("a"));
    let world = world(&authority, &origin, &verify(&authority));
    assert!(Browser::trusting(&authority).get(world.address(), "/").is_err());
    fault(&world, HandshakeFault::NoClientCertificate);
    let elsewhere = Authority::called("elsewhere");
    let untrusted = elsewhere.sign_client("elsewhere", |_| {});
    assert!(Browser::showing(&authority, &untrusted).get(world.address(), "/").is_err());
    fault(&world, HandshakeFault::ClientCertificateUntrusted);
    let expired = authority.sign_client("late", |parameters| {
        parameters.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    assert!(Browser::showing(&authority, &expired).get(world.address(), "/").is_err());
    fault(&world, HandshakeFault::ClientCertificateExpired);
    assert!(origin.heard().is_empty());
}

#[test]
fn passthrough_forwards_the_clients_certificate_or_no_field() {
    let (authority, origin) = (Authority::new(), Origin::named("a"));
    let world = world(&authority, &origin, "mode = \"passthrough\"");
    let elsewhere = Authority::called("elsewhere");
    let untrusted = elsewhere.sign_client("elsewhere", |_| {});
    Browser::showing(&authority, &untrusted).get(world.address(), "/").unwrap();
    Browser::trusting(&authority).get(world.address(), "/").unwrap();
    let heard = origin.heard();
    let shown = heard[0].field("x-amzn-mtls-clientcert").unwrap();
    let pem = std::fs::read_to_string(&untrusted.cert_path).unwrap();
    let decoded = shown.replace("%20", " ").replace("%0A", "\n");
    assert_eq!(decoded, pem.replace("\r\n", "\n"));
    assert_eq!(heard[1].field("x-amzn-mtls-clientcert"), None);
}

#[test]
fn no_session_is_resumed_on_a_listener_with_client_certificates() {
    let (authority, origin) = (Authority::new(), Origin::named("a"));
    let own = authority.sign_client("till 7", |_| {});
    for client_auth in [verify(&authority), "mode = \"passthrough\"".to_owned()] {
        let world = world(&authority, &origin, &client_auth);
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let browser = Browser::with(&authority, &[version], Some(&own), |_| {});
            for _ in 0..2 {
                let mut connection = browser.connect(world.address(), "shop.example").unwrap();
                assert!(connection.get("/").unwrap().contains(" 200 OK"));
                assert!(!connection.is_resumed(), "{client_auth} {version:?}");
            }
        }
    }
}

#[test]
fn a_ticket_is_valid_only_on_its_own_listener() {
    let (authority, origin) = (Authority::new(), Origin::named("a"));
    let shop = authority.sign("shop", &["shop.example"]);
    let listener = |name: &str| {
        let tls = format!("tls = {{ certificates = [{}] }}", shop.entry());
        format!("[listener.{name}]\naddress = \"127.0.0.1:0\"\n{tls}\n")
    };
    let world = World::of_text(&format!(
        "[log]\naccess = {{ to = \"off\" }}\n{}{}[target_group.app]\ntargets = [\"{}\"]\n",
        listener("one"),
        listener("two"),
        origin.address()
    ));
    let browser = Browser::trusting(&authority);
    let resumed = |at: usize| {
        let address = world.server().addresses()[at].1;
        let mut connection = browser.connect(address, "shop.example").unwrap();
        connection.get("/").unwrap();
        connection.is_resumed()
    };
    assert_eq!([resumed(0), resumed(0), resumed(1)], [false, true, false]);
}
