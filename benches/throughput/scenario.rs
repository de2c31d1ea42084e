//! The kinds of traffic, each a value: a new row of the budget is a new value here.

use std::time::Duration;

use crate::certificate::SERVER_NAME;
use crate::options::Options;

/// One kind of traffic, put through every balancer in turn.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// The configuration of the balancers.
    pub(crate) variant: Variant,
    /// Bytes in each response's body.
    pub(crate) body: usize,
    /// Bytes in each request's body; none means GET.
    pub(crate) upload: usize,
    pub(crate) connections: usize,
    pub(crate) protocol: Protocol,
    pub(crate) reuse: Reuse,
    /// True if visitors send the cookie they got.
    pub(crate) returning: bool,
    pub(crate) offer: Offer,
    /// Charts show the first.
    pub(crate) budgets: &'static [Budget],
}

/// The configuration of all balancers: the common one with one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// One worker, three targets, the access log on.
    Common,
    NoLog,
    /// Two workers on two cores, which load generator and origin share with them.
    TwoWorkers,
    /// Larger buffers than the default for the rivals; Stayput has no such setting.
    Tuned,
    Targets(usize),
    /// This many rules of one exact host each; requests name the last one's.
    Rules(usize),
    /// TLS with clients; only HTTP/1.1 is offered.
    Tls,
    /// TLS with clients; HTTP/2 and HTTP/1.1 are offered.
    Http2,
}

/// The protocol towards the balancer.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Protocol {
    Http1,
    /// HTTP/1.1 over TLS.
    Https1,
    /// HTTP/2 over TLS, with this many requests in flight on each connection.
    Http2(usize),
}

/// Use of a client connection after a response.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Reuse {
    Kept,
    /// `Connection: close`, and a new connection for the next request; over TLS with a full
    /// handshake.
    Fresh,
    /// A new connection that resumes the session of the previous one.
    Resumed,
}

/// The amount of load.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Offer {
    /// Each connection sends the next request as soon as the response has come.
    Everything,
    /// Requests fall due at a fixed rate, the same for all: this share of the slowest one's
    /// maximum.
    ShareOfSlowest(f64),
}

/// The bound for Stayput's row.
pub(crate) struct Budget {
    pub(crate) figure: Figure,
    pub(crate) against: Against,
    pub(crate) must: f64,
    pub(crate) aim: Option<f64>,
}

/// The figure that the row is compared with.
#[derive(Clone, Copy)]
pub(crate) enum Against {
    /// The best of these in the same scenario.
    Rivals(&'static [&'static str]),
    /// Stayput itself in another scenario.
    Scenario(&'static str),
}

/// The column of a budget.
#[derive(Clone, Copy)]
pub(crate) enum Figure {
    CpuPerRequest,
    P99,
}

/// Runs of each balancer, and the time of warm-up and measurement.
pub(crate) struct Length {
    pub(crate) runs: usize,
    pub(crate) warm: Duration,
    pub(crate) measured: Duration,
}

/// Number of connections, and so of visitors, in every scenario.
pub(crate) const CONNECTIONS: usize = 64;

const BOTH: Against = Against::Rivals(&["nginx", "haproxy"]);

/// With larger buffers, and with spliced bodies.
const TUNED: Against = Against::Rivals(&["nginx-tuned", "haproxy-tuned"]);

const fn cpu(against: Against, must: f64, aim: Option<f64>) -> Budget {
    Budget { figure: Figure::CpuPerRequest, against, must, aim }
}

/// The scenario of most budgets.
pub(crate) const SMALL: Scenario = Scenario {
    name: "small",
    about: "100-byte bodies, kept connections, as fast as they are answered",
    variant: Variant::Common,
    body: 100,
    upload: 0,
    connections: CONNECTIONS,
    protocol: Protocol::Http1,
    reuse: Reuse::Kept,
    returning: true,
    offer: Offer::Everything,
    budgets: &[cpu(Against::Rivals(&["nginx"]), 0.85, Some(0.75)), cpu(BOTH, 1.05, Some(0.8))],
};

