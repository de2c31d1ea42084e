//! The affinity cookie: a client stays, moves once, and the attributes of its cookie.

use crate::support::origin::Then;
use crate::support::token::{now, opened};
use crate::support::visitor::Answer;
use crate::support::{Origin, Visitor, World, until};
use stayput::testing::base::secret::Secret;
use stayput::testing::model::snapshot::{Resolutions, Snapshot};
use stayput::testing::model::target_registry::TargetRegistry;
use stayput::testing::policy::affinity::keys::{Key, Keyring};
use stayput::testing::policy::affinity::token::Kind;
use std::io::Write;
use std::sync::Arc;

const FAST_CHECKS: &str = "health = { interval = \"100ms\", fast_interval = \"100ms\", healthy_threshold = 1, unhealthy_threshold = 1 }";

fn three() -> [Origin; 3] {
    [Origin::named("a"), Origin::named("b"), Origin::named("c")]
}

fn refs(origins: &[Origin; 3]) -> [&Origin; 3] {
    [&origins[0], &origins[1], &origins[2]]
}

#[test]
fn new_clients_are_placed_in_turn_and_each_stays() {
    let origins = three();
    let world = World::new(&refs(&origins), "", "");
    let mut visitors: Vec<_> = (0..4).map(|_| Visitor::of(world.address())).collect();
    let first: Vec<_> = visitors.iter_mut().map(|visitor| visitor.get("/").body).collect();
    assert_eq!(first, ["a", "b", "c", "a"]);
    for _ in 0..5 {
        let again: Vec<_> = visitors.iter_mut().map(|visitor| visitor.get("/").body).collect();
        assert_eq!(again, first);
    }
}

#[test]
fn the_cookie_has_albs_name_and_the_documented_form() {
    let origin = Origin::saying(
        "HTTP/1.1 200 OK\r\nSet-Cookie: app=1; Path=/x\r\nSet-Cookie: app2=2\r\nX-App: yes\r\nContent-Length: 0\r\n\r\n",
        Then::KeepAlive,
    );
    let world = World::new(&[&origin], "", "");
    let answer = Visitor::of(world.address()).get("/");
    let lines: Vec<_> = answer.all("set-cookie").collect();
    assert_eq!(lines[..2], ["app=1; Path=/x", "app2=2"]);
    let parts: Vec<_> = lines[2].split("; ").collect();
    assert!(parts[0].starts_with("AWSALB=") && parts[1].starts_with("Expires="), "{}", lines[2]);
    assert_eq!(parts[2..], ["Max-Age=86400", "Path=/", "HttpOnly"]);
    assert_eq!(lines.len(), 3);
    assert_eq!(answer.field("x-app"), Some("yes"));
}

#[test]
fn every_response_of_a_target_renews_the_cookie() {
    for status in ["200 OK", "304 Not Modified", "404 Not Found", "500 Oops", "204 No Content"] {
        let text = format!(
            "HTTP/1.1 {status}\r\n{}\r\n",
            if status.starts_with("204") || status.starts_with("304") {
                ""
            } else {
                "Content-Length: 0\r\n"
            }
        );
        let origin = Origin::saying(Box::leak(text.into_boxed_str()), Then::KeepAlive);
        let world = World::new(&[&origin], "", "");
        let mut visitor = Visitor::of(world.address());
        for method in ["GET", "HEAD"] {
            let answer = visitor.ask(method, "/", &[], "");
            let cookies =
                answer.all("set-cookie").filter(|line| line.starts_with("AWSALB=")).count();
            assert_eq!(cookies, 1, "{method} {status}");
        }
    }
}

