//! Stayput: a layer-7 load balancer that keeps a client's session on the replica that holds it.

mod base;
mod cli;
pub mod config;
mod control;
mod decide;
mod http1;
mod model;
mod net;
mod observe;
mod policy;
mod proxy;
mod server;
pub mod testing;
mod worker;

pub use cli::main;
pub use server::{Server, StartError};
