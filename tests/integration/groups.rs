//! Several groups behind one rule: their shares, the group cookie, failover and failback.

use crate::support::origin::Then;
use crate::support::token::{minted, now, opened, pinned};
use crate::support::visitor::Answer;
use crate::support::{Origin, Visitor, World, until};
use stayput::testing::policy::affinity::token::Kind;
use std::collections::BTreeMap;

const FAST: &str = "health = { interval = \"100ms\", fast_interval = \"100ms\", healthy_threshold = 1, unhealthy_threshold = 1 }";
const STRICT_HEALTH: &str = "fail_open = false";
const UNPINNED: &str = "stickiness = { enabled = false }";

/// A rule `split` with this `forward`, before groups `old` and `new`, all with these settings.
/// `new` has one target, and `old` may have several.
fn world(old: &[&Origin], new: &Origin, rule: &str, group: &str) -> World {
    let targets = |origins: &[&Origin]| {
        let target = |(at, origin): (usize, &&Origin)| {
            format!("{{ id = \"{at}\", address = \"{}\" }}", origin.address())
        };
        origins.iter().enumerate().map(target).collect::<Vec<_>>().join(", ")
    };
    World::of_text(&format!(
        "[runtime]\nworkers = 2\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\ndebug_headers = true\ntrusted_proxies = [\"127.0.0.0/8\"]\n\
         [[rule]]\nname = \"split\"\n{rule}\n\
         [target_group.old]\ntargets = [{}]\n{group}\n[target_group.new]\ntargets = [{}]\n{group}\n",
        targets(old),
        targets(&[new])
    ))
}

fn forward(old: u16, new: u16) -> String {
    format!("forward = {{ old = {{ weight = {old} }}, new = {{ weight = {new} }} }}")
}

/// Sends this many new clients, and counts those of each target.
fn new_clients(world: &World, count: usize) -> BTreeMap<String, usize> {
    let mut met = BTreeMap::new();
    for _ in 0..count {
        *met.entry(Visitor::of(world.address()).get("/").body).or_default() += 1;
    }
    met
}

/// A client with a pin to this group and no other pin.
fn pinned_to(world: &World, group: &str) -> Visitor {
    let mut visitor = Visitor::of(world.address());
    visitor.jar.insert("AWSALBTG".into(), minted(world, Kind::Group, "split", group, now()));
    visitor
}

fn names(answer: &Answer) -> Vec<&str> {
    answer.all("set-cookie").map(|line| line.split('=').next().unwrap()).collect()
}

/// The `group_sticky` value in the record of the request for this path.
fn group_sticky(world: &World, path: &str) -> serde_json::Value {
    world.record(|record| record["uri"] == path)["group_sticky"].clone()
}

#[test]
fn each_cycle_shares_new_clients_exactly_by_weight() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let world = world(&[&old], &new, &forward(9, 3), "");
    for _ in 0..3 {
        assert_eq!(new_clients(&world, 12), [("new".into(), 3), ("old".into(), 9)].into());
    }
}

#[test]
fn a_client_stays_with_its_group_and_both_cookies_are_renewed_group_first() {
    let (a, b, new) = (Origin::named("old-a"), Origin::named("old-b"), Origin::named("new"));
    let world = world(&[&a, &b], &new, &forward(1, 1), "");
    let mut visitors: Vec<_> = (0..4).map(|_| Visitor::of(world.address())).collect();
    for visitor in &mut visitors {
        let first = visitor.get("/first");
        assert_eq!(names(&first), ["AWSALBTG", "AWSALB"]);
        for _ in 0..5 {
            let answer = visitor.get("/again");
            assert_eq!((&answer.body, names(&answer)), (&first.body, vec!["AWSALBTG", "AWSALB"]));
        }
        let token = &visitor.jar["AWSALBTG"];
        let group = pinned(&world, Kind::Group, token, "split", &["old", "new"]).unwrap();
        assert!(first.body.starts_with(group), "{} {group}", first.body);
        assert_ne!(
            opened(&world, Kind::Lb, &visitor.jar["AWSALB"]).pins(),
            opened(&world, Kind::Group, token).pins()
        );
    }
    assert_eq!(
        (group_sticky(&world, "/first"), group_sticky(&world, "/again")),
        ("new".into(), "hit".into())
    );
}

