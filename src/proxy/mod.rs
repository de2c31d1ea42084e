//! Client connections, and each exchange on them, from a request's head to the last byte of its answer.
//! A file imports only files below it in this list; `tests/house.rs` holds that.

// A client's connection.
pub mod downstream;
pub mod http2;
// One request.
pub mod handle;
mod response;
mod rewrite;
pub mod local_response;
mod request;
pub mod upstream;
pub mod tunnel;
mod follow;
pub mod response_body;
pub mod upstream_response;
pub mod reconnect;
pub mod exchange;
pub mod log_entry;
mod protocols;
// State of a worker and of a connection.
pub mod live_view;
pub mod worker_ctx;
pub mod partial_heads;
pub mod linger;
pub mod conn;
pub mod conn_info;
mod token_cache;
// Leaves.
pub mod upload;
pub mod recv_body;
pub mod client_io;
pub mod failure;
pub mod deadline;
mod taking;
pub mod expiry;
