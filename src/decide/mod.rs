//! Layer 5: the decision to which target a request goes, and its reason.
//!
//! [`decide`] is a pure function of a request, a [`Snapshot`], the [`Live`] state of its targets,
//! the time, and a [`Draw`]. The proxy calls it, and so do `explain`, the tests and the simulation,
//! so the explanation cannot differ from the traffic. It allocates nothing.

pub(crate) mod candidates;
pub(crate) mod cookie_update;
mod elsewhere;
pub(crate) mod explanation;
pub(crate) mod group_choice;
pub(crate) mod group_health;
mod hold;
pub(crate) mod tunnel;
pub(crate) mod verdict;

use crate::base::random::Random;
use crate::config::settings::FixedResponse;
use crate::http1::name::Name;
use crate::model::affinity::{Affinity, Cookie};
use crate::model::forward::{Forward, GroupShare};
use crate::model::live::Availability;
use crate::model::snapshot::{Action, Group, Snapshot, Target};
use crate::policy::affinity::claim::{self, Claim, Opener, PinState};
use crate::policy::affinity::token::{Defect, GroupKey, Kind, MAX_PINS, Opened, Pin, Seed};
use crate::policy::affinity::{cookie, route};
use crate::policy::balance::round::Sequence;
use crate::policy::balance::weight_fraction::WeightFraction;
use crate::policy::routing::conditions::Subject;
use crate::policy::routing::redirect::Redirect;
use candidates::{Candidates, Tried};
pub(crate) use elsewhere::{has_another, may_go_home, once_there_is_a_place, ranking_seed};
pub use elsewhere::{next_after_failure, successor};
use group_choice::GroupChoice;
use hold::{Obstacle, at_home, hold, obstacle};
use verdict::Verdict;

/// The state of targets that the decision reads besides the snapshot. Each is read once per target.
pub trait Live {
    /// Health and drain of the target.
    fn availability(&self, target: &Target) -> Availability;
    /// True if it has `cap` requests in flight.
    fn at_cap(&self, target: &Target, cap: u32) -> bool;
    /// True if a dial of traffic to it failed within the last second. Read for a recovering target,
    /// whose pinned clients then spill at once.
    fn refused_lately(&self, target: &Target) -> bool;
    /// True if health is ignored because too few targets of the group are healthy.
    fn fails_open(&self, group: &Group) -> bool;
    /// Number of requests in flight. Read if the algorithm compares it.
    fn in_flight(&self, target: &Target) -> u32;
    /// Number of clients it has had. Read if the algorithm compares it.
    fn sessions(&self, target: &Target) -> u32;
    /// The fraction of its weight that it has for new clients. Read if slow start or anomaly
    /// mitigation is on.
    fn weight_fraction(&self, target: &Target) -> WeightFraction;
    /// Opens a token. The result depends on nothing else, so an implementation may cache it.
    ///
    /// # Errors
    /// As the keyring's.
    fn open(&self, snapshot: &Snapshot, kind: Kind, text: &[u8]) -> Result<Opened, Defect> {
        snapshot.keyring.open(kind, text)
    }
}

/// Opens tokens by [`Live::open`], with the lifetimes of the snapshot.
struct TokenOpener<'a, L> {
    snapshot: &'a Snapshot,
    live: &'a L,
}

impl<L: Live> Opener for TokenOpener<'_, L> {
    fn open(&self, kind: Kind, text: &[u8]) -> Result<Opened, Defect> {
        self.live.open(self.snapshot, kind, text)
    }

    fn lifetime_of(&self, kind: Kind, group: GroupKey) -> Option<u32> {
        self.snapshot.lifetime_of(kind, group)
    }
}

/// The source of turns and random numbers. Used once, and only to place a new client, so that
/// pinned clients do not disturb the order.
pub trait Draw {
    /// The group's next turn.
    fn sequence(&mut self, group: &Group) -> u64;
    /// The next turn among a rule's groups.
    fn rule_sequence(&mut self, forward: &Forward) -> Sequence;
    /// 64 random bits.
    fn random(&mut self) -> u64;
    /// 64 random bits for the choice among a rule's groups.
    fn rule_random(&mut self, _forward: &Forward) -> u64 {
        self.random()
    }
}

impl Draw for Random {
    fn sequence(&mut self, group: &Group) -> u64 {
        group.state.next_sequence()
    }

    fn rule_sequence(&mut self, forward: &Forward) -> Sequence {
        forward.state.next_sequence()
    }