#[test]
fn a_client_whose_target_turns_unhealthy_moves_once_and_stays_moved() {
    let origins = three();
    let world = World::new(&refs(&origins), "debug_headers = true", FAST_CHECKS);
    let mut visitor = Visitor::of(world.address());
    assert_eq!(visitor.get("/").body, "a");
    origins[0].set_healthy(false);
    let moved = until("the client moves", || {
        let answer = visitor.get("/");
        (answer.body != "a").then_some(answer)
    });
    assert_eq!(moved.field("x-stayput-verdict"), Some("moved_unhealthy"));
    origins[0].set_healthy(true);
    until("a serves new clients again", || {
        (Visitor::of(world.address()).get("/").body == "a").then_some(())
    });
    for _ in 0..5 {
        let answer = visitor.get("/");
        assert_eq!(
            (answer.body.as_str(), answer.field("x-stayput-verdict")),
            (moved.body.as_str(), Some("hit"))
        );
    }
    let line = world.record(|record| record["sticky"] == "moved_unhealthy");
    assert_eq!((&line["from"], &line["set_cookie"]), (&"a".into(), &"moved".into()));
}

#[test]
fn one_refused_connection_does_not_move_a_client() {
    let origins = [Origin::named("a"), Origin::named("b"), Origin::named("c")];
    let gone = Origin::refusing();
    let slow_checks = "health = { protocol = \"tcp\", interval = \"300s\", fast_interval = \"300s\", passive = { connect_failures = 0 } }";
    let world = World::new(&[&gone, &origins[1], &origins[2]], "debug_headers = true", slow_checks);
    // The pin to the refusing target is minted by the function behind `stayput cookie mint`.
    let cookie = mint(&world, "app/a");
    let mut visitor = Visitor::of(world.address());
    visitor.jar.insert("AWSALB".into(), cookie.clone());
    let first = visitor.get("/");
    assert_eq!(first.field("x-stayput-verdict"), Some("spilled"));
    assert_eq!(first.all("set-cookie").count(), 0, "a spilled client's cookie stays as it was");
    let again = visitor.get("/");
    assert_eq!(again.body, first.body, "spilling always meets the same successor");
}

/// A cookie for a target, sealed with the key of this balancer.
fn mint(world: &World, target: &str) -> String {
    use stayput::testing::policy::affinity::token::{
        Contents, GroupKey, Kind, Pin, Seed, TargetKey,
    };
    let (group, id) = target.split_once('/').unwrap();
    let now = stayput::testing::base::clock::Moment::now().unix_seconds();
    let pin = Pin {
        group: GroupKey::of(group),
        target: TargetKey::of(group, id),
        issued_at: u32::try_from(now).unwrap(),
    };
    let snapshot = world.server().published().current();
    snapshot.keyring.seal(Kind::Lb, &Contents::new(Seed(1), pin)).as_str().to_owned()
}

#[test]
fn a_strict_group_refuses_rather_than_moves_and_leaves_the_pin() {
    let origins = three();
    let group = format!("stickiness = {{ on_unavailable = \"strict\" }}\n{FAST_CHECKS}");
    let world = World::new(&refs(&origins), "debug_headers = true", &group);
    let mut visitor = Visitor::of(world.address());
    assert_eq!(visitor.get("/").body, "a");
    origins[0].set_healthy(false);
    let refused = until("the client is refused", || {
        let answer = visitor.get("/");
        (answer.status == 503).then_some(answer)
    });
    assert_eq!(refused.all("set-cookie").count(), 0);
    assert!(refused.body.contains("503 Service Temporarily Unavailable"));
    origins[0].set_healthy(true);
    until("the client is back with its target", || (visitor.get("/").body == "a").then_some(()));
}

