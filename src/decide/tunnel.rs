//! Detection of moved clients of a tunnel: their next request would go to another target, and stay
//! there.

use super::candidates::{Candidates, Tried};
use super::verdict::Verdict;
use super::{Live, hold};
use crate::model::snapshot::Snapshot;
use crate::policy::affinity::token::Seed;

/// The verdict that moved a client pinned to this target of this group, both by name; `None` if it
/// has not moved, or if no other target could take it.
pub(crate) fn moved(
    group: &str,
    target: &str,
    seed: Seed,
    snapshot: &Snapshot,
    live: &impl Live,
) -> Option<Verdict> {
    let group = &snapshot.groups[snapshot.group_named(group)?];
    // Without stickiness no client moves.
    group.affinity.as_ref()?;
    let candidates = Candidates::new(snapshot, group, live, &Tried::EMPTY);
    let (to, verdict) = hold(&candidates, group, live, seed, group.target_named(target));
    (verdict.is_move() && to.is_some()).then_some(verdict)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::model::live::{Availability, Drain, Health};
    use crate::model::snapshot::{Group, Resolutions, Target};
    use crate::model::target_registry::TargetRegistry;
    use crate::policy::affinity::keys::{Key, Keyring};
    use crate::policy::balance::weight_fraction::WeightFraction;
    use std::sync::Arc;

    /// Target `a` has this availability; the others are healthy.
    struct As(Availability);

    impl Live for As {
        fn availability(&self, target: &Target) -> Availability {
            match target.id.as_str() {
                "a" => self.0,
                _ => Availability { health: Health::Healthy, drain: Drain::No, recovering: false },
            }
        }
        fn at_cap(&self, _: &Target, _: u32) -> bool {
            true
        }
        fn refused_lately(&self, _: &Target) -> bool {
            true
        }
        fn fails_open(&self, _: &Group) -> bool {
            false
        }
        fn in_flight(&self, _: &Target) -> u32 {
            0
        }
        fn sessions(&self, _: &Target) -> u32 {
            0
        }
        fn weight_fraction(&self, _: &Target) -> WeightFraction {
            WeightFraction::WHOLE
        }
    }

    fn snapshot(targets: &str, group: &str) -> Snapshot {
        let text = format!(
            "[runtime]\nzone = \"x\"\n[listener.web]\naddress = \"127.0.0.1:0\"\n\
             [target_group.app]\ntargets = [{targets}]\n{group}\n"
        );
        let config = config::parse(&text, "test.toml", "/".as_ref()).unwrap().config;
        let keyring = Arc::new(Keyring::new(&[Key::generate([7; 32])]).unwrap());
        Snapshot::build(&config, keyring, &Resolutions::new(), &mut TargetRegistry::default())
            .unwrap()
    }

    #[test]
    fn a_tunnel_moves_exactly_if_its_clients_pin_moves() {
        let two = "{ id = \"a\", address = \"10.0.0.1:1\", zone = \"y\" }, \
                   { id = \"b\", address = \"10.0.0.2:1\", zone = \"x\" }";
        let only = "{ id = \"a\", address = \"10.0.0.1:1\" }";
        let gone = "{ id = \"b\", address = \"10.0.0.2:1\" }";
        use Drain::{No, Over, Running};
        use Health::{Healthy, Initial, Unhealthy};
        use Verdict::{MovedDraining, MovedRemoved, MovedUnhealthy, MovedZone};
        for (targets, group, health, drain, expected) in [
            (two, "", Healthy, No, None),
            (two, "", Initial, No, None),
            (two, "", Unhealthy, No, Some(MovedUnhealthy)),
            (two, "", Healthy, Running, None),
            (two, "draining_pins = \"move\"", Healthy, Running, Some(MovedDraining)),
            (two, "", Healthy, Over, Some(MovedDraining)),
            (two, "cross_zone = false", Healthy, No, Some(MovedZone)),
            (gone, "", Healthy, No, Some(MovedRemoved)),
            // Its cap is reached while it has this tunnel, which moves no client.
            (two, "max_in_flight_per_target = 2", Healthy, No, None),
            (two, "stickiness = { on_unavailable = \"strict\" }", Unhealthy, No, None),
            (two, "stickiness = { enabled = false }", Unhealthy, No, None),
            // There is no other target.
            (only, "", Unhealthy, No, None),
            (only, "", Healthy, Over, None),
        ] {
            let snapshot = snapshot(targets, group);
            let live = As(Availability { health, drain, recovering: false });
            let moved = moved("app", "a", Seed(7), &snapshot, &live);
            assert_eq!(moved, expected, "{targets} {group} {health:?} {drain:?}");
        }
        let snapshot = snapshot(two, "");
        let live = As(Availability { health: Unhealthy, drain: No, recovering: false });
        assert_eq!(moved("other", "a", Seed(7), &snapshot, &live), None);
    }
}
