//! Layer 3: the live objects shared by all threads. A published [`snapshot::Snapshot`] never
//! changes; the mutable state of targets, groups and rules is kept beside it and outlives a reload.

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
