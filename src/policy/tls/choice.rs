//! Chooses the certificate for a client: by the requested name, and by what the client supports.

use super::certificate::Certificate;
use std::cmp::Reverse;
use std::collections::HashMap;

/// Certificates by their names. Indexes refer to the list it was made of.
#[derive(Debug, Default)]
pub(crate) struct ByName {
    exact: HashMap<Box<str>, Vec<usize>>,
    /// By the text after `*.`.
    wildcard: HashMap<Box<str>, Vec<usize>>,
}

/// The chosen certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Its index.
    pub certificate: usize,
    /// True if the name matched; false for the default certificate.
    pub by_name: bool,
}

impl ByName {
    /// Builds the table. Of several certificates with one name the best comes first: by kind of
    /// key, by its length, by its end of validity (AWS, "SSL certificates for your Application Load
    /// Balancer").
    pub(crate) fn of<'c>(certificates: impl IntoIterator<Item = &'c Certificate>) -> Self {
        let certificates: Vec<&Certificate> = certificates.into_iter().collect();
        let mut best_first: Vec<usize> = (0..certificates.len()).collect();
        best_first.sort_by_key(|&at| {
            let one = certificates[at];
            Reverse((one.key, one.key_bits, one.not_after.saturating_sub(one.not_before)))
        });
        let mut table = Self::default();
        for at in best_first {
            for name in &certificates[at].names {
                let (kind, key) = match name.strip_prefix("*.") {
                    Some(rest) => (&mut table.wildcard, rest),
                    None => (&mut table.exact, &**name),
                };
                let list = kind.entry(key.into()).or_default();
                if list.last() != Some(&at) {
                    list.push(at);
                }
            }
        }
        table
    }

    /// Returns the best certificate of exactly this name that the client supports, else of a
    /// wildcard for its left-most label (RFC 9525 section 6.3), else the first of all.
    pub(crate) fn choose(&self, name: Option<&str>, understood: impl Fn(usize) -> bool) -> Choice {
        let best = |list: Option<&Vec<usize>>| list?.iter().copied().find(|at| understood(*at));
        let by_name = || {
            let name = name?.to_ascii_lowercase();
            let name = name.strip_suffix('.').unwrap_or(&name);
            let over = || name.split_once('.').and_then(|(_, rest)| best(self.wildcard.get(rest)));
            best(self.exact.get(name)).or_else(over)
        };
        match by_name() {
            Some(certificate) => Choice { certificate, by_name: true },
            None => Choice { certificate: 0, by_name: false },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::certificate::KeyKind;
    use super::*;

    fn certificate(names: &[&str], key: KeyKind, key_bits: usize, not_after: u64) -> Certificate {
        let names = names.iter().map(|name| (*name).into()).collect();
        Certificate { names, not_before: 0, not_after, fingerprint: [0; 8], key, key_bits }
    }

    fn of_names(names: &[&[&str]]) -> Vec<Certificate> {
        names.iter().map(|names| certificate(names, KeyKind::Rsa, 2_048, 9)).collect()
    }

    #[test]
    fn an_exact_name_precedes_a_wildcard_and_a_wildcard_the_default() {
        let all = of_names(&[
            &["default.example"],
            &["*.shop.example", "shop.example"],
            &["www.shop.example"],
        ]);
        let table = ByName::of(&all);
        for (name, certificate, by_name) in [
            (None, 0, false),
            (Some("default.example"), 0, true),
            (Some("elsewhere.example"), 0, false),
            (Some("shop.example"), 1, true),
            (Some("img.shop.example"), 1, true),
            (Some("www.shop.example"), 2, true),
            (Some("WWW.Shop.Example"), 2, true),
            (Some("www.shop.example."), 2, true),
            // A wildcard matches exactly one label.
            (Some("a.img.shop.example"), 0, false),
            (Some("example"), 0, false),
            (Some(""), 0, false),
        ] {
            assert_eq!(table.choose(name, |_| true), Choice { certificate, by_name }, "{name:?}");
        }
    }

    #[test]
    fn of_one_name_the_best_that_the_client_supports_is_chosen() {
        let all = [
            certificate(&["a"], KeyKind::Rsa, 2_048, 9),
            certificate(&["a"], KeyKind::Rsa, 4_096, 1),
            certificate(&["a"], KeyKind::Ecdsa, 256, 1),
            certificate(&["a"], KeyKind::Ecdsa, 256, 9),
        ];
        let table = ByName::of(&all);
        let chosen = |understood: &[usize]| {
            table.choose(Some("a"), |at| understood.contains(&at)).certificate
        };
        assert_eq!(chosen(&[0, 1, 2, 3]), 3);
        assert_eq!(chosen(&[0, 1, 2]), 2);
        assert_eq!(chosen(&[0, 1]), 1);
        assert_eq!(chosen(&[0]), 0);
        assert_eq!(table.choose(Some("a"), |_| false), Choice { certificate: 0, by_name: false });
    }
}