#[test]
fn a_group_pin_is_renewed_until_its_own_duration_ends() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let rule = format!("{}\ngroup_stickiness = {{ duration = \"100s\" }}", forward(1, 0));
    let world = world(&[&old], &new, &rule, "");
    for (age, body, verdict) in [(90, "new", "hit"), (101, "old", "expired")] {
        let mut visitor = Visitor::of(world.address());
        let token = minted(&world, Kind::Group, "split", "new", now() - age);
        visitor.jar.insert("AWSALBTG".into(), token);
        let path = format!("/{age}");
        assert_eq!(visitor.get(&path).body, body);
        assert_eq!(group_sticky(&world, &path), verdict);
        let written = opened(&world, Kind::Group, &visitor.jar["AWSALBTG"]);
        assert!(now() - u64::from(written.pins()[0].issued_at) < 5);
    }
}

#[test]
fn a_client_of_a_group_the_rule_no_longer_names_moves_once() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let world = world(&[&old], &new, &forward(1, 1), "");
    let mut visitor = pinned_to(&world, "gone");
    let moved = visitor.get("/moved");
    assert_eq!(group_sticky(&world, "/moved"), "moved_removed");
    assert_eq!(names(&moved), ["AWSALBTG", "AWSALB"]);
    assert_eq!(
        pinned(&world, Kind::Group, &visitor.jar["AWSALBTG"], "split", &["old", "new"]),
        Some(&*moved.body)
    );
    assert_eq!(visitor.get("/after").body, moved.body);
    assert_eq!(group_sticky(&world, "/after"), "hit");
}

#[test]
fn a_group_of_weight_0_keeps_its_clients_and_gets_no_new_ones() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let world = world(&[&old], &new, &forward(0, 1), "");
    assert_eq!(new_clients(&world, 6), [("new".into(), 6)].into());
    let mut visitor = pinned_to(&world, "old");
    for _ in 0..5 {
        assert_eq!(visitor.get("/").body, "old");
    }
    // A client whose pin is not usable counts as new.
    visitor.jar.insert("AWSALBTG".into(), "junk".into());
    assert_eq!(visitor.get("/junk").body, "new");
    assert_eq!(group_sticky(&world, "/junk"), "malformed");
}

#[test]
fn without_group_stickiness_there_is_no_group_cookie() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let rule = format!("{}\ngroup_stickiness = {{ enabled = false }}", forward(1, 1));
    let world = world(&[&old], &new, &rule, "");
    let mut visitor = pinned_to(&world, "old");
    let mut met = BTreeMap::<_, usize>::new();
    for _ in 0..6 {
        let answer = visitor.get("/");
        assert_eq!(names(&answer), ["AWSALB"]);
        *met.entry(answer.body).or_default() += 1;
    }
    assert_eq!(met, [("new".into(), 3), ("old".into(), 3)].into());
    assert_eq!(opened(&world, Kind::Lb, &visitor.jar["AWSALB"]).pins().len(), 2);
    assert_eq!(group_sticky(&world, "/"), "off");
}

#[test]
fn group_stickiness_works_with_groups_that_are_not_sticky() {
    let (a, b, new) = (Origin::named("old-a"), Origin::named("old-b"), Origin::named("new"));
    for (sticky, expected) in [("", &[][..]), ("group_stickiness = {}", &["AWSALBTG"])] {
        let rule = format!("{}\n{sticky}", forward(1, 1));
        let world = world(&[&a, &b], &new, &rule, UNPINNED);
        assert_eq!(names(&Visitor::of(world.address()).get("/")), expected);
    }
    let rule = format!("{}\ngroup_stickiness = {{}}", forward(1, 1));
    let world = world(&[&a, &b], &new, &rule, UNPINNED);
    let mut visitor = pinned_to(&world, "old");
    let met: Vec<_> = (0..4).map(|_| visitor.get("/").body).collect();
    assert_eq!(met[..2], [met[2].clone(), met[3].clone()], "turns within the group");
    assert_ne!(met[0], met[1]);
}

