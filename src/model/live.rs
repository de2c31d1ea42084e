//! The mutable state of targets, groups and rules beside an immutable snapshot. Per target: one
//! availability word and one weight fraction, written only by the control thread, and one in-flight
//! count, kept only if a cap or the algorithm needs it. Per group: one sequence number. Each is on
//! its own cache line, because every core reads them.

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

/// Health of a target, by its checks and its traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not known yet: no check has passed, and too few have failed.
    Initial,
    /// The target can serve.
    Healthy,
    /// Checks pass, but connections for traffic fail: new clients avoid the target, pinned ones
    /// stay.
    Suspect,
    /// The target cannot serve.
    Unhealthy,
}

/// Drain state of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// Not draining.
    No,
    /// The host name lists the address no more: new clients come only if no better target can
    /// serve.
    Held,
    /// Draining: no new clients; the deregistration delay runs.
    Running,
    /// The deregistration delay has ended.
    Over,
}

/// All that a decision needs to know about one target, in one atomic load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Availability {
    /// Health of the target.
    pub health: Health,
    /// Drain state of the target.
    pub drain: Drain,
    /// True if the target is unhealthy but its group is in recovery: pinned clients still go to it.
    pub recovering: bool,
}

impl Availability {
    /// The availability before the first check.
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

/// Live state of a target, identified by its group, id, address and TLS peer.
#[derive(Debug)]
pub struct TargetState {
    /// Index of this target's connections in each worker's pool. The slot is reused after the
    /// target is gone; [`TargetState::generation`] distinguishes the two.
    pub slot: usize,
    /// Number of this target in the process. Never reused.
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

/// Fields written only by the control thread.
#[derive(Debug)]
struct ControlState {
    availability: AtomicU32,
    awaits_connect: AtomicBool,
    weight_fraction: AtomicU16,
}

/// Maximum number of requests that wait for one of a target's `max_connections`.
pub(crate) const MAX_QUEUE: u32 = 1_024;

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

    /// The peer to verify on TLS connections; `None` if they are plain. It never changes, so that
    /// no connection serves under other terms than it was verified for.
    pub fn tls(&self) -> Option<&TlsPeer> {
        self.tls.as_ref()
    }

    /// The current availability.
    pub fn availability(&self) -> Availability {
        Availability::from_word(self.control.availability.load(Ordering::Relaxed))
    }

    /// Publishes the availability. Only the control thread calls this.
    pub fn set_availability(&self, availability: Availability) {
        self.control.availability.store(availability.to_word(), Ordering::Relaxed);
    }

    /// Returns true if a worker should report a fresh connection to this target: dials of traffic
    /// have failed since the last success. Targets without failures thus cause no reports.
    pub fn awaits_connect(&self) -> bool {
        self.control.awaits_connect.load(Ordering::Relaxed)
    }

    /// Publishes this flag. Only the control thread calls this.
    pub fn set_awaits_connect(&self, awaits: bool) {
        self.control.awaits_connect.store(awaits, Ordering::Relaxed);
    }

    /// The fraction of its weight that applies to new clients now.
    pub fn weight_fraction(&self) -> WeightFraction {
        WeightFraction::of_parts(self.control.weight_fraction.load(Ordering::Relaxed))
    }

    /// Publishes the fraction. Only the control thread calls this.
    pub fn set_weight_fraction(&self, fraction: WeightFraction) {
        // Called with every tick; without a change there is no write, so readers keep the cache
        // line.
        if self.weight_fraction() != fraction {
            self.control.weight_fraction.store(fraction.parts(), Ordering::Relaxed);
        }
    }

    /// The sketch of the clients seen; `None` if sessions are not counted.
    pub fn session_sketch(&self) -> Option<&SessionSketch> {
        self.session_sketch.get().map(|sketch| &**sketch)
    }

    /// Starts counting sessions. Counting never stops.
    pub(super) fn count_sessions(&self) {
        self.session_sketch.get_or_init(Box::default);
    }

    /// Counts of requests and failures; `None` if they are not counted.
    pub fn request_stats(&self) -> Option<&RequestStats> {
        self.request_stats.get().map(|request_stats| &**request_stats)
    }

