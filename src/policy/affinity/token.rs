//! The token: the sealed text in the cookie. This file has its layout, sealing and opening;
//! [`claim`](super::claim) evaluates a token for a group at a moment.
//!
//! Version 1 is base64url without padding of `version(1) key_id(1) tag(16) sealed(8 + 16 n)`, and
//! `sealed` hides `seed(8)` and n pins of `group(4) target(8) issued_at(4)`, all big-endian. The
//! seal is a synthetic IV (as in RFC 5297, with HMAC-SHA-256 in both places): the tag is a MAC over
//! the plain text and also the nonce of the mask, so a nonce repeats only if the text does, and no
//! random number is needed.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use hmac::Hmac;
use hmac::digest::CtOutput;
use sha2::{Digest, Sha256};

use super::keys::{Keyring, ReadyKey};

/// The maximum number of pins in one token: eight sticky groups with one cookie name, in a cookie
/// far below the 4,096 bytes a browser keeps.
pub const MAX_PINS: usize = 8;

const VERSION: u8 = 1;
const TAG: usize = 16;
const HEAD: usize = 2 + TAG;
const SEED: usize = 8;
const PIN: usize = 16;
const MAX_PLAIN: usize = SEED + PIN * MAX_PINS;
const MAX_TEXT: usize = text_length(MAX_PINS);

/// The length of a token with this many pins: base64 without padding, rounded up.
const fn text_length(pins: usize) -> usize {
    ((HEAD + SEED + PIN * pins) * 4).div_ceil(3)
}

impl Keyring {
    /// Opens the text of a cookie. No byte of it is used before its tag is verified.
    ///
    /// # Errors
    /// The kind of defect, for the counters only: the client is treated the same for each.
    pub fn open(&self, kind: Kind, text: &[u8]) -> Result<Opened, Defect> {
        // The length is checked first, so that a long text is neither decoded nor hashed.
        let pins = (1..=MAX_PINS).find(|&pins| text_length(pins) == text.len());
        let pins = pins.ok_or(Defect::Malformed)?;
        let mut bytes = [0; HEAD + MAX_PLAIN];
        let bytes = &mut bytes[..HEAD + SEED + PIN * pins];
        // This encoding is strict: it refuses padding, spaces, the other alphabet and trailing
        // bits.
        BASE64URL_NOPAD.decode_mut(text, bytes).map_err(|_| Defect::Malformed)?;
        let (head, plain) = bytes.split_at_mut(HEAD);
        let Some(([version, key_id], tag)) = head.split_first_chunk() else {
            return Err(Defect::Malformed);
        };
        if *version != VERSION {
            return Err(Defect::Malformed);
        }
        let (key, first_key) = self.find(*key_id).ok_or(Defect::UnknownKey)?;
        key.mask(tag, plain);
        if !same_in_constant_time(&key.tag(kind, plain), tag) {
            return Err(Defect::Forged);
        }
        let contents = Contents::from_plain(plain).ok_or(Defect::Malformed)?;
        Ok(Opened { contents, first_key })
    }

    /// Seals with the first key. Equal contents give equal texts.
    pub fn seal(&self, kind: Kind, contents: &Contents) -> Sealed {
        let key = self.first();
        let pins = contents.pins();
        let mut bytes = [0; HEAD + MAX_PLAIN];
        let bytes = &mut bytes[..HEAD + SEED + PIN * pins.len()];
        let (head, plain) = bytes.split_at_mut(HEAD);
        contents.write_plain(plain);
        let tag = key.tag(kind, plain);
        key.mask(&tag, plain);
        head[0] = VERSION;
        head[1] = key.id;
        head[2..].copy_from_slice(&tag);
        let mut text = [0; MAX_TEXT];
        let length = text_length(pins.len());
        BASE64URL_NOPAD.encode_mut(bytes, &mut text[..length]);
        Sealed { text, length }
    }
}

impl ReadyKey {
    fn tag(&self, kind: Kind, plain: &[u8]) -> [u8; TAG] {
        let mut message = [0; 3 + MAX_PLAIN];
        let message = &mut message[..3 + plain.len()];
        message[..3].copy_from_slice(&[kind as u8, VERSION, self.id]);
        message[3..].copy_from_slice(plain);
        first_bytes(&self.seal.code(message))
    }

    /// Encrypts or decrypts `text`: XOR with the mask, which is HMAC of the tag and a one-byte
    /// counter.
    fn mask(&self, tag: &[u8], text: &mut [u8]) {
        let mut message = [0; TAG + 1];
        message[..TAG].copy_from_slice(tag);
        for block in text.chunks_mut(32) {
            for (byte, mask) in block.iter_mut().zip(self.mask.code(&message)) {
                *byte ^= mask;
            }
            message[TAG] += 1;
        }
    }
}

