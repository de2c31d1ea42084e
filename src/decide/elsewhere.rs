//! The next target of a request that its first target did not serve, and the successor of a client.

use super::candidates::{Candidates, Tried};
use super::hold::{Obstacle, at_home, hold, is_strict, obstacle};
use super::verdict::Verdict;
use super::{Draw, Live, Placement};
use crate::model::affinity::Affinity;
use crate::model::live::Drain;
use crate::model::snapshot::Snapshot;
use crate::policy::affinity::claim::{Claim, PinState};
use crate::policy::affinity::token::Seed;

/// Returns the placement of a request whose target could not be connected to: the next target of
/// the successor ranking, or of the algorithm for a new client. `tried` has every target that
/// failed.
///
/// A pinned client is `spilled`: its pin stays unless the response shows that something was written
/// ([`super::cookie_update::wrote`]). A client without a valid pin keeps its verdict, and its new
/// pin will name the target that answers.
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

/// Returns the placement for the time when the client's own target is below its cap again, if only
/// the cap keeps the request from it.
pub(crate) fn once_there_is_a_place(
    placement: &Placement,
    snapshot: &Snapshot,
) -> Option<Placement> {
    let target = placement.pinned.filter(|_| placement.only_capped)?;
    let own = &snapshot.groups[placement.group].targets[target];
    let verdict = at_home(own, placement.claim.held());
    Some(Placement { target: Some(target), verdict, only_capped: false, ..placement.clone() })
}

/// True if the client's own target may still serve a request that has waited for a place below its
/// cap. The cap is not checked.
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

/// True if there is another target for a request that these did not serve.
pub(crate) fn has_another(
    placement: &Placement,
    tried: &Tried,
    snapshot: &Snapshot,
    live: &impl Live,
) -> bool {
    let group = &snapshot.groups[placement.group];
    Candidates::new(snapshot, group, live, tried).best_tier().is_some()
}

/// The seed whose ranking places this client; `None` if the algorithm does.
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

/// Returns the target that would take this client if `serving` were gone now: the same on every
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
        // Unless something is written, the pin stays, so the next request goes there.
        (_, Some(pinned)) if placement.verdict == Verdict::Spilled => Some(pinned),
        // A client known by a value keeps its own target, whichever target serves it meanwhile.
        (Some(Affinity::Header(_)), Some(home)) => {
            hold(&candidates, group, live, seed, Some(home)).0
        }
        _ => candidates.ranked(seed, Some(serving)),
    }
}
