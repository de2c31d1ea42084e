//! Layer 5: what is seen. One record for each exchange, counters that each worker owns, and the threads
//! that write, so that nothing else waits for what is written to.

pub mod access_log;
pub mod counters;
pub mod error_reason;
pub mod messages;
pub mod record;
pub mod sink;
mod writer;
