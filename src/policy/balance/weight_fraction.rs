//! How much of its weight a target has for newcomers just now. Pinned clients and the seed's ranking
//! know nothing of it: what changes with the minute must not decide where a client belongs.

use std::time::Duration;

/// A part of a weight, in 1024ths: from nothing to all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WeightFraction(u16);

impl WeightFraction {
    /// The whole weight: what a target has unless something says otherwise.
    pub const WHOLE: Self = Self(Self::PARTS);

    const PARTS: u16 = 1_024;

    /// So many 1024ths; more than all of them are all.
    pub const fn of_parts(parts: u16) -> Self {
        Self(if parts < Self::PARTS { parts } else { Self::PARTS })
    }

    /// What has passed of a time; all of it when the time is nothing.
    pub fn of_time(passed: Duration, whole: Duration) -> Self {
        let parts = passed.as_millis().saturating_mul(u128::from(Self::PARTS));
        match parts.checked_div(whole.as_millis()) {
            Some(parts) => Self::of_parts(u16::try_from(parts).unwrap_or(u16::MAX)),
            None => Self::WHOLE,
        }
    }

    /// In 1024ths.
    pub fn parts(self) -> u16 {
        self.0
    }

    /// This share of a weight, in 1024ths, so that a small share of a small weight is not nothing.
    pub fn of_weight(self, weight: u16) -> u64 {
        u64::from(self.0) * u64::from(weight)
    }

    /// So many 1024ths more.
    pub fn plus(self, parts: u16) -> Self {
        Self::of_parts(self.0.saturating_add(parts))
    }

    /// Whether a target with this share takes the turn of this number, which goes up by one with
    /// each of its turns: multiples of the golden ratio fall evenly on 0..1 (Weyl), so that the turns
    /// taken are the share, spread as evenly as they can be, and nothing is drawn.
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
    fn a_share_of_time_grows_from_nothing_to_the_whole_and_no_further() {
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
        fn a_share_takes_its_part_of_any_run_of_turns(
            parts in 0..=1_024u16, first: u64, turns in 1..2_000u64,
        ) {
            let fraction = WeightFraction::of_parts(parts);
            let is_taken = |&sequence: &u64| fraction.takes(first.wrapping_add(sequence));
            let taken = (0..turns).filter(is_taken).count();
            let wanted = turns as f64 * f64::from(parts) / 1_024.0;
            // The sequence strays from evenness by no more than the logarithm of its length.
            let most = 2.0 + (turns as f64).ln();
            prop_assert!((taken as f64 - wanted).abs() <= most, "{taken} of {wanted}");
        }
    }
}
