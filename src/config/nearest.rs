//! "Did you mean" suggestions: the known word nearest to a mistyped one.

use strsim::osa_distance;

/// The candidate nearest to `word` by edit distance, in which two swapped neighbours count once.
/// `None` if more than a third of the word, and more than one letter, would have to change.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let lowered = word.to_lowercase().replace('-', "_");
    let near = (word.len() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| {
            (osa_distance(&lowered, &candidate.to_lowercase().replace('-', "_")), candidate)
        })
        .filter(|(distance, _)| *distance <= near)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_is_recognised_and_a_different_word_is_not() {
        let known = ["timeouts", "targets", "round_robin", "tls"];
        for (word, meant) in [
            ("tiemouts", Some("timeouts")),
            ("target", Some("targets")),
            ("round-robin", Some("round_robin")),
            ("TLS", Some("tls")),
            ("backend", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
        assert_eq!(nearest(&"t".repeat(1_000), known), None);
    }
}
