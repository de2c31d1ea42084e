//! The keyring: the first key seals, all open. This file has the format of a key file and the keys
//! derived from a key; the layout of a seal is in [`token`](super::token).

mod prekeyed;

use std::fmt;

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

pub(super) use self::prekeyed::Prekeyed;
use crate::base::secret::Secret;

/// The minimum length of a key in bytes: the hash's output length, below which HMAC is weaker (RFC
/// 2104 section 3).
pub(crate) const MIN_LEN: usize = 32;

/// One configured or generated key.
#[derive(Clone, Debug)]
pub struct Key {
    /// 1..=127 for configured keys, 128..=255 for generated ones.
    pub id: u8,
    /// At least `MIN_LEN` bytes.
    pub material: Secret,
}

impl Key {
    /// Reads a key file: one line of base64, standard or URL alphabet, padded or not, with or
    /// without a line end.
    ///
    /// # Errors
    /// If the text is not such a line, or the key in it is too short.
    pub fn from_base64_line(id: u8, line: &[u8]) -> Result<Self, KeyDefect> {
        Ok(Self { id, material: decoded(line)? })
    }

    /// Reads a generated key back; its id is in its bytes, as [`Key::generate`] documents.
    ///
    /// # Errors
    /// As [`Key::from_base64_line`].
    pub fn from_generated_line(line: &[u8]) -> Result<Self, KeyDefect> {
        let material = decoded(line)?;
        Ok(Self { id: id_of_generated(&material), material })
    }

    /// A key of 32 random bytes. Its id, 128 to 255, comes from its hash, so that the token of
    /// another node with a generated key is usually of an unknown key rather than forged.
    pub fn generate(mut bytes: [u8; MIN_LEN]) -> Self {
        let material = Secret::new(bytes.to_vec());
        bytes.zeroize();
        Self { id: id_of_generated(&material), material }
    }

    /// The content of a key file, with its line end.
    pub fn to_base64_line(&self) -> Zeroizing<String> {
        let bytes = self.material.expose();
        // Reserved in full: a string that grows would leave pieces of the key in memory.
        let mut line = Zeroizing::new(String::with_capacity(BASE64.encode_len(bytes.len()) + 1));
        BASE64.encode_append(bytes, &mut line);
        line.push('\n');
        line
    }
}

fn id_of_generated(material: &Secret) -> u8 {
    0x80 | Sha256::digest(material.expose())[0]
}

fn decoded(line: &[u8]) -> Result<Secret, KeyDefect> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err(KeyDefect::Empty);
    }
    if line.contains(&b'\n') {
        return Err(KeyDefect::SeveralLines);
    }
    let encoding = encoding_of(line);
    let length = encoding.decode_len(line.len()).map_err(|_| KeyDefect::NotBase64)?;
    let mut bytes = Zeroizing::new(vec![0; length]);
    let length = encoding.decode_mut(line, &mut bytes).map_err(|_| KeyDefect::NotBase64)?;
    if length < MIN_LEN {
        return Err(KeyDefect::Short(length));
    }
    Ok(Secret::new(bytes[..length].to_vec()))
}

/// The alphabets differ in two characters; a line that mixes them is in neither.
fn encoding_of(line: &[u8]) -> Encoding {
    let url = line.iter().any(|byte| b"-_".contains(byte));
    match (url, line.ends_with(b"=")) {
        (false, true) => BASE64,
        (false, false) => BASE64_NOPAD,
        (true, true) => BASE64URL,
        (true, false) => BASE64URL_NOPAD,
    }
}

/// The reason a key file is invalid. It never holds any of the file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyDefect {
    /// The file is empty.
    Empty,
    /// More than one line.
    SeveralLines,
    /// Not base64 in either alphabet.
    NotBase64,
    /// This many bytes, fewer than [`MIN_LEN`].
    Short(usize),
}

impl fmt::Display for KeyDefect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the key file is empty"),
            Self::SeveralLines => f.write_str("the key file has more than one line"),
            Self::NotBase64 => f.write_str("the key is not base64"),
            Self::Short(bytes) => {
                write!(f, "the key has {bytes} bytes, at least {MIN_LEN} are needed")
            }
        }
    }
}

impl std::error::Error for KeyDefect {}

/// The derived keys of one configuration: the first seals, all open.
pub struct Keyring {
    /// Never empty, no id twice.
    keys: Vec<ReadyKey>,
}

/// The keys derived from one key.
pub(super) struct ReadyKey {
    pub(super) id: u8,
    pub(super) seal: Prekeyed,
    pub(super) mask: Prekeyed,
}

