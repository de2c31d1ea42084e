//! The tokens a worker has opened and sealed, with their contents.
//!
//! Opening or sealing a token takes four blocks of SHA-256: the largest single cost of a request,
//! and each connection would pay it again if the cache belonged to a connection. Both are pure
//! functions, so the table holds what the keyring would compute again: tokens that opened, or were
//! sealed here. A text that did not open is never stored, so forged tokens evict nothing. A client
//! that makes us seal new tokens evicts those used less often than the table fills, and each of
//! them costs four blocks more when it is next received.

use crate::policy::affinity::keys::Keyring;
use crate::policy::affinity::token::{Contents, Defect, Kind, Opened, Sealed, Seed};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Weak};

/// Maximum of tokens in a worker: some seconds of a busy worker's clients. The full table takes
/// 4,096 entries of 376 bytes and 64 KiB of indexes, 1.5 MiB a worker; it grows with its tokens.
const MAX_TOKENS: usize = SETS * WAYS;
const SETS: usize = 1_024;
const WAYS: usize = 4;
/// Size of the index by client: the maximum of tokens.
const CLIENTS: usize = MAX_TOKENS;

/// The token cache of one worker.
#[derive(Default)]
pub(crate) struct TokenCache {
    /// With a random key, so that no client can choose tokens that share a set.
    hash: RandomState,
    table: RefCell<Table>,
}

/// Allocates nothing before the first token.
#[derive(Default)]
struct Table {
    /// The keyring that opened or sealed all entries. A weak reference: the old keys are freed with
    /// the last snapshot that has them, and no other keyring gets their address before that.
    keyring: Weak<Keyring>,
    /// Empty, or [`SETS`] sets, indexed by the hash of the text.
    sets: Box<[Set]>,
    /// Empty, or [`CLIENTS`] slots: the newest token of a client, indexed by its seed. Two clients
    /// may share an index, and a slot may hold another token by now: the contents decide.
    newest: Box<[Slot]>,
}

/// The ways for tokens with one set index, replaced by second chance.
#[derive(Default)]
struct Set {
    /// Allocated once, then overwritten.
    entries: [Option<Box<Entry>>; WAYS],
    /// Part of the hash of the text, which avoids reading an entry that cannot match.
    fingerprints: [u32; WAYS],
    /// True if the token was used since the hand last passed.
    used: [bool; WAYS],
    /// The way that is checked first for the next token.
    hand: u8,
}

/// The position of a token, unless it was replaced. A connection keeps that of its last token, so
/// that the next request with the same token needs no hash.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slot {
    set: u16,
    way: u8,
}

struct Entry {
    kind: Kind,
    text: Sealed,
    opened: Opened,
}

/// The hash of a text, split by use.
#[derive(Clone, Copy)]
struct Hashed {
    set: usize,
    fingerprint: u32,
}

impl Hashed {
    fn slot(self, way: usize) -> Slot {
        Slot { set: self.set as u16, way: way as u8 }
    }
}

impl TokenCache {
    /// Opens a token with these keys, which must be the newest: if they differ from the table's,
    /// the table is emptied. `last` belongs to the connection.
    ///
    /// # Errors
    /// As for the keyring.
    pub(crate) fn open(
        &self,
        keyring: &Arc<Keyring>,
        last: &Cell<Slot>,
        kind: Kind,
        text: &[u8],
    ) -> Result<Opened, Defect> {
        let table = &mut *self.table.borrow_mut();
        if !table.is_of(keyring) {
            *table = Table::of(keyring);
        }
        if let Some(known) = table.known(last.get(), kind, text) {
            return Ok(known.opened);
        }
        let hashed = self.hash(text)?;
        if let Some((slot, known)) = table.find(hashed, kind, text) {
            last.set(slot);
            return Ok(known.opened);
        }
        let opened = keyring.open(kind, text)?;
        if let Some(text) = Sealed::copied(text) {
            last.set(table.store(hashed, Entry { kind, text, opened }));
        }
        Ok(opened)
    }

    /// Seals contents. If they equal those of the token a client sent, or got within this second,
    /// the result is the same text. `last` belongs to the connection.
    pub(crate) fn seal(
        &self,
        keyring: &Arc<Keyring>,
        last: &Cell<Slot>,
        kind: Kind,
        contents: &Contents,
    ) -> Sealed {
        let table = &mut *self.table.borrow_mut();
        // An exchange that began before the keys changed seals with the old ones, which must not
        // empty the table of the new ones.
        if !table.is_of(keyring) {
            if table.keyring.strong_count() > 0 {
                return keyring.seal(kind, contents);
            }
            *table = Table::of(keyring);
        }
        if let Some((slot, known)) = table.newest(kind, contents) {
            last.set(slot);
            return known.text.clone();
        }
        let text = keyring.seal(kind, contents);
        if let Ok(hashed) = self.hash(text.as_bytes()) {
            let opened = Opened { contents: *contents, first_key: true };
            last.set(table.store(hashed, Entry { kind, text: text.clone(), opened }));
        }
        text
    }