#[test]
fn a_pinned_request_over_the_cap_spills_and_comes_back() {
    let gate = std::sync::Arc::new(std::sync::Mutex::new(()));
    let held = gate.clone();
    let slow = Origin::scripted(move |request, stream| {
        if request.path() == "/slow" {
            drop(held.lock().unwrap());
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow");
        Then::KeepAlive
    });
    let other = Origin::named("other");
    let world =
        World::new(&[&slow, &other], "debug_headers = true", "max_in_flight_per_target = 1");
    let mut visitor = Visitor::of(world.address());
    visitor.jar.insert("AWSALB".into(), mint(&world, "app/a"));
    let closed = gate.lock().unwrap();
    visitor.send(&format!(
        "GET /slow HTTP/1.1\r\nHost: a\r\nCookie: AWSALB={}\r\n\r\n",
        visitor.jar["AWSALB"]
    ));
    until("the slow request is under way", || slow.heard().first().cloned());
    let mut second = Visitor::of(world.address());
    second.jar = visitor.jar.clone();
    let spilled = second.get("/");
    assert_eq!(
        (spilled.body.as_str(), spilled.field("x-stayput-verdict")),
        ("other", Some("spilled"))
    );
    assert_eq!(spilled.all("set-cookie").count(), 0);
    drop(closed);
    assert_eq!(visitor.read_answer(false).body, "slow");
    let back = until("the place is free again", || {
        Some(second.get("/")).filter(|answer| answer.body == "slow")
    });
    assert_eq!(back.field("x-stayput-verdict"), Some("hit"));
}

#[test]
fn unusable_cookies_are_replaced_without_an_error() {
    let origins = three();
    let world = World::new(&refs(&origins), "debug_headers = true", "");
    let good = mint(&world, "app/c");
    let mut forged = good.clone().into_bytes();
    forged[30] = if forged[30] == b'A' { b'B' } else { b'A' };
    for (value, verdict) in [
        ("junk".to_owned(), "malformed"),
        (String::from_utf8(forged).unwrap(), "forged"),
        ("A".repeat(4_000), "malformed"),
        (String::new(), "malformed"),
        (format!("\"{good}\""), "malformed"),
    ] {
        let mut visitor = Visitor::of(world.address());
        visitor.jar.insert("AWSALB".into(), value);
        let answer = visitor.get("/");
        assert_eq!((answer.status, answer.field("x-stayput-verdict")), (200, Some(verdict)));
        assert_eq!(visitor.get("/").field("x-stayput-verdict"), Some("hit"));
    }
}

#[test]
fn two_groups_share_one_cookie_and_both_keep_their_client() {
    let (app, api) = (
        [Origin::named("app-a"), Origin::named("app-b")],
        [Origin::named("api-a"), Origin::named("api-b")],
    );
    let targets = |origins: &[Origin; 2]| {
        format!("[\"{}\", \"{}\"]", origins[0].address(), origins[1].address())
    };
    let world = World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\ndefault = \"app\"\n\
         [[rule]]\nname = \"api\"\npaths = [\"/api/*\"]\nforward = \"api\"\n\
         [target_group.app]\ntargets = {}\n[target_group.api]\ntargets = {}\n",
        targets(&app),
        targets(&api)
    ));
    let mut visitor = Visitor::of(world.address());
    let (at_app, at_api) = (visitor.get("/").body, visitor.get("/api/x").body);
    assert!(at_app.starts_with("app-") && at_api.starts_with("api-"));
    for _ in 0..5 {
        assert_eq!(visitor.get("/").body, at_app);
        assert_eq!(visitor.get("/api/x").body, at_api);
    }
    assert_eq!(visitor.jar.len(), 1);
}

#[test]
fn behind_a_tls_proxy_there_is_a_twin_and_a_replaceable_cookie() {
    let origin = Origin::named("a");
    let trusted = "trusted_proxies = [\"127.0.0.0/8\"]";
    for (secure, attributes) in [
        ("auto", "; Path=/; HttpOnly"),
        ("always", "; Path=/; Secure; HttpOnly"),
        ("never", "; Path=/; HttpOnly"),
    ] {
        let world =
            World::new(&[&origin], trusted, &format!("stickiness = {{ secure = \"{secure}\" }}"));
        let mut visitor = Visitor::of(world.address());
        let answer = visitor.ask("GET", "/", &["X-Forwarded-Proto: https"], "");
        let lines: Vec<_> = answer.all("set-cookie").collect();
        let [main, twin] = lines[..] else { panic!("{lines:?}") };
        assert!(main.starts_with("AWSALB=") && main.ends_with(attributes), "{main}");
        let attributes = "; Path=/; Secure; HttpOnly; SameSite=None";
        assert!(twin.starts_with("AWSALBCORS=") && twin.ends_with(attributes), "{twin}");
        assert_eq!(visitor.jar["AWSALB"], visitor.jar["AWSALBCORS"]);
        let plain = Visitor::of(world.address()).get("/");
        let lines: Vec<_> = plain.all("set-cookie").collect();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].contains("; Secure"), secure == "always", "{lines:?}");
    }
}

