//! Layer 0: general tools. No code here depends on load balancing.

pub(crate) mod calendar;
pub(crate) mod cidr;
pub mod clock;
pub(crate) mod log_throttle;
pub(crate) mod name;
pub(crate) mod random;
pub(crate) mod secret;
