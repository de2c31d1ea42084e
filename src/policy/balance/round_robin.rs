//! Smooth weighted round robin, computed once when a snapshot is built: a new client costs one
//! table look-up, and the turns of a heavy target are spread out.

/// The order in which targets get new clients, by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrrSchedule(Box<[u16]>);

/// The maximum length of a cycle, which bounds a group's table to 8 KiB. Weights with a higher sum
/// are scaled down, so that a share may be off by one part in four thousand.
pub(crate) const MAX_LEN: usize = 4_096;

impl WrrSchedule {
    /// The cycle of targets with these weights. Empty if all of them are 0.
    pub fn new(weights: &[u16]) -> Self {
        let mut weights: Vec<i64> = weights.iter().map(|&weight| i64::from(weight)).collect();
        reduce(&mut weights);
        let total: i64 = weights.iter().sum();
        // The smooth cycle of nginx: in each turn every target gains its weight, the one with the
        // highest credit is chosen and pays the total. Of equal ones the earlier target is chosen.
        let mut credit = vec![0i64; weights.len()];
        let turns = (0..total).map(|_| {
            let mut richest = 0;
            for at in 0..credit.len() {
                credit[at] += weights[at];
                if credit[at] > credit[richest] {
                    richest = at;
                }
            }
            credit[richest] -= total;
            u16::try_from(richest).unwrap_or(u16::MAX)
        });
        Self(turns.collect())
    }

    /// The target of the `sequence`th new client, and a number that picks a substitute if that
    /// target cannot serve: it goes up by one each round, so that every substitute gets its turn.
    /// `None` if the cycle is empty.
    pub fn at(&self, sequence: u64) -> Option<(usize, u64)> {
        let length = self.0.len() as u64;
        let position = sequence.checked_rem(length)?;
        Some((usize::from(self.0[position as usize]), sequence / length + position))
    }
}

/// Divides by the greatest common divisor, then scales down until the sum fits; no weight above 0
/// becomes 0.
fn reduce(weights: &mut [i64]) {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    weights.iter_mut().for_each(|weight| *weight /= divisor);
    let total: i64 = weights.iter().sum();
    let longest = MAX_LEN as i64;
    if total > longest {
        let room = (longest - weights.len() as i64).max(0);
        for weight in weights.iter_mut().filter(|weight| **weight > 0) {
            *weight = 1 + (*weight - 1) * room / total;
        }
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn schedule(weights: &[u16]) -> Vec<u16> {
        WrrSchedule::new(weights).0.to_vec()
    }

    #[test]
    fn equal_targets_take_turns_in_order() {
        assert_eq!(schedule(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(schedule(&[7, 7, 7]), [0, 1, 2]);
    }

    #[test]
    fn a_heavy_target_is_spread_over_the_cycle() {
        assert_eq!(schedule(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn no_target_is_chosen_if_there_is_none_or_all_weights_are_0() {
        assert_eq!(WrrSchedule::new(&[0, 0]).at(3), None);
        assert_eq!(WrrSchedule::new(&[]).at(0), None);
    }

    proptest! {
        #[test]
        fn a_cycle_is_bounded_and_gives_each_its_share(
            weights in prop::collection::vec(0u16..=999, 1..40)
        ) {
            let schedule = schedule(&weights);
            let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
            prop_assert!(schedule.len() <= MAX_LEN);
            for (at, &weight) in weights.iter().enumerate() {
                let got = schedule.iter().filter(|&&chosen| usize::from(chosen) == at).count();
                prop_assert_eq!(got == 0, weight == 0);
                let wanted = u64::from(weight) as f64 / total.max(1) as f64 * schedule.len() as f64;
                prop_assert!((got as f64 - wanted).abs() <= wanted * 0.05 + 2.0);
            }
        }
    }
}
