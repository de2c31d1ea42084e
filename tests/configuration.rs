//! The configuration as an operator sees it: which files are refused, with which messages, and that
//! every sample is valid. `UPDATE=1 cargo test --test configuration` writes the expected messages
//! anew.

use proptest::prelude::*;
use stayput::config;
use stayput::config::settings::{Action, Forward, StickinessKey};
use stayput::testing::policy::affinity::Lifetime;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

// A repository without these folders cannot be tested.
#[allow(clippy::unwrap_used)]
fn files_in(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    files
}

/// A directory with the certificates that samples name, which are not in the repository.
#[allow(clippy::unwrap_used)]
static CERTIFICATES: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    for name in ["shop", "wildcard", "clients"] {
        let made = rcgen::generate_simple_self_signed(vec![format!("{name}.example")]).unwrap();
        fs::write(dir.path().join(format!("{name}.pem")), made.cert.pem()).unwrap();
        let key = made.signing_key.serialize_pem();
        fs::write(dir.path().join(format!("{name}.key")), key).unwrap();
    }
    dir
});

/// A sample next to the files that it names.
#[allow(clippy::unwrap_used)]
fn sample(file: &Path) -> config::Loaded {
    let text = fs::read_to_string(file).unwrap();
    let origin = file.file_name().unwrap().to_str().unwrap();
    config::parse(&text, origin, CERTIFICATES.path())
        .unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn each_invalid_file_yields_the_errors_recorded_beside_it() {
    let mut differing = Vec::new();
    for file in files_in("tests/fixtures/config/invalid") {
        let text = fs::read_to_string(&file).unwrap();
        let origin = file.file_name().unwrap().to_str().unwrap();
        let problems = config::parse(&text, origin, file.parent().unwrap())
            .expect_err(&format!("{origin} is taken"));
        let expected = file.with_extension("txt");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&expected, problems.render(false)).unwrap();
        }
        if fs::read_to_string(&expected).unwrap_or_default() != problems.render(false) {
            differing.push(format!("--- {origin}\n{problems}"));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn the_generated_files_match_the_key_declarations() {
    for (name, made) in [
        ("config/complete.toml", config::manual::complete()),
        ("docs/configuration.md", config::manual::reference()),
    ] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        if std::env::var_os("UPDATE").is_some() {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, &made).unwrap();
        }
        let stored = fs::read_to_string(&file).unwrap_or_default();
        assert!(stored == made, "{name} is stale: run the tests with UPDATE=1");
    }
}

const KINDS_OF_STICKINESS: [&str; 3] = ["app_cookie = ", "route = {", "header = "];

#[test]
#[allow(clippy::unwrap_used)]
fn each_alternative_of_the_complete_sample_is_valid() {
    let sample = config::manual::complete();
    let lines: Vec<&str> = sample.lines().collect();
    let mut tried = 0;
    let mut table_is_on = true;
    for (at, line) in lines.iter().enumerate() {
        if line.starts_with('[') || line.starts_with("#[") {
            table_is_on = line.starts_with('[');
        }
        let Some(uncommented) =
            line.strip_prefix('#').filter(|rest| rest.starts_with(char::is_alphabetic))
        else {
            continue;
        };
        if !table_is_on || lines[at - 1].ends_with("Not supported yet.") {
            continue;
        }
        let mut changed = lines.clone();
        changed[at] = uncommented;
        if KINDS_OF_STICKINESS.iter().any(|kind| uncommented.starts_with(kind)) {
            // They exclude the alternative that holds by default.
            let heading = "[target_group.app.stickiness.lb_cookie]";
            let table = lines.iter().position(|line| *line == heading).unwrap();
            let end = lines[table..].iter().position(|line| line.is_empty()).unwrap();
            changed[table..table + end].fill("");
        }
        if let Err(problems) = config::parse(&changed.join("\n"), "complete.toml", Path::new("")) {
            panic!("{problems}");
        }
        tried += 1;
    }
    assert!(tried >= 5, "only {tried} alternatives were found");
}

