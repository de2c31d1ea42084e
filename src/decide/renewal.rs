//! What is written into the client's cookies once a target's final response head is there.

use super::group_choice::GroupChoice;
use super::verdict::{GroupVerdict, Verdict};
use super::{Keeps, Placement};
use crate::config::settings::Failback;
use crate::model::affinity::Cookie;
use crate::model::forward::Forward;
use crate::model::snapshot::Snapshot;
use crate::policy::affinity::app_cookie::AppCookie;
use crate::policy::affinity::claim::{self, Claim, PinState, Rewrite};
use crate::policy::affinity::token::{Contents, GroupKey, Kind, Seed, TargetKey};

/// What is written into one cookie.
#[derive(Clone, Debug)]
pub struct Renewal {
    /// The token to be sealed; `None` ends the cookie.
    pub contents: Option<Contents>,
    /// When it ends, in seconds since the Unix epoch: the latest expiry of the pins inside.
    pub expires: u64,
    /// Why it is written: a word for the access log.
    pub what: &'static str,
}

/// What to write into a group's cookie when `served_by` answered, if anything. `app` is what the
/// answer did to the application's cookie, where the group's accompanies one. `fresh_seed` is used
/// where the client has none yet.
pub fn renewal(
    placement: &Placement,
    served_by: usize,
    snapshot: &Snapshot,
    now: u64,
    fresh_seed: Seed,
    app: AppCookie,
) -> Option<Renewal> {
    let group = &snapshot.groups[placement.group];
    let cookie = group.cookie()?;
    let target = group.targets[served_by].key;
    let writing =
        Writing { snapshot, cookie, claim: &placement.claim, key: group.key, now, fresh_seed };
    if let Some(accompanied) = &cookie.accompanies {
        match app {
            AppCookie::Ended => return writing.without_pin(),
            // One bad moment moves nobody: the pin stays, and so does what the cookie says. A pin in
            // force is renewed as `refresh` says, for many stacks repeat their cookie in every answer.
            AppCookie::Set if !matches!(placement.verdict, Verdict::Spilled | Verdict::Hit) => {
                return Some(writing.with_pin(target, made(placement.verdict)));
            }
            AppCookie::Set | AppCookie::Untouched => {}
        }
        let was_made = matches!(placement.verdict, Verdict::Hit) || placement.verdict.is_move();
        if !accompanied.adopt && !was_made {
            return None;
        }
    }
    match placement.verdict {
        Verdict::Off
        | Verdict::AppCookieAbsent
        | Verdict::KeyAbsent
        | Verdict::Spilled
        | Verdict::StrictRefused
        | Verdict::NoTarget => None,
        Verdict::Hit => writing.again(target),
        Verdict::New
        | Verdict::Evicted
        | Verdict::MovedAddress
        | Verdict::Adopted
        | Verdict::Malformed
        | Verdict::Forged
        | Verdict::UnknownKey
        | Verdict::Expired
        | Verdict::MovedRemoved
        | Verdict::MovedDraining
        | Verdict::MovedZone
        | Verdict::MovedUnhealthy => Some(writing.with_pin(target, made(placement.verdict))),
    }
}

/// What a pin that is written says of itself in the log.
fn made(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Adopted => "adopted",
        moved if moved.is_move() => "moved",
        _ => "new",
    }
}

/// What to write into the cookie that keeps a client with its group.
pub fn group_renewal(
    choice: &GroupChoice,
    forward: &Forward,
    snapshot: &Snapshot,
    now: u64,
    fresh_seed: Seed,
) -> Option<Renewal> {
    let sticky = forward.sticky.as_ref()?;
    let (cookie, key, claim) = (&*sticky.cookie, sticky.key, &choice.claim);
    let writing = Writing { snapshot, cookie, claim, key, now, fresh_seed };
    let group = forward.shares[choice.share].key;
    match choice.verdict {
        GroupVerdict::Off => None,
        GroupVerdict::FailedOver if forward.failback == Failback::Stay => {
            Some(writing.with_pin(group, "moved"))
        }
        GroupVerdict::FailedOver => {
            let home = forward.shares[choice.home.unwrap_or(choice.share)].key;
            writing.with_stand_in(home, (sticky.stand_in, group))
        }
        GroupVerdict::FailedBack => Some(writing.without_stand_in(sticky.stand_in, group)),
        GroupVerdict::Hit => writing.again(group),
        GroupVerdict::MovedRemoved => Some(writing.with_pin(group, "moved")),
        GroupVerdict::New
        | GroupVerdict::Expired
        | GroupVerdict::Malformed
        | GroupVerdict::Forged
        | GroupVerdict::UnknownKey => Some(writing.with_pin(group, "new")),
    }
}

/// One cookie being written again.
struct Writing<'a> {
    snapshot: &'a Snapshot,
    cookie: &'a Cookie,
    claim: &'a Claim,
    /// The group (the rule) whose pin it is about.
    key: GroupKey,
    now: u64,
    fresh_seed: Seed,
}