    /// Starts counting requests and failures. Counting never stops.
    pub(super) fn count_requests(&self) {
        self.request_stats.get_or_init(Box::default);
    }

    /// Records that a spill moved this client's pin to this target.
    pub fn record_spill(&self, client: Seed, now: Instant) {
        self.spills.get_or_init(Box::default).record(client, now);
    }

    /// Returns true if a spill moved this client's pin here within the last ten seconds.
    pub fn took_spill_of(&self, client: Seed, now: Instant) -> bool {
        self.spills.get().is_some_and(|spills| spills.contains(client, now))
    }

    /// Records that a client's pin moved away from this target to the one that served its request,
    /// at this second since 1970.
    pub fn record_pin_lost(&self, now: u64) {
        self.lost_pin_at.store(now, Ordering::Relaxed);
    }

    /// Unix second at which a pin last moved away; 0 if none did.
    pub fn lost_pin_at(&self) -> u64 {
        self.lost_pin_at.load(Ordering::Relaxed)
    }

    /// Returns true if a spill moved this client's pin here after `moment` and is still remembered.
    pub fn took_spill_after(&self, client: Seed, moment: Instant) -> bool {
        self.spills.get().is_some_and(|spills| spills.came_after(client, moment))
    }

    /// Records that another machine has taken over this target's name: pins made at or after second
    /// `at` since 1970 belong to that machine. Only the control thread calls this.
    pub fn record_replaced(&self, at: u64) {
        self.replaced_at.store(at, Ordering::Relaxed);
    }

    /// The Unix second to write into a pin to this machine now. After a replacement it stays before
    /// the replacement, so that the pin is not taken for one to the new machine.
    pub fn second_of_pin(&self, now: u64) -> u64 {
        now.min(self.replaced_at.load(Ordering::Relaxed).saturating_sub(1))
    }

    /// Permits for connections to this target; `None` if there is no bound.
    pub fn connections(&self) -> Option<&Arc<Semaphore>> {
        self.connections.as_ref()
    }

    /// Joins the queue for a connection; `None` if `MAX_QUEUE` requests wait already.
    pub fn wait_for_connection(self: &Arc<Self>) -> Option<Waiting> {
        let enter = |count| (count < MAX_QUEUE).then_some(count + 1);
        let entered = self.waiting.try_update(Ordering::Relaxed, Ordering::Relaxed, enter).is_ok();
        entered.then(|| Waiting(Arc::clone(self)))
    }

    /// Returns true if any worker waits for a connection, so that no idle one may be kept.
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

/// Live state of a group, identified by its name.
#[derive(Debug, Default)]
pub struct GroupState {
    sequence: CachePadded<AtomicU64>,
    fails_open: CachePadded<AtomicBool>,
}

impl GroupState {
    /// The next number of the round robin, shared by all workers, so that clients without a cookie
    /// get the targets in order over all workers.
    pub fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns true if too few targets are healthy, so that health is ignored (fail open).
    pub fn fails_open(&self) -> bool {
        self.fails_open.load(Ordering::Relaxed)
    }

    /// Publishes this flag. Only the control thread calls this.
    pub fn set_fails_open(&self, fails_open: bool) {
        self.fails_open.store(fails_open, Ordering::Relaxed);
    }
}

/// Live state of a rule, identified by its name.
#[derive(Debug)]
pub struct RuleState {
    sequence: CachePadded<AtomicU64>,
    key: u64,
}

impl Default for RuleState {
    fn default() -> Self {
        // The key of the standard library's hash tables: it differs per process and per rule. It is
        // no secret; it only has to be unrelated to the order in which clients come.
        let key = RandomState::new().hash_one(());
        Self { sequence: CachePadded::default(), key }
    }
}

impl RuleState {
    /// The next number for the choice among the groups, shared by all workers.
    pub fn next_sequence(&self) -> Sequence {
        Sequence { number: self.sequence.fetch_add(1, Ordering::Relaxed), key: self.key }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_availability_survives_its_encoding_as_a_word() {
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
