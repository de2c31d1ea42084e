//! `stayput explain` and `stayput cookie`, run as the real program.

use crate::command_line::{stayput, text};
use serde_json::Value;
use std::path::Path;

/// A configuration with one group of each kind of stickiness, and a key file.
const FILE: &str = r#"
[runtime]
state_dir = "state"
[affinity]
keys = [{ id = 1, file = "one.key" }]
[listener.web]
address = "127.0.0.1:8080"
[[rule]]
name = "release"
paths = ["/shop/*"]
forward = { stable = { weight = 90 }, canary = { weight = 10 } }
failover = true
rewrite = { path = { regex = "^/shop(/.*)$", replace = "$1" } }
[[rule]]
name = "gone"
paths = ["/closed"]
forward = { stable = { weight = 0 } }
group_stickiness = { enabled = true }
[[rule]]
paths = ["/app/*"]
forward = "app"
[[rule]]
paths = ["/route/*"]
forward = "route"
[[rule]]
name = "header"
paths = ["/header/*"]
forward = "header"
[target_group.stable]
targets = [{ id = "s1", address = "10.0.0.11:80" }, { id = "s2", address = "10.0.0.12:80" }]
[target_group.canary]
targets = [{ id = "c1", address = "10.0.0.21:80" }]
fail_open = false
[target_group.app]
targets = [{ id = "a1", address = "10.0.1.1:80" }, { id = "a2", address = "10.0.1.2:80" }]
stickiness = { app_cookie = { name = "sid" } }
[target_group.route]
targets = [{ id = "r1", address = "10.0.2.1:80" }, { id = "r2", address = "10.0.2.2:80" }]
stickiness = { route = { cookie = "JSESSIONID" } }
[target_group.header]
targets = [{ id = "h1", address = "10.0.3.1:80" }, { id = "h2", address = "10.0.3.2:80" }]
stickiness = { header = { name = "x-session-id" } }
"#;

struct Scene {
    dir: tempfile::TempDir,
    path: String,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = text(&stayput(&["keys", "new"]).output().unwrap().stdout);
        std::fs::write(dir.path().join("one.key"), key).unwrap();
        let path = dir.path().join("stayput.toml");
        std::fs::write(&path, FILE).unwrap();
        let path = path.display().to_string();
        Self { dir, path }
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The output and the exit code of a command.
    fn run(&self, command: &[&str], arguments: &[&str]) -> (String, Option<i32>) {
        let output = stayput(&[command, &["-c", &self.path], arguments].concat()).output().unwrap();
        (text(&output.stdout) + &text(&output.stderr), output.status.code())
    }

    fn mint(&self, what: &str, names: &str) -> String {
        let (printed, code) = self.run(&["cookie", "mint"], &[what, names]);
        assert_eq!(code, Some(0), "{printed}");
        printed.trim().to_owned()
    }

    /// Explains a request: the table must contain all lines, and the JSON must contain the same
    /// words.
    fn explain(&self, path: &str, arguments: &[&str], lines: &[&str]) -> Value {
        let url = format!("http://127.0.0.1:8080{path}");
        let (table, _) = self.run(&["explain"], &[arguments, &[&url]].concat());
        for line in lines {
            assert!(table.lines().any(|told| told == *line), "{line}\nis not in\n{table}");
        }
        let (json, _) = self.run(&["explain", "-o", "json"], &[arguments, &[&url]].concat());
        let json: Value = serde_json::from_str(&json).unwrap();
        let one_of = json["one_of"].as_array().cloned().unwrap_or(vec![json.clone()]);
        for part in one_of.iter().filter(|part| part["verdict"].is_string()) {
            let word = |key: &str| part[key].as_str().unwrap().to_owned();
            for line in [
                format!("sticky    {}", word("stickiness")),
                format!("verdict   {}: {}", word("verdict"), word("why")),
            ] {
                assert!(table.contains(&line), "{line}\nis not in\n{table}");
            }
        }
        if let (Some(verdict), Some(why)) =
            (json["group_verdict"].as_str(), json["group_why"].as_str())
        {
            assert!(table.contains(&format!("groups    {verdict}: {why}")), "{table}");
        }
        json
    }
}

