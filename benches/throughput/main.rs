//! Measures whole requests through Stayput, side by side with the balancers on this machine.
//!
//! Timing decides nothing: the exit code is 0 unless something could not run or a response was
//! wrong.
// A bench prints on standard output, and its progress on standard error.
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[cfg(target_os = "linux")]
mod balancers;
#[cfg(target_os = "linux")]
mod certificate;
#[cfg(target_os = "linux")]
mod client;
#[cfg(target_os = "linux")]
mod cores;
#[cfg(target_os = "linux")]
mod dying;
#[cfg(target_os = "linux")]
mod idle;
#[cfg(target_os = "linux")]
mod load;
#[cfg(target_os = "linux")]
mod measure;
#[cfg(target_os = "linux")]
mod options;
#[cfg(target_os = "linux")]
mod origin;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod report;
#[cfg(target_os = "linux")]
mod response;
#[cfg(target_os = "linux")]
mod rounds;
#[cfg(target_os = "linux")]
mod scenario;
#[cfg(target_os = "linux")]
mod second_opinions;
#[cfg(target_os = "linux")]
mod system_calls;
#[cfg(target_os = "linux")]
mod tls;
#[cfg(target_os = "linux")]
mod tls_load;
#[cfg(target_os = "linux")]
mod visitor;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

#[cfg(target_os = "linux")]
use nix::sys::resource::{Resource, getrlimit, setrlimit};

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    let Some(options) = options::Options::from_arguments(std::env::args().skip(1)) else {
        println!("throughput: nothing to do; run it with: cargo bench --bench throughput");
        return ExitCode::SUCCESS;
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("throughput: {problem}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    println!("throughput: skipped, it reads CPU time from /proc and pins to cores, as Linux does");
    ExitCode::SUCCESS
}

/// Returns true if every response was correct.
#[cfg(target_os = "linux")]
fn run(options: &options::Options) -> Result<bool, Box<dyn std::error::Error>> {
    let scenarios = scenario::chosen(options);
    if scenarios.is_empty() && !scenario::specials().any(|name| options.runs(name)) {
        println!("throughput: no scenario has {:?} in its name", options.filter);
        return Ok(true);
    }
    let variants = scenario::Variant::needed(&scenarios, options);
    let cores = cores::Cores::choose()?;
    cores.pin_to_load()?;
    // A thousand replicas listen, and each may have connections from three balancers.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let origin = origin::Origin::start()?;
    let room = tempfile::tempdir()?;
    let lineup = balancers::Lineup::start(options, &cores, &origin, room.path(), &variants)?;
    report::print_opening(&cores, &lineup);

    let mut right = lineup.all_started();
    let mut tables = Vec::new();
    for scenario in scenarios {
        let table = rounds::run(scenario, options, &lineup, &origin)?;
        right &= table.answers_were_right();
        report::print_table(&table, &tables);
        tables.push(table);
    }
    let anew = |room: &Path, variant| {
        fs::create_dir(room)?;
        balancers::Lineup::start(options, &cores, &origin, room, &[variant])
    };
    let idle = idle::run(options, room.path(), anew)?;
    report::print_idle(&idle);
    let calls = system_calls::run(options, &lineup, &origin, room.path())?;
    report::print_system_calls(calls.as_deref());
    let dying = dying::run(options, &lineup, &origin)?;
    report::print_dying(&dying);
    let second_opinions = second_opinions::second_opinions(options, &lineup);
    report::print_second_opinions(&second_opinions);
    let path = report::write_json(&report::All {
        options,
        cores: &cores,
        lineup: &lineup,
        tables: &tables,
        opinions: &second_opinions,
        idle: &idle,
        calls: calls.as_deref().unwrap_or_default(),
        dying: &dying,
    })?;
    println!("\nwritten: {}", path.display());
    Ok(right)
}