#[test]
fn from_https_to_http_behind_a_trusted_proxy_the_pin_stays() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let listener = "trusted_proxies = [\"127.0.0.0/8\"]\ndebug_headers = true";
    let world = World::new(&[&a, &b], listener, "");
    let mut browser = SecureJar::default();
    let schemes = ["https", "http", "http", "https", "http"];
    let bodies = schemes.map(|scheme| browser.ask(&world, scheme));
    assert!(bodies.iter().all(|(body, _)| *body == bodies[0].0), "{bodies:?}");
    assert!(bodies[1..].iter().all(|(_, verdict)| verdict == "hit"), "{bodies:?}");
}

/// A cookie jar that treats `Secure` as browsers do (RFC 6265bis section 5.7).
#[derive(Default)]
struct SecureJar(std::collections::BTreeMap<String, (String, bool)>);

impl SecureJar {
    /// Sends a request as a proxy does that got it over `scheme`. Returns body and verdict.
    fn ask(&mut self, world: &World, scheme: &str) -> (String, String) {
        let over_tls = scheme == "https";
        let mut visitor = Visitor::of(world.address());
        let sent = self.0.iter().filter(|(_, (_, secure))| over_tls || !secure);
        visitor.jar.extend(sent.map(|(name, (value, _))| (name.clone(), value.clone())));
        let answer = visitor.ask("GET", "/", &[&format!("X-Forwarded-Proto: {scheme}")], "");
        for line in answer.all("set-cookie") {
            let cookie = cookie::Cookie::parse(line).unwrap();
            let secure = cookie.secure().unwrap_or(false);
            let known = self.0.get(cookie.name()).is_some_and(|(_, secure)| *secure);
            // Over plain HTTP, `Secure` cookies are neither made nor replaced.
            if over_tls || !secure && !known {
                self.0.insert(cookie.name().into(), (cookie.value().into(), secure));
            }
        }
        (answer.body.clone(), answer.field("x-stayput-verdict").unwrap_or_default().into())
    }
}

#[test]
fn each_cookie_has_max_age_and_expires_and_a_session_cookie_neither() {
    let origin = Origin::named("a");
    for (stickiness, ages) in [
        ("{}", &[Some(86_400)][..]),
        ("{ lb_cookie = { duration = \"1s\" } }", &[Some(1)]),
        ("{ lb_cookie = { duration = \"7d\" } }", &[Some(604_800)]),
        ("{ lb_cookie = { duration = \"session\" } }", &[None]),
        ("{ lb_cookie = { duration = \"1h\" }, cors_twin = \"always\" }", &[Some(3_600); 2]),
        ("{ lb_cookie = { duration = \"session\" }, cors_twin = \"always\" }", &[None; 2]),
    ] {
        let world = World::new(&[&origin], "", &format!("stickiness = {stickiness}"));
        let mut visitor = Visitor::of(world.address());
        for _ in 0..2 {
            let before = now();
            let answer = visitor.get("/");
            assert_eq!(ages_of(&answer, before), ages, "{stickiness}");
        }
    }
}

/// The `Max-Age` of each cookie. Checks that `Expires` is as far ahead of a time between `before`
/// and now.
fn ages_of(answer: &Answer, before: u64) -> Vec<Option<u64>> {
    let age_of = |line: &str| {
        let cookie = cookie::Cookie::parse(line.to_owned()).unwrap();
        let age = cookie.max_age().map(|age| age.whole_seconds() as u64);
        let expires = cookie.expires_datetime().map(|date| date.unix_timestamp() as u64);
        assert_eq!(age.is_some(), expires.is_some(), "{line}");
        if let (Some(age), Some(expires)) = (age, expires) {
            // The balancer's clock and this one are read at different times.
            assert!((before - 1..=now() + 1).contains(&(expires - age)), "{line}");
            let (date, behind) =
                (line.find("; Expires=").unwrap(), line.find("; Max-Age=").unwrap());
            assert!(date < behind && behind < line.find("; Path=").unwrap(), "{line}");
        }
        age
    };
    answer.all("set-cookie").map(age_of).collect()
}