    fn random(&mut self) -> u64 {
        self.bits()
    }
}

/// The pin that a newly placed request may leave with. A turn is only for requests that leave with
/// a pin: if others took turns, the order would fall into step with the clients' own, and all
/// clients that ask twice before they are pinned would end on one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// A pin, or the group has no stickiness: the request takes a turn.
    Pin,
    /// A pin if the application makes one, as in the first half of a login: the algorithm decides
    /// without a turn.
    PerhapsNone,
    /// None. A browser drops the cookies of a response to a CORS preflight (Fetch, section 3.2.2:
    /// it is made without credentials): a random number decides, by weight.
    Nothing,
}

/// The parts of a request that the decision reads.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// The index of the listener.
    pub listener: usize,
    /// The parts that conditions, cookies and keys are read from.
    pub subject: Subject<'r>,
}

impl Request<'_> {
    /// True for a CORS preflight (Fetch, "CORS-preflight request").
    pub fn is_preflight(&self) -> bool {
        let Subject { method, headers, .. } = self.subject;
        method == "OPTIONS"
            && headers.has(Name::Origin)
            && headers.has(Name::AccessControlRequestMethod)
    }
}

/// The result of [`decide`].
#[derive(Debug)]
pub struct Decision<'s> {
    /// The index of the matching rule; `None` is the listener's default.
    pub rule: Option<usize>,
    /// The choice among the rule's groups; `None` if the rule has one group and no group
    /// stickiness, or if all weights are 0 and the client has no pin.
    pub group: Option<GroupChoice>,
    /// The action to take.
    pub outcome: Outcome<'s>,
}

/// The action to take with a request.
// Boxing the placement would be the decision's one allocation.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub enum Outcome<'s> {
    /// The balancer answers.
    Respond(&'s FixedResponse),
    /// The balancer answers with a redirect.
    Redirect(&'s Redirect),
    /// No rule matched, and the listener has no default: 404.
    NoRule,
    /// All groups of the rule have weight 0, and the client has no pin: 503.
    NoShare,
    /// It goes to a target of a group, or is refused for lack of one.
    Forward(Placement),
}

/// The placement of a request in a group.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The index of the group.
    pub group: usize,
    /// The verdict on the pin.
    pub verdict: Verdict,
    /// The index of the target; `None` when the verdict is a refusal.
    pub target: Option<usize>,
    /// The index of the pinned target, if it is still in the group.
    pub pinned: Option<usize>,
    /// True if only its cap keeps the request from the client's own target, where it may wait.
    pub only_capped: bool,
    /// The claim of the client's cookies.
    pub claim: Claim,
    /// The pin it may leave with, if it is placed newly.
    pub keeps: Keeps,
    /// The seed that placed a client without one; its cookies are made with it.
    pub seed: Option<Seed>,
}

impl Placement {
    /// A placement that is not filled in yet.
    fn none(group: usize) -> Self {
        Self {
            group,
            verdict: Verdict::Off,
            target: None,
            pinned: None,
            only_capped: false,
            claim: Claim::None,
            keeps: Keeps::Pin,
            seed: None,
        }
    }
}

/// Decides where a request goes. `now` is in seconds since the Unix epoch.
pub fn decide<'s>(
    request: &Request<'_>,
    snapshot: &'s Snapshot,
    live: &impl Live,
    now: u64,
    draw: &mut impl Draw,
) -> Decision<'s> {
    let (rule, action) = route(request, snapshot);
    // Filled in place: a placement and a choice hold the whole contents of the client's token.
    let mut decision = Decision { rule, group: None, outcome: Outcome::NoRule };
    match action {
        None => {}
        Some(Action::Respond(response)) => decision.outcome = Outcome::Respond(response),
        Some(Action::Redirect(redirect)) => decision.outcome = Outcome::Redirect(redirect),
        Some(Action::Forward(forward)) => {
            let group = match (&forward.sticky, &*forward.shares) {
                (None, [only @ GroupShare { weight: 1.., .. }]) => Some(only.group),
                _ => {
                    decision.group =
                        group_choice::choose(forward, request, snapshot, live, now, draw);
                    let chosen = decision.group.as_ref();
                    chosen.map(|chosen| forward.shares[chosen.share].group)
                }
            };
            decision.outcome = Outcome::NoShare;
            if let Some(group) = group {
                decision.outcome = Outcome::Forward(Placement::none(group));
            }
            if let Outcome::Forward(placement) = &mut decision.outcome {
                place_into(placement, request, snapshot, live, now, draw);
            }
        }
    }
    decision
}

