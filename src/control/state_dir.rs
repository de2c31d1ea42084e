//! The only directory in which the balancer writes: it holds the generated key and the drain
//! clocks, so that both survive a restart.

use crate::policy::affinity::keys::Key;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const KEY_FILE: &str = "affinity.key";

/// An existing, writable directory.
#[derive(Clone, Debug)]
pub(crate) struct StateDir(PathBuf);

/// Error of a configured directory that cannot be used.
#[derive(Debug)]
pub struct Unwritable {
    path: PathBuf,
    cause: io::Error,
}

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot write to runtime.state_dir {}: {}; make it writable or set another directory",
            self.path.display(),
            self.cause
        )
    }
}

impl std::error::Error for Unwritable {}

impl StateDir {
    /// Finds the directory: `state_dir` of the file, else `$STATE_DIRECTORY` (set by systemd), else
    /// `/var/lib/stayput` if it is writable, else the user's own state directory. `None` if none is
    /// writable.
    ///
    /// # Errors
    /// If the configured directory cannot be used: it is not replaced silently by another one.
    pub(crate) fn find(written: Option<&Path>) -> Result<Option<Self>, Unwritable> {
        if let Some(path) = written {
            let cause = |cause| Unwritable { path: path.to_owned(), cause };
            return Self::open(path).map(Some).map_err(cause);
        }
        Ok(places().find_map(|path| Self::open(&path).ok()))
    }

    /// The generated key that `run` would find, for commands that only read: creates, moves and
    /// writes nothing.
    pub(crate) fn find_key(written: Option<&Path>) -> Option<Key> {
        let places: Vec<PathBuf> = match written {
            Some(path) => vec![path.to_owned()],
            None => places().collect(),
        };
        places.into_iter().find_map(|path| {
            let line = Zeroizing::new(fs::read(path.join(KEY_FILE)).ok()?);
            Key::from_generated_line(&line).ok()
        })
    }

    fn open(path: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let probe = path.join(format!(".probe-{}", std::process::id()));
        OpenOptions::new().write(true).create(true).truncate(true).open(&probe)?;
        fs::remove_file(&probe)?;
        Ok(Self(path.to_owned()))
    }

    /// The text of a file; `None` if it does not exist.
    pub(crate) fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.0.join(name)).ok()
    }

    /// Replaces a file atomically: a reader sees the old text or the new one.
    ///
    /// # Errors
    /// The system's error.
    pub(crate) fn write(&self, name: &str, text: &[u8]) -> io::Result<()> {
        let temporary = self.temporary(name);
        write_private(&temporary, text)?;
        fs::rename(&temporary, self.0.join(name))
    }

    /// The generated key: the existing one, or one made of `fresh`. If two processes start at once,
    /// the first to link its file wins, and the other uses that key. A damaged file is renamed to
    /// `.bad`, and a message is logged.
    ///
    /// # Errors
    /// The system's error.
    pub(crate) fn generated_key(&self, fresh: [u8; 32]) -> io::Result<Key> {
        let path = self.0.join(KEY_FILE);
        if let Some(key) = self.existing_key()? {
            return Ok(key);
        }
        let temporary = self.temporary(KEY_FILE);
        write_private(&temporary, Key::generate(fresh).to_base64_line().as_bytes())?;
        let linked = fs::hard_link(&temporary, &path);
        fs::remove_file(&temporary)?;
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) => tracing::info!(file = %path.display(), "affinity key generated"),
            Err(_) => {}
        }
        self.existing_key()?.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The generated key, if there is a valid one.
    ///
    /// # Errors
    /// The system's error for an existing file.
    pub(crate) fn existing_key(&self) -> io::Result<Option<Key>> {
        let path = self.0.join(KEY_FILE);
        let line = match fs::read(&path) {
            Ok(line) => Zeroizing::new(line),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match Key::from_generated_line(&line) {
            Ok(key) => Ok(Some(key)),
            Err(defect) => {
                let aside = path.with_extension("key.bad");
                fs::rename(&path, &aside)?;
                tracing::warn!(
                    %defect, file = %path.display(), aside = %aside.display(),
                    "generated affinity key is damaged: a new key is generated, and existing pins \
                     are lost"
                );
                Ok(None)
            }
        }
    }

    fn temporary(&self, name: &str) -> PathBuf {
        self.0.join(format!(".{name}.{}", std::process::id()))
    }
}

fn write_private(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

/// Directories to try if the file names none, in order.
fn places() -> impl Iterator<Item = PathBuf> {
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let own = match var("XDG_STATE_HOME") {
        Some(state) => Some(state.join("stayput")),
        None => var("HOME").map(|home| home.join(".local/state/stayput")),
    };
    [var("STATE_DIRECTORY"), Some("/var/lib/stayput".into()), own].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn dir() -> (tempfile::TempDir, StateDir) {
        let place = tempfile::tempdir().unwrap();
        let dir = StateDir::find(Some(&place.path().join("state"))).unwrap().unwrap();
        (place, dir)
    }

    #[test]
    fn a_generated_key_is_made_once_and_only_its_owner_can_read_it() {
        let (_place, dir) = dir();
        let first = dir.generated_key([1; 32]).unwrap();
        let second = dir.generated_key([2; 32]).unwrap();
        assert_eq!(first.material.expose(), second.material.expose());
        let mode = fs::metadata(dir.0.join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn finding_a_key_creates_and_moves_nothing() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("state");
        assert!(StateDir::find_key(Some(&path)).is_none());
        assert!(!path.exists());
        fs::create_dir(&path).unwrap();
        fs::write(path.join(KEY_FILE), "hunter2\n").unwrap();
        assert!(StateDir::find_key(Some(&path)).is_none());
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_key_is_set_aside_and_another_is_made() {
        let (_place, dir) = dir();
        fs::write(dir.0.join(KEY_FILE), "hunter2\n").unwrap();
        let key = dir.generated_key([1; 32]).unwrap();
        assert_eq!(key.material.expose(), [1; 32]);
        assert_eq!(dir.read("affinity.key.bad").as_deref(), Some("hunter2\n"));
    }

    #[test]
    fn a_configured_directory_that_cannot_be_made_is_an_error() {
        let (place, _dir) = dir();
        fs::write(place.path().join("file"), "").unwrap();
        let error = StateDir::find(Some(&place.path().join("file/below"))).unwrap_err();
        assert!(error.to_string().contains("runtime.state_dir"), "{error}");
    }
}
