use super::*;
use crate::policy::affinity::keys::Key;
use crate::policy::affinity::token::{GroupKey, Pin, TargetKey};
use proptest::prelude::*;

const KINDS: [Kind; 3] = [Kind::Lb, Kind::App, Kind::Group];

fn keyring(keys: &[u8]) -> Arc<Keyring> {
    let keys: Vec<_> = keys.iter().map(|&key| Key::generate([key; 32])).collect();
    Arc::new(Keyring::new(&keys).unwrap())
}

fn contents(client: u64, issued_at: u32) -> Contents {
    // Distributed as random seeds are.
    let seed = Seed(client.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23));
    Contents::new(seed, Pin { group: GroupKey(2), target: TargetKey(client), issued_at })
}

/// Seals as for a new connection.
fn sealed_by(tokens: &TokenCache, keyring: &Arc<Keyring>, kind: Kind, of: &Contents) -> Sealed {
    tokens.seal(keyring, &Cell::default(), kind, of)
}

/// Opens as for a new connection.
fn opened_by(
    tokens: &TokenCache,
    keyring: &Arc<Keyring>,
    kind: Kind,
    text: &[u8],
) -> Result<Opened, Defect> {
    tokens.open(keyring, &Cell::default(), kind, text)
}

/// The number of stored tokens.
fn count(tokens: &TokenCache) -> usize {
    let table = tokens.table.borrow();
    table.sets.iter().flat_map(|set| &set.entries).flatten().count()
}

/// Returns true if a token is stored. Unlike a search, it does not change the table.
fn knows(tokens: &TokenCache, kind: Kind, text: &str) -> bool {
    let hashed = tokens.hash(text.as_bytes()).unwrap();
    let table = tokens.table.borrow();
    let entries = table.sets.get(hashed.set).map_or(&[][..], |set| &set.entries);
    entries.iter().flatten().any(|entry| entry.kind == kind && entry.text.is(text.as_bytes()))
}

#[test]
fn a_token_opens_for_its_own_kind_of_cookie_only() {
    let (keyring, tokens) = (keyring(&[1]), TokenCache::default());
    for sealed_as in KINDS {
        let text = sealed_by(&tokens, &keyring, sealed_as, &contents(1, 9));
        for brought_as in KINDS {
            let said = opened_by(&tokens, &keyring, brought_as, text.as_str().as_bytes());
            assert_eq!(said.is_ok(), sealed_as == brought_as, "{sealed_as:?} as {brought_as:?}");
            assert_eq!(said, keyring.open(brought_as, text.as_str().as_bytes()));
        }
    }
    assert_eq!(count(&tokens), KINDS.len());
}

#[test]
fn a_sealed_token_is_found_and_its_contents_give_it_again() {
    let (keyring, tokens) = (keyring(&[1]), TokenCache::default());
    let given = sealed_by(&tokens, &keyring, Kind::Lb, &contents(1, 9));
    assert!(knows(&tokens, Kind::Lb, given.as_str()));
    let again = sealed_by(&tokens, &keyring, Kind::Lb, &contents(1, 9));
    assert_eq!((again.as_str(), count(&tokens)), (given.as_str(), 1));
    let later = sealed_by(&tokens, &keyring, Kind::Lb, &contents(1, 10));
    assert_ne!(later.as_str(), given.as_str());
    assert_eq!(count(&tokens), 2);
}

#[test]
fn a_received_token_is_found_by_its_contents() {
    let (keyring, tokens) = (keyring(&[1]), TokenCache::default());
    let brought = keyring.seal(Kind::Lb, &contents(1, 9));
    opened_by(&tokens, &keyring, Kind::Lb, brought.as_str().as_bytes()).unwrap();
    let mut table = tokens.table.borrow_mut();
    let known = table.newest(Kind::Lb, &contents(1, 9)).map(|(_, entry)| entry.text.as_str());
    assert_eq!(known, Some(brought.as_str()));
    assert!(table.newest(Kind::App, &contents(1, 9)).is_none());
    assert!(table.newest(Kind::Lb, &contents(1, 10)).is_none());
}

