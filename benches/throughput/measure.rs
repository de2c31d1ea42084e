//! Counts of one run, and the medians of many.

use std::time::Duration;

use crate::process::Reading;
use crate::scenario::Figure;

/// The counts of one run of one balancer in its measured part.
pub(crate) struct Run {
    pub(crate) elapsed: Duration,
    pub(crate) used: Reading,
    /// In nanoseconds, one for each correct response.
    latencies: Vec<u32>,
    pub(crate) errors: u64,
    /// Responses from another replica than the visitor's.
    pub(crate) moved: u64,
    /// Responses that set a cookie.
    pub(crate) fresh_cookies: u64,
    pub(crate) handshakes: Handshakes,
}

/// Completed TLS handshakes. A connection with another protocol than the scenario's is an error and
/// not counted here.
#[derive(Clone, Copy, Default)]
pub(crate) struct Handshakes {
    pub(crate) made: u64,
    /// Those that resumed a session.
    pub(crate) resumed: u64,
    /// Tickets that the balancer issued.
    pub(crate) tickets: u64,
}

impl std::ops::AddAssign for Handshakes {
    fn add_assign(&mut self, more: Self) {
        self.made += more.made;
        self.resumed += more.resumed;
        self.tickets += more.tickets;
    }
}

/// The figures of one run, or the medians of many.
#[derive(Clone, Copy, Default)]
pub(crate) struct Figures {
    pub(crate) requests_per_second: f64,
    /// User CPU time per request, in microseconds.
    pub(crate) user: f64,
    pub(crate) system: f64,
    pub(crate) cpu: f64,
    /// In microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

impl Run {
    pub(crate) fn with_room_for(measured: Duration) -> Self {
        const MORE_THAN_ANY_MACHINE_DOES: f64 = 300_000.0;
        let room = measured.as_secs_f64() * MORE_THAN_ANY_MACHINE_DOES;
        Self {
            elapsed: Duration::ZERO,
            used: Reading::default(),
            latencies: Vec::with_capacity(room as usize),
            errors: 0,
            moved: 0,
            fresh_cookies: 0,
            handshakes: Handshakes::default(),
        }
    }

    /// Counts a correct response.
    pub(crate) fn record(&mut self, latency: Duration, moved: bool, fresh_cookie: bool) {
        self.moved += u64::from(moved);
        self.fresh_cookies += u64::from(fresh_cookie);
        self.latencies.push(u32::try_from(latency.as_nanos()).unwrap_or(u32::MAX));
    }

    pub(crate) fn requests(&self) -> u64 {
        self.latencies.len() as u64
    }

    pub(crate) fn figures(&mut self) -> Figures {
        self.latencies.sort_unstable();
        let requests = self.requests().max(1) as f64;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / requests;
        Figures {
            requests_per_second: self.requests() as f64 / self.elapsed.as_secs_f64(),
            user: each(self.used.cpu.user),
            system: each(self.used.cpu.system),
            cpu: each(self.used.cpu.user + self.used.cpu.system),
            p50: self.percentile(0.50),
            p99: self.percentile(0.99),
            p999: self.percentile(0.999),
        }
    }

    /// The smallest of the sorted latencies that at least this share does not exceed.
    fn percentile(&self, share: f64) -> f64 {
        let rank = (share * self.latencies.len() as f64).ceil() as usize;
        let latency = self.latencies.get(rank.saturating_sub(1)).copied().unwrap_or(0);
        f64::from(latency) / 1e3
    }
}

impl Figures {
    pub(crate) fn figure(&self, figure: Figure) -> f64 {
        match figure {
            Figure::CpuPerRequest => self.cpu,
            Figure::P99 => self.p99,
        }
    }

    /// Medians of each figure: the median run of one column need not be that of another.
    pub(crate) fn median(runs: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(runs.iter().map(figure).collect());
        Self {
            requests_per_second: of(|run| run.requests_per_second),
            user: of(|run| run.user),
            system: of(|run| run.system),
            cpu: of(|run| run.cpu),
            p50: of(|run| run.p50),
            p99: of(|run| run.p99),
            p999: of(|run| run.p999),
        }
    }
}

/// The median; 0 for no values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}
