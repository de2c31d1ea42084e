//! Layer 6: access records, the counters of each worker, and the threads that write logs. Workers
//! never wait for a log sink.

pub mod access_log;
pub mod counters;
pub mod error_reason;
pub mod messages;
pub mod record;
pub mod sink;
mod writer;
