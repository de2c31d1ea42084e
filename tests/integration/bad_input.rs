//! Odd input of clients, other nodes and files, each with one defined result.

use crate::support::token::{minted, now, opened};
use crate::support::visitor::Answer;
use crate::support::{Origin, Visitor, World};
use stayput::config;
use stayput::testing::policy::affinity::token::{GroupKey, Kind, MAX_PINS};

const APP_COOKIE: &str = "stickiness = { app_cookie = { name = \"sid\" } }";

fn two() -> [Origin; 2] {
    [Origin::named("a"), Origin::named("b")]
}

fn world(origins: &[Origin; 2], group: &str) -> World {
    World::new(&[&origins[0], &origins[1]], "debug_headers = true", group)
}

/// The response to a client with these cookies.
fn with_cookies(world: &World, cookies: &[(&str, &str)]) -> Answer {
    let mut visitor = Visitor::of(world.address());
    visitor.jar.extend(cookies.iter().map(|(name, value)| ((*name).into(), (*value).into())));
    visitor.get("/")
}

fn told(answer: &Answer) -> (&str, &str) {
    (answer.field("x-stayput-verdict").unwrap_or("-"), &answer.body)
}

/// A configuration with `runtime` before its listener, and `rest` (rules and groups) after it.
fn text(runtime: &str, rest: &str) -> String {
    format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n{runtime}\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\ndebug_headers = true\n{rest}\n"
    )
}

#[test]
fn the_companion_decides_whatever_session_comes_with_it() {
    let origins = two();
    let world = world(&origins, APP_COOKIE);
    // The balancer never reads the value: only the application knows whose session it is.
    let token = minted(&world, Kind::App, "app", "b", now());
    for session in ["mine", "stolen", "", "\"", "a=b"] {
        let answer = with_cookies(&world, &[("sid", session), ("AWSALBAPP-0", &token)]);
        assert_eq!(told(&answer), ("hit", "b"), "{session}");
    }
}

#[test]
fn a_token_with_only_removed_groups_counts_as_new_and_is_kept() {
    let origins = two();
    let world = world(&origins, "");
    let gone = minted(&world, Kind::Lb, "gone", "x", now());
    let mut visitor = Visitor::of(world.address());
    visitor.jar.insert("AWSALB".into(), gone.clone());
    let first = visitor.get("/");
    assert_eq!(told(&first).0, "new");
    let [before, after] =
        [&gone, &visitor.jar["AWSALB"]].map(|text| opened(&world, Kind::Lb, text));
    assert_eq!((after.seed(), after.pins().len()), (before.seed(), 2));
    assert_eq!(told(&visitor.get("/")), ("hit", &*first.body));
    // The same client, without the new pin again, reaches the same target.
    assert_eq!(told(&with_cookies(&world, &[("AWSALB", &gone)])), ("new", &*first.body));
}

#[test]
fn new_clients_get_503_if_all_weights_are_0_and_check_warns() {
    let [old, new] = two();
    let rule =
        "[[rule]]\nname = \"split\"\nforward = { old = { weight = 0 }, new = { weight = 0 } }";
    let rest = format!(
        "{rule}\n[target_group.old]\ntargets = [\"{}\"]\n[target_group.new]\ntargets = [\"{}\"]",
        old.address(),
        new.address()
    );
    let loaded = config::parse(&text("", &rest), "t.toml", std::path::Path::new("")).unwrap();
    let warnings = loaded.warnings.render(false);
    assert!(warnings.contains("all weights are 0: new clients get 503"), "{warnings}");
    let world = World::of_text(&text("", &rest));
    let refused = with_cookies(&world, &[]);
    assert_eq!((refused.status, refused.all("set-cookie").count()), (503, 0));
    let record = world.record(|record| record["error_reason"] == "all_weights_zero");
    assert_eq!((&record["rule"], &record["group"]), (&"split".into(), &serde_json::Value::Null));
    let pin = minted(&world, Kind::Group, "split", "new", now());
    assert_eq!(with_cookies(&world, &[("AWSALBTG", &pin)]).body, "b");
    let stale = minted(&world, Kind::Group, "split", "gone", now());
    assert_eq!(with_cookies(&world, &[("AWSALBTG", &stale)]).status, 503);
}

