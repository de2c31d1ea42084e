//! How a group stands: who could serve, and whether that is too few. Counted in one place, so that
//! `explain` and the balancer cannot count differently.

use crate::base::name::Name;
use crate::model::live::{Availability, Drain, Health};
use crate::model::snapshot::{Group, Target};
use crate::policy::health::progress;

/// The targets of a group that this balancer may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupHealth {
    /// Those that do not drain.
    pub registered: u32,
    /// Of these, those that are not known to be unhealthy.
    pub serving: u32,
    /// Of these, those that are known to be healthy, suspect ones included.
    pub healthy: u32,
    /// Those that drain and whose delay is not over.
    pub draining: u32,
    /// Of these, those that are not known to be unhealthy.
    pub still_serving: u32,
}

impl GroupHealth {
    /// Counts; `zone` is where the balancer stands.
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

    /// Whether health is to be ignored, as the group wants it when too few serve. Where all of them
    /// drain, those are who is left, and who keeps clients: that none is registered is no failure.
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
