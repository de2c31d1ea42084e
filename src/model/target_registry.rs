//! The registry of live state: a new snapshot gets the state of targets and groups that exist
//! already, so that health, pools, counts and sequence numbers outlive a reload.

use super::live::{GroupState, RuleState, TargetState};
use crate::base::name::Name;
use crate::config::settings::target_tls::TlsPeer;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Live state by identity. Owned by the one thread that builds snapshots.
#[derive(Debug, Default)]
pub struct TargetRegistry {
    targets: HashMap<Identity, Arc<TargetState>>,
    groups: HashMap<Name, Arc<GroupState>>,
    rules: HashMap<Name, Arc<RuleState>>,
    next_slot: usize,
    free_slots: Vec<usize>,
    next_generation: u64,
}

/// Group, id, address and TLS peer.
type Identity = (Name, Name, Option<SocketAddr>, Option<TlsPeer>);

impl TargetRegistry {
    /// The live state of a target at an address. A new address or new TLS peer settings get fresh
    /// state: health, pool and counters belong to the address. `None` is a host name without an
    /// address yet.
    pub fn target(
        &mut self,
        group: &Name,
        id: &Name,
        address: Option<SocketAddr>,
        max_connections: Option<u32>,
        tls: Option<TlsPeer>,
    ) -> Arc<TargetState> {
        let key = (group.clone(), id.clone(), address, tls.clone());
        if let Some(known) = self.targets.get(&key) {
            return Arc::clone(known);
        }
        let slot = self.free_slots.pop().unwrap_or_else(|| {
            self.next_slot += 1;
            self.next_slot - 1
        });
        let state = Arc::new(TargetState::new(slot, self.next_generation, max_connections, tls));
        self.next_generation += 1;
        self.targets.insert(key, Arc::clone(&state));
        state
    }

    /// The live state of a group.
    pub fn group(&mut self, name: &Name) -> Arc<GroupState> {
        Arc::clone(self.groups.entry(name.clone()).or_default())
    }

    /// The live state of a rule.
    pub fn rule(&mut self, name: &Name) -> Arc<RuleState> {
        Arc::clone(self.rules.entry(name.clone()).or_default())
    }

    /// Drops targets that no snapshot and no exchange holds any more. New targets reuse their
    /// slots, so that host names with changing addresses do not grow the workers' pools without
    /// bound.
    pub fn forget_the_gone(&mut self) {
        let Self { targets, free_slots, .. } = self;
        targets.retain(|_, state| {
            let is_held = Arc::strong_count(state) > 1;
            if !is_held {
                free_slots.push(state.slot);
            }
            is_held
        });
        self.groups.retain(|_, state| Arc::strong_count(state) > 1);
        self.rules.retain(|_, state| Arc::strong_count(state) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::target_tls::TargetTls;

    #[test]
    fn a_slot_is_reused_once_its_target_is_dropped_a_generation_never() {
        let mut registry = TargetRegistry::default();
        let (group, id) = (Name::new("app").unwrap(), Name::new("a").unwrap());
        let at = |registry: &mut TargetRegistry, port: u16| {
            registry.target(&group, &id, Some(([127, 0, 0, 1], port).into()), None, None)
        };
        let held = at(&mut registry, 1);
        assert!(Arc::ptr_eq(&held, &at(&mut registry, 1)));
        let tls = TargetTls::ANYONE.peer(None, [127, 0, 0, 1].into(), false);
        let over_tls =
            registry.target(&group, &id, Some(([127, 0, 0, 1], 1).into()), None, Some(tls));
        assert!(!Arc::ptr_eq(&held, &over_tls), "TLS and plain text share no pool");
        drop(over_tls);
        registry.forget_the_gone();
        let mut generations = vec![held.generation];
        for port in 2..100 {
            let state = at(&mut registry, port);
            assert_eq!((held.slot, state.slot), (0, 1));
            generations.push(state.generation);
            registry.forget_the_gone();
            assert!(Arc::ptr_eq(&state, &at(&mut registry, port)), "someone holds it");
            drop(state);
            registry.forget_the_gone();
        }
        let given = generations.len();
        generations.sort_unstable();
        generations.dedup();
        assert_eq!(generations.len(), given);
    }
}
