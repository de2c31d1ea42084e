//! ALB's wildcards: `*` stands for any number of characters, `?` for exactly one.

/// A pattern that was checked and, where letters' case does not count, lowered once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    ignores_case: bool,
}

/// The longest pattern (AWS, "Condition types for listener rules": 128 characters), which bounds
/// the work of one match.
pub const LONGEST: usize = 128;

impl Pattern {
    /// A host pattern: letters' case does not count.
    pub fn host(text: &str) -> Option<Self> {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._*?[]:".contains(&byte);
        (Self::fits(text) && text.bytes().all(fine))
            .then(|| Self { text: text.to_ascii_lowercase().into(), ignores_case: true })
    }

    /// A path pattern: letters' case counts, and the query is never part of what is matched.
    /// It begins with `/` or `*`, for nothing else could match.
    pub fn path(text: &str) -> Option<Self> {
        let fine = |byte: u8| byte.is_ascii_graphic() && !b"?#".contains(&byte) || byte == b'?';
        (Self::fits(text) && text.starts_with(['/', '*', '?']) && text.bytes().all(fine))
            .then(|| Self { text: text.into(), ignores_case: false })
    }

    fn fits(text: &str) -> bool {
        (1..=LONGEST).contains(&text.len())
    }

    /// The pattern as it is compared.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text itself when it holds no wildcard, so that a table can find it.
    pub fn exact(&self) -> Option<&str> {
        (!self.text.contains(['*', '?'])).then_some(&self.text)
    }

    /// Whether all of `subject` matches. Linear in the subject for each `*` at the worst: one
    /// backtracking point is kept, the last `*`, for an earlier one can never need more.
    pub fn matches(&self, subject: &str) -> bool {
        let (pattern, subject) = (self.text.as_bytes(), subject.as_bytes());
        let (mut p, mut s) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while s < subject.len() {
            let here = if self.ignores_case { subject[s].to_ascii_lowercase() } else { subject[s] };
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, s));
                    p += 1;
                }
                Some(&wanted) if wanted == b'?' || wanted == here => {
                    p += 1;
                    s += 1;
                }
                _ => match star {
                    Some((at, from)) => {
                        star = Some((at, from + 1));
                        p = at + 1;
                        s = from + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|&rest| rest == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(pattern: Pattern, yes: &[&str], no: &[&str]) {
        for subject in yes {
            assert!(pattern.matches(subject), "{pattern:?} should match {subject:?}");
        }
        for subject in no {
            assert!(!pattern.matches(subject), "{pattern:?} should not match {subject:?}");
        }
    }

    #[test]
    fn a_wildcard_host_needs_a_label_in_front() {
        check(
            Pattern::host("*.example.com").unwrap(),
            &["test.example.com", "A.B.EXAMPLE.com"],
            &["example.com", "test.example.org", "test.example.com.evil"],
        );
    }

    #[test]
    fn a_path_below_a_folder_is_not_the_folder() {
        let below = Pattern::path("/img/*").unwrap();
        check(below, &["/img/", "/img/a/b.png"], &["/img", "/IMG/a", "/x/img/a"]);
    }

    #[test]
    fn a_question_mark_is_exactly_one_character() {
        check(Pattern::path("/v?/x").unwrap(), &["/v1/x", "/v//x"], &["/v/x", "/v12/x"]);
    }

    #[test]
    fn only_a_pattern_without_wildcards_is_exact() {
        assert_eq!(Pattern::host("Shop.Example").unwrap().exact(), Some("shop.example"));
        assert_eq!(Pattern::host("*.example").unwrap().exact(), None);
    }

    /// The obvious definition, exponential but certain.
    fn slow(pattern: &[u8], subject: &[u8]) -> bool {
        match (pattern.first(), subject.first()) {
            (None, None) => true,
            (Some(b'*'), _) => {
                slow(&pattern[1..], subject)
                    || (!subject.is_empty() && slow(pattern, &subject[1..]))
            }
            (Some(b'?'), Some(_)) => slow(&pattern[1..], &subject[1..]),
            (Some(a), Some(b)) if a == b => slow(&pattern[1..], &subject[1..]),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn a_match_agrees_with_the_definition(pattern in "[/*][ab*?]{0,7}", subject in "/?[ab]{0,9}") {
            let compiled = Pattern::path(&pattern).unwrap();
            prop_assert_eq!(compiled.matches(&subject), slow(pattern.as_bytes(), subject.as_bytes()));
        }
    }
}
