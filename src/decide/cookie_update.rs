//! The cookies to write when a target's final response head has arrived.

use super::group_choice::GroupChoice;
use super::verdict::{GroupVerdict, Verdict};
use super::{Keeps, Placement};
use crate::config::settings::Failback;
use crate::model::affinity::Cookie;
use crate::model::forward::Forward;
use crate::model::snapshot::Snapshot;
use crate::policy::affinity::claim::{self, Claim, PinState, Rewrite};
use crate::policy::affinity::token::{Contents, GroupKey, Kind, Seed, TargetKey};
use http::{Method, StatusCode};

/// The new contents of one cookie.
#[derive(Clone, Debug)]
pub struct CookieUpdate {
    /// The token to seal.
    pub contents: Contents,
    /// Its expiry in seconds since the Unix epoch: the latest expiry of its pins.
    pub expires: u64,
    /// The reason for writing it.
    pub what: CookieWrite,
}

/// The reason for writing a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieWrite {
    /// The client had no usable pin.
    New,
    /// The client sent an application's cookie without a pin.
    Adopted,
    /// `refresh` is due: the pin has a new time.
    Renewed,
    /// The client moved, or a spilled request wrote something.
    Moved,
    /// The first key seals the token again, or its times were ahead of our clock. The pin is the
    /// same.
    Resealed,
}

impl CookieWrite {
    /// Every reason, for tables and tests.
    pub const ALL: [Self; 5] =
        [Self::New, Self::Adopted, Self::Renewed, Self::Moved, Self::Resealed];

    /// The value of `set_cookie` in the access log.
    pub fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Adopted => "adopted",
            Self::Renewed => "renewed",
            Self::Moved => "moved",
            Self::Resealed => "resealed",
        }
    }
}

/// Evidence in the response of new state at the target, and of its way to the client.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown {
    /// True if it sets the application's cookie that the group's cookie accompanies.
    pub sets_app_cookie: bool,
    /// True if the target probably keeps state for the client now: see [`wrote`].
    pub wrote: bool,
    /// True for a response to GET or HEAD whose fields let shared caches keep it.
    pub is_fresh: bool,
    /// True if clients of this target may be moving to another at this moment.
    pub wavers: bool,
}

/// Reports whether the response shows that the target changed state for the client: a status below
/// 400 to a method that is not safe (RFC 9110 section 9.2.1), an opened tunnel (101; 2xx to
/// CONNECT, which is not safe), or a cookie. A 4xx changed nothing.
pub fn wrote(method: &Method, status: StatusCode, sets_cookie: bool) -> bool {
    let is_done = status.as_u16() < 400;
    sets_cookie || status == StatusCode::SWITCHING_PROTOCOLS || is_done && !method.is_safe()
}

/// Returns what to write into the group's cookie after a response of `served_by`. `fresh_seed` is
/// used if the client has no seed yet.
pub fn cookie_update(
    placement: &Placement,
    served_by: usize,
    snapshot: &Snapshot,
    now: u64,
    fresh_seed: Seed,
    shown: Shown,
) -> Option<CookieUpdate> {
    let group = &snapshot.groups[placement.group];
    let cookie = group.cookie()?;
    let target = group.targets[served_by].key;
    let claim = &placement.claim;
    let writer = CookieWriter { snapshot, cookie, claim, key: group.key, now, fresh_seed, shown };
    if let Some(app_cookie) = &cookie.app_cookie {
        // A valid pin is renewed by `refresh`, because many applications repeat their cookie in
        // every response. A spill is handled below, as without an app cookie.
        let is_pinned = matches!(placement.verdict, Verdict::Spilled | Verdict::Hit);
        if shown.sets_app_cookie && !is_pinned {
            return Some(writer.with_pin(target, made(placement.verdict)));
        }
        if !app_cookie.adopt && !is_pinned && !placement.verdict.is_move() {
            return None;
        }
    }
    match placement.verdict {
        Verdict::Off
        | Verdict::AppCookieAbsent
        | Verdict::KeyAbsent
        | Verdict::StrictRefused
        | Verdict::NoTarget => None,
        // The pin follows the session: the client's own target does not have what was written here.
        // A spill that changed nothing moves no client.
        Verdict::Spilled => shown.wrote.then(|| writer.with_pin(target, CookieWrite::Moved)),
        // Another response of this client may have moved its pin, or be about to. This one may
        // reach the client later and must not undo that.
        Verdict::Hit if shown.wavers => None,
        Verdict::Hit => writer.again(target),
        Verdict::New
        | Verdict::Evicted
        | Verdict::MovedAddress
        | Verdict::Adopted
        | Verdict::Malformed
        | Verdict::Forged
        | Verdict::UnknownKey
        | Verdict::Expired
        | Verdict::MovedRemoved
        | Verdict::MovedDraining
        | Verdict::MovedZone
        | Verdict::MovedUnhealthy => Some(writer.with_pin(target, made(placement.verdict))),
    }
}

