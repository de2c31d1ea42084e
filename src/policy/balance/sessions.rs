//! How many different clients a target has seen, in a kilobyte: HyperLogLog (Flajolet, Fusy, Gandouet
//! and Meunier 2007) over the clients' seeds. Seeing a client again changes nothing, so that however
//! often each comes, it counts once.

use super::rendezvous::mix;
use crate::policy::affinity::token::Seed;

/// Registers of a sketch, one byte each. The standard error of the count is 1.04 divided by the root
/// of this: 3.3 of a hundred, and less below some thousand clients.
pub const REGISTERS: usize = 1_024;

/// The highest rank there is room for in the bits that do not name the register.
const HIGHEST: usize = 64 - REGISTERS.trailing_zeros() as usize;

/// Where a client leaves its trace: the register, and the rank that register has at least from then
/// on.
pub fn trace(seed: Seed) -> (usize, u8) {
    // Mixed, for where a seed is ranked must say nothing about where it is counted.
    let bits = mix(!seed.0);
    let register = bits as usize % REGISTERS;
    let rank = 1 + (bits | (REGISTERS as u64 - 1)).leading_zeros();
    (register, rank.min(HIGHEST as u32) as u8)
}

/// How many clients left these registers so. The estimator is Ertl's ("New cardinality estimation
/// algorithms for HyperLogLog sketches", 2017, algorithm 6): unbiased from none to the most.
pub fn estimate(registers: impl Iterator<Item = u8>) -> u32 {
    let mut with_rank = [0_u32; HIGHEST + 1];
    for rank in registers {
        with_rank[usize::from(rank).min(HIGHEST)] += 1;
    }
    let all = REGISTERS as f64;
    // Ranks stop at the highest, so that none is beyond and the sum begins with nothing.
    let beyond =
        with_rank[1..].iter().rev().fold(0.0, |sum, &count| (sum + f64::from(count)) / 2.0);
    let sum = beyond + all * unseen(f64::from(with_rank[0]) / all);
    // Registers that saw nobody make the sum infinite, and the quotient nothing.
    (all * all / (2.0 * std::f64::consts::LN_2) / sum).round() as u32
}

/// What the registers without a trace add: Ertl's sigma, the sum of x^(2^k) * 2^(k-1) and x. It
/// converges, for each term is the square of the one before, but for the 2.
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
    fn nobody_is_none_and_a_full_sketch_is_very_many() {
        assert_eq!(estimate([0; REGISTERS].into_iter()), 0);
        assert_eq!(estimate([u8::MAX; REGISTERS].into_iter()), u32::MAX);
        assert_eq!(estimate_of(std::iter::repeat_n(7, 1_000)), 1);
    }

    proptest! {
        #[test]
        fn a_trace_is_in_the_sketch(seed: u64) {
            let (register, rank) = trace(Seed(seed));
            prop_assert!(register < REGISTERS && (1..=HIGHEST as u8).contains(&rank));
        }

        #[test]
        fn the_estimate_is_within_five_standard_errors_of_the_truth(
            first: u64, log_count in 0.0..5.0_f64,
        ) {
            let count = 10_f64.powf(log_count).round() as u64;
            let estimate = f64::from(estimate_of((0..count).map(|at| first.wrapping_add(at))));
            let most = 5.0 * 0.0325 * count as f64 + 1.0;
            prop_assert!((estimate - count as f64).abs() <= most, "{estimate} of {count}");
        }
    }
}