/// The first matching rule, and its action.
fn route<'s>(request: &Request<'_>, snapshot: &'s Snapshot) -> (Option<usize>, Option<&'s Action>) {
    let listener = &snapshot.listeners[request.listener];
    for at in listener.rules.rules_for(request.subject.host) {
        let rule = &snapshot.rules[at];
        if rule.settings.conditions.unmet(&request.subject).is_none() {
            return (Some(at), Some(&rule.action));
        }
    }
    (None, listener.default.as_ref())
}

/// All `Cookie` lines of a request, as bytes.
fn cookie_lines<'r>(request: &Request<'r>) -> impl Iterator<Item = &'r [u8]> {
    request.subject.headers.all(Name::Cookie)
}

/// Reads the claim of the request's cookies to a group with this cookie.
fn read_claim(
    claim: &mut Claim,
    request: &Request<'_>,
    opener: &impl Opener,
    group: &Group,
    cookie: &Cookie,
    now: u64,
) {
    let names = claim::CookieNames { main: &cookie.name, twin: cookie.twin.as_deref() };
    let lifetime = cookie.lifetime.seconds();
    let lines = cookie_lines(request);
    claim::find_into(claim, lines, names, opener, cookie.kind, group.key, lifetime, now);
}

/// The placement of a request in a group.
fn place(
    request: &Request<'_>,
    snapshot: &Snapshot,
    group: usize,
    live: &impl Live,
    now: u64,
    draw: &mut impl Draw,
) -> Placement {
    let mut placement = Placement::none(group);
    place_into(&mut placement, request, snapshot, live, now, draw);
    placement
}

/// The decision table: the first row that applies decides. Only `group` of the placement is set
/// before.
fn place_into(
    placement: &mut Placement,
    request: &Request<'_>,
    snapshot: &Snapshot,
    live: &impl Live,
    now: u64,
    draw: &mut impl Draw,
) {
    let group = &snapshot.groups[placement.group];
    let tried = Tried::EMPTY;
    let candidates = Candidates::new(snapshot, group, live, &tried);
    let keeps = if request.is_preflight() { Keeps::Nothing } else { Keeps::Pin };
    let mut placer = Placer { candidates, group, live, draw, keeps, seed: None };
    let mut key = None;
    let (pinned, (target, verdict)) = match &group.affinity {
        None => (None, placer.by_algorithm(Verdict::Off)),
        Some(Affinity::Cookie(cookie)) => {
            let claim = &mut placement.claim;
            read_claim(claim, request, &TokenOpener { snapshot, live }, group, cookie, now);
            placer.by_token(request, cookie, claim)
        }
        Some(Affinity::Route { cookie, separator }) => {
            placer.by_route(request, cookie, separator, &mut key)
        }
        Some(Affinity::Header(name)) => {
            placer.by_value(request.subject.headers.get_named(name.as_str()), &mut key)
        }
    };
    if let Some(seed) = key {
        placement.claim = Claim::Key(seed);
    }
    let only_capped = matches!(verdict, Verdict::Spilled | Verdict::StrictRefused)
        && pinned.is_some_and(|at| {
            let own = &group.targets[at];
            obstacle(&placer.candidates, live, own) == Some(Obstacle::Capped)
        });
    let verdict = match target {
        None if !verdict.is_refusal() => Verdict::NoTarget,
        _ => verdict,
    };
    (placement.keeps, placement.seed) = (placer.keeps, placer.seed);
    (placement.verdict, placement.target) = (verdict, target);
    (placement.pinned, placement.only_capped) = (pinned, only_capped);
}

/// The state for placing one client in one group.
struct Placer<'s, 'd, L, D> {
    candidates: Candidates<'s, L>,
    group: &'s Group,
    live: &'s L,
    draw: &'d mut D,
    keeps: Keeps,
    seed: Option<Seed>,
}

/// The index of a target, and the verdict.
type Placed = (Option<usize>, Verdict);

impl<L: Live, D: Draw> Placer<'_, '_, L, D> {
    fn by_algorithm(&mut self, verdict: Verdict) -> Placed {
        if !self.group.is_crowded {
            return (self.candidates.by_algorithm(self.keeps, self.draw), verdict);
        }
        // The pin of this client may be pushed out of a full token, and its seed then chooses the
        // target again: so the seed chooses from the start.
        let seed = *self.seed.get_or_insert_with(|| Seed(self.draw.random()));
        self.by_seed(seed, verdict)
    }

