//! Layer 4, the heart: where a request goes, and why.
//!
//! [`decide`] is a pure function of a request, a [`Snapshot`], what is [`Live`] about its targets,
//! the moment, and a [`Draw`]. The proxy calls it; so do `explain`, the tests and the simulation:
//! what the operator is told cannot differ from what happens. It allocates nothing.

pub mod candidates;
pub mod explanation;
pub mod renewal;
pub mod standing;
pub mod verdict;

use crate::config::settings::{DrainingPins, FixedResponse};
use crate::model::live::{Availability, Drain, Health};
use crate::model::snapshot::{Action, Group, Snapshot, Target};
use crate::policy::affinity::OnUnavailable;
use crate::policy::affinity::claim::{self, Claim, PinState};
use crate::policy::affinity::token::{Contents, Defect, Kind, Seed};
use crate::policy::balance::share::Share;
use candidates::{Candidates, Tier, Tried};
use http::HeaderMap;
use http::header::COOKIE;
use verdict::Verdict;

/// What the decision asks about targets, besides the snapshot. Read once per target looked at.
pub trait Live {
    /// Whether the target serves, drains, or is not known yet.
    fn availability(&self, target: &Target) -> Availability;
    /// Whether it has `cap` requests in flight.
    fn at_cap(&self, target: &Target, cap: u32) -> bool;
    /// Whether too few targets of the group are healthy.
    fn fails_open(&self, group: &Group) -> bool;
    /// How many requests it has in flight. Asked where the algorithm compares them.
    fn in_flight(&self, target: &Target) -> u32;
    /// How many clients it has seen. Asked where the algorithm compares them.
    fn sessions(&self, target: &Target) -> u32;
    /// How much of its weight it has for newcomers. Asked where that changes.
    fn share(&self, target: &Target) -> Share;
}

/// Where turns and random numbers come from. Asked once, and only when a newcomer is placed, so that
/// pinned clients do not disturb the order.
pub trait Draw {
    /// The group's next turn.
    fn turn(&mut self, group: &Group) -> u64;
    /// 64 random bits.
    fn random(&mut self) -> u64;
}

/// What the decision looks at in a request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// The index of the listener it came by.
    pub listener: usize,
    /// Host, without the port.
    pub host: &'r str,
    /// Path, without the query.
    pub path: &'r str,
    /// All fields, for cookies.
    pub headers: &'r HeaderMap,
}

/// Where a request goes, and why.
#[derive(Debug)]
pub struct Decision<'s> {
    /// The index of the rule that took it; `None` is the listener's default.
    pub rule: Option<usize>,
    /// What is done.
    pub outcome: Outcome<'s>,
}

/// What is done with a request.
// Boxing the placement would be the decision's one allocation.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub enum Outcome<'s> {
    /// It is answered here.
    Respond(&'s FixedResponse),
    /// No rule took it and the listener has no default: 404.
    NoRule,
    /// It goes to a target of a group, or is refused for want of one.
    Forward(Placement),
}

/// A request's place in a group.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The index of the group.
    pub group: usize,
    /// What became of the pin.
    pub verdict: Verdict,
    /// The index of the target; `None` when the verdict is a refusal.
    pub target: Option<usize>,
    /// The index of the target the client was pinned to, if it is still in the group.
    pub pinned: Option<usize>,
    /// What the client's cookies said.
    pub claim: Claim,
}

/// Decides. `now` is in seconds since the Unix epoch.
pub fn decide<'s>(
    request: &Request<'_>,
    snapshot: &'s Snapshot,
    live: &impl Live,
    now: u64,
    draw: &mut impl Draw,
) -> Decision<'s> {
    let (rule, action) = route(request, snapshot);
    let outcome = match action {
        None => Outcome::NoRule,
        Some(Action::Respond(response)) => Outcome::Respond(response),
        Some(&Action::Forward(group)) => {
            let claim = claim_of(request, snapshot, group, now);
            Outcome::Forward(place(snapshot, group, claim, live, draw))
        }
    };
    Decision { rule, outcome }
}

/// The first rule that matches, and what is done.
fn route<'s>(request: &Request<'_>, snapshot: &'s Snapshot) -> (Option<usize>, Option<&'s Action>) {
    let listener = &snapshot.listeners[request.listener];
    for at in listener.rules.rules_for(request.host) {
        if rule_matches(&snapshot.rules[at].settings, request) {
            return (Some(at), Some(&snapshot.rules[at].action));
        }
    }
    (None, listener.default.as_ref())
}

/// Whether all conditions of a rule hold.
pub fn rule_matches(rule: &crate::config::settings::Rule, request: &Request<'_>) -> bool {
    let any = |patterns: &[crate::policy::routing::pattern::Pattern], subject: &str| {
        patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(subject))
    };
    any(&rule.hosts, request.host) && any(&rule.paths, request.path)
}

