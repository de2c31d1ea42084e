//! Client connections, and each exchange on them, from a request's head to the last byte of its answer.
//! A file imports only files below it in this list; `tests/house.rs` holds that.

// A client's connection.
pub mod downstream;
// One request.
pub mod exchange;
mod follow;
pub mod handle;
pub mod local_response;
pub mod log_entry;
mod protocols;
pub mod reconnect;
mod request;
mod response;
pub mod response_body;
mod rewrite;
pub mod tunnel;
pub mod upstream;
pub mod upstream_response;
// State of a worker and of a connection.
pub mod conn;
pub mod conn_info;
mod h2_slot;
mod h2_tunnel;
mod h2_unopened;
pub mod linger;
pub mod live_view;
pub mod partial_heads;
mod token_cache;
pub mod worker_ctx;
// Leaves.
pub mod client_io;
pub mod deadline;
pub mod expiry;
pub mod failure;
mod interim;
mod read_budget;
pub mod recv_body;
mod send_budget;
pub mod stream_body;
mod taking;
pub mod upload;
