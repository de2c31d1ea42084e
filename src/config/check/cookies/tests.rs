//! Results of `auto`, and warnings, over files that differ in one setting.

use crate::config::parse;
use crate::config::settings::{Action, Config, WrittenCookie};
use std::sync::LazyLock;

/// A directory with a certificate.
static DIR: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["shop.example".into()]).unwrap();
    std::fs::write(dir.path().join("shop.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.path().join("shop.key"), made.signing_key.serialize_pem()).unwrap();
    dir
});

const PLAIN: &str = "[listener.plain]\naddress = '0.0.0.0:80'\ndefault = 'app'\n";
const TLS: &str = "[listener.tls]\naddress = '0.0.0.0:443'\ndefault = 'app'\n\
                   tls = { certificates = [{ cert = 'shop.pem', key = 'shop.key' }] }\n";
const REDIRECTING: &str = "[listener.plain]\naddress = '0.0.0.0:80'\nredirect_to = 'https'\n";
const ANSWERING: &str = "[listener.plain]\naddress = '0.0.0.0:80'\n\
                         default = { redirect = { status = 301, scheme = 'https', port = 443 } }\n";
const APP: &str = "[target_group.app]\ntargets = ['10.0.0.1:80']\n";
const OTHER: &str = "[target_group.other]\ntargets = ['10.0.0.2:80']\n";

fn told(text: &str) -> (Config, String) {
    let loaded = parse(text, "test.toml", DIR.path()).unwrap_or_else(|problems| {
        panic!("{text}\n{problems}");
    });
    (loaded.config, loaded.warnings.render(false))
}

fn cookie<'c>(config: &'c Config, name: &str) -> &'c WrittenCookie {
    config.cookies.iter().find(|cookie| cookie.name == name).unwrap()
}