#[test]
fn a_jars_group_cookie_is_explained_for_a_rule_of_several_groups() {
    let scene = Scene::new();
    let new = scene.explain("/shop/cart", &[], &["group     canary  10.0 %", "rewritten /cart"]);
    assert_eq!((&new["group_verdict"], &new["pinned_group"]), (&"new".into(), &Value::Null));
    assert_eq!(new["one_of"][0]["target"], "c1", "where there is one it is that one");
    let jar = |cookie: &str, path: &str| {
        let (name, value) = cookie.split_once('=').unwrap();
        let at = scene.dir().join("jar");
        let line = format!("#HttpOnly_127.0.0.1\tFALSE\t{path}\tFALSE\t0\t{name}\t{value}\n");
        std::fs::write(&at, format!("# Netscape HTTP Cookie File\n\n{line}")).unwrap();
        at.display().to_string()
    };
    let cookie = scene.mint("--rule", "release/canary");
    let jarred = jar(&cookie, "/");
    let pinned = ["--cookie-jar", &jarred];
    let hit = scene.explain(
        "/shop/cart",
        &pinned,
        &[
            "groups    hit: the client is pinned to this group",
            "pinned    to group canary",
            "group     canary",
            "target    c1  10.0.0.21:80",
            "rewritten /cart",
        ],
    );
    assert_eq!((&hit["group"], &hit["pinned_group"]), (&"canary".into(), &"canary".into()));
    let away = [&pinned[..], &["--down", "canary/c1"]].concat();
    let lines = ["pinned    to group canary", "group     stable"];
    let away = scene.explain("/shop/cart", &away, &lines);
    assert_eq!((&away["group_verdict"], &away["group"]), (&"failed_over".into(), &"stable".into()));
    let shop = jar(&cookie, "/shop");
    let other = scene.explain("/shopping", &["--cookie-jar", &shop], &[]);
    assert_eq!(other["action"], "no_rule");
    let closed =
        scene.explain("/closed", &[], &["answer    503: all groups of the rule have weight 0"]);
    assert_eq!((&closed["action"], &closed["status"]), (&"no_share".into(), &503.into()));
}

#[test]
fn an_application_cookies_companion_is_explained_with_and_without_it() {
    let scene = Scene::new();
    let companion = scene.mint("--target", "app/a1");
    assert!(companion.starts_with("AWSALBAPP-0="), "{companion}");
    let both = format!("sid=1; {companion}");
    let sticky = "sticky    by cookie AWSALBAPP-0, for the application's cookie sid";
    for (cookies, verdict, target) in [
        (&*both, "hit", Some("a1")),
        (&*companion, "app_cookie_absent", None),
        ("sid=1", "adopted", None),
        ("sid=1; AWSALBAPP-0=junk", "malformed", None),
    ] {
        let told = scene.explain("/app/", &["--cookie", cookies], &[sticky]);
        assert_eq!((&told["verdict"], told["target"].as_str()), (&verdict.into(), target));
    }
    let down = scene.explain(
        "/app/",
        &["--cookie", &both, "--down", "app/a1"],
        &[
            "assumed: every target healthy, app/a1 down; \
             explain does not query the running balancer",
            "verdict   moved_unhealthy: the pinned target is unhealthy: the client moves permanently",
            "pinned    a1  10.0.1.1:80",
            "target    a2  10.0.1.2:80",
        ],
    );
    assert_eq!((&down["pinned"], &down["target"]), (&"a1".into(), &"a2".into()));
    for (state, word) in [("--suspect", "suspect"), ("--recovering", "down and recovering")] {
        let assumed = format!(
            "assumed: every target healthy, app/a1 {word}; explain does not query the running balancer"
        );
        let stays = ["--cookie", &both, state, "app/a1"];
        let stays = scene.explain("/app/", &stays, &[&assumed, "target    a1  10.0.1.1:80"]);
        assert_eq!((&stays["verdict"], &stays["target"]), (&"hit".into(), &"a1".into()));
        let new_client = scene.explain("/app/", &[state, "app/a1"], &[]);
        let candidates = new_client["candidates"].as_array().unwrap();
        assert!(candidates.iter().all(|candidate| candidate["target"] != "a1"), "{new_client}");
    }
    let all = ["--cookie", &both, "--down", "app/a1", "--down", "app/a2"];
    let open = "health    ignored: too few targets are healthy (fail_open)";
    assert_eq!(scene.explain("/app/", &all, &[open])["fails_open"], true);
}