#[test]
fn a_cookie_lives_as_long_as_its_longest_pin() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let world = World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\ndefault = \"app\"\n\
         [[rule]]\npaths = [\"/api/*\"]\nforward = \"api\"\n\
         [target_group.app]\ntargets = [\"{}\"]\nstickiness = {{ lb_cookie = {{ duration = \"2d\" }} }}\n\
         [target_group.api]\ntargets = [\"{}\"]\nstickiness = {{ lb_cookie = {{ duration = \"1h\" }} }}\n",
        a.address(),
        b.address()
    ));
    let mut visitor = Visitor::of(world.address());
    let before = now();
    assert_eq!(ages_of(&visitor.get("/api/x"), before), [Some(3_600)]);
    assert_eq!(ages_of(&visitor.get("/"), before), [Some(172_800)]);
    let ages = ages_of(&visitor.get("/api/x"), before);
    let since = now() + 1 - before;
    assert!((172_800 - since..=172_800).contains(&ages[0].unwrap()), "{ages:?}");
}

#[test]
fn a_group_may_hide_its_cookie_from_targets_and_guards_shared_caches() {
    let origin = Origin::saying(
        "HTTP/1.1 200 OK\r\nCache-Control: public, max-age=60\r\nContent-Length: 0\r\n\r\n",
        Then::KeepAlive,
    );
    let world = World::new(&[&origin], "", "stickiness = { hide_from_target = true }");
    let mut visitor = Visitor::of(world.address());
    visitor.jar.insert("cart".into(), "7".into());
    let answer = visitor.get("/");
    assert_eq!(
        answer.all("cache-control").collect::<Vec<_>>(),
        ["public, max-age=60", "no-cache=\"set-cookie\""]
    );
    visitor.get("/");
    assert_eq!(origin.heard()[1].field("cookie").as_deref(), Some("cart=7"));
}

#[test]
fn a_draining_target_keeps_its_clients_and_gets_no_new_ones() {
    let origins = three();
    let targets = |state: &str| {
        let draining = format!(
            "{{ id = \"a\", address = \"{}\", state = \"{state}\" }}",
            origins[0].address()
        );
        format!("targets = [{draining}, {{ id = \"b\", address = \"{}\" }}]", origins[1].address())
    };
    let text = |pins: &str, delay: &str| {
        format!(
            "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
             [listener.web]\naddress = \"127.0.0.1:0\"\ndebug_headers = true\n\
             [target_group.app]\n{}\ndraining_pins = \"{pins}\"\nderegistration_delay = \"{delay}\"\n",
            targets("drain")
        )
    };
    for (pins, delay, verdict) in [
        ("stay", "300s", "hit"),
        ("move", "300s", "moved_draining"),
        ("stay", "0s", "moved_draining"),
    ] {
        let world = World::of_text(&text(pins, delay));
        until("new clients go to b alone", || {
            let bodies: Vec<_> =
                (0..4).map(|_| Visitor::of(world.address()).get("/").body).collect();
            bodies.iter().all(|body| body == "b").then_some(())
        });
        let cookie = mint(&world, "app/a");
        let answer = until("the drain is seen", || {
            let mut visitor = Visitor::of(world.address());
            visitor.jar.insert("AWSALB".into(), cookie.clone());
            Some(visitor.get("/"))
                .filter(|answer| answer.field("x-stayput-verdict") == Some(verdict))
        });
        assert_eq!(answer.body, if verdict == "hit" { "a" } else { "b" });
    }
}