#[test]
fn auto_is_secure_only_if_no_client_can_come_over_plain_http() {
    let proxies = "trusted_proxies = ['10.0.1.0/24']\n";
    let only_proxies = format!("{proxies}allow_from = ['10.0.1.0/25']\n");
    let behind_proxy = format!("{proxies}proxy_protocol = true\n");
    let to_app = "[[rule]]\nhosts = ['shop.example', '*.shop.example']\nforward = 'app'\n";
    let to_https = "redirect = { status = 301, scheme = 'https', port = 443 }\n";
    let own = format!("{OTHER}stickiness = {{ lb_cookie = {{ name = 'OTHER' }} }}\n");
    for (text, is_secure, words) in [
        (format!("{PLAIN}{APP}"), false, "listener `plain` may use plain HTTP"),
        (format!("{TLS}{APP}"), true, "all its listeners use TLS"),
        (format!("{TLS}{PLAIN}{APP}"), false, "clients of listener `plain`"),
        (format!("{TLS}{REDIRECTING}{APP}"), true, "all its listeners use TLS"),
        (format!("{TLS}{ANSWERING}{APP}"), true, "all its listeners use TLS"),
        // A rule that names the redirecting listener, or one for all listeners.
        (
            format!("{TLS}{REDIRECTING}{APP}[[rule]]\nlisteners = ['plain']\nforward = 'app'\n"),
            false,
            "clients of listener `plain`",
        ),
        (format!("{TLS}{REDIRECTING}{APP}{to_app}"), true, "all its listeners use TLS"),
        (format!("{TLS}{ANSWERING}{APP}{to_app}"), false, "clients of listener `plain`"),
        // Rules before it that redirect all its requests, some of them, or other ones.
        (
            format!("{TLS}{PLAIN}{APP}[[rule]]\nlisteners = ['plain']\n{to_https}{to_app}"),
            true,
            "all its listeners use TLS",
        ),
        (
            format!(
                "{TLS}{ANSWERING}{APP}[[rule]]\nlisteners = ['plain']\n\
                 hosts = ['*shop.example']\n{to_https}{to_app}"
            ),
            false,
            "clients of listener `plain`",
        ),
        (
            format!(
                "{TLS}{ANSWERING}{APP}[[rule]]\nlisteners = ['plain']\n\
                 hosts = ['*.shop.example', 'shop.example']\n{to_https}{to_app}"
            ),
            true,
            "all its listeners use TLS",
        ),
        (
            format!(
                "{TLS}{ANSWERING}{APP}[[rule]]\nlisteners = ['plain']\nmethods = ['GET']\n\
                 {to_https}{to_app}"
            ),
            false,
            "clients of listener `plain`",
        ),
        // Another group with the same cookie, and one with another cookie.
        (
            format!(
                "{TLS}{ANSWERING}{APP}{OTHER}[[rule]]\npaths = ['/other/*']\nforward = 'other'\n"
            ),
            false,
            "clients of listener `plain`",
        ),
        (
            format!(
                "{TLS}{ANSWERING}{APP}{own}[[rule]]\npaths = ['/other/*']\nforward = 'other'\n"
            ),
            true,
            "all its listeners use TLS",
        ),
        // Trusted proxies: the protocol between browser and proxy is unknown.
        (format!("{PLAIN}{proxies}{APP}"), false, "only HTTPS and no other clients connect"),
        (format!("{PLAIN}{only_proxies}{APP}"), false, "`secure = \"always\"` if these accept"),
        (format!("{PLAIN}{behind_proxy}{APP}"), false, "`secure = \"always\"` if these accept"),
        (format!("{TLS}{proxies}{APP}"), false, "the trusted proxies of listener `tls`"),
        (format!("{TLS}{behind_proxy}{APP}"), true, "all its listeners use TLS"),
        (format!("{TLS}{PLAIN}{proxies}{APP}"), false, "trusted proxies of listener `plain`"),
        (format!("{TLS}{REDIRECTING}{proxies}{APP}"), true, "all its listeners use TLS"),
    ] {
        let (config, _) = told(&text);
        let cookie = cookie(&config, "AWSALB");
        assert_eq!(cookie.is_secure(), is_secure, "{text}");
        let said = cookie.plain_http_note().unwrap();
        assert!(said.contains(words), "{text}\n{said}");
        let settings = |group: &str| {
            let group = config.groups.iter().find(|one| one.name.as_str() == group).unwrap();
            group.stickiness.as_ref().unwrap().cookie.is_secure
        };
        assert_eq!(settings("app"), is_secure, "{text}");
        for (setting, is_secure) in [("always", true), ("never", false)] {
            let text = text.replace(APP, &format!("{APP}stickiness.secure = '{setting}'\n"));
            let text = text.replace(OTHER, &format!("{OTHER}stickiness.secure = '{setting}'\n"));
            let Ok(loaded) = parse(&text, "test.toml", DIR.path()) else { continue };
            let cookie = self::cookie(&loaded.config, "AWSALB");
            assert_eq!((cookie.is_secure(), cookie.plain_http_note()), (is_secure, None), "{text}");
        }
    }
}

#[test]
fn a_rules_cookie_is_secure_by_the_rules_that_write_it() {
    let shares = "forward = { app = { weight = 1 }, other = { weight = 1 } }\n";
    let rule = |name: &str, more: &str| format!("[[rule]]\nname = '{name}'\n{more}\n{shares}");
    let on = |listener: &str| format!("paths = ['/{listener}/*']\nlisteners = ['{listener}']");
    let head = format!("{TLS}{PLAIN}{APP}{OTHER}");
    for (text, is_secure) in [
        (format!("{head}{}", rule("a", &on("tls"))), true),
        (format!("{head}{}{}", rule("a", &on("tls")), rule("b", &on("plain"))), false),
        (format!("{head}{}", rule("a", "")), false),
    ] {
        let (config, _) = told(&text);
        assert_eq!(cookie(&config, "AWSALBTG").is_secure(), is_secure, "{text}");
        assert!(!cookie(&config, "AWSALB").is_secure(), "{text}");
        for rule in &config.rules {
            let Action::Forward(forward) = &rule.action else { panic!("{rule:?}") };
            assert_eq!(forward.stickiness.as_ref().unwrap().cookie.is_secure, is_secure, "{text}");
        }
    }
}

