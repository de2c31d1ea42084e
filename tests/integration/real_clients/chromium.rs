//! Chromium: a page, its fetches and its WebSockets.

use super::websockets::{FAST, Replicas};
use super::{NAME, listener};
use crate::support::tool::has;
use crate::support::{Authority, Tool};
use data_encoding::BASE64;
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::process::Command;

/// Opens `page.html` over HTTPS and returns the text that its script wrote into it.
fn seen(authority: &Authority, address: SocketAddr, options: &[&str]) -> serde_json::Value {
    let page = opened(authority, &format!("https://{NAME}:{}/", address.port()), options);
    let result = result(&page);
    serde_json::from_str(&result).unwrap_or_else(|_| panic!("{page}"))
}

/// Opens a URL of the shop and returns the resulting page.
pub(super) fn opened(authority: &Authority, url: &str, options: &[&str]) -> String {
    let profile = tempfile::tempdir().unwrap();
    // The browser trusts only this key; the certificate store belongs to the whole machine.
    let certificate = std::fs::read(authority.dir().join("shop.pem")).unwrap();
    let (_, certificate) = x509_parser::pem::parse_x509_pem(&certificate).unwrap();
    let certificate = certificate.parse_x509().unwrap();
    let key = BASE64.encode(&Sha256::digest(certificate.tbs_certificate.subject_pki.raw));
    let mut command = Command::new("chromium");
    command
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--no-first-run", "--disable-background-networking", "--disable-extensions"])
        // This would rewrite http URLs to https.
        .arg("--disable-features=HttpsUpgrades,HttpsFirstBalancedModeAutoEnable")
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--host-resolver-rules=MAP {NAME} 127.0.0.1"))
        .arg(format!("--ignore-certificate-errors-spki-list={key}"))
        .arg("--dump-dom")
        .args(options)
        .arg(url);
    let done = Tool::start(&mut command).done();
    assert!(done.output.contains("id=\"result\""), "{done:?}");
    done.output
}

/// The result that a page of the shop shows.
pub(super) fn result(page: &str) -> String {
    let result = page.split_once("<pre id=\"result\">").and_then(|(_, rest)| rest.split_once('<'));
    result.unwrap_or_else(|| panic!("{page}")).0.to_owned()
}

/// Checks that a page, its fetches one by one and at once, and its WebSockets reach one replica.
fn stays(options: &[&str], protocol: &str, version: &str) {
    if !has(&["chromium"]) {
        return;
    }
    let Some(replicas) = Replicas::start() else { return };
    let (authority, world) = replicas.before("", FAST);
    let seen = seen(&authority, listener(&world, "secure"), options);
    let home = &seen["home"];
    assert_eq!(seen["protocol"], protocol, "{seen}");
    for (list, length) in [("one_by_one", 5), ("at_once", 20)] {
        let names = seen[list].as_array().unwrap();
        assert!(names.len() == length && names.iter().all(|name| name == home), "{seen}");
    }
    let fetched = seen["fetched"].as_array().unwrap();
    assert!(fetched.len() == 25 && fetched.iter().all(|one| one == protocol), "{seen}");
    for (at, said) in ["hallo", "again"].into_iter().enumerate() {
        let socket = &seen["sockets"][at];
        assert_eq!(socket["heard"], serde_json::json!([home, said]), "{seen}");
        assert_eq!(socket["code"], 4000, "{seen}");
    }
    let socket = world.record(|record| record["uri"] == "/who");
    assert_eq!((&socket["type"], &socket["version"]), (&"wss".into(), &version.into()));
    assert!(socket["sticky"] == "hit" && socket["error_reason"].is_null(), "{socket}");
}

#[test]
fn a_browser_stays_over_http_1_1() {
    stays(&["--disable-http2"], "http/1.1", "HTTP/1.1");
}

#[test]
fn a_browser_stays_over_http_2_with_its_websockets() {
    stays(&[], "h2", "HTTP/2.0");
}
