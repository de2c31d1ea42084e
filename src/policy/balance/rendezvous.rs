//! Weighted rendezvous hashing: the same successor for the same client on every worker and node and
//! after every restart. It uses integers only, so that no machine rounds differently.
//!
//! A client has one number (draw) per target, which depends on the two alone. So a new target takes
//! clients from each of the others and moves none between them, and the clients of a removed target
//! spread over all that stay.

use std::cmp::Ordering;

use crate::policy::affinity::token::{GroupKey, Seed, TargetKey};

/// A target that may be chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a, T> {
    /// The input of its draw.
    pub key: TargetKey,
    /// Decides between equal draws: the smaller id, byte by byte.
    pub id: &'a str,
    /// Its configured weight, 0 to 999, without slow start or anomaly mitigation; 0 is never
    /// chosen.
    pub weight: u16,
    /// The value to return if it is chosen.
    pub item: T,
}

/// The first of the client's ranking among these candidates, in any order of the input. `None` if
/// no candidate has a weight above 0.
pub(crate) fn best<'a, T>(
    seed: Seed,
    group: GroupKey,
    candidates: impl IntoIterator<Item = Candidate<'a, T>>,
) -> Option<T> {
    let ranking = Ranking::new(seed, group);
    let drawn = candidates.into_iter().filter(|candidate| candidate.weight > 0);
    let drawn = drawn.map(|candidate| (ranking.draw(candidate.key), candidate));
    let first = drawn.max_by(|(a, left), (b, right)| {
        compare((*a, left.weight), (*b, right.weight)).then_with(|| right.id.cmp(left.id))
    });
    first.map(|(_, candidate)| candidate.item)
}

/// Computes the draws of one client in one group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranking(u64);

impl Ranking {
    /// Mixes the seed and the group once for all targets.
    pub(crate) fn new(seed: Seed, group: GroupKey) -> Self {
        Self(mix(mix(seed.0) ^ u64::from(group.0)))
    }

    /// The draw for this target: 64 uniform bits; a higher draw ranks earlier.
    pub(crate) fn draw(self, target: TargetKey) -> u64 {
        mix(self.0 ^ target.0)
    }
}

/// SplitMix64's step and finalizer (Steele, Lea and Flood 2014): a bijection in which each bit of
/// the input flips about half of the output. It is not cryptographic: the seed is secret from those
/// who could gain by it, and if a client chooses a value, the hash that makes it a seed is
/// cryptographic.
pub(super) fn mix(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Compares two draws under their weights. A draw u in 0..1 becomes -log(u) / weight, the time of
/// the first event of a process of that rate, and the earliest event wins: the chance of each is
/// its share of the weights. Cross-multiplication replaces the division. Most pairs need no
/// logarithm: with equal weights the higher draw wins, and a higher draw of the heavier target
/// always wins.
fn compare((a, a_weight): (u64, u16), (b, b_weight): (u64, u16)) -> Ordering {
    match (a.cmp(&b), a_weight.cmp(&b_weight)) {
        (draws, Ordering::Equal) => draws,
        (Ordering::Equal, weights) => weights,
        (draws, weights) if draws == weights => draws,
        (draws, _) => {
            let a_time = minus_log2(a) * u64::from(b_weight);
            let b_time = minus_log2(b) * u64::from(a_weight);
            b_time.cmp(&a_time).then(draws)
        }
    }
}

/// -log2((draw | 1) / 2^64) in units of 2^-40: at least 1 and at most 2^46, so that its product
/// with a weight of 999 fits in 64 bits. It never rises with the draw, because each step keeps the
/// order.
fn minus_log2(draw: u64) -> u64 {
    const FRACTION: u32 = 40;
    // Zero has no logarithm, so the lowest bit is always set.
    let draw = draw | 1;
    let mut log = u64::from(63 - draw.leading_zeros());
    // The part above the whole power of two, as a number in 1..2 with 63 fraction bits.
    let mut part = draw << draw.leading_zeros();
    for _ in 0..FRACTION {
        // Squaring doubles the logarithm; its overflow above one is the next bit.
        let square = u128::from(part) * u128::from(part);
        let above_two = square >> 127;
        log = log << 1 | above_two as u64;
        part = (square >> (63 + above_two)) as u64;
    }
    (64 << FRACTION) - log
}

#[cfg(test)]
mod tests;
