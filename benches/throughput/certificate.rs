//! The certificate every listener with TLS shows: ECDSA P-256, made anew for each run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The name in the certificate, which clients ask for by SNI and Host alike.
pub(crate) const SERVER_NAME: &str = "bench.example";

/// Where its files are.
pub(crate) struct Certificate {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
    /// The two in one file, as HAProxy wants them.
    pub(crate) both: PathBuf,
}

impl Certificate {
    pub(crate) fn make(room: &Path) -> io::Result<Self> {
        // P-256 with SHA-256, rcgen's own choice.
        let made = rcgen::generate_simple_self_signed(vec![SERVER_NAME.to_owned()]);
        let made = made.map_err(io::Error::other)?;
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let file = |name: &str, text: &str| {
            let path = room.join(name);
            fs::write(&path, text).map(|()| path)
        };
        Ok(Self {
            both: file("both.pem", &format!("{chain}{key}"))?,
            chain: file("chain.pem", &chain)?,
            key: file("key.pem", &key)?,
        })
    }
}
