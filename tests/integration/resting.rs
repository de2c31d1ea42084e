//! A worker without connections: it does nothing at all, and is there at once for the next client.

use crate::support::program::Program;
use crate::support::{Origin, Visitor, until};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// How often the only worker has waited for something since it began.
fn waits(program: &Program) -> Option<u64> {
    let tasks = fs::read_dir(format!("/proc/{}/task", program.process())).unwrap();
    let worker = tasks.flatten().map(|task| task.path()).find(|task| {
        fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "worker-0")
    })?;
    let status = fs::read_to_string(worker.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line?.trim().parse().ok()
}

/// Waits until the worker sleeps for as long as five ticks: one that ticks has waited as often.
fn sleeps(program: &Program) -> u64 {
    until("a worker that sleeps", || {
        let before = waits(program)?;
        // What is looked for is that nothing happens meanwhile.
        std::thread::sleep(Duration::from_millis(500));
        waits(program).filter(|after| *after == before)
    })
}

fn records(log: &Path) -> usize {
    fs::read_to_string(log).map_or(0, |text| text.lines().count())
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "only Linux has /proc and timerfd")]
fn a_worker_without_connections_never_wakes_until_a_client_comes() {
    let origin = Origin::named("a");
    let dir = tempfile::tempdir().unwrap();
    let program = Program::run(
        dir.path(),
        &format!(
            "[runtime]\nworkers = 1\nstate_dir = \"state\"\n\
             [log]\naccess = {{ to = \"access.log\" }}\n\
             [listener.web]\naddress = \"127.0.0.1:0\"\ntimeouts = {{ idle = \"1s\" }}\n\
             [target_group.app]\ntargets = [\"{}\"]\n\
             upstream = {{ timeouts = {{ keep_alive = \"100ms\" }} }}\n",
            origin.address()
        ),
    );
    let (address, log) = (program.address(), dir.path().join("access.log"));
    for served in 1..=2 {
        let before = sleeps(&program);
        let mut visitor = Visitor::of(address);
        assert_eq!(visitor.get("/").body, "a");
        // What was noted down is handed over, and an idle connection has its time.
        until("the record", || (records(&log) == served).then_some(()));
        until("ticks", || waits(&program).filter(|after| *after >= before + 5));
        assert!(visitor.sees_close(), "idle for a second");
    }
    sleeps(&program);
    program.terminate();
    assert_eq!(program.exit_code(), Some(0), "one that sleeps hears that it is to leave");
}
