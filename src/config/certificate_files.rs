//! Reads the files of a certificate and its key: at the start, by `check`, and when they are
//! replaced.

use crate::policy::tls::pair::{Defect, Pair};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Paths of a certificate chain and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}

/// Reason why a certificate cannot be used.
#[derive(Debug)]
pub enum Unreadable {
    /// The certificate file cannot be read.
    Cert(io::Error),
    /// The key file cannot be read.
    Key(io::Error),
    /// The files are readable, but are no valid pair.
    Unfit(Defect),
}

impl CertificateFiles {
    /// Reads both files.
    ///
    /// # Errors
    /// See [`Unreadable`].
    pub fn read(&self) -> Result<Pair, Unreadable> {
        let chain = read(&self.cert).map_err(Unreadable::Cert)?;
        let key = Zeroizing::new(read(&self.key).map_err(Unreadable::Key)?);
        Pair::of_pem(&chain, &key).map_err(Unreadable::Unfit)
    }
}

/// Maximum file size, 4 MiB. A chain has a few certificates of some kilobytes; a list of
/// authorities may have hundreds.
const MAX_SIZE: u64 = 4 << 20;
/// Initial buffer size, 32 KiB, more than any key: a buffer that grows would leave copies of the
/// key in memory.
const USUAL: usize = 32 << 10;

/// Reads a PEM file.
///
/// # Errors
/// If the file cannot be read, or is larger than 4 MiB.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(USUAL);
    File::open(path)?.take(MAX_SIZE + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_SIZE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is larger than 4 MiB"));
    }
    Ok(content)
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::Cert(error) => write!(f, "cannot read the certificate: {error}"),
            Unreadable::Key(error) => write!(f, "cannot read the private key: {error}"),
            Unreadable::Unfit(defect) => defect.fmt(f),
        }
    }
}

impl std::error::Error for Unreadable {}
