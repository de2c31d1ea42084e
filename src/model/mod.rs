//! Layer 3: the live objects all threads share. A published [`snapshot::Snapshot`] never changes;
//! what does change about a target or a group lives beside it and outlives a reload.

pub mod affinity;
pub mod forward;
pub mod live;
pub mod outcomes;
pub mod places;
pub mod published;
pub mod report;
pub mod roster;
pub mod sessions;
pub mod snapshot;
pub mod spills;