impl Keyring {
    /// Derives the keys, in the order of their use.
    ///
    /// # Errors
    /// If there is no key, or two keys have one id.
    pub fn new<'k>(keys: impl IntoIterator<Item = &'k Key>) -> Result<Self, KeyringDefect> {
        let mut ready: Vec<ReadyKey> = Vec::new();
        for key in keys {
            if ready.iter().any(|other| other.id == key.id) {
                return Err(KeyringDefect::SameId(key.id));
            }
            let seal = derived(&key.material, b"stayput 1 seal");
            let mask = derived(&key.material, b"stayput 1 mask");
            ready.push(ReadyKey { id: key.id, seal, mask });
        }
        if ready.is_empty() {
            return Err(KeyringDefect::Empty);
        }
        Ok(Self { keys: ready })
    }

    /// The key that seals.
    pub(super) fn first(&self) -> &ReadyKey {
        &self.keys[0]
    }

    /// The key of this id, and true if it is the one that seals.
    pub(super) fn find(&self, id: u8) -> Option<(&ReadyKey, bool)> {
        let place = self.keys.iter().position(|key| key.id == id)?;
        Some((&self.keys[place], place == 0))
    }
}

/// Derives a key for one use: each use has its own key, so that a tag reveals nothing of a mask.
fn derived(material: &Secret, label: &[u8]) -> Prekeyed {
    #[allow(clippy::expect_used)]
    // HMAC hashes a key that is too long and pads a short one, so it accepts any length.
    let keyed = Hmac::<Sha256>::new_from_slice(material.expose()).expect("any length will do");
    let key = Zeroizing::new(keyed.chain_update(label).finalize().into_bytes().into());
    Prekeyed::new(&key)
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring")?;
        f.debug_list().entries(self.keys.iter().map(|key| key.id)).finish()
    }
}

/// The reason these keys cannot form a keyring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyringDefect {
    /// There is no key.
    Empty,
    /// Two keys have this id, and a token holds only the id.
    SameId(u8),
}

impl fmt::Display for KeyringDefect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no affinity key"),
            Self::SameId(id) => write!(f, "two affinity keys have the id {id}"),
        }
    }
}

impl std::error::Error for KeyringDefect {}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Vec<u8>, KeyDefect> {
        let key = Key::from_base64_line(1, line.as_bytes())?;
        Ok(key.material.expose().to_vec())
    }

    #[test]
    fn a_key_is_read_in_either_alphabet_with_or_without_padding_and_line_end() {
        // 0xfb 0xef repeated needs the two characters in which the alphabets differ.
        let bytes: Vec<u8> = [0xfb, 0xef].repeat(17);
        for encoding in [BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD] {
            for end in ["", "\n", "\r\n"] {
                let line = encoding.encode(&bytes) + end;
                assert_eq!(read(&line), Ok(bytes.clone()), "{line:?}");
            }
        }
    }

    #[test]
    fn a_file_that_is_not_one_line_of_enough_base64_is_refused_with_a_reason() {
        let good = BASE64.encode(&[7; 32]);
        let cases = [
            (String::new(), KeyDefect::Empty),
            ("\n".into(), KeyDefect::Empty),
            (format!("{good}\n{good}\n"), KeyDefect::SeveralLines),
            (format!("{good}\n\n"), KeyDefect::SeveralLines),
            (format!(" {good}"), KeyDefect::NotBase64),
            (format!("{good}="), KeyDefect::NotBase64),
            ("+".repeat(30) + &"-".repeat(30), KeyDefect::NotBase64),
            (BASE64.encode(&[7; 31]), KeyDefect::Short(31)),
            ("hunter2".into(), KeyDefect::NotBase64),
        ];
        for (line, defect) in cases {
            assert_eq!(read(&line), Err(defect), "{line:?}");
        }
    }

    #[test]
    fn a_generated_key_is_read_back_with_the_same_id() {
        for byte in 0..=255 {
            let key = Key::generate([byte; 32]);
            assert!(key.id >= 128);
            let again = Key::from_generated_line(key.to_base64_line().as_bytes()).unwrap();
            assert_eq!((again.id, again.material.expose()), (key.id, key.material.expose()));
        }
    }

    #[test]
    fn a_keyring_without_keys_or_with_a_duplicate_id_is_refused() {
        let key = |id| Key { id, material: Secret::new(vec![id; 32]) };
        assert_eq!(Keyring::new(&[]).unwrap_err(), KeyringDefect::Empty);
        let twice = [key(1), key(2), key(1)];
        assert_eq!(Keyring::new(&twice).unwrap_err(), KeyringDefect::SameId(1));
    }

    #[test]
    fn a_keyring_prints_only_its_ids() {
        let key = |id| Key { id, material: Secret::new(vec![id; 32]) };
        let ring = Keyring::new(&[key(2), key(1)]).unwrap();
        assert_eq!(format!("{ring:?}"), "Keyring[2, 1]");
    }
}