/// Compares tags in constant time: an early return at the first difference would let an attacker
/// find a tag byte by byte. `hmac`'s own comparison takes whole outputs; the part beyond the tag is
/// zero.
fn same_in_constant_time(ours: &[u8], theirs: &[u8]) -> bool {
    let whole = |tag: &[u8]| {
        let mut output = [0; 32];
        output[..TAG].copy_from_slice(tag);
        CtOutput::<Hmac<Sha256>>::from(hmac::digest::Output::<Hmac<Sha256>>::from(output))
    };
    whole(ours) == whole(theirs)
}

/// The cookie a token is for. It is authenticated but not sent, so that a token does not open in
/// another kind of cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// The affinity cookie: targets of groups. Byte 1 under the tag.
    Lb = 1,
    /// The companion of an app cookie. Byte 2 under the tag.
    App = 2,
    /// The group cookie: groups of weighted rules. Byte 3 under the tag.
    Group = 3,
}

/// The reason a text does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// It does not have the form of a token of this version.
    Malformed,
    /// It has the form, but was not sealed for this kind of cookie with the key it names.
    Forged,
    /// It names a key that is not in the keyring: another node's, or one that was removed.
    UnknownKey,
}

/// The contents of a token whose seal is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The seed and the pins.
    pub contents: Contents,
    /// True if the key that seals opened it; if false, the token is due to be resealed.
    pub first_key: bool,
}

/// A token, on the stack. It has no readable `Debug`, because tokens do not belong in logs.
#[derive(Clone)]
pub struct Sealed {
    text: [u8; MAX_TEXT],
    length: usize,
}

impl Sealed {
    /// Copies a text that opened; `None` if it is too long for a token.
    pub fn copied(token: &[u8]) -> Option<Self> {
        let mut text = [0; MAX_TEXT];
        text.get_mut(..token.len())?.copy_from_slice(token);
        Some(Self { text, length: token.len() })
    }

    /// Returns true if this is the token. The time does not depend on where texts of one length
    /// differ: the token may be another client's, and could be used in its place.
    pub fn is(&self, token: &[u8]) -> bool {
        let own = &self.text[..self.length];
        if own.len() != token.len() {
            return false;
        }
        let ((own, own_end), (token, token_end)) = (own.as_chunks::<8>(), token.as_chunks::<8>());
        let differ = |a: &[u8; 8], b: &[u8; 8]| u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b);
        let words = own.iter().zip(token).fold(0, |differs, (a, b)| differs | differ(a, b));
        let ends = own_end.iter().zip(token_end);
        let differs = ends.fold(words, |differs, (a, b)| differs | u64::from(a ^ b));
        // Keeps the compiler from adding an early return.
        std::hint::black_box(differs) == 0
    }

    /// The cookie's value.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }

    /// The cookie's value as text.
    pub fn as_str(&self) -> &str {
        // The encoder writes ASCII only, so the default is never used.
        std::str::from_utf8(&self.text[..self.length]).unwrap_or_default()
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} characters)", self.length)
    }
}

/// The contents of a token: a seed, and one to [`MAX_PINS`] pins, each for another group.
#[derive(Clone, Copy)]
pub struct Contents {
    seed: Seed,
    pins: [Pin; MAX_PINS],
    /// 1..=MAX_PINS.
    count: usize,
}

impl Contents {
    /// Contents with one pin.
    pub fn new(seed: Seed, pin: Pin) -> Self {
        Self { seed, pins: [pin; MAX_PINS], count: 1 }
    }

    /// The client's seed, which ranks the targets.
    pub fn seed(&self) -> Seed {
        self.seed
    }

    /// The pins, in the order in which their groups were added.
    pub fn pins(&self) -> &[Pin] {
        &self.pins[..self.count]
    }

    /// The pin for this group.
    pub fn pin(&self, group: GroupKey) -> Option<Pin> {
        self.pins().iter().copied().find(|pin| pin.group == group)
    }

    /// Puts `pin` in the place of the pin for the same group, or at the end. If there is no room,
    /// `pin` is the error, and the caller, which knows the lifetimes, chooses the pin to replace.
    pub(super) fn put(&mut self, pin: Pin) -> Result<(), Pin> {
        let same = self.pins().iter().position(|held| held.group == pin.group);
        match same {
            Some(place) => self.pins[place] = pin,
            None if self.count == MAX_PINS => return Err(pin),
            None => {
                self.pins[self.count] = pin;
                self.count += 1;
            }
        }
        Ok(())
    }

    /// Puts `pin` at the end and removes the one at `place`.
    pub(super) fn put_instead_of(&mut self, place: usize, pin: Pin) {
        self.pins.copy_within(place + 1..self.count, place);
        self.pins[self.count - 1] = pin;
    }