#[test]
fn an_old_key_still_opens_and_its_cookie_is_resealed() {
    let origin = Origin::named("a");
    let dir = tempfile::tempdir().unwrap();
    for (name, byte) in [("old.key", 1u8), ("new.key", 2)] {
        let key = stayput::testing::policy::affinity::keys::Key::generate([byte; 32]);
        std::fs::write(dir.path().join(name), key.to_base64_line().as_bytes()).unwrap();
    }
    let world = |keys: &str, refresh: &str| {
        World::of_text(&format!(
            "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[affinity]\nkeys = [{keys}]\n\
             [log]\naccess = {{ to = \"access.log\" }}\n[listener.web]\naddress = \"127.0.0.1:0\"\ndebug_headers = true\n\
             [target_group.app]\ntargets = [\"{}\"]\nstickiness = {{ refresh = \"{refresh}\" }}\n",
            origin.address()
        ))
    };
    let old = format!("{{ id = 1, file = \"{}\" }}", dir.path().join("old.key").display());
    let new = format!("{{ id = 2, file = \"{}\" }}", dir.path().join("new.key").display());
    let before = world(&old, "each_response");
    let mut visitor = Visitor::of(before.address());
    visitor.get("/");
    let sealed_old = visitor.jar["AWSALB"].clone();
    let during = world(&format!("{new}, {old}"), "never");
    let mut visitor = Visitor::of(during.address());
    visitor.jar.insert("AWSALB".into(), sealed_old.clone());
    assert_eq!(visitor.get("/").field("x-stayput-verdict"), Some("hit"));
    assert_ne!(visitor.jar["AWSALB"], sealed_old);
    assert_eq!(
        visitor.get("/").all("set-cookie").count(),
        0,
        "sealed with the first key it is left alone"
    );
    let after = world(&new, "never");
    let mut visitor_after = Visitor::of(after.address());
    visitor_after.jar = visitor.jar.clone();
    assert_eq!(visitor_after.get("/").field("x-stayput-verdict"), Some("hit"));
    visitor_after.jar.insert("AWSALB".into(), sealed_old);
    assert_eq!(visitor_after.get("/").field("x-stayput-verdict"), Some("unknown_key"));
}

#[test]
fn new_connections_keep_the_pin_and_the_token_within_a_second() {
    let origins = three();
    let world = World::new(&refs(&origins), "debug_headers = true", "");
    let mut first = Visitor::of(world.address());
    let body = first.get("/").body;
    let mut jar = first.jar;
    let issued_at = |token: &str| opened(&world, Kind::Lb, token).pins()[0].issued_at;
    let mut told = std::collections::BTreeMap::new();
    // Until one second has yielded three tokens: both workers respond, and the client may be slow.
    until("one second sees three answers", || {
        let mut visitor = Visitor::of(world.address());
        visitor.jar = std::mem::take(&mut jar);
        let answer = visitor.get("/");
        assert_eq!((&answer.body, answer.field("x-stayput-verdict")), (&body, Some("hit")));
        jar = visitor.jar;
        let token = &jar["AWSALB"];
        let (count, text) = told.entry(issued_at(token)).or_insert_with(|| (0, token.clone()));
        assert_eq!(token, text, "the same second, seed and pin");
        *count += 1;
        (*count == 3).then_some(())
    });
}

#[test]
fn a_cached_token_is_opened_anew_once_new_keys_are_published() {
    let origin = Origin::named("a");
    let text = format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\ndebug_headers = true\n\
         [target_group.app]\ntargets = [\"{}\"]\nhealth = {{ interval = \"300s\" }}\n",
        origin.address()
    );
    let world = World::of_text(&text);
    let mut visitor = Visitor::of(world.address());
    visitor.get("/");
    assert_eq!(visitor.get("/").field("x-stayput-verdict"), Some("hit"), "the worker knows it");
    let old = visitor.jar["AWSALB"].clone();
    publish_with(&world, &text, Key { id: 1, material: Secret::new(vec![7; 32]) });
    // On the connection that brought it before, and on a new one.
    let new_connection = Visitor::of(world.address());
    for mut visitor in [visitor, new_connection] {
        visitor.jar.insert("AWSALB".into(), old.clone());
        assert_eq!(visitor.get("/").field("x-stayput-verdict"), Some("unknown_key"));
        opened(&world, Kind::Lb, &visitor.jar["AWSALB"]);
        assert_eq!(visitor.get("/").field("x-stayput-verdict"), Some("hit"));
    }
}