#[test]
fn a_connection_finds_its_last_token_without_a_hash() {
    let (keyring, tokens, last) = (keyring(&[1]), TokenCache::default(), Cell::default());
    let mut brought = tokens.seal(&keyring, &last, Kind::Lb, &contents(1, 9));
    for issued_at in 10..20 {
        let at = last.get();
        let mut table = tokens.table.borrow_mut();
        assert!(table.known(at, Kind::Lb, brought.as_str().as_bytes()).is_some());
        assert!(table.known(at, Kind::App, brought.as_str().as_bytes()).is_none());
        drop(table);
        brought = tokens.seal(&keyring, &last, Kind::Lb, &contents(1, issued_at));
    }
    // Another connection's token in between changes only the slot that is checked first.
    let other = sealed_by(&tokens, &keyring, Kind::Lb, &contents(2, 9));
    for text in [&other, &brought, &other] {
        let said = tokens.open(&keyring, &last, Kind::Lb, text.as_str().as_bytes());
        assert_eq!(said, keyring.open(Kind::Lb, text.as_str().as_bytes()));
        let at = last.get();
        let mut table = tokens.table.borrow_mut();
        assert!(table.known(at, Kind::Lb, text.as_str().as_bytes()).is_some());
    }
}

#[test]
fn a_token_of_an_older_key_is_sealed_anew() {
    let (old, both, tokens) = (keyring(&[1]), keyring(&[2, 1]), TokenCache::default());
    let brought = old.seal(Kind::Lb, &contents(1, 9));
    for _ in 0..2 {
        let opened = opened_by(&tokens, &both, Kind::Lb, brought.as_str().as_bytes()).unwrap();
        assert!(!opened.first_key);
        let given = sealed_by(&tokens, &both, Kind::Lb, &opened.contents);
        assert_eq!(given.as_str(), both.seal(Kind::Lb, &opened.contents).as_str());
        assert_ne!(given.as_str(), brought.as_str());
    }
}

#[test]
fn new_keys_empty_the_table_and_old_exchanges_do_not_use_it() {
    let tokens = TokenCache::default();
    let (old, new) = (keyring(&[1]), keyring(&[2]));
    let text = sealed_by(&tokens, &old, Kind::Lb, &contents(1, 9));
    assert_eq!(count(&tokens), 1);
    assert_eq!(Arc::strong_count(&old), 1, "old keys are not held");
    let said = opened_by(&tokens, &new, Kind::Lb, text.as_str().as_bytes());
    assert!(said.is_err());
    assert_eq!(said, new.open(Kind::Lb, text.as_str().as_bytes()));
    assert_eq!(count(&tokens), 0);
    let newer = sealed_by(&tokens, &new, Kind::Lb, &contents(1, 9));
    // From an exchange that began with the old keys.
    let late = sealed_by(&tokens, &old, Kind::Lb, &contents(1, 9));
    assert_eq!(late.as_str(), text.as_str());
    assert!(knows(&tokens, Kind::Lb, newer.as_str()) && !knows(&tokens, Kind::Lb, late.as_str()));
    // Without the table's keys, the sealing keys are the newest.
    drop(new);
    let again = sealed_by(&tokens, &old, Kind::Lb, &contents(1, 9));
    assert!(knows(&tokens, Kind::Lb, again.as_str()) && !knows(&tokens, Kind::Lb, newer.as_str()));
}

#[test]
fn another_keyring_of_equal_keys_is_not_the_same() {
    let tokens = TokenCache::default();
    let text = sealed_by(&tokens, &keyring(&[1]), Kind::Lb, &contents(1, 9));
    // The first was dropped: its address must not match the second's.
    let second = keyring(&[2]);
    assert!(opened_by(&tokens, &second, Kind::Lb, text.as_str().as_bytes()).is_err());
}

#[test]
fn forged_and_malformed_texts_are_never_stored() {
    let (keyring, tokens) = (keyring(&[1]), TokenCache::default());
    let good = sealed_by(&tokens, &keyring, Kind::Lb, &contents(1, 9));
    let good = good.as_str().as_bytes();
    let mut forged: Vec<Vec<u8>> = vec![vec![], b"short".to_vec(), vec![b'A'; 56], vec![b'A'; 500]];
    for at in 0..good.len() {
        let mut text = good.to_vec();
        text[at] = if text[at] == b'A' { b'B' } else { b'A' };
        forged.push(text);
        forged.push(good[..at].to_vec());
    }
    forged.push([good, b"A"].concat());
    for text in forged {
        let said = opened_by(&tokens, &keyring, Kind::Lb, &text);
        assert!(said.is_err(), "{}", String::from_utf8_lossy(&text));
        assert_eq!(said, keyring.open(Kind::Lb, &text));
    }
    assert_eq!(count(&tokens), 1);
}

