//! The ranking is the documented one, and it moves no more clients than necessary.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const GROUP: &str = "app";

fn candidate(id: &str, weight: u16) -> Candidate<'_, &str> {
    Candidate { key: TargetKey::of(GROUP, id), id, weight, item: id }
}

fn choice<'a>(seed: u64, targets: impl IntoIterator<Item = (&'a str, u16)>) -> Option<&'a str> {
    let candidates = targets.into_iter().map(|(id, weight)| candidate(id, weight));
    best(Seed(seed), GroupKey::of(GROUP), candidates)
}

const IDS: [&str; 8] = ["s1", "s2", "s3", "s4", "s5", "10.0.0.1:80", "[::1]:80", "pod/a"];

#[test]
fn no_target_is_chosen_if_there_is_none_or_all_have_weight_0() {
    assert_eq!(choice(1, []), None);
    assert_eq!(choice(1, [("s1", 0), ("s2", 0)]), None);
    assert_eq!(choice(1, [("s1", 0), ("s2", 1)]), Some("s2"));
}

#[test]
fn of_equal_draws_the_smaller_id_wins_in_any_order() {
    let same = |id| Candidate { key: TargetKey(3), id, weight: 1, item: id };
    for ids in [["a", "b"], ["b", "a"]] {
        assert_eq!(best(Seed(1), GroupKey(1), ids.map(same)), Some("a"));
    }
}

#[test]
fn the_clients_of_a_removed_target_spread_over_all_the_others() {
    let all = || IDS[..5].iter().map(|&id| (id, 1));
    for gone in &IDS[..5] {
        let mut heirs: HashMap<&str, usize> = HashMap::new();
        let mut lost = 0;
        for seed in 0..10_000 {
            if choice(seed, all()) == Some(gone) {
                lost += 1;
                let heir = choice(seed, all().filter(|(id, _)| id != gone)).unwrap();
                *heirs.entry(heir).or_default() += 1;
            }
        }
        assert!((1800..=2200).contains(&lost), "{gone} had {lost} of 10,000");
        assert_eq!(heirs.len(), 4);
        for (heir, clients) in heirs {
            assert!(clients as f64 <= 1.3 * lost as f64 / 4.0, "{heir}: {clients} of {lost}");
        }
    }
}

#[test]
fn each_target_is_chosen_by_its_share_of_the_weights() {
    for weights in [[1, 1, 1], [1, 2, 3], [90, 9, 1], [999, 500, 1]] {
        let mut chosen: HashMap<&str, f64> = HashMap::new();
        let targets = || IDS.into_iter().zip(weights);
        for seed in 0..20_000 {
            *chosen.entry(choice(seed, targets()).unwrap()).or_default() += 1.0;
        }
        let sum: f64 = weights.into_iter().map(f64::from).sum();
        for (id, weight) in targets() {
            let expected = 20_000.0 * f64::from(weight) / sum;
            let count = chosen.get(id).copied().unwrap_or(0.0);
            // Four standard deviations of a uniform draw.
            assert!((count - expected).abs() <= 4.0 * expected.sqrt() + 1.0, "{id}: {count}");
        }
    }
}

#[test]
fn the_logarithm_is_exact_to_its_last_digits_and_fits_with_any_weight() {
    for draw in [0, 1, 2, 3, 1 << 32, (1 << 63) - 1, 1 << 63, 3 << 62, u64::MAX - 2, u64::MAX] {
        let expected = 64.0 - ((draw | 1) as f64).log2();
        let ours = minus_log2(draw) as f64 / (1_u64 << 40) as f64;
        assert!((ours - expected).abs() < 1e-10, "{draw}: {ours} {expected}");
    }
    assert_eq!(minus_log2(0), 1 << 46);
    assert!(minus_log2(0).checked_mul(999).is_some());
    assert!(minus_log2(u64::MAX) > 0, "the best draw is no tie with every other");
}

fn targets() -> impl Strategy<Value = Vec<(&'static str, u16)>> {
    let count = 1..=IDS.len();
    (count, prop::collection::vec(prop_oneof![Just(1), 0..=999_u16], IDS.len()))
        .prop_map(|(count, weights)| IDS.into_iter().zip(weights).take(count).collect())
}

proptest! {
    #[test]
    fn the_order_of_the_candidates_does_not_matter(
        seed: u64, targets in targets(), turn in 0..8_usize, back: bool,
    ) {
        let expected = choice(seed, targets.clone());
        let mut turned = targets;
        let turn = turn % turned.len();
        turned.rotate_left(turn);
        if back {
            turned.reverse();
        }
        prop_assert_eq!(choice(seed, turned), expected);
    }

    #[test]
    fn adding_or_removing_a_target_moves_only_its_own_clients(
        seed: u64, targets in targets(), which in 0..8_usize,
    ) {
        let (id, _) = targets[which % targets.len()];
        let with = choice(seed, targets.clone());
        let without = choice(seed, targets.into_iter().filter(|(other, _)| *other != id));
        prop_assert!(with == Some(id) || with == without);
    }

    #[test]
    fn a_target_with_a_higher_weight_loses_no_client(seed: u64, targets in targets(), more in 1..500_u16) {
        let before = choice(seed, targets.clone());
        let heavier = targets.into_iter().map(|(id, weight)| {
            (id, if Some(id) == before { (weight + more).min(999) } else { weight })
        });
        prop_assert_eq!(choice(seed, heavier), before);
    }

    #[test]
    fn the_logarithm_never_rises_with_the_draw(a: u64, b: u64, near in 0..100_u64) {
        for (a, b) in [(a.min(b), a.max(b)), (a, a.saturating_add(near))] {
            prop_assert!(minus_log2(a) >= minus_log2(b), "{} {}", a, b);
        }
    }
}

#[test]
fn the_ranking_matches_the_committed_vectors() {
    let (mut draws, mut choices) = (0, 0);
    for line in include_str!("../../../../tests/vectors/rendezvous.txt").lines() {
        let words: Vec<_> = line.split(' ').collect();
        let seed = |text| Seed(u64::from_str_radix(text, 16).unwrap());
        match *words.as_slice() {
            ["draw", client, group, target, expected] => {
                let ranking = Ranking::new(seed(client), GroupKey::of(group));
                let draw = ranking.draw(TargetKey::of(group, target));
                assert_eq!(format!("{draw:016x}"), expected, "{line}");
                draws += 1;
            }
            ["rank", client, group, ref targets @ .., ranked] => {
                check_rank(seed(client), group, targets, ranked);
                choices += 1;
            }
            _ => assert!(line.is_empty() || line.starts_with('#'), "{line}"),
        }
    }
    assert!(draws >= 10 && choices >= 100, "{draws} {choices}");
}

/// Removes the best again and again, as spills and retries do.
fn check_rank(seed: Seed, group: &str, targets: &[&str], ranked: &str) {
    let mut left: Vec<(&str, u16)> = targets
        .iter()
        .map(|target| target.split_once('*').unwrap())
        .map(|(id, weight)| (id, weight.parse().unwrap()))
        .collect();
    for expected in ranked.split(',') {
        let candidates = left.iter().map(|&(id, weight)| Candidate {
            key: TargetKey::of(group, id),
            id,
            weight,
            item: id,
        });
        let first = best(seed, GroupKey::of(group), candidates);
        assert_eq!(first, Some(expected), "{group} {targets:?}");
        left.retain(|(id, _)| *id != expected);
    }
    assert!(left.iter().all(|(_, weight)| *weight == 0));
}