impl Writing<'_> {
    /// For a client that met what it is pinned to: as `refresh` says, and always where the key that
    /// sealed is no longer the first.
    fn again(&self, target: TargetKey) -> Option<Renewal> {
        let Claim::Opened { contents, first_key, pin: PinState::Held(pin) } = self.claim else {
            return None;
        };
        let (refresh, lifetime) = (self.cookie.settings.refresh, self.cookie.lifetime.seconds());
        match claim::rewrite(refresh, *pin, *first_key, lifetime, self.now) {
            Rewrite::Renew => Some(self.with_pin(target, "renewed")),
            Rewrite::Reseal => Some(self.sealed(*contents, "resealed")),
            Rewrite::Leave => None,
        }
    }

    /// For a client of a group that another stands in for: what is remembered of it, and the pin
    /// itself where it is due, so that both live as long as the client keeps coming.
    fn with_stand_in(&self, home: TargetKey, other: (GroupKey, TargetKey)) -> Option<Renewal> {
        let (old, lifetime) = (self.claim.contents(), self.cookie.lifetime.seconds());
        let refresh = self.cookie.settings.refresh;
        let lifetime_of = |key| self.lifetime_of(key);
        let is_due = |pin| claim::due(refresh, pin, lifetime, self.now);
        let own = self.claim.held().filter(|pin| pin.target == home);
        let known = old.and_then(|old| old.pin(other.0)).filter(|pin| pin.target == other.1);
        if own.is_some_and(|pin| !is_due(pin)) && known.is_some_and(|pin| !is_due(pin)) {
            return self.again(home);
        }
        let renew = |old: Option<&Contents>, (group, target)| {
            claim::renew(old, self.fresh_seed, group, target, self.now, lifetime_of)
        };
        let mut contents = renew(old, other);
        if own.is_none_or(is_due) {
            contents = renew(Some(&contents), (self.key, home));
        }
        Some(self.sealed(contents, "moved"))
    }

    /// For a client that is back with its group.
    fn without_stand_in(&self, stand_in: GroupKey, home: TargetKey) -> Renewal {
        let left = self.claim.contents().and_then(|contents| contents.without(stand_in));
        let (refresh, lifetime) = (self.cookie.settings.refresh, self.cookie.lifetime.seconds());
        match (left, self.claim.held().filter(|pin| pin.target == home)) {
            (Some(left), Some(pin)) if !claim::due(refresh, pin, lifetime, self.now) => {
                self.sealed(left, "resealed")
            }
            (left, _) => {
                let lifetime_of = |key| self.lifetime_of(key);
                let seed = self.fresh_seed;
                let contents =
                    claim::renew(left.as_ref(), seed, self.key, home, self.now, lifetime_of);
                self.sealed(contents, "renewed")
            }
        }
    }

    fn with_pin(&self, target: TargetKey, what: &'static str) -> Renewal {
        let old = self.claim.contents();
        let lifetime_of = |key| self.lifetime_of(key);
        let contents = claim::renew(old, self.fresh_seed, self.key, target, self.now, lifetime_of);
        self.sealed(contents, what)
    }

    /// For a client whose session is over. Pins for other groups stay in the cookie; without any,
    /// the cookie goes. Nothing is written to a client that brought none.
    fn without_pin(&self) -> Option<Renewal> {
        match self.claim {
            Claim::None | Claim::Opened { pin: PinState::Absent, .. } => return None,
            _ => {}
        }
        let left = self.claim.contents().and_then(|contents| contents.without(self.key));
        let left = left.map(|contents| self.sealed(contents, "ended"));
        Some(match left {
            Some(renewal) if renewal.expires > self.now => renewal,
            _ => Renewal { contents: None, expires: 0, what: "ended" },
        })
    }

    fn sealed(&self, contents: Contents, what: &'static str) -> Renewal {
        let expires = claim::latest_expiry(&contents, |key| self.lifetime_of(key), self.now);
        Renewal { contents: Some(contents), expires, what }
    }

    fn lifetime_of(&self, key: GroupKey) -> Option<u32> {
        let kind: Kind = self.cookie.kind;
        self.snapshot.lifetime_of(kind, key)
    }
}

/// The client whose session is at the target that answered, where it stays there: its pin was good, or
/// one was written. One that is elsewhere for a moment counts where its pin is.
pub fn settled(placement: &Placement, renewal: Option<&Renewal>) -> Option<Seed> {
    match (renewal, placement.verdict, &placement.claim) {
        // Its cookie is written, as with ALB, and no browser keeps it.
        _ if placement.keeps == Keeps::Nothing => None,
        (Some(Renewal { what: "ended", .. }), ..) => None,
        (Some(renewal), ..) => Some(renewal.contents?.seed()),
        (None, Verdict::Hit, claim) => claim.seed(),
        // Nothing is ever written for these: what the client sends next names this target.
        (None, Verdict::New, Claim::Key(seed)) => Some(*seed),
        _ => None,
    }
}
