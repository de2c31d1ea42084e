//! Builds the client's response head: the target's fields without hop-by-hop fields, and the
//! group's cookie.

use super::answer::{Answer, Forwarded, Rest};
use super::client_identity::ClientIdentity;
use super::deadline::Phase;
use super::exchange::Exchange;
use super::failure::Failure;
use super::response_body::{ResponseBody, UpstreamLease};
use super::tunnel::{TargetEnd, Upgrade};
use super::upload::UploadState;
use super::upstream::attempt::{Outgoing, show};
use super::upstream_response::UpstreamResponse;
use crate::base::clock::Moment;
use crate::decide::Placement;
use crate::decide::cookie_update::{
    CookieUpdate, Shown, cookie_update, group_cookie_update, settled, wrote,
};
use crate::decide::verdict::Verdict;
use crate::http1::fields::Fields;
use crate::http1::name::Name;
use crate::model::affinity::Cookie;
use crate::model::live::Health;
use crate::model::snapshot::{Action, Group, Target};
use crate::policy::affinity::Lifetime;
use crate::policy::affinity::app_cookie;
use crate::policy::affinity::cookie::Ending;
use crate::policy::headers::header_flags::{SAID_TO_CLIENTS, begins_with};
use crate::policy::headers::hop_by_hop;
use crate::policy::headers::response::Origin;
use crate::policy::headers::shared_cache::{self, SharedCache};
use http::{Method, StatusCode, Version};
use std::rc::Rc;

/// Builds the response for the client.
pub(super) fn answer(
    exchange: &mut Exchange,
    forwarded: Forwarded,
    outgoing: Outgoing,
    identity: &ClientIdentity,
    client_upgrade: Option<Upgrade>,
) -> Result<Answer, Failure> {
    let Forwarded { response: mut head, side, target, in_flight } = forwarded;
    // Cloned, because the log is written to meanwhile.
    let Some(placement) = exchange.log().placement.clone() else { return Err(Failure::NoRule) };
    let now = exchange.worker.now();
    let snapshot = Rc::clone(&exchange.snapshot);
    let group = &snapshot.groups[placement.group];
    let status = head.status;
    let log = exchange.log_mut();
    log.answered = Some(now);
    log.target_status = Some(status);
    exchange.deadline.enter(Phase::Responding, now.monotonic, None);

    let switches = status == StatusCode::SWITCHING_PROTOCOLS;
    if switches && client_upgrade.is_none() {
        return Err(Failure::UnaskedUpgrade);
    }
    // RFC 9110 section 15.5.22: a 426 names the protocol, which an HTTP/1.1 client may then request
    // from us.
    let wants_websocket = status == StatusCode::UPGRADE_REQUIRED
        && exchange.request.version == Version::HTTP_11
        && hop_by_hop::asks_for_websocket(&head.fields);
    if let Some(Upgrade::Http2(key)) = &client_upgrade {
        let opens = switches && key.is_answered_by(&head.fields);
        // Over a stream, any 2xx would mean that the WebSocket is open (RFC 9113 section 8.5).
        if !opens && (switches || status.is_success()) {
            return Err(Failure::TargetMalformed);
        }
    }
    let fields = &mut head.fields;
    hop_by_hop::strip_response(fields);
    remove_our_names(fields);
    if status == StatusCode::NO_CONTENT {
        // It has no body that this length could describe (RFC 9110 section 8.6), and curl refuses
        // it.
        fields.remove(Name::ContentLength);
    }
    let listener = &snapshot.listeners[exchange.info().listener].settings;
    listener.response_fields.write(fields, Origin::Target);
    let answered = Answered { status, identity, now };
    write_cookies(exchange, fields, &placement, target, &answered);
    if listener.debug_headers {
        show(fields, placement.verdict, &group.targets[target]);
    }
    let side = match (side, switches) {
        (UpstreamResponse::Http1(connection), true) => {
            hop_by_hop::write_websocket(fields);
            let rest = Rest::Switch(TargetEnd { connection, in_flight });
            return Ok(Answer { head, rest, closes: true });
        }
        (side, _) => side,
    };
    let early =
        outgoing.upload.as_ref().is_some_and(|upload| upload.state() != UploadState::Finished);
    if early {
        // Both directions are in progress: the bounds of the request still apply.
        exchange.deadline.enter(Phase::Responding, now.monotonic, outgoing.upload_deadline);
    }
    // The whole request may have been read without its last piece having been taken. The client's
    // side is closed after the response in that case too, so the head must announce it.
    let closes = early || side.is_sending() || exchange.ends_connection();
    if !closes && wants_websocket {
        hop_by_hop::write_websocket(fields);
    }
    outgoing.give_back(&exchange.worker);
    let lease = UpstreamLease { side, group: placement.group, target, in_flight };
    Ok(Answer { head, rest: Rest::Body(ResponseBody::Target(lease)), closes })
}

