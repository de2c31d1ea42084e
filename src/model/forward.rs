//! The groups of a rule, with the tables that choose one and keep clients with it.

use super::affinity::Cookie;
use super::live::RuleState;
use super::target_registry::TargetRegistry;
use crate::base::name::Name;
use crate::config::settings::{self, Failback};
use crate::policy::affinity::token::{GroupKey, TargetKey};
use std::collections::HashMap;
use std::sync::Arc;

/// The groups of a rule, and the method that chooses one.
#[derive(Clone, Debug)]
pub struct Forward {
    /// The groups, sorted by name.
    pub shares: Box<[GroupShare]>,
    /// True if a group without a usable target leaves its share to the other groups.
    pub failover: bool,
    /// Failback of clients whose own group can serve again.
    pub failback: Failback,
    /// Group stickiness; `None` if it is off.
    pub sticky: Option<GroupSticky>,
    /// Live state of the rule.
    pub state: Arc<RuleState>,
}

/// One group of a rule.
#[derive(Clone, Debug)]
pub struct GroupShare {
    /// Index of the group in the snapshot.
    pub group: usize,
    /// Key of the group in tokens of this rule.
    pub key: TargetKey,
    /// Weight of the group, 0 to 999.
    pub weight: u16,
    /// Key that ranks the group: the same in all rules that share the ranking.
    pub ranked_as: TargetKey,
}

/// Group stickiness of a rule.
#[derive(Clone, Debug)]
pub struct GroupSticky {
    /// Key of the rule in tokens.
    pub key: GroupKey,
    /// Key of the pin to the group that stands in for the client's own group.
    pub stand_in: GroupKey,
    /// Key of the ranking: the same in all rules with the same groups.
    pub ranked_as: GroupKey,
    /// The other rules with the same groups: they keep a client with the same group.
    pub kin: Box<[Kin]>,
    /// The group cookie.
    pub cookie: Arc<Cookie>,
}

/// Another rule with the same groups.
#[derive(Clone, Debug)]
pub struct Kin {
    /// Key of that rule in tokens.
    pub key: GroupKey,
    /// Key of that rule's stand-in pin.
    pub stand_in: GroupKey,
    /// Lifetime of that rule's pins, in seconds.
    pub lifetime: u32,
    /// Keys of the groups in that rule's tokens, in the order of the shares.
    pub shares: Box<[TargetKey]>,
}

impl Forward {
    pub(super) fn build(
        settings: &settings::Forward,
        rule: &Name,
        index: &HashMap<&str, usize>,
        registry: &mut TargetRegistry,
    ) -> Option<Self> {
        let share = |(group, weight): &(Name, u16)| {
            let key = TargetKey::of(rule.as_str(), group.as_str());
            let ranked_as = key;
            Some(GroupShare { group: *index.get(group.as_str())?, key, weight: *weight, ranked_as })
        };
        Some(Self {
            shares: settings.groups.iter().map(share).collect::<Option<_>>()?,
            failover: settings.failover,
            failback: settings.failback,
            sticky: settings.stickiness.as_ref().map(|sticky| GroupSticky {
                key: GroupKey::of(rule.as_str()),
                stand_in: GroupKey::of_stand_in(rule.as_str()),
                ranked_as: GroupKey::of(rule.as_str()),
                kin: Box::default(),
                cookie: Arc::new(Cookie::of_groups(sticky)),
            }),
            state: registry.rule(rule),
        })
    }

    /// Links the rules that have the same groups: each gets a list of the others, and all rank the
    /// groups as the first of them by name does.
    pub(super) fn agree(rules: &mut [(&Name, &mut Self)]) {
        let told: Vec<_> = rules
            .iter()
            .filter_map(|(name, forward)| {
                let sticky = forward.sticky.as_ref()?;
                let groups: Vec<usize> = forward.shares.iter().map(|share| share.group).collect();
                let shares = forward.shares.iter().map(|share| share.key).collect();
                let lifetime = sticky.cookie.lifetime.seconds();
                let (key, stand_in) = (sticky.key, sticky.stand_in);
                Some((groups, (*name).clone(), Kin { key, stand_in, lifetime, shares }))
            })
            .collect();
        for (_, forward) in rules {
            let Self { shares, sticky: Some(sticky), .. } = &mut **forward else { continue };
            let same = |groups: &[usize]| groups.iter().eq(shares.iter().map(|share| &share.group));
            let alike = || told.iter().filter(|(groups, ..)| same(groups));
            let Some((_, _, first)) = alike().min_by_key(|(_, name, _)| name) else { continue };
            let others = alike().filter(|(_, _, kin)| kin.key != sticky.key);
            sticky.kin = others.map(|(_, _, kin)| kin.clone()).collect();
            sticky.ranked_as = first.key;
            for (share, key) in shares.iter_mut().zip(&first.shares) {
                share.ranked_as = *key;
            }
        }
    }

    /// Index in `shares` of the group that a pin names, if the rule still has that group.
    pub fn share_of(&self, key: TargetKey) -> Option<usize> {
        self.shares.iter().position(|share| share.key == key)
    }
}
