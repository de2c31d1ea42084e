//! `openssl s_client`: SNI, ALPN, sessions, and plain HTTP on a TLS port.

use super::{NAME, Shop};
use crate::support::Tool;
use crate::support::tool::{Done, has};
use std::process::Command;

/// Runs `s_client` with these options and sends one request.
fn visit(shop: &Shop, options: &[&str]) -> Done {
    let mut command = Command::new("openssl");
    command
        .args(["s_client", "-connect", &shop.secure().to_string(), "-servername", NAME])
        .arg("-CAfile")
        .arg(shop.authority.path())
        .args(options);
    let mut tool = Tool::start(&mut command);
    // After a failed handshake the process has already exited.
    tool.tell("GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r");
    tool.done()
}

#[test]
fn openssl_negotiates_name_version_and_protocol() {
    if !has(&["openssl"]) {
        return;
    }
    let shop = Shop::open();
    for (option, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let done = visit(&shop, &[option, "-alpn", "http/1.1", "-verify_hostname", NAME]);
        let said = &done.output;
        assert!(said.contains("Verify return code: 0 (ok)"), "{done:?}");
        assert!(said.contains(&format!("\nNew, {version}, Cipher is ")), "{said}");
        assert!(said.contains("ALPN protocol: http/1.1"), "{said}");
        assert!(said.contains(" 200 OK\r\n"), "{said}");
    }
    let both = visit(&shop, &["-alpn", "http/1.1,h2"]);
    assert!(both.output.contains("ALPN protocol: h2"), "the server chooses: {both:?}");
    // Without ALPN the protocol is HTTP/1.1 too.
    let done = visit(&shop, &[]);
    assert!(done.output.contains("No ALPN negotiated"), "{done:?}");
    assert!(done.output.contains(" 200 OK\r\n"), "{done:?}");
}

#[test]
fn openssl_is_refused_an_unknown_protocol_and_an_old_version() {
    if !has(&["openssl"]) {
        return;
    }
    let shop = Shop::open();
    let done = visit(&shop, &["-alpn", "spdy/3"]);
    assert!(done.errors.contains("alert no application protocol"), "{done:?}");
    let old = visit(&shop, &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"]);
    // The kind of alert depends on the cipher suites that are offered with it.
    assert!(old.code == Some(1) && old.errors.contains("SSL alert number "), "{old:?}");
    assert_eq!(shop.heard(), [0, 0]);
}

#[test]
fn openssl_resumes_a_session_in_both_versions() {
    if !has(&["openssl"]) {
        return;
    }
    let (shop, dir) = (Shop::open(), tempfile::tempdir().unwrap());
    let session = dir.path().join("session").display().to_string();
    for version in ["-tls1_2", "-tls1_3"] {
        let first = visit(&shop, &[version, "-sess_out", &session]).output;
        assert!(first.contains("\nNew, ") && first.contains(" 200 OK"), "{first}");
        for _ in 0..4 {
            let again = visit(&shop, &[version, "-sess_in", &session]).output;
            assert!(again.contains("\nReused, ") && again.contains(" 200 OK"), "{again}");
        }
    }
}

#[test]
fn plain_http_on_a_tls_port_gets_400() {
    if !has(&["curl"]) {
        return;
    }
    let shop = Shop::open();
    let url = format!("http://{}/", shop.secure());
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "30", "-o", "/dev/null", "-w", "%{response_code}", &url]);
    assert_eq!(Tool::start(&mut command).output(), "400");
    assert_eq!(shop.heard(), [0, 0]);
}
