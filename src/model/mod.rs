//! Layer 3: the live objects all threads share. A published [`snapshot::Snapshot`] never changes;
//! what does change about a target or a group lives beside it and outlives a reload.

pub mod affinity;
pub mod forward;
pub mod in_flight;
pub mod live;
pub mod published;
pub mod report;
pub mod request_stats;
pub mod session_sketch;
pub mod snapshot;
pub mod spills;
pub mod target_registry;