    /// Sets each time ahead of `now` to `now`. Returns the seconds that the furthest was ahead.
    pub fn keep_times_to(&mut self, now: u64) -> u32 {
        let now = u32::try_from(now).unwrap_or(u32::MAX);
        let mut furthest = 0;
        for pin in &mut self.pins[..self.count] {
            furthest = pin.issued_at.saturating_sub(now).max(furthest);
            pin.issued_at = pin.issued_at.min(now);
        }
        furthest
    }

    /// The contents without the pin for this group; `None` if no pin is left.
    pub fn without(&self, group: GroupKey) -> Option<Self> {
        let mut left = self.pins().iter().copied().filter(|pin| pin.group != group);
        let mut contents = Self::new(self.seed, left.next()?);
        for pin in left {
            contents.pins[contents.count] = pin;
            contents.count += 1;
        }
        Some(contents)
    }

    fn from_plain(plain: &[u8]) -> Option<Self> {
        let (seed, pins) = plain.split_first_chunk::<SEED>()?;
        let mut pins = pins.as_chunks::<PIN>().0.iter().map(Pin::from_plain);
        let mut contents = Self::new(Seed(u64::from_be_bytes(*seed)), pins.next()?);
        for pin in pins {
            *contents.pins.get_mut(contents.count)? = pin;
            contents.count += 1;
        }
        Some(contents)
    }

    fn write_plain(&self, plain: &mut [u8]) {
        let (seed, pins) = plain.split_at_mut(SEED);
        seed.copy_from_slice(&self.seed.0.to_be_bytes());
        for (place, pin) in pins.as_chunks_mut::<PIN>().0.iter_mut().zip(self.pins()) {
            pin.write_plain(place);
        }
    }
}

impl PartialEq for Contents {
    fn eq(&self, other: &Self) -> bool {
        (self.seed, self.pins()) == (other.seed, other.pins())
    }
}

impl Eq for Contents {}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Contents");
        shown.field("seed", &self.seed).field("pins", &self.pins()).finish()
    }
}

/// One client bound to one target of a group (or to one group of a rule).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The group (the rule).
    pub group: GroupKey,
    /// The target (the group).
    pub target: TargetKey,
    /// The time of its last writing, in seconds since 1970; good until 2106.
    pub issued_at: u32,
}

impl Pin {
    fn from_plain(plain: &[u8; PIN]) -> Self {
        let [g0, g1, g2, g3, target @ .., i0, i1, i2, i3] = *plain;
        Self {
            group: GroupKey(u32::from_be_bytes([g0, g1, g2, g3])),
            target: TargetKey(u64::from_be_bytes(target)),
            issued_at: u32::from_be_bytes([i0, i1, i2, i3]),
        }
    }

    fn write_plain(self, plain: &mut [u8; PIN]) {
        plain[..4].copy_from_slice(&self.group.0.to_be_bytes());
        plain[4..12].copy_from_slice(&self.target.0.to_be_bytes());
        plain[12..].copy_from_slice(&self.issued_at.to_be_bytes());
    }
}

/// The key of a group (or a rule) in a token: part of the hash of its name. The configuration check
/// refuses two names with one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey(pub u32);

impl GroupKey {
    /// The key of the group (or rule) of this name.
    pub fn of(name: &str) -> Self {
        Self(u32::from_be_bytes(first_bytes(&hash_of_names(&[name]))))
    }

    /// The key under which a rule's stand-in group is stored. No rule has it, because its name is
    /// hashed together with another.
    pub fn of_stand_in(rule: &str) -> Self {
        Self(u32::from_be_bytes(first_bytes(&hash_of_names(&[rule, "stand-in"]))))
    }
}

/// The key of a target (or a rule's group) in a token: part of the hash of its full name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetKey(pub u64);

impl TargetKey {
    /// The key of a target of a group, or of a group of a rule.
    pub fn of(group: &str, id: &str) -> Self {
        Self(u64::from_be_bytes(first_bytes(&hash_of_names(&[group, id]))))
    }
}

/// Eight bytes that determine the client's ranking of targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seed(pub u64);

impl Seed {
    /// The seed from a value that the client sends anyway, if it has no cookie of the balancer.
    pub fn of_value(value: &[u8]) -> Self {
        Self(u64::from_be_bytes(first_bytes(&Sha256::digest(value).into())))
    }
}

/// Hashes each name after its length in four bytes, so that no two lists of names hash the same
/// text.
fn hash_of_names(names: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for name in names {
        hash.update((name.len() as u32).to_be_bytes());
        hash.update(name);
    }
    hash.finalize().into()
}

fn first_bytes<const N: usize>(hash: &[u8; 32]) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&hash[..N]);
    bytes
}

#[cfg(test)]
mod tests;
