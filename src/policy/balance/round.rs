//! A round of exact weights, shuffled anew each time: whose turn it is among the groups of a rule.
//!
//! Over a round each gets just what its weight says, and where in the round it comes is chance: a
//! client's requests come in patterns (a question and its answer, a page and its form), and an order
//! that repeats falls into step with them.

use super::rendezvous::mix;

/// One turn: how many were taken before, and what the shuffling is keyed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Goes up by one with each.
    pub number: u64,
    /// The same for all turns of one rule in one process.
    pub key: u64,
}

/// Whose turn it is; `None` when nobody has a weight. A round is as long as the sum of the weights, in
/// lowest terms: then a small share does not wait for a long one.
pub fn at(
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

/// Where a place of `0..length` is after a shuffle that this key names. Each place has one, so that
/// no table is kept and no lock is taken: a Feistel network over the next power of four, walked until
/// it is within (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002).
fn shuffled(place: u64, length: u64, key: u64) -> u64 {
    /// Four make a permutation no cheap test tells from chance (Luby and Rackoff 1988); the halves
    /// are of few bits here, so there are some more.
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
        // At most four in a row are outside on average, and the walk comes back to its begin at last.
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
    fn nobody_has_a_turn_where_nobody_has_a_weight() {
        let sequence = Sequence { number: 3, key: 7 };
        assert_eq!(at([].into_iter(), sequence), None);
        assert_eq!(at([(0, 0), (1, 0)].into_iter(), sequence), None);
        assert_eq!(at([(0, 0), (1, 999)].into_iter(), sequence), Some(1));
    }

    #[test]
    fn a_small_share_is_anywhere_in_its_round_and_knows_no_period() {
        // 1 of 10: the counts of its 10,000 places are even to five standard deviations.
        let turns = order(&[9, 1], 42, 0..100_000);
        let mut places = [0_i64; 10];
        turns
            .iter()
            .enumerate()
            .filter(|(_, target)| **target == 1)
            .for_each(|(at, _)| places[at % 10] += 1);
        assert!(places.iter().all(|count| (count - 1_000).abs() < 150), "{places:?}");
        // And of any period a client may have: every third, seventh or twentieth turn gets its tenth.
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
    fn each_order_of_a_short_round_comes_as_often() {
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
        fn a_shuffle_leaves_no_place_out(length in 1..5_000_u64, key: u64) {
            let mut places: Vec<_> = (0..length).map(|place| shuffled(place, length, key)).collect();
            places.sort_unstable();
            prop_assert!(places.into_iter().eq(0..length));
        }
    }
}
