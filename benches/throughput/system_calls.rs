//! System calls per request, as `strace -c` counts them during a load. Tracing slows everything
//! down, so nothing else is measured meanwhile.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::balancers::{Entrant, Lineup};
use crate::load::Load;
use crate::options::Options;
use crate::origin::Origin;
use crate::process::{Reading, find_program};
use crate::scenario::{Length, SMALL};

/// One balancer's calls.
pub(crate) struct SystemCalls {
    pub(crate) name: &'static str,
    /// Calls of each kind per request, largest first.
    pub(crate) calls: Vec<(String, f64)>,
}

/// `None` if strace is not installed.
pub(crate) fn run(
    options: &Options,
    lineup: &Lineup,
    origin: &Origin,
    room: &Path,
) -> io::Result<Option<Vec<SystemCalls>>> {
    let Some(strace) = find_program("strace") else { return Ok(None) };
    let mut figures = Vec::new();
    if options.runs("system-calls") {
        for entrant in lineup.entrants.iter().filter(|entrant| entrant.is_common()) {
            if !entrant.processes().is_empty() {
                figures.push(trace(&strace, entrant, origin, room)?);
            }
        }
    }
    Ok(Some(figures))
}

fn trace(
    strace: &Path,
    entrant: &Entrant,
    origin: &Origin,
    room: &Path,
) -> io::Result<SystemCalls> {
    let file = room.join(format!("{}.strace", entrant.name));
    let tracer: RefCell<Option<Child>> = RefCell::new(None);
    // The load calls this as its measured part begins, and again as it ends.
    let begin_or_end = || {
        let mut tracer = tracer.borrow_mut();
        match tracer.as_mut() {
            None => *tracer = attach(strace, &entrant.processes(), &file).ok(),
            Some(child) => {
                let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT);
                let _ = child.wait();
            }
        }
        Reading::default()
    };
    let length = Length {
        runs: 1,
        warm: Duration::from_millis(300),
        measured: Duration::from_millis(1_500),
    };
    let load = Load {
        address: entrant.address,
        scenario: &SMALL,
        visitors: &entrant.visitors,
        rate: None,
    };
    let requests = load.run(&length, origin.lend(), begin_or_end)?.requests().max(1);
    let summary = fs::read_to_string(&file)?;
    // "% time, seconds, usecs/call, calls, errors if any, syscall"
    let mut calls: Vec<(String, f64)> = summary
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let count: f64 = fields.get(3)?.parse().ok()?;
            let name = fields.last().filter(|name| **name != "total")?;
            Some(((*name).to_owned(), count / requests as f64))
        })
        .filter(|(_, share)| *share >= 0.005)
        .collect();
    calls.sort_by(|one, other| other.1.total_cmp(&one.1));
    Ok(SystemCalls { name: entrant.name, calls })
}

/// Waits until strace reports that it is attached, or has had the time.
fn attach(strace: &Path, processes: &[u32], file: &Path) -> io::Result<Child> {
    let mut command = Command::new(strace);
    command.args(["-f", "-c", "-o"]).arg(file);
    for process in processes {
        command.arg("-p").arg(process.to_string());
    }
    let child = command.stderr(Stdio::null()).spawn()?;
    let is_traced = |process: &u32| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
    };
    for _ in 0..100 {
        if processes.iter().all(is_traced) {
            break;
        }
        sleep(Duration::from_millis(5));
    }
    Ok(child)
}