#[test]
fn in_a_zone_without_targets_clients_get_503_and_keep_their_pin() {
    let [a, b] = two();
    let target = |id, origin: &Origin| {
        format!("{{ id = \"{id}\", address = \"{}\", zone = \"y\" }}", origin.address())
    };
    let group = format!("targets = [{}, {}]\ncross_zone = false", target("a", &a), target("b", &b));
    let modes = [
        "",
        "stickiness = { header = { name = \"x-id\" } }",
        "stickiness = { route = { cookie = \"sid\" } }",
    ];
    for mode in modes {
        let rest = format!("[target_group.app]\n{group}\n{mode}");
        let world = World::of_text(&text("zone = \"z\"", &rest));
        let pin = minted(&world, Kind::Lb, "app", "a", now());
        for fields in
            [vec![], vec![format!("Cookie: AWSALB={pin}; sid=x.a")], vec!["X-Id: 1".into()]]
        {
            let fields: Vec<_> = fields.iter().map(String::as_str).collect();
            let answer = Visitor::of(world.address()).ask("GET", "/", &fields, "");
            assert_eq!(
                (answer.status, answer.all("set-cookie").count()),
                (503, 0),
                "{mode} {fields:?}"
            );
        }
        world.record(|record| record["error_reason"] == "no_target");
    }
}

/// Nine groups of two targets each behind `/0` to `/8`.
fn nine(origins: &[Origin; 2]) -> World {
    let [a, b] = [0, 1].map(|at| origins[at].address());
    let part = |at| {
        format!(
            "[[rule]]\nname = \"r{at}\"\npaths = [\"/{at}\"]\nforward = \"g{at}\"\n[target_group.g{at}]\n\
             targets = [{{ id = \"a\", address = \"{a}\" }}, {{ id = \"b\", address = \"{b}\" }}]\n"
        )
    };
    World::of_text(&text("", &(0..9).map(part).collect::<String>()))
}

#[test]
fn the_ninth_group_evicts_a_pin_of_a_removed_group() {
    let origins = two();
    let world = nine(&origins);
    let mut visitor = Visitor::of(world.address());
    // Made after all other pins, but evicted first.
    visitor.jar.insert("AWSALB".into(), minted(&world, Kind::Lb, "gone", "x", now() + 30));
    for at in 0..8 {
        visitor.get(&format!("/{at}"));
    }
    let contents = opened(&world, Kind::Lb, &visitor.jar["AWSALB"]);
    let held = |group: String| contents.pin(GroupKey::of(&group)).is_some();
    assert_eq!(contents.pins().len(), MAX_PINS);
    assert!((0..8).all(|at| held(format!("g{at}"))) && !held("gone".into()));
}

#[test]
fn a_browser_in_nine_groups_meets_the_same_targets_each_round() {
    let origins = two();
    let world = nine(&origins);
    for _ in 0..3 {
        let mut visitor = Visitor::of(world.address());
        let mut round = || -> Vec<_> {
            let met = (0..9).map(|at| visitor.get(&format!("/{at}")).body).collect();
            let token = &visitor.jar["AWSALB"];
            assert_eq!(opened(&world, Kind::Lb, token).pins().len(), MAX_PINS);
            assert!(token.len() <= 240 && visitor.jar.len() == 1);
            met
        };
        let (first, second, third) = (round(), round(), round());
        // The algorithm chose the target of the first group, the seed those of the others. When the
        // first pin has been evicted by the ninth group, the seed chooses for it too, so it then
        // stays.
        assert_eq!(first[1..], second[1..]);
        assert_eq!(second, third);
    }
}

#[test]
fn no_pin_is_lost_however_far_node_clocks_differ() {
    let origins = two();
    let dir = tempfile::tempdir().unwrap();
    let key = stayput::testing::policy::affinity::keys::Key::generate([7; 32]).to_base64_line();
    std::fs::write(dir.path().join("one.key"), key.as_bytes()).unwrap();
    let keys = format!(
        "[affinity]\nkeys = [{{ id = 1, file = \"{}\" }}]",
        dir.path().join("one.key").display()
    );
    let node = || {
        let targets = ["a", "b"].iter().zip(&origins);
        let target = |(id, origin): (&&str, &Origin)| {
            format!("{{ id = \"{id}\", address = \"{}\" }}", origin.address())
        };
        let targets = targets.map(target).collect::<Vec<_>>().join(", ");
        World::of_text(&text("", &format!("{keys}\n[target_group.app]\ntargets = [{targets}]")))
    };
    let (fast, slow) = (node(), node());
    for ahead in [1, 60, 61, 90, 86_400] {
        let token = minted(&fast, Kind::Lb, "app", "b", now() + ahead);
        let answer = with_cookies(&slow, &[("AWSALB", &token)]);
        assert_eq!(told(&answer), ("hit", "b"), "{ahead} s ahead");
    }
    let mut visitor = Visitor::of(fast.address());
    let home = visitor.get("/").body;
    let token = visitor.jar["AWSALB"].clone();
    assert_eq!(told(&with_cookies(&slow, &[("AWSALB", &token)])), ("hit", &*home));
}

