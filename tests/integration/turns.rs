//! Turns of targets and groups: requests that can keep no pin take none, and no request pattern of
//! a client reaches only one target.

use crate::support::program::Program;
use crate::support::{Origin, Visitor, World};
use std::collections::BTreeMap;
use std::net::SocketAddr;

const PREFLIGHT: &[&str] = &["Origin: https://app.example", "Access-Control-Request-Method: POST"];

/// The targets that this many clients reached with the last of these requests, each with its own
/// cookie jar.
fn met(
    address: SocketAddr,
    clients: usize,
    requests: &[(&str, &[&str])],
) -> BTreeMap<String, usize> {
    let mut met = BTreeMap::new();
    for _ in 0..clients {
        let mut visitor = Visitor::of(address);
        let mut last = String::new();
        for (method, fields) in requests {
            last = visitor.ask(method, "/login", fields, "").body;
        }
        *met.entry(last).or_default() += 1;
    }
    met
}

fn run(text: &str) -> (tempfile::TempDir, Program) {
    let dir = tempfile::tempdir().unwrap();
    let head = "[runtime]\nworkers = 2\nstate_dir = \"state\"\n[log]\naccess = { to = \"off\" }\n";
    let program = Program::run(dir.path(), &format!("{head}{text}"));
    // Before that, a target whose first check has not ended may be skipped.
    program.line(&["ready"]);
    (dir, program)
}

#[test]
fn clients_that_send_preflights_are_spread_by_the_real_program() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let (_dir, program) = run(&format!(
        "[listener.web]\naddress = \"127.0.0.1:0\"\n\
         [target_group.app]\ntargets = [\"{}\", \"{}\"]\n",
        a.address(),
        b.address()
    ));
    let address = program.address();
    // One after the other, without cookies, as a browser sends preflights.
    let mut met = BTreeMap::<_, usize>::new();
    for _ in 0..40 {
        let asked = Visitor::of(address).ask("OPTIONS", "/cart", PREFLIGHT, "");
        assert!(asked.field("set-cookie").is_some_and(|line| line.starts_with("AWSALB=")));
        *met.entry(Visitor::of(address).ask("POST", "/cart", &[], "x").body).or_default() += 1;
    }
    assert_eq!(met, [("a".into(), 20), ("b".into(), 20)].into(), "preflights took turns");
}

#[test]
fn an_options_request_that_is_no_preflight_counts_as_new() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let world = World::new(&[&a, &b], "", "");
    for fields in [&PREFLIGHT[..1], &PREFLIGHT[1..], &[]] {
        let met = met(world.address(), 8, &[("OPTIONS", fields)]);
        assert_eq!(met, [("a".into(), 4), ("b".into(), 4)].into(), "{fields:?}");
    }
    // A client with a pin keeps it for every kind of request.
    let mut visitor = Visitor::of(world.address());
    let home = visitor.get("/").body;
    for _ in 0..4 {
        assert_eq!(visitor.ask("OPTIONS", "/", PREFLIGHT, "").body, home);
    }
}

#[test]
fn a_login_page_and_its_form_do_not_put_all_on_one_target() {
    const SESSION: &str = "HTTP/1.1 200 OK\r\nSet-Cookie: sid=x.";
    let says = |name: &'static str| {
        Origin::scripted(move |heard, stream| {
            use std::io::Write;
            // The page starts no session; the form does.
            let head = if heard.path() == "/login" && heard.head.starts_with("POST") {
                format!("{SESSION}{name}\r\n")
            } else {
                "HTTP/1.1 200 OK\r\n".to_owned()
            };
            let _ = write!(stream, "{head}Content-Length: 1\r\n\r\n{name}");
            crate::support::origin::Then::KeepAlive
        })
    };
    for stickiness in
        ["app_cookie = { name = \"sid\" }", "app_cookie = { name = \"sid\", adopt = false }"]
    {
        let (a, b) = (says("a"), says("b"));
        let world = World::new(&[&a, &b], "", &format!("stickiness = {{ {stickiness} }}"));
        let met = met(world.address(), 40, &[("GET", &[]), ("POST", &[])]);
        // By chance: fewer than 4 of 40 happens once in a hundred million runs.
        assert!(met.len() == 2 && met.values().all(|count| *count >= 4), "{stickiness}: {met:?}");
    }
}

#[test]
fn a_canary_gets_its_share_of_each_kind_of_request() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let (_dir, program) = run(&format!(
        "[listener.web]\naddress = \"127.0.0.1:0\"\n[[rule]]\nname = \"split\"\n\
         forward = {{ old = {{ weight = 90 }}, new = {{ weight = 10 }} }}\n\
         group_stickiness = {{ enabled = false }}\n\
         [target_group.old]\ntargets = [\"{}\"]\nstickiness = {{ enabled = false }}\n\
         [target_group.new]\ntargets = [\"{}\"]\nstickiness = {{ enabled = false }}\n",
        old.address(),
        new.address()
    ));
    let mut canary = [0, 0];
    for _ in 0..200 {
        let mut visitor = Visitor::of(program.address());
        for (at, method) in ["GET", "POST"].iter().enumerate() {
            canary[at] += usize::from(visitor.ask(method, "/", &[], "").body == "new");
        }
    }
    assert_eq!(canary[0] + canary[1], 40, "exact over each round of ten");
    // If 40 are split by chance, fewer than 4 on one side happens once in ten million runs.
    assert!(canary.iter().all(|count| *count >= 4), "{canary:?}");
}
