//! Layer 0: tools without opinions. Nothing here knows what a load balancer is.

pub mod calendar;
pub mod cidr;
pub mod clock;
pub mod log_throttle;
pub mod name;
pub mod random;
pub mod secret;
