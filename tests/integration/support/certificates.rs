//! A certificate authority for tests, and files with the certificates it signed.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SignatureAlgorithm,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};

/// A certificate, its key, and the paths of both as PEM.
pub struct Signed {
    pub der: CertificateDer<'static>,
    pub key: PrivateKeyDer<'static>,
    pub cert_path: PathBuf,
    pub key_path: PathBuf,
}

impl Signed {
    /// The certificate as an entry of `certificates`.
    pub fn entry(&self) -> String {
        format!("{{ cert = {:?}, key = {:?} }}", self.cert_path, self.key_path)
    }
}

/// The authority. Its files are removed on drop.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

impl Authority {
    pub fn new() -> Self {
        Self::called("test authority")
    }

    /// An authority with this common name.
    pub fn called(name: &str) -> Self {
        let mut parameters = CertificateParams::new(Vec::<String>::new()).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer =
            CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, dir }
    }

    /// Path of the authority's certificate.
    pub fn path(&self) -> PathBuf {
        self.dir().join("ca.pem")
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// A server's certificate for these names, in files called `name`.
    pub fn sign(&self, name: &str, names: &[&str]) -> Signed {
        self.sign_for(name, names, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    /// A server's certificate with a key of this kind.
    pub fn sign_for(
        &self,
        name: &str,
        names: &[&str],
        kind: &'static SignatureAlgorithm,
    ) -> Signed {
        self.sign_with(name, names, kind, |_| {})
    }

    /// A client's certificate with this common name.
    pub fn sign_client(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Signed {
        self.sign_with(name, &[], &rcgen::PKCS_ECDSA_P256_SHA256, |parameters| {
            parameters.distinguished_name.push(DnType::CommonName, name);
            parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            change(parameters);
        })
    }

    /// A certificate with all of these parameters.
    pub fn sign_with(
        &self,
        name: &str,
        names: &[&str],
        kind: &'static SignatureAlgorithm,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Signed {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = CertificateParams::new(names).unwrap();
        change(&mut parameters);
        let key = KeyPair::generate_for(kind).unwrap();
        let made = parameters.signed_by(&key, &self.issuer).unwrap();
        let cert_path = self.dir().join(format!("{name}.pem"));
        let key_path = self.dir().join(format!("{name}.key"));
        std::fs::write(&cert_path, made.pem()).unwrap();
        std::fs::write(&key_path, key.serialize_pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Signed { der: made.der().clone(), key, cert_path, key_path }
    }
}
