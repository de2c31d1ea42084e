//! Runs one scenario: every entrant in turn, several times, so that a slow minute of the machine
//! affects all of them.

use std::io;
use std::thread::sleep;
use std::time::Duration;

use stayput::testing::base::clock::Moment;

use crate::balancers::{Entrant, Lineup};
use crate::load::Load;
use crate::measure::{Figures, Handshakes, Run, median};
use crate::options::Options;
use crate::origin::Origin;
use crate::scenario::{Against, Budget, Length, Offer, Protocol, Reuse, Scenario, Variant};

/// The result of one scenario.
pub(crate) struct Table {
    pub(crate) scenario: &'static Scenario,
    pub(crate) rate: Option<f64>,
    pub(crate) rows: Vec<Row>,
}

/// Fewer requests on one HTTP/2 connection would add a cost of their own; Stayput renews it after
/// 10,000.
const REQUESTS_A_CONNECTION: u64 = 1_000;

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
    pub(crate) handshakes: Handshakes,
    /// Bytes in the access log.
    pub(crate) logged: u64,
}

/// HAProxy sets a cookie anew if it is more than four seconds old, with dates rounded up to whole
/// multiples of four.
const COOKIE_AGE: Duration = Duration::from_secs(9);

pub(crate) fn run(
    scenario: &'static Scenario,
    options: &Options,
    lineup: &Lineup,
    origin: &Origin,
) -> io::Result<Table> {
    let age = Moment::now().monotonic - lineup.cookies_given;
    sleep(COOKIE_AGE.saturating_sub(age));

    let takes_part = |entrant: &&Entrant| entrant.takes_part_in(scenario);
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

/// Maximum rate of the slowest balancer, in requests per second.
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
    // Without a balancer there is no rate to match; any modest rate will do.
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
    let load = Load { address: *address, scenario, visitors, rate };
    let run = match scenario.protocol {
        Protocol::Http1 => load.run(length, origin.lend(), || entrant.reading()),
        _ => load.run_over_tls(length, origin.lend(), || entrant.reading()),
    };
    run.map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))
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
            handshakes: Handshakes::default(),
            logged: 0,
        }
    }

    fn add(&mut self, mut run: Run) {
        self.requests += run.requests();
        self.errors += run.errors;
        self.moved += run.moved;
        self.fresh_cookies += run.fresh_cookies;
        self.handshakes += run.handshakes;
        self.logged += run.used.logged;
        self.runs.push(run.figures());
    }

    /// Checks that every response is complete, from the visitor's own replica if it has one, with a
    /// fresh cookie, and logged if there is a log.
    fn is_right(&self, scenario: &Scenario) -> bool {
        let whole = self.errors == 0 && self.requests > 0;
        let stays = self.moved == 0 || !scenario.returning;
        let sticky = stays && self.fresh_cookies == self.requests;
        let logged = self.logged > 0 || scenario.variant == Variant::NoLog;
        whole && self.handshakes_are_right(scenario) && (!self.is_balancer || sticky && logged)
    }

    /// Checks the number and kind of the handshakes.
    fn handshakes_are_right(&self, scenario: &Scenario) -> bool {
        let Handshakes { made, resumed, .. } = self.handshakes;
        // Handshakes in progress as a run begins or ends have their request on the other side.
        let one_a_request = made.abs_diff(self.requests) <= self.under_way(scenario);
        match (scenario.protocol, scenario.reuse) {
            // HTTP/2 closes with GOAWAY, so a connection can be renewed.
            (Protocol::Http2(_), _) => made <= self.requests / REQUESTS_A_CONNECTION,
            (Protocol::Http1, _) | (_, Reuse::Kept) => made == 0,
            (_, Reuse::Fresh) => one_a_request && resumed == 0,
            (_, Reuse::Resumed) => one_a_request && resumed == made,
        }
    }

    /// Maximum number of requests in flight as the runs so far begin and end.
    fn under_way(&self, scenario: &Scenario) -> u64 {
        (self.runs.len() * scenario.connections) as u64
    }

    /// Lowest and highest CPU per request of all runs.
    pub(crate) fn cpu_spread(&self) -> (f64, f64) {
        let costs = self.runs.iter().map(|run| run.cpu);
        costs.fold((f64::INFINITY, 0.0), |(low, high), cost| (low.min(cost), high.max(cost)))
    }
}

impl Table {
    pub(crate) fn answers_were_right(&self) -> bool {
        self.rows.iter().all(|row| row.is_right(self.scenario))
    }

    /// The named row's figure over the one its budget compares it with. Over rivals: round by
    /// round, because neighbouring rounds share the state of the machine, and the median of that;
    /// of the rivals the best. `None` unless all of them have a row.
    pub(crate) fn ratio(&self, budget: &Budget, name: &str, others: &[Self]) -> Option<f64> {
        let row = |table: &Self, name: &str| table.rows.iter().position(|row| row.name == name);
        let own = &self.rows[row(self, name)?];
        match budget.against {
            Against::Scenario(scenario) => {
                let other = others.iter().find(|table| table.scenario.name == scenario)?;
                let other = &other.rows[row(other, name)?];
                Some(own.median.figure(budget.figure) / other.median.figure(budget.figure))
            }
            Against::Rivals(rivals) => {
                let mut largest = f64::NEG_INFINITY;
                for rival in rivals {
                    let rival = &self.rows[row(self, rival)?];
                    let rounds = own.runs.iter().zip(&rival.runs);
                    let ratio = |(own, rival): (&Figures, &Figures)| {
                        own.figure(budget.figure) / rival.figure(budget.figure)
                    };
                    largest = largest.max(median(rounds.map(ratio).collect()));
                }
                Some(largest)
            }
        }
    }
}
