//! Changes of a target's state: each is one log line with ALB's words.

use crate::support::{Origin, Program, until};
use std::net::TcpListener;

// A target that is slow because it lacks a CPU must not look like one that is down.
const FAST: &str = "interval = \"400ms\", fast_interval = \"100ms\", timeout = \"400ms\", \
                    healthy_threshold = 1, unhealthy_threshold = 2";

fn text(targets: &str, group: &str, health: &str) -> String {
    format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"off\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\ntargets = [{targets}]\n\
         {group}\nhealth = {{ {FAST}, {health} }}\n"
    )
}

/// The log lines about this target's state, without their time.
fn changes(program: &Program, target: &str) -> Vec<String> {
    let target = format!(" target=\"{target}\" ");
    let lines = program.lines().into_iter();
    let told =
        lines.filter_map(|line| Some(line.split_once(" target health changed ")?.1.to_owned()));
    told.filter(|line| line.contains(&target)).collect()
}

#[track_caller]
fn next(program: &Program, target: &str, before: usize) -> String {
    until(&format!("change {before} of {target}"), || {
        changes(program, target).into_iter().nth(before)
    })
}

#[test]
fn each_change_of_state_is_one_log_line_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::named("a");
    let target = format!("{{ id = \"a\", address = \"{}\" }}", origin.address());
    let text = text(&target, "deregistration_delay = \"1s\"", "drain_on_404 = true");
    let program = Program::run(dir.path(), &text);
    let step = |answer: &str, before: usize, told: &str| {
        origin.answer_checks(answer);
        assert_eq!(next(&program, "a", before), format!("group=\"app\" target=\"a\" {told}"));
    };
    step("200 OK", 0, "from=\"initial\" to=\"healthy\"");
    step(
        "503 Down",
        1,
        "from=\"healthy\" to=\"unhealthy\" reason=\"Target.ResponseCodeMismatch\" \
         description=\"Health checks failed with these codes: [503]\"",
    );
    step("200 OK", 2, "from=\"unhealthy\" to=\"healthy\"");
    let draining = "reason=\"Target.DeregistrationInProgress\" \
                    description=\"Target deregistration is in progress\"";
    step("404 Leaving", 3, &format!("from=\"healthy\" to=\"draining\" {draining}"));
    step(
        "404 Leaving",
        4,
        "from=\"draining\" to=\"unused\" reason=\"Target.NotRegistered\" \
         description=\"Target is not registered\"",
    );
    step("200 OK", 5, "from=\"unused\" to=\"healthy\"");
    assert_eq!(changes(&program, "a").len(), 6, "{:#?}", program.lines());
}

#[test]
fn each_failed_check_is_logged_with_its_cause() {
    let dir = tempfile::tempdir().unwrap();
    let lacking = Origin::named("a");
    let refusing = Origin::refusing();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let targets = format!(
        "{{ id = \"lacking\", address = \"{}\" }}, {{ id = \"refusing\", address = \"{}\" }}, \
         {{ id = \"silent\", address = \"{}\" }}, \
         {{ id = \"nowhere\", address = \"nowhere.invalid:80\" }}",
        lacking.address(),
        refusing.address(),
        silent.local_addr().unwrap()
    );
    let program = Program::run(dir.path(), &text(&targets, "", "body = \"absent\""));
    for (target, reason, description) in [
        (
            "lacking",
            "Target.ResponseCodeMismatch",
            "Health checks failed: the answer lacks the wanted text",
        ),
        ("refusing", "Target.FailedHealthChecks", "Health checks failed: Connection refused"),
        ("silent", "Target.Timeout", "Request timed out"),
        (
            "nowhere",
            "Target.FailedHealthChecks",
            "Health checks failed: the host name has no address",
        ),
    ] {
        let line = next(&program, target, 0);
        let told = format!(
            "from=\"initial\" to=\"unhealthy\" reason=\"{reason}\" description=\"{description}"
        );
        assert!(line.contains(&told), "{line}");
    }
}

#[test]
fn a_failure_during_drain_is_logged_and_moves_pinned_clients() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::named("a");
    let target = format!("{{ id = \"a\", address = \"{}\", state = \"drain\" }}", origin.address());
    let program = Program::run(dir.path(), &text(&target, "", "path = \"/up\""));
    assert!(next(&program, "a", 0).contains("from=\"initial\" to=\"draining\""));
    origin.set_healthy(false);
    let line = next(&program, "a", 1);
    let told = "from=\"draining\" to=\"unhealthy.draining\" reason=\"Target.ResponseCodeMismatch\"";
    assert!(line.contains(told), "{line}");
}