#[test]
fn a_header_condition_matches_a_field_that_comes_twice() {
    let [a, b] = two();
    let rest = format!(
        "default = \"app\"\n[[rule]]\nname = \"beta\"\nheaders = {{ x-beta = [\"yes\"] }}\nforward = \"beta\"\n\
         [target_group.app]\ntargets = [\"{}\"]\n[target_group.beta]\ntargets = [\"{}\"]",
        a.address(),
        b.address()
    );
    let world = World::of_text(&text("", &rest));
    for (fields, expected) in [
        (["X-Beta: yes", "X-Beta: no"], "b"),
        (["X-Beta: no", "x-beta: yes"], "b"),
        (["X-Beta: no", "X-Beta: no, yes"], "a"),
    ] {
        assert_eq!(Visitor::of(world.address()).ask("GET", "/", &fields, "").body, expected);
    }
    let heard = b.heard();
    assert_eq!(heard[0].head.to_lowercase().matches("x-beta:").count(), 2, "both lines cross");
}

#[test]
fn a_token_is_found_among_thousands_of_cookies_in_one_line_or_in_many() {
    let origins = two();
    let world = world(&origins, "");
    let token = minted(&world, Kind::Lb, "app", "b", now());
    let crowd = |count: usize| (0..count).map(|at| format!("c{at}={at}; ")).collect::<String>();
    let one_line = format!("Cookie: {}AWSALB={token}", crowd(4_000));
    let mut many: Vec<String> = (0..80).map(|_| format!("Cookie: {}x=1", crowd(40))).collect();
    many.push(format!("Cookie: AWSALB={token}"));
    let semicolons = format!("Cookie: {}AWSALB={token}", ";".repeat(60_000));
    for lines in [vec![one_line], many, vec![semicolons]] {
        let fields: Vec<_> = lines.iter().map(String::as_str).collect();
        let answer = Visitor::of(world.address()).ask("GET", "/", &fields, "");
        assert_eq!(told(&answer), ("hit", "b"));
    }
    let heard = origins[1].heard();
    assert_eq!(heard[1].head.to_lowercase().matches("\r\ncookie:").count(), 1, "one line of many");
    assert_eq!(heard[1].head.matches("c39=39").count(), 80);
}

#[test]
fn too_many_cookie_lines_or_bytes_get_431() {
    let origins = two();
    let world = world(&origins, "");
    let lines = vec!["Cookie: a=1"; 2_000];
    let long = format!("Cookie: a={}", "1".repeat(70_000));
    for fields in [&lines[..], &[&*long]] {
        assert_eq!(Visitor::of(world.address()).ask("GET", "/", fields, "").status, 431);
    }
    assert_eq!(Visitor::of(world.address()).get("/").status, 200);
    assert_eq!(origins[0].heard().len() + origins[1].heard().len(), 1);
}

#[test]
fn sixteen_kilobytes_of_cookie_cross_byte_for_byte() {
    let origins = two();
    let world = world(&origins, "");
    let value = "v1;=\"%41,é ".repeat(1_600);
    let line = format!("a={}; big={}", "1".repeat(16_000), value.trim_end());
    let answer = Visitor::of(world.address()).ask("GET", "/", &[&format!("Cookie: {line}")], "");
    assert_eq!(told(&answer), ("new", "a"));
    assert_eq!(origins[0].heard()[0].field("cookie"), Some(line));
}

#[test]
fn a_quoted_encoded_cut_or_padded_token_is_replaced() {
    let [a, b] = two();
    let rest = format!(
        "[[rule]]\nname = \"split\"\nforward = {{ app = {{}}, lb = {{ weight = 0 }} }}\n\
         [target_group.app]\ntargets = [\"{}\"]\n{APP_COOKIE}\n[target_group.lb]\ntargets = [\"{}\"]",
        a.address(),
        b.address()
    );
    let world = World::of_text(&text("", &rest));
    for kind in [Kind::Lb, Kind::App, Kind::Group] {
        let good = minted(&world, kind, "app", "x", now());
        let encoded = format!("%{:02X}{}", good.as_bytes()[0], &good[1..]);
        let padded = format!("{good}==");
        let values = [
            format!("\"{good}\""),
            encoded,
            padded,
            good[1..].to_owned(),
            good.replacen('A', "+", 1),
            "A".repeat(240),
            "A".repeat(241),
            "_remove_ ".repeat(2),
        ];
        for value in values {
            let group_cookie = minted(&world, Kind::Group, "split", "lb", now());
            let cookies = match kind {
                Kind::Lb => vec![("AWSALB", &*value), ("AWSALBTG", &group_cookie)],
                Kind::App => vec![("AWSALBAPP-0", &*value), ("sid", "1")],
                Kind::Group => vec![("AWSALBTG", &*value)],
            };
            let answer = with_cookies(&world, &cookies);
            assert_eq!(answer.status, 200, "{kind:?} {value}");
            match kind {
                Kind::Group => assert_eq!(answer.body, "a", "{value}"),
                _ => assert_eq!(told(&answer).0, "malformed", "{kind:?} {value}"),
            }
            let replaced = answer
                .all("set-cookie")
                .any(|line| line.starts_with(&format!("{}=", cookies[0].0)));
            assert!(replaced, "{kind:?} {value}");
        }
    }
    world.record(|record| record["group_sticky"] == "malformed");
}

