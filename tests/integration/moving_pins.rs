//! Events that move a pin, events that keep it, and which of several pins counts: writes, clocks,
//! shared caches.

use crate::support::origin::Then;
use crate::support::token::{minted, now, opened, pinned};
use crate::support::visitor::Answer;
use crate::support::{Origin, Program, Visitor, World, until};
use stayput::testing::policy::affinity::keys::{Key, Keyring};
use stayput::testing::policy::affinity::token::{Contents, GroupKey, Kind, Pin, Seed, TargetKey};
use std::io::Write;
use std::process::Command;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

const NO_CHECKS: &str = "health = { protocol = \"tcp\", interval = \"300s\", fast_interval = \"300s\", passive = { connect_failures = 0 } }";

/// A replica that responds to `/STATUS/FIELDS` with that status and those fields.
fn told(name: &'static str) -> Origin {
    Origin::scripted(move |heard, stream| {
        let path = heard.path().trim_start_matches('/').to_owned();
        let (status, what) = path.split_once('/').unwrap_or((&path, ""));
        let fields = match what {
            "set" => "Set-Cookie: cart=7; Path=/\r\n",
            "set-app" => "Set-Cookie: sid=9; Path=/\r\n",
            "set-and-clear-app" => {
                "Set-Cookie: sid=9; Path=/\r\nSet-Cookie: sid=; Max-Age=0; Path=/old\r\n"
            }
            "clear" => "Set-Cookie: cart=; Max-Age=0; Path=/\r\n",
            "clear-app" => "Set-Cookie: sid=; Max-Age=0; Path=/\r\n",
            "ours" => "Set-Cookie: AWSALB=theirs; Path=/\r\n",
            "upgrade" => "Connection: Upgrade\r\nUpgrade: websocket\r\n",
            "public" => "Cache-Control: public\r\n",
            "s-maxage" => "Cache-Control: s-maxage=60\r\n",
            "max-age" => "Cache-Control: max-age=60\r\n",
            "stale" => "Cache-Control: max-age=0\r\n",
            "expires" => "Expires: Fri, 01 Jan 2100 00:00:00 GMT\r\n",
            "private" => "Cache-Control: private, max-age=60\r\n",
            "no-store" => "Cache-Control: no-store\r\n",
            "guarded" => "Cache-Control: max-age=60, no-cache=\"Set-Cookie\"\r\n",
            _ => "",
        };
        let length = match status {
            "101" | "204" => String::new(),
            "304" => "Content-Length: 0\r\n".to_owned(),
            _ => format!("Content-Length: {}\r\n", name.len()),
        };
        let is_bare = length.is_empty() || status == "304" || heard.head.starts_with("HEAD ");
        let body = if is_bare { "" } else { name };
        let _ = stream
            .write_all(format!("HTTP/1.1 {status} X\r\n{fields}{length}\r\n{body}").as_bytes());
        Then::KeepAlive
    })
}

fn verdict(answer: &Answer) -> &str {
    answer.field("x-stayput-verdict").unwrap_or("-")
}

/// `a`, which is at its cap, and `b`, which has room.
struct Full {
    world: World,
    a: Origin,
    _b: Origin,
    /// Holds the only permit of `a`, with its cookie.
    holder: Visitor,
    gate: Sender<()>,
}