#[test]
fn a_missing_file_is_an_error_and_not_a_panic() {
    let problems = config::load(Path::new("/nowhere/stayput.toml")).unwrap_err();
    assert!(problems.render(false).contains("cannot read /nowhere/stayput.toml"), "{problems}");
}

#[test]
fn every_sample_is_valid_without_a_warning() {
    for file in files_in("config") {
        let loaded = sample(&file);
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    }
}

#[test]
fn a_printed_sample_means_the_same_as_the_sample() {
    for file in files_in("config") {
        let loaded = sample(&file);
        let printed = config::effective(&loaded);
        let again = config::parse(&printed, "printed", CERTIFICATES.path())
            .unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(format!("{:?}", again.config), format!("{:?}", loaded.config), "{printed}");
        // The only difference is that every default is now written out.
        let unmarked = |text: &str| text.replace("  # default", "");
        assert_eq!(unmarked(&config::effective(&again)), unmarked(&printed), "{}", file.display());
    }
}

#[test]
fn the_smallest_file_forwards_to_its_group_and_is_sticky_for_a_day() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/minimal.toml");
    let config = config::load(&file).unwrap().config;
    let group = &config.groups[0];
    let stickiness = group.stickiness.as_ref().unwrap();
    let lifetime = Lifetime::For(Duration::from_secs(86_400));
    assert_eq!(stickiness.key, StickinessKey::LbCookie { name: "AWSALB".to_owned(), lifetime });
    let forward = Action::Forward(Forward::to(group.name.clone()));
    assert_eq!(config.listeners[0].default, Some(forward));
}

#[test]
fn a_doubtful_value_is_a_warning_and_the_file_is_valid() {
    let head = "[listener.web]\naddress = '0.0.0.0:80'\n";
    let groups = "[target_group.a]\ntargets = ['10.0.0.1:80']\n\
                  [target_group.b]\ntargets = ['10.0.0.2:80']\n";
    for (text, warning) in [
        (format!("{head}{groups}"), Some("answers 404")),
        (format!("{head}default = 'a'\n{groups}"), None),
        (format!("{head}{groups}[[rule]]\npaths = ['/*']\nforward = 'b'\n"), None),
        (format!("{head}{groups}[[rule]]\npaths = ['/b/*']\nforward = 'b'\n"), Some("answers 404")),
        (format!("{head}redirect_to = 'https'\n{groups}"), None),
        (
            format!("{head}redirect_to = 'https'\n{groups}[[rule]]\nforward = 'a'\n"),
            Some("this rule applies to no listener"),
        ),
        (
            format!("{head}{groups}[[rule]]\nforward = 'b'\nheaders = {{ x-b = 'y' }}\n"),
            Some("answers 404"),
        ),
        (
            format!(
                "[runtime]\nzone = 'x'\n{head}[target_group.a]\ntargets = ['10.0.0.1:80']\ncross_zone = false\n"
            ),
            Some("is in zone `x`"),
        ),
        (
            format!(
                "{head}[target_group.a]\ntargets = ['10.0.0.1:80']\nstickiness = {{ secure = 'never', same_site = 'none' }}\n"
            ),
            Some("browsers reject"),
        ),
        (
            format!(
                "{head}[target_group.a]\ntargets = ['10.0.0.1:80']\ntunnels_follow = true\nstickiness = {{ enabled = false }}\n"
            ),
            Some("`tunnels_follow` needs stickiness"),
        ),
    ] {
        let warnings =
            config::parse(&text, "test.toml", Path::new("")).unwrap().warnings.render(false);
        match warning {
            Some(words) => assert!(warnings.contains(words), "{text}\n{warnings}"),
            None => assert_eq!(warnings, "", "{text}"),
        }
    }
}

