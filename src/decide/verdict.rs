//! The closed lists of verdicts, and their words: the same in log, metric, header, `explain` and
//! tests.

use std::fmt;

/// The verdict on a client's pin to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Stickiness is off for the group.
    Off,
    /// The request lacks the application's cookie.
    AppCookieAbsent,
    /// The client has no pin for this group yet.
    New,
    /// The client's token is full: a pin for this group may have been pushed out.
    Evicted,
    /// A pin is made for an application cookie that came without one.
    Adopted,
    /// The cookie holds no token.
    Malformed,
    /// The cookie was not sealed with a key of this balancer.
    Forged,
    /// The cookie was sealed with a key this balancer lacks.
    UnknownKey,
    /// The pin is too old.
    Expired,
    /// The target is not in the group any more.
    MovedRemoved,
    /// The target's host name has had another address since the pin was written: it is another
    /// machine.
    MovedAddress,
    /// The target drains, and its pins move or its delay is over.
    MovedDraining,
    /// The target is in a zone that this balancer may not use.
    MovedZone,
    /// The target is unhealthy.
    MovedUnhealthy,
    /// The target cannot serve now, and its successor did. The pin stays, unless the response shows
    /// that something was written there: then it moves to the target that answered.
    Spilled,
    /// The target cannot serve, and the group is strict: 503.
    StrictRefused,
    /// The client reached its pinned target.
    Hit,
    /// The request lacks the route or header that the group keys on.
    KeyAbsent,
    /// No target can serve: 503.
    NoTarget,
}

impl Verdict {
    /// Every verdict, for tables and tests.
    pub const ALL: [Self; 19] = [
        Self::Off,
        Self::AppCookieAbsent,
        Self::New,
        Self::Evicted,
        Self::Adopted,
        Self::Malformed,
        Self::Forged,
        Self::UnknownKey,
        Self::Expired,
        Self::MovedRemoved,
        Self::MovedAddress,
        Self::MovedDraining,
        Self::MovedZone,
        Self::MovedUnhealthy,
        Self::Spilled,
        Self::StrictRefused,
        Self::Hit,
        Self::KeyAbsent,
        Self::NoTarget,
    ];

    /// The word for log, metric, header and `explain`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::AppCookieAbsent => "app_cookie_absent",
            Self::New => "new",
            Self::Evicted => "evicted",
            Self::Adopted => "adopted",
            Self::Malformed => "malformed",
            Self::Forged => "forged",
            Self::UnknownKey => "unknown_key",
            Self::Expired => "expired",
            Self::MovedRemoved => "moved_removed",
            Self::MovedAddress => "moved_address",
            Self::MovedDraining => "moved_draining",
            Self::MovedZone => "moved_zone",
            Self::MovedUnhealthy => "moved_unhealthy",
            Self::Spilled => "spilled",
            Self::StrictRefused => "strict_refused",
            Self::Hit => "hit",
            Self::KeyAbsent => "key_absent",
            Self::NoTarget => "no_target",
        }
    }

    /// A sentence for `explain`.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Off => "stickiness is off for this group: the algorithm chooses the target",
            Self::AppCookieAbsent => {
                "the request lacks the application's cookie: the algorithm chooses the target"
            }
            Self::New => "the client has no pin for this group yet",
            Self::Evicted => {
                "the token is full, a pin for this group may have been evicted: the client's seed \
                 chooses the target"
            }
            Self::Adopted => "a pin is created for the application cookie in the request",
            Self::Malformed => "the cookie is not a valid token: it is ignored and replaced",
            Self::Forged => "the cookie's seal does not verify: it is ignored",
            Self::UnknownKey => "the cookie was sealed with a key that this balancer does not have",
            Self::Expired => "the pin has expired",
            Self::MovedRemoved => "the pinned target is no longer in the group",
            Self::MovedAddress => {
                "the pinned target's host name has a new address: the pin stays, the machine is new"
            }
            Self::MovedDraining => {
                "the pinned target is draining: draining_pins is move, or its deregistration delay \
                 is over"
            }
            Self::MovedZone => "the pinned target is in another zone, and cross_zone is false",
            Self::MovedUnhealthy => "the pinned target is unhealthy: the client moves permanently",
            Self::Spilled => {
                "the pinned target cannot serve now: this request goes to another target; the pin \
                 moves along if the answer shows that data was stored there, else it stays"
            }
            Self::StrictRefused => {
                "the pinned target cannot serve, and on_unavailable is strict: 503, the pin stays"
            }
            Self::Hit => "the client is pinned to this target",
            Self::KeyAbsent => {
                "the request lacks the group's stickiness key: the algorithm chooses the target"
            }
            Self::NoTarget => "no target of the group can serve: 503",
        }
    }

    /// True if the client lost its target with this exchange.
    pub fn is_move(self) -> bool {
        matches!(
            self,
            Self::MovedRemoved
                | Self::MovedAddress
                | Self::MovedDraining
                | Self::MovedZone
                | Self::MovedUnhealthy
        )
    }

    /// True if the request goes to the target that the client's pin names.
    pub fn is_at_home(self) -> bool {
        matches!(self, Self::Hit | Self::MovedAddress)
    }

    /// True if the request is refused instead of sent to a target.
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::StrictRefused | Self::NoTarget)
    }
}

