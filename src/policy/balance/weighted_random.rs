//! `weighted_random`: a newcomer goes to any target, each as often as its weight says.

/// Whom a number from a whole range falls on when the range is shared out by weight, in order:
/// `draw` is even over all of `u64` for a random choice. `None` when nobody has a weight.
pub fn drawn<T>(candidates: impl Iterator<Item = (T, u64)> + Clone, draw: u64) -> Option<T> {
    let total: u64 = candidates.clone().map(|(_, weight)| weight).sum();
    // The high half of the product: below the total, and as even as 64 bits can be.
    let place = (u128::from(draw) * u128::from(total)) >> 64;
    placed(candidates, place as u64)
}

/// Who stands at this place when each has as many places as its weight, in order. Behind the last
/// place it is the last: a candidate may have gone since the places were counted, and that is no
/// reason to choose nobody.
pub fn placed<T>(candidates: impl Iterator<Item = (T, u64)>, place: u64) -> Option<T> {
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
        fn even_draws_give_each_its_share(weights in prop::collection::vec(0..=999u64, 1..20)) {
            const DRAWS: u64 = 4_096;
            let total: u64 = weights.iter().sum();
            let candidates = weights.iter().copied().enumerate();
            let mut counts = vec![0u64; weights.len()];
            for draw in 0..DRAWS {
                // The middles of as many equal parts of all there is to draw.
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
        fn a_place_behind_the_last_is_the_lasts(weights in prop::collection::vec(0..9u64, 1..9)) {
            let last = weights.iter().rposition(|&weight| weight > 0);
            prop_assert_eq!(placed(weights.iter().copied().enumerate(), u64::MAX), last);
        }

        #[test]
        fn somebody_is_drawn_wherever_anybody_has_a_weight(
            weights in prop::collection::vec(0..=999u64 * 1_024, 1..20), draw: u64,
        ) {
            let chosen = drawn(weights.iter().copied().enumerate(), draw);
            prop_assert_eq!(chosen.is_some(), weights.iter().any(|&weight| weight > 0));
            prop_assert!(chosen.is_none_or(|at| weights[at] > 0));
        }
    }
}
