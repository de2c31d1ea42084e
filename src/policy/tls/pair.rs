//! A certificate chain with its private key, from PEM.

use super::certificate::Certificate;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, SignatureScheme};
use std::fmt;
use std::sync::Arc;

/// A chain and its matching key.
#[derive(Clone)]
pub struct Pair {
    /// The facts of the first certificate.
    pub certificate: Certificate,
    certified: Arc<CertifiedKey>,
}

/// The reason two files do not form a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Defect {
    /// The certificate file holds no certificate.
    NoCertificate,
    /// The certificate file holds an invalid one, with the reason.
    BadCertificate(String),
    /// The key file holds no key.
    NoKey,
    /// The key file holds one that needs a password.
    EncryptedKey,
    /// The key file holds an unusable one, with the reason.
    BadKey(String),
    /// The key belongs to another certificate.
    Mismatch,
}

impl Defect {
    /// True if the certificate file is at fault, not the key file.
    pub fn is_of_the_certificate(&self) -> bool {
        matches!(self, Defect::NoCertificate | Defect::BadCertificate(_))
    }

    /// The remedy for the operator.
    pub fn remedy(&self) -> &'static str {
        match self {
            Defect::NoCertificate | Defect::BadCertificate(_) => {
                "use a PEM file with the server's own certificate first, then the intermediate \
                 certificates"
            }
            Defect::NoKey | Defect::BadKey(_) => {
                "use a PEM file of one private key, RSA or ECDSA, as PKCS#8, PKCS#1 or SEC1"
            }
            Defect::EncryptedKey => {
                "remove the password with `openssl pkey -in KEY -out PLAIN`, and let only the \
                 balancer's user read the file"
            }
            Defect::Mismatch => {
                "name the key of the certificate; the chain must begin with the server's own \
                 certificate"
            }
        }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Defect::NoCertificate => f.write_str("no certificate in the file"),
            Defect::BadCertificate(why) => {
                write!(f, "cannot read a certificate in the file: {why}")
            }
            Defect::NoKey => f.write_str("no private key in the file"),
            Defect::EncryptedKey => f.write_str("the private key is encrypted"),
            Defect::BadKey(why) => write!(f, "cannot use the private key: {why}"),
            Defect::Mismatch => f.write_str("the private key does not match the certificate"),
        }
    }
}

impl std::error::Error for Defect {}

impl Pair {
    /// Reads both, and checks that they match.
    ///
    /// # Errors
    /// See [`Defect`].
    pub fn of_pem(chain: &[u8], key: &[u8]) -> Result<Self, Defect> {
        let chain = certificates(chain)?;
        let Some(first) = chain.first() else { return Err(Defect::NoCertificate) };
        let certificate = Certificate::of_der(first).map_err(Defect::BadCertificate)?;
        let is_encrypted = key.windows(9).any(|window| window == b"ENCRYPTED");
        let key = match PrivateKeyDer::from_pem_slice(key) {
            Ok(_) | Err(_) if is_encrypted => return Err(Defect::EncryptedKey),
            Ok(key) => key,
            Err(pem::Error::NoItemsFound) => return Err(Defect::NoKey),
            Err(error) => return Err(Defect::BadKey(error.to_string())),
        };
        let key = aws_lc_rs::sign::any_supported_type(&key)
            .map_err(|error| Defect::BadKey(error.to_string()))?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) => Ok(Self { certificate, certified: Arc::new(certified) }),
            Err(rustls::Error::InconsistentKeys(_)) => Err(Defect::Mismatch),
            Err(error) => Err(Defect::BadCertificate(error.to_string())),
        }
    }

    /// The pair in rustls's form.
    pub fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }

    /// Returns true if a client that offers these can use the certificate. TLS 1.2 names the kind
    /// of key in its suites too.
    pub fn is_understood(&self, schemes: &[SignatureScheme], suites: &[CipherSuite]) -> bool {
        use super::certificate::KeyKind;
        let kind = match self.certificate.key {
            KeyKind::Rsa => "_RSA_",
            KeyKind::Ecdsa | KeyKind::Other => "_ECDSA_",
        };
        let names_it = |suite: &CipherSuite| {
            suite.as_str().is_some_and(|name| name.starts_with("TLS13_") || name.contains(kind))
        };
        self.certified.key.choose_scheme(schemes).is_some() && suites.iter().any(names_it)
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.certificate.fmt(f)
    }
}

/// Every certificate of a PEM file; other items are skipped.
///
/// # Errors
/// If one cannot be read.
pub(crate) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Defect> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    read.map_err(|error| Defect::BadCertificate(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{KeyPair, SignatureAlgorithm};

    fn made(algorithm: &'static SignatureAlgorithm) -> (String, String) {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let parameters = rcgen::CertificateParams::new(vec!["shop.example".to_owned()]).unwrap();
        (parameters.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn defect(chain: &str, key: &str) -> Defect {
        Pair::of_pem(chain.as_bytes(), key.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_key_is_accepted_only_with_its_own_certificate() {
        let (chain, key) = made(&rcgen::PKCS_ECDSA_P256_SHA256);
        let (other_chain, other_key) = made(&rcgen::PKCS_ECDSA_P256_SHA256);
        let pair = Pair::of_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(pair.certificate.names_text(), "shop.example");
        assert!(!format!("{pair:?}").contains("BEGIN"));
        assert_eq!(defect(&chain, &other_key), Defect::Mismatch);
        assert_eq!(defect(&other_chain, &key), Defect::Mismatch);
        // The server's own certificate comes first.
        assert_eq!(defect(&format!("{other_chain}{chain}"), &key), Defect::Mismatch);
        assert!(Pair::of_pem(format!("{chain}{other_chain}").as_bytes(), key.as_bytes()).is_ok());
    }

    #[test]
    fn each_kind_of_invalid_file_has_its_own_defect() {
        let (chain, key) = made(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(defect("", &key), Defect::NoCertificate);
        assert_eq!(defect(&key, &key), Defect::NoCertificate);
        assert_eq!(defect(&chain, ""), Defect::NoKey);
        assert_eq!(defect(&chain, &chain), Defect::NoKey);
        let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        assert_eq!(defect(&chain, &encrypted), Defect::EncryptedKey);
        let cut = |pem: &str| pem.replacen("MI", "AA", 1);
        assert!(matches!(defect(&cut(&chain), &key), Defect::BadCertificate(_)));
        assert!(matches!(defect(&chain, &cut(&key)), Defect::BadKey(_)));
    }

    #[test]
    fn a_pair_is_understood_by_schemes_and_in_tls_1_2_by_suites_too() {
        use rustls::CipherSuite as Suite;
        use rustls::SignatureScheme as Scheme;
        let (chain, key) = made(&rcgen::PKCS_ECDSA_P256_SHA256);
        let pair = Pair::of_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        let ecdsa = Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
        let rsa = Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256;
        let any = Suite::TLS13_AES_128_GCM_SHA256;
        let (p256, pss) = (Scheme::ECDSA_NISTP256_SHA256, Scheme::RSA_PSS_SHA256);
        assert!(pair.is_understood(&[p256], &[any]));
        assert!(pair.is_understood(&[pss, p256], &[rsa, ecdsa]));
        assert!(!pair.is_understood(&[pss, p256], &[rsa]));
        assert!(!pair.is_understood(&[pss], &[any, ecdsa]));
    }
}
