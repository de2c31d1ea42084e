//! What changes about a target or a group while a snapshot stays: one availability word and one share
//! a target, written by the control thread alone; one in-flight count a target, kept only where a cap
//! or the algorithm needs it; one turn a group. Each stands on its own cache line, since every core
//! reads them.

use super::in_flight::InFlightSlots;
use super::request_stats::RequestStats;
use super::session_sketch::SessionSketch;
use super::spills::RecentSpills;
use crate::config::settings::target_tls::TlsPeer;
use crate::policy::affinity::token::Seed;
use crate::policy::balance::round::Sequence;
use crate::policy::balance::weight_fraction::WeightFraction;
use crossbeam_utils::CachePadded;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tokio::sync::Semaphore;

/// Whether a target can serve, as its checks and its traffic say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not yet known.
    Initial,
    /// It serves.
    Healthy,
    /// Its checks pass, but connections for traffic fail: new clients avoid it, pinned ones stay.
    Suspect,
    /// It does not serve.
    Unhealthy,
}

/// Whether a target is leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// It is not.
    No,
    /// Its name lists its address no more: it takes newcomers only where no better target does.
    Held,
    /// It takes no newcomers; its deregistration delay runs.
    Running,
    /// The delay is over.
    Over,
}

/// Everything the decision asks about one target, read with one load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Availability {
    /// Whether it can serve.
    pub health: Health,
    /// Whether it is leaving.
    pub drain: Drain,
    /// It is unhealthy, but its group recovers from an outage: pinned clients still go to it.
    pub recovering: bool,
}

impl Availability {
    /// A target nothing is known of.
    pub const UNKNOWN: Self = Self { health: Health::Initial, drain: Drain::No, recovering: false };

    fn to_word(self) -> u32 {
        let health = match self.health {
            Health::Initial => 0,
            Health::Healthy => 1,
            Health::Suspect => 2,
            Health::Unhealthy => 3,
        };
        let drain = match self.drain {
            Drain::No => 0,
            Drain::Running => 1,
            Drain::Over => 2,
            Drain::Held => 3,
        };
        health | drain << 2 | u32::from(self.recovering) << 4
    }

    fn from_word(word: u32) -> Self {
        let health = match word & 3 {
            0 => Health::Initial,
            1 => Health::Healthy,
            2 => Health::Suspect,
            _ => Health::Unhealthy,
        };
        let drain = match word >> 2 & 3 {
            0 => Drain::No,
            1 => Drain::Running,
            2 => Drain::Over,
            _ => Drain::Held,
        };
        Self { health, drain, recovering: word >> 4 & 1 == 1 }
    }
}

/// The live half of a target, known by its group, id, address and who must answer there.
#[derive(Debug)]
pub struct TargetState {
    /// Where a worker's pool keeps this target's connections. Another target may have it once this
    /// one is gone; [`TargetState::generation`] tells the two apart.
    pub slot: usize,
    /// Which target of this process it is. Never used twice.
    pub generation: u64,
    tls: Option<TlsPeer>,
    control: CachePadded<ControlState>,
    pub(super) slots: CachePadded<InFlightSlots>,
    lost_pin_at: AtomicU64,
    replaced_at: AtomicU64,
    connections: Option<Arc<Semaphore>>,
    waiting: AtomicU32,
    session_sketch: OnceLock<Box<SessionSketch>>,
    request_stats: OnceLock<Box<RequestStats>>,
    spills: OnceLock<Box<RecentSpills>>,
}

/// What the control thread alone writes.
#[derive(Debug)]
struct ControlState {
    availability: AtomicU32,
    awaits_connect: AtomicBool,
    weight_fraction: AtomicU16,
}

/// Requests that may wait for one of a target's `max_connections`.
pub const MAX_QUEUE: u32 = 1_024;

impl TargetState {
    pub(super) fn new(
        slot: usize,
        generation: u64,
        max_connections: Option<u32>,
        tls: Option<TlsPeer>,
    ) -> Self {
        Self {
            slot,
            generation,
            tls,
            control: CachePadded::new(ControlState {
                availability: AtomicU32::new(Availability::UNKNOWN.to_word()),
                awaits_connect: AtomicBool::new(false),
                weight_fraction: AtomicU16::new(WeightFraction::WHOLE.parts()),
            }),
            slots: CachePadded::default(),
            lost_pin_at: AtomicU64::new(0),
            replaced_at: AtomicU64::new(u64::MAX),
            connections: max_connections.map(|bound| Arc::new(Semaphore::new(bound as usize))),
            waiting: AtomicU32::new(0),
            session_sketch: OnceLock::new(),
            request_stats: OnceLock::new(),
            spills: OnceLock::new(),
        }
    }

    /// Who must answer there, where connections are TLS. It never changes: what was verified, or
    /// was not, must not serve under other terms.
    pub fn tls(&self) -> Option<&TlsPeer> {
        self.tls.as_ref()
    }

    /// Its state now.
    pub fn availability(&self) -> Availability {
        Availability::from_word(self.control.availability.load(Ordering::Relaxed))
    }

    /// Publishes its state. Only the control thread calls this.
    pub fn set_availability(&self, availability: Availability) {
        self.control.availability.store(availability.to_word(), Ordering::Relaxed);
    }

    /// Whether a worker that makes a fresh connection to it should report so: dials of traffic have
    /// failed since one succeeded. So success is silent for every target that has done nothing
    /// wrong.
    pub fn awaits_connect(&self) -> bool {
        self.control.awaits_connect.load(Ordering::Relaxed)
    }

    /// Publishes that. Only the control thread calls this.
    pub fn set_awaits_connect(&self, awaits: bool) {
        self.control.awaits_connect.store(awaits, Ordering::Relaxed);
    }

