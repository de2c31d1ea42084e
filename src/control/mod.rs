//! Layer 8: one thread for all that is slow, rare or privileged. It alone writes health and
//! publishes snapshots; everything that can wake it is in one enum, and one match serves it.

mod certificates;
mod clocks;
mod drain;
mod newcomers;
pub mod probe;
pub mod resolve;
pub mod state_dir;
mod watched;

use crate::config::settings::Config;
use crate::ground::clock::Moment;
use crate::model::published::Published;
use crate::model::report::Report;
use crate::model::roster::Roster;
use crate::model::snapshot::{Resolutions, Snapshot};
use crate::net::tls::certificates::Certificates;
use crate::observe::counters::Counters;
use crate::policy::affinity::keys::Keyring;
use crate::policy::health::progress::{Event, Failure};
use crate::policy::health::wish::Wish;
use clocks::Clocks;
use newcomers::Newcomers;
use probe::{Answer, Trouble};
use resolve::{Resolved, Resolver};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use watched::Watched;

pub use drain::Drains;

/// How often the thread looks what is due: checks, drains, names.
const TICK: Duration = Duration::from_millis(50);
/// Answers of checks and of the resolver that may wait for the loop.
const LONGEST_QUEUE: usize = 1_024;

/// What the thread is given.
pub struct Parts {
    /// The configuration the process runs with.
    pub config: Config,
    /// What seals and opens.
    pub keyring: Arc<Keyring>,
    /// Where snapshots are published; it holds the first one.
    pub published: Published,
    /// What host names stood for when that one was built.
    pub resolutions: Resolutions,
    /// What is asked for them.
    pub resolver: Resolver,
    /// The live halves of that one.
    pub roster: Roster,
    /// What workers say about targets.
    pub reports: mpsc::Receiver<Report>,
    /// What workers count.
    pub counters: Vec<Arc<Counters>>,
    /// What listeners show their clients.
    pub certificates: Vec<Arc<Certificates>>,
    /// What is leaving, as [`Drains::begin`] found it.
    pub drains: Drains,
    /// Told `true` when every target's first check has had its result.
    pub ready: watch::Sender<bool>,
}

/// Everything that wakes the thread.
#[derive(Debug)]
enum Wake {
    Tick,
    Checked {
        generation: u64,
        outcome: Result<Answer, Trouble>,
        /// What came of a dial of the traffic address beside it.
        reached: Option<bool>,
    },
    Reported(Report),
    Resolved(Resolved),
    Stop,
}

/// Runs until `stop` is told `true`. Needs a local runtime.
pub async fn run(parts: Parts, mut stop: watch::Receiver<bool>) {
    let Parts { config, keyring, published, resolutions, roster, .. } = parts;
    let Parts { mut reports, counters, certificates, drains, ready, resolver, .. } = parts;
    let (answers, mut answered) = mpsc::channel(LONGEST_QUEUE);
    let snapshot = published.current();
    let mut control = Control {
        watched: Watched::new(answers.clone()),
        drains,
        newcomers: Newcomers::default(),
        resolutions,
        names: resolve::Names::of(&config, resolver, answers),
        strangers: Strangers::default(),
        clocks: Clocks::default(),
        expiry: certificates::Expiry::new(certificates, Moment::now()),
        config,
        keyring,
        published,
        roster,
        counters,
        ready,
    };
    control.watched.follow(&snapshot, Moment::now().monotonic);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let wake = tokio::select! {
            _ = tick.tick() => Wake::Tick,
            Some(wake) = answered.recv() => wake,
            Some(report) = reports.recv() => Wake::Reported(report),
            _ = stop.changed() => Wake::Stop,
        };
        let now = Moment::now();
        match wake {
            Wake::Tick => control.tick(now),
            Wake::Checked { generation, outcome, reached } => match outcome {
                Ok(answer) => control.answered(generation, answer, reached, now),
                Err(Trouble::Failed(failure)) => {
                    control.observe(generation, &Event::Failed(failure), now);
                }
                Err(Trouble::Shortage(error)) => {
                    control.watched.skipped(generation, &error, now.monotonic);
                }
            },
            Wake::Reported(Report::ConnectFailed(live)) => {
                control.observe(live.generation, &Event::ConnectFailed, now);
            }
            Wake::Reported(Report::Connected(live)) => {
                control.observe(live.generation, &Event::Connected, now);
            }
            Wake::Resolved(resolved) => control.resolved(resolved, now),
            Wake::Stop => return,
        }
    }
}

struct Control {
    config: Config,
    keyring: Arc<Keyring>,
    published: Published,
    roster: Roster,
    resolutions: Resolutions,
    watched: Watched,
    drains: Drains,
    newcomers: Newcomers,
    names: resolve::Names,
    strangers: Strangers,
    clocks: Clocks,
    expiry: certificates::Expiry,
    counters: Vec<Arc<Counters>>,
    ready: watch::Sender<bool>,
}

