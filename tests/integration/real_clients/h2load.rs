//! h2load: thousands of requests without a failure.

use super::Shop;
use crate::support::tool::{Tool, has};
use std::process::Command;

/// Runs h2load briefly, and checks that no request fails.
fn load(secure: bool, options: &[&str], protocol: &str) {
    if !has(&["h2load"]) {
        return;
    }
    let shop = Shop::open();
    let url = match secure {
        true => format!("https://{}/", shop.secure()),
        false => format!("http://{}/", shop.plain()),
    };
    let mut command = Command::new("h2load");
    command.args(["-n", "3000", "-c", "10", "-t", "1", "-T", "20s", "-N", "20s"]);
    let said = Tool::start(command.args(options).arg(url)).output();
    for line in [
        "3000 done, 3000 succeeded, 0 failed, 0 errored, 0 timeout",
        "status codes: 3000 2xx, 0 3xx, 0 4xx, 0 5xx",
        &format!("Application protocol: {protocol}\n"),
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    assert_eq!(shop.heard().iter().sum::<usize>(), 3_000);
}

#[test]
fn h2load_gets_an_answer_to_each_request_over_tls() {
    load(true, &["-m", "10"], "h2");
}

#[test]
fn h2load_gets_an_answer_to_each_request_by_prior_knowledge() {
    load(false, &["-m", "100"], "h2c");
}

#[test]
fn h2load_gets_an_answer_to_each_request_over_http_1_1() {
    load(true, &["--h1"], "http/1.1");
    load(false, &["--h1"], "http/1.1");
}
