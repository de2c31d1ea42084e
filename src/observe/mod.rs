//! Layer 5: what is seen. One record for each exchange, and counters that each worker owns.

pub mod access_log;
pub mod counters;
pub mod record;
