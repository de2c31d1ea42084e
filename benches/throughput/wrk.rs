//! A second opinion on requests a second, from a load generator that is not ours.

use std::process::Command;

use crate::balancers::Lineup;
use crate::options::Options;
use crate::process::find_program;

/// What wrk says of each balancer; empty when it is not installed.
pub(crate) struct SecondOpinions {
    pub(crate) installed: bool,
    pub(crate) requests_per_second: Vec<(&'static str, f64)>,
}

pub(crate) fn second_opinions(options: &Options, lineup: &Lineup) -> SecondOpinions {
    let wrk = find_program("wrk").filter(|_| options.filter.is_none());
    let mut opinions = SecondOpinions { installed: wrk.is_some(), requests_per_second: Vec::new() };
    let Some(wrk) = wrk else { return opinions };
    let seconds = if options.quick { "1s" } else { "3s" };
    for entrant in lineup.entrants.iter().filter(|entrant| entrant.is_common()) {
        let mut command = Command::new(&wrk);
        command.args(["-t1", "-c64", "-d", seconds]);
        if let Some(cookie) = entrant.visitors.first().and_then(|first| first.cookie.as_deref()) {
            command.arg("-H").arg(format!("Cookie: {cookie}"));
        }
        command.arg(format!("http://{}/100", entrant.address));
        let Ok(output) = command.output() else { continue };
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let rate = said.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
        if let Some(rate) = rate.and_then(|rate| rate.trim().parse().ok()) {
            opinions.requests_per_second.push((entrant.name, rate));
        }
    }
    opinions
}
