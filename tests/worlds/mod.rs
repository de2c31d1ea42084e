//! Random worlds: configurations with groups and targets, and states of these. One number makes one
//! world, so that a failure is replayed by the number it prints.

// Several test programs share this file, and none uses all of it.
#![allow(dead_code)]
#![allow(clippy::unwrap_used)]

use stayput::config;
use stayput::testing::decide::{Draw, Live, Request};
use stayput::testing::http1::fields::Fields;
use stayput::testing::model::forward::Forward;
use stayput::testing::model::live::{Availability, Drain, Health};
use stayput::testing::model::snapshot::{Group, Resolutions, Snapshot, Target};
use stayput::testing::model::target_registry::TargetRegistry;
use stayput::testing::policy::affinity::keys::{Key, Keyring};
use stayput::testing::policy::affinity::token::TargetKey;
use stayput::testing::policy::balance::round::Sequence;
use stayput::testing::policy::balance::weight_fraction::WeightFraction;
use stayput::testing::policy::health::progress;
use stayput::testing::policy::routing::conditions::Subject;
use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

/// SplitMix64: the same numbers from the same seed, on every machine.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut value = self.0;
        value = (value ^ value >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        value = (value ^ value >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ value >> 31
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at as u64 + 1) as usize);
        }
    }
}

/// A configuration, and the state of its targets.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) groups: Vec<GroupPlan>,
    /// Rules with several groups and their weights.
    pub(crate) weighted: Vec<WeightedPlan>,
    pub(crate) has_default: bool,
}

/// A rule under `/wN/` with several groups.
#[derive(Clone)]
pub(crate) struct WeightedPlan {
    pub(crate) weights: Vec<(String, u64)>,
    pub(crate) sticky: bool,
    pub(crate) failover: bool,
}

/// The part of a request by which the group recognizes its client.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carried {
    LbCookie,
    AppCookie { adopt: bool },
    Route,
    Header,
}

#[derive(Clone)]
pub(crate) struct GroupPlan {
    pub(crate) name: String,
    pub(crate) settings: Vec<(&'static str, String)>,
    pub(crate) sticky: bool,
    pub(crate) carried: Carried,
    pub(crate) strict: bool,
    pub(crate) cap: Option<u32>,
    pub(crate) targets: Vec<TargetPlan>,
}

#[derive(Clone)]
pub(crate) struct TargetPlan {
    pub(crate) id: String,
    pub(crate) weight: u64,
    pub(crate) zone: Option<char>,
    pub(crate) state: State,
}

/// The effect of traffic and checks on a target.
#[derive(Clone, Copy)]
pub(crate) struct State {
    pub(crate) availability: Availability,
    pub(crate) is_full: bool,
    pub(crate) refused_lately: bool,
}

impl State {
    pub(crate) const FINE: Self = Self {
        availability: Availability { health: Health::Healthy, drain: Drain::No, recovering: false },
        is_full: false,
        refused_lately: false,
    };

    fn random(numbers: &mut Numbers, unhealthy: u64, recovers: bool) -> Self {
        let health = match numbers.below(100) {
            roll if roll < unhealthy => Health::Unhealthy,
            roll if roll < unhealthy + 10 => Health::Initial,
            roll if roll < unhealthy + 25 => Health::Suspect,
            _ => Health::Healthy,
        };
        let drain = match numbers.below(100) {
            0..12 => Drain::Running,
            12..20 => Drain::Over,
            _ => Drain::No,
        };
        let availability =
            Availability { health, drain, recovering: recovers && numbers.chance(80) };
        Self { availability, is_full: numbers.chance(20), refused_lately: numbers.chance(30) }
    }
}

impl World {
    pub(crate) fn random(numbers: &mut Numbers) -> Self {
        let count = 1 + numbers.below(3);
        let groups: Vec<_> = (0..count).map(|at| GroupPlan::random(numbers, at)).collect();
        let has_default = numbers.chance(50);
        let weighted = (0..2).map(|_| WeightedPlan {
            weights: groups.iter().map(|group| (group.name.clone(), numbers.below(4))).collect(),
            sticky: numbers.chance(80),
            failover: numbers.chance(50),
        });
        let weighted = weighted.collect();
        Self { groups, weighted, has_default }
    }

    /// The same world with `lb_cookie` in all groups.
    pub(crate) fn of_lb_cookies(mut self) -> Self {
        self.groups.iter_mut().for_each(|group| group.carried = Carried::LbCookie);
        self
    }

