//! A group that recovers from an outage, and the clients pinned to its targets.

use crate::support::program::Program;
use crate::support::{Visitor, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

/// A `stayput echo` process that can be stopped and started again at the same address.
struct Replica {
    child: Child,
    address: String,
}

impl Replica {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stayput"));
        command.args(["echo", "--listen", "127.0.0.1:0"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit("http://").next().unwrap().to_owned();
        Self { child, address }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The target that a request reached, and the verdict.
fn met(visitor: &mut Visitor) -> (String, String) {
    let answer = visitor.get("/");
    let field = |name| answer.field(name).unwrap_or("-").to_owned();
    (field("x-stayput-target"), field("x-stayput-verdict"))
}

#[test]
fn targets_that_recover_one_by_one_get_their_clients_back() {
    for fail_open in [true, false] {
        comes_back(fail_open);
    }
}

fn comes_back(fail_open: bool) {
    let replicas = [Replica::start(), Replica::start(), Replica::start()];
    let targets = ["a", "b", "c"]
        .iter()
        .zip(&replicas)
        .map(|(id, replica)| format!("{{ id = \"{id}\", address = \"{}\" }}", replica.address));
    let targets = targets.collect::<Vec<_>>().join(", ");
    let dir = tempfile::tempdir().unwrap();
    let program = Program::run(
        dir.path(),
        &format!(
            "[runtime]\nworkers = 2\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"off\" }}\n\
             [listener.web]\naddress = \"127.0.0.1:0\"\ndebug_headers = true\n\
             [target_group.app]\ntargets = [{targets}]\nfail_open = {fail_open}\n\
             health = {{ interval = \"1s\", fast_interval = \"100ms\", healthy_threshold = 3 }}\n"
        ),
    );
    let address = program.address();
    for id in ["a", "b", "c"] {
        program.line(&[&format!("target=\"{id}\""), "to=\"healthy\""]);
    }
    let mut visitors: Vec<_> = (0..30).map(|_| Visitor::of(address)).collect();
    let homes: Vec<_> = visitors.iter_mut().map(|visitor| met(visitor).0).collect();
    replicas.iter().for_each(|replica| replica.signal(Signal::SIGSTOP));
    for id in ["a", "b", "c"] {
        program.line(&[&format!("target=\"{id}\""), "to=\"unhealthy\""]);
    }
    program.line(&["recovering"]);
    replicas[0].signal(Signal::SIGCONT);
    let is_back = |id: &str| {
        let lines = program.lines();
        let words = [format!("target=\"{id}\""), "from=\"unhealthy\" to=\"healthy\"".to_owned()];
        lines.iter().any(|line| words.iter().all(|word| line.contains(word)))
    };
    until("the first is back", || is_back("a").then_some(()));
    // All of them send requests while only the first target is back, and wait for their own.
    let all = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (visitor, home) in visitors.iter_mut().zip(&homes) {
            let all = &all;
            scope.spawn(move || {
                for _ in 0..5 {
                    let met = met(visitor);
                    all.lock().unwrap().push((home.clone(), met));
                    std::thread::sleep(Duration::from_millis(100));
                }
            });
        }
        for replica in &replicas[1..] {
            // The case under test: the targets come back one after the other.
            std::thread::sleep(Duration::from_millis(600));
            replica.signal(Signal::SIGCONT);
        }
    });
    let mut load: BTreeMap<String, usize> = BTreeMap::new();
    for (home, (target, verdict)) in all.into_inner().unwrap() {
        assert_eq!((&target, verdict.as_str()), (&home, "hit"), "fail_open = {fail_open}");
        *load.entry(target).or_default() += 1;
    }
    assert_eq!(load.values().sum::<usize>(), 150);
    assert!(load.values().all(|&count| count <= 100), "twice its share at most: {load:?}");
    until("all are back", || ["b", "c"].iter().all(|id| is_back(id)).then_some(()));
    program.line(&["group recovery complete"]);
    for (visitor, home) in visitors.iter_mut().zip(&homes) {
        assert_eq!(met(visitor), (home.clone(), "hit".to_owned()));
    }
}

#[test]
fn without_a_recovery_clients_move_at_once() {
    let replicas = [Replica::start(), Replica::start()];
    let dir = tempfile::tempdir().unwrap();
    let program = Program::run(
        dir.path(),
        &format!(
            "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"off\" }}\n\
             [listener.web]\naddress = \"127.0.0.1:0\"\ndebug_headers = true\n\
             [target_group.app]\ntargets = [{{ id = \"a\", address = \"{}\" }}, \
             {{ id = \"b\", address = \"{}\" }}]\nrecovery = \"0s\"\n\
             health = {{ interval = \"1s\", fast_interval = \"100ms\", healthy_threshold = 1 }}\n",
            replicas[0].address, replicas[1].address
        ),
    );
    let address = program.address();
    let mut visitor = until("a client of b", || {
        let mut visitor = Visitor::of(address);
        (met(&mut visitor).0 == "b").then_some(visitor)
    });
    replicas.iter().for_each(|replica| replica.signal(Signal::SIGSTOP));
    program.line(&["fail_open"]);
    replicas[0].signal(Signal::SIGCONT);
    program.line(&["target=\"a\"", "from=\"unhealthy\" to=\"healthy\""]);
    assert_eq!(met(&mut visitor), ("a".to_owned(), "moved_unhealthy".to_owned()));
    replicas[1].signal(Signal::SIGCONT);
}
