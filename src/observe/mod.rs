//! Layer 5: what is seen. One record for each exchange, counters that each worker owns, and the threads
//! that write, so that nothing else waits for what is written to.

pub(crate) mod access_log;
pub(crate) mod counters;
pub(crate) mod messages;
pub(crate) mod record;
pub(crate) mod sink;
mod writer;
