//! Rounds of exact weights in a new random order each time: chooses among the groups of a rule.
//!
//! In a round each group gets exactly its weight, and its places in the round are random: a
//! client's requests have patterns (a question and its answer, a page and its form), and a
//! repeating order would align with them.

use super::rendezvous::mix;

/// One turn: the number of turns before it, and the key of the shuffle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Goes up by one with each turn.
    pub number: u64,
    /// The same for all turns of one rule in one process.
    pub key: u64,
}

/// The index of the group that has this turn; `None` if all weights are 0. A round has as many
/// turns as the sum of the weights in lowest terms, so that a group of a small weight waits as
/// short as possible.
pub(crate) fn at(
    weights: impl Iterator<Item = (usize, u16)> + Clone,
    sequence: Sequence,
) -> Option<usize> {
    let divisor = weights.clone().fold(0, |divisor, (_, weight)| gcd(divisor, u64::from(weight)));
    let share = move |weight: u16| u64::from(weight) / divisor.max(1);
    let length: u64 = weights.clone().map(|(_, weight)| share(weight)).sum();
    let (round, place) = (sequence.number.checked_div(length)?, sequence.number % length);
    let mut left = shuffled(place, length, mix(sequence.key ^ mix(round)));
    for (target, weight) in weights {
        match left.checked_sub(share(weight)) {
            None => return Some(target),
            Some(rest) => left = rest,
        }
    }
    None
}

/// Maps a place of `0..length` to its place in the permutation of this key. Computing it needs
/// neither table nor lock: a Feistel network over the next power of four, repeated until the result
/// is in range (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002).
fn shuffled(place: u64, length: u64, key: u64) -> u64 {
    /// Four steps make a permutation that no cheap test distinguishes from a random one (Luby and
    /// Rackoff 1988); the halves have few bits here, so there are more.
    const STEPS: u64 = 8;
    if length < 2 {
        return 0;
    }
    let half = (u64::BITS - (length - 1).leading_zeros()).div_ceil(2);
    let mask = (1 << half) - 1;
    let mut walked = place;
    loop {
        let (mut left, mut right) = (walked >> half, walked & mask);
        for step in 0..STEPS {
            let turned = left ^ mix(key ^ mix(step << 32 | right)) & mask;
            (left, right) = (right, turned);
        }
        walked = left << half | right;
        // Four steps on average at most, and the walk returns to its begin, which is in range.
        if walked < length {
            return walked;
        }
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn order(weights: &[u16], key: u64, turns: std::ops::Range<u64>) -> Vec<usize> {
        let shares = weights.iter().copied().enumerate();
        turns.map(|number| at(shares.clone(), Sequence { number, key }).unwrap()).collect()
    }

    #[test]
    fn no_group_has_a_turn_if_all_weights_are_0() {
        let sequence = Sequence { number: 3, key: 7 };
        assert_eq!(at([].into_iter(), sequence), None);
        assert_eq!(at([(0, 0), (1, 0)].into_iter(), sequence), None);
        assert_eq!(at([(0, 0), (1, 999)].into_iter(), sequence), Some(1));
    }

    #[test]
    fn a_small_share_has_any_place_in_its_round_and_no_period() {
        // 1 of 10: the counts of its 10,000 places are uniform to five standard deviations.
        let turns = order(&[9, 1], 42, 0..100_000);
        let mut places = [0_i64; 10];
        turns
            .iter()
            .enumerate()
            .filter(|(_, target)| **target == 1)
            .for_each(|(at, _)| places[at % 10] += 1);
        assert!(places.iter().all(|count| (count - 1_000).abs() < 150), "{places:?}");
        // For any period of a client, each third, seventh or twentieth turn gets its tenth.
        for period in [2, 3, 5, 7, 10, 20] {
            for first in 0..period {
                let met = turns.iter().skip(first).step_by(period);
                let (all, small) =
                    (met.len() as f64, met.filter(|target| **target == 1).count() as f64);
                let spread = (all * 0.1 * 0.9).sqrt();
                assert!((small - all * 0.1).abs() < 5.0 * spread, "{first} of {period}: {small}");
            }
        }
    }

    #[test]
    fn each_order_of_a_short_round_is_equally_frequent() {
        let mut seen = std::collections::BTreeMap::<Vec<usize>, u32>::new();
        for round in 0..24_000 {
            let order = order(&[1, 1, 1], 7, round * 3..round * 3 + 3);
            *seen.entry(order).or_default() += 1;
        }
        assert_eq!(seen.len(), 6, "{seen:?}");
        // 4,000 each; the standard deviation is 58.
        assert!(seen.values().all(|count| count.abs_diff(4_000) < 350), "{seen:?}");
    }

    proptest! {
        #[test]
        fn every_round_is_exact(
            weights in prop::collection::vec(0_u16..=40, 1..6), key: u64, round in 0..1_000_u64,
        ) {
            let length: u64 = weights.iter().copied().map(u64::from).sum();
            prop_assume!(length > 0);
            let turns = order(&weights, key, round * length..(round + 1) * length);
            for (target, weight) in weights.iter().enumerate() {
                let count = turns.iter().filter(|sequence| **sequence == target).count();
                prop_assert_eq!(count, usize::from(*weight));
            }
        }

        #[test]
        fn a_shuffle_reaches_every_place(length in 1..5_000_u64, key: u64) {
            let mut places: Vec<_> = (0..length).map(|place| shuffled(place, length, key)).collect();
            places.sort_unstable();
            prop_assert!(places.into_iter().eq(0..length));
        }
    }
}
