//! What the client gets of a target's head: its own fields less the hop's, and the group's cookie.

use super::attempt::{Outgoing, show};
use super::body::{Lease, UploadState};
use super::client::Phase;
use super::exchange::Exchange;
use super::failure::Failure;
use super::handle::{Forwarded, ends_connection};
use super::request::Trust;
use super::upgrade::Switch;
use crate::config::settings::Stickiness;
use crate::decide::Placement;
use crate::decide::renewal::{renewal, settled};
use crate::ground::clock::Moment;
use crate::policy::affinity::Lifetime;
use crate::policy::affinity::token::{Kind, Seed};
use crate::policy::headers::hop_by_hop;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, HeaderName, HeaderValue, SET_COOKIE};
use http::{HeaderMap, Response, StatusCode};
use hyper::upgrade::OnUpgrade;

/// How a request is answered.
pub(super) enum Served {
    /// By the balancer.
    Here(Response<Bytes>),
    /// By a target, on this connection.
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
    client_upgrade: Option<OnUpgrade>,
) -> Result<Served, Failure> {
    let Forwarded { mut response, connection, placement, target, in_flight } = forwarded;
    let now = exchange.workplace.now();
    let snapshot = exchange.snapshot.clone();
    let group = &snapshot.groups[placement.group];
    let story = exchange.story();
    story.answered = Some(now);
    story.target_status = Some(response.status());
    exchange.client.enter(Phase::Responding, now.monotonic, None);

    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if switches && client_upgrade.is_none() {
        return Err(Failure::UnaskedUpgrade);
    }
    let headers = response.headers_mut();
    hop_by_hop::strip_response(headers);
    remove_our_names(headers);
    write_cookies(exchange, headers, &placement, target, trust, now);
    if snapshot.listeners[exchange.client.listener].settings.debug_headers {
        show(headers, placement.verdict, &group.targets[target]);
    }
    let lease = Lease { connection, group: placement.group, target, in_flight };
    if switches && let Some(client_upgrade) = client_upgrade {
        hop_by_hop::write_websocket(headers);
        let switch = Switch { client: client_upgrade, lease };
        return Ok(Served::Switched(response, Box::new(switch)));
    }
    let early =
        outgoing.upload.as_ref().is_some_and(|upload| upload.state() != UploadState::Finished);
    if early {
        exchange.client.linger();
    }
    if early || ends_connection(exchange) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
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

/// Adds the group's cookie, and its twin where due.
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
    let (Some(cookie), Some(stickiness)) = (&group.cookie, &group.settings.stickiness) else {
        return;
    };
    let workplace = exchange.workplace.clone();
    let fresh_seed = Seed(workplace.random());
    let renewal = renewal(placement, target, &snapshot, now.unix_seconds(), fresh_seed);
    if let Some(sessions) = group.targets[target].live.sessions()
        && let Some(seed) = settled(placement, renewal.as_ref())
    {
        sessions.note(seed);
    }
    let Some(renewal) = renewal else { return };
    let sealed = snapshot.keyring.seal(Kind::Lb, &renewal.contents);
    let secure = stickiness.secure.due(trust.came_over_tls);
    let twin = stickiness.cors_twin.due(trust.came_over_tls);
    workplace.with_date(renewal.expires, |date| {
        let expires = (stickiness.lifetime != Lifetime::Session).then_some(date);
        let token = sealed.as_str();
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
    guard_cache(headers, stickiness);
    exchange.story().set_cookie = Some(renewal.what);
}

/// Tells shared caches not to keep our Set-Cookie where the response says they may keep the rest
/// (RFC 9111 section 5.2.2.4).
fn guard_cache(headers: &mut HeaderMap, stickiness: &Stickiness) {
    let is_shared = |line: &HeaderValue| {
        line.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii).any(|directive| {
            let name = directive.split(|&byte| byte == b'=').next().unwrap_or_default();
            name.eq_ignore_ascii_case(b"public") || name.eq_ignore_ascii_case(b"s-maxage")
        })
    };
    if stickiness.guard_cache && headers.get_all(CACHE_CONTROL).iter().any(is_shared) {
        let guard = HeaderValue::from_static("no-cache=\"set-cookie\"");
        headers.append(CACHE_CONTROL, guard);
    }
}
