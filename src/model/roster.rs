//! The roster gives a new snapshot the targets and groups it already knew, so that health, pools,
//! counts and turns outlive a reload.

use super::live::{GroupLive, TargetLive};
use crate::ground::name::Name;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Live halves by identity. Owned by whoever builds snapshots: one thread.
#[derive(Debug, Default)]
pub struct Roster {
    targets: HashMap<(Name, Name, Option<SocketAddr>), Arc<TargetLive>>,
    groups: HashMap<Name, Arc<GroupLive>>,
    next_slot: usize,
}

impl Roster {
    /// The live half of a target at an address; a changed address is a stranger, for health, pool
    /// and count belong to what answers there. `None` is a host name that has no address yet.
    pub fn target(
        &mut self,
        group: &Name,
        id: &Name,
        address: Option<SocketAddr>,
        max_connections: Option<u32>,
    ) -> Arc<TargetLive> {
        let key = (group.clone(), id.clone(), address);
        let next_slot = &mut self.next_slot;
        let known = self.targets.entry(key).or_insert_with(|| {
            let slot = *next_slot;
            *next_slot += 1;
            Arc::new(TargetLive::new(slot, max_connections))
        });
        Arc::clone(known)
    }

    /// The live half of a group.
    pub fn group(&mut self, name: &Name) -> Arc<GroupLive> {
        Arc::clone(self.groups.entry(name.clone()).or_default())
    }

    /// Forgets targets that no snapshot and no exchange holds any more.
    pub fn forget_the_gone(&mut self) {
        self.targets.retain(|_, live| Arc::strong_count(live) > 1);
        self.groups.retain(|_, live| Arc::strong_count(live) > 1);
    }
}
