//! Sets of address ranges, for example of permitted clients and of trusted proxies.

use ipnet::IpNet;
use std::net::IpAddr;

/// A small set of ranges, tested once per connection or per X-Forwarded-For entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressSet(Vec<IpNet>);

impl AddressSet {
    /// Creates the set of these ranges.
    pub fn new(ranges: Vec<IpNet>) -> Self {
        Self(ranges)
    }

    /// Returns true if `address` is in one of the ranges. An IPv4 address in IPv6 form
    /// (`::ffff:192.0.2.1`, as a dual-stack socket reports it) counts as the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|range| range.contains(&address))
    }

    /// Returns true if each range of `other` lies in one range of this set.
    pub fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|inner| self.0.iter().any(|outer| outer.contains(inner)))
    }

    /// Returns true if the set has no range.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns true if the set holds every address of both families, so that no test is needed.
    pub fn allows_all(&self) -> bool {
        let all = |v4: bool| {
            self.0.iter().any(|range| range.prefix_len() == 0 && range.addr().is_ipv4() == v4)
        };
        all(true) && all(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[&str]) -> AddressSet {
        AddressSet::new(ranges.iter().map(|range| range.parse().unwrap()).collect())
    }

    #[test]
    fn a_mapped_ipv4_address_is_matched_as_ipv4() {
        let set = set(&["192.0.2.0/24"]);
        assert!(set.contains("::ffff:192.0.2.7".parse().unwrap()));
        assert!(!set.contains("::ffff:192.0.3.7".parse().unwrap()));
    }

    #[test]
    fn a_set_covers_every_range_inside_its_own() {
        let outer = set(&["10.0.0.0/8", "::1/128"]);
        assert!(outer.covers(&set(&["10.1.0.0/16", "10.0.0.1/32"])));
        assert!(outer.covers(&set(&[])));
        assert!(!outer.covers(&set(&["10.0.0.0/8", "192.0.2.1/32"])));
        assert!(!outer.covers(&set(&["0.0.0.0/0", "::/0"])));
        assert!(!outer.covers(&set(&["10.0.0.0/7"])));
    }

    #[test]
    fn a_set_of_all_addresses_needs_both_families() {
        assert!(set(&["0.0.0.0/0", "::/0"]).allows_all());
        assert!(!set(&["0.0.0.0/0"]).allows_all());
        assert!(!set(&[]).allows_all());
    }
}
