//! Health: what a check's answer means ([`matcher`], [`wish`]), what becomes of a target's state
//! ([`progress`]), and how that is told ([`target_health`]).

pub mod matcher;
pub mod progress;
pub mod target_health;
pub mod wish;