    /// The configuration, with groups, targets and keys in a random order.
    pub(crate) fn text(&self, order: &mut Numbers) -> String {
        let mut groups: Vec<&GroupPlan> = self.groups.iter().collect();
        order.shuffle(&mut groups);
        let mut text = String::from("[runtime]\nzone = \"a\"\n");
        for group in &groups {
            group.write(&mut text, order);
        }
        // Rules are tried in order, so their order must not change.
        for group in &self.groups {
            let name = &group.name;
            let _ = writeln!(text, "[[rule]]\npaths = [\"/{name}/*\"]\nforward = \"{name}\"");
        }
        for (at, rule) in self.weighted.iter().enumerate() {
            let WeightedPlan { weights, sticky, failover } = rule;
            let shares =
                weights.iter().map(|(name, weight)| format!("{name} = {{ weight = {weight} }}"));
            let shares = shares.collect::<Vec<_>>().join(", ");
            let _ = writeln!(
                text,
                "[[rule]]\nname = \"w{at}\"\npaths = [\"/w{at}/*\"]\nforward = {{ {shares} }}\n\
                 group_stickiness = {{ enabled = {sticky} }}\nfailover = {failover}"
            );
        }
        let default = if self.has_default { "\"g0\"" } else { "{ respond = { status = 404 } }" };
        let _ = writeln!(text, "[listener.web]\naddress = \"127.0.0.1:80\"\ndefault = {default}");
        text
    }

    pub(crate) fn snapshot(&self, order: &mut Numbers) -> Snapshot {
        let text = self.text(order);
        let loaded = config::parse(&text, "world", Path::new(""));
        let config = loaded.unwrap_or_else(|problems| panic!("{problems}\n{text}")).config;
        let (resolutions, mut registry) = (Resolutions::new(), TargetRegistry::default());
        Snapshot::build(&config, keyring(1, 7), &resolutions, &mut registry).unwrap()
    }

    pub(crate) fn live(&self) -> Described {
        let states = self.groups.iter().flat_map(|group| {
            let state =
                |target: &TargetPlan| (TargetKey::of(&group.name, &target.id), target.state);
            group.targets.iter().map(state)
        });
        Described { states: states.collect() }
    }
}

impl GroupPlan {
    fn random(numbers: &mut Numbers, at: u64) -> Self {
        let cap = numbers.chance(60).then(|| 1 + numbers.below(3) as u32);
        let choice = |numbers: &mut Numbers, percent, yes: &str, no: &str| {
            if numbers.chance(percent) { yes.to_owned() } else { no.to_owned() }
        };
        let sticky = numbers.chance(90);
        let mut settings = vec![
            ("draining_pins", choice(numbers, 50, "\"move\"", "\"stay\"")),
            ("fail_open", choice(numbers, 40, "true", "false")),
            ("cross_zone", choice(numbers, 30, "false", "true")),
            ("max_in_flight_per_target", cap.unwrap_or(0).to_string()),
            ("minimum_healthy", format!("{{ count = {} }}", 1 + numbers.below(3))),
        ];
        settings.extend(match numbers.below(6) {
            0 => vec![("algorithm", "\"least_outstanding_requests\"".to_owned())],
            1 => vec![("algorithm", "\"weighted_random\"".to_owned())],
            2 => vec![
                ("algorithm", "\"weighted_random\"".to_owned()),
                ("anomaly_mitigation", "true".to_owned()),
            ],
            3 if sticky => vec![("algorithm", "\"least_sessions\"".to_owned())],
            4 => vec![("slow_start", "\"30s\"".to_owned())],
            _ => vec![],
        });
        // Occasionally a group in which hardly any target serves.
        let unhealthy = if numbers.chance(15) { 85 } else { 20 };
        let recovers = numbers.chance(30);
        let count = 1 + numbers.below(12);
        let targets = (0..count).map(|at| TargetPlan {
            id: format!("t{at}"),
            weight: numbers.below(6),
            zone: [None, Some('a'), Some('b'), Some('c')][numbers.below(4) as usize],
            state: State::random(numbers, unhealthy, recovers),
        });
        Self {
            name: format!("g{at}"),
            settings,
            targets: targets.collect(),
            sticky,
            carried: match numbers.below(10) {
                0..5 => Carried::LbCookie,
                5..7 => Carried::AppCookie { adopt: numbers.chance(50) },
                7 | 8 => Carried::Route,
                _ => Carried::Header,
            },
            strict: numbers.chance(30),
            cap,
        }
    }

