//! curl with each version of HTTP that it supports.

use super::{NAME, Shop};
use crate::support::Tool;
use crate::support::tool::has;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// The figures that curl reports of one exchange.
#[derive(Debug)]
struct Told {
    version: String,
    status: String,
    verdict: String,
    target: String,
    body: Vec<u8>,
}

/// curl with a cookie jar in this directory.
struct Curl<'s> {
    shop: &'s Shop,
    dir: &'s Path,
    options: &'s [&'s str],
}

impl Curl<'_> {
    fn ask(&self, scheme: &str, address: SocketAddr, more: &[&str]) -> Told {
        let path = |name: &str| self.dir.join(name).display().to_string();
        let format = "version=%{http_version}\nstatus=%{response_code}\n\
                      verdict=%header{x-stayput-verdict}\ntarget=%header{x-stayput-target}\n";
        let port = address.port();
        let mut command = Command::new("curl");
        command
            .args(["-sS", "--max-time", "30", "-c", &path("jar"), "-b", &path("jar")])
            .args(["-o", &path("body"), "-w", format])
            .arg("--cacert")
            .arg(self.shop.authority.path())
            .args(["--resolve", &format!("{NAME}:{port}:127.0.0.1")])
            .args(self.options)
            .args(more)
            .arg(format!("{scheme}://{NAME}:{port}/cart"));
        let mut tool = Tool::start(&mut command);
        let mut value = |name: &str| tool.line(&format!("{name}="));
        let [version, status] = ["version", "status"].map(&mut value);
        let [verdict, target] = ["verdict", "target"].map(&mut value);
        tool.output();
        // Older versions print 1.0 as `1`.
        let version = version.trim_end_matches(".0").to_owned();
        let body = std::fs::read(self.dir.join("body")).unwrap();
        Told { version, status, verdict, target, body }
    }
}

/// Sends several requests with one cookie jar, and a body that comes back; other clients take
/// turns.
fn stays(scheme: &str, options: &[&str], version: &str) {
    if !has(&["curl"]) {
        return;
    }
    let (shop, dir) = (Shop::open(), tempfile::tempdir().unwrap());
    let address = if scheme == "https" { shop.secure() } else { shop.plain() };
    let curl = Curl { shop: &shop, dir: dir.path(), options };
    let first = curl.ask(scheme, address, &[]);
    assert_eq!((&*first.version, &*first.status, &*first.verdict), (version, "200", "new"));
    assert_eq!(first.body, first.target.as_bytes());
    for _ in 0..5 {
        let again = curl.ask(scheme, address, &[]);
        assert_eq!((&*again.version, &*again.verdict), (version, "hit"));
        assert_eq!(again.target, first.target);
    }
    let sent: Vec<u8> = (0..1_000_000_u32).map(|at| (at / 7) as u8).collect();
    let file = dir.path().join("upload");
    std::fs::write(&file, &sent).unwrap();
    let upload = ["--data-binary", &format!("@{}", file.display())];
    let answered = curl.ask(scheme, address, &upload);
    assert_eq!(
        (&*answered.version, &*answered.status, &*answered.verdict),
        (version, "200", "hit")
    );
    assert_eq!(answered.target, first.target);
    assert!(answered.body == sent, "{} bytes came back", answered.body.len());
    let met = [(); 4].map(|()| {
        let dir = tempfile::tempdir().unwrap();
        Curl { shop: &shop, dir: dir.path(), options }.ask(scheme, address, &[]).target
    });
    assert!(met.contains(&"a".to_owned()) && met.contains(&"b".to_owned()), "{met:?}");
}

#[test]
fn curl_stays_over_http_1_0() {
    // Responses have the version of the balancer (RFC 9110 section 6.2).
    stays("http", &["--http1.0"], "1.1");
}

#[test]
fn curl_stays_over_http_1_0_and_tls() {
    stays("https", &["--http1.0"], "1.1");
}

#[test]
fn curl_stays_over_http_1_1() {
    stays("http", &["--http1.1"], "1.1");
}

#[test]
fn curl_stays_over_http_1_1_and_tls() {
    stays("https", &["--http1.1"], "1.1");
}

#[test]
fn curl_that_offers_h2c_upgrade_is_served_by_http_1_1() {
    stays("http", &["--http2"], "1.1");
}

#[test]
fn curl_stays_over_http_2_and_tls() {
    stays("https", &["--http2"], "2");
}

#[test]
fn curl_stays_over_http_2_by_prior_knowledge() {
    stays("http", &["--http2-prior-knowledge"], "2");
}

#[test]
fn curl_stays_over_http_2_by_prior_knowledge_and_tls() {
    stays("https", &["--http2-prior-knowledge"], "2");
}
