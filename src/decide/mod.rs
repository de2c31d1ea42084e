//! Layer 4, the heart: where a request goes, and why.
//!
//! [`decide`] is a pure function of a request, a [`Snapshot`], what is [`Live`] about its targets,
//! the moment, and a [`Draw`]. The proxy calls it; so do `explain`, the tests and the simulation:
//! what the operator is told cannot differ from what happens. It allocates nothing.

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
use crate::http1::fields::Fields;
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
use std::net::IpAddr;
use verdict::Verdict;

/// What the decision asks about targets, besides the snapshot. Read once per target looked at.
pub trait Live {
    /// Whether the target serves, drains, or is not known yet.
    fn availability(&self, target: &Target) -> Availability;
    /// Whether it has `cap` requests in flight.
    fn at_cap(&self, target: &Target, cap: u32) -> bool;
    /// Whether a dial of traffic to it failed within the last second. Asked of a target that
    /// recovers, whose pinned clients then spill at once.
    fn refused_lately(&self, target: &Target) -> bool;
    /// Whether too few targets of the group are healthy.
    fn fails_open(&self, group: &Group) -> bool;
    /// How many requests it has in flight. Asked where the algorithm compares them.
    fn in_flight(&self, target: &Target) -> u32;
    /// How many clients it has seen. Asked where the algorithm compares them.
    fn sessions(&self, target: &Target) -> u32;
    /// How much of its weight it has for newcomers. Asked where that changes.
    fn weight_fraction(&self, target: &Target) -> WeightFraction;
    /// Opens a token. That is pure, so that one which was opened a moment ago may be remembered.
    ///
    /// # Errors
    /// As the keyring's.
    fn open(&self, snapshot: &Snapshot, kind: Kind, text: &[u8]) -> Result<Opened, Defect> {
        snapshot.keyring.open(kind, text)
    }
}

/// Opens tokens as what is asked about targets does.
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

/// Where turns and random numbers come from. Asked once, and only when a newcomer is placed, so that
/// pinned clients do not disturb the order.
pub trait Draw {
    /// The group's next turn.
    fn sequence(&mut self, group: &Group) -> u64;
    /// The next turn among a rule's groups.
    fn rule_sequence(&mut self, forward: &Forward) -> Sequence;
    /// 64 random bits.
    fn random(&mut self) -> u64;
    /// 64 random bits to choose among a rule's groups by.
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

/// What a request that is placed anew may leave with. Turns are for those that leave with a pin: one
/// taken by any other request makes the order fall into step with the clients' own, so that all who
/// ask twice before they are pinned end on one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// A pin, or it is of a group that keeps nobody: its turn is taken.
    Pin,
    /// A pin if the application makes one, as with the first half of a login: the algorithm decides
    /// without a turn.
    PerhapsNone,
    /// None. A browser drops the cookies of an answer to a CORS preflight (Fetch, section 3.2.2: it
    /// is made without credentials): chance decides, by weight.
    Nothing,
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
    /// What stands behind the first `?`, as sent; empty where there is none.
    pub query: &'r str,
    /// The method, as sent.
    pub method: &'r str,
    /// All fields, for cookies and conditions.
    pub headers: &'r Fields,
    /// The client's address, as `trusted_proxies` make it.
    pub address: IpAddr,
}

impl<'r> Request<'r> {
    /// Whether it only asks whether another may be made (Fetch, "CORS-preflight request").
    pub fn is_preflight(&self) -> bool {
        self.method == "OPTIONS"
            && self.headers.has(Name::Origin)
            && self.headers.has(Name::AccessControlRequestMethod)
    }

    /// What a rule's conditions look at.
    pub fn subject(&self) -> Subject<'r> {
        let Self { host, path, query, method, headers, address, .. } = *self;
        Subject { host, path, query, method, headers, address }
    }
}