#[test]
fn the_table_is_bounded_and_keeps_a_token_in_use() {
    let (keyring, tokens) = (keyring(&[1]), TokenCache::default());
    let kept = sealed_by(&tokens, &keyring, Kind::Lb, &contents(0, 9));
    for client in 1..=3 * MAX_TOKENS as u64 {
        let text = sealed_by(&tokens, &keyring, Kind::Lb, &contents(client, 9));
        assert!(knows(&tokens, Kind::Lb, text.as_str()), "the newest is stored");
        assert!(knows(&tokens, Kind::Lb, kept.as_str()), "evicted by client {client}");
        opened_by(&tokens, &keyring, Kind::Lb, kept.as_str().as_bytes()).unwrap();
    }
    // Each set got 12 tokens on average for its 4 ways; a set with fewer than 4 may have free ones.
    let count = count(&tokens);
    assert!((MAX_TOKENS * 9 / 10..=MAX_TOKENS).contains(&count), "{count}");
}

#[test]
fn a_set_of_tokens_in_use_still_takes_a_new_one() {
    let (keyring, tokens) = (keyring(&[1]), TokenCache::default());
    for client in 0..2 * MAX_TOKENS as u64 {
        let text = sealed_by(&tokens, &keyring, Kind::Lb, &contents(client, 9));
        let said = opened_by(&tokens, &keyring, Kind::Lb, text.as_str().as_bytes());
        assert!(said.is_ok() && knows(&tokens, Kind::Lb, text.as_str()));
    }
    assert!(count(&tokens) <= MAX_TOKENS);
}

#[test]
fn a_full_table_takes_the_memory_in_its_comment() {
    assert_eq!(MAX_TOKENS, 4_096);
    assert_eq!(size_of::<Entry>(), 376);
    let indexes = SETS * size_of::<Set>() + CLIENTS * size_of::<Slot>();
    assert!(indexes <= 72 * 1_024, "{indexes}");
    assert_eq!(size_of_val(&*TokenCache::default().table.borrow().sets), 0);
}

#[test]
fn neither_texts_nor_contents_are_printed() {
    let (keyring, tokens) = (keyring(&[1]), TokenCache::default());
    sealed_by(&tokens, &keyring, Kind::Lb, &contents(1, 9));
    assert_eq!(format!("{tokens:?}"), "TokenCache");
}

/// A step of a worker: the keys change, a token is sealed, a token is received.
#[derive(Clone, Debug)]
enum Step {
    Keys(usize),
    Seal(usize, u64, u32),
    /// One of the tokens sealed so far; with a character changed if `Some`.
    Open(usize, prop::sample::Index, Option<prop::sample::Index>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0..3_usize).prop_map(Step::Keys),
        10 => (0..3_usize, 0..6_u64, 0..3_u32).prop_map(|(kind, client, at)| Step::Seal(kind, client, at)),
        20 => (0..3_usize, any::<prop::sample::Index>(), prop::option::weighted(0.2, any::<prop::sample::Index>()))
            .prop_map(|(kind, which, forged)| Step::Open(kind, which, forged)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_table_gives_the_results_of_the_keyring(steps in prop::collection::vec(step(), 1..200)) {
        let rings = [keyring(&[1]), keyring(&[2, 1]), keyring(&[3])];
        let (mut ring, tokens) = (&rings[0], TokenCache::default());
        let connections: [Cell<Slot>; 2] = Default::default();
        let mut sealed: Vec<String> = Vec::new();
        for (step, at) in steps.into_iter().zip(0..) {
            let last = &connections[at % 2];
            match step {
                Step::Keys(which) => ring = &rings[which],
                Step::Seal(kind, client, issued_at) => {
                    let (kind, contents) = (KINDS[kind], contents(client, issued_at));
                    let text = tokens.seal(ring, last, kind, &contents);
                    let expected = ring.seal(kind, &contents);
                    prop_assert_eq!(text.as_str(), expected.as_str());
                    sealed.push(expected.as_str().to_owned());
                }
                Step::Open(kind, which, forged) => {
                    if sealed.is_empty() {
                        continue;
                    }
                    let mut text = which.get(&sealed).clone().into_bytes();
                    if let Some(at) = forged {
                        let at = at.index(text.len());
                        text[at] = if text[at] == b'x' { b'y' } else { b'x' };
                    }
                    let said = tokens.open(ring, last, KINDS[kind], &text);
                    prop_assert_eq!(said, ring.open(KINDS[kind], &text));
                }
            }
            prop_assert!(count(&tokens) <= MAX_TOKENS);
        }
    }
}