impl Control {
    fn tick(&mut self, now: Moment) {
        let snapshot = self.published.current();
        self.names.ask_if_due(now.monotonic);
        self.drains.advance(&snapshot, now);
        if resolve::forget_the_left(&mut self.resolutions, &self.config, now) {
            self.build_anew(now);
        }
        self.watched.check_what_is_due(now.monotonic);
        self.publish(now);
        self.strangers.look(&self.counters, now);
        self.clocks.look(&self.counters, now);
        self.expiry.look(now);
        self.tell_if_ready();
    }

    /// Takes in an answer to a check: what it says of leaving first, for a target that comes with
    /// the wish must not be given newcomers for having passed.
    fn answered(&mut self, generation: u64, answer: Answer, reached: Option<bool>, now: Moment) {
        let Answer { judgement, wish } = answer;
        let wants_drain = wish.wants_drain(judgement.is_ok());
        if let Some((name, wants)) = self.watched.name(generation).zip(wants_drain)
            && self.drains.hear(&name, wants, now)
        {
            self.publish(now);
        }
        if reached == Some(true) || self.watched.is_checked_as_traffic(generation) {
            self.observe(generation, &Event::Reached, now);
        }
        let is_refused = reached == Some(false) && self.watched.is_disputed(generation);
        let event = match judgement {
            _ if wish == Wish::DrainUnjudged => Event::Waived,
            Ok(()) if is_refused => Event::Failed(Failure::Traffic),
            Ok(()) => Event::Passed,
            Err(failure) => Event::Failed(failure),
        };
        self.observe(generation, &event, now);
        if reached == Some(false) {
            self.observe(generation, &Event::ConnectFailed, now);
        }
    }

    fn observe(&mut self, generation: u64, event: &Event, now: Moment) {
        if self.watched.observe(generation, event, now.monotonic) {
            self.publish(now);
        }
        if let Event::ConnectFailed | Event::Failed(_) = event {
            self.forget_if_unlisted(generation, now);
        }
        self.tell_if_ready();
    }

    fn publish(&mut self, now: Moment) {
        let snapshot = self.published.current();
        self.watched.publish(&snapshot, &self.drains, now.monotonic);
        // At once: a target that became healthy begins slowly with its first newcomer.
        self.newcomers.tick(&snapshot, now);
    }

    fn tell_if_ready(&mut self) {
        if !*self.ready.borrow() && self.watched.all_are_checked() && self.names.all_are_asked() {
            // Nobody may be listening for it; that is no concern of ours.
            let _ = self.ready.send(true);
        }
    }

    /// Takes in what a host name stands for now, and publishes another picture if that changed.
    fn resolved(&mut self, resolved: Resolved, now: Moment) {
        self.names.note_asked(&resolved);
        if self.names.take_in(&mut self.resolutions, resolved, now) {
            self.build_anew(now);
        }
    }

    /// Forgets an address that is not listed any more once it does not answer: it is gone.
    fn forget_if_unlisted(&mut self, generation: u64, now: Moment) {
        let snapshot = self.published.current();
        let unlisted = snapshot.groups.iter().find_map(|group| {
            let mut targets = group.targets.iter();
            let target = targets.find(|target| {
                target.live.generation == generation && target.held_until.is_some()
            })?;
            Some((&group.settings.name, target.address?))
        });
        if let Some((group, address)) = unlisted
            && resolve::forget(&mut self.resolutions, group, address)
        {
            tracing::info!(group = group.as_str(), %address, "an address its name lists no more does not answer: forgotten");
            self.build_anew(now);
        }
    }

    fn build_anew(&mut self, now: Moment) {
        let keyring = Arc::clone(&self.keyring);
        match Snapshot::build(&self.config, keyring, &self.resolutions, &mut self.roster) {
            Ok(snapshot) => {
                let snapshot = Arc::new(snapshot);
                self.watched.follow(&snapshot, now.monotonic);
                self.watched.publish(&snapshot, &self.drains, now.monotonic);
                self.newcomers.follow(&snapshot);
                self.published.publish(snapshot);
                self.roster.forget_the_gone();
            }
            Err(collision) => tracing::error!(%collision, "the new addresses are not used"),
        }
    }
}

/// Watches for tokens of another key: a node that seals with a key this one lacks moves clients
/// without end, and neither node would say why.
#[derive(Default)]
struct Strangers {
    since: Option<Moment>,
    before: (u64, u64),
    told: bool,
}

impl Strangers {
    fn look(&mut self, counters: &[Arc<Counters>], now: Moment) {
        let since = *self.since.get_or_insert(now);
        if self.told || now.since(since) < Duration::from_mins(1) {
            return;
        }
        let sum = |count: fn(&Counters) -> u64| counters.iter().map(|own| count(own)).sum::<u64>();
        let totals = (sum(|own| own.exchanges.value()), sum(|own| own.unknown_keys.value()));
        let (exchanges, unknown) = (totals.0 - self.before.0, totals.1 - self.before.1);
        if unknown * 20 > exchanges {
            tracing::warn!(
                unknown,
                exchanges,
                "more than one request in twenty brought a token sealed with a key this balancer \
                 lacks: another node seals with it; give both the same affinity.keys"
            );
            self.told = true;
        }
        (self.since, self.before) = (Some(now), totals);
    }
}