#[test]
fn clients_of_a_dead_group_fail_over_and_return_with_their_pin() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let rule = format!("{}\nfailover = true", forward(3, 1));
    let world = world(&[&old], &new, &rule, &format!("{FAST}\n{STRICT_HEALTH}"));
    let mut visitor = pinned_to(&world, "old");
    assert_eq!(visitor.get("/before").body, "old");
    let pin = visitor.jar["AWSALBTG"].clone();
    old.set_healthy(false);
    let over =
        until("old is dead", || Some(visitor.get("/over")).filter(|answer| answer.body == "new"));
    assert_eq!((over.status, names(&over)), (200, vec!["AWSALBTG", "AWSALB"]));
    let unchanged = opened(&world, Kind::Group, &visitor.jar["AWSALBTG"]).pins()[0].target;
    assert_eq!(unchanged, opened(&world, Kind::Group, &pin).pins()[0].target);
    assert_eq!(opened(&world, Kind::Group, &visitor.jar["AWSALBTG"]).pins().len(), 2);
    for _ in 0..3 {
        assert_eq!(visitor.get("/over").body, "new");
    }
    world.record(|record| record["group_sticky"] == "failed_over" && record["group"] == "new");
    assert_eq!(new_clients(&world, 8), [("new".into(), 8)].into());
    old.set_healthy(true);
    let back =
        until("old is back", || Some(visitor.get("/back")).filter(|answer| answer.body == "old"));
    assert_eq!(back.field("x-stayput-verdict"), Some("hit"), "its target is its own again");
    assert_eq!(visitor.get("/later").body, "old");
    assert_eq!(opened(&world, Kind::Group, &visitor.jar["AWSALBTG"]).pins().len(), 1);
    world.record(|record| record["uri"] == "/back" && record["group_sticky"] == "failed_back");
    assert_eq!(group_sticky(&world, "/later"), "hit", "said once");
    assert_eq!(new_clients(&world, 8), [("new".into(), 2), ("old".into(), 6)].into());
}

#[test]
fn failover_leaves_a_group_in_fail_open_for_a_healthy_one() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let rule = format!("{}\nfailover = true", forward(1, 1));
    let world = world(&[&old], &new, &rule, FAST);
    let mut visitor = pinned_to(&world, "old");
    old.set_healthy(false);
    until("old is dead", || (visitor.get("/").body == "new").then_some(()));
    new.set_healthy(false);
    until("both are dead, and each serves its own", || {
        (visitor.get("/").body == "old").then_some(())
    });
    until("new clients are shared", || {
        (new_clients(&world, 4) == [("new".into(), 2), ("old".into(), 2)].into()).then_some(())
    });
}

#[test]
fn without_failover_the_share_of_a_dead_group_gets_503_as_in_alb() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let world = world(&[&old], &new, &forward(1, 1), &format!("{FAST}\n{STRICT_HEALTH}"));
    let mut visitor = pinned_to(&world, "old");
    old.set_healthy(false);
    let dead =
        until("old is dead", || Some(visitor.get("/dead")).filter(|answer| answer.status == 503));
    assert_eq!(names(&dead), Vec::<&str>::new());
    let record = world.record(|record| record["uri"] == "/dead" && record["status"] == 503);
    assert_eq!((&record["group_sticky"], &record["sticky"]), (&"hit".into(), &"no_target".into()));
    let statuses: Vec<_> = (0..4).map(|_| Visitor::of(world.address()).get("/").status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 2, "{statuses:?}");
}