    /// Hashes eight characters of the tag, which is a MAC: different tokens differ there.
    fn hash(&self, text: &[u8]) -> Result<Hashed, Defect> {
        let part = text.get(8..).and_then(<[u8]>::first_chunk).ok_or(Defect::Malformed)?;
        let hash = self.hash.hash_one(u64::from_ne_bytes(*part));
        Ok(Hashed { set: (hash % SETS as u64) as usize, fingerprint: (hash >> 32) as u32 })
    }
}

impl Table {
    fn of(keyring: &Arc<Keyring>) -> Self {
        Self { keyring: Arc::downgrade(keyring), ..Self::default() }
    }

    fn is_of(&self, keyring: &Arc<Keyring>) -> bool {
        self.keyring.as_ptr() == Arc::as_ptr(keyring)
    }

    /// The token in this slot, if it has this text and kind of cookie.
    fn known(&mut self, slot: Slot, kind: Kind, text: &[u8]) -> Option<&Entry> {
        let set = self.sets.get_mut(usize::from(slot.set))?;
        let way = usize::from(slot.way);
        let entry = set.entries[way].as_deref()?;
        let is_it = entry.kind == kind && entry.text.is(text);
        set.used[way] |= is_it;
        is_it.then_some(entry)
    }

    /// Finds the token of this text and kind of cookie. Its time distinguishes only texts of
    /// different hashes.
    fn find(&mut self, hashed: Hashed, kind: Kind, text: &[u8]) -> Option<(Slot, &Entry)> {
        let Set { entries, fingerprints, used, .. } = self.sets.get_mut(hashed.set)?;
        for way in 0..WAYS {
            if fingerprints[way] == hashed.fingerprint
                && let Some(entry) = entries[way].as_deref()
                && entry.kind == kind
                && entry.text.is(text)
            {
                used[way] = true;
                return Some((hashed.slot(way), entry));
            }
        }
        None
    }

    /// The newest token of the client of these contents, if it holds the same contents and the
    /// first key sealed it.
    fn newest(&mut self, kind: Kind, contents: &Contents) -> Option<(Slot, &Entry)> {
        let slot = *self.newest.get(place(kind, contents.seed()))?;
        let way = usize::from(slot.way);
        let set = &mut self.sets[usize::from(slot.set)];
        let entry = set.entries[way].as_deref()?;
        let Opened { contents: known, first_key } = &entry.opened;
        if entry.kind != kind || !first_key || known != contents {
            return None;
        }
        set.used[way] = true;
        Some((slot, entry))
    }

    /// Stores an authentic token, in place of one that was not used recently.
    fn store(&mut self, hashed: Hashed, entry: Entry) -> Slot {
        if self.sets.is_empty() {
            self.sets = std::iter::repeat_with(Set::default).take(SETS).collect();
            self.newest = vec![Slot::default(); CLIENTS].into_boxed_slice();
        }
        let newest = &mut self.newest[place(entry.kind, entry.opened.contents.seed())];
        let set = &mut self.sets[hashed.set];
        let way = set.way_for(hashed.fingerprint, &entry);
        *newest = hashed.slot(way);
        set.fingerprints[way] = hashed.fingerprint;
        match &mut set.entries[way] {
            Some(old) => **old = entry,
            empty => *empty = Some(Box::new(entry)),
        }
        *newest
    }
}

impl Set {
    /// The way for a token: its own if present (sealed again after its client's slot went to
    /// another client), else an empty one, else the first that was not used since the hand passed.
    fn way_for(&mut self, fingerprint: u32, entry: &Entry) -> usize {
        let text = entry.text.as_bytes();
        let is_own = |(way, known): (usize, &Option<Box<Entry>>)| match known {
            Some(known) => {
                self.fingerprints[way] == fingerprint
                    && known.kind == entry.kind
                    && known.text.is(text)
            }
            None => false,
        };
        let own = self.entries.iter().enumerate().position(is_own);
        if let Some(way) = own.or_else(|| self.entries.iter().position(Option::is_none)) {
            return way;
        }
        // At most one round, because it clears the flags it passes.
        loop {
            let way = usize::from(self.hand);
            self.hand = (self.hand + 1) % WAYS as u8;
            if !std::mem::take(&mut self.used[way]) {
                return way;
            }
        }
    }
}

/// The index of a client's newest token of a kind. Seeds are random and sealed, so that clients
/// cannot choose them.
fn place(kind: Kind, seed: Seed) -> usize {
    ((seed.0 ^ kind as u64) % CLIENTS as u64) as usize
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A token is a capability, and its contents are the client's secret.
        f.write_str("TokenCache")
    }
}

#[cfg(test)]
mod tests;