    /// Places a request whose response may bring no pin.
    fn in_passing(&mut self, verdict: Verdict) -> Placed {
        if self.keeps == Keeps::Pin {
            self.keeps = Keeps::PerhapsNone;
        }
        self.by_algorithm(verdict)
    }

    fn by_seed(&self, seed: Seed, verdict: Verdict) -> Placed {
        (self.candidates.ranked(seed, None), verdict)
    }

    /// Places by a token; the first of the pair is the target it names.
    fn by_token(
        &mut self,
        request: &Request<'_>,
        cookie: &Cookie,
        claim: &Claim,
    ) -> (Option<usize>, Placed) {
        let app_cookie = cookie.app_cookie.as_ref();
        if app_cookie.is_some_and(|app| !brings(request, &app.name)) {
            return (None, self.in_passing(Verdict::AppCookieAbsent));
        }
        let new = match app_cookie {
            Some(app) if app.adopt => Verdict::Adopted,
            Some(_) => {
                // Only the application decides whether there will be a pin.
                if self.keeps == Keeps::Pin {
                    self.keeps = Keeps::PerhapsNone;
                }
                Verdict::New
            }
            None => Verdict::New,
        };
        let placed = match claim {
            Claim::None | Claim::Key(_) => self.by_algorithm(new),
            Claim::Unusable(Defect::Malformed) => self.by_algorithm(Verdict::Malformed),
            Claim::Unusable(Defect::Forged) => self.by_algorithm(Verdict::Forged),
            Claim::Unusable(Defect::UnknownKey) => self.by_algorithm(Verdict::UnknownKey),
            Claim::Opened { contents, pin, .. } => match pin {
                PinState::Absent if contents.pins().len() == MAX_PINS => {
                    self.by_seed(contents.seed(), Verdict::Evicted)
                }
                PinState::Absent => self.by_seed(contents.seed(), Verdict::New),
                PinState::Expired if self.group.is_crowded => {
                    self.by_seed(contents.seed(), Verdict::Expired)
                }
                PinState::Expired => self.by_algorithm(Verdict::Expired),
                PinState::Held(pin) => {
                    let pinned = self.group.target_of(pin.target);
                    let placed = self.hold(contents.seed(), pinned);
                    return (pinned, self.at_address(placed, *pin));
                }
            },
        };
        (None, placed)
    }

    /// Places by the application's route; the first of the pair is the target it names, and `key`
    /// becomes the seed of the session.
    fn by_route(
        &mut self,
        request: &Request<'_>,
        cookie: &str,
        separator: &str,
        key: &mut Option<Seed>,
    ) -> (Option<usize>, Placed) {
        let mut first = None;
        for session in
            route::sessions(cookie_lines(request), request.subject.path, cookie, separator)
        {
            let target = session.route.and_then(|route| self.group.target_of_route(route));
            if target.is_some() {
                let seed = *key.insert(session.seed());
                return (target, self.hold(seed, target));
            }
            first.get_or_insert(session);
        }
        match first {
            None => (None, self.by_algorithm(Verdict::KeyAbsent)),
            Some(session) => {
                let seed = *key.insert(session.seed());
                (None, self.by_seed(seed, Verdict::New))
            }
        }
    }

    /// Places by a value: the first target of its ranking, in any state, is the client's own. `key`
    /// becomes the seed of the value.
    fn by_value(
        &mut self,
        value: Option<&[u8]>,
        key: &mut Option<Seed>,
    ) -> (Option<usize>, Placed) {
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            return (None, self.by_algorithm(Verdict::KeyAbsent));
        };
        let seed = *key.insert(Seed::of_value(value));
        let Some(preferred) = self.candidates.preferred(seed) else {
            return (None, (None, Verdict::NoTarget));
        };
        (Some(preferred), self.hold(seed, Some(preferred)))
    }

    fn at_address(&self, placed: Placed, pin: Pin) -> Placed {
        match placed {
            (Some(at), Verdict::Hit) => (Some(at), at_home(&self.group.targets[at], Some(pin))),
            placed => placed,
        }
    }

    /// Rows 7 to 12: the placement by a valid pin.
    fn hold(&self, seed: Seed, pinned: Option<usize>) -> Placed {
        hold(&self.candidates, self.group, self.live, seed, pinned)
    }
}

/// True if the request has a cookie of this name, with any value.
fn brings(request: &Request<'_>, name: &str) -> bool {
    cookie::values(cookie_lines(request), name).next().is_some()
}
