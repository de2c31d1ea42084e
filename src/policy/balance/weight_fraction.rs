//! The fraction of a target's weight that applies to new clients now. Pins and the seed's ranking
//! do not use it: a value that changes by the minute must not change a client's target.

use std::time::Duration;

/// A fraction of a weight, in 1024ths, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WeightFraction(u16);

impl WeightFraction {
    /// The whole weight, which is the default.
    pub const WHOLE: Self = Self(Self::PARTS);

    const PARTS: u16 = 1_024;

    /// This many 1024ths; larger numbers give the whole.
    pub const fn of_parts(parts: u16) -> Self {
        Self(if parts < Self::PARTS { parts } else { Self::PARTS })
    }

    /// The elapsed fraction of a time; the whole if the time is zero.
    pub fn of_time(passed: Duration, whole: Duration) -> Self {
        let parts = passed.as_millis().saturating_mul(u128::from(Self::PARTS));
        match parts.checked_div(whole.as_millis()) {
            Some(parts) => Self::of_parts(u16::try_from(parts).unwrap_or(u16::MAX)),
            None => Self::WHOLE,
        }
    }

    /// The fraction in 1024ths.
    pub fn parts(self) -> u16 {
        self.0
    }

    /// The fraction of a weight, in 1024ths, so that a small fraction of a small weight is above 0.
    pub fn of_weight(self, weight: u16) -> u64 {
        u64::from(self.0) * u64::from(weight)
    }

    /// Adds this many 1024ths.
    pub fn plus(self, parts: u16) -> Self {
        Self::of_parts(self.0.saturating_add(parts))
    }

    /// Returns true if a target with this fraction takes the turn of this number, which goes up by
    /// one with each of its turns. Multiples of the golden ratio are uniform on 0..1 (Weyl), so the
    /// taken turns are the fraction, spread evenly, without a random number.
    pub fn takes(self, sequence: u64) -> bool {
        const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;
        sequence.wrapping_mul(GOLDEN_RATIO) >> (64 - Self::PARTS.trailing_zeros())
            < u64::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_fraction_of_time_grows_from_zero_to_the_whole_and_no_further() {
        let of = |passed, whole| {
            WeightFraction::of_time(Duration::from_secs(passed), Duration::from_secs(whole)).parts()
        };
        assert_eq!([of(0, 30), of(15, 30), of(30, 30), of(900, 30)], [0, 512, 1_024, 1_024]);
        assert_eq!(WeightFraction::of_time(Duration::ZERO, Duration::ZERO), WeightFraction::WHOLE);
        assert_eq!(
            WeightFraction::of_time(Duration::MAX, Duration::from_millis(1)),
            WeightFraction::WHOLE
        );
    }

    proptest! {
        #[test]
        fn a_fraction_takes_its_part_of_any_run_of_turns(
            parts in 0..=1_024u16, first: u64, turns in 1..2_000u64,
        ) {
            let fraction = WeightFraction::of_parts(parts);
            let is_taken = |&sequence: &u64| fraction.takes(first.wrapping_add(sequence));
            let taken = (0..turns).filter(is_taken).count();
            let wanted = turns as f64 * f64::from(parts) / 1_024.0;
            // The sequence deviates from uniformity by at most the logarithm of its length.
            let most = 2.0 + (turns as f64).ln();
            prop_assert!((taken as f64 - wanted).abs() <= most, "{taken} of {wanted}");
        }
    }
}
