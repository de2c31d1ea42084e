//! Tokens that are sealed and opened with the key of a running balancer.

use super::World;
use stayput::testing::base::clock::Moment;
use stayput::testing::policy::affinity::token::{Contents, GroupKey, Kind, Pin, Seed, TargetKey};

/// Now, in seconds since 1970.
pub fn now() -> u64 {
    Moment::now().unix_seconds()
}

/// A token with one pin: of a group to a target, or of a rule to a group.
pub fn minted(world: &World, kind: Kind, group: &str, target: &str, issued_at: u64) -> String {
    minted_for(world, kind, group, target, issued_at, Seed(1))
}

/// A token with one pin, for the client with this seed.
pub fn minted_for(
    world: &World,
    kind: Kind,
    group: &str,
    target: &str,
    issued_at: u64,
    client: Seed,
) -> String {
    let pin = Pin {
        group: GroupKey::of(group),
        target: TargetKey::of(group, target),
        issued_at: u32::try_from(issued_at).unwrap(),
    };
    let keyring = &world.server().published().current().keyring;
    keyring.seal(kind, &Contents::new(client, pin)).as_str().to_owned()
}

/// The contents of a token; panics if it does not open.
pub fn opened(world: &World, kind: Kind, text: &str) -> Contents {
    world.server().published().current().keyring.open(kind, text.as_bytes()).unwrap().contents
}

/// The target (or group) to which a token pins this group (or rule), from the given ids.
pub fn pinned<'t>(
    world: &World,
    kind: Kind,
    text: &str,
    group: &str,
    targets: &[&'t str],
) -> Option<&'t str> {
    let pin = opened(world, kind, text).pin(GroupKey::of(group))?;
    targets.iter().copied().find(|target| TargetKey::of(group, target) == pin.target)
}
