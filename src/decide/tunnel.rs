//! Whether the client of a tunnel has moved meanwhile: its next request would go elsewhere, and stay
//! there.

use super::candidates::{Candidates, Tried};
use super::verdict::Verdict;
use super::{Live, hold};
use crate::model::snapshot::Snapshot;
use crate::policy::affinity::token::Seed;

/// What moved a client that is pinned to this target of this group, by name; `None` while it is not
/// moved, which includes that no other target could take it.
pub fn moved(
    group: &str,
    target: &str,
    seed: Seed,
    snapshot: &Snapshot,
    live: &impl Live,
) -> Option<Verdict> {
    let group = &snapshot.groups[snapshot.group_named(group)?];
    // Where nothing pins, nothing moves.
    group.affinity.as_ref()?;
    let candidates = Candidates::new(snapshot, group, live, &Tried::NOBODY);
    let (to, verdict) = hold(&candidates, group, live, seed, group.target_named(target));
    (verdict.is_move() && to.is_some()).then_some(verdict)
}