/// The same over TLS, which is compared and has no budget.
const TLS: Scenario = Scenario {
    name: "tls-keep-alive",
    about: "as small, over TLS 1.3",
    variant: Variant::Tls,
    protocol: Protocol::Https1,
    budgets: &[],
    ..SMALL
};

pub(crate) const SCENARIOS: [Scenario; 18] = [
    SMALL,
    Scenario {
        name: "equal-load",
        about: "the same at half the rate of the slowest balancer",
        offer: Offer::ShareOfSlowest(0.5),
        budgets: &[Budget {
            figure: Figure::P99,
            against: Against::Rivals(&["nginx"]),
            must: 1.0,
            aim: None,
        }],
        ..SMALL
    },
    Scenario {
        name: "new-connection",
        about: "100-byte bodies, a new client connection for each request",
        reuse: Reuse::Fresh,
        budgets: &[cpu(Against::Rivals(&["nginx"]), 1.1, Some(1.0))],
        ..SMALL
    },
    Scenario {
        name: "new-sessions",
        about: "100-byte bodies, kept connections, no cookie: every session is new",
        returning: false,
        budgets: &[],
        ..SMALL
    },
    Scenario {
        name: "no-log",
        about: "as small, with every access log off",
        variant: Variant::NoLog,
        budgets: &[],
        ..SMALL
    },
    Scenario {
        name: "two-workers",
        about: "as small, with two workers on both cores; load and origin compete with them, so \
                only CPU per request means something",
        variant: Variant::TwoWorkers,
        budgets: &[cpu(BOTH, 1.05, Some(0.8))],
        ..SMALL
    },
    Scenario {
        name: "download-64k",
        about: "64 KiB bodies from targets, kept connections",
        body: 64 << 10,
        budgets: &[],
        ..SMALL
    },
    Scenario {
        name: "download-1m",
        about: "1 MiB bodies from targets, kept connections",
        body: 1 << 20,
        budgets: &[cpu(BOTH, 0.67, Some(0.5)), cpu(TUNED, 1.0, None)],
        ..SMALL
    },
    Scenario {
        name: "upload-64k",
        about: "64 KiB bodies to targets, kept connections",
        upload: 64 << 10,
        budgets: &[],
        ..SMALL
    },
    Scenario {
        name: "upload-1m",
        about: "1 MiB bodies to targets, kept connections",
        upload: 1 << 20,
        budgets: &[cpu(BOTH, 0.67, Some(0.5)), cpu(TUNED, 1.0, None)],
        ..SMALL
    },
    Scenario {
        name: "targets-10",
        about: "as small, with 10 targets",
        variant: Variant::Targets(10),
        budgets: &[],
        ..SMALL
    },
    Scenario {
        name: "targets-1000",
        about: "as small, with 1,000 targets",
        variant: Variant::Targets(1_000),
        budgets: &[cpu(Against::Scenario("targets-10"), 1.1, None)],
        ..SMALL
    },
    Scenario {
        name: "rules-10",
        about: "as small, with 10 rules of one exact host each, the last of which takes it",
        variant: Variant::Rules(10),
        budgets: &[],
        ..SMALL
    },
    Scenario {
        name: "rules-1000",
        about: "as small, with 1,000 rules of one exact host each, the last of which takes it",
        variant: Variant::Rules(1_000),
        budgets: &[cpu(Against::Scenario("rules-10"), 1.1, None)],
        ..SMALL
    },
    TLS,
    Scenario {
        name: "tls-handshake-full",
        about: "100-byte bodies, a new client connection with a full TLS 1.3 handshake for each request",
        reuse: Reuse::Fresh,
        ..TLS
    },
    Scenario {
        name: "tls-handshake-resumed",
        about: "the same, each handshake with a ticket of the connection before",
        reuse: Reuse::Resumed,
        ..TLS
    },
    Scenario {
        name: "http2-10-streams",
        about: "100-byte bodies over HTTP/2 and TLS 1.3, 10 streams at once on each kept connection",
        variant: Variant::Http2,
        protocol: Protocol::Http2(10),
        // As many requests in flight as the pools of all three keep connections for.
        connections: 8,
        ..TLS
    },
];

