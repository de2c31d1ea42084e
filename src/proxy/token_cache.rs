//! The tokens a worker opened and sealed, with their contents.
//!
//! Opening a token takes four blocks of SHA-256, and so does sealing one: the largest single cost of
//! a request, paid anew by each connection if a connection remembered them. Both are pure, so that
//! the table holds what the keyring would compute again: a token that opened, or one sealed here.
//! A text that did not open is never stored, so that forged tokens evict nothing. A client that has
//! new tokens sealed evicts those that are asked for less often than the table fills, and each of
//! them costs four blocks more when it is next brought.

use crate::policy::affinity::keys::Keyring;
use crate::policy::affinity::token::{Contents, Defect, Kind, Opened, Sealed, Seed};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Weak};

/// The most tokens a worker holds: some seconds of a busy one's clients. Full, the table takes
/// 4,096 entries of 376 bytes and 64 KiB of indexes, 1.5 MiB a worker; it grows with its tokens.
const MAX_TOKENS: usize = SETS * WAYS;
const SETS: usize = 1_024;
const WAYS: usize = 4;
/// Places of the index by client: as many as there may be tokens.
const CLIENTS: usize = MAX_TOKENS;

/// A worker's tokens.
#[derive(Default)]
pub struct TokenCache {
    /// With a random key, so that no client can choose tokens that share a set.
    hash: RandomState,
    table: RefCell<Table>,
}

/// Nothing is allocated before the first token.
#[derive(Default)]
struct Table {
    /// The keys all of it was opened or sealed with. Held weakly: the old keys end with the last
    /// snapshot that has them, and no other keyring has their address meanwhile.
    keyring: Weak<Keyring>,
    /// Empty, or [`SETS`] sets, found by the hash of the text.
    sets: Box<[Set]>,
    /// Empty, or [`CLIENTS`] slots: the newest token of a client, found by its seed. Another client's
    /// slot may have the same place, and a slot may have got another token: the contents decide.
    newest: Box<[Slot]>,
}

/// Ways a token of one hash may be stored in, replaced by second chance.
#[derive(Default)]
struct Set {
    /// Allocated once, then overwritten.
    entries: [Option<Box<Entry>>; WAYS],
    /// Part of the hash of the text, to spare reading an entry that cannot be it.
    fingerprints: [u32; WAYS],
    /// Whether the token was asked for since the hand last passed.
    used: [bool; WAYS],
    /// The way that is looked at first for the next token.
    hand: u8,
}

/// Where a token is stored, unless it was replaced: a connection keeps that of the token it last had to
/// do with, so that the next request that brings it hashes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slot {
    set: u16,
    way: u8,
}

struct Entry {
    kind: Kind,
    text: Sealed,
    opened: Opened,
}

/// The hash of a text, cut into its uses.
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
    /// Opens a token with these keys, which are the newest: if they are other ones than before, the
    /// table is emptied. `last` is the connection's.
    ///
    /// # Errors
    /// As the keyring's.
    pub fn open(
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

    /// Seals contents. Those of the token a client brought, or was given in this second, give the same
    /// text again. `last` is the connection's.
    pub fn seal(
        &self,
        keyring: &Arc<Keyring>,
        last: &Cell<Slot>,
        kind: Kind,
        contents: &Contents,
    ) -> Sealed {
        let table = &mut *self.table.borrow_mut();
        // An exchange that began before the keys changed seals with the old ones, which must not empty
        // the table of the new ones.
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

    /// Hashes eight characters of the tag, which is a MAC: tokens that are not the same differ there.
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

    /// The token in this slot, if it has this text and is for this kind of cookie.
    fn known(&mut self, slot: Slot, kind: Kind, text: &[u8]) -> Option<&Entry> {
        let set = self.sets.get_mut(usize::from(slot.set))?;
        let way = usize::from(slot.way);
        let entry = set.entries[way].as_deref()?;
        let is_it = entry.kind == kind && entry.text.is(text);
        set.used[way] |= is_it;
        is_it.then_some(entry)
    }

    /// The token of this text, for the kind of cookie it was brought in. The time it takes tells apart
    /// no texts but those of another hash.
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

    /// The newest token of the client these contents are of, if it holds the same and the first key
    /// sealed it.
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

    /// Stores a token that is authentic, in the place of one that was not asked for lately.
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
    /// The way for a token: its own if it is there (sealed again after its client's slot went to
    /// another), else an empty one, else the first that was not asked for since the hand passed.
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
        // At most once around: it clears what it passes.
        loop {
            let way = usize::from(self.hand);
            self.hand = (self.hand + 1) % WAYS as u8;
            if !std::mem::take(&mut self.used[way]) {
                return way;
            }
        }
    }
}

/// The place of a client's newest token of a kind. Seeds are random and sealed, so that clients cannot
/// choose them.
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
