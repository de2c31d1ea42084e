//! Where a request goes that its first target does not serve, and where its client would go next.

use super::candidates::{Candidates, Tried};
use super::hold::{Obstacle, at_home, hold, is_strict, obstacle};
use super::verdict::Verdict;
use super::{Draw, Live, Placement};
use crate::model::affinity::Affinity;
use crate::model::live::Drain;
use crate::model::snapshot::Snapshot;
use crate::policy::affinity::claim::{Claim, PinState};
use crate::policy::affinity::token::Seed;

/// Where a request goes whose target could not be connected to: the next in the successor ranking,
/// or in the algorithm's order for a newcomer. `tried` holds every target that failed.
///
/// A pinned client is `spilled`: its pin stays unless the answer shows that something was written
/// ([`super::cookie_update::wrote`]). A client that was being placed anyway keeps its
/// verdict, and its pin will name the target that answers.
pub fn next_after_failure(
    placement: &Placement,
    tried: &Tried,
    snapshot: &Snapshot,
    live: &impl Live,
    draw: &mut impl Draw,
) -> Placement {
    let group = &snapshot.groups[placement.group];
    let candidates = Candidates::new(snapshot, group, live, tried);
    let seed = ranking_seed(placement);
    let pinned_client = placement.verdict.is_at_home() || placement.verdict == Verdict::Spilled;
    let (target, verdict) = match seed {
        _ if pinned_client && is_strict(group) => (None, Verdict::StrictRefused),
        Some(seed) => (
            candidates.ranked(seed, placement.pinned),
            if pinned_client { Verdict::Spilled } else { placement.verdict },
        ),
        None => (candidates.by_algorithm(placement.keeps, draw), placement.verdict),
    };
    let verdict = match target {
        None if !verdict.is_refusal() => Verdict::NoTarget,
        _ => verdict,
    };
    Placement { target, verdict, ..placement.clone() }
}

/// Where a request goes once there is a place for it at the client's own target, if only its cap keeps
/// it from there.
pub(crate) fn once_there_is_a_place(
    placement: &Placement,
    snapshot: &Snapshot,
) -> Option<Placement> {
    let target = placement.pinned.filter(|_| placement.only_capped)?;
    let own = &snapshot.groups[placement.group].targets[target];
    let verdict = at_home(own, placement.claim.held());
    Some(Placement { target: Some(target), verdict, only_capped: false, ..placement.clone() })
}

/// Whether the client's own target may still serve a request that has waited for its place, whatever
/// became of that target meanwhile: its cap is not looked at.
pub(crate) fn may_go_home(placement: &Placement, snapshot: &Snapshot, live: &impl Live) -> bool {
    let group = &snapshot.groups[placement.group];
    let candidates = Candidates::new(snapshot, group, live, &Tried::EMPTY);
    placement.target.is_some_and(|own| {
        let own = &group.targets[own];
        let obstacle = obstacle(&candidates, live, own);
        live.availability(own).drain != Drain::Over
            && matches!(obstacle, None | Some(Obstacle::Capped))
    })
}

/// Whether there is another target for a request that some did not serve.
pub(crate) fn has_another(
    placement: &Placement,
    tried: &Tried,
    snapshot: &Snapshot,
    live: &impl Live,
) -> bool {
    let group = &snapshot.groups[placement.group];
    Candidates::new(snapshot, group, live, tried).best_tier().is_some()
}

/// The seed whose ranking places this client; `None` where the algorithm does.
pub(crate) fn ranking_seed(placement: &Placement) -> Option<Seed> {
    match &placement.claim {
        _ if placement.verdict == Verdict::AppCookieAbsent => None,
        Claim::Opened { contents, pin: PinState::Absent | PinState::Held(_), .. } => {
            Some(contents.seed())
        }
        Claim::Key(seed) => Some(*seed),
        _ => placement.seed,
    }
}

/// Which target would have this client if `serving` were gone, as things stand: the same on every
/// worker and node. `seed` is the client's.
pub fn successor(
    placement: &Placement,
    serving: usize,
    seed: Seed,
    snapshot: &Snapshot,
    live: &impl Live,
) -> Option<usize> {
    let group = &snapshot.groups[placement.group];
    let mut tried = Tried::EMPTY;
    tried.record(serving);
    let candidates = Candidates::new(snapshot, group, live, &tried);
    match (&group.affinity, placement.pinned.filter(|&pinned| pinned != serving)) {
        // Unless something is written the pin stays, so this is where the next request goes.
        (_, Some(pinned)) if placement.verdict == Verdict::Spilled => Some(pinned),
        // A client known by a value remains its own target's, whichever target serves it meanwhile.
        (Some(Affinity::Header(_)), Some(home)) => {
            hold(&candidates, group, live, seed, Some(home)).0
        }
        _ => candidates.ranked(seed, Some(serving)),
    }
}
