//! Second opinions on requests per second, from independent load generators: wrk for `small`,
//! h2load for `http2-10-streams`.

use std::path::Path;
use std::process::Command;

use crate::balancers::{Entrant, Lineup};
use crate::options::Options;
use crate::process::find_program;
use crate::scenario::Variant;

/// Results of one generator for each balancer.
pub(crate) struct SecondOpinions {
    pub(crate) generator: &'static str,
    /// Its arguments, for the report.
    pub(crate) about: &'static str,
    /// `None` if it is not installed, or not selected.
    pub(crate) requests_per_second: Option<Vec<(&'static str, f64)>>,
}

pub(crate) fn second_opinions(options: &Options, lineup: &Lineup) -> [SecondOpinions; 2] {
    let seconds = if options.quick { "1" } else { "3" };
    let of = |generator, variant, ask: &dyn Fn(&Path, &Entrant) -> Option<f64>| {
        let program = find_program(generator).filter(|_| options.filter.is_none())?;
        let asked = lineup.entrants.iter().filter(|entrant| entrant.is_set_up_as(variant));
        Some(asked.filter_map(|one| Some((one.name, ask(&program, one)?))).collect())
    };
    [
        SecondOpinions {
            generator: "wrk",
            about: "64 connections that share one visitor's cookie",
            requests_per_second: of("wrk", Variant::Common, &|program, entrant| {
                let mut command = Command::new(program);
                command.args(["-t1", "-c64", "-d", seconds]).args(cookie(entrant));
                command.arg(format!("http://{}/100", entrant.address));
                let line = line_of(command, "Requests/sec:")?;
                line.trim().parse().ok()
            }),
        },
        SecondOpinions {
            generator: "h2load",
            about: "8 connections of 10 streams that share one visitor's cookie",
            requests_per_second: of("h2load", Variant::Http2, &|program, entrant| {
                let mut command = Command::new(program);
                command.args(["-t1", "-c8", "-m10", "-D", seconds]).args(cookie(entrant));
                command.arg(format!("https://{}/100", entrant.address));
                // "finished in 3.00s, 12345.67 req/s, 1.23MB/s"
                let line = line_of(command, "finished in ")?;
                line.split(", ").nth(1)?.strip_suffix(" req/s")?.parse().ok()
            }),
        },
    ]
}

fn cookie(entrant: &Entrant) -> Vec<String> {
    let cookie = entrant.visitors.first().and_then(|first| first.cookie.as_deref());
    cookie.map_or(Vec::new(), |cookie| vec!["-H".to_owned(), format!("Cookie: {cookie}")])
}

/// The text after `beginning` in the first line of the output that begins with it.
fn line_of(mut command: Command, beginning: &str) -> Option<String> {
    let said = String::from_utf8_lossy(&command.output().ok()?.stdout).into_owned();
    said.lines().find_map(|line| line.strip_prefix(beginning)).map(str::to_owned)
}
