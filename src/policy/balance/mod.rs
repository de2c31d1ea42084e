//! Balance: which target serves a client without a pin, and which takes over a pin whose target is
//! gone.

pub(crate) mod anomaly;
pub(crate) mod least_loaded;
pub(crate) mod rendezvous;
pub(crate) mod round;
pub(crate) mod round_robin;
pub(crate) mod sessions;
pub(crate) mod slow_start;
pub(crate) mod weight_fraction;
pub(crate) mod weighted_random;
