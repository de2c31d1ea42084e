//! Conditions, redirects and rewrites, and what `explain` prints of them.

use crate::support::visitor::Answer;
use crate::support::{Origin, Visitor, World};
use std::process::Command;

/// A balancer with these rules before a default of 404.
fn world(listener: &str, rules: &str) -> World {
    let origin = Origin::refusing();
    let listener = format!("default = {{ respond = {{ status = 404 }} }}\n{listener}");
    World::new(&[&origin], &listener, rules)
}

/// A rule that responds with its name.
fn taken(name: &str, conditions: &str) -> String {
    format!(
        "[[rule]]\nname = '{name}'\n{conditions}\nrespond = {{ status = 200, body = '{name}' }}\n"
    )
}

/// Sends a head as raw bytes.
fn raw(world: &World, head: &str) -> Answer {
    let mut visitor = Visitor::of(world.address());
    visitor.send(head);
    visitor.read_answer(false)
}

fn location(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.field("location").unwrap_or("-"))
}

#[test]
fn each_condition_matches_and_the_first_rule_wins() {
    let rules = [
        taken("host", "hosts = ['*.admin.example']"),
        taken("path", "paths = ['/img/*', '/v?/x']"),
        taken("method", "methods = ['PURGE', 'post']"),
        taken("field", "headers = { X-Beta = ['yes', 'y?'], user-agent = ['*Chrome*'] }"),
        taken("pair", "query = [{ key = 'Version', value = 'v1*' }, { value = 'a\\*b' }]"),
        taken("all", "paths = ['/all']\nmethods = ['GET']\nquery = [{ value = '*' }]"),
        taken("after", "paths = ['/img/*', '/all']"),
    ];
    let world = world("", &rules.concat());
    let mut visitor = Visitor::of(world.address());
    for (method, path, fields, expected) in [
        ("GET", "/img/a.png", &[][..], "path"),
        ("GET", "/img", &[], ""),
        ("GET", "/IMG/a", &[], ""),
        ("GET", "/v1/x", &[], "path"),
        ("GET", "/?/img/a", &[], ""),
        ("PURGE", "/", &[], "method"),
        ("POST", "/", &[], ""),
        ("GET", "/", &["X-BETA: YES", "User-Agent: a chrome/1"], "field"),
        ("GET", "/", &["X-Beta: yes"], ""),
        ("GET", "/", &["X-Beta: no", "X-Beta: yo", "User-Agent: Chrome"], "field"),
        ("GET", "/", &["X-Beta: no, yes", "User-Agent: Chrome"], ""),
        ("GET", "/?a=b&VERSION=V12", &[], "pair"),
        ("GET", "/?x=A*B", &[], "pair"),
        ("GET", "/?x=acb", &[], ""),
        ("GET", "/?version=%761", &[], ""),
        ("GET", "/all?x", &[], "all"),
        ("GET", "/all", &[], "after"),
    ] {
        let answer = visitor.ask(method, path, fields, "");
        assert_eq!(answer.body, expected, "{method} {path} {fields:?}");
        assert_eq!(answer.status, if expected.is_empty() { 404 } else { 200 });
    }
    let host = |host| raw(&world, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).body;
    assert_eq!((host("A.Admin.EXAMPLE:81"), host("admin.example")), ("host".into(), String::new()));
    world.record(|record| record["rule"] == "after" && record["action"] == "fixed-response");
}

#[test]
fn the_client_address_is_the_peers_or_from_a_trusted_proxy() {
    let rules = taken("office", "source_ips = ['203.0.113.0/24', '2001:db8::/32']")
        + &taken("local", "source_ips = ['127.0.0.1']");
    let from = |world: &World, chain: &str| {
        let field = format!("X-Forwarded-For: {chain}");
        Visitor::of(world.address()).ask("GET", "/", &[&field], "").body
    };
    let direct = world("", &rules);
    assert_eq!(from(&direct, "203.0.113.9"), "local", "an untrusted peer's word");
    let behind = world("trusted_proxies = ['127.0.0.0/8']", &rules);
    assert_eq!(from(&behind, "203.0.113.9"), "office");
    assert_eq!(from(&behind, "198.51.100.1, 2001:db8::7"), "office");
    assert_eq!(from(&behind, "203.0.113.9, 198.51.100.1"), "", "the right-most is the client");
}