/// Where a request goes, and why.
#[derive(Debug)]
pub struct Decision<'s> {
    /// The index of the rule that took it; `None` is the listener's default.
    pub rule: Option<usize>,
    /// Which of the rule's groups was chosen, and why; `None` where there is no choice.
    pub group: Option<GroupChoice>,
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
    /// The client is sent elsewhere.
    Redirect(&'s Redirect),
    /// No rule took it and the listener has no default: 404.
    NoRule,
    /// All groups of the rule have weight 0, and the client has no pin: 503.
    NoShare,
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
    /// Whether only its cap keeps the request from the client's own target, where it may wait.
    pub only_capped: bool,
    /// What the client's cookies said.
    pub claim: Claim,
    /// What it may leave with, where it is placed anew.
    pub keeps: Keeps,
    /// The seed a client without one was placed by: its cookies are made with it.
    pub seed: Option<Seed>,
}

impl Placement {
    /// Of a request that was not looked at.
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

/// Decides. `now` is in seconds since the Unix epoch.
pub fn decide<'s>(
    request: &Request<'_>,
    snapshot: &'s Snapshot,
    live: &impl Live,
    now: u64,
    draw: &mut impl Draw,
) -> Decision<'s> {
    let (rule, action) = route(request, snapshot);
    // Filled in place: a placement and a choice hold all that the client's token does.
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

/// The first rule that matches, and what is done.
fn route<'s>(request: &Request<'_>, snapshot: &'s Snapshot) -> (Option<usize>, Option<&'s Action>) {
    let listener = &snapshot.listeners[request.listener];
    let subject = request.subject();
    for at in listener.rules.rules_for(request.host) {
        let rule = &snapshot.rules[at];
        if rule.settings.conditions.unmet(&subject).is_none() {
            return (Some(at), Some(&rule.action));
        }
    }
    (None, listener.default.as_ref())
}

/// All `Cookie` lines of a request, as bytes.
fn cookie_lines<'r>(request: &Request<'r>) -> impl Iterator<Item = &'r [u8]> {
    request.headers.all(Name::Cookie)
}

/// Reads what the request's cookies say to a group that writes this one.
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

/// The place of a request in a group.
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

/// The decision table: the first row that applies decides. Of the placement only the group is set
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
            placer.by_value(request.headers.get_named(name.as_str()), &mut key)
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

/// One client being placed in one group.
struct Placer<'s, 'd, L, D> {
    candidates: Candidates<'s, L>,
    group: &'s Group,
    live: &'s L,
    draw: &'d mut D,
    keeps: Keeps,
    seed: Option<Seed>,
}

/// The index of a target, and why it.
type Placed = (Option<usize>, Verdict);

impl<L: Live, D: Draw> Placer<'_, '_, L, D> {
    fn by_algorithm(&mut self, verdict: Verdict) -> Placed {
        if !self.group.is_crowded {
            return (self.candidates.by_algorithm(self.keeps, self.draw), verdict);
        }
        // Its pin may be pushed out, and is then made again where the seed says: so it is from the
        // first.
        let seed = *self.seed.get_or_insert_with(|| Seed(self.draw.random()));
        self.by_seed(seed, verdict)
    }

    /// The same for a request whose answer may bring no pin.
    fn in_passing(&mut self, verdict: Verdict) -> Placed {
        if self.keeps == Keeps::Pin {
            self.keeps = Keeps::PerhapsNone;
        }
        self.by_algorithm(verdict)
    }

    fn by_seed(&self, seed: Seed, verdict: Verdict) -> Placed {
        (self.candidates.ranked(seed, None), verdict)
    }

    /// Where a token says, and the target it names.
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
                // Whether there will be a pin is for the application to say.
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

    /// Where the application's route says, the target it names, and `key`: the seed of the session.
    fn by_route(
        &mut self,
        request: &Request<'_>,
        cookie: &str,
        separator: &str,
        key: &mut Option<Seed>,
    ) -> (Option<usize>, Placed) {
        let mut first = None;
        for session in route::sessions(cookie_lines(request), request.path, cookie, separator) {
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

    /// Where the first of a value's ranking is, whatever its state: the client's own target.
    /// `key` is the value's seed.
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

    /// Rows 7 to 12: what becomes of a good pin.
    fn hold(&self, seed: Seed, pinned: Option<usize>) -> Placed {
        hold(&self.candidates, self.group, self.live, seed, pinned)
    }
}

/// Whether the request brings a cookie of this name, with whatever value.
fn brings(request: &Request<'_>, name: &str) -> bool {
    cookie::values(cookie_lines(request), name).next().is_some()
}
