//! Stayput: a layer-7 load balancer that keeps a client's session on the replica that holds it.

pub mod base;
pub mod cli;
pub mod config;
pub mod control;
pub mod decide;
pub mod http1;
pub mod model;
pub mod net;
pub mod observe;
pub mod policy;
pub mod proxy;
pub mod server;
pub mod worker;
