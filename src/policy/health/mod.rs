//! Health: evaluates the response to a check ([`matcher`], [`drain_request`]), and keeps a target's
//! state ([`progress`]), the clients of a group after an outage ([`recovery`]) and the reported
//! form of a state ([`target_health`]).

pub mod drain_request;
pub mod matcher;
pub mod progress;
pub mod recovery;
pub mod target_health;
