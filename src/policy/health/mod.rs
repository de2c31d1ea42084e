//! Health: evaluates the response to a check ([`matcher`], [`drain_request`]), and keeps a target's
//! state ([`progress`]), the clients of a group after an outage ([`recovery`]) and the reported
//! form of a state ([`target_health`]).

pub(crate) mod drain_request;
pub(crate) mod matcher;
pub mod progress;
pub(crate) mod recovery;
pub(crate) mod target_health;
