//! Counts the different clients of a target in a kilobyte: HyperLogLog (Flajolet, Fusy, Gandouet
//! and Meunier 2007) over the clients' seeds. A client that returns changes nothing, so that each
//! counts once.

use super::rendezvous::mix;
use crate::policy::affinity::token::Seed;

/// Registers of a sketch, one byte each. The standard error of the count is 1.04 divided by the
/// root of this: 3.3 %, and less below some thousand clients.
pub(crate) const REGISTERS: usize = 1_024;

/// The highest rank that the bits without the register's index can give.
const HIGHEST: usize = 64 - REGISTERS.trailing_zeros() as usize;

/// The trace of a client: the register, and the minimum rank of that register from then on.
pub(crate) fn trace(seed: Seed) -> (usize, u8) {
    // Mixed, because the ranking of a seed must not correlate with its register.
    let bits = mix(!seed.0);
    let register = bits as usize % REGISTERS;
    let rank = 1 + (bits | (REGISTERS as u64 - 1)).leading_zeros();
    (register, rank.min(HIGHEST as u32) as u8)
}

/// Estimates the number of clients from the registers. The estimator is Ertl's ("New cardinality
/// estimation algorithms for HyperLogLog sketches", 2017, algorithm 6): unbiased from zero to the
/// maximum.
pub(crate) fn estimate(registers: impl Iterator<Item = u8>) -> u32 {
    let mut with_rank = [0_u32; HIGHEST + 1];
    for rank in registers {
        with_rank[usize::from(rank).min(HIGHEST)] += 1;
    }
    let all = REGISTERS as f64;
    // No rank is above the highest, so the sum begins with zero.
    let beyond =
        with_rank[1..].iter().rev().fold(0.0, |sum, &count| (sum + f64::from(count)) / 2.0);
    let sum = beyond + all * unseen(f64::from(with_rank[0]) / all);
    // If all registers are empty the sum is infinite, and the quotient zero.
    (all * all / (2.0 * std::f64::consts::LN_2) / sum).round() as u32
}

/// The term of the registers without a trace: Ertl's sigma, the sum of x^(2^k) * 2^(k-1) and x. It
/// converges, because each term is the square of the one before, except for the factor 2.
fn unseen(part: f64) -> f64 {
    if part >= 1.0 {
        return f64::INFINITY;
    }
    let (mut power, mut factor, mut sum) = (part, 1.0, part);
    loop {
        power *= power;
        let next = sum + power * factor;
        if next == sum {
            return sum;
        }
        (sum, factor) = (next, factor * 2.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn estimate_of(seeds: impl Iterator<Item = u64>) -> u32 {
        let mut registers = [0; REGISTERS];
        for seed in seeds {
            let (register, rank) = trace(Seed(seed));
            registers[register] = rank.max(registers[register]);
        }
        estimate(registers.into_iter())
    }

    #[test]
    fn an_empty_sketch_estimates_zero_and_a_full_one_very_many() {
        assert_eq!(estimate([0; REGISTERS].into_iter()), 0);
        assert_eq!(estimate([u8::MAX; REGISTERS].into_iter()), u32::MAX);
        assert_eq!(estimate_of(std::iter::repeat_n(7, 1_000)), 1);
    }

    proptest! {
        #[test]
        fn a_trace_is_within_the_sketch(seed: u64) {
            let (register, rank) = trace(Seed(seed));
            prop_assert!(register < REGISTERS && (1..=HIGHEST as u8).contains(&rank));
        }

        #[test]
        fn the_estimate_is_within_five_standard_errors_of_the_true_count(
            first: u64, log_count in 0.0..5.0_f64,
        ) {
            let count = 10_f64.powf(log_count).round() as u64;
            let estimate = f64::from(estimate_of((0..count).map(|at| first.wrapping_add(at))));
            let most = 5.0 * 0.0325 * count as f64 + 1.0;
            prop_assert!((estimate - count as f64).abs() <= most, "{estimate} of {count}");
        }
    }
}
