//! The same successor for the same client on every worker, node and after every restart: weighted
//! rendezvous hashing. Every target gets a score from the client's seed, and the best one serves;
//! when it goes, only its own clients move, each to its own second best.
//!
//! With h evenly spread over (0, 1), the target with the greatest `weight / -ln h` is chosen with a
//! probability in proportion to its weight (Efraimidis and Spirakis). Here all of it is integer
//! arithmetic, so that every machine ranks alike.

use crate::policy::affinity::token::{GroupKey, Seed, TargetKey};
use std::cmp::Ordering;

/// One target that may be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a, T> {
    /// What stands for it in a token.
    pub key: TargetKey,
    /// Its id, which breaks ties.
    pub id: &'a str,
    /// Its share as the file says; 0 is never chosen.
    pub weight: u16,
    /// What the caller wants back.
    pub item: T,
}

/// The candidate that ranks first for this seed.
pub fn best<'a, T>(
    seed: Seed,
    group: GroupKey,
    candidates: impl Iterator<Item = Candidate<'a, T>>,
) -> Option<T> {
    let scored = candidates
        .filter(|candidate| candidate.weight > 0)
        .map(|candidate| (Score::of(seed, group, &candidate), candidate));
    let first =
        scored.max_by(|(a, one), (b, other)| a.compare(*b).then_with(|| other.id.cmp(one.id)));
    first.map(|(_, candidate)| candidate.item)
}

/// `weight / cost`, compared without dividing.
#[derive(Clone, Copy, Debug)]
struct Score {
    weight: u16,
    /// `-log2 h` in fixed point, never 0.
    cost: u64,
}

impl Score {
    fn of<T>(seed: Seed, group: GroupKey, candidate: &Candidate<'_, T>) -> Self {
        let hash = mix(mix(seed.0 ^ u64::from(group.0)) ^ candidate.key.0);
        Self { weight: candidate.weight, cost: negative_log2(hash) }
    }

    fn compare(self, other: Self) -> Ordering {
        let left = u128::from(self.weight) * u128::from(other.cost);
        left.cmp(&(u128::from(other.weight) * u128::from(self.cost)))
    }
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood): every input bit flips each output bit with
/// a probability near one half.
fn mix(input: u64) -> u64 {
    let mut value = input.wrapping_add(0x9E37_79B9_7F4A_7C15);
    value = (value ^ value >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ value >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ value >> 31
}

/// Fraction bits of a logarithm. Enough that the best of a thousand targets, whose cost is near
/// one thousandth, is still told apart from the second.
const FRACTION_BITS: u32 = 40;

/// `-log2((hash + 1) / 2^64)` with [`FRACTION_BITS`], digit by digit: squaring a number between 1
/// and 2 shifts the next binary digit of its logarithm in front of the point.
fn negative_log2(hash: u64) -> u64 {
    let Some(value) = hash.checked_add(1) else { return 1 };
    let whole = 63 - value.leading_zeros();
    // 1 <= mantissa < 2 with 63 fraction bits.
    let mut mantissa = value << value.leading_zeros();
    let mut log = u64::from(whole);
    for _ in 0..FRACTION_BITS {
        let square = u128::from(mantissa) * u128::from(mantissa);
        let overflows = square >> 127;
        mantissa = (square >> (63 + overflows)) as u64;
        log = log << 1 | overflows as u64;
    }
    ((64u64 << FRACTION_BITS) - log).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: &str = "app";

    fn choose(seed: u64, targets: &[(&str, u16)]) -> String {
        let candidates = targets.iter().map(|&(id, weight)| Candidate {
            key: TargetKey::of(GROUP, id),
            id,
            weight,
            item: id.to_owned(),
        });
        best(Seed(seed), GroupKey::of(GROUP), candidates).unwrap()
    }

    /// Seeds as a generator would make them, the same each time.
    fn seeds(count: u64) -> impl Iterator<Item = u64> {
        (0..count).map(|seed| mix(seed ^ 0x5EED))
    }

    /// The whole ranking of five targets, of weights 1, 1, 2, 1 and 3, for a hundred seeds. Part of the
    /// contract: a release that ranks otherwise moves clients when their target dies.
    #[test]
    fn the_ranking_is_the_one_written_down() {
        let all = [("a", 1), ("b", 1), ("c", 2), ("d", 1), ("e", 3)];
        let mut lines = String::new();
        for seed in 0..100u64 {
            let mut left = all.to_vec();
            let mut order = Vec::new();
            while !left.is_empty() {
                let first = choose(seed, &left);
                left.retain(|(id, _)| *id != first);
                order.push(first);
            }
            lines.push_str(&format!("{seed} {}\n", order.join(" ")));
        }
        let written = include_str!("../../../tests/vectors/rendezvous.txt");
        assert!(lines == written, "the ranking changed; it now is\n{lines}");
    }

    #[test]
    fn a_logarithm_is_right_to_a_billionth() {
        for hash in [0u64, 1, 2, 12_345, 1 << 32, u64::MAX / 3, u64::MAX - 1_000, u64::MAX - 1] {
            let exact = 64.0 - (hash as f64 + 1.0).log2();
            let got = negative_log2(hash) as f64 / (1u64 << FRACTION_BITS) as f64;
            assert!((got - exact).abs() < 1e-9, "{hash}: {got} is not {exact}");
        }
    }

    #[test]
    fn the_order_of_the_candidates_changes_nothing() {
        let mut targets = [("a", 1), ("b", 3), ("c", 2), ("d", 1)];
        let before: Vec<_> = seeds(500).map(|seed| choose(seed, &targets)).collect();
        targets.reverse();
        let after: Vec<_> = seeds(500).map(|seed| choose(seed, &targets)).collect();
        assert_eq!(before, after);
    }

    #[test]
    fn adding_a_target_moves_clients_to_it_and_nowhere_else() {
        let few = [("a", 1), ("b", 1), ("c", 1)];
        let more = [("a", 1), ("b", 1), ("c", 1), ("d", 1)];
        for seed in seeds(2_000) {
            let (before, after) = (choose(seed, &few), choose(seed, &more));
            assert!(after == before || after == "d", "{before} became {after}");
        }
    }

    #[test]
    fn a_removed_targets_clients_spread_over_all_survivors() {
        let five = [("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1)];
        let four = [("a", 1), ("b", 1), ("d", 1), ("e", 1)];
        let mut taken = std::collections::HashMap::new();
        let mut moved = 0u32;
        for seed in seeds(10_000) {
            let (before, after) = (choose(seed, &five), choose(seed, &four));
            if before == "c" {
                moved += 1;
                *taken.entry(after).or_insert(0u32) += 1;
            } else {
                assert_eq!(before, after, "a client of another target moved");
            }
        }
        let share = f64::from(moved) / 4.0;
        assert!((1_700..2_300).contains(&moved), "{moved} clients lost their target");
        for (target, count) in taken {
            assert!(f64::from(count) <= share * 1.3, "{target} got {count} of {moved}");
        }
    }

    #[test]
    fn a_target_gets_newcomers_by_its_weight_and_none_at_zero() {
        let targets = [("a", 1), ("b", 3), ("c", 0)];
        let count = seeds(10_000).filter(|&seed| choose(seed, &targets) == "b").count();
        assert!((7_300..7_700).contains(&count), "{count} of 10000 went to the one of weight 3");
        assert!(seeds(10_000).all(|seed| choose(seed, &targets) != "c"));
    }
}
