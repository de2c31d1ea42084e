//! Checks the expiry of every listener's certificates once a day, so that a missed renewal is
//! logged in time.

use crate::base::clock::Moment;
use crate::net::tls::certificates::Certificates;
use crate::policy::tls::certificate::Validity;
use std::sync::Arc;
use std::time::Duration;

/// Interval of the check. Warnings at the start come from the check of the file.
const EVERY: Duration = Duration::from_hours(24);

/// The certificates, and the time of their last check.
#[derive(Debug)]
pub(super) struct Expiry {
    certificates: Vec<Arc<Certificates>>,
    looked: Moment,
}

impl Expiry {
    /// Counts the certificates as checked at `now`.
    pub(super) fn new(certificates: Vec<Arc<Certificates>>, now: Moment) -> Self {
        Self { certificates, looked: now }
    }

    /// Warns of certificates that have expired or will soon, if a day has passed since the last
    /// check.
    pub(super) fn check(&mut self, now: Moment) {
        if now.since(self.looked) >= EVERY {
            self.looked = now;
            for warning in self.warnings(now) {
                tracing::warn!("{warning}");
            }
        }
    }

    fn warnings(&self, now: Moment) -> Vec<String> {
        let mut warnings = Vec::new();
        for served in self.certificates.iter().map(|own| own.current()) {
            for certificate in served.certificates() {
                let validity = certificate.validity(now.unix_seconds());
                if validity != Validity::Valid {
                    let names = certificate.names_text();
                    warnings.push(format!("certificate of {names} {validity}"));
                }
            }
        }
        warnings
    }
}