#[test]
fn a_token_in_a_cookie_of_another_kind_is_forged() {
    let [a, b] = two();
    let rest = format!(
        "[[rule]]\nname = \"app\"\nforward = {{ app = {{}}, lb = {{ weight = 0 }} }}\n\
         [target_group.app]\ntargets = [{{ id = \"a\", address = \"{}\" }}]\n{APP_COOKIE}\n\
         [target_group.lb]\ntargets = [\"{}\"]",
        a.address(),
        b.address()
    );
    let world = World::of_text(&text("", &rest));
    // Group and rule have the same name on purpose: only the kind distinguishes the tokens.
    let [lb, app, group] =
        [Kind::Lb, Kind::App, Kind::Group].map(|kind| minted(&world, kind, "app", "a", now()));
    for wrong in [&lb, &group] {
        let answer = with_cookies(&world, &[("AWSALBAPP-0", wrong), ("sid", "1")]);
        assert_eq!(told(&answer).0, "forged");
    }
    for wrong in [&lb, &app] {
        let path = format!("/{}", wrong.len() + usize::from(wrong == &app));
        let mut visitor = Visitor::of(world.address());
        visitor.jar.insert("AWSALBTG".into(), wrong.clone());
        assert_eq!(visitor.get(&path).status, 200);
        assert_eq!(world.record(|record| record["uri"] == path)["group_sticky"], "forged");
    }
    assert_eq!(told(&with_cookies(&world, &[("AWSALBAPP-0", &app), ("sid", "1")])), ("hit", "a"));
}

#[test]
fn a_good_token_is_found_behind_three_others_and_not_behind_four() {
    let origins = two();
    let world = world(&origins, "");
    let token = minted(&world, Kind::Lb, "app", "b", now());
    for (before, expected) in [(3, "hit"), (4, "malformed")] {
        let junk: String = (0..before).map(|nth| format!("AWSALB=junk{nth}; ")).collect();
        let line = format!("Cookie: {junk}AWSALB={token}");
        let answer = Visitor::of(world.address()).ask("GET", "/", &[&line], "");
        assert_eq!(told(&answer).0, expected, "{before}");
    }
    // Equal tokens count once.
    let line = format!("Cookie: {}AWSALB={token}", "AWSALB=junk; ".repeat(9));
    assert_eq!(told(&Visitor::of(world.address()).ask("GET", "/", &[&line], "")).0, "hit");
}

#[test]
fn clients_that_share_a_proxy_connection_keep_their_own_pins() {
    let origins = two();
    let world = world(&origins, "");
    let [a, b] = ["a", "b"].map(|id| minted(&world, Kind::Lb, "app", id, now()));
    let old = minted(&world, Kind::Lb, "app", "b", now() - 86_401);
    let group = minted(&world, Kind::Group, "app", "b", now());
    let forged = format!("{}{}", &a[..40], "A".repeat(a.len() - 40));
    let mut proxy = Visitor::of(world.address());
    for _ in 0..3 {
        for (token, expected) in [
            (&a, ("hit", Some("a"))),
            (&b, ("hit", Some("b"))),
            (&a, ("hit", Some("a"))),
            (&forged, ("forged", None)),
            (&old, ("expired", None)),
            (&group, ("forged", None)),
            (&b, ("hit", Some("b"))),
        ] {
            proxy.jar.clear();
            let answer = proxy.ask("GET", "/", &[&format!("Cookie: AWSALB={token}")], "");
            assert_eq!(told(&answer).0, expected.0);
            assert!(expected.1.is_none_or(|body| answer.body == body));
            let given = opened(&world, Kind::Lb, &proxy.jar["AWSALB"]);
            let kept = given.seed() == opened(&world, Kind::Lb, &a).seed();
            assert_eq!(kept, expected.0 != "forged", "{token}");
        }
    }
}
