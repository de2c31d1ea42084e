//! `weighted_random`: a new client goes to a random target, with a chance in proportion to its
//! weight.

/// The candidate at the place of `draw`, when the range of `u64` is divided by weight, in order. A
/// uniform `draw` is a random choice. `None` if all weights are 0.
pub(crate) fn drawn<T>(candidates: impl Iterator<Item = (T, u64)> + Clone, draw: u64) -> Option<T> {
    let total: u64 = candidates.clone().map(|(_, weight)| weight).sum();
    // The high half of the product: below the total, and as uniform as 64 bits allow.
    let place = (u128::from(draw) * u128::from(total)) >> 64;
    placed(candidates, place as u64)
}

/// The candidate at this place when each has as many places as its weight, in order. A place beyond
/// the last gives the last candidate: one may have gone since the places were counted, and that is
/// no reason to choose none.
pub(crate) fn placed<T>(candidates: impl Iterator<Item = (T, u64)>, place: u64) -> Option<T> {
    let mut left = place;
    let mut last = None;
    for (item, weight) in candidates.filter(|(_, weight)| *weight > 0) {
        if left < weight {
            return Some(item);
        }
        left -= weight;
        last = Some(item);
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn uniform_draws_give_each_candidate_its_share(weights in prop::collection::vec(0..=999u64, 1..20)) {
            const DRAWS: u64 = 4_096;
            let total: u64 = weights.iter().sum();
            let candidates = weights.iter().copied().enumerate();
            let mut counts = vec![0u64; weights.len()];
            for draw in 0..DRAWS {
                // The centres of equal parts of the range.
                let draw = (draw << 52) + (1 << 51);
                match drawn(candidates.clone(), draw) {
                    Some(at) => counts[at] += 1,
                    None => prop_assert_eq!(total, 0),
                }
            }
            for (count, weight) in counts.iter().zip(&weights) {
                let wanted = *weight as f64 * DRAWS as f64 / total.max(1) as f64;
                prop_assert!((*count as f64 - wanted).abs() <= 1.0, "{count} of {wanted}");
            }
        }

        #[test]
        fn a_place_beyond_the_last_gives_the_last_candidate(weights in prop::collection::vec(0..9u64, 1..9)) {
            let last = weights.iter().rposition(|&weight| weight > 0);
            prop_assert_eq!(placed(weights.iter().copied().enumerate(), u64::MAX), last);
        }

        #[test]
        fn a_candidate_is_drawn_if_any_has_a_weight(
            weights in prop::collection::vec(0..=999u64 * 1_024, 1..20), draw: u64,
        ) {
            let chosen = drawn(weights.iter().copied().enumerate(), draw);
            prop_assert_eq!(chosen.is_some(), weights.iter().any(|&weight| weight > 0));
            prop_assert!(chosen.is_none_or(|at| weights[at] > 0));
        }
    }
}
