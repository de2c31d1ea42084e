//! The real program: its exit codes, its messages, and the curl lines that the demo prints.

use crate::support::{Origin, until};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

pub(crate) fn stayput(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stayput"));
    command.args(arguments).env_remove("STAYPUT_CONFIG").stdin(Stdio::null());
    command
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A child process that is stopped, by its id, when the test ends.
struct Running(Child);

impl Running {
    fn signal(&self, name: &str) {
        let done = Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn file(dir: &Path, origin: &Origin, more: &str) -> String {
    let path = dir.join("stayput.toml");
    let text = format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[listener.web]\naddress = \"127.0.0.1:0\"\n\
         [target_group.app]\ntargets = [{{ id = \"a\", address = \"{}\" }}]\n{more}",
        origin.address()
    );
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn check_prints_ok_or_all_errors_with_the_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let good = file(dir.path(), &Origin::refusing(), "");
    let output = stayput(&["check", "-c", &good]).output().unwrap();
    let told = "cookie AWSALB: `secure = \"auto\"` is not Secure: clients of listener `web` may use \
                plain HTTP\n";
    let expected = (Some(0), format!("{good}: ok\n{told}"));
    assert_eq!((output.status.code(), text(&output.stdout)), expected);
    let proxied = std::fs::read_to_string(&good).unwrap().replace(
        "[target_group.app]",
        "trusted_proxies = [\"10.0.0.1\"]\nallow_from = [\"10.0.0.1\"]\n[target_group.app]",
    );
    std::fs::write(&good, &proxied).unwrap();
    let output = stayput(&["check", "-c", &good]).output().unwrap();
    let told = text(&output.stdout);
    assert!(told.contains("set `secure = \"always\"` if these accept only HTTPS"), "{told}");
    assert_eq!(text(&output.stderr), "");
    std::fs::write(&good, proxied + "stickiness = { secure = \"always\", domain = \"co.uk\" }\n")
        .unwrap();
    let output = stayput(&["check", "-c", &good]).output().unwrap();
    let expected = (Some(0), format!("{good}: ok\n"));
    assert_eq!((output.status.code(), text(&output.stdout)), expected);
    assert!(text(&output.stderr).contains("warning: `domain` is a public suffix"));
    let bad = file(dir.path(), &Origin::refusing(), "fail_opne = true\nslow_strat = 1\n");
    let output = stayput(&["check", "-c", &bad]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(
        told.contains("did you mean `fail_open`?") && told.contains("did you mean `slow_start`?"),
        "{told}"
    );
    assert!(told.contains("2 errors"), "{told}");
    assert_eq!(stayput(&["check", "--what"]).output().unwrap().status.code(), Some(2));
    let absent = stayput(&["run", "-c", "/nonexistent.toml"]).output().unwrap();
    assert_eq!(absent.status.code(), Some(1));
    assert!(text(&absent.stderr).contains("cannot read /nonexistent.toml"));
}

#[test]
fn check_print_shows_every_default_and_can_be_checked_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), &Origin::refusing(), "");
    let Output { stdout, .. } = stayput(&["check", "--print", "-c", &path]).output().unwrap();
    let printed = text(&stdout);
    assert!(printed.contains("deregistration_delay = \"5m\"  # default"), "{printed}");
    let again = dir.path().join("again.toml");
    std::fs::write(&again, &printed).unwrap();
    let output = stayput(&["check", "-c", &again.display().to_string()]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn run_serves_survives_a_restart_with_its_pins_and_drains_on_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::named("a");
    let path = file(dir.path(), &origin, "[log]\naccess = { to = \"off\" }\n");
    let start = || {
        let mut child = stayput(&["run", "-c", &path]).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines.find_map(|line| {
            let line = line.unwrap();
            line.split_once("address=").map(|(_, rest)| rest.split(' ').next().unwrap().to_owned())
        });
        (Running(child), address.unwrap(), lines)
    };
    let jar = dir.path().join("jar").display().to_string();
    let curl = |address: &str| {
        let url = format!("http://{address}/");
        text(
            &Command::new("curl")
                .args(["-s", "-c", &jar, "-b", &jar, &url])
                .output()
                .unwrap()
                .stdout,
        )
    };
    let (mut first, address, lines) = start();
    assert_eq!(curl(&address), "a");
    let explain = |address: &str| {
        let url = format!("http://{address}/");
        let output = stayput(&["explain", "-c", &path, "--cookie-jar", &jar, "-o", "json", &url])
            .output()
            .unwrap();
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    assert_eq!(explain(&address)["verdict"], "hit");
    first.signal("-TERM");
    assert_eq!(first.0.wait().unwrap().code(), Some(0));
    assert!(lines.map(Result::unwrap).any(|line| line.contains("drained")));
    let (mut second, address, _lines) = start();
    assert_eq!(curl(&address), "a");
    assert_eq!(explain(&address)["verdict"], "hit", "the generated key was kept");
    second.signal("-INT");
    assert_eq!(second.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_second_start_fails_and_names_the_port_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    let path = dir.path().join("twice.toml");
    std::fs::write(&path, format!(
        "[runtime]\nstate_dir = \"state\"\n[listener.web]\naddress = \"{address}\"\n[target_group.app]\ntargets = [\"127.0.0.1:1\"]\n"
    )).unwrap();
    let output = stayput(&["run", "-c", &path.display().to_string()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains(&format!("{address}: address already in use by ")),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn a_second_signal_cuts_and_exits_with_3() {
    let dir = tempfile::tempdir().unwrap();
    let hanging = Origin::scripted(|_, stream| {
        let _ = stream.read(&mut [0; 1]);
        crate::support::origin::Then::Close
    });
    let path = file(dir.path(), &hanging, "[log]\naccess = { to = \"off\" }\n");
    let mut child = stayput(&["run", "-c", &path]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = lines.find_map(|line| {
        let line = line.unwrap();
        line.split_once("address=").map(|(_, rest)| rest.split(' ').next().unwrap().to_owned())
    });
    let mut running = Running(child);
    let mut visitor = crate::support::Visitor::of(address.unwrap().parse().unwrap());
    visitor.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request is under way", || hanging.heard().first().cloned());
    running.signal("-TERM");
    lines.find(|line| line.as_ref().unwrap().contains("draining")).unwrap().unwrap();
    running.signal("-TERM");
    assert_eq!(running.0.wait().unwrap().code(), Some(3));
}

/// Starts the balancer from `sh`, after the commands in `shell` (such as `ulimit`); returns its
/// process, its address and its further log lines.
fn run_under(shell: &str, path: &str) -> (Running, String, impl Iterator<Item = String> + use<>) {
    let line = format!("{shell} exec \"$0\" run -c \"$1\"");
    let mut command = Command::new("sh");
    command.args(["-c", &line, env!("CARGO_BIN_EXE_stayput"), path]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.find_map(|line| {
        line.split_once("address=").map(|(_, rest)| rest.split(' ').next().unwrap().to_owned())
    });
    (Running(child), address.unwrap(), lines)
}

#[test]
fn many_clients_leave_descriptors_for_the_health_checks() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::named("a");
    let more = "health = { interval = \"1s\", unhealthy_threshold = 1 }\n\
                [log]\naccess = { to = \"off\" }\n";
    let path = file(dir.path(), &origin, more);
    let (running, address, mut lines) = run_under("ulimit -n 64;", &path);
    let address: std::net::SocketAddr = address.parse().unwrap();
    let crowd: Vec<_> = (0..90).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    let mut told = Vec::new();
    lines.find(|line| {
        told.push(line.clone());
        line.contains("descriptors")
    });
    let before = origin.checks().len();
    until("checks go on", || (origin.checks().len() > before + 3).then_some(()));
    drop(crowd);
    until("it serves again", || {
        (crate::support::Visitor::of(address).get("/").body == "a").then_some(())
    });
    running.signal("-TERM");
    told.extend(lines);
    assert!(!told.iter().any(|line| line.contains("unhealthy")), "{told:#?}");
    assert_eq!(
        told.iter().filter(|line| line.contains("connections refused")).count(),
        1,
        "{told:#?}"
    );
}

#[test]
fn a_closed_standard_output_loses_records_and_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::named("a");
    let path = file(dir.path(), &origin, "");
    let (mut running, address, mut lines) = run_under("", &path);
    drop(running.0.stdout.take());
    let mut visitor = crate::support::Visitor::of(address.parse().unwrap());
    assert_eq!(visitor.get("/").body, "a");
    lines.find(|line| line.contains("access log write failed")).expect("it says so");
    assert_eq!(visitor.get("/").body, "a");
    running.signal("-TERM");
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
}

#[test]
fn the_cookie_command_mints_verifies_and_inspects() {
    let dir = tempfile::tempdir().unwrap();
    let key = text(&stayput(&["keys", "new"]).output().unwrap().stdout);
    std::fs::write(dir.path().join("one.key"), &key).unwrap();
    let path = file(
        dir.path(),
        &Origin::refusing(),
        "[affinity]\nkeys = [{ id = 1, file = \"one.key\" }]\n",
    );
    let run = |arguments: &[&str]| stayput(arguments).output().unwrap();
    let minted = text(&run(&["cookie", "mint", "-c", &path, "--target", "app/a"]).stdout);
    let value = minted.trim().strip_prefix("AWSALB=").unwrap();
    assert_eq!(run(&["cookie", "verify", "-c", &path, value]).status.code(), Some(0));
    let inspected = text(&run(&["cookie", "inspect", "-c", &path, value]).stdout);
    assert!(inspected.contains("app/a") && inspected.contains("alive"), "{inspected}");
    assert_eq!(run(&["cookie", "verify", "-c", &path, &value[1..]]).status.code(), Some(1));
    assert!(!text(&run(&["check", "--print", "-c", &path]).stdout).contains(key.trim()));
    let down = text(
        &run(&["explain", "-c", &path, "--cookie", minted.trim(), "--down", "app/a", "http://x/"])
            .stdout,
    );
    assert!(down.contains("assumed: every target healthy, app/a down"), "{down}");
    assert!(down.contains("verdict   hit"), "a lone target that is down fails open: {down}");
}

#[test]
fn explain_reads_host_as_the_balancer_does_and_resolves_names() {
    let dir = tempfile::tempdir().unwrap();
    let key = text(&stayput(&["keys", "new"]).output().unwrap().stdout);
    std::fs::write(dir.path().join("one.key"), &key).unwrap();
    let path = dir.path().join("stayput.toml");
    let file = "[listener.web]\naddress = \"127.0.0.1:8080\"\n[target_group.app]\n\
                targets = [{ id = \"pool\", address = \"localhost:9\", expand = true }]\n\
                [affinity]\nkeys = [{ id = 1, file = \"one.key\" }]\n\
                [[rule]]\nname = \"tea\"\nhosts = [\"tea.example\"]\n\
                respond = { status = 418 }\n[[rule]]\nname = \"all\"\nforward = \"app\"\n";
    std::fs::write(&path, file).unwrap();
    let path = path.display().to_string();
    let run = |command: &[&str], arguments: &[&str]| {
        let output = stayput(&[command, &["-c", &path], arguments].concat()).output().unwrap();
        text(&output.stdout) + &text(&output.stderr)
    };
    let explain = |arguments: &[&str]| run(&["explain"], arguments);
    let url = "http://127.0.0.1:8080/";
    let tea = explain(&["-H", "host: tea.example:8080", url]);
    assert!(tea.contains("rule      tea"), "{tea}");
    assert!(explain(&["http://tea.example:8080/"]).contains("rule      tea"));
    let refused = explain(&["-H", "Host: a, b", url]);
    assert!(refused.contains("answer    400 from the balancer: bad_host"), "{refused}");
    let rounds = format!("X-Forwarded-For: {}", ["192.0.2.1"; 31].join(", "));
    let refused = explain(&["-H", &rounds, url]);
    assert!(refused.contains("answer    463 from the balancer: forwarding_loop"), "{refused}");
    // A rule with a fixed response sends nothing to a target, so the request cannot loop.
    assert!(explain(&["-H", &rounds, "http://tea.example:8080/"]).contains("answer    418"));
    let refused = explain(&["-H", "Content_Length: 5", url]);
    assert!(refused.contains("answer    400 from the balancer: desync_mitigation"), "{refused}");
    let refused = explain(&["-X", "TRACE", "-o", "json", url]);
    let refused: serde_json::Value = serde_json::from_str(&refused).unwrap();
    assert_eq!((&refused["status"], &refused["why"]), (&405.into(), &"method_not_allowed".into()));
    let minted = run(&["cookie", "mint"], &["--target", "app/pool/127.0.0.1:9"]);
    assert!(minted.starts_with("AWSALB="), "{minted}");
    let hit = explain(&["--cookie", minted.trim(), url]);
    assert!(hit.contains("verdict   hit") && hit.contains("pool/127.0.0.1:9"), "{hit}");
}

#[test]
fn explain_lists_the_candidates_and_chances_of_each_algorithm() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stayput.toml");
    let mut file = "[listener.web]\naddress = \"127.0.0.1:8080\"\n".to_owned();
    for algorithm in
        ["round_robin", "weighted_random", "least_outstanding_requests", "least_sessions"]
    {
        file.push_str(&format!(
            "[[rule]]\npaths = [\"/{algorithm}\"]\nforward = \"{algorithm}\"\n\
             [target_group.{algorithm}]\nalgorithm = \"{algorithm}\"\n\
             targets = [{{ id = \"a\", address = \"127.0.0.1:1\", weight = 3 }}, \
             {{ id = \"b\", address = \"127.0.0.1:2\" }}]\n"
        ));
    }
    std::fs::write(&path, file).unwrap();
    let path = path.display().to_string();
    let explain = |algorithm: &str, format: &str| {
        let url = format!("http://127.0.0.1:8080/{algorithm}");
        text(&stayput(&["explain", "-c", &path, "-o", format, &url]).output().unwrap().stdout)
    };
    for (algorithm, words) in [
        ("round_robin", "target    one of a 75.0 %, b 25.0 %"),
        ("weighted_random", "target    one of a 75.0 %, b 25.0 %"),
        ("least_outstanding_requests", "target    fewest requests in flight by weight, of a, b"),
        ("least_sessions", "target    fewest sessions by weight, of a, b"),
    ] {
        let told = explain(algorithm, "table");
        assert!(told.lines().any(|line| line == words), "{told}");
        let told: serde_json::Value = serde_json::from_str(&explain(algorithm, "json")).unwrap();
        let share = if algorithm.starts_with("least") { None } else { Some(0.75) };
        assert_eq!(told["candidates"][0]["share"], serde_json::json!(share), "{told}");
        assert_eq!(told["candidates"][0]["weight"], 3, "{told}");
    }
}

/// Runs the demo's own lines, read from its output, with real curl.
#[test]
fn the_demos_own_curl_lines_work_as_printed() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = stayput(&["demo", "--port", "18080"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut printed = BufReader::new(child.stdout.take().unwrap());
    let mut running = Running(child);
    let mut lines = Vec::new();
    while lines.len() < 7 {
        let mut line = String::new();
        assert_ne!(printed.read_line(&mut line).unwrap(), 0, "the demo ended: {lines:?}");
        lines.push(line.trim_end().to_owned());
    }
    assert!(lines[0].starts_with("stayput demo: balancer http://127.0.0.1:"), "{}", lines[0]);
    let line = |number: usize| {
        let begin = format!("  {number}. ");
        let line = lines.iter().find(|line| line.starts_with(&begin)).unwrap();
        line[34..].to_owned()
    };
    let shell = |line: &str| {
        let output =
            Command::new("sh").args(["-c", line]).current_dir(dir.path()).output().unwrap();
        text(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let names =
        |answers: &[String]| answers.iter().map(|line| line[..1].to_owned()).collect::<Vec<_>>();
    until("all replicas serve", || {
        let met: std::collections::BTreeSet<_> = names(&shell(&line(1))).into_iter().collect();
        (met.len() == 3).then_some(())
    });
    let without = shell(&line(1));
    assert_eq!(without.len(), 4);
    assert!(without.iter().all(|line| line.contains("visit 1  pin new")), "{without:?}");
    assert_eq!(names(&without)[0], names(&without)[3]);
    assert_ne!(names(&without)[0], names(&without)[1]);
    let with = shell(&line(2));
    assert!(with[3].ends_with("visit 4  pin hit"), "{with:?}");
    assert!(names(&with).iter().all(|name| *name == names(&with)[0]), "{with:?}");
    let mine = names(&with)[0].clone();
    assert!(shell(&line(3))[0].starts_with(&format!("{mine} stops")));
    let moved = shell(&line(2));
    let now_at = names(&moved)[0].clone();
    assert_ne!(now_at, mine);
    assert!(names(&moved).iter().all(|name| *name == now_at), "{moved:?}");
    let stayed = until("the move is settled", || {
        let stayed = shell(&line(2));
        stayed.iter().all(|line| line.ends_with("pin hit")).then_some(stayed)
    });
    assert!(names(&stayed).iter().all(|name| *name == now_at), "{stayed:?}");
    let why = shell(&line(5));
    assert!(why.iter().any(|line| line.starts_with("verdict   hit")), "{why:?}");
    assert!(why.iter().any(|line| line.starts_with(&format!("target    {now_at}  "))), "{why:?}");
    running.signal("-INT");
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
}
