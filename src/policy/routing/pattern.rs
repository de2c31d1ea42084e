//! ALB's wildcards: `*` matches any number of characters, `?` exactly one.

use std::fmt::{self, Write};

/// A checked pattern, in lower case if letter case is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// With [`ANY`] and [`ONE`] for the wildcards, which no checked text contains.
    text: Box<str>,
    ignores_case: bool,
    /// True if `\` escapes a wildcard.
    escapes: bool,
}

/// The maximum length of a pattern (AWS, "Condition types for listener rules": 128 characters),
/// which bounds the work of one match.
pub(crate) const MAX_LEN: usize = 128;

const ANY: u8 = 0;
const ONE: u8 = 1;

impl Pattern {
    /// A host pattern: letter case is ignored. The port is never matched, so a colon is allowed
    /// only in an IPv6 address, between brackets.
    pub fn host(text: &str) -> Option<Self> {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._*?[]:".contains(&byte);
        let colon_fits = !text.contains(':') || text.starts_with('[') && text.ends_with(']');
        (text.bytes().all(fine) && colon_fits).then(|| Self::compile(text, true, false))?
    }

    /// A path pattern: letter case counts, and the query is never matched. It begins with `/` or a
    /// wildcard, because no other pattern could match.
    pub fn path(text: &str) -> Option<Self> {
        let fine = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        (text.starts_with(['/', '*', '?']) && text.bytes().all(fine))
            .then(|| Self::compile(text, false, false))?
    }

    /// A pattern of a field's value: letter case is ignored.
    pub fn field_value(text: &str) -> Option<Self> {
        text.bytes().all(is_visible).then(|| Self::compile(text, true, false))?
    }

    /// A pattern of a key or a value of the query, as sent: letter case is ignored, and `\*`, `\?`
    /// and `\\` mean the second character.
    pub fn query(text: &str) -> Option<Self> {
        let fine = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        text.bytes().all(fine).then(|| Self::compile(text, true, true))?
    }