impl Full {
    fn with(group: &str, jar: &[(&str, &str)], kind: Kind) -> Self {
        let (gate, held) = channel::<()>();
        let held = Mutex::new(held);
        let a = Origin::scripted(move |heard, stream| {
            if heard.path() == "/hold" {
                let _ = held.lock().unwrap().recv();
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na");
            Then::KeepAlive
        });
        let b = told("b");
        let group = format!(
            "max_in_flight_per_target = 1\nupstream = {{ queue = \"0s\" }}\n{group}\n{NO_CHECKS}"
        );
        let world = World::new(&[&a, &b], "debug_headers = true", &group);
        let mut holder = Visitor::of(world.address());
        holder.jar.extend(jar.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        let name = if kind == Kind::App { "AWSALBAPP-0" } else { "AWSALB" };
        holder.jar.insert(name.into(), minted(&world, kind, "app", "a", now()));
        let cookies: Vec<_> =
            holder.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        holder.send(&format!(
            "GET /hold HTTP/1.1\r\nHost: shop.example\r\nCookie: {}\r\n\r\n",
            cookies.join("; ")
        ));
        until("the place at a is taken", || a.heard().first().cloned());
        Self { world, a, _b: b, holder, gate }
    }

    /// A client with the same cookies and its own connection.
    fn same_client(&self) -> Visitor {
        let mut visitor = Visitor::of(self.world.address());
        visitor.jar = self.holder.jar.clone();
        visitor
    }
}

const SOCKET: [&str; 4] = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

/// Sends each of these requests from a spilled client, and checks whether its pin moves.
fn check_spills(full: &Full, cookie: &str, kind: Kind, cases: &[(&str, &str, bool)]) {
    for &(method, path, moves) in cases {
        let context = format!("{method} {path}");
        let mut visitor = full.same_client();
        let fields: &[&str] = if path.starts_with("/101") { &SOCKET } else { &[] };
        let answer = visitor.ask(method, path, fields, "");
        assert_eq!(verdict(&answer), "spilled", "{context}: {answer:?}");
        let ours: Vec<_> = answer
            .all("set-cookie")
            .filter(|line| line.starts_with(&format!("{cookie}=")) && !line.contains("theirs"))
            .collect();
        assert_eq!(ours.len(), usize::from(moves), "{context}: {ours:?}");
        if path.starts_with("/101") {
            continue;
        }
        let record =
            full.world.record(|record| record["method"] == method && record["uri"] == path);
        assert_eq!(record["set_cookie"] == "moved", moves, "{context}: {record}");
        assert_eq!(record["from"], "a", "{context}");
        if moves {
            let home = pinned(&full.world, kind, &visitor.jar[cookie], "app", &["a", "b"]);
            assert_eq!(home, Some("b"), "{context}");
            visitor
                .jar
                .extend(full.holder.jar.clone().into_iter().filter(|(name, _)| name != cookie));
            let next = visitor.get("/200/next");
            assert_eq!((verdict(&next), next.body.as_str()), ("hit", "b"), "{context}");
        }
    }
}

#[test]
fn a_spill_that_wrote_moves_the_pin_and_one_that_did_not_leaves_it() {
    let full = Full::with("", &[], Kind::Lb);
    let cases = [
        ("POST", "/200", true),
        ("POST", "/201/public", true),
        ("POST", "/303", true),
        ("PUT", "/204", true),
        ("PATCH", "/200/p", true),
        ("DELETE", "/200/d", true),
        ("PURGE", "/200/x", true),
        ("POST", "/400", false),
        ("POST", "/404", false),
        ("POST", "/409", false),
        ("POST", "/500", false),
        ("POST", "/503", false),
        ("GET", "/200", false),
        ("HEAD", "/200/h", false),
        ("OPTIONS", "/200/o", false),
        ("GET", "/302", false),
        ("GET", "/404/g", false),
        ("GET", "/200/set", true),
        ("GET", "/401/set", true),
        ("POST", "/403/set", true),
        ("GET", "/200/set-app", true),
        ("GET", "/200/clear", false),
        ("GET", "/200/ours", false),
        ("GET", "/101/upgrade", true),
    ];
    check_spills(&full, "AWSALB", Kind::Lb, &cases);
}

#[test]
fn a_spill_moves_the_companion_on_a_write_or_a_new_app_cookie() {
    let group = "stickiness = { app_cookie = { name = \"sid\" } }";
    let full = Full::with(group, &[("sid", "1")], Kind::App);
    let cases = [
        ("POST", "/200", true),
        ("POST", "/404", false),
        ("GET", "/200", false),
        ("GET", "/200/set", false),
        ("GET", "/200/set-app", true),
        ("GET", "/404/set-app", true),
        ("GET", "/200/set-and-clear-app", true),
        ("GET", "/200/clear-app", false),
    ];
    for case in cases {
        // The next request brings the cookie again, whatever the response cleared.
        check_spills(&full, "AWSALBAPP-0", Kind::App, &[case]);
    }
}

#[test]
fn a_spilled_write_sets_no_cookie_for_route_or_header_keys() {
    let (gone, b) = (Origin::refusing(), told("b"));
    for (stickiness, fields) in [
        ("route = { cookie = \"sid\" }", ["Cookie: sid=1.a"]),
        ("header = { name = \"x-session-id\" }", ["x-session-id: 1"]),
    ] {
        let group = format!("stickiness = {{ {stickiness} }}\n{NO_CHECKS}");
        let world = World::new(&[&gone, &b], "debug_headers = true", &group);
        let spilled = (0..40).any(|nth| {
            let header = format!("x-session-id: {nth}");
            let fields = if stickiness.starts_with("route") { fields } else { [header.as_str()] };
            let answer = Visitor::of(world.address()).ask("POST", "/200", &fields, "");
            assert_eq!(answer.all("set-cookie").count(), 0);
            verdict(&answer) == "spilled"
        });
        assert!(spilled, "{stickiness}");
    }
}

#[test]
fn a_strict_group_refuses_a_write_and_moves_nothing() {
    let full = Full::with("stickiness = { on_unavailable = \"strict\" }", &[], Kind::Lb);
    let answer = full.same_client().ask("POST", "/200", &[], "");
    assert_eq!((answer.status, answer.all("set-cookie").count()), (503, 0));
}

#[test]
fn a_late_response_does_not_undo_a_move() {
    let mut full = Full::with("", &[], Kind::Lb);
    let mut writer = full.same_client();
    let wrote = writer.ask("POST", "/200", &[], "");
    assert_eq!((verdict(&wrote), wrote.body.as_str()), ("spilled", "b"));
    full.gate.send(()).unwrap();
    let crossing = full.holder.read_answer(false);
    assert_eq!((verdict(&crossing), crossing.body.as_str()), ("hit", "a"));
    assert_eq!(crossing.all("set-cookie").count(), 0, "it would bring the client back to a");
    // A later client of a is renewed, although it uses the only permit itself.
    let renewed = until("a client of a is renewed", || {
        let mut other = Visitor::of(full.world.address());
        other.jar.insert("AWSALB".into(), minted(&full.world, Kind::Lb, "app", "a", now()));
        let answer = other.get("/");
        (answer.body == "a" && answer.all("set-cookie").count() > 0).then_some(answer)
    });
    assert_eq!(verdict(&renewed), "hit");
    assert!(!full.a.heard().is_empty());
}

#[test]
fn a_spilled_write_is_logged_as_a_move() {
    let dir = tempfile::tempdir().unwrap();
    let (gone, b) = (Origin::refusing(), told("b"));
    let key = Key::generate([7; 32]);
    std::fs::write(dir.path().join("one.key"), key.to_base64_line().as_bytes()).unwrap();
    let text = format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"off\" }}\n\
         [affinity]\nkeys = [{{ id = 1, file = \"one.key\" }}]\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\n\
         targets = [{{ id = \"a\", address = \"{}\" }}, {{ id = \"b\", address = \"{}\" }}]\n{NO_CHECKS}\n",
        gone.address(),
        b.address()
    );
    let program = Program::run(dir.path(), &text);
    let mut visitor = Visitor::of(program.address());
    visitor.jar.insert("AWSALB".into(), sealed(1, "a", now()));
    assert_eq!(visitor.get("/200").body, "b");
    assert_eq!(visitor.ask("POST", "/200", &[], "").body, "b");
    let line = program.line(&["client moved to another target"]);
    for field in ["from=\"a\"", "to=\"b\"", "why=\"spilled\"", "group=\"app\""] {
        assert!(line.contains(field), "{field}: {line}");
    }
    let moved = program
        .lines()
        .iter()
        .filter(|line| line.contains("client moved to another target"))
        .count();
    assert_eq!(moved, 1, "the request that only read moved nothing");
}

/// A token sealed with the key of these tests, by a node whose clock shows `issued_at`.
fn sealed(id: u8, target: &str, issued_at: u64) -> String {
    let pin = Pin {
        group: GroupKey::of("app"),
        target: TargetKey::of("app", target),
        issued_at: u32::try_from(issued_at).unwrap(),
    };
    ring(id).seal(Kind::Lb, &Contents::new(Seed(1), pin)).as_str().to_owned()
}

/// The keyring with the one key of these tests.
fn ring(id: u8) -> Keyring {
    let line = Key::generate([7; 32]).to_base64_line();
    Keyring::new(&[Key::from_base64_line(id, line.as_bytes()).unwrap()]).unwrap()
}

#[test]
fn the_newest_pin_of_all_tokens_decides_and_replaces_the_others() {
    let origins = [told("a"), told("b"), told("c")];
    let world = World::new(&[&origins[0], &origins[1], &origins[2]], "debug_headers = true", "");
    let token = |target, age| minted(&world, Kind::Lb, "app", target, now() - age);
    for (cookies, home) in [
        (format!("AWSALBCORS={}; AWSALB={}", token("a", 500), token("b", 400)), "b"),
        (format!("AWSALBCORS={}; AWSALB={}", token("a", 400), token("b", 500)), "a"),
        // Leftovers of another path or domain come first.
        (format!("AWSALB={}; AWSALB={}", token("a", 500), token("c", 400)), "c"),
        (
            format!(
                "AWSALB={}; AWSALB={}; AWSALBCORS={}; AWSALBCORS={}",
                token("a", 500),
                token("b", 300),
                token("c", 400),
                token("a", 500)
            ),
            "b",
        ),
    ] {
        let mut visitor = Visitor::of(world.address());
        let answer = visitor.ask("GET", "/200", &[&format!("Cookie: {cookies}")], "");
        assert_eq!((verdict(&answer), answer.body.as_str()), ("hit", home), "{cookies}");
        assert_eq!(pinned(&world, Kind::Lb, &visitor.jar["AWSALB"], "app", &[home]), Some(home));
    }
}

#[test]
fn a_rewritten_token_keeps_the_other_groups_pins_of_all_tokens() {
    let (app, api) = (told("app"), told("api"));
    let world = World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\ndefault = \"app\"\ndebug_headers = true\n\
         [[rule]]\nname = \"api\"\npaths = [\"/200/api\"]\nforward = \"api\"\n\
         [target_group.app]\ntargets = [{{ id = \"a\", address = \"{}\" }}]\n\
         [target_group.api]\ntargets = [{{ id = \"a\", address = \"{}\" }}]\n",
        app.address(),
        api.address()
    ));
    let mut visitor = Visitor::of(world.address());
    let of = |group| minted(&world, Kind::Lb, group, "a", now() - 100);
    let cookies = format!("Cookie: AWSALBCORS={}; AWSALB={}", of("app"), of("api"));
    assert_eq!(verdict(&visitor.ask("GET", "/200", &[&cookies], "")), "hit");
    assert_eq!(opened(&world, Kind::Lb, &visitor.jar["AWSALB"]).pins().len(), 2);
    assert_eq!(verdict(&visitor.get("/200/api")), "hit");
}