    fn write(&self, text: &mut String, order: &mut Numbers) {
        let mut settings = self.settings.clone();
        order.shuffle(&mut settings);
        let mut targets: Vec<&TargetPlan> = self.targets.iter().collect();
        order.shuffle(&mut targets);
        let targets = targets.iter().map(|target| {
            let zone = target.zone.map_or(String::new(), |zone| format!(", zone = \"{zone}\""));
            // The port comes from the id, so that a target keeps its address in whatever order the
            // file lists the targets.
            let place = &target.id[1..];
            format!(
                "{{ id = \"{}\", address = \"10.0.0.1:1{place}\", weight = {}{zone} }}",
                target.id, target.weight
            )
        });
        let targets = targets.collect::<Vec<_>>().join(", ");
        let _ = writeln!(text, "[target_group.{}]\ntargets = [{targets}]", self.name);
        for (key, value) in settings {
            let _ = writeln!(text, "{key} = {value}");
        }
        let strict = if self.strict { "strict" } else { "move" };
        let (name, enabled) = (&self.name, self.sticky);
        let _ = writeln!(text, "[target_group.{name}.stickiness]\nenabled = {enabled}");
        let _ = writeln!(text, "on_unavailable = \"{strict}\"");
        let _ = match self.carried {
            Carried::LbCookie => Ok(()),
            Carried::AppCookie { adopt } => {
                writeln!(text, "app_cookie = {{ name = \"sid\", adopt = {adopt} }}")
            }
            Carried::Route => writeln!(text, "route = {{ cookie = \"sid\" }}"),
            Carried::Header => writeln!(text, "header = {{ name = \"x-session-id\" }}"),
        };
    }
}

/// A keyring of one key.
pub(crate) fn keyring(id: u8, byte: u8) -> Arc<Keyring> {
    let line = data_encoding::BASE64.encode(&[byte; 32]);
    Arc::new(Keyring::new(&[Key::from_base64_line(id, line.as_bytes()).unwrap()]).unwrap())
}

/// The state of a world, given instead of measured.
pub(crate) struct Described {
    states: HashMap<TargetKey, State>,
}

impl Described {
    /// The same without recently refused dials, which only a worker knows.
    pub(crate) fn without_refusals(mut self) -> Self {
        self.states.values_mut().for_each(|state| state.refused_lately = false);
        self
    }

    pub(crate) fn of(&self, target: TargetKey) -> Option<State> {
        self.states.get(&target).copied()
    }

    pub(crate) fn state(&self, target: &Target) -> State {
        self.states[&target.key]
    }
}

impl Live for Described {
    fn availability(&self, target: &Target) -> Availability {
        self.state(target).availability
    }

    fn at_cap(&self, target: &Target, _cap: u32) -> bool {
        self.state(target).is_full
    }

    fn refused_lately(&self, target: &Target) -> bool {
        self.state(target).refused_lately
    }

    // Any numbers that differ from target to target, and are the same each time.
    fn in_flight(&self, target: &Target) -> u32 {
        (target.key.0 % 5) as u32
    }

    fn sessions(&self, target: &Target) -> u32 {
        (target.key.0 % 7) as u32
    }

    fn weight_fraction(&self, target: &Target) -> WeightFraction {
        WeightFraction::of_parts((target.key.0 % 1_500) as u16)
    }

    fn fails_open(&self, group: &Group) -> bool {
        let usable = group.targets.iter().filter(|target| {
            group.settings.cross_zone
                || target.zone.as_ref().is_some_and(|zone| zone.as_str() == "a")
        });
        let states: Vec<_> = usable.map(|target| self.availability(target)).collect();
        let (mut registered, mut serving) = (0, 0);
        // If all drain, all remain usable.
        let drain = match states.iter().any(|state| state.drain == Drain::No) {
            true => Drain::No,
            false => Drain::Running,
        };
        for state in states.iter().filter(|state| state.drain == drain) {
            registered += 1;
            serving += u32::from(state.health != Health::Unhealthy);
        }
        let (wanted, minimum) = (group.settings.fail_open, group.settings.minimum_healthy);
        progress::fails_open(wanted, serving, registered, minimum.count, minimum.percent)
    }
}

/// A `GET` request for this path, for tests that call the decision without sockets.
pub(crate) fn get_request<'r>(path: &'r str, headers: &'r Fields) -> Request<'r> {
    let address = std::net::IpAddr::from([192, 0, 2, 1]);
    let subject = Subject { host: "a.example", path, query: "", method: "GET", headers, address };
    Request { listener: 0, subject }
}

/// The turn of one new client, and its random number.
pub(crate) struct FixedDraw(pub(crate) u64);

impl Draw for FixedDraw {
    fn sequence(&mut self, _group: &Group) -> u64 {
        self.0
    }

    fn rule_sequence(&mut self, _forward: &Forward) -> Sequence {
        Sequence { number: self.0, key: 7 }
    }

    fn random(&mut self) -> u64 {
        Numbers(self.0).next()
    }
}
