//! Layer 4: the live objects shared by all threads. A published [`snapshot::Snapshot`] never
//! changes; the mutable state of targets, groups and rules is kept beside it and outlives a reload.

pub(crate) mod affinity;
pub(crate) mod forward;
pub(crate) mod in_flight;
pub(crate) mod live;
pub(crate) mod published;
pub(crate) mod report;
pub(crate) mod request_stats;
pub(crate) mod session_sketch;
pub(crate) mod snapshot;
pub(crate) mod spills;
pub(crate) mod target_registry;