#[test]
fn with_all_groups_dead_clients_get_503_and_keep_their_pins() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let rule = format!("{}\nfailover = true", forward(1, 1));
    let world = world(&[&old], &new, &rule, &format!("{FAST}\n{STRICT_HEALTH}"));
    let mut visitor = pinned_to(&world, "old");
    visitor.get("/");
    // The other group first, so that the client's requests never fail over to it.
    new.set_healthy(false);
    until("the other is dead", || {
        (new_clients(&world, 4) == [("old".into(), 4)].into()).then_some(())
    });
    old.set_healthy(false);
    until("all are dead", || (visitor.get("/").status == 503).then_some(()));
    assert_eq!(Visitor::of(world.address()).get("/").status, 503);
    old.set_healthy(true);
    new.set_healthy(true);
    until("all are back", || {
        (new_clients(&world, 4) == [("new".into(), 2), ("old".into(), 2)].into()).then_some(())
    });
    assert_eq!(
        (visitor.get("/back").body.as_str(), group_sticky(&world, "/back")),
        ("old", "hit".into())
    );
}

#[test]
fn a_pin_to_weight_0_holds_in_a_group_without_other_targets() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let world = World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\ndebug_headers = true\n\
         [[rule]]\nname = \"split\"\n{}\nfailover = true\n\
         [target_group.old]\ntargets = [{{ id = \"0\", address = \"{}\", weight = 0 }}]\n{STRICT_HEALTH}\n{FAST}\n\
         [target_group.new]\ntargets = [\"{}\"]\n",
        forward(1, 1),
        old.address(),
        new.address()
    ));
    assert_eq!(new_clients(&world, 4), [("new".into(), 4)].into());
    let mut visitor = pinned_to(&world, "old");
    visitor.jar.insert("AWSALB".into(), minted(&world, Kind::Lb, "old", "0", now()));
    for _ in 0..3 {
        let answer = visitor.get("/");
        assert_eq!((answer.body.as_str(), answer.field("x-stayput-verdict")), ("old", Some("hit")));
    }
    old.set_healthy(false);
    until("its target is dead", || (visitor.get("/").body == "new").then_some(()));
    old.set_healthy(true);
    until("its target is back", || (visitor.get("/").body == "old").then_some(()));
    assert_eq!(
        pinned_to(&world, "old").get("/").body,
        "new",
        "a client without a pin there is new"
    );
}

#[test]
fn over_tls_the_twin_of_the_group_cookie_counts_first() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let world = world(&[&old], &new, &forward(1, 1), "");
    let mut visitor = pinned_to(&world, "old");
    let answer = visitor.ask("GET", "/", &["X-Forwarded-Proto: https"], "");
    assert_eq!(names(&answer), ["AWSALBTG", "AWSALBTGCORS", "AWSALB", "AWSALBCORS"]);
    let lines: Vec<_> = answer.all("set-cookie").collect();
    assert!(lines[0].ends_with("; Max-Age=3600; Path=/; HttpOnly"), "{}", lines[0]);
    assert!(lines[1].contains("; Max-Age=3600; "), "{}", lines[1]);
    assert!(lines[1].ends_with("; Path=/; Secure; HttpOnly; SameSite=None"), "{}", lines[1]);
    assert_eq!(visitor.jar["AWSALBTG"], visitor.jar["AWSALBTGCORS"]);
    let other = minted(&world, Kind::Group, "split", "new", now());
    visitor.jar.insert("AWSALBTGCORS".into(), other);
    assert_eq!(visitor.get("/").body, "new");
}

#[test]
fn the_share_of_a_dead_group_goes_to_the_others_by_weight() {
    let [a, b, c] = ["a", "b", "c"].map(Origin::named);
    let group = |name: &str, origin: &Origin| {
        let address = origin.address();
        format!("[target_group.{name}]\ntargets = [\"{address}\"]\n{FAST}\n{STRICT_HEALTH}\n")
    };
    let world = World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n[[rule]]\nname = \"split\"\nfailover = true\n\
         forward = {{ a = {{ weight = 6 }}, b = {{ weight = 2 }}, c = {{}} }}\n{}{}{}",
        group("a", &a),
        group("b", &b),
        group("c", &c)
    ));
    a.set_healthy(false);
    until("a is dead", || (!new_clients(&world, 9).contains_key("a")).then_some(()));
    let met = new_clients(&world, 9 * 6);
    assert!(met["b"].abs_diff(36) <= 2 && met["b"] + met["c"] == 54, "{met:?}");
}

