//! Index of rules by host, so that not every rule is tried: most sites with many rules have one
//! exact host per rule.

use super::pattern::Pattern;
use std::collections::HashMap;

/// Rules by host, in their order.
#[derive(Debug, Default)]
pub struct HostTable {
    /// Rules whose hosts have no wildcard, by each of their hosts in lower case.
    by_host: HashMap<Box<str>, Vec<usize>>,
    /// Rules without a host or with a wildcard, which are tried for every host.
    others: Vec<usize>,
}

/// The maximum length of a request's host (RFC 1035 section 2.3.4). A rule cannot name a longer
/// one, because a pattern has at most 128 characters.
const MAX_HOST: usize = 255;

impl HostTable {
    /// Builds the table from rules in ascending order, each with its number and its hosts.
    pub fn new<'r>(rules: impl Iterator<Item = (usize, &'r [Pattern])>) -> Self {
        let mut table = Self::default();
        for (rule, hosts) in rules {
            let exact: Option<Vec<&str>> = hosts.iter().map(Pattern::exact).collect();
            let Some(exact) = exact.filter(|exact| !exact.is_empty()) else {
                table.others.push(rule);
                continue;
            };
            for host in exact {
                let rules = table.by_host.entry(host.into()).or_default();
                if rules.last() != Some(&rule) {
                    rules.push(rule);
                }
            }
        }
        table
    }

    /// The rules that may match this host, in ascending order. The caller must still check their
    /// conditions.
    pub fn rules_for(&self, host: &str) -> impl Iterator<Item = usize> {
        let mut named = self.named(host);
        let mut others = &self.others[..];
        std::iter::from_fn(move || {
            let list = match (named.first(), others.first()) {
                (Some(one), Some(other)) if one > other => &mut others,
                (Some(_), _) => &mut named,
                (None, _) => &mut others,
            };
            let (&first, rest) = list.split_first()?;
            *list = rest;
            Some(first)
        })
    }

    fn named(&self, host: &str) -> &[usize] {
        if self.by_host.is_empty() {
            return &[];
        }
        let mut lower = [0; MAX_HOST];
        let Some(lower) = lower.get_mut(..host.len()) else { return &[] };
        lower.copy_from_slice(host.as_bytes());
        lower.make_ascii_lowercase();
        let rules = std::str::from_utf8(lower).ok().and_then(|lower| self.by_host.get(lower));
        rules.map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hosts(hosts: &[&str]) -> Vec<Pattern> {
        hosts.iter().map(|host| Pattern::host(host).unwrap()).collect()
    }

    fn table(rules: &[Vec<Pattern>]) -> HostTable {
        HostTable::new(rules.iter().map(Vec::as_slice).enumerate())
    }

    #[test]
    fn a_hosts_rules_and_those_for_every_host_come_in_rule_order() {
        let rules = [
            hosts(&["a"]),
            hosts(&[]),
            hosts(&["b", "A", "a"]),
            hosts(&["*.b"]),
            hosts(&["b", "?"]),
        ];
        let table = table(&rules);
        let found = |host: &str| table.rules_for(host).collect::<Vec<_>>();
        assert_eq!(found("A"), [0, 1, 2, 3, 4]);
        assert_eq!(found("b"), [1, 2, 3, 4]);
        assert_eq!(found("c"), [1, 3, 4]);
        assert_eq!(found(""), [1, 3, 4]);
        assert_eq!(found(&"x".repeat(300)), [1, 3, 4]);
    }

    proptest! {
        #[test]
        fn no_rule_that_could_match_is_missing(
            rules in prop::collection::vec(prop::collection::vec("[abAB*?]{1,2}", 0..3), 0..8),
            host in "[abAB]{1,2}",
        ) {
            let rules: Vec<Vec<Pattern>> = rules
                .iter()
                .map(|rule| rule.iter().filter_map(|host| Pattern::host(host)).collect())
                .collect();
            let matches = |rule: &Vec<Pattern>| {
                rule.is_empty() || rule.iter().any(|pattern| pattern.matches(&host))
            };
            let found: Vec<usize> = table(&rules).rules_for(&host).collect();
            let expected = (0..rules.len()).filter(|&at| matches(&rules[at]));
            for at in expected {
                prop_assert!(found.contains(&at), "{at} of {rules:?} for {host}");
            }
            prop_assert!(found.is_sorted());
        }
    }
}
