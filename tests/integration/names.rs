use crate::support::{Origin, Visitor, until};
use stayput::config;
use stayput::server::Server;
use std::path::Path;

/// A balancer that has only just begun: nothing is waited for.
fn just_started(dir: &Path, targets: &str, more: &str) -> Server {
    let text = format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\ntargets = [{targets}]\n{more}\n"
    );
    let loaded = config::parse(&text, "test.toml", dir)
        .unwrap_or_else(|problems| panic!("{}", problems.render(false)));
    Server::start(loaded.config).unwrap()
}

/// The verdict on `path`, as the log of this directory has it.
fn verdict(dir: &Path, path: &str) -> String {
    until("an access record", || {
        let text = std::fs::read_to_string(dir.join("access.log")).ok()?;
        let mut records = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        let found = records.find(|record: &serde_json::Value| record["uri"] == path)?;
        Some(found["sticky"].as_str().unwrap().to_owned())
    })
}

/// Asks until the client is pinned to the origin that says `name`.
fn pinned_to(name: &str, server: &Server) -> Visitor {
    until("a pin", || {
        let mut visitor = Visitor::of(server.addresses()[0].1);
        (visitor.get("/pin").body == name).then_some(visitor)
    })
}

/// The same client, at a balancer that listens elsewhere.
fn again(visitor: &Visitor, server: &Server) -> Visitor {
    let mut again = Visitor::of(server.addresses()[0].1);
    again.jar.clone_from(&visitor.jar);
    again
}

#[test]
fn a_restart_moves_nobody_who_is_pinned_to_what_a_host_name_stands_for() {
    let (named, other) = (Origin::named("a"), Origin::named("b"));
    let port = named.address().port();
    for expand in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let targets = format!(
            "{{ id = \"name\", address = \"localhost:{port}\", expand = {expand} }}, \"{}\"",
            other.address()
        );
        let before = just_started(dir.path(), &targets, "");
        let visitor = pinned_to("a", &before);
        drop(before);
        for round in 0..3 {
            let server = just_started(dir.path(), &targets, "");
            let path = format!("/again/{expand}/{round}");
            let answer = again(&visitor, &server).get(&path);
            assert_eq!(answer.body, "a");
            assert_eq!(verdict(dir.path(), &path), "hit");
        }
    }
}

#[test]
fn a_name_that_was_never_answered_for_takes_no_pin_away() {
    let (named, other) = (Origin::named("a"), Origin::named("b"));
    let port = named.address().port();
    for expand in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let targets = |host: &str| {
            format!(
                "{{ id = \"name\", address = \"{host}:{port}\", expand = {expand} }}, \"{}\"",
                other.address()
            )
        };
        let before = just_started(dir.path(), &targets("localhost"), "");
        let visitor = pinned_to("a", &before);
        drop(before);
        let without = just_started(dir.path(), &targets("nowhere.invalid"), "");
        let mut meanwhile = again(&visitor, &without);
        let answer = meanwhile.get("/meanwhile");
        assert_eq!((answer.body.as_str(), answer.field("set-cookie")), ("b", None));
        assert_eq!(verdict(dir.path(), "/meanwhile"), "spilled");
        drop(without);
        let strict = "stickiness = { on_unavailable = \"strict\" }";
        let strict = just_started(dir.path(), &targets("nowhere.invalid"), strict);
        assert_eq!(again(&visitor, &strict).get("/strict").status, 503);
        drop(strict);
        let after = just_started(dir.path(), &targets("localhost"), "");
        assert_eq!(again(&meanwhile, &after).get("/after").body, "a");
    }
}
