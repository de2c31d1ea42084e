//! The health of a group: how many targets could serve, and whether those are too few. Counted in
//! one place, so that `explain` and the balancer cannot differ.

use crate::base::name::Name;
use crate::model::live::{Availability, Drain, Health};
use crate::model::snapshot::{Group, Target};
use crate::policy::health::progress;

/// Counts of a group's targets that this balancer may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupHealth {
    /// Targets that do not drain.
    pub registered: u32,
    /// Of these, those that are not known to be unhealthy.
    pub serving: u32,
    /// Of these, those that are known to be healthy, suspect ones included.
    pub healthy: u32,
    /// Draining targets whose delay is not over.
    pub draining: u32,
    /// Of these, those that are not known to be unhealthy.
    pub still_serving: u32,
}

impl GroupHealth {
    /// Counts the targets; `zone` is the balancer's.
    pub(crate) fn of(
        group: &Group,
        zone: Option<&Name>,
        availability: impl Fn(&Target) -> Availability,
    ) -> Self {
        let mut health = Self::default();
        let may_be_used =
            |target: &&Target| group.settings.cross_zone || target.zone.as_ref() == zone;
        for target in group.targets.iter().filter(may_be_used) {
            let availability = availability(target);
            match availability.drain {
                Drain::No | Drain::Held => {
                    health.registered += 1;
                    health.serving += u32::from(availability.health != Health::Unhealthy);
                    health.healthy +=
                        u32::from(matches!(availability.health, Health::Healthy | Health::Suspect));
                }
                Drain::Running => {
                    health.draining += 1;
                    health.still_serving += u32::from(availability.health != Health::Unhealthy);
                }
                Drain::Over => {}
            }
        }
        health
    }

    /// True if health is to be ignored because too few targets serve. If all targets drain, the
    /// draining ones are counted: they are the ones left, and they keep their clients, so the lack
    /// of registered ones is no failure.
    pub(crate) fn fails_open(self, group: &Group) -> bool {
        let (wanted, minimum) = (group.settings.fail_open, group.settings.minimum_healthy);
        let (count, percent) = (minimum.count, minimum.percent);
        let (serving, registered) = match (self.registered, self.draining) {
            (0, 1..) => (self.still_serving, self.draining),
            _ => (self.serving, self.registered),
        };
        progress::fails_open(wanted, serving, registered, count, percent)
    }
}