#[test]
fn two_rules_keep_their_pins_in_one_group_cookie() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let rules = format!(
        "paths = [\"/shop\"]\n{0}\n[[rule]]\nname = \"blog\"\npaths = [\"/blog\"]\n{0}",
        forward(1, 1)
    );
    let world = world(&[&old], &new, &rules, "");
    let mut met = std::collections::BTreeSet::new();
    for _ in 0..8 {
        let mut visitor = Visitor::of(world.address());
        let first = (visitor.get("/shop").body, visitor.get("/blog").body);
        for _ in 0..3 {
            assert_eq!((visitor.get("/shop").body, visitor.get("/blog").body), first);
        }
        assert_eq!(opened(&world, Kind::Group, &visitor.jar["AWSALBTG"]).pins().len(), 2);
        assert_eq!(first.0, first.1, "rules of the same groups keep a client on one side");
        met.insert(first);
    }
    assert_eq!(met.len(), 2, "{met:?}");
}

#[test]
fn a_rule_of_one_group_writes_no_group_cookie_by_default() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    for (rule, expected) in [
        ("forward = \"old\"", &["AWSALB"][..]),
        ("forward = { old = {} }", &["AWSALB"]),
        ("forward = \"old\"\ngroup_stickiness = {}", &["AWSALBTG", "AWSALB"]),
    ] {
        let world = world(&[&old], &new, rule, "");
        let mut visitor = pinned_to(&world, "new");
        let answer = visitor.get("/");
        assert_eq!((answer.body.as_str(), names(&answer)), ("old", expected.to_vec()), "{rule}");
    }
}

#[test]
fn only_target_responses_set_a_group_cookie_guarded_from_caches() {
    let cached = "HTTP/1.1 200 OK\r\nCache-Control: public\r\nContent-Length: 0\r\n\r\n";
    let (old, dead) = (Origin::saying(cached, Then::KeepAlive), Origin::refusing());
    let rule = format!("{}\ngroup_stickiness = {{}}", forward(1, 1));
    let checks = "health = { protocol = \"tcp\", interval = \"300s\", fast_interval = \"300s\", passive = { connect_failures = 0 } }";
    let world = world(&[&old], &dead, &rule, &format!("{UNPINNED}\n{checks}"));
    // Half of the hour has passed; before that, a cacheable response carries no cookie.
    let half = minted(&world, Kind::Group, "split", "old", now() - 1_801);
    let mut visitor = pinned_to(&world, "old");
    assert_eq!(names(&visitor.get("/")), Vec::<&str>::new());
    visitor.jar.insert("AWSALBTG".into(), half);
    let answer = visitor.get("/");
    assert_eq!(names(&answer), ["AWSALBTG"]);
    assert!(answer.all("cache-control").any(|line| line == "no-cache=\"set-cookie\""));
    let failed = pinned_to(&world, "new").get("/");
    assert_eq!((failed.status, names(&failed)), (502, vec![]));
}

#[test]
fn a_draining_group_keeps_its_clients_and_gets_no_new_ones() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let rule = format!("{}\nfailover = true", forward(1, 1));
    let world = world(&[&old], &new, &rule, FAST);
    let mut visitor = pinned_to(&world, "new");
    assert_eq!(visitor.get("/").body, "new");
    new.answer_checks("200 OK\r\nx-stayput-drain: 1");
    until("new clients stay away from new", || {
        (new_clients(&world, 4) == [("old".into(), 4)].into()).then_some(())
    });
    for _ in 0..3 {
        let answer = visitor.get("/");
        assert_eq!((&*answer.body, answer.field("x-stayput-verdict")), ("new", Some("hit")));
    }
}

