//! Which tokens open, which do not, and that the format is the documented one.

use proptest::prelude::*;

use super::*;
use crate::base::random::Random;
use crate::base::secret::Secret;
use crate::policy::affinity::keys::Key;

fn key(id: u8) -> Key {
    Key { id, material: Secret::new(vec![id; 32]) }
}

fn ring(ids: &[u8]) -> Keyring {
    Keyring::new(&ids.iter().map(|&id| key(id)).collect::<Vec<_>>()).unwrap()
}

fn contents(seed: u64, pins: usize) -> Contents {
    let pin = |group| Pin { group: GroupKey(group), target: TargetKey(seed ^ 7), issued_at: 1000 };
    let mut contents = Contents::new(Seed(seed), pin(0));
    for group in 1..pins as u32 {
        contents.put(pin(group)).unwrap();
    }
    contents
}

fn any_contents() -> impl Strategy<Value = Contents> {
    let pin = (any::<u64>(), any::<u32>());
    (any::<u64>(), proptest::collection::vec(pin, 1..=MAX_PINS)).prop_map(|(seed, pins)| {
        let mut pins = pins.into_iter().zip(0..).map(|((target, issued_at), group)| Pin {
            group: GroupKey(group * 0x0101_0101),
            target: TargetKey(target),
            issued_at,
        });
        let mut contents = Contents::new(Seed(seed), pins.next().unwrap());
        pins.for_each(|pin| contents.put(pin).unwrap());
        contents
    })
}

const KINDS: [Kind; 3] = [Kind::Lb, Kind::App, Kind::Group];

proptest! {
    #[test]
    fn a_sealed_token_opens_unchanged_in_its_own_kind_of_cookie_only(
        contents in any_contents(), sealed in 0..3usize, opened in 0..3usize,
    ) {
        let ring = ring(&[1]);
        let text = ring.seal(KINDS[sealed], &contents);
        let expected = Opened { contents, first_key: true };
        let expected = if sealed == opened { Ok(expected) } else { Err(Defect::Forged) };
        prop_assert_eq!(ring.open(KINDS[opened], text.as_str().as_bytes()), expected);
    }

    #[test]
    fn random_bytes_neither_open_nor_panic(text in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(ring(&[1]).open(Kind::Lb, &text).is_err());
    }
}

#[test]
fn a_token_opens_with_any_key_of_the_ring_and_reports_the_first() {
    let (contents, old, both, new) = (contents(5, 2), ring(&[1]), ring(&[2, 1]), ring(&[2]));
    let text = old.seal(Kind::Lb, &contents);
    let open = |ring: &Keyring| ring.open(Kind::Lb, text.as_str().as_bytes());
    assert_eq!(open(&old), Ok(Opened { contents, first_key: true }));
    assert_eq!(open(&both), Ok(Opened { contents, first_key: false }));
    assert_eq!(open(&new), Err(Defect::UnknownKey));
}

#[test]
fn two_keys_with_one_id_on_two_nodes_make_a_forgery_not_a_pin() {
    let other = Keyring::new(&[Key { id: 1, material: Secret::new(vec![9; 32]) }]).unwrap();
    let text = other.seal(Kind::Lb, &contents(5, 1));
    assert_eq!(ring(&[1]).open(Kind::Lb, text.as_str().as_bytes()), Err(Defect::Forged));
}

#[test]
fn every_other_length_is_malformed() {
    let ring = ring(&[1]);
    let text = ring.seal(Kind::Lb, &contents(5, MAX_PINS));
    for length in 0..text.as_str().len() {
        let defect = ring.open(Kind::Lb, &text.as_str().as_bytes()[..length]).unwrap_err();
        let token_like = (1..MAX_PINS).any(|pins| text_length(pins) == length);
        // A cut at the length of a shorter token is refused for its last bits or its tag.
        assert!(defect == Defect::Malformed || token_like, "{length}");
    }
    for length in [MAX_TEXT + 1, 240, 241, 100_000] {
        let text = vec![b'A'; length];
        assert_eq!(ring.open(Kind::Lb, &text), Err(Defect::Malformed), "{length}");
    }
}

#[test]
fn padding_spaces_the_other_alphabet_and_trailing_bits_are_malformed() {
    let ring = ring(&[1]);
    // Two pins fill 58 bytes, so the last character carries four bits that must be zero.
    let text = ring.seal(Kind::Lb, &contents(5, 2)).as_str().to_owned();
    let last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let opening = |last: char| {
        let text = format!("{}{last}", &text[..text.len() - 1]);
        ring.open(Kind::Lb, text.as_bytes())
    };
    let (mut good, mut forged) = (0, 0);
    for last in last.chars() {
        match opening(last) {
            Ok(_) => good += 1,
            Err(Defect::Forged) => forged += 1,
            defect => assert_eq!(defect, Err(Defect::Malformed)),
        }
    }
    assert_eq!((good, forged), (1, 3), "the two bits that count, in all their forms");
    for last in ['=', ' ', '+', '/', '\n', '"', '%'] {
        assert_eq!(opening(last), Err(Defect::Malformed), "{last:?}");
    }
}

#[test]
fn a_token_of_another_version_is_malformed() {
    let ring = ring(&[1]);
    for version in (0..=255).filter(|&version| version != VERSION) {
        let mut bytes = [7; HEAD + SEED + PIN];
        bytes[..2].copy_from_slice(&[version, 99]);
        let text = BASE64URL_NOPAD.encode(&bytes);
        assert_eq!(ring.open(Kind::Lb, text.as_bytes()), Err(Defect::Malformed), "{version}");
    }
}