#[test]
fn a_redirect_builds_the_location_from_its_parts() {
    let redirect = |path: &str, parts: &str| {
        format!("[[rule]]\npaths = ['{path}']\nredirect = {{ {parts} }}\n")
    };
    let world = world(
        "trusted_proxies = ['127.0.0.0/8']",
        &[
            redirect("/tls*", "status = 301, scheme = 'https'"),
            redirect("/port", "status = 302, scheme = 'https', port = 8443"),
            redirect("/default", "status = 302, scheme = 'https', port = '443'"),
            redirect("/old/*", "status = 303, path = '/new/#{path}', query = 'was=#{query}'"),
            redirect("/host", "status = 307, host = 'www.#{host}', query = ''"),
            redirect("/there", "status = 308, host = 'b.example', path = '/#{host}/#{port}'"),
        ]
        .concat(),
    );
    let mut visitor = Visitor::of(world.address());
    for (path, expected) in [
        ("/tls?a=b&c", (301, "https://shop.example/tls?a=b&c")),
        ("/tls", (301, "https://shop.example/tls")),
        ("/port", (302, "https://shop.example:8443/port")),
        ("/default", (302, "https://shop.example/default")),
        ("/old/x?y=1", (303, "http://shop.example/new/old/x?was=y=1")),
        ("/host?x", (307, "http://www.shop.example/host")),
        ("/there", (308, "http://b.example/shop.example/80")),
    ] {
        let answer = visitor.get(path);
        assert_eq!(location(&answer), expected);
        assert!(answer.body.starts_with("<html>"), "{}", answer.body);
    }
    let over_tls = visitor.ask("POST", "/host", &["X-Forwarded-Proto: https"], "body");
    assert_eq!(location(&over_tls), (307, "https://www.shop.example/host"));
    let spelled = raw(&world, "GET /tls HTTP/1.1\r\nHost: shop.example:8080\r\n\r\n");
    assert_eq!(location(&spelled), (301, "https://shop.example:8080/tls"));
    let absolute = "GET http://b.example:80/tls HTTP/1.1\r\nHost: shop.example\r\n\r\n";
    assert_eq!(location(&raw(&world, absolute)), (301, "https://b.example/tls"));
    let record = world.record(|record| record["uri"] == "/port");
    assert_eq!((&record["action"], &record["status"]), (&"redirect".into(), &302.into()));
}

#[test]
fn a_redirect_to_the_requests_own_url_is_refused() {
    let rule = "[[rule]]\nredirect = { status = 301, host = 'shop.example' }\n";
    let world = world("", rule);
    let mut visitor = Visitor::of(world.address());
    let answer = visitor.get("/a?b");
    assert_eq!(location(&answer), (508, "-"));
    assert_eq!(visitor.get("/again").status, 508, "the connection lives on");
    let other = raw(&world, "GET /a?b HTTP/1.1\r\nHost: b.example\r\n\r\n");
    assert_eq!(location(&other), (301, "http://shop.example/a?b"));
    let record = world.record(|record| record["uri"] == "/a?b" && record["status"] == 508);
    assert_eq!(
        (&record["error_reason"], &record["action"]),
        (&"redirect_loop".into(), &"redirect".into())
    );
}

#[test]
fn a_location_of_more_than_8_kib_is_507() {
    let world = world("", "[[rule]]\nredirect = { status = 302, scheme = 'https' }\n");
    let mut visitor = Visitor::of(world.address());
    let frame = "https://shop.example".len();
    let fits = format!("/{}", "a".repeat(8 * 1_024 - frame - 1));
    assert_eq!(location(&visitor.get(&fits)), (302, &*format!("https://shop.example{fits}")));
    let answer = visitor.get(&format!("{fits}a"));
    assert_eq!(location(&answer), (507, "-"));
    let record = world.record(|record| record["status"] == 507);
    assert_eq!(record["error_reason"], "redirect_too_long");
}

