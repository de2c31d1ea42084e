//! Layer 1: pure rules. Values and the time in, decision and reason out; no clock, socket, file or
//! global is read here.

pub mod affinity;
pub mod balance;
pub mod flood_guard;
pub mod headers;
pub mod health;
pub mod proxy_protocol;
pub mod reconnect;
pub mod retry;
pub mod routing;
pub mod tls;
pub mod websocket;