    /// How much of its weight it has for newcomers now.
    pub fn weight_fraction(&self) -> WeightFraction {
        WeightFraction::of_parts(self.control.weight_fraction.load(Ordering::Relaxed))
    }

    /// Publishes that. Only the control thread calls this.
    pub fn set_weight_fraction(&self, fraction: WeightFraction) {
        // Written with every tick; the line stays with its readers while nothing changes.
        if self.weight_fraction() != fraction {
            self.control.weight_fraction.store(fraction.parts(), Ordering::Relaxed);
        }
    }

    /// The clients it has seen; `None` where nobody asked for them to be counted.
    pub fn session_sketch(&self) -> Option<&SessionSketch> {
        self.session_sketch.get().map(|sketch| &**sketch)
    }

    /// Begins to count the clients it sees. Once begun it does not end.
    pub(super) fn count_sessions(&self) {
        self.session_sketch.get_or_init(Box::default);
    }

    /// What comes of its requests; `None` where nobody asked for that to be counted.
    pub fn request_stats(&self) -> Option<&RequestStats> {
        self.request_stats.get().map(|request_stats| &**request_stats)
    }

    /// Begins to count what comes of its requests. Once begun it does not end.
    pub(super) fn count_requests(&self) {
        self.request_stats.get_or_init(Box::default);
    }

    /// Notes that a spill moved this client's pin here.
    pub fn record_spill(&self, client: Seed, now: Instant) {
        self.spills.get_or_init(Box::default).record(client, now);
    }

    /// Whether a spill moved this client's pin here within the last ten seconds.
    pub fn took_spill_of(&self, client: Seed, now: Instant) -> bool {
        self.spills.get().is_some_and(|spills| spills.contains(client, now))
    }

    /// Notes that a client's pin went from this target to the one that took a request for it, at this
    /// second since 1970.
    pub fn record_pin_lost(&self, now: u64) {
        self.lost_pin_at.store(now, Ordering::Relaxed);
    }

    /// When that last happened; 0 where it never did.
    pub fn lost_pin_at(&self) -> u64 {
        self.lost_pin_at.load(Ordering::Relaxed)
    }

    /// Whether a spill moved this client's pin here after this moment, as far as is remembered.
    pub fn took_spill_after(&self, client: Seed, moment: Instant) -> bool {
        self.spills.get().is_some_and(|spills| spills.came_after(client, moment))
    }

    /// Notes that another machine has this target's name: from this second, since 1970, pins to it are
    /// the other's. Only the control thread calls this.
    pub fn record_replaced(&self, at: u64) {
        self.replaced_at.store(at, Ordering::Relaxed);
    }

    /// The second a pin carries that is written now and leads to this machine: one that was replaced
    /// while it worked on its answer must not look like the machine that replaced it.
    pub fn second_of_pin(&self, now: u64) -> u64 {
        now.min(self.replaced_at.load(Ordering::Relaxed).saturating_sub(1))
    }

    /// The places for connections to this target, where there is a bound.
    pub fn connections(&self) -> Option<&Arc<Semaphore>> {
        self.connections.as_ref()
    }

    /// A place in the queue for a connection, if [`MAX_QUEUE`] is not reached.
    pub fn wait_for_connection(self: &Arc<Self>) -> Option<Waiting> {
        let enter = |count| (count < MAX_QUEUE).then_some(count + 1);
        let entered = self.waiting.try_update(Ordering::Relaxed, Ordering::Relaxed, enter).is_ok();
        entered.then(|| Waiting(Arc::clone(self)))
    }

    /// Whether any worker waits for a connection, so that an idle one must not be kept.
    pub fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

/// One request that waits for a connection; leaves the queue when dropped.
#[derive(Debug)]
pub struct Waiting(Arc<TargetState>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The live half of a group, known by its name.
#[derive(Debug, Default)]
pub struct GroupState {
    sequence: CachePadded<AtomicU64>,
    fails_open: CachePadded<AtomicBool>,
}

impl GroupState {
    /// The next turn of its round robin, shared by all workers: a client without a cookie meets
    /// the targets in order whichever worker serves it.
    pub fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether too few of its targets are healthy, so that health is ignored.
    pub fn fails_open(&self) -> bool {
        self.fails_open.load(Ordering::Relaxed)
    }

    /// Publishes that. Only the control thread calls this.
    pub fn set_fails_open(&self, fails_open: bool) {
        self.fails_open.store(fails_open, Ordering::Relaxed);
    }
}

/// The live half of a rule, known by its name.
#[derive(Debug)]
pub struct RuleState {
    sequence: CachePadded<AtomicU64>,
    key: u64,
}

impl Default for RuleState {
    fn default() -> Self {
        // What the standard library keys its tables with: different in each process, and for each
        // rule. Nothing is kept secret by it; it only has to be unlike any client's own order.
        let key = RandomState::new().hash_one(());
        Self { sequence: CachePadded::default(), key }
    }
}

impl RuleState {
    /// The next turn among its groups, shared by all workers.
    pub fn next_sequence(&self) -> Sequence {
        Sequence { number: self.sequence.fetch_add(1, Ordering::Relaxed), key: self.key }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_availability_survives_its_word() {
        for health in [Health::Initial, Health::Healthy, Health::Suspect, Health::Unhealthy] {
            for drain in [Drain::No, Drain::Held, Drain::Running, Drain::Over] {
                for recovering in [false, true] {
                    let availability = Availability { health, drain, recovering };
                    assert_eq!(Availability::from_word(availability.to_word()), availability);
                }
            }
        }
    }
}