/// The reason for writing a pin after this verdict.
fn made(verdict: Verdict) -> CookieWrite {
    match verdict {
        Verdict::Adopted => CookieWrite::Adopted,
        moved if moved.is_move() => CookieWrite::Moved,
        _ => CookieWrite::New,
    }
}

/// Returns what to write into the group cookie, which keeps a client with its group.
pub(crate) fn group_cookie_update(
    choice: &GroupChoice,
    forward: &Forward,
    snapshot: &Snapshot,
    now: u64,
    fresh_seed: Seed,
    shown: Shown,
) -> Option<CookieUpdate> {
    let sticky = forward.sticky.as_ref()?;
    let (cookie, key, claim) = (&*sticky.cookie, sticky.key, &choice.claim);
    let writer = CookieWriter { snapshot, cookie, claim, key, now, fresh_seed, shown };
    let group = forward.shares[choice.share].key;
    match choice.verdict {
        GroupVerdict::Off => None,
        GroupVerdict::FailedOver if forward.failback == Failback::Stay => {
            Some(writer.with_pin(group, CookieWrite::Moved))
        }
        GroupVerdict::FailedOver => {
            let home = forward.shares[choice.home.unwrap_or(choice.share)].key;
            writer.with_stand_in(home, (sticky.stand_in, group))
        }
        GroupVerdict::FailedBack => Some(writer.without_stand_in(sticky.stand_in, group)),
        GroupVerdict::Hit => writer.again(group),
        GroupVerdict::MovedRemoved => Some(writer.with_pin(group, CookieWrite::Moved)),
        GroupVerdict::New
        | GroupVerdict::Expired
        | GroupVerdict::Malformed
        | GroupVerdict::Forged
        | GroupVerdict::UnknownKey => Some(writer.with_pin(group, CookieWrite::New)),
    }
}

/// The state for writing one cookie.
struct CookieWriter<'a> {
    snapshot: &'a Snapshot,
    cookie: &'a Cookie,
    claim: &'a Claim,
    /// The key of the pin: the group's or the rule's.
    key: GroupKey,
    now: u64,
    fresh_seed: Seed,
    shown: Shown,
}

