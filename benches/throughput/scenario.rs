//! The kinds of traffic, each a value: adding a row to the budget is adding one here.

use std::time::Duration;

use crate::options::Options;

/// One kind of traffic, put through every balancer in turn.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Bytes in each response's body.
    pub(crate) body: usize,
    pub(crate) connections: usize,
    pub(crate) reuse: Reuse,
    pub(crate) offer: Offer,
    pub(crate) budget: Budget,
}

/// What becomes of a client connection after an answer.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Reuse {
    Kept,
    /// `Connection: close`, and a new one for the next request.
    Fresh,
}

/// How much is asked of a balancer.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Offer {
    /// Each connection asks again as soon as it was answered.
    Everything,
    /// Requests fall due at a fixed rate, the same for all: this share of what the slowest can do.
    ShareOfSlowest(f64),
}

/// What Stayput's row is held against.
pub(crate) struct Budget {
    pub(crate) figure: Figure,
    pub(crate) against: &'static [&'static str],
    pub(crate) must: f64,
    pub(crate) aim: Option<f64>,
}

/// The column a budget speaks of.
#[derive(Clone, Copy)]
pub(crate) enum Figure {
    CpuPerRequest,
    P99,
}

/// Runs of each balancer, and how long each is warmed and measured.
pub(crate) struct Length {
    pub(crate) runs: usize,
    pub(crate) warm: Duration,
    pub(crate) measured: Duration,
}

/// Connections, and so visitors, in every scenario.
pub(crate) const CONNECTIONS: usize = 64;

const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "small",
        about: "100-byte bodies, kept connections, as fast as they are answered",
        body: 100,
        connections: CONNECTIONS,
        reuse: Reuse::Kept,
        offer: Offer::Everything,
        budget: Budget {
            figure: Figure::CpuPerRequest,
            against: &["nginx", "haproxy"],
            must: 1.05,
            aim: Some(0.8),
        },
    },
    Scenario {
        name: "equal-load",
        about: "100-byte bodies, kept connections, half the rate of the slowest balancer",
        body: 100,
        connections: CONNECTIONS,
        reuse: Reuse::Kept,
        offer: Offer::ShareOfSlowest(0.5),
        budget: Budget { figure: Figure::P99, against: &["nginx"], must: 1.0, aim: None },
    },
    Scenario {
        name: "new-connection",
        about: "100-byte bodies, a new client connection for each request",
        body: 100,
        connections: CONNECTIONS,
        reuse: Reuse::Fresh,
        offer: Offer::Everything,
        budget: Budget {
            figure: Figure::CpuPerRequest,
            against: &["nginx"],
            must: 1.1,
            aim: Some(1.0),
        },
    },
    Scenario {
        name: "large-body",
        about: "1 MiB bodies, kept connections",
        body: 1 << 20,
        connections: CONNECTIONS,
        reuse: Reuse::Kept,
        offer: Offer::Everything,
        budget: Budget {
            figure: Figure::CpuPerRequest,
            against: &["nginx", "haproxy"],
            must: 0.67,
            aim: Some(0.5),
        },
    },
];

/// The scenarios the command line left in.
pub(crate) fn chosen(options: &Options) -> Vec<&'static Scenario> {
    SCENARIOS.iter().filter(|scenario| options.runs(scenario.name)).collect()
}

impl Length {
    pub(crate) fn of(options: &Options) -> Self {
        let (runs, warm, measured) = if options.quick { (3, 200, 900) } else { (7, 400, 2_000) };
        let milliseconds = Duration::from_millis;
        Self { runs, warm: milliseconds(warm), measured: milliseconds(measured) }
    }
}