#[test]
fn no_byte_of_a_request_splits_or_alters_a_location() {
    let world = world(
        "",
        "[[rule]]\nredirect = { status = 302, scheme = 'https', path = '/#{host}/#{path}', query = 'q=#{query}' }\n",
    );
    let mut redirected = 0;
    let evil =
        ["\r\nX-Evil: 1", "\rX-Evil: 1", "\nX-Evil: 1", "\0", "\t", "\u{7f}", "\u{e9}", " x"];
    for bytes in
        evil.iter().chain(&["%0d%0aX-Evil:%201", "\"<>\\^`{|}[]", "#frag", "@evil.example"])
    {
        for head in [
            format!("GET / HTTP/1.1\r\nHost: a{bytes}\r\n\r\n"),
            format!("GET /{bytes} HTTP/1.1\r\nHost: shop.example\r\n\r\n"),
            format!("GET /?{bytes} HTTP/1.1\r\nHost: shop.example\r\n\r\n"),
            format!("GET http://a{bytes}/ HTTP/1.1\r\nHost: shop.example\r\n\r\n"),
        ] {
            let answer = raw(&world, &head);
            assert_eq!(answer.field("x-evil"), None, "{head:?}");
            let Some(url) = answer.field("location") else {
                assert!((400..500).contains(&answer.status), "{head:?}: {}", answer.status);
                continue;
            };
            let fine =
                |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte);
            assert!(url.bytes().all(fine), "{head:?}: {url}");
            let host = url.strip_prefix("https://").unwrap().split('/').next().unwrap();
            assert!(["shop.example", "a"].contains(&host), "{head:?}: {url}");
            redirected += 1;
        }
    }
    assert!(redirected >= 10, "only {redirected} were redirected at all");
}

#[test]
fn http_1_0_without_host_is_redirected_to_the_listeners_address() {
    let world = world("", "[[rule]]\nredirect = { status = 301, path = '/x' }\n");
    let answer = raw(&world, "GET / HTTP/1.0\r\n\r\n");
    assert_eq!(location(&answer), (301, &*format!("http://{}/x", world.address())));
}

#[test]
fn redirect_to_redirects_all_but_requests_of_the_listeners_own_rules() {
    let world = World::new(
        &[&Origin::refusing()],
        "redirect_to = 'https:8443'\ntrusted_proxies = ['127.0.0.0/8']",
        &(taken("everywhere", "")
            + &taken("here", "listeners = ['web']\npaths = ['/.well-known/*']")),
    );
    let mut visitor = Visitor::of(world.address());
    for (method, status) in [("GET", 301), ("HEAD", 301), ("POST", 308), ("DELETE", 308)] {
        let answer = visitor.ask(method, "/a?b=c", &[], "");
        assert_eq!(location(&answer), (status, "https://shop.example:8443/a?b=c"), "{method}");
    }
    assert_eq!(visitor.get("/.well-known/acme").body, "here");
    let over_tls = ["X-Forwarded-Proto: https", "X-Forwarded-For: 203.0.113.9"];
    assert_eq!(visitor.ask("GET", "/", &over_tls, "").status, 301, "another port");
    let own = "GET / HTTP/1.1\r\nHost: shop.example:8443\r\nX-Forwarded-Proto: https\r\n\r\n";
    assert_eq!(raw(&world, own).status, 508);
}

#[test]
fn a_listeners_default_may_redirect() {
    let listener =
        "default = { redirect = { status = 302, host = 'b.example', path = '/#{path}' } }";
    let world = World::new(&[&Origin::refusing()], listener, "");
    let answer = Visitor::of(world.address()).get("/x");
    assert_eq!(location(&answer), (302, "http://b.example/x"));
    world.record(|record| record["rule"] == "default" && record["action"] == "redirect");
}

