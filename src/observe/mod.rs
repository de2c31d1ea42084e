//! Layer 6: access records, the counters of each worker, and the threads that write logs. Workers
//! never wait for a log sink.

pub(crate) mod access_log;
pub(crate) mod counters;
pub(crate) mod error_reason;
pub(crate) mod messages;
pub(crate) mod record;
pub(crate) mod sink;
mod writer;
