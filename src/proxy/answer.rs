//! What the client gets of a target's head: its own fields less the hop's, and the group's cookie.

use super::attempt::{Outgoing, show};
use super::body::{Held, Lease, UploadState};
use super::exchange::Exchange;
use super::failure::Failure;
use super::handle::{Forwarded, ends_connection};
use super::progress::Phase;
use super::request::Trust;
use super::target_side::TargetSide;
use super::upgrade::{Switch, TargetEnd, Upgrade};
use crate::decide::Placement;
use crate::decide::renewal::{Renewal, group_renewal, renewal, settled};
use crate::ground::clock::Moment;
use crate::model::affinity::Cookie;
use crate::model::snapshot::Action;
use crate::policy::affinity::Lifetime;
use crate::policy::affinity::app_cookie::{self, AppCookie};
use crate::policy::affinity::token::Sealed;
use crate::policy::headers::hop_by_hop;
use crate::policy::headers::response::Origin;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, HeaderName, HeaderValue, SET_COOKIE};
use http::{HeaderMap, Response, StatusCode, Version};

/// How a request is answered.
pub(super) enum Served {
    /// By the balancer.
    Here(Response<Bytes>),
    /// By a target.
    ByTarget(Response<()>, Lease),
    /// With another protocol.
    Switched(Response<()>, Box<Switch>),
}

/// Makes the head the client gets.
pub(super) fn answer(
    exchange: &mut Exchange,
    forwarded: Forwarded,
    outgoing: &Outgoing,
    trust: &Trust,
    client_upgrade: Option<Upgrade>,
) -> Result<Served, Failure> {
    let Forwarded { mut response, side, placement, target, in_flight } = forwarded;
    let now = exchange.workplace.now();
    let snapshot = exchange.snapshot.clone();
    let group = &snapshot.groups[placement.group];
    let story = exchange.story();
    story.answered = Some(now);
    story.target_status = Some(response.status());
    exchange.progress.enter(Phase::Responding, now.monotonic, None);

    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if switches && client_upgrade.is_none() {
        return Err(Failure::UnaskedUpgrade);
    }
    // RFC 9110 section 15.5.22: it says to what, which an HTTP/1.1 client may then ask of us.
    let wants_websocket = response.status() == StatusCode::UPGRADE_REQUIRED
        && exchange.story().version == Version::HTTP_11
        && hop_by_hop::asks_for_websocket(response.headers());
    if let Some(Upgrade::Http2(_, key)) = &client_upgrade {
        let opens = switches && key.is_answered_by(response.headers());
        // Over a stream any 2xx would say that the WebSocket is open (RFC 9113 section 8.5).
        if !opens && (switches || response.status().is_success()) {
            return Err(Failure::TargetMalformed);
        }
    }
    let headers = response.headers_mut();
    hop_by_hop::strip_response(headers);
    remove_our_names(headers);
    let listener = &snapshot.listeners[exchange.client().listener].settings;
    listener.response_fields.write(headers, Origin::Target);
    write_cookies(exchange, headers, &placement, target, trust, now);
    if listener.debug_headers {
        show(headers, placement.verdict, &group.targets[target]);
    }
    let side = match (side, client_upgrade.filter(|_| switches)) {
        (TargetSide::Http1(connection), Some(client)) => {
            hop_by_hop::write_websocket(headers);
            let switch = Switch { client, target: TargetEnd { connection, in_flight } };
            return Ok(Served::Switched(response, Box::new(switch)));
        }
        (side, _) => Held::Alone(side),
    };
    let mut lease = Lease { side, group: placement.group, target, in_flight };
    let early =
        outgoing.upload.as_ref().is_some_and(|upload| upload.state() != UploadState::Finished);
    if early {
        // Both ways are under way: what bounds the request bounds it still.
        exchange.progress.enter(Phase::Responding, now.monotonic, outgoing.upload_deadline);
    }
    if lease.side.is_sending() {
        lease.side = lease.side.share(&exchange.progress);
    }
    if early || ends_connection(exchange) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    } else if wants_websocket {
        hop_by_hop::write_websocket(response.headers_mut());
    }
    Ok(Served::ByTarget(response, lease))
}

