//! Balance: who serves a client that has no pin, and who takes over a pin whose target is gone.

pub mod rendezvous;
pub mod round_robin;
