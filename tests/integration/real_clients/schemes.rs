//! Chromium, curl and Python, redirected from https to http and back on one host.

use super::{NAME, before, chromium, listener};
use crate::support::origin::{Heard, Then};
use crate::support::tool::{found, has};
use crate::support::{Authority, Origin, Tool, World};
use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::sync::{Arc, OnceLock};

/// The schemes of the redirects, in order.
const SCHEMES: [&str; 6] = ["https", "http", "http", "https", "http", "https"];

/// The port of each scheme.
type Ports = Arc<OnceLock<[u16; 2]>>;

/// Two replicas that redirect clients along [`SCHEMES`], and record which replica was reached with
/// which verdict.
struct Led {
    _replicas: [Origin; 2],
    authority: Authority,
    world: World,
}

impl Led {
    fn with(stickiness: &str) -> Self {
        let ports = Ports::default();
        let replicas = ["a", "b"].map(|name| {
            let ports = ports.clone();
            Origin::scripted(move |heard, stream| led_on(name, heard, stream, &ports))
        });
        let addresses = [replicas[0].address(), replicas[1].address()];
        let (authority, world) = before(&addresses, "", &format!("stickiness = {stickiness}"));
        let port = |name| listener(&world, name).port();
        ports.set([port("plain"), port("secure")]).unwrap();
        Self { _replicas: replicas, authority, world }
    }

    fn url(&self) -> String {
        format!("https://{NAME}:{}/0?told=", listener(&self.world, "secure").port())
    }

    fn chromium(&self) -> String {
        chromium::result(&chromium::opened(&self.authority, &self.url(), &[]))
    }

    fn curl(&self) -> String {
        let dir = tempfile::tempdir().unwrap();
        let jar = dir.path().join("jar");
        let mut command = Command::new("curl");
        command.args(["-sSL", "--max-time", "30", "--cacert"]).arg(self.authority.path());
        command.arg("-c").arg(&jar).arg("-b").arg(&jar);
        for name in ["plain", "secure"] {
            let port = listener(&self.world, name).port();
            command.args(["--resolve", &format!("{NAME}:{port}:127.0.0.1")]);
        }
        chromium::result(&Tool::start(command.arg(self.url())).output())
    }
}

fn led_on(name: &str, heard: &Heard, stream: &mut TcpStream, ports: &Ports) -> Then {
    let path = heard.head.split(' ').nth(1).unwrap_or_default();
    let step = path
        .split_once("?told=")
        .and_then(|(step, told)| Some((step.strip_prefix('/')?.parse::<usize>().ok()?, told)));
    let answer = match (step, ports.get()) {
        (Some((step, told)), Some([plain, secure])) => {
            let verdict = heard.field("x-stayput-verdict").unwrap_or_default();
            let told = format!("{told}{name}-{verdict}.");
            match SCHEMES.get(step + 1) {
                Some(scheme) => {
                    let port = if *scheme == "https" { secure } else { plain };
                    let url = format!("{scheme}://{NAME}:{port}/{}?told={told}", step + 1);
                    format!("302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n")
                }
                None => {
                    let page = format!("<pre id=\"result\">{told}</pre>");
                    let length = page.len();
                    format!(
                        "200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\n\r\n{page}"
                    )
                }
            }
        }
        // A check, or a browser that loads the site's icon.
        _ => "200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
    };
    let _ = stream.write_all(format!("HTTP/1.1 {answer}").as_bytes());
    Then::KeepAlive
}

/// The replica and the verdict at each step.
fn steps(told: &str) -> Vec<(&str, &str)> {
    told.split_terminator('.').filter_map(|step| step.split_once('-')).collect()
}

/// With `auto` the client stays. With `always` it loses its pin at each step over plain HTTP, which
/// shows that this client honours `Secure`.
fn stays(led: impl Fn(&Led) -> String) {
    for stickiness in ["{}", "{ cors_twin = \"never\" }", "{ cors_twin = \"always\" }"] {
        let told = led(&Led::with(stickiness));
        let steps = steps(&told);
        assert_eq!(steps.len(), SCHEMES.len(), "{stickiness} {told}");
        for (at, (replica, verdict)) in steps.iter().enumerate() {
            let expected = if at == 0 { "new" } else { "hit" };
            assert_eq!((*replica, *verdict), (steps[0].0, expected), "{stickiness} {told}");
        }
    }
    let told = led(&Led::with("{ secure = \"always\" }"));
    let verdicts: Vec<&str> = steps(&told).iter().map(|(_, verdict)| *verdict).collect();
    assert_eq!(verdicts, ["new", "new", "new", "hit", "new", "hit"], "{told}");
}

#[test]
fn curl_that_goes_from_https_to_http_and_back_keeps_its_session() {
    if has(&["curl"]) {
        stays(Led::curl);
    }
}

#[test]
fn a_browser_that_goes_from_https_to_http_and_back_keeps_its_session() {
    if has(&["chromium"]) {
        stays(Led::chromium);
    }
}

#[test]
fn a_client_with_a_wrong_clock_keeps_a_cookie_of_an_hour() {
    let Some(python) = found("python3") else { return };
    let replicas = [super::replica("a"), super::replica("b")];
    let listener = "debug_headers = true";
    for (stickiness, ahead) in [
        ("{ lb_cookie = { duration = \"1h\" } }", "7200"),
        ("{ lb_cookie = { duration = \"1h\" } }", "-7200"),
        ("{ lb_cookie = { duration = \"1h\" } }", "0"),
        ("{ lb_cookie = { duration = \"7d\" } }", "700000"),
        ("{ lb_cookie = { duration = \"session\" } }", "700000"),
    ] {
        let world = World::new(
            &[&replicas[0], &replicas[1]],
            listener,
            &format!("stickiness = {stickiness}"),
        );
        let url = format!("http://{}/", world.address());
        let said = Tool::script(&python, "clock_ahead.py", &[&url, ahead]).output();
        let seen: Vec<&str> = said.lines().collect();
        assert_eq!(seen, ["new", "hit", "hit", "hit", "dropped"], "{stickiness} {ahead}");
    }
}
