//! The demo's replica: says its name, counts a visitor's visits in memory, dies on `POST /kill`.
//!
//! `cargo run --example counter -- --listen 127.0.0.1:3001 127.0.0.1:3002 127.0.0.1:3003`

use clap::Parser;
use stayput::cli::replica::Fleet;
use std::net::SocketAddr;

#[derive(Parser)]
struct Arguments {
    /// Where replicas listen; each address is a replica of its own.
    #[arg(long, required = true, num_args = 1..)]
    listen: Vec<SocketAddr>,
}

fn main() -> std::io::Result<()> {
    let fleet = Fleet::bind(&Arguments::parse().listen)?;
    let options = tokio::runtime::LocalOptions::default();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(options)?;
    runtime.block_on(fleet.serve())
}