fn remove_our_names(headers: &mut HeaderMap) {
    let ours: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("x-stayput-")).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
}

/// Adds the cookies that are due: the one that keeps the client with its group, then the group's.
fn write_cookies(
    exchange: &mut Exchange,
    headers: &mut HeaderMap,
    placement: &Placement,
    target: usize,
    trust: &Trust,
    now: Moment,
) {
    let snapshot = exchange.snapshot.clone();
    let group = &snapshot.groups[placement.group];
    let seconds = now.unix_seconds();
    let fresh_seed = exchange.fresh_seed();
    let mut written = false;
    let story = exchange.story();
    if let (Some(choice), Some(Action::Forward(forward))) =
        (&story.group, story.rule.map(|rule| &snapshot.rules[rule].action))
        && let Some(sticky) = &forward.sticky
        && let Some(renewal) = group_renewal(choice, forward, &snapshot, seconds, fresh_seed)
    {
        write_cookie(exchange, headers, &sticky.cookie, &renewal, trust);
        written = true;
    }
    let mut written_pin = None;
    if let Some(cookie) = group.cookie() {
        let app = match &cookie.accompanies {
            None => AppCookie::Untouched,
            Some(app) => {
                let lines = headers.get_all(SET_COOKIE).iter().map(HeaderValue::as_bytes);
                app_cookie::read(lines, &app.name, seconds)
            }
        };
        if let Some(renewal) = renewal(placement, target, &snapshot, seconds, fresh_seed, app) {
            write_cookie(exchange, headers, cookie, &renewal, trust);
            exchange.story().set_cookie = Some(renewal.what);
            written = true;
            written_pin = Some(renewal);
        }
    }
    if let Some(sessions) = group.targets[target].live.sessions()
        && let Some(seed) = settled(placement, written_pin.as_ref())
    {
        sessions.note(seed);
    }
    let stickiness = group.settings.stickiness.as_ref();
    if written && stickiness.is_none_or(|stickiness| stickiness.guard_cache) {
        guard_cache(headers);
    }
}

/// Adds one cookie, and its twin where due.
fn write_cookie(
    exchange: &Exchange,
    headers: &mut HeaderMap,
    cookie: &Cookie,
    renewal: &Renewal,
    trust: &Trust,
) {
    let (picture, remembered) = (&exchange.snapshot, &exchange.client().remembered);
    let seal = |contents| remembered.seal(picture, cookie.kind, &contents);
    let sealed = renewal.contents.map(seal);
    let token = sealed.as_ref().map_or("", Sealed::as_str);
    let secure = cookie.settings.secure.due(trust.came_over_tls);
    let twin = cookie.twin.is_some() && cookie.settings.cors_twin.due(trust.came_over_tls);
    exchange.workplace.with_date(renewal.expires, |date| {
        let dated = sealed.is_none() || cookie.lifetime != Lifetime::Session;
        let expires = dated.then_some(date);
        let mut append = |line: Vec<u8>| {
            if let Ok(line) = HeaderValue::try_from(line) {
                headers.append(SET_COOKIE, line);
            }
        };
        append(cookie.template.line(token, expires, secure));
        if twin {
            append(cookie.template.twin_line(token, expires, secure));
        }
    });
}

/// Tells shared caches not to keep our Set-Cookie where the response says they may keep the rest
/// (RFC 9111 section 5.2.2.4).
fn guard_cache(headers: &mut HeaderMap) {
    let is_shared = |line: &HeaderValue| {
        line.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii).any(|directive| {
            let name = directive.split(|&byte| byte == b'=').next().unwrap_or_default();
            name.eq_ignore_ascii_case(b"public") || name.eq_ignore_ascii_case(b"s-maxage")
        })
    };
    if headers.get_all(CACHE_CONTROL).iter().any(is_shared) {
        let guard = HeaderValue::from_static("no-cache=\"set-cookie\"");
        headers.append(CACHE_CONTROL, guard);
    }
}
