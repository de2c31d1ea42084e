//! Placement by a valid pin: rows 7 to 12 of the decision table.

use super::candidates::{Candidates, Tier};
use super::verdict::Verdict;
use super::{Live, Placed};
use crate::config::settings::DrainingPins;
use crate::model::live::{Drain, Health};
use crate::model::snapshot::{Group, Target};
use crate::policy::affinity::OnUnavailable;
use crate::policy::affinity::token::{Pin, Seed};

/// Rows 7 to 12: the placement by a valid pin.
pub(super) fn hold(
    candidates: &Candidates<'_, impl Live>,
    group: &Group,
    live: &impl Live,
    seed: Seed,
    pinned: Option<usize>,
) -> Placed {
    let successor = |verdict| (candidates.ranked(seed, pinned), verdict);
    let for_now = |verdict| match is_strict(group) {
        true => (None, Verdict::StrictRefused),
        false => successor(verdict),
    };
    let Some(at) = pinned else {
        // A target whose host name has not been resolved yet is not known to be gone.
        return match group.awaits_names {
            true => for_now(Verdict::Spilled),
            false => successor(Verdict::MovedRemoved),
        };
    };
    let target = &group.targets[at];
    let availability = live.availability(target);
    let leaves = match availability.drain {
        Drain::No | Drain::Held => false,
        Drain::Over => true,
        // If only draining targets are left, a move would lose the session for nothing.
        Drain::Running => {
            group.settings.draining_pins == DrainingPins::Move
                && candidates.best_tier().is_some_and(|best| best < Tier::Draining)
        }
    };
    if leaves {
        return successor(Verdict::MovedDraining);
    }
    if !candidates.zone_allows(target) {
        return successor(Verdict::MovedZone);
    }
    match obstacle(candidates, live, target) {
        None => (Some(at), Verdict::Hit),
        Some(Obstacle::Unhealthy) => for_now(Verdict::MovedUnhealthy),
        // The state of a name without an address is unknown, and a silent resolver is no reason to
        // move a client for good.
        Some(Obstacle::Unresolved | Obstacle::Refuses | Obstacle::Capped) => {
            for_now(Verdict::Spilled)
        }
    }
}

/// The obstacle between a request and its client's own target, which is in the group and not
/// leaving it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// Its host name has no address.
    Unresolved,
    /// Its checks failed.
    Unhealthy,
    /// It recovers from an outage, and refused a connection within the last second.
    Refuses,
    /// It is at its cap.
    Capped,
}

/// The first obstacle, if there is one.
pub(super) fn obstacle(
    candidates: &Candidates<'_, impl Live>,
    live: &impl Live,
    target: &Target,
) -> Option<Obstacle> {
    let availability = live.availability(target);
    let is_down = availability.health == Health::Unhealthy && !candidates.fails_open();
    match () {
        () if target.address.is_none() => Some(Obstacle::Unresolved),
        () if is_down && !availability.recovering => Some(Obstacle::Unhealthy),
        () if is_down && live.refused_lately(target) => Some(Obstacle::Refuses),
        () if candidates.at_cap(target) => Some(Obstacle::Capped),
        () => None,
    }
}

/// The verdict for a client at its own target. A pin that is older than the target's address leads
/// to a machine without the client's session.
pub(super) fn at_home(target: &Target, pin: Option<Pin>) -> Verdict {
    let is_older = |since| pin.is_some_and(|pin| u64::from(pin.issued_at) < since);
    match target.address_since.is_some_and(is_older) {
        true => Verdict::MovedAddress,
        false => Verdict::Hit,
    }
}

/// True if the group answers with an error instead of moving a client.
pub(super) fn is_strict(group: &Group) -> bool {
    let stickiness = group.settings.stickiness.as_ref();
    stickiness.is_some_and(|stickiness| stickiness.on_unavailable == OnUnavailable::Strict)
}
