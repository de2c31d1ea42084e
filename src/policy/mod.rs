//! Layer 2: pure rules. Values and the time in, decision and reason out; no clock, socket, file or
//! global is read here.

pub(crate) mod affinity;
pub(crate) mod balance;
pub(crate) mod flood_guard;
pub(crate) mod headers;
pub(crate) mod health;
pub(crate) mod proxy_protocol;
pub(crate) mod reconnect;
pub(crate) mod retry;
pub(crate) mod routing;
pub(crate) mod tls;
pub(crate) mod websocket;
