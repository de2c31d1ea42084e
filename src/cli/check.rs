//! `stayput check`: checks a file with the code of `run`, without starting anything.

use super::terminal::{self, data, message};
use super::{Failed, read_config};
use crate::base::clock::Moment;
use crate::config;
use crate::config::settings::{Listener, WrittenCookie};
use crate::model::snapshot::{Resolutions, Snapshot};
use crate::model::target_registry::TargetRegistry;
use crate::observe::record::time_text;
use crate::policy::affinity::keys::{Key, Keyring};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

pub(super) fn check(path: &Path, print: bool) -> Result<ExitCode, Failed> {
    let loaded = read_config(path)?;
    if !loaded.warnings.is_empty() {
        message(&loaded.warnings.render(terminal::messages_are_coloured()));
    }
    // Names that a token could not distinguish are found only when the tables are built.
    let keyring = Arc::new(Keyring::new(&[Key::generate([0; 32])])?);
    Snapshot::build(&loaded.config, keyring, &Resolutions::new(), &mut TargetRegistry::default())?;
    if print {
        data(&config::effective(&loaded));
    } else {
        data(&format!("{}: ok", path.display()));
        loaded.config.listeners.iter().for_each(show_certificates);
        loaded
            .config
            .cookies
            .iter()
            .filter_map(WrittenCookie::plain_http_note)
            .for_each(|note| data(&note));
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the certificates of a listener and their expiry dates.
fn show_certificates(listener: &Listener) {
    let now = Moment::now().unix_seconds();
    for (_, pair) in listener.tls.iter().flat_map(|tls| &tls.certificates) {
        let one = &pair.certificate;
        let until = time_text(Duration::from_secs(one.not_after));
        let (names, validity) = (one.names_text(), one.validity(now));
        data(&format!("{}: certificate of {names}, until {until}: {validity}", listener.name));
    }
}