/// The verdict on a client's pin to a group of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupVerdict {
    /// The rule has no group stickiness.
    Off,
    /// The client has no pin for this rule yet.
    New,
    /// The client reached its pinned group.
    Hit,
    /// The rule does not name the pinned group any more.
    MovedRemoved,
    /// The pinned group cannot serve now; the pin stays as it was.
    FailedOver,
    /// The client is back with the pinned group, which can serve again.
    FailedBack,
    /// The pin is too old.
    Expired,
    /// The cookie holds no token.
    Malformed,
    /// The cookie was not sealed with a key of this balancer.
    Forged,
    /// The cookie was sealed with a key this balancer lacks.
    UnknownKey,
}

impl GroupVerdict {
    /// Every verdict, for tables and tests.
    pub const ALL: [Self; 10] = [
        Self::Off,
        Self::New,
        Self::Hit,
        Self::MovedRemoved,
        Self::FailedOver,
        Self::FailedBack,
        Self::Expired,
        Self::Malformed,
        Self::Forged,
        Self::UnknownKey,
    ];

    /// The word for log, metric, header and `explain`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::New => "new",
            Self::Hit => "hit",
            Self::MovedRemoved => "moved_removed",
            Self::FailedOver => "failed_over",
            Self::FailedBack => "failed_back",
            Self::Expired => "expired",
            Self::Malformed => "malformed",
            Self::Forged => "forged",
            Self::UnknownKey => "unknown_key",
        }
    }

    /// A sentence for `explain`.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Off => "group stickiness is off for this rule: the weights choose the group",
            Self::New => "the client has no pin for this rule yet",
            Self::Hit => "the client is pinned to this group",
            Self::MovedRemoved => "the rule no longer names the pinned group",
            Self::FailedOver => {
                "the pinned group cannot serve now: another group serves until it can, or \
                 permanently with failback = \"stay\""
            }
            Self::FailedBack => "the pinned group serves again: the client returns to it",
            Self::Expired => "the group pin has expired",
            Self::Malformed => "the group cookie is not a valid token: it is replaced",
            Self::Forged => "the group cookie's seal does not verify: it is replaced",
            Self::UnknownKey => {
                "the group cookie was sealed with a key that this balancer does not have"
            }
        }
    }
}

impl fmt::Display for GroupVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_verdicts_share_a_word() {
        let mut words: Vec<_> = Verdict::ALL.iter().map(|verdict| verdict.word()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Verdict::ALL.len());
        let mut words: Vec<_> = GroupVerdict::ALL.iter().map(|verdict| verdict.word()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), GroupVerdict::ALL.len());
    }
}