#[test]
fn clients_of_a_dead_target_move_even_if_all_targets_drain() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let world = World::new(&[&a, &b], "debug_headers = true", FAST);
    let mut visitor = Visitor::of(world.address());
    assert_eq!(visitor.get("/").body, "a");
    for (at, origin) in [&a, &b].into_iter().enumerate() {
        origin.answer_checks("200 OK\r\nx-stayput-drain: 1");
        until("it drains", || {
            (world.availability(at).drain == stayput::testing::model::live::Drain::Running)
                .then_some(())
        });
    }
    assert_eq!(visitor.get("/").field("x-stayput-verdict"), Some("hit"));
    a.answer_checks("500 Down\r\nx-stayput-drain: 1");
    let moved = until("a is dead", || Some(visitor.get("/")).filter(|answer| answer.body == "b"));
    assert_eq!(moved.field("x-stayput-verdict"), Some("moved_unhealthy"));
}

#[test]
fn a_lone_group_of_weight_0_gets_no_new_client() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let rule = "forward = { old = { weight = 0 } }";
    let world = world(&[&old], &new, rule, "");
    let answer = Visitor::of(world.address()).get("/");
    assert_eq!((answer.status, old.heard().len()), (503, 0));
    world.record(|record| record["error_reason"] == "all_weights_zero");
}

#[test]
fn with_failback_stay_the_pin_goes_with_the_client_and_stays() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let rule = format!("{}\nfailover = true\nfailback = \"stay\"", forward(3, 1));
    let world = world(&[&old], &new, &rule, &format!("{FAST}\n{STRICT_HEALTH}"));
    let mut visitor = pinned_to(&world, "old");
    visitor.get("/");
    old.set_healthy(false);
    until("old is dead", || (visitor.get("/over").body == "new").then_some(()));
    world.record(|record| record["uri"] == "/over" && record["group_sticky"] == "failed_over");
    assert_eq!(
        pinned(&world, Kind::Group, &visitor.jar["AWSALBTG"], "split", &["old", "new"]),
        Some("new")
    );
    old.set_healthy(true);
    until("old is back", || new_clients(&world, 4).contains_key("old").then_some(()));
    assert_eq!(
        (visitor.get("/after").body, group_sticky(&world, "/after")),
        ("new".into(), "hit".into())
    );
}

#[test]
fn rules_with_the_same_groups_keep_a_client_in_one_group() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let rules = format!(
        "paths = [\"/shop\"]\n{0}\nfailover = true\n[[rule]]\nname = \"api\"\npaths = [\"/api\"]\n{1}\nfailover = true\n\
         [[rule]]\nname = \"blog\"\npaths = [\"/blog\"]\n{0}",
        forward(1, 1),
        forward(9, 1)
    );
    let world = world(&[&old], &new, &rules, &format!("{FAST}\n{STRICT_HEALTH}"));
    let mut visitors = Vec::new();
    for first in ["/shop", "/api", "/blog"].repeat(4) {
        let mut visitor = Visitor::of(world.address());
        let home = visitor.get(first).body;
        for path in ["/api", "/blog", "/shop"] {
            assert_eq!(visitor.get(path).body, home, "{first} {path}");
        }
        visitors.push((visitor, home));
    }
    // If the third rule has no pin of its own, the newer pin of the other two counts.
    let mut visitor = Visitor::of(world.address());
    let token =
        |rule: &str, group: &str, age| minted(&world, Kind::Group, rule, group, now() - age);
    for (older, newer, side) in [("old", "new", "new"), ("new", "old", "old")] {
        // Each of the two cookies brings one token.
        visitor.jar.insert("AWSALBTG".into(), token("split", older, 90));
        assert_eq!(visitor.get("/api").body, older);
        visitor.jar.clear();
        visitor.jar.insert("AWSALBTG".into(), token("api", newer, 10));
        assert_eq!(visitor.get("/blog").body, side);
        visitor.jar.clear();
    }
    // A client fails over to the same group in all rules, and comes back from it.
    old.set_healthy(false);
    until("old is dead", || {
        (new_clients_of(&world, "/shop", 4) == [("new".into(), 4)].into()).then_some(())
    });
    for (visitor, home) in &mut visitors {
        let met: Vec<_> = ["/shop", "/api"].iter().map(|path| visitor.get(path).body).collect();
        assert_eq!(met, ["new", "new"], "{home}");
    }
}

