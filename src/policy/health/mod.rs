//! Health: what a check's answer means ([`matcher`], [`drain_request`]), what becomes of a target's
//! state ([`progress`]), of the clients of a group that had an outage ([`recovery`]), and how a state
//! is told ([`target_health`]).

pub mod drain_request;
pub mod matcher;
pub mod progress;
pub mod recovery;
pub mod target_health;
