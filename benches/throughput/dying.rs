//! A target dies under load: its port closes and its connections are reset. Counts what clients see
//! in the second before and in the second after.

use std::io;
use std::time::Duration;

use crate::balancers::Lineup;
use crate::load::Load;
use crate::measure::Figures;
use crate::options::Options;
use crate::origin::Origin;
use crate::scenario::SMALL;

/// One balancer's figures.
pub(crate) struct Dying {
    pub(crate) name: &'static str,
    pub(crate) before: Figures,
    pub(crate) after: Figures,
    /// Responses other than 200, and cut connections, in the second after.
    pub(crate) errors: u64,
    pub(crate) requests_after: u64,
}

/// Requests per second for each balancer, well below the limit of any.
pub(crate) const RATE: f64 = 10_000.0;

pub(crate) fn run(options: &Options, lineup: &Lineup, origin: &Origin) -> io::Result<Vec<Dying>> {
    let mut figures = Vec::new();
    if !options.runs("dying-target") {
        return Ok(figures);
    }
    for entrant in lineup.entrants.iter().filter(|entrant| entrant.is_common()) {
        if entrant.processes().is_empty() {
            continue;
        }
        let load = Load {
            address: entrant.address,
            scenario: &SMALL,
            visitors: &entrant.visitors,
            rate: Some(RATE),
        };
        let second = Duration::from_secs(1);
        let (mut before, mut after) = load.run_with_a_death(second, origin.lend())?;
        figures.push(Dying {
            name: entrant.name,
            before: before.figures(),
            errors: after.errors,
            requests_after: after.requests(),
            after: after.figures(),
        });
        // A balancer that has marked the target dead probes it again before the next one's turn.
        std::thread::sleep(2 * second);
    }
    Ok(figures)
}
