//! Layer 7: one exchange, from a request's head to the last byte of its answer.

pub mod announcement;
mod answer;
pub mod attempt;
pub mod body;
pub mod client;
pub mod connection;
pub mod exchange;
pub mod expiry;
pub mod failure;
mod follow;
pub mod handle;
pub mod handshake;
pub mod http2;
mod interim;
pub mod progress;
mod protocols;
pub mod reconnect;
mod remembered;
mod request;
mod reroute;
pub mod respond;
mod taking;
pub mod target_side;
pub mod upgrade;
pub mod workplace;
