//! A worker without connections: no wake-ups, and no delay for the next client.

use crate::support::program::Program;
use crate::support::{Origin, Visitor, until};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Number of times that the only worker has blocked since its start.
fn blocked(program: &Program) -> Option<u64> {
    let tasks = fs::read_dir(format!("/proc/{}/task", program.process())).unwrap();
    let worker = tasks.flatten().map(|task| task.path()).find(|task| {
        fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "worker-0")
    })?;
    let status = fs::read_to_string(worker.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line?.trim().parse().ok()
}

/// Waits until the worker has stayed blocked for 500 ms, which is five ticks; returns the count.
fn stays_blocked(program: &Program) -> u64 {
    until("a worker without wake-ups", || {
        let before = blocked(program)?;
        // A condition and not a guess: nothing may happen in this time.
        std::thread::sleep(Duration::from_millis(500));
        blocked(program).filter(|after| *after == before)
    })
}

fn records(log: &Path) -> usize {
    fs::read_to_string(log).map_or(0, |text| text.lines().count())
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "only Linux has /proc and timerfd")]
fn an_idle_worker_has_no_wake_ups_until_a_client_connects() {
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
        let before = stays_blocked(&program);
        let mut visitor = Visitor::of(address);
        assert_eq!(visitor.get("/").body, "a");
        // The access log is flushed, and the idle time-out of the connection is set.
        until("the record", || (records(&log) == served).then_some(()));
        until("ticks", || blocked(&program).filter(|after| *after >= before + 5));
        assert!(visitor.sees_close(), "idle for a second");
    }
    stays_blocked(&program);
    program.terminate();
    assert_eq!(program.exit_code(), Some(0), "SIGTERM reaches a worker that is blocked");
}