/// What the request's cookies say to this group; `None` where it has no stickiness.
fn claim_of(request: &Request<'_>, snapshot: &Snapshot, group: usize, now: u64) -> Claim {
    let group = &snapshot.groups[group];
    let (Some(cookie), Some(stickiness)) = (&group.cookie, &group.settings.stickiness) else {
        return Claim::None;
    };
    let names = claim::Names { main: &cookie.name, twin: Some(&cookie.twin) };
    claim::find(
        request.headers.get_all(COOKIE).iter().map(|line| line.as_bytes()),
        names,
        &snapshot.keyring,
        Kind::Lb,
        group.key,
        stickiness.lifetime.seconds(),
        now,
    )
}

/// The decision table: the first row that applies decides.
fn place(
    snapshot: &Snapshot,
    group: usize,
    claim: Claim,
    live: &impl Live,
    draw: &mut impl Draw,
) -> Placement {
    let index = group;
    let group = &snapshot.groups[index];
    let tried = Tried::NOBODY;
    let candidates = Candidates::new(snapshot, group, live, &tried);
    let sticky = group.settings.stickiness.is_some();
    let mut pinned = None;
    let (target, verdict) = match &claim {
        _ if !sticky => (candidates.by_algorithm(draw), Verdict::Off),
        Claim::None => (candidates.by_algorithm(draw), Verdict::New),
        Claim::Unusable(defect) => {
            let verdict = match defect {
                Defect::Malformed => Verdict::Malformed,
                Defect::Forged => Verdict::Forged,
                Defect::UnknownKey => Verdict::UnknownKey,
            };
            (candidates.by_algorithm(draw), verdict)
        }
        Claim::Opened { contents, pin, .. } => match pin {
            PinState::Absent => (candidates.ranked(contents.seed(), None), Verdict::New),
            PinState::Expired => (candidates.by_algorithm(draw), Verdict::Expired),
            PinState::Held(pin) => {
                pinned = group.target_of(pin.target);
                hold(&candidates, group, live, contents, pinned)
            }
        },
    };
    let verdict = match target {
        None if !verdict.is_refusal() => Verdict::NoTarget,
        _ => verdict,
    };
    Placement { group: index, verdict, target, pinned, claim }
}

/// Rows 7 to 12: what becomes of a good pin.
fn hold(
    candidates: &Candidates<'_, impl Live>,
    group: &Group,
    live: &impl Live,
    contents: &Contents,
    pinned: Option<usize>,
) -> (Option<usize>, Verdict) {
    let successor = |verdict| (candidates.ranked(contents.seed(), pinned), verdict);
    let for_now = |verdict| match is_strict(group) {
        true => (None, Verdict::StrictRefused),
        false => successor(verdict),
    };
    let Some(at) = pinned else {
        // A target whose name has not been answered for yet is not known to be gone.
        return match group.awaits_names {
            true => for_now(Verdict::Spilled),
            false => successor(Verdict::MovedRemoved),
        };
    };
    let target = &group.targets[at];
    let availability = live.availability(target);
    let leaves = match availability.drain {
        Drain::No => false,
        Drain::Over => true,
        // Where nobody but draining targets is left, moving would lose the session for nothing.
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
    let unavailable = match availability.health {
        // Nothing is known of it, and a silent resolver is no reason to move anyone for good.
        _ if target.address.is_none() => Some(Verdict::Spilled),
        Health::Unhealthy if !candidates.fails_open() => Some(Verdict::MovedUnhealthy),
        _ if candidates.at_cap(target) => Some(Verdict::Spilled),
        _ => None,
    };
    match unavailable {
        None => (Some(at), Verdict::Hit),
        Some(verdict) => for_now(verdict),
    }
}

/// Where a request goes whose target could not be connected to: the next in the successor ranking,
/// or in the algorithm's order for a newcomer. `tried` holds every target that failed.
///
/// A pinned client is `spilled`: its pin stays, one bad moment moves nobody for good. A client that
/// was being placed anyway keeps its verdict, and its pin will name whoever answers.
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
    let pinned_client = matches!(placement.verdict, Verdict::Hit | Verdict::Spilled);
    let (target, verdict) = match seed {
        _ if pinned_client && is_strict(group) => (None, Verdict::StrictRefused),
        Some(seed) => (
            candidates.ranked(seed, placement.pinned),
            if pinned_client { Verdict::Spilled } else { placement.verdict },
        ),
        None => (candidates.by_algorithm(draw), placement.verdict),
    };
    let verdict = match target {
        None if !verdict.is_refusal() => Verdict::NoTarget,
        _ => verdict,
    };
    Placement { target, verdict, ..placement.clone() }
}

/// The seed whose ranking places this client; `None` where the algorithm does.
pub fn ranking_seed(placement: &Placement) -> Option<Seed> {
    match &placement.claim {
        Claim::Opened { contents, pin: PinState::Absent | PinState::Held(_), .. } => {
            Some(contents.seed())
        }
        _ => None,
    }
}

fn is_strict(group: &Group) -> bool {
    let stickiness = group.settings.stickiness.as_ref();
    stickiness.is_some_and(|stickiness| stickiness.on_unavailable == OnUnavailable::Strict)
}