/// Measurements in the common configuration that are not runs of a scenario.
const SPECIAL: [&str; 2] = ["system-calls", "dying-target"];

/// The memory of this many silent connections, with balancers started anew for each round.
pub(crate) struct Silence {
    pub(crate) name: &'static str,
    pub(crate) variant: Variant,
    pub(crate) connections: usize,
    /// Maximum KiB per connection for Stayput.
    pub(crate) must: Option<f64>,
}

pub(crate) const SILENCES: [Silence; 4] = [
    Silence { name: "idle-5000", variant: Variant::Common, connections: 5_000, must: Some(2.0) },
    Silence { name: "idle-15000", variant: Variant::Common, connections: 15_000, must: Some(2.0) },
    Silence { name: "idle-tls", variant: Variant::Tls, connections: 5_000, must: Some(10.0) },
    Silence { name: "idle-http2", variant: Variant::Http2, connections: 5_000, must: None },
];

/// All measurements that are not scenarios.
pub(crate) fn specials() -> impl Iterator<Item = &'static str> {
    SPECIAL.into_iter().chain(SILENCES.iter().map(|silence| silence.name))
}

/// The scenarios that the command line selects.
pub(crate) fn chosen(options: &Options) -> Vec<&'static Scenario> {
    SCENARIOS.iter().filter(|scenario| options.runs(scenario.name)).collect()
}

impl Scenario {
    /// True if a balancer with this configuration takes part: large bodies are also sent through
    /// rivals with larger buffers, so that the ratio shows the effect of buffers.
    pub(crate) fn takes(&self, variant: Variant) -> bool {
        let large = self.body.max(self.upload) >= 1 << 20;
        variant == self.variant || variant == Variant::Tuned && large
    }

    /// The host in requests, if it matters.
    pub(crate) fn host(&self) -> Option<String> {
        self.variant.host()
    }
}

/// The host of the rule of this number, from 0.
pub(crate) fn host_of_rule(number: usize) -> String {
    format!("shop-{number}.example")
}

impl Variant {
    /// All variants that the chosen scenarios need.
    pub(crate) fn needed(scenarios: &[&Scenario], options: &Options) -> Vec<Self> {
        let all = [
            Self::Common,
            Self::NoLog,
            Self::TwoWorkers,
            Self::Tuned,
            Self::Targets(10),
            Self::Targets(1_000),
            Self::Rules(10),
            Self::Rules(1_000),
            Self::Tls,
            Self::Http2,
        ];
        let special = SPECIAL.iter().any(|name| options.runs(name));
        let needed = |variant: &Self| {
            let taken = scenarios.iter().any(|scenario| scenario.takes(*variant));
            taken || special && *variant == Self::Common
        };
        all.into_iter().filter(needed).collect()
    }

    pub(crate) fn targets(self) -> usize {
        if let Self::Targets(count) = self { count } else { 3 }
    }

    pub(crate) fn workers(self) -> usize {
        if self == Self::TwoWorkers { 2 } else { 1 }
    }

    pub(crate) fn is_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Http2)
    }

    /// The host in requests, if it matters.
    pub(crate) fn host(self) -> Option<String> {
        match self {
            Self::Rules(count) => Some(host_of_rule(count - 1)),
            Self::Tls | Self::Http2 => Some(SERVER_NAME.to_owned()),
            _ => None,
        }
    }

    pub(crate) fn logs(self) -> bool {
        self != Self::NoLog
    }

    /// The hosts of its rules.
    pub(crate) fn hosts(self) -> impl Iterator<Item = String> {
        let count = if let Self::Rules(count) = self { count } else { 0 };
        (0..count).map(host_of_rule)
    }
}

impl Length {
    pub(crate) fn of(options: &Options) -> Self {
        let (runs, warm, measured) = if options.quick { (2, 100, 250) } else { (7, 300, 1_500) };
        let milliseconds = Duration::from_millis;
        let runs = options.runs_of_each.unwrap_or(runs);
        Self { runs, warm: milliseconds(warm), measured: milliseconds(measured) }
    }
}
