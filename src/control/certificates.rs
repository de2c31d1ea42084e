//! A look at every listener's certificates once a day: one that nobody renews ends at night.

use crate::base::clock::Moment;
use crate::net::tls::certificates::Certificates;
use crate::policy::tls::certificate::Validity;
use std::sync::Arc;
use std::time::Duration;

/// How often they are looked at. What is to be said at the start, the check of the file says.
const EVERY: Duration = Duration::from_hours(24);

/// The certificates, and when they were last looked at.
#[derive(Debug)]
pub(super) struct Expiry {
    certificates: Vec<Arc<Certificates>>,
    looked: Moment,
}

impl Expiry {
    /// Looked at just now.
    pub(super) fn new(certificates: Vec<Arc<Certificates>>, now: Moment) -> Self {
        Self { certificates, looked: now }
    }

    /// Warns of what has expired or soon will, if a day has gone by.
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
