//! Balance: which target serves a client without a pin, and which takes over a pin whose target is
//! gone.

pub mod anomaly;
pub mod least_loaded;
pub mod rendezvous;
pub mod round;
pub mod round_robin;
pub mod sessions;
pub mod slow_start;
pub mod weight_fraction;
pub mod weighted_random;