#[test]
fn a_cookie_that_no_browser_keeps_or_sends_causes_a_warning() {
    let always = "secure = 'always'\n";
    for (listeners, stickiness, rule, words) in [
        (TLS, "", "", &[][..]),
        (PLAIN, "", "", &[]),
        // Names with a prefix that requires attributes.
        (TLS, "lb_cookie = { name = '__Host-s' }\n", "", &[]),
        (TLS, "lb_cookie = { name = '__Secure-s' }\npath = '/a'\n", "", &[]),
        (TLS, "lb_cookie = { name = '__Http-s' }\n", "", &[]),
        (
            PLAIN,
            "lb_cookie = { name = '__Secure-s' }\n",
            "",
            &["reject the cookie `__Secure-s`", "\"always\""],
        ),
        (
            PLAIN,
            "lb_cookie = { name = '__host-s' }\n",
            "",
            &["reject the cookie `__host-s`", "`__Host-`"],
        ),
        (TLS, "lb_cookie = { name = '__Host-s' }\nsecure = 'never'\n", "", &["`__Host-s`"]),
        (TLS, "lb_cookie = { name = '__Host-s' }\npath = '/a'\n", "", &["needs `path = \"/\"`;"]),
        (
            TLS,
            "lb_cookie = { name = '__Host-s' }\ndomain = 'shop.example'\n",
            "",
            &["needs no `domain`;"],
        ),
        (
            TLS,
            "lb_cookie = { name = '__Http-s' }\nhttp_only = false\n",
            "",
            &["`http_only = true`"],
        ),
        (
            TLS,
            "lb_cookie = { name = '__Host-Http-s' }\nhttp_only = false\npath = '/a'\n",
            "",
            &["needs `path = \"/\"` and `http_only = true`;"],
        ),
        (
            PLAIN,
            "app_cookie = { name = 'sid', companion = '__Secure-c' }\n",
            "",
            &["reject the cookie `__Secure-c-0`"],
        ),
        // Attributes that require `Secure`.
        (TLS, "same_site = 'none'\npartitioned = true\n", "", &[]),
        (PLAIN, "same_site = 'none'\n", "", &["unless it is `Secure`", "\"auto\"` is not Secure"]),
        (PLAIN, "partitioned = true\n", "", &["unless it is `Secure`"]),
        (TLS, "partitioned = true\nsecure = 'never'\n", "", &["unless it is `Secure`"]),
        // `Secure` over plain HTTP.
        (TLS, always, "", &[]),
        (PLAIN, always, "", &["browsers reject this cookie", "`redirect_to`"]),
        // `Strict` without a twin, which requests from links of other sites would carry.
        (TLS, "same_site = 'strict'\n", "", &[]),
        (TLS, "same_site = 'lax'\ncors_twin = 'never'\n", "", &[]),
        (TLS, "same_site = 'strict'\ncors_twin = 'never'\n", "", &["a link from another site"]),
        (TLS, "same_site = 'strict'\napp_cookie = { name = 'x' }\n", "", &["from another site"]),
        // Domains.
        (TLS, "domain = 'shop.example'\n", "", &[]),
        (TLS, "domain = '.shop.example'\n", "hosts = ['shop.example', '*.shop.example']", &[]),
        (TLS, "domain = 'shop.example'\n", "hosts = ['*.example', '*', 'a.SHOP.example']", &[]),
        (TLS, "domain = '10.0.0.1'\n", "", &["`domain` is an IP address"]),
        (TLS, "domain = 'shop.example.'\n", "", &["ends in a dot"]),
        (TLS, "domain = 'co.uk'\n", "", &["`domain` is a public suffix"]),
        (TLS, "domain = 'GitHub.io'\n", "", &["`domain` is a public suffix"]),
        (TLS, "domain = 'localhost'\n", "", &["`domain` is a public suffix"]),
        (TLS, "domain = 'shop.co.uk'\n", "", &[]),
        (
            TLS,
            "domain = 'shop.example'\n",
            "hosts = ['shop.example', 'myshop.example']",
            &["does not hold host `myshop.example` of rule `rule-1`"],
        ),
        (TLS, "domain = 'a.shop.example'\n", "hosts = ['shop.example']", &["host `shop.example`"]),
        (TLS, "domain = 'shop.example'\n", "hosts = ['*.shop.test']", &["host `*.shop.test`"]),
        // Paths.
        (TLS, "path = '/a'\n", "", &[]),
        (TLS, "path = '/a'\n", "paths = ['/a']", &[]),
        (TLS, "path = '/a'\n", "paths = ['/b/*', '/a/b/*']", &[]),
        (TLS, "path = '/a/'\n", "paths = ['/*.php']", &[]),
        (TLS, "path = '/a'\n", "paths = ['/ab', '/b/*']", &["matches no path of rule `rule-1`"]),
        (TLS, "path = '/a/'\n", "paths = ['/a']", &["matches no path of rule `rule-1`"]),
        (TLS, "path = '/A'\n", "paths = ['/a/*']", &["matches no path of rule `rule-1`"]),
    ] {
        let rule = match rule {
            "" => String::new(),
            more => format!("[[rule]]\n{more}\nforward = 'app'\n"),
        };
        let text = format!("{listeners}{APP}[target_group.app.stickiness]\n{stickiness}{rule}");
        let (_, warnings) = told(&text);
        let none = words.is_empty();
        assert!(words.iter().all(|words| warnings.contains(words)), "{text}\n{warnings}");
        assert!(
            if none { warnings.is_empty() } else { warnings.contains("1 warning\n") },
            "{text}\n{warnings}"
        );
    }
    // `always` with a plain listener, and with proxies that may use TLS before it.
    let app = format!("{APP}[target_group.app.stickiness]\n{always}");
    let (_, said) = told(&format!("{TLS}{PLAIN}{app}"));
    assert!(said.contains("`Secure` cookies from listener `plain`"), "{said}");
    for behind in [REDIRECTING.to_owned(), format!("{PLAIN}trusted_proxies = ['10.0.0.1']\n")] {
        assert_eq!(told(&format!("{TLS}{behind}{app}")).1, "");
    }
}

