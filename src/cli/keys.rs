//! `stayput keys new`: creates a key for `affinity.keys`.

use super::Failed;
use crate::policy::affinity::keys::Key;
use std::io::Write;
use std::process::ExitCode;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Print a new key as one line of base64; redirect it to a file that only its owner can read.
    New,
}

pub(super) fn keys(command: &Command) -> Result<ExitCode, Failed> {
    match command {
        Command::New => {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes)?;
            let line = Key::generate(bytes).to_base64_line();
            std::io::stdout().write_all(line.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