/// Publishes this configuration with another key, as a replacement of the keys does.
fn publish_with(world: &World, text: &str, key: Key) {
    let published = world.server().published();
    let before = published.current();
    let config = stayput::config::parse(text, "test.toml", "/".as_ref()).unwrap().config;
    let keyring = Arc::new(Keyring::new(&[key]).unwrap());
    let (names, mut registry) = (Resolutions::new(), TargetRegistry::default());
    let snapshot = Snapshot::build(&config, keyring, &names, &mut registry).unwrap();
    for (new, old) in snapshot.groups[0].targets.iter().zip(&before.groups[0].targets) {
        new.state.set_availability(old.state.availability());
    }
    published.publish(Arc::new(snapshot));
}

#[test]
fn local_responses_carry_no_cookie() {
    let origin = Origin::named("a");
    let world = World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n\
         [[rule]]\npaths = [\"/closed\"]\nrespond = {{ status = 404, body = \"closed\\n\" }}\n\
         [target_group.app]\ntargets = [\"{}\"]\n",
        origin.address()
    ));
    let upload = "x".repeat(3_000_000);
    let refused = Visitor::of(world.address()).ask("POST", "/closed", &[], &upload);
    assert_eq!(refused.body, "closed\n", "an answer is not lost behind an unread body");
    let answer = Visitor::of(world.address()).get("/closed?x=1");
    assert_eq!((answer.status, answer.body.as_str()), (404, "closed\n"));
    assert_eq!(answer.field("content-type"), Some("text/plain"));
    assert_eq!(answer.all("set-cookie").count(), 0);
    let record = world.record(|record| record["status"] == 404);
    assert_eq!((&record["rule"], &record["action"]), (&"rule-1".into(), &"fixed-response".into()));
}

#[test]
fn a_group_that_hides_its_cookie_hides_those_of_other_groups_too() {
    let (app, api) = (Origin::named("app"), Origin::named("api"));
    let world = World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\ndefault = \"app\"\n\
         [[rule]]\nname = \"api\"\npaths = [\"/api/*\"]\nforward = \"api\"\n\
         [target_group.app]\ntargets = [\"{}\"]\nstickiness = {{ hide_from_target = true }}\n\
         [target_group.api]\ntargets = [\"{}\"]\nstickiness = {{ lb_cookie = {{ name = \"APIPIN\" }} }}\n",
        app.address(),
        api.address()
    ));
    let mut visitor = Visitor::of(world.address());
    visitor.jar.insert("cart".into(), "7".into());
    visitor.get("/api/x");
    assert!(visitor.jar.contains_key("APIPIN"));
    visitor.get("/");
    assert_eq!(app.heard()[0].field("cookie").as_deref(), Some("cart=7"));
}

#[test]
fn a_client_is_not_spilled_if_no_other_target_was_tried() {
    let (gone, other) = (Origin::refusing(), Origin::named("b"));
    let checks = "health = { protocol = \"tcp\", interval = \"300s\", fast_interval = \"300s\", passive = { connect_failures = 0 } }";
    let no_retries = format!("upstream = {{ retries = 0 }}\n{checks}");
    for (origins, group) in [(vec![&gone, &other], &*no_retries), (vec![&gone], checks)] {
        let world = World::new(&origins, "", group);
        let mut visitor = Visitor::of(world.address());
        visitor.jar.insert("AWSALB".into(), mint(&world, "app/a"));
        assert_eq!(visitor.get("/").status, 502);
        let record = world.record(|record| record["status"] == 502);
        assert_eq!((&record["sticky"], &record["attempts"]), (&"hit".into(), &1.into()));
    }
    assert!(other.heard().is_empty());
}

#[test]
fn a_cors_twin_set_to_always_comes_over_plain_http() {
    let origin = Origin::named("a");
    let world =
        World::new(&[&origin], "", "stickiness = { cors_twin = \"always\", http_only = false }");
    let answer = Visitor::of(world.address()).get("/");
    let lines: Vec<_> = answer.all("set-cookie").collect();
    let [main, twin] = lines[..] else { panic!("{lines:?}") };
    assert!(main.starts_with("AWSALB=") && main.ends_with("; Path=/"), "{main}");
    assert!(
        twin.starts_with("AWSALBCORS=") && twin.ends_with("; Path=/; Secure; SameSite=None"),
        "{twin}"
    );
}