#[test]
fn a_target_gets_the_rewritten_url_and_the_log_the_original() {
    let origin = Origin::named("a");
    let world = World::new(
        &[&origin],
        "",
        "[[rule]]\nname = 'api'\npaths = ['/api*']\nforward = 'app'\n\
         rewrite = { path = { regex = '^/api/?(.*)$', replace = '/$1' }, \
         host = { regex = '^shop\\.(.+)$', replace = 'inner.$1' } }\n\
         [[rule]]\npaths = ['/bad*']\nforward = 'app'\n\
         rewrite = { path = { regex = '^/bad/', replace = '' } }\n\
         [[rule]]\npaths = ['/cart']\nrespond = { status = 404 }\n",
    );
    let mut visitor = Visitor::of(world.address());
    for (path, target) in [("/api/cart?x=1", "/cart?x=1"), ("/api", "/"), ("/other", "/other")] {
        assert_eq!(visitor.get(path).body, "a");
        let heard = origin.heard().pop().unwrap();
        assert_eq!(heard.path(), target);
        let host = if path == "/other" { "shop.example" } else { "inner.example" };
        assert_eq!(heard.field("host").as_deref(), Some(host), "{path}");
    }
    let record = world.record(|record| record["uri"] == "/api/cart?x=1");
    assert_eq!((&record["host"], &record["rule"]), (&"shop.example".into(), &"api".into()));
    let port = "GET http://SHOP.b:81/api/y HTTP/1.1\r\nHost: ignored\r\n\r\n";
    assert_eq!(raw(&world, port).body, "a");
    let heard = origin.heard().pop().unwrap();
    assert_eq!((heard.path(), heard.field("host").as_deref()), ("/y", Some("inner.b:81")));
    let before = origin.heard().len();
    assert_eq!(visitor.get("/bad/x").status, 500);
    assert_eq!(visitor.get("/bad").body, "a", "no match, no change");
    assert_eq!(origin.heard().len(), before + 1);
    let record = world.record(|record| record["status"] == 500);
    assert_eq!(record["error_reason"], "rewrite_failed");
}

/// The output of `explain -o json` for a configuration.
fn explained(file: &str, arguments: &[&str]) -> serde_json::Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stayput"));
    let output =
        command.args(["explain", "-c", file, "-o", "json"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn explain_names_each_passed_rule_and_its_failed_condition() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/rules.toml");
    let told = explained(
        file,
        &[
            "-X",
            "POST",
            "-H",
            "x-beta: no",
            "--from",
            "203.0.113.9",
            "http://shop.example/cart?v=2",
        ],
    );
    let passed: Vec<_> = told["passed"].as_array().unwrap().iter().collect();
    assert!(passed.len() >= 4, "{told}");
    for (rule, unmet) in [
        ("purge", "methods"),
        ("old-shop", "hosts"),
        ("beta", "headers.x-beta"),
        ("images", "paths"),
        ("office", "source_ips"),
    ] {
        let wanted = serde_json::json!({ "rule": rule, "unmet": unmet });
        assert!(passed.contains(&&wanted), "{rule}: {told}");
    }
    assert_eq!(told["rule"], "canary");
    let beta = explained(file, &["-H", "X-Beta: YES", "http://shop.example/cart"]);
    assert_eq!((&beta["rule"], &beta["group"]), (&"beta".into(), &"canary".into()));
    let moved = explained(file, &["http://old.shop.example/a?b"]);
    let url = "https://shop.example/a?b&from=old.shop.example";
    assert_eq!((&moved["location"], &moved["status"]), (&url.into(), &301.into()));
    let table = Command::new(env!("CARGO_BIN_EXE_stayput"))
        .args(["explain", "-c", file, "http://old.shop.example/a"])
        .output()
        .unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    for line in [
        "skipped   purge: `methods` does not match",
        "rule      old-shop",
        "answer    301 to https://shop.example/a?&from=old.shop.example",
    ] {
        assert!(table.lines().any(|told| told == line), "{line}: {table}");
    }
    let api = explained(file, &["http://shop.example/api/cart?x=1"]);
    assert_eq!(api["transformed_uri"], "/cart?x=1", "{api}");
}