fn remove_our_names(fields: &mut Fields) {
    let ours =
        |name: &[u8]| matches!(name, [b'x' | b'X', ..]) && begins_with(name, SAID_TO_CLIENTS);
    if fields.unknown_names().any(ours) {
        fields.retain(|_, name, _| !ours(name));
    }
}

/// Facts about a response apart from its fields.
struct Answered<'a> {
    status: StatusCode,
    identity: &'a ClientIdentity,
    now: Moment,
}

/// Adds the due cookies: the one of the group pin, then the group's own.
fn write_cookies(
    exchange: &mut Exchange,
    headers: &mut Fields,
    placement: &Placement,
    target: usize,
    answered: &Answered<'_>,
) {
    let snapshot = Rc::clone(&exchange.snapshot);
    let request = Rc::clone(&exchange.request);
    let group = &snapshot.groups[placement.group];
    let seconds = answered.now.unix_seconds();
    let fresh_seed = exchange.fresh_seed();
    let mut written = false;
    let log = exchange.log();
    // Cache fields matter only if the response can get a cookie.
    let cached = (group.cookie().is_some() || log.group.is_some())
        .then(|| shared_cache::read(&request.method, answered.status, headers, seconds));
    let cache = cached.map_or(SharedCache::MayNotStore, |cached| cached.cache);
    let shown = shown(exchange, headers, placement, group, target, answered);
    let is_read = matches!(request.method, Method::GET | Method::HEAD);
    let shown = Shown { is_fresh: is_read && cache == SharedCache::IsFresh, ..shown };
    let ahead = placement.claim.clock_ahead();
    let ahead = ahead.max(log.group.as_ref().and_then(|choice| choice.claim.clock_ahead()));
    if let (Some(choice), Some(Action::Forward(forward))) =
        (&log.group, log.rule.map(|rule| &snapshot.rules[rule].action))
        && let Some(sticky) = &forward.sticky
        && let Some(update) =
            group_cookie_update(choice, forward, &snapshot, seconds, fresh_seed, shown)
    {
        write_cookie(exchange, headers, &sticky.cookie, &update, answered.identity, seconds);
        written = true;
    }
    if let Some(ahead) = ahead {
        exchange.worker.counters.clocks_ahead.add_one();
        exchange.worker.counters.clock_ahead_by.set(u64::from(ahead));
    }
    let mut written_pin = None;
    let second_of_pin = group.targets[target].state.second_of_pin(seconds);
    if let Some(cookie) = group.cookie()
        && let Some(update) =
            cookie_update(placement, target, &snapshot, second_of_pin, fresh_seed, shown)
    {
        write_cookie(exchange, headers, cookie, &update, answered.identity, seconds);
        exchange.log_mut().set_cookie = Some(update.what);
        written = true;
        if placement.verdict == Verdict::Spilled
            && let Some(home) = placement.pinned
        {
            group.targets[home].state.record_pin_lost(seconds);
            let seed = update.contents.seed();
            group.targets[target].state.record_spill(seed, answered.now.monotonic);
        }
        written_pin = Some(update);
    }
    if let Some(sessions) = group.targets[target].state.session_sketch()
        && let Some(seed) = settled(placement, written_pin.as_ref())
    {
        sessions.record(seed);
    }
    let stickiness = group.settings.stickiness.as_ref();
    let may_be_kept =
        cache != SharedCache::MayNotStore && cached.is_some_and(|cached| !cached.is_guarded);
    if written && may_be_kept && stickiness.is_none_or(|stickiness| stickiness.guard_cache) {
        headers.append(Name::CacheControl, shared_cache::GUARD.as_bytes());
    }
}

/// The facts about a response that decide about its cookie. Computes only what the verdict needs:
/// most responses are hits of clients with a healthy target.
fn shown(
    exchange: &Exchange,
    headers: &Fields,
    placement: &Placement,
    group: &Group,
    target: usize,
    answered: &Answered<'_>,
) -> Shown {
    let Some(cookie) = group.cookie() else { return Shown::default() };
    let seconds = answered.now.unix_seconds();
    let lines = || headers.all(Name::SetCookie);
    let app_cookie = cookie.app_cookie.as_ref();
    match placement.verdict {
        Verdict::Hit => {
            let wavers = wavers(&group.targets[target], group, exchange.log().began, answered.now);
            Shown { wavers, ..Shown::default() }
        }
        Verdict::Spilled => {
            let sets_cookie = match app_cookie {
                Some(app) => app_cookie::sets(lines(), &app.name, seconds),
                None => app_cookie::sets_other(lines(), &exchange.snapshot.cookie_names, seconds),
            };
            let wrote = wrote(&exchange.request.method, answered.status, sets_cookie);
            Shown { wrote, ..Shown::default() }
        }
        _ => {
            let sets = |name: &str| app_cookie::sets(lines(), name, seconds);
            let sets_app_cookie = app_cookie.is_some_and(|app| sets(&app.name));
            Shown { sets_app_cookie, ..Shown::default() }
        }
    }
}