#[test]
fn a_rules_cookie_gets_its_groups_warnings_once() {
    let head = format!("{TLS}{APP}{OTHER}");
    let rule = "[[rule]]\nname = 'r'\nhosts = ['other.test']\npaths = ['/b/*']\n\
                forward = { app = { weight = 1 }, other = { weight = 1 } }\n";
    for kind in ["lb_cookie = {}", "header = { name = 'x-id' }"] {
        let sticky = |group: &str| {
            format!(
                "[target_group.{group}.stickiness]\n{kind}\npath = '/a'\ndomain = 'shop.example'\n"
            )
        };
        let (_, said) = told(&format!("{head}{}{}{rule}", sticky("app"), sticky("other")));
        let count = |words: &str| said.matches(words).count();
        let groups = if kind.starts_with("lb") { 2 } else { 1 };
        assert_eq!(count("does not hold host `other.test` of rule `r`"), groups, "{said}");
        assert_eq!(count("`path` matches no path of rule `r`"), groups, "{said}");
    }
}

#[test]
fn groups_that_share_a_cookie_agree_whether_it_outlives_the_browser() {
    for (one, other, is_fine) in [
        ("1d", "1h", true),
        ("session", "session", true),
        ("session", "1h", false),
        ("1h", "session", false),
    ] {
        let with = |group: &str, duration: &str| {
            format!("{group}stickiness = {{ lb_cookie = {{ duration = '{duration}' }} }}\n")
        };
        let (_, said) = told(&format!("{PLAIN}{}{}", with(APP, one), with(OTHER, other)));
        assert_eq!(
            said.contains("but only one of them has `duration = \"session\"`"),
            !is_fine,
            "{said}"
        );
        assert_eq!(said.is_empty(), is_fine, "{said}");
    }
}

#[test]
fn an_applications_cookie_never_has_the_name_of_a_balancer_cookie() {
    let named = format!("{APP}stickiness = {{ lb_cookie = {{ name = 'sid' }} }}\n");
    for (kind, is_taken) in [
        ("app_cookie = { name = 'sid' }", false),
        ("app_cookie = { name = 'sidCORS' }", false),
        ("route = { cookie = 'sid' }", false),
        ("route = { cookie = 'sidCORS' }", false),
        ("route = { cookie = 'other' }", true),
        ("app_cookie = { name = 'CORS' }", true),
        ("app_cookie = { name = 'c-0', companion = 'c' }", false),
        ("app_cookie = { name = 'c-0CORS', companion = 'c' }", true),
    ] {
        let text = format!("{PLAIN}{named}{OTHER}stickiness = {{ {kind} }}\n");
        match parse(&text, "test.toml", DIR.path()) {
            Ok(_) => assert!(is_taken, "{text}"),
            Err(problems) => {
                assert!(
                    !is_taken
                        && problems
                            .render(false)
                            .contains("has the name of the balancer cookie of"),
                    "{problems}"
                );
            }
        }
    }
}
