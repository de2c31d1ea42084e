//! Header fields: what must not cross the hop, and what the balancer says of the client.

pub mod forwarded;
