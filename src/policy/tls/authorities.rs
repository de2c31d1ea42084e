//! The certificate authorities whose client certificates are accepted.

use super::pair::{self, Defect};
use rustls::RootCertStore;
use std::fmt;
use std::sync::Arc;

/// The authorities of one file.
#[derive(Clone)]
pub struct Authorities(Arc<RootCertStore>);

impl Authorities {
    /// Reads the certificates of a PEM file.
    ///
    /// # Errors
    /// If the file has no certificate, or one that cannot be read or cannot be an authority.
    pub fn of_pem(text: &[u8]) -> Result<Self, Defect> {
        let mut store = RootCertStore::empty();
        for certificate in pair::certificates(text)? {
            store.add(certificate).map_err(|error| Defect::BadCertificate(error.to_string()))?;
        }
        if store.is_empty() { Err(Defect::NoCertificate) } else { Ok(Self(Arc::new(store))) }
    }

    /// The authorities in rustls's form.
    pub fn roots(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.0)
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} CA certificates", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_authorities_needs_at_least_one_and_no_invalid_one() {
        let made = rcgen::generate_simple_self_signed(vec!["ca.example".to_owned()]).unwrap();
        let pem = made.cert.pem();
        assert_eq!(Authorities::of_pem(pem.as_bytes()).unwrap().roots().len(), 1);
        assert_eq!(Authorities::of_pem(b"").unwrap_err(), Defect::NoCertificate);
        let broken = format!("{pem}{}", pem.replacen("MI", "AA", 1));
        assert!(matches!(Authorities::of_pem(broken.as_bytes()), Err(Defect::BadCertificate(_))));
    }
}
