//! The groups a rule names, with what chooses among them and what keeps a client with one.

use super::affinity::Cookie;
use super::live::RuleState;
use super::target_registry::TargetRegistry;
use crate::base::name::Name;
use crate::config::settings::{self, Failback};
use crate::policy::affinity::token::{GroupKey, TargetKey};
use std::collections::HashMap;
use std::sync::Arc;

/// The groups a rule names, and how one of them is chosen.
#[derive(Clone, Debug)]
pub struct Forward {
    /// The groups, sorted by name.
    pub shares: Box<[GroupShare]>,
    /// A group with no usable target hands its share to the others.
    pub failover: bool,
    /// What becomes of those it handed over.
    pub failback: Failback,
    /// What keeps a client with its group.
    pub sticky: Option<GroupSticky>,
    /// What changes about it.
    pub state: Arc<RuleState>,
}

/// One of the groups a rule names.
#[derive(Clone, Debug)]
pub struct GroupShare {
    /// The index of the group.
    pub group: usize,
    /// Its name in a token of the rule.
    pub key: TargetKey,
    /// Its share.
    pub weight: u16,
    /// What it is ranked by: the same in all rules that agree.
    pub ranked_as: TargetKey,
}

/// What keeps a client with its group.
#[derive(Clone, Debug)]
pub struct GroupSticky {
    /// The rule's name in a token.
    pub key: GroupKey,
    /// Under which a token remembers the group that stands in for the client's own.
    pub stand_in: GroupKey,
    /// What groups are ranked under: the same in all rules that agree.
    pub ranked_as: GroupKey,
    /// The other rules that name the same groups: their clients are on one side in all of them.
    pub kin: Box<[Kin]>,
    /// The cookie.
    pub cookie: Arc<Cookie>,
}

/// Another rule that names the same groups.
#[derive(Clone, Debug)]
pub struct Kin {
    /// Its name in a token.
    pub key: GroupKey,
    /// Under which its stand-in is remembered.
    pub stand_in: GroupKey,
    /// How many seconds its pins live.
    pub lifetime: u32,
    /// The groups' names in a token of it, in the order of the shares.
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

    /// Makes rules agree that name the same groups: each knows the others, and all rank the groups as
    /// the first of them by name does.
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

    /// The place among the shares of the group a pin names, if the rule still names that group.
    pub fn share_of(&self, key: TargetKey) -> Option<usize> {
        self.shares.iter().position(|share| share.key == key)
    }
}
