//! The conditions of one rule, evaluated against one request.

use super::pattern::{Pattern, is_visible};
use crate::base::cidr::AddressSet;
use crate::http1::fields::Fields;
use http::HeaderName;
use std::fmt;
use std::net::IpAddr;

/// Conditions that must all hold. An empty list always holds.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// Host patterns; one must match.
    pub hosts: Vec<Pattern>,
    /// Path patterns; one must match.
    pub paths: Vec<Pattern>,
    /// Methods as sent; one must be equal.
    pub methods: Vec<Box<str>>,
    /// Ranges of client addresses; one must contain the client.
    pub source_ips: AddressSet,
    /// Pairs of the query; one must be there.
    pub query: Vec<PairCondition>,
    /// Header fields, which must all match.
    pub headers: Vec<FieldCondition>,
}

impl Conditions {
    /// Returns true only if these conditions hold of every request of which `other` hold.
    pub fn cover(&self, other: &Self) -> bool {
        let patterns = |ours: &[Pattern], theirs: &[Pattern]| match (ours, theirs) {
            ([], _) => true,
            // `other` has no pattern, so only `*` covers it: a path pattern begins with `/` or is `*`.
            (_, []) => ours.iter().any(|one| one.to_string() == "*"),
            _ => theirs.iter().all(|their| ours.iter().any(|our| our.covers(their))),
        };
        let methods = self.methods.is_empty()
            || !other.methods.is_empty()
                && other.methods.iter().all(|method| self.methods.contains(method));
        let addresses = self.source_ips.is_empty()
            || !other.source_ips.is_empty() && self.source_ips.covers(&other.source_ips);
        let any_path = |path: &Pattern| path.to_string() == "/*";
        (patterns(&self.hosts, &other.hosts))
            && (patterns(&self.paths, &other.paths) || self.paths.iter().any(any_path))
            && methods
            && addresses
            && (self.query.is_empty() || self.query == other.query)
            && self.headers.iter().all(|field| other.headers.contains(field))
    }
}

/// One entry of `query`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairCondition {
    /// Pattern of the key; `None` matches any.
    pub key: Option<Pattern>,
    /// Pattern of the value.
    pub value: Pattern,
}

/// One entry of `headers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldCondition {
    /// The field's name.
    pub name: HeaderName,
    /// Patterns of its value; one must match.
    pub values: Vec<Pattern>,
}

/// The parts of a request that conditions read.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'r> {
    /// The host without the port.
    pub host: &'r str,
    /// The path without the query.
    pub path: &'r str,
    /// The text after the first `?`, as sent; empty if there is none.
    pub query: &'r str,
    /// The method, as sent.
    pub method: &'r str,
    /// All header fields.
    pub headers: &'r Fields,
    /// The client's address, after `trusted_proxies` are applied.
    pub address: IpAddr,
}

/// The maximum number of pairs of a query that are checked, so that a query of `&` alone costs no
/// more than a long one. ALB states no such bound.
pub(crate) const MAX_PAIRS: usize = 1_000;

/// The first condition that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmet<'c> {
    /// `hosts`
    Hosts,
    /// `paths`
    Paths,
    /// `methods`
    Methods,
    /// `source_ips`
    SourceIps,
    /// `query`
    Query,
    /// `headers`, this name.
    Header(&'c HeaderName),
}

impl Conditions {
    /// Returns the first condition that does not hold, cheap ones first.
    pub fn unmet(&self, subject: &Subject<'_>) -> Option<Unmet<'_>> {
        let any = |patterns: &[Pattern], text: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(text))
        };
        if !any(&self.hosts, subject.host) {
            return Some(Unmet::Hosts);
        }
        if !any(&self.paths, subject.path) {
            return Some(Unmet::Paths);
        }
        if !self.methods.is_empty() && !self.methods.iter().any(|one| **one == *subject.method) {
            return Some(Unmet::Methods);
        }
        if !self.source_ips.is_empty() && !self.source_ips.contains(subject.address) {
            return Some(Unmet::SourceIps);
        }
        if !self.query.is_empty() && !has_pair(&self.query, subject.query) {
            return Some(Unmet::Query);
        }
        let missing = self.headers.iter().find(|field| !field.holds(subject.headers))?;
        Some(Unmet::Header(&missing.name))
    }
}

impl FieldCondition {
    /// Returns true if one line of the field matches; lines are tried in order. A line with bytes
    /// other than visible ASCII and blanks matches nothing, not even `*`.
    fn holds(&self, fields: &Fields) -> bool {
        fields.all_named(self.name.as_str()).any(|line| {
            let text =
                std::str::from_utf8(line).ok().filter(|_| line.iter().all(|&b| is_visible(b)));
            text.is_some_and(|text| self.values.iter().any(|value| value.matches(text)))
        })
    }
}

/// Returns true if a pair of the query, not decoded, matches. A part without `=` is a key with an
/// empty value.
fn has_pair(wanted: &[PairCondition], query: &str) -> bool {
    let pairs = query.split('&').take(MAX_PAIRS).filter(|pair| !pair.is_empty());
    let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.any(|(key, value)| {
        wanted.iter().any(|one| {
            one.key.as_ref().is_none_or(|wanted| wanted.matches(key)) && one.value.matches(value)
        })
    })
}

/// Writes the condition's place in the rule.
impl fmt::Display for Unmet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unmet::Hosts => f.write_str("hosts"),
            Unmet::Paths => f.write_str("paths"),
            Unmet::Methods => f.write_str("methods"),
            Unmet::SourceIps => f.write_str("source_ips"),
            Unmet::Query => f.write_str("query"),
            Unmet::Header(name) => write!(f, "headers.{name}"),
        }
    }
}

#[cfg(test)]
mod tests;
