//! The groups a rule names, with what chooses among them and what keeps a client with one.

use super::affinity::Cookie;
use super::live::RuleLive;
use super::roster::Roster;
use crate::config::settings;
use crate::ground::name::Name;
use crate::policy::affinity::token::{GroupKey, TargetKey};
use std::collections::HashMap;
use std::sync::Arc;

/// The groups a rule names, and how one of them is chosen.
#[derive(Clone, Debug)]
pub struct Forward {
    /// The groups, sorted by name.
    pub shares: Box<[Share]>,
    /// A group with no usable target hands its share to the others.
    pub failover: bool,
    /// What keeps a client with its group.
    pub sticky: Option<GroupSticky>,
    /// What changes about it.
    pub live: Arc<RuleLive>,
}

/// One of the groups a rule names.
#[derive(Clone, Debug)]
pub struct Share {
    /// The index of the group.
    pub group: usize,
    /// Its name in a token of the rule.
    pub key: TargetKey,
    /// Its share.
    pub weight: u16,
}

/// What keeps a client with its group.
#[derive(Clone, Debug)]
pub struct GroupSticky {
    /// The rule's name in a token.
    pub key: GroupKey,
    /// The cookie.
    pub cookie: Arc<Cookie>,
}

impl Forward {
    pub(super) fn build(
        settings: &settings::Forward,
        rule: &Name,
        index: &HashMap<&str, usize>,
        roster: &mut Roster,
    ) -> Option<Self> {
        let share = |(group, weight): &(Name, u16)| {
            let key = TargetKey::of(rule.as_str(), group.as_str());
            Some(Share { group: *index.get(group.as_str())?, key, weight: *weight })
        };
        Some(Self {
            shares: settings.groups.iter().map(share).collect::<Option<_>>()?,
            failover: settings.failover,
            sticky: settings.stickiness.as_ref().map(|sticky| GroupSticky {
                key: GroupKey::of(rule.as_str()),
                cookie: Arc::new(Cookie::of_groups(sticky)),
            }),
            live: roster.rule(rule),
        })
    }

    /// The place among the shares of the group a pin names, if the rule still names that group.
    pub fn share_of(&self, key: TargetKey) -> Option<usize> {
        self.shares.iter().position(|share| share.key == key)
    }
}
