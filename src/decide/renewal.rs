//! What is written into the client's cookie once a target's final response head is there.

use super::Placement;
use super::verdict::Verdict;
use crate::model::snapshot::Snapshot;
use crate::policy::affinity::claim::{self, Claim, PinState, Rewrite};
use crate::policy::affinity::token::{Contents, Seed};

/// A token to be sealed, and when it ends.
#[derive(Clone, Debug)]
pub struct Renewal {
    /// The seed and the pins.
    pub contents: Contents,
    /// The latest expiry of the pins inside, in seconds since the Unix epoch.
    pub expires: u64,
    /// Why it is written: a word for the access log.
    pub what: &'static str,
}

/// What to write when `served_by` answered, if anything. `fresh_seed` is used where the client has
/// none yet.
pub fn renewal(
    placement: &Placement,
    served_by: usize,
    snapshot: &Snapshot,
    now: u64,
    fresh_seed: Seed,
) -> Option<Renewal> {
    let group = &snapshot.groups[placement.group];
    let stickiness = group.settings.stickiness.as_ref()?;
    let lifetime_of = |key| snapshot.lifetime_of(key);
    let old = match &placement.claim {
        Claim::Opened { contents, .. } => Some(contents),
        Claim::None | Claim::Unusable(_) => None,
    };
    let pinned = |what| {
        let target = group.targets[served_by].key;
        let contents = claim::renew(old, fresh_seed, group.key, target, now, lifetime_of);
        Some((contents, what))
    };
    let (contents, what) = match placement.verdict {
        Verdict::Off
        | Verdict::AppCookieAbsent
        | Verdict::KeyAbsent
        | Verdict::Spilled
        | Verdict::StrictRefused
        | Verdict::NoTarget => None,
        Verdict::Hit => match &placement.claim {
            Claim::Opened { contents, first_key, pin: PinState::Held(pin) } => {
                let lifetime = stickiness.lifetime.seconds();
                match claim::rewrite(stickiness.refresh, *pin, *first_key, lifetime, now) {
                    Rewrite::Renew => pinned("renewed"),
                    Rewrite::Reseal => Some((*contents, "resealed")),
                    Rewrite::Leave => None,
                }
            }
            _ => None,
        },
        Verdict::New
        | Verdict::Adopted
        | Verdict::Malformed
        | Verdict::Forged
        | Verdict::UnknownKey
        | Verdict::Expired => pinned("new"),
        Verdict::MovedRemoved
        | Verdict::MovedDraining
        | Verdict::MovedZone
        | Verdict::MovedUnhealthy => pinned("moved"),
    }?;
    let expires = claim::latest_expiry(&contents, lifetime_of, now);
    Some(Renewal { contents, expires, what })
}

/// The client whose session is at the target that answered, where it stays there: its pin was good, or
/// one was written. One that is elsewhere for a moment counts where its pin is.
pub fn settled(placement: &Placement, renewal: Option<&Renewal>) -> Option<Seed> {
    match (renewal, placement.verdict, &placement.claim) {
        (Some(renewal), ..) => Some(renewal.contents.seed()),
        (None, Verdict::Hit, Claim::Opened { contents, .. }) => Some(contents.seed()),
        _ => None,
    }
}
