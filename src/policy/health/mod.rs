//! Health: what a check's answer means ([`matcher`]) and what becomes of a target's state.

pub mod matcher;
