//! `stayput check`: the same code as `run`, without running.

use super::terminal::{self, data, message};
use super::{Failed, read_config};
use crate::config;
use crate::model::roster::Roster;
use crate::model::snapshot::{Resolutions, Snapshot};
use crate::policy::affinity::keys::{Key, Keyring};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

pub(super) fn check(path: &Path, print: bool) -> Result<ExitCode, Failed> {
    let loaded = read_config(path)?;
    if !loaded.warnings.is_empty() {
        message(&loaded.warnings.render(terminal::messages_are_coloured()));
    }
    // Names that a token could not tell apart show only when the tables are built.
    let keyring = Arc::new(Keyring::new(&[Key::generate([0; 32])])?);
    Snapshot::build(&loaded.config, keyring, &Resolutions::new(), &mut Roster::default())?;
    if print {
        data(&config::effective(&loaded));
    } else {
        data(&format!("{}: ok", path.display()));
    }
    Ok(ExitCode::SUCCESS)
}
