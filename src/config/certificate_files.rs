//! The files of a certificate and its key, read at the start, by `check`, and when they are replaced.

use crate::policy::tls::pair::{Defect, Pair};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Where the two are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, PEM.
    pub cert: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}

/// Why they are not to be had.
#[derive(Debug)]
pub enum Unreadable {
    /// The chain's file cannot be read.
    Cert(io::Error),
    /// The key's cannot.
    Key(io::Error),
    /// They can, but are no pair.
    Unfit(Defect),
}

impl CertificateFiles {
    /// Reads both.
    ///
    /// # Errors
    /// See [`Unreadable`].
    pub fn read(&self) -> Result<Pair, Unreadable> {
        let chain = read(&self.cert).map_err(Unreadable::Cert)?;
        let key = Zeroizing::new(read(&self.key).map_err(Unreadable::Key)?);
        Pair::of_pem(&chain, &key).map_err(Unreadable::Unfit)
    }
}

/// A chain has a few certificates of some kilobytes; a list of authorities may have hundreds.
const MAX_SIZE: u64 = 4 << 20;
/// No key is longer; reserved at once, for a buffer that grows leaves pieces of it behind.
const USUAL: usize = 32 << 10;

/// A file of PEM.
///
/// # Errors
/// When it cannot be read, or is far too long to be one.
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