impl CookieWriter<'_> {
    /// The update for a client that reached its pinned target or group: as `refresh` requires, and
    /// always if the sealing key is not the first any more or another node's clock is far ahead of
    /// ours. A response that shared caches may keep is written into only after half of the pin's
    /// life: usually another response renews the pin before.
    fn again(&self, target: TargetKey) -> Option<CookieUpdate> {
        let Claim::Opened { contents, first_key, pin: PinState::Held(pin), .. } = self.claim else {
            return None;
        };
        let (refresh, lifetime) = (self.cookie.settings.refresh, self.cookie.lifetime.seconds());
        if self.shown.is_fresh && !claim::is_half_used(*pin, lifetime, self.now) {
            return None;
        }
        let outdated = !first_key || self.claim.clock_ahead().is_some();
        match claim::rewrite(refresh, *pin, outdated, lifetime, self.now) {
            Rewrite::Renew => Some(self.with_pin(target, CookieWrite::Renewed)),
            Rewrite::Reseal => Some(self.sealed(*contents, CookieWrite::Resealed)),
            Rewrite::Leave => None,
        }
    }

    /// The update for a client whose group another group stands in for: the pin to the other group,
    /// and the own pin if it is due, so that both live as long as the client keeps coming.
    fn with_stand_in(&self, home: TargetKey, other: (GroupKey, TargetKey)) -> Option<CookieUpdate> {
        let (old, lifetime) = (self.claim.contents(), self.cookie.lifetime.seconds());
        let refresh = self.cookie.settings.refresh;
        let lifetime_of = |key| self.lifetime_of(key);
        let is_due = |pin| claim::due(refresh, pin, lifetime, self.now);
        let own = self.claim.held().filter(|pin| pin.target == home);
        let known = old.and_then(|old| old.pin(other.0)).filter(|pin| pin.target == other.1);
        if own.is_some_and(|pin| !is_due(pin)) && known.is_some_and(|pin| !is_due(pin)) {
            return self.again(home);
        }
        let renew = |old: Option<&Contents>, (group, target)| {
            claim::renew(old, self.fresh_seed, group, target, self.now, lifetime_of)
        };
        let mut contents = renew(old, other);
        // In a full token, the other pin may have pushed this one out.
        if own.is_none_or(is_due) || contents.pin(self.key).is_none() {
            contents = renew(Some(&contents), (self.key, home));
        }
        Some(self.sealed(contents, CookieWrite::Moved))
    }

    /// The update for a client that is back with its group.
    fn without_stand_in(&self, stand_in: GroupKey, home: TargetKey) -> CookieUpdate {
        let left = self.claim.contents().and_then(|contents| contents.without(stand_in));
        let (refresh, lifetime) = (self.cookie.settings.refresh, self.cookie.lifetime.seconds());
        match (left, self.claim.held().filter(|pin| pin.target == home)) {
            (Some(left), Some(pin)) if !claim::due(refresh, pin, lifetime, self.now) => {
                self.sealed(left, CookieWrite::Resealed)
            }
            (left, _) => {
                let lifetime_of = |key| self.lifetime_of(key);
                let seed = self.fresh_seed;
                let contents =
                    claim::renew(left.as_ref(), seed, self.key, home, self.now, lifetime_of);
                self.sealed(contents, CookieWrite::Renewed)
            }
        }
    }

    fn with_pin(&self, target: TargetKey, what: CookieWrite) -> CookieUpdate {
        let old = self.claim.contents();
        let lifetime_of = |key| self.lifetime_of(key);
        let contents = claim::renew(old, self.fresh_seed, self.key, target, self.now, lifetime_of);
        self.sealed(contents, what)
    }

    /// No time that is ahead of our clock is sealed, even if the clock was set back since the
    /// decision.
    #[inline]
    fn sealed(&self, contents: Contents, what: CookieWrite) -> CookieUpdate {
        let mut update = CookieUpdate { contents, expires: 0, what };
        update.contents.keep_times_to(self.now);
        let lifetime_of = |key| self.lifetime_of(key);
        update.expires = claim::latest_expiry(&update.contents, lifetime_of, self.now);
        update
    }

    fn lifetime_of(&self, key: GroupKey) -> Option<u32> {
        let kind: Kind = self.cookie.kind;
        self.snapshot.lifetime_of(kind, key)
    }
}