    fn compile(text: &str, ignores_case: bool, escapes: bool) -> Option<Self> {
        if !(1..=MAX_LEN).contains(&text.len()) {
            return None;
        }
        let mut compiled = String::with_capacity(text.len());
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            compiled.push(match character {
                '*' => char::from(ANY),
                '?' => char::from(ONE),
                '\\' if escapes => characters.next().filter(|c| "*?\\".contains(*c))?,
                plain if ignores_case => plain.to_ascii_lowercase(),
                plain => plain,
            });
        }
        Some(Self { text: compiled.into(), ignores_case, escapes })
    }

    /// The text itself if it holds no wildcard, for a lookup table.
    pub fn exact(&self) -> Option<&str> {
        (!self.text.bytes().any(|byte| byte == ANY || byte == ONE)).then_some(&self.text)
    }

    /// Returns true if all of `subject` matches. The worst case is linear in the subject for each
    /// character: one backtracking point is kept, the last `*`, because an earlier one is never
    /// needed. The text after the last `*` is compared first, and the text after another `*` is
    /// searched for, so that a long subject that does not match is rarely scanned.
    pub fn matches(&self, subject: &str) -> bool {
        let (pattern, subject) = (self.text.as_bytes(), subject.as_bytes());
        if !self.ends(subject) {
            return false;
        }
        let (mut p, mut s) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while s < subject.len() {
            let here = if self.ignores_case { subject[s].to_ascii_lowercase() } else { subject[s] };
            match pattern.get(p) {
                Some(&ANY) => {
                    star = Some((p, s));
                    p += 1;
                }
                Some(&wanted) if wanted == ONE || wanted == here => {
                    p += 1;
                    s += 1;
                }
                _ => match star {
                    Some((at, from)) => {
                        let Some(next) = self.next(at + 1, &subject[from + 1..]) else {
                            return false;
                        };
                        star = Some((at, from + 1 + next));
                        p = at + 1;
                        s = from + 1 + next;
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|&rest| rest == ANY)
    }

    /// Returns true only if this matches everything that `other` matches: they are equal, or the
    /// only wildcard here is a `*` at the end, or `other` has none.
    pub fn covers(&self, other: &Self) -> bool {
        let begins = match self.text.as_bytes() {
            [start @ .., ANY] if !start.iter().any(|byte| [ANY, ONE].contains(byte)) => {
                other.text.as_bytes().starts_with(start)
            }
            _ => false,
        };
        begins || self == other || other.exact().is_some_and(|text| self.matches(text))
    }

    /// Returns true if a text exists that both match, provided that both treat letter case alike.
    pub fn meets(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.text.as_bytes(), other.text.as_bytes());
        // Results for the suffixes: one row for each character of ours, from the last; each entry
        // is true if the rest of ours meets the rest of theirs.
        let mut below: Vec<bool> = vec![false; theirs.len() + 1];
        for i in (0..=ours.len()).rev() {
            let mut row = vec![false; theirs.len() + 1];
            for j in (0..=theirs.len()).rev() {
                row[j] = match (ours.get(i), theirs.get(j)) {
                    (None, None) => true,
                    (Some(&ANY), Some(_)) => below[j] || row[j + 1],
                    (Some(&ANY), None) => below[j],
                    (_, Some(&ANY)) => row[j + 1] || i < ours.len() && below[j],
                    (Some(&one), Some(&other)) => {
                        (one == other || one == ONE || other == ONE) && below[j + 1]
                    }
                    (None, Some(_)) | (Some(_), None) => false,
                };
            }
            below = row;
        }
        below[0]
    }

    /// Returns true if the end of the subject matches the text after the last `*`.
    fn ends(&self, subject: &[u8]) -> bool {
        let pattern = self.text.as_bytes();
        let Some(star) = pattern.iter().rposition(|&byte| byte == ANY) else { return true };
        let tail = &pattern[star + 1..];
        let Some(start) = subject.len().checked_sub(tail.len()) else { return false };
        tail.iter().zip(&subject[start..]).all(|(&wanted, &byte)| {
            let byte = if self.ignores_case { byte.to_ascii_lowercase() } else { byte };
            wanted == ONE || wanted == byte
        })
    }

    /// Position in `subject` where the pattern's character at `at` comes next.
    fn next(&self, at: usize, subject: &[u8]) -> Option<usize> {
        match self.text.as_bytes().get(at) {
            None | Some(&(ANY | ONE)) => Some(0),
            Some(&wanted) if self.ignores_case => {
                memchr::memchr2(wanted, wanted.to_ascii_uppercase(), subject)
            }
            Some(&wanted) => memchr::memchr(wanted, subject),
        }
    }
}

/// Writes the pattern as in the configuration.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.text.bytes() {
            match byte {
                ANY => f.write_char('*')?,
                ONE => f.write_char('?')?,
                b'*' | b'?' | b'\\' if self.escapes => write!(f, "\\{}", char::from(byte))?,
                plain => f.write_char(char::from(plain))?,
            }
        }
        Ok(())
    }
}