#[test]
fn the_newest_group_pin_decides_and_the_group_cookies_merge() {
    let (one, two) = (told("one"), told("two"));
    let world = World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n\
         [[rule]]\nname = \"split\"\nforward = {{ one = {{ weight = 1 }}, two = {{ weight = 1 }} }}\n\
         [target_group.one]\ntargets = [\"{}\"]\n[target_group.two]\ntargets = [\"{}\"]\n",
        one.address(),
        two.address()
    ));
    let token = |group, age| minted(&world, Kind::Group, "split", group, now() - age);
    for (old, new) in [("one", "two"), ("two", "one")] {
        for cookies in [
            format!("AWSALBTGCORS={}; AWSALBTG={}", token(old, 50), token(new, 40)),
            format!("AWSALBTG={}; AWSALBTG={}", token(old, 50), token(new, 40)),
        ] {
            let mut visitor = Visitor::of(world.address());
            let answer = visitor.ask("GET", "/200", &[&format!("Cookie: {cookies}")], "");
            assert_eq!(answer.body, new, "{cookies}");
            let written = pinned(&world, Kind::Group, &visitor.jar["AWSALBTG"], "split", &[new]);
            assert_eq!(written, Some(new));
        }
    }
}

/// Two nodes with one key. The clock of the first is this many seconds ahead. Both run on this
/// machine, so the test reseals the first one's token with that time.
#[test]
fn nodes_whose_clocks_differ_move_no_client_that_alternates_between_them() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let origins = [told("a"), told("b"), told("c")];
    let targets: Vec<_> = ["a", "b", "c"]
        .iter()
        .zip(&origins)
        .map(|(id, origin)| format!("{{ id = \"{id}\", address = \"{}\" }}", origin.address()))
        .collect();
    let key = Key::generate([7; 32]);
    for (refresh, ahead) in [("each_response", 90), ("half_life", 90), ("never", 7_200)] {
        let text = format!(
            "[runtime]\nworkers = 2\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"off\" }}\n\
             [affinity]\nkeys = [{{ id = 1, file = \"one.key\" }}]\n\
             [listener.web]\naddress = \"127.0.0.1:0\"\ndebug_headers = true\n\
             [target_group.app]\ntargets = [{}]\nstickiness = {{ refresh = \"{refresh}\" }}\n{NO_CHECKS}\n",
            targets.join(", ")
        );
        let nodes = [0, 1].map(|node: usize| {
            let dir: &tempfile::TempDir = &dirs[node];
            std::fs::write(dir.path().join("one.key"), key.to_base64_line().as_bytes()).unwrap();
            Program::run(dir.path(), &text)
        });
        let mut visitors = [0, 1].map(|node: usize| Visitor::of(nodes[node].address()));
        let home = visitors[0].get("/200").body;
        let mut cookie = sealed(1, &home, now() + ahead);
        for visit in 0..20 {
            let visitor = &mut visitors[(visit + 1) % 2];
            visitor.jar.clear();
            visitor.jar.insert("AWSALB".into(), cookie.clone());
            let answer = visitor.get("/200");
            let context = format!("{refresh}, visit {visit}");
            assert_eq!((verdict(&answer), &answer.body), ("hit", &home), "{context}");
            if visit % 2 == 0 {
                // The node that is behind writes its own time into the pin, whatever `refresh` is.
                assert_eq!(answer.all("set-cookie").count(), 1, "{context}");
                let issued_at = issued_at(&visitor.jar["AWSALB"]);
                assert!(issued_at <= now(), "{context}: {issued_at} is ahead");
                cookie = visitor.jar["AWSALB"].clone();
            } else {
                cookie = sealed(1, &home, now() + ahead);
            }
        }
        let line = nodes[1].line(&["clock_ahead"]);
        let told: u64 =
            line.split_once("seconds=").unwrap().1.split(' ').next().unwrap().parse().unwrap();
        assert!((ahead - 5..=ahead).contains(&told), "{line}");
        let lines = nodes[1].lines().iter().filter(|line| line.contains("clock_ahead")).count();
        assert_eq!(lines, 1, "a line a minute at most");
    }
}

