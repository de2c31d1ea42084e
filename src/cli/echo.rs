//! `stayput echo`: replicas that answer with their name, enough to test affinity.

use super::Failed;
use super::replica::Fleet;
use super::terminal::message;
use std::net::SocketAddr;
use std::process::ExitCode;

pub(super) fn echo(addresses: &[SocketAddr]) -> Result<ExitCode, Failed> {
    let fleet = Fleet::bind(addresses)?;
    for (name, address) in fleet.addresses()? {
        message(&format!("replica {name} http://{address}"));
    }
    serve(fleet)?;
    Ok(ExitCode::SUCCESS)
}

/// Serves replicas until the process ends.
pub(super) fn serve(fleet: Fleet) -> std::io::Result<()> {
    let options = tokio::runtime::LocalOptions::default();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(options)?;
    runtime.block_on(fleet.serve())
}
