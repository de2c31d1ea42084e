//! Runs one scenario: every entrant in turn, again and again, so that a slow minute of the machine
//! falls on all of them.

use std::io;
use std::thread::sleep;
use std::time::Duration;

use stayput::ground::clock::Moment;

use crate::balancers::{Entrant, Lineup};
use crate::load::Load;
use crate::measure::{Figures, Run, median};
use crate::options::Options;
use crate::origin::Origin;
use crate::scenario::{Length, Offer, Scenario};

/// What one scenario came to.
pub(crate) struct Table {
    pub(crate) scenario: &'static Scenario,
    pub(crate) rate: Option<f64>,
    pub(crate) rows: Vec<Row>,
}

/// One entrant's line of a table.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) is_balancer: bool,
    pub(crate) runs: Vec<Figures>,
    pub(crate) median: Figures,
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) moved: u64,
    pub(crate) fresh_cookies: u64,
    /// Bytes in the access log.
    pub(crate) logged: u64,
}

/// HAProxy gives a cookie anew when it is more than four seconds old, with dates rounded up to
/// whole multiples of four.
const COOKIE_AGE: Duration = Duration::from_secs(9);

pub(crate) fn run(
    scenario: &'static Scenario,
    options: &Options,
    lineup: &Lineup,
    origin: &Origin,
) -> io::Result<Table> {
    let age = Moment::now().monotonic - lineup.cookies_given;
    sleep(COOKIE_AGE.saturating_sub(age));

    let takes_part = |entrant: &&Entrant| entrant.takes_part_in(scenario.name);
    let entrants: Vec<&Entrant> = lineup.entrants.iter().filter(takes_part).collect();
    let length = Length::of(options);
    let rate = match scenario.offer {
        Offer::Everything => None,
        Offer::ShareOfSlowest(share) => {
            Some(share * slowest(scenario, &length, &entrants, origin)?)
        }
    };
    let mut rows: Vec<Row> = entrants.iter().map(|entrant| Row::of(entrant)).collect();
    for round in 1..=length.runs {
        for (row, entrant) in rows.iter_mut().zip(&entrants) {
            eprint!("\r\x1b[K{}: run {round} of {}, {}", scenario.name, length.runs, row.name);
            row.add(run_once(scenario, &length, entrant, origin, rate)?);
        }
    }
    eprint!("\r\x1b[K");
    for row in &mut rows {
        row.median = Figures::median(&row.runs);
    }
    Ok(Table { scenario, rate, rows })
}

/// Requests a second of the slowest balancer when it is asked all it can do.
fn slowest(
    scenario: &Scenario,
    length: &Length,
    entrants: &[&Entrant],
    origin: &Origin,
) -> io::Result<f64> {
    let mut slowest = f64::INFINITY;
    for entrant in entrants.iter().filter(|entrant| entrant.is_balancer()) {
        let run = run_once(scenario, length, entrant, origin, None)?.figures();
        slowest = slowest.min(run.requests_per_second);
    }
    // Without a balancer there is nothing to be equal to; any modest rate will do.
    Ok(if slowest.is_finite() { slowest.max(1.0) } else { 10_000.0 })
}

fn run_once(
    scenario: &Scenario,
    length: &Length,
    entrant: &Entrant,
    origin: &Origin,
    rate: Option<f64>,
) -> io::Result<Run> {
    entrant.empty_log()?;
    let Entrant { address, visitors, name, .. } = entrant;
    Load { address: *address, scenario, visitors, rate }
        .run(length, origin.lend(), || entrant.reading())
        .map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))
}

impl Row {
    fn of(entrant: &Entrant) -> Self {
        Self {
            name: entrant.name,
            is_balancer: entrant.is_balancer(),
            runs: Vec::new(),
            median: Figures::default(),
            requests: 0,
            errors: 0,
            moved: 0,
            fresh_cookies: 0,
            logged: 0,
        }
    }

    fn add(&mut self, mut run: Run) {
        self.requests += run.requests();
        self.errors += run.errors;
        self.moved += run.moved;
        self.fresh_cookies += run.fresh_cookies;
        self.logged += run.used.logged;
        self.runs.push(run.figures());
    }

    /// Every answer whole, from the visitor's own replica, with a fresh cookie, and logged.
    fn is_right(&self) -> bool {
        let whole = self.errors == 0 && self.requests > 0;
        let sticky = self.moved == 0 && self.fresh_cookies == self.requests;
        whole && (!self.is_balancer || sticky && self.logged > 0)
    }

    /// Lowest and highest CPU per request of all runs.
    pub(crate) fn cpu_spread(&self) -> (f64, f64) {
        let costs = self.runs.iter().map(|run| run.cpu);
        costs.fold((f64::INFINITY, 0.0), |(low, high), cost| (low.min(cost), high.max(cost)))
    }
}

impl Table {
    pub(crate) fn answers_were_right(&self) -> bool {
        self.rows.iter().all(Row::is_right)
    }

    /// The named row's figure over the best of those it is held against: round by round, because
    /// neighbours in time shared the machine's mood, and the median of that. None unless all
    /// of them have a row.
    pub(crate) fn ratio(&self, name: &str) -> Option<f64> {
        let budget = &self.scenario.budget;
        let figures = |name: &str| {
            let row = self.rows.iter().find(|row| row.name == name)?;
            Some(row.runs.iter().map(|run| run.figure(budget.figure)))
        };
        let mut largest = f64::NEG_INFINITY;
        for rival in budget.against {
            let rounds = figures(name)?.zip(figures(rival)?);
            largest = largest.max(median(rounds.map(|(own, rival)| own / rival).collect()));
        }
        Some(largest)
    }
}