#[test]
fn a_pin_from_the_future_is_valid_and_inspect_prints_the_offset() {
    let dir = tempfile::tempdir().unwrap();
    let key = Key::generate([7; 32]).to_base64_line();
    std::fs::write(dir.path().join("one.key"), key.as_bytes()).unwrap();
    let path = dir.path().join("stayput.toml");
    let text = "[affinity]\nkeys = [{ id = 1, file = \"one.key\" }]\n[listener.web]\n\
                address = \"127.0.0.1:0\"\n[target_group.app]\n\
                targets = [{ id = \"a\", address = \"127.0.0.1:1\" }]\n";
    std::fs::write(&path, text).unwrap();
    let inspected = |issued_at: u64| {
        let token = sealed(1, "a", issued_at);
        let mut command = Command::new(env!("CARGO_BIN_EXE_stayput"));
        command.args(["cookie", "inspect", "-c"]).arg(&path).arg(token);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let ahead = inspected(now() + 7_200);
    assert!(ahead.contains("s ahead of this clock") && ahead.contains("  alive"), "{ahead}");
    let behind = inspected(now() - 60);
    assert!(behind.contains("  age 6") && behind.contains("  alive"), "{behind}");
}

fn issued_at(token: &str) -> u64 {
    let opened = ring(1).open(Kind::Lb, token.as_bytes()).unwrap();
    opened.contents.pins().iter().map(|pin| u64::from(pin.issued_at)).max().unwrap()
}

#[test]
fn a_cacheable_response_renews_a_pin_only_past_half_its_duration() {
    let b = told("b");
    let world = World::new(&[&b], "debug_headers = true", "");
    const DAY: u64 = 86_400;
    for (what, is_fresh) in [
        ("public", true),
        ("s-maxage", true),
        ("max-age", true),
        ("expires", true),
        ("guarded", true),
        ("stale", false),
        ("private", false),
        ("no-store", false),
        ("plain", false),
    ] {
        for (method, age) in [("GET", 60), ("HEAD", 60), ("GET", DAY / 2 + 60), ("POST", 60)] {
            let mut visitor = Visitor::of(world.address());
            visitor.jar.insert("AWSALB".into(), minted(&world, Kind::Lb, "app", "a", now() - age));
            let answer = visitor.ask(method, &format!("/200/{what}"), &[], "");
            assert_eq!(verdict(&answer), "hit");
            let waits = is_fresh && age < DAY / 2 && method != "POST";
            let written = answer.all("set-cookie").count();
            assert_eq!(written, usize::from(!waits), "{method} {what} {age}");
        }
        // A new client gets its pin at once.
        let first = Visitor::of(world.address()).get(&format!("/200/{what}"));
        assert_eq!(first.all("set-cookie").count(), 1, "{what}");
    }
}

#[test]
fn each_cookie_on_a_cacheable_response_is_guarded_once() {
    let a = told("a");
    let guard = "no-cache=\"set-cookie\"";
    for (setting, guards) in [("", true), ("stickiness = { guard_cache = false }", false)] {
        let world = World::new(&[&a], "", setting);
        for (path, expected) in [
            ("/200/public", vec!["public", guard]),
            ("/200/max-age", vec!["max-age=60", guard]),
            ("/200/stale", vec!["max-age=0", guard]),
            ("/200/expires", vec![guard]),
            // The response states no lifetime: a cache may guess one for this status, and not for
            // that.
            ("/200", vec![guard]),
            ("/404", vec![guard]),
            ("/302", vec![]),
            ("/500", vec![]),
            ("/200/private", vec!["private, max-age=60"]),
            ("/200/no-store", vec!["no-store"]),
            ("/200/guarded", vec!["max-age=60, no-cache=\"Set-Cookie\""]),
        ] {
            let answer = Visitor::of(world.address()).get(path);
            assert_eq!(answer.all("set-cookie").count(), 1, "{path}");
            let expected: Vec<_> =
                expected.into_iter().filter(|line| guards || *line != guard).collect();
            assert_eq!(answer.all("cache-control").collect::<Vec<_>>(), expected, "{path}");
        }
    }
}
