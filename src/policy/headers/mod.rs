//! Header fields: which requests are refused for their head, which fields must not cross the hop,
//! and the fields that describe the client.

pub mod connection_auth;
pub mod desync;
pub mod forwarded;
pub mod head;
pub mod header_flags;
pub mod hop_by_hop;
pub mod http2;
pub mod interim;
pub mod request_check;
pub mod response;
pub mod shared_cache;
pub mod trace_id;
