//! Layer 0: general tools. No code here depends on load balancing.

pub mod calendar;
pub mod cidr;
pub mod clock;
pub mod log_throttle;
pub mod name;
pub mod random;
pub mod secret;