#[test]
fn a_route_and_a_header_are_explained_without_promising_a_pin() {
    let scene = Scene::new();
    let cookie = ["--cookie", "JSESSIONID=abc.r2"];
    let named = scene.explain(
        "/route/",
        &cookie,
        &[
            "sticky    by the route after `.` in the application's cookie JSESSIONID",
            "verdict   hit: the session names this target",
            "target    r2  10.0.2.2:80",
        ],
    );
    assert_eq!(named["target"], "r2");
    let lines = [
        "verdict   new: the session names no target of this group: the hash of its id chooses the target",
    ];
    scene.explain("/route/", &["--cookie", "JSESSIONID=abc.r9"], &lines);
    let lines =
        ["verdict   key_absent: the request names no session: the algorithm chooses the target"];
    scene.explain("/route/", &[], &lines);

    let field = ["-H", "X-Session-Id: 7"];
    let home = scene.explain("/header/", &field, &["sticky    by header field x-session-id"]);
    assert_eq!(home["verdict"], "hit");
    let home = home["target"].as_str().unwrap();
    let down = format!("header/{home}");
    let away = scene.explain("/header/", &[&field[..], &["--down", &down]].concat(), &[
        "verdict   moved_unhealthy: the target that ranks first for the header value is unhealthy: the next one \
         serves until it is back",
    ]);
    assert_ne!(away["target"], home);
    let absent = scene.explain("/header/", &[], &["target    one of h1 50.0 %, h2 50.0 %"]);
    assert_eq!(absent["verdict"], "key_absent");
}

#[test]
fn each_kind_of_cookie_is_minted_verified_and_inspected_by_name() {
    let scene = Scene::new();
    for (what, names, cookie, kind, pin) in [
        ("--target", "stable/s2", "AWSALB", "pins to targets", "pin  stable/s2  "),
        ("--target", "app/a1", "AWSALBAPP-0", "for an application's cookie", "pin  app/a1  "),
        ("--rule", "release/canary", "AWSALBTG", "groups of rules", "pin  rule release/canary  "),
    ] {
        let minted = scene.mint(what, names);
        let value = minted.strip_prefix(&format!("{cookie}=")).unwrap();
        assert_eq!(scene.run(&["cookie", "verify"], &[value]), ("ok\n".into(), Some(0)));
        let (inspected, _) = scene.run(&["cookie", "inspect"], &[value]);
        assert!(inspected.contains(kind) && inspected.contains(pin), "{inspected}");
        assert!(inspected.contains("  alive"), "{inspected}");
    }
    for (arguments, words) in [
        (["--target", "header/h1"], "sets no cookie; its stickiness is by header field"),
        (["--target", "route/r1"], "sets no cookie; its stickiness is by the route after `.`"),
        (["--target", "app/a9"], "no target `app/a9`; write GROUP/TARGET"),
        (["--rule", "release/app"], "no rule and group `release/app`; write RULE/GROUP"),
        (["--rule", "header/header"], "sets no group cookie: it has no group_stickiness"),
    ] {
        let (told, code) = scene.run(&["cookie", "mint"], &arguments);
        assert!(code == Some(1) && told.contains(words), "{told}");
    }
    let neither = scene.run(&["cookie", "mint"], &[]).1;
    let both = ["--target", "app/a1", "--rule", "release/canary"];
    assert_eq!([neither, scene.run(&["cookie", "mint"], &both).1], [Some(2), Some(2)]);
}
