//! The tokens a client last brought and was last given, with what they hold.
//!
//! A page asks for dozens of things within a second, each with one token, and each answer gives back
//! what says the same. Opening and sealing are pure, so that what is remembered is what would be
//! computed again: eight blocks of SHA-256 a request, the largest single cost that is ours.

use crate::model::published::Picture;
use crate::model::snapshot::Snapshot;
use crate::policy::affinity::token::{Contents, Defect, Kind, Opened, Sealed};
use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// What one connection remembers: nothing before the first token.
#[derive(Debug, Default)]
pub struct TokenCache(RefCell<Option<Box<Both>>>);

/// Tokens that pin to targets, and tokens that pin to groups: a rule may write one of each.
#[derive(Debug, Default)]
struct Both {
    brought: [Option<Known>; 2],
    given: [Option<Known>; 2],
}

fn place(kind: Kind) -> usize {
    usize::from(kind == Kind::Group)
}

#[derive(Debug)]
struct Known {
    /// The picture whose keys it was opened or sealed with; held weakly, so that nobody else has its
    /// address meanwhile.
    picture: Weak<Arc<Snapshot>>,
    kind: Kind,
    text: Sealed,
    opened: Opened,
}

impl Known {
    fn holds(&self, picture: &Picture, kind: Kind) -> bool {
        self.kind == kind && self.picture.as_ptr() == Rc::as_ptr(picture)
    }
}

impl TokenCache {
    /// Opens a token.
    ///
    /// # Errors
    /// As the keyring's.
    pub fn open(&self, picture: &Picture, kind: Kind, text: &[u8]) -> Result<Opened, Defect> {
        let both = &mut *self.0.borrow_mut();
        if let Some(both) = both {
            let at = place(kind);
            let known = [&both.given[at], &both.brought[at]].into_iter().flatten();
            let mut known = known.filter(|known| known.holds(picture, kind));
            if let Some(known) = known.find(|known| known.text.is(text)) {
                return Ok(known.opened);
            }
        }
        let opened = picture.keyring.open(kind, text)?;
        if let Some(text) = Sealed::copied(text) {
            let known = Known { picture: Rc::downgrade(picture), kind, text, opened };
            both.get_or_insert_default().brought[place(kind)] = Some(known);
        }
        Ok(opened)
    }

    /// Seals what is given to the client.
    pub fn seal(&self, picture: &Picture, kind: Kind, contents: &Contents) -> Sealed {
        let given = &mut self.0.borrow_mut();
        let given = &mut given.get_or_insert_default().given[place(kind)];
        if let Some(known) = given
            && known.holds(picture, kind)
            && known.opened.contents == *contents
        {
            return known.text.clone();
        }
        let text = picture.keyring.seal(kind, contents);
        let opened = Opened { contents: *contents, first_key: true };
        let picture = Rc::downgrade(picture);
        *given = Some(Known { picture, kind, text: text.clone(), opened });
        text
    }

    /// Forgets, so that a connection at rest is small.
    pub fn forget(&self) {
        *self.0.borrow_mut() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::model::roster::Roster;
    use crate::model::snapshot::Resolutions;
    use crate::policy::affinity::keys::{Key, Keyring};
    use crate::policy::affinity::token::{GroupKey, Pin, Seed, TargetKey};

    fn picture(key: u8) -> Picture {
        let text = "[listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\ntargets = []\n";
        let config = config::parse(text, "test.toml", "/".as_ref()).unwrap().config;
        let keyring = Arc::new(Keyring::new(&[Key::generate([key; 32])]).unwrap());
        let names = Resolutions::new();
        let snapshot = Snapshot::build(&config, keyring, &names, &mut Roster::default()).unwrap();
        Rc::new(Arc::new(snapshot))
    }

    fn contents(issued_at: u32) -> Contents {
        Contents::new(Seed(1), Pin { group: GroupKey(2), target: TargetKey(3), issued_at })
    }

    #[test]
    fn what_is_remembered_is_what_the_keyring_says() {
        let (picture, other) = (picture(1), picture(2));
        let remembered = TokenCache::default();
        let foreign = other.keyring.seal(Kind::Lb, &contents(9));
        for round in 0..3 {
            for issued_at in [1, 1, 2, 1] {
                let text = remembered.seal(&picture, Kind::Lb, &contents(issued_at));
                assert_eq!(
                    text.as_str(),
                    picture.keyring.seal(Kind::Lb, &contents(issued_at)).as_str()
                );
                for text in [text.as_str(), foreign.as_str(), "nonsense"] {
                    for kind in [Kind::Lb, Kind::App, Kind::Group] {
                        let said = remembered.open(&picture, kind, text.as_bytes());
                        assert_eq!(said, picture.keyring.open(kind, text.as_bytes()), "{round}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_token_of_a_picture_that_was_replaced_is_opened_anew() {
        let remembered = TokenCache::default();
        let first = picture(1);
        let text = remembered.seal(&first, Kind::Lb, &contents(1));
        drop(first);
        let second = picture(2);
        let said = remembered.open(&second, Kind::Lb, text.as_str().as_bytes());
        assert_eq!(said, second.keyring.open(Kind::Lb, text.as_str().as_bytes()));
        assert!(said.is_err(), "the keys are other ones");
        let again = remembered.seal(&second, Kind::Lb, &contents(1));
        assert_ne!(again.as_str(), text.as_str());
    }
}