/// Sends this many new clients for this path, and counts those of each target.
fn new_clients_of(world: &World, path: &str, count: usize) -> BTreeMap<String, usize> {
    let mut met = BTreeMap::new();
    for _ in 0..count {
        *met.entry(Visitor::of(world.address()).get(path).body).or_default() += 1;
    }
    met
}

#[test]
fn a_client_without_cookies_stays_in_one_group_by_its_key() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let world_of = |group: &str| world(&[&old], &new, &forward(1, 1), group);
    let world = world_of("stickiness = { header = { name = \"x-session-id\" } }");
    let ask = |world: &World, fields: &[&str]| {
        Visitor::of(world.address()).ask("GET", "/", fields, "").body
    };
    let mut sides = std::collections::BTreeSet::new();
    for client in 0..20 {
        let field = format!("x-session-id: {client}");
        let side = ask(&world, &[&field]);
        for _ in 0..4 {
            assert_eq!(ask(&world, &[&field]), side, "{client}");
        }
        // A pin to a group has precedence over the key.
        let other = if side == "old" { "new" } else { "old" };
        assert_eq!(pinned_to(&world, other).ask("GET", "/", &[&field], "").body, other);
        sides.insert(side);
    }
    assert_eq!(sides.len(), 2, "the keys are shared out");
    let text = |group: &str, kind: &str, origin: &Origin| {
        format!(
            "[target_group.{group}]\ntargets = [{{ id = \"{group}\", address = \"{}\" }}]\n\
             stickiness = {{ {kind} }}\n",
            origin.address()
        )
    };
    let world = World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n[[rule]]\nname = \"split\"\n{}\n{}{}",
        forward(1, 1),
        text("old", "route = { cookie = \"sid\" }", &old),
        text("new", "header = { name = \"x-session-id\" }", &new)
    ));
    for client in 0..20 {
        let field = format!("x-session-id: {client}");
        let side = ask(&world, &[&field]);
        assert_eq!(ask(&world, &[&field]), side);
        // A known route has precedence over the header.
        assert_eq!(ask(&world, &[&field, "Cookie: sid=abc.old"]), "old");
        let unknown = format!("Cookie: sid={client}.gone");
        let side = ask(&world, &[&unknown]);
        assert_eq!(ask(&world, &[&unknown]), side, "an unknown route's session is a key too");
    }
}

#[test]
fn a_pin_evicted_from_a_full_token_is_made_again_at_its_target() {
    let origins: Vec<_> = ["a", "b", "c"].map(Origin::named).into();
    let targets: Vec<_> =
        origins.iter().map(|origin| format!("\"{}\"", origin.address())).collect();
    let targets = targets.join(", ");
    let mut text =
        "[runtime]\nworkers = 2\nstate_dir = \"state\"\n[log]\naccess = { to = \"access.log\" }\n\
                    [listener.web]\naddress = \"127.0.0.1:0\"\ndebug_headers = true\n"
            .to_owned();
    for at in 0..10 {
        text += &format!(
            "[[rule]]\npaths = [\"/{at}\"]\nforward = \"g{at}\"\n[target_group.g{at}]\ntargets = [{targets}]\n"
        );
    }
    let world = World::of_text(&text);
    let mut evicted = 0;
    for _ in 0..6 {
        let mut visitor = Visitor::of(world.address());
        let met: Vec<_> = (0..10).map(|at| visitor.get(&format!("/{at}")).body).collect();
        for (at, met) in met.iter().enumerate() {
            let again = visitor.get(&format!("/{at}"));
            assert_eq!(&again.body, met, "group {at}");
            evicted += usize::from(again.field("x-stayput-verdict") == Some("evicted"));
        }
    }
    assert!(evicted >= 12, "two of ten are pushed out: {evicted}");
    let warnings = stayput::config::parse(&text, "test.toml", "/".as_ref()).unwrap().warnings;
    let warnings = warnings.render(false);
    assert!(warnings.contains("10 groups share the cookie `AWSALB`"), "{warnings}");
}