/// Returns true if a client of this target may be leaving it now. Then the response to a request
/// that came at `began` must write no cookie that could undo the move.
///
/// A request itself holds one of the places under `max_in_flight_per_target`. If there is only one,
/// a full target does not imply other requests.
fn wavers(target: &Target, group: &Group, began: Moment, now: Moment) -> bool {
    let availability = target.state.availability();
    let is_unhealthy = availability.health == Health::Unhealthy && !group.state.fails_open();
    let cap = group.settings.max_in_flight_per_target;
    let is_full = cap
        .is_some_and(|cap| target.state.has_queue() || cap > 1 && target.state.in_flight() >= cap);
    availability.health == Health::Suspect
        || is_unhealthy
        || is_full
        || (began.unix_seconds()..=now.unix_seconds()).contains(&target.state.lost_pin_at())
}

/// Adds one cookie, and its twin if due.
fn write_cookie(
    exchange: &Exchange,
    headers: &mut Fields,
    cookie: &Cookie,
    update: &CookieUpdate,
    identity: &ClientIdentity,
    now: u64,
) {
    let (keyring, tokens) = (&exchange.snapshot.keyring, &exchange.worker.tokens);
    let last = &exchange.info().last_token;
    let sealed = tokens.seal(keyring, last, cookie.kind, &update.contents);
    let token = sealed.as_bytes();
    let twin = cookie.twin.is_some() && cookie.settings.cors_twin.due(identity.came_over_tls);
    exchange.worker.with_date(update.expires, |date| {
        let dated = cookie.lifetime != Lifetime::Session;
        let max_age = update.expires.saturating_sub(now);
        let ending = dated.then_some(Ending { date, max_age });
        headers.append_with(Name::SetCookie, |line| cookie.template.write(line, token, ending));
        if twin {
            let write = |line: &mut Vec<u8>| cookie.template.write_twin(line, token, ending);
            headers.append_with(Name::SetCookie, write);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::model::live::Availability;
    use crate::model::snapshot::{Resolutions, Snapshot};
    use crate::model::target_registry::TargetRegistry;
    use crate::policy::affinity::keys::{Key, Keyring};
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn a_target_that_clients_may_be_leaving_differs_from_a_busy_one() {
        let build_snapshot = |cap: u32| {
            let text = format!(
                "[listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\n\
                 targets = [\"127.0.0.1:1\"]\nmax_in_flight_per_target = {cap}\n"
            );
            let config = config::parse(&text, "test.toml", "/".as_ref()).unwrap().config;
            let keyring = Arc::new(Keyring::new(&[Key::generate([7; 32])]).unwrap());
            let (names, mut registry) = (Resolutions::new(), TargetRegistry::default());
            let snapshot = Snapshot::build(&config, keyring, &names, &mut registry).unwrap();
            let state = &snapshot.groups[0].targets[0].state;
            state.set_availability(Availability {
                health: Health::Healthy,
                ..Availability::UNKNOWN
            });
            snapshot
        };
        let began = Moment::now();
        let now = began.later(Duration::from_secs(5));
        let wavers = |snapshot: &Snapshot| {
            wavers(&snapshot.groups[0].targets[0], &snapshot.groups[0], began, now)
        };
        // The answered request holds a place itself.
        for (cap, in_flight, expected) in
            [(0, 9, false), (1, 1, false), (2, 1, false), (2, 2, true), (3, 2, false), (3, 3, true)]
        {
            let snapshot = build_snapshot(cap);
            let state = &snapshot.groups[0].targets[0].state;
            let places: Vec<_> = (0..in_flight).map(|_| state.enter(u32::MAX)).collect();
            assert_eq!(wavers(&snapshot), expected, "{in_flight} of {cap}");
            drop(places);
        }
        let snapshot = build_snapshot(1);
        let (group, state) = (&snapshot.groups[0], &snapshot.groups[0].targets[0].state);
        let healthy = state.availability();
        state.set_availability(Availability { health: Health::Suspect, ..healthy });
        assert!(wavers(&snapshot), "suspect");
        state.set_availability(Availability { health: Health::Unhealthy, ..healthy });
        assert!(wavers(&snapshot), "unhealthy");
        group.state.set_fails_open(true);
        assert!(!wavers(&snapshot), "health is not looked at, and pins must not grow old for it");
        state.set_availability(healthy);
        let began = began.unix_seconds();
        for (lost_at, expected) in
            [(began - 1, false), (began, true), (began + 5, true), (began + 6, false)]
        {
            state.record_pin_lost(lost_at);
            assert_eq!(wavers(&snapshot), expected, "a pin went {lost_at}, it began {began}");
        }
    }
}
