//! `least_outstanding_requests` and `least_sessions`: a new client goes to the target with the
//! smallest count for its weight. The two algorithms differ in the count.

/// A target that may be chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<T> {
    /// Its requests in flight, or its sessions.
    pub count: u32,
    /// Its configured weight; a target with weight 0 is not a candidate.
    pub weight: u16,
    /// The value to return if it is chosen.
    pub item: T,
}

/// The candidate with the smallest count for its weight; of equal ones the first, so that a caller
/// that rotates the order uses idle targets in turn. Cross-multiplication replaces the division.
pub(crate) fn least_loaded<T>(candidates: impl IntoIterator<Item = Candidate<T>>) -> Option<T> {
    let load = |a: &Candidate<T>, b: &Candidate<T>| u64::from(a.count) * u64::from(b.weight);
    let least = candidates.into_iter().min_by(|a, b| load(a, b).cmp(&load(b, a)));
    least.map(|candidate| candidate.item)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chosen(list: &[(u32, u16)]) -> Option<usize> {
        let candidate = |(item, &(count, weight))| Candidate { count, weight, item };
        least_loaded(list.iter().enumerate().map(candidate))
    }

    #[test]
    fn the_smallest_count_for_the_weight_wins_and_of_equal_ones_the_first() {
        for (list, expected) in [
            (&[][..], None),
            (&[(3, 1), (2, 1), (2, 1)], Some(1)),
            (&[(0, 1), (0, 999)], Some(0)),
            (&[(10, 4), (3, 1), (5, 2)], Some(0)),
            (&[(u32::MAX, 999), (u32::MAX, 998)], Some(0)),
            (&[(1, 10), (0, 1)], Some(1)),
        ] {
            assert_eq!(chosen(list), expected, "{list:?}");
        }
    }

    proptest! {
        #[test]
        fn no_candidate_has_a_smaller_count_for_its_weight_than_the_chosen_one(
            list in prop::collection::vec((0..1_000u32, 1..=999u16), 1..20),
        ) {
            let load = |at: usize| f64::from(list[at].0) / f64::from(list[at].1);
            let chosen = chosen(&list).unwrap();
            prop_assert!((0..list.len()).all(|at| load(chosen) <= load(at)));
        }
    }
}
