//! Header fields: which requests are refused for their head, which fields must not cross the hop,
//! and the fields that describe the client.

pub mod connection_auth;
pub(crate) mod desync;
pub(crate) mod forwarded;
pub(crate) mod head;
pub(crate) mod header_flags;
pub mod hop_by_hop;
pub(crate) mod http2;
pub(crate) mod interim;
pub(crate) mod request_check;
pub(crate) mod response;
pub mod shared_cache;
pub(crate) mod trace_id;