#[test]
#[allow(clippy::unwrap_used)]
fn certificate_defects_are_reported_as_errors_or_warnings() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, key: &rcgen::KeyPair, (from, to): (i32, i32)| {
        let mut parameters = rcgen::CertificateParams::new(vec!["shop.example".into()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(from, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(to, 1, 1);
        let made = parameters.self_signed(key).unwrap();
        fs::write(dir.path().join(name).with_extension("pem"), made.pem()).unwrap();
        fs::write(dir.path().join(name).with_extension("key"), key.serialize_pem()).unwrap();
    };
    let (key, other) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
    write("good", &key, (2020, 4000));
    write("old", &key, (2020, 2021));
    write("new", &key, (3990, 4000));
    write("other", &other, (2020, 4000));
    let parse = |cert: &str, key: &str, rest: &str| {
        let text = format!(
            "[listener.web]\naddress = '0.0.0.0:443'\n[listener.web.tls]\n\
             certificates = [{{ cert = '{cert}.pem', key = '{key}.key' }}]\n\
             [target_group.a]\ntargets = ['10.0.0.1:80']\n{rest}"
        );
        match config::parse(&text, "test.toml", dir.path()) {
            Ok(loaded) => (true, loaded.warnings.render(false)),
            Err(problems) => (false, problems.render(false)),
        }
    };
    assert_eq!(parse("good", "good", ""), (true, String::new()));
    for (cert, key, is_taken, words) in [
        ("old", "old", true, "certificate of shop.example expired"),
        ("new", "new", true, "certificate of shop.example is not valid for another"),
        ("good", "other", false, "cannot use `other.key`: the private key does not match the"),
        ("good", "absent", false, "cannot read the key `absent.key`"),
    ] {
        let (taken, said) = parse(cert, key, "");
        assert_eq!(taken, is_taken, "{said}");
        assert!(said.contains(words), "{said}");
    }
    // A group of HTTP/2 targets, with HTTP/2 clients and without.
    let parse_alpn = |alpn: &str| {
        let text = format!(
            "[listener.web]\naddress = '0.0.0.0:443'\n\
             [listener.web.tls]\nalpn = [{alpn}]\n\
             certificates = [{{ cert = 'good.pem', key = 'good.key' }}]\n\
             [target_group.a]\ntargets = ['10.0.0.1:80']\nprotocol = 'http2'\n"
        );
        config::parse(&text, "test.toml", dir.path()).unwrap().warnings.render(false)
    };
    assert_eq!(parse_alpn("'h2', 'http/1.1'"), "");
    let said = parse_alpn("'http/1.1'");
    assert!(said.contains("no listener offers HTTP/2"), "{said}");
    // A plain listener that redirects to the port of this one, to another of its ports, or to
    // another host.
    let plain = |port: u16, to: &str| {
        format!("[listener.plain]\naddress = '0.0.0.0:{port}'\nredirect_to = '{to}'\n")
    };
    assert_eq!(parse("good", "good", &plain(80, "https")), (true, String::new()));
    let (taken, said) = parse("good", "good", &plain(80, "https:8443"));
    assert!(taken && said.contains("no TLS listener on port 8443"), "{said}");
    let (taken, said) = parse("good", "good", &plain(8443, "https:8443"));
    assert!(!taken && said.contains("which has no TLS"), "{said}");
    // No rule of the HTTPS listener redirects to HTTP.
    let back = "[[rule]]\nredirect = { status = 302, scheme = 'http', path = '/x' }\n";
    let (taken, said) = parse("good", "good", back);
    assert!(!taken && said.contains("from HTTPS to HTTP"), "{said}");
    let elsewhere = format!("{}listeners = ['plain']\n", back);
    assert!(parse("good", "good", &format!("{}{elsewhere}", plain(80, "https"))).0);
}

#[test]
fn lists_of_rules_and_of_their_values_have_a_bound() {
    let head = "[listener.web]\naddress = '0.0.0.0:80'\ndefault = 'a'\n\
                [target_group.a]\ntargets = ['10.0.0.1:80']\n";
    let refusal = |rules: String| {
        let parsed = config::parse(&format!("{head}{rules}"), "test.toml", Path::new(""));
        parsed.err().map(|problems| problems.render(false))
    };
    let rules = |count| "[[rule]]\nforward = 'a'\npaths = ['/x']\n".repeat(count);
    let values = |key: &str, value: &str, count| {
        format!("[[rule]]\nforward = 'a'\n{key} = [{}]\n", format!("{value},").repeat(count))
    };
    assert_eq!(refusal(rules(10_000)), None);
    assert!(refusal(rules(10_001)).unwrap().contains("more than 10000 rules"));
    for (key, value) in [
        ("hosts", "'a.b'"),
        ("paths", "'/a'"),
        ("methods", "'GET'"),
        ("headers.x", "'y'"),
        ("query", "{ value = 'y' }"),
        ("source_ips", "'192.0.2.1'"),
    ] {
        assert_eq!(refusal(values(key, value, 1_000)), None, "{key}");
        let refused = refusal(values(key, value, 1_001)).unwrap();
        assert!(refused.contains("at most 1000 values"), "{key}: {refused}");
    }
}

#[test]
fn an_unsupported_key_is_accepted_at_its_default() {
    let text = "[runtime]\nmemory_limit = '0'\n[listener.web]\naddress = '0.0.0.0:80'\n\
                proxy_protocol = false\n[target_group.a]\ntargets = ['10.0.0.1:80']\n\
                protocol = 'http1'\nslow_start = '0s'\nsend_proxy = 'off'\n\
                [[rule]]\nmethods = []\nfailover = false\nforward = { a = { weight = 7 } }\n";
    assert!(config::parse(text, "test.toml", Path::new("")).is_ok());
}

proptest! {
    // Each case parses a whole file and renders its errors.
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_file_cut_and_patched_at_random_never_panics(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        cut in 0usize..12,
        patch in "[\\[\\]{}=\",.'#\n a-z0-9ü-]{0,12}",
    ) {
        let mut files = files_in("config");
        files.extend(files_in("tests/fixtures/config/invalid"));
        let text = fs::read_to_string(which.get(&files)).unwrap();
        let mut text: Vec<char> = text.chars().collect();
        let at = at.index(text.len() + 1);
        let end = (at + cut).min(text.len());
        text.splice(at..end, patch.chars());
        let text: String = text.into_iter().collect();
        if let Err(problems) = config::parse(&text, "mutated.toml", Path::new("/nowhere")) {
            prop_assert!(!problems.render(true).is_empty());
        }
    }
}

#[test]
fn the_recipes_for_deploys_pass_with_the_groups_they_name() {
    let text = include_str!("../docs/operating.md");
    let recipes = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let mut count = 0;
    for recipe in recipes {
        let mut file = format!(
            "[listener.web]\naddress = '127.0.0.1:80'\ndefault = {{ respond = {{ status = 404 }} }}\n{recipe}"
        );
        for group in ["stable", "canary", "blue", "green"] {
            if !recipe.contains(&format!("[target_group.{group}]")) && recipe.contains(group) {
                file.push_str(&format!("[target_group.{group}]\ntargets = ['10.0.0.1:80']\n"));
            }
        }
        if !recipe.contains("[[rule]]") {
            let named =
                recipe.split("[target_group.").nth(1).and_then(|rest| rest.split(']').next());
            file.push_str(&format!("[[rule]]\nforward = '{}'\n", named.unwrap_or("stable")));
        }
        let loaded = config::parse(&file, "operating.md", Path::new(""));
        let loaded = loaded.unwrap_or_else(|problems| panic!("{}", problems.render(false)));
        assert_eq!(loaded.warnings.render(false), "", "{recipe}");
        count += 1;
    }
    assert!(count >= 6, "{count} recipes");
}