#[test]
fn flipping_any_single_bit_makes_a_token_unusable() {
    let ring = ring(&[1]);
    for pins in 1..=MAX_PINS {
        let text = ring.seal(Kind::Lb, &contents(5, pins));
        let bytes = BASE64URL_NOPAD.decode(text.as_str().as_bytes()).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let text = BASE64URL_NOPAD.encode(&bytes);
            let expected = match bit / 8 {
                0 => Defect::Malformed,
                1 => Defect::UnknownKey,
                _ => Defect::Forged,
            };
            assert_eq!(ring.open(Kind::Lb, text.as_bytes()), Err(expected), "{pins} {bit}");
        }
    }
}

#[test]
fn a_million_random_and_a_million_changed_tokens_do_not_open() {
    const EACH: u64 = 500_000;
    std::thread::scope(|scope| {
        for thread in 0..2 {
            scope.spawn(move || {
                let (ring, mut random) = (ring(&[1, 2]), Random::from_seed(thread));
                let good = ring.seal(Kind::Lb, &contents(random.bits(), 1));
                let good = BASE64URL_NOPAD.decode(good.as_str().as_bytes()).unwrap();
                let mut text = [0; text_length(1)];
                for _ in 0..EACH {
                    // This version and a known key: only the seal is left to chance.
                    let mut made = [VERSION; HEAD + SEED + PIN];
                    for chunk in made[2..].as_chunks_mut::<8>().0 {
                        *chunk = random.bits().to_be_bytes();
                    }
                    BASE64URL_NOPAD.encode_mut(&made, &mut text);
                    assert!(ring.open(Kind::Lb, &text).is_err(), "{made:?}");

                    made.copy_from_slice(&good);
                    let place = random.bits() as usize % made.len();
                    made[place] ^= 1 + (random.bits() % 255) as u8;
                    BASE64URL_NOPAD.encode_mut(&made, &mut text);
                    assert!(ring.open(Kind::Lb, &text).is_err(), "{made:?}");
                }
            });
        }
    });
}

#[test]
fn two_tokens_with_one_target_share_only_version_and_key() {
    let ring = ring(&[1]);
    let bytes = |seed| {
        let text = ring.seal(Kind::Lb, &contents(seed, 1));
        BASE64URL_NOPAD.decode(text.as_str().as_bytes()).unwrap()
    };
    let (one, two) = (bytes(5), bytes(6));
    let alike = one.iter().zip(&two).skip(2).filter(|(a, b)| a == b).count();
    assert!(alike <= 3, "{alike} of 40 bytes");
}

#[test]
fn neither_a_sealed_token_nor_a_defect_prints_the_text() {
    let text = ring(&[1]).seal(Kind::Lb, &contents(5, 1));
    assert_eq!(format!("{text:?}"), "Sealed(56 characters)");
}

#[test]
fn is_refuses_texts_that_differ_in_one_byte_or_in_length() {
    for pins in 1..=MAX_PINS {
        let sealed = ring(&[1]).seal(Kind::Lb, &contents(5, pins));
        let own = sealed.as_str().as_bytes().to_vec();
        assert!(sealed.is(&own));
        for at in 0..own.len() {
            for bit in 0..8 {
                let mut other = own.clone();
                other[at] ^= 1 << bit;
                assert!(!sealed.is(&other), "bit {bit} of {at} of {}", own.len());
            }
            assert!(!sealed.is(&own[..at]));
        }
        assert!(!sealed.is(&[&own[..], b"\0"].concat()), "the end of the text is not its padding");
    }
}

#[test]
fn the_longest_token_is_within_the_documented_bound() {
    let lengths: Vec<_> = (1..=MAX_PINS).map(text_length).collect();
    assert_eq!(lengths, [56, 78, 99, 120, 142, 163, 184, 206]);
}

#[test]
fn the_format_matches_the_committed_vectors() {
    let mut tokens = 0;
    for line in include_str!("../../../../tests/vectors/token.txt").lines() {
        let words: Vec<_> = line.split(' ').collect();
        match *words.as_slice() {
            ["group", name, key] => assert_eq!(format!("{:08x}", GroupKey::of(name).0), key),
            ["target", group, id, key] => {
                assert_eq!(format!("{:016x}", TargetKey::of(group, id).0), key);
            }
            ["value", value, seed] => {
                let value = if value == "-" { "" } else { value };
                assert_eq!(format!("{:016x}", Seed::of_value(value.as_bytes()).0), seed);
            }
            ["token", kind, id, key, seed, pins, text] => {
                check_token(kind, id, key, seed, pins, text);
                tokens += 1;
            }
            _ => assert!(line.is_empty() || line.starts_with('#'), "{line}"),
        }
    }
    assert_eq!(tokens, 24);
}

fn check_token(kind: &str, id: &str, key: &str, seed: &str, pins: &str, text: &str) {
    let hex = |text| u64::from_str_radix(text, 16).unwrap();
    let material = data_encoding::HEXLOWER.decode(key.as_bytes()).unwrap();
    let key = Key { id: id.parse().unwrap(), material: Secret::new(material) };
    let ring = Keyring::new(&[key]).unwrap();
    let mut pins = pins.split(',').map(|pin| {
        let parts: Vec<_> = pin.split(':').collect();
        Pin {
            group: GroupKey(hex(parts[0]) as u32),
            target: TargetKey(hex(parts[1])),
            issued_at: parts[2].parse().unwrap(),
        }
    });
    let mut contents = Contents::new(Seed(hex(seed)), pins.next().unwrap());
    pins.for_each(|pin| contents.put(pin).unwrap());
    let kind = match kind {
        "lb" => Kind::Lb,
        "app" => Kind::App,
        _ => Kind::Group,
    };
    assert_eq!(ring.seal(kind, &contents).as_str(), text);
    assert_eq!(ring.open(kind, text.as_bytes()), Ok(Opened { contents, first_key: true }));
}
