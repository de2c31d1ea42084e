//! The certificate of every listener with TLS: ECDSA P-256, made anew for each run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The name in the certificate, which clients send in SNI and Host.
pub(crate) const SERVER_NAME: &str = "bench.example";

/// The paths of its files.
pub(crate) struct Certificate {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
    /// Both in one file, as HAProxy needs them.
    pub(crate) both: PathBuf,
}

impl Certificate {
    pub(crate) fn make(room: &Path) -> io::Result<Self> {
        // P-256 with SHA-256, the default of rcgen.
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
