//! Health: what a check's answer means ([`matcher`]) and what becomes of a target's state
//! ([`progress`]).

pub mod matcher;
pub mod progress;