/// Returns true for characters that can be matched (AWS, "Condition types for listener rules": 0x00
/// to 0x1f and 0x7f cannot).
pub(super) fn is_visible(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn covers_and_meets_agree_with_examples() {
        let path = |text| Pattern::path(text).unwrap();
        for (one, other, covers, meets) in [
            ("*", "/a", true, true),
            ("/*", "/a/*", true, true),
            ("/a/*", "/a", false, false),
            ("/a*", "/a", true, true),
            ("/a", "/a", true, true),
            ("/a", "/a*", false, true),
            ("/a?", "/ab", true, true),
            ("/?", "/??", false, false),
            ("/*.php", "/a/*", false, true),
            ("/*.php", "/a/x.html", false, false),
            ("/a*b", "/*ab", false, true),
        ] {
            assert_eq!(path(one).covers(&path(other)), covers, "{one} covers {other}");
            assert_eq!(path(one).meets(&path(other)), meets, "{one} meets {other}");
        }
    }

    fn short() -> impl Strategy<Value = String> {
        proptest::string::string_regex("/[ab*?]{0,5}").unwrap()
    }

    proptest! {
        #[test]
        fn a_pattern_that_covers_another_matches_all_that_the_other_matches(
            one in short(), other in short(), subject in "/[ab]{0,6}",
        ) {
            let (one, other) = (Pattern::path(&one).unwrap(), Pattern::path(&other).unwrap());
            if one.covers(&other) && other.matches(&subject) {
                prop_assert!(one.matches(&subject));
            }
            if one.matches(&subject) && other.matches(&subject) {
                prop_assert!(one.meets(&other) && other.meets(&one));
            }
        }

        #[test]
        fn patterns_meet_only_if_a_text_matches_both(one in short(), other in short()) {
            let (one, other) = (Pattern::path(&one).unwrap(), Pattern::path(&other).unwrap());
            // The shortest text that matches two patterns of six characters each is no longer than
            // the two together.
            let mut texts = vec!["/".to_owned()];
            let mut found = false;
            for _ in 0..10 {
                found |= texts.iter().any(|text| one.matches(text) && other.matches(text));
                if found {
                    break;
                }
                texts = texts.iter().flat_map(|text| ["a", "b"].map(|more| format!("{text}{more}"))).collect();
            }
            prop_assert_eq!(one.meets(&other), found);
        }
    }

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
    fn a_wildcard_host_needs_a_label_before_its_domain() {
        check(
            Pattern::host("*.example.com").unwrap(),
            &["test.example.com", "A.B.EXAMPLE.com"],
            &["example.com", "test.example.org", "test.example.com.evil"],
        );
    }

    #[test]
    fn a_path_below_a_folder_does_not_match_the_folder() {
        let below = Pattern::path("/img/*").unwrap();
        check(below, &["/img/", "/img/a/b.png"], &["/img", "/IMG/a", "/x/img/a"]);
    }

    #[test]
    fn a_question_mark_matches_exactly_one_character() {
        check(Pattern::path("/v?/x").unwrap(), &["/v1/x", "/v//x"], &["/v/x", "/v12/x"]);
    }

    #[test]
    fn letter_case_counts_in_a_path_and_nowhere_else() {
        check(Pattern::host("Shop.Example").unwrap(), &["shop.EXAMPLE"], &["shop.example."]);
        check(Pattern::path("/Cart").unwrap(), &["/Cart"], &["/cart", "/Cart/", "/Cart?a=b"]);
        check(Pattern::field_value("*Chrome*").unwrap(), &["Mozilla CHROME/99"], &["Chrom"]);
        check(Pattern::query("Version").unwrap(), &["vERSION"], &["versions"]);
    }

    #[test]
    fn a_backslash_escapes_a_wildcard_of_the_query() {
        check(Pattern::query(r"a\*\?").unwrap(), &["a*?", "A*?"], &["ab?", "a*b", r"a\*\?"]);
        check(Pattern::query(r"\\*").unwrap(), &[r"\", r"\x"], &["x"]);
        assert_eq!(Pattern::query(r"a\*?").unwrap().to_string(), r"a\*?");
        for dangling in [r"a\", r"\a"] {
            assert_eq!(Pattern::query(dangling), None, "{dangling}");
        }
        check(Pattern::field_value(r"a\*").unwrap(), &[r"a\", r"a\b"], &["a*"]);
    }

    #[test]
    fn a_pattern_that_could_not_match_is_refused() {
        let long = "a".repeat(MAX_LEN + 1);
        for host in ["", "shop.example:80", "[::1]:80", "a/b", "a b", "ü", &long] {
            assert_eq!(Pattern::host(host), None, "{host}");
        }
        for path in ["", "img/*", "/a#b", "/a b", "/ü", &format!("/{long}")] {
            assert_eq!(Pattern::path(path), None, "{path}");
        }
        for value in ["", "a\tb", "ü", &long] {
            assert_eq!(Pattern::field_value(value), None, "{value}");
        }
        for query in ["", "a b", "a#", "ü", &long] {
            assert_eq!(Pattern::query(query), None, "{query}");
        }
        assert!(Pattern::host("[::1]").is_some() && Pattern::host(&long[1..]).is_some());
    }

    #[test]
    fn only_a_pattern_without_wildcards_is_exact() {
        assert_eq!(Pattern::host("Shop.Example").unwrap().exact(), Some("shop.example"));
        assert_eq!(Pattern::host("*.example").unwrap().exact(), None);
        assert_eq!(Pattern::query(r"a\*").unwrap().exact(), Some("a*"));
    }

    /// The direct definition, exponential but certain.
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
        fn matches_agrees_with_the_direct_definition(pattern in "[/*][ab*?]{0,7}", subject in "/?[ab]{0,9}") {
            let compiled = Pattern::path(&pattern).unwrap();
            prop_assert_eq!(compiled.matches(&subject), slow(pattern.as_bytes(), subject.as_bytes()));
        }
    }
}