/// The seed of the client whose session is at the target that answered and stays there: its pin was
/// valid, or one was written. A spilled client counts at its pinned target.
pub(crate) fn settled(placement: &Placement, update: Option<&CookieUpdate>) -> Option<Seed> {
    match (update, placement.verdict, &placement.claim) {
        // The cookie is written, as with ALB, but no browser keeps it.
        _ if placement.keeps == Keeps::Nothing => None,
        (Some(update), ..) => Some(update.contents.seed()),
        (None, Verdict::Hit, claim) => claim.seed(),
        // No cookie is written for these: the next request names this target by its value.
        (None, Verdict::New, Claim::Key(seed)) => Some(*seed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Keeps;
    use super::*;
    use crate::config;
    use crate::model::snapshot::Resolutions;
    use crate::model::target_registry::TargetRegistry;
    use crate::policy::affinity::keys::{Key, Keyring};
    use crate::policy::affinity::token::Pin;
    use std::sync::Arc;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn only_writes_tunnels_and_cookies_show_changed_state() {
        for (method, status, sets_cookie, expected) in [
            ("GET", 200, false, false),
            ("HEAD", 200, false, false),
            ("OPTIONS", 204, false, false),
            ("TRACE", 200, false, false),
            ("GET", 302, false, false),
            ("GET", 404, false, false),
            ("GET", 101, false, true),
            ("GET", 200, true, true),
            ("GET", 401, true, true),
            ("GET", 500, true, true),
            ("POST", 200, false, true),
            ("POST", 399, false, true),
            ("POST", 400, false, false),
            ("POST", 503, false, false),
            ("POST", 404, true, true),
            ("PUT", 201, false, true),
            ("PATCH", 204, false, true),
            ("DELETE", 303, false, true),
            ("CONNECT", 200, false, true),
            ("CONNECT", 204, false, true),
            ("CONNECT", 101, false, true),
            ("CONNECT", 403, false, false),
            ("PURGE", 200, false, true),
            ("get", 200, false, true),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(wrote(&method, status, sets_cookie), expected, "{method} {status}");
        }
    }

    /// The word of the update for a client of target `a` of this group, served by `b` if it was
    /// spilled, else by `a`. Its pin has this age, and another key may have sealed it.
    fn what(
        group: &str,
        verdict: Verdict,
        age: i64,
        first_key: bool,
        shown: Shown,
    ) -> &'static str {
        let text = format!(
            "[listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\n\
             targets = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\n{group}\n"
        );
        let config = config::parse(&text, "test.toml", "/".as_ref()).unwrap().config;
        let keyring = Arc::new(Keyring::new(&[Key::generate([7; 32])]).unwrap());
        let (names, mut registry) = (Resolutions::new(), TargetRegistry::default());
        let snapshot = Snapshot::build(&config, keyring, &names, &mut registry).unwrap();
        let group = &snapshot.groups[0];
        let issued_at = u32::try_from(NOW as i64 - age).unwrap();
        let pin = Pin { group: group.key, target: group.targets[0].key, issued_at };
        let mut contents = Contents::new(Seed(7), pin);
        let ahead = contents.keep_times_to(NOW);
        let pin = PinState::Held(contents.pins()[0]);
        let claim = Claim::Opened { contents, first_key, ahead, pin };
        let served_by = usize::from(verdict == Verdict::Spilled);
        let placement = Placement {
            group: 0,
            verdict,
            target: Some(served_by),
            pinned: Some(0),
            only_capped: false,
            claim,
            keeps: Keeps::Pin,
            seed: None,
        };
        let Some(update) = cookie_update(&placement, served_by, &snapshot, NOW, Seed(9), shown)
        else {
            return "-";
        };
        assert_eq!(update.contents.pins()[0].target, group.targets[served_by].key);
        assert!(u64::from(update.contents.pins()[0].issued_at) <= NOW);
        assert_eq!(update.contents.seed(), Seed(7));
        update.what.word()
    }

    #[test]
    fn a_hit_is_rewritten_by_refresh_key_clock_and_response() {
        const DAY: i64 = 86_400;
        let plain = Shown::default();
        let fresh = Shown { is_fresh: true, ..plain };
        let wavers = Shown { wavers: true, ..plain };
        for (refresh, age, first_key, shown, expected) in [
            ("each_response", 10, true, plain, "renewed"),
            ("half_life", 10, true, plain, "-"),
            ("half_life", DAY / 2, true, plain, "renewed"),
            ("never", DAY - 1, true, plain, "-"),
            ("never", 10, false, plain, "resealed"),
            // Ahead of our clock: up to a minute is no reason to write.
            ("never", -60, true, plain, "-"),
            ("half_life", -60, true, plain, "-"),
            ("never", -61, true, plain, "resealed"),
            ("half_life", -61, true, plain, "resealed"),
            ("each_response", -61, true, plain, "renewed"),
            // Shared caches may keep it.
            ("each_response", 10, true, fresh, "-"),
            ("each_response", 10, false, fresh, "-"),
            ("each_response", DAY / 2 - 1, true, fresh, "-"),
            ("each_response", DAY / 2, true, fresh, "renewed"),
            ("half_life", DAY / 2, true, fresh, "renewed"),
            ("never", DAY / 2, true, fresh, "-"),
            ("never", DAY / 2, false, fresh, "resealed"),
            // The client may be moving.
            ("each_response", 10, true, wavers, "-"),
            ("each_response", DAY - 1, false, wavers, "-"),
        ] {
            let group = format!("stickiness = {{ refresh = \"{refresh}\" }}");
            let context = format!("{refresh} {age} {first_key} {shown:?}");
            assert_eq!(what(&group, Verdict::Hit, age, first_key, shown), expected, "{context}");
        }
    }

    #[test]
    fn a_spill_moves_the_pin_only_if_the_response_shows_a_write() {
        let wrote = Shown { wrote: true, ..Shown::default() };
        let others = Shown { is_fresh: true, wavers: true, sets_app_cookie: true, wrote: false };
        for group in [
            "stickiness = {}",
            "stickiness = { refresh = \"never\" }",
            "stickiness = { app_cookie = { name = \"sid\" } }",
            "stickiness = { app_cookie = { name = \"sid\", adopt = false } }",
        ] {
            for first_key in [true, false] {
                let told = |shown| what(group, Verdict::Spilled, 10, first_key, shown);
                assert_eq!(told(wrote), "moved", "{group}");
                assert_eq!(told(Shown { is_fresh: true, ..wrote }), "moved", "{group}");
                assert_eq!(told(others), "-", "{group}");
            }
        }
        for group in
            ["stickiness = { header = { name = \"x-id\" } }", "stickiness = { enabled = false }"]
        {
            assert_eq!(what(group, Verdict::Spilled, 10, true, wrote), "-", "{group}");
        }
    }
}
