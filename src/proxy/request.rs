//! What the target gets: the client's head made safe and true, and its body.

use super::attempt::{self, Head, Outgoing};
use super::body::{ClientBody, Upload};
use super::exchange::Exchange;
use super::failure::Failure;
use super::workplace::header_value;
use crate::config::settings;
use crate::decide::Placement;
use crate::net::http1::send;
use crate::policy::affinity::cookie;
use crate::policy::headers::forwarded::{self, Forwarding};
use crate::policy::headers::head::{self, Authority, Refusal};
use crate::policy::headers::names::Names;
use crate::policy::headers::{hop_by_hop, http2, trace_id};
use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderValue, TRAILER, TRANSFER_ENCODING,
};
use http::{HeaderMap, Method, Uri, Version};
use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

/// What the client's way says of it, before its fields are rewritten.
pub(super) struct Trust {
    pub(super) address: IpAddr,
    pub(super) peer_is_trusted: bool,
    pub(super) came_over_tls: bool,
}

impl Trust {
    pub(super) fn of(
        exchange: &Exchange,
        listener: &settings::Listener,
        headers: &HeaderMap,
    ) -> Self {
        let client = exchange.client();
        let (peer, trusted) = (client.ends().source.ip(), &listener.trusted_proxies);
        let peer_is_trusted = !trusted.is_empty() && client.is_known() && trusted.contains(peer);
        Self {
            address: match peer_is_trusted {
                true => forwarded::client_address(peer, trusted, headers),
                false => peer,
            },
            peer_is_trusted,
            came_over_tls: match peer_is_trusted.then(|| forwarded::says_tls(headers)).flatten() {
                Some(said) => said,
                None => client.session().is_some(),
            },
        }
    }
}

/// The Host the target gets, where it is not the one that came.
pub(super) fn host(
    exchange: &Exchange,
    listener: &settings::Listener,
    target: &Uri,
    authority: &Authority<'_>,
) -> Option<HeaderValue> {
    let local = exchange.client().ends().destination;
    let own;
    let (text, is_as_sent) = match authority.text {
        // Where the target's own form names the authority, Host says the same.
        Some(text) => (text, target.authority().is_none()),
        // HTTP/1.0 may come without one (RFC 9112 section 3.3).
        None => {
            own = local.to_string();
            (own.as_str(), false)
        }
    };
    if listener.preserve_host {
        return (!is_as_sent).then(|| header_value(text));
    }
    Authority { text: Some(text) }.normalised(local.port()).map(|text| header_value(&text))
}

/// Makes the head the target gets: hop-by-hop fields go first, then what is true is written.
pub(super) fn prepare(
    exchange: &mut Exchange,
    parts: &mut http::request::Parts,
    host: Option<HeaderValue>,
    names: Names,
    trust: &Trust,
    placement: &Placement,
) -> Result<hop_by_hop::Hop, Failure> {
    let snapshot = exchange.snapshot.clone();
    let listener = &snapshot.listeners[exchange.client().listener].settings;
    let headers = &mut parts.headers;
    let mut hop = hop_by_hop::strip_request(headers, names).map_err(Failure::Head)?;
    // Over HTTP/2 only an extended CONNECT can say Upgrade, and it was made a GET.
    hop.websocket &= parts.version >= Version::HTTP_11 && parts.method == http::Method::GET;
    let forwarding = Forwarding {
        introduction: exchange.client().introduction(listener.client_port),
        peer_is_trusted: trust.peer_is_trusted,
        mode: listener.x_forwarded_for,
        names,
    };
    forwarded::write(headers, forwarding).map_err(Failure::Head)?;
    if let Some(session) = exchange.client().session() {
        for (name, value) in &session.fields {
            headers.insert(name.clone(), value.clone());
        }
    }
    if names.content_length {
        head::canonical_length(headers);
    }
    if let Some(host) = host {
        headers.insert(HOST, host);
    }
    http2::join_crumbs(headers);
    let random = (exchange.workplace.random(), exchange.workplace.random() as u32);
    let seconds = exchange.story().began.unix_seconds();
    trace_id::write(headers, seconds, random);
    let stickiness = &snapshot.groups[placement.group].settings.stickiness;
    if stickiness.as_ref().is_some_and(|stickiness| stickiness.hide_from_target) {
        // Another group's token is none of this target's business either.
        hide(headers, &snapshot.cookie_names);
    }
    if hop.takes_trailers {
        hop_by_hop::write_takes_trailers(headers);
    }
    if hop.websocket {
        hop_by_hop::write_websocket(headers);
    }
    Ok(hop)
}

fn hide(headers: &mut HeaderMap, names: &[Box<str>]) {
    let left = headers.get(COOKIE).and_then(|line| cookie::without(line.as_bytes(), names));
    match left {
        None => {}
        Some(left) if left.is_empty() => drop(headers.remove(COOKIE)),
        Some(left) => {
            if let Ok(left) = HeaderValue::from_bytes(&left) {
                headers.insert(COOKIE, left);
            }
        }
    }
}

/// Bytes of a request's head that most do not exceed, cookies included, and just under what the
/// system's allocator still has at hand without a search (1,032).
const USUAL_HEAD: usize = 1_000;

/// The request as it goes to the target.
///
/// # Errors
/// When the Host is none that HTTP/2 could say.
pub(super) fn outgoing(
    exchange: &mut Exchange,
    parts: http::request::Parts,
    body: ClientBody,
    listener: &settings::Listener,
    placement: &Placement,
) -> Result<Outgoing, Failure> {
    let snapshot = exchange.snapshot.clone();
    let group = &snapshot.groups[placement.group].settings;
    let response_timeout = group.upstream.response;
    let upload = (!body.is_end_stream()).then(|| {
        let progress = exchange.progress.clone();
        let counters = exchange.workplace.counters.clone();
        let limit = listener.limits.body_bytes;
        Rc::new(Upload::new(body, limit, progress, counters))
    });
    let began = exchange.story().began.monotonic;
    let mut headers = parts.headers;
    let target = head::origin_form(&parts.uri);
    let (mut chunked, mut trailer) = (false, None);
    let head = if group.protocol.is_http2() {
        exchange.story().trace_id = headers.get(trace_id::X_AMZN_TRACE_ID).cloned();
        let fields = std::mem::take(&mut headers);
        let request = http2_head(parts.method.clone(), &target, fields, group.tls.is_some())?;
        Head::Http2(Box::new(request))
    } else {
        chunked = upload.is_some() && !headers.contains_key(CONTENT_LENGTH);
        if chunked {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let mut head = Vec::with_capacity(USUAL_HEAD);
        send::write_head(&mut head, &parts.method, &target, &headers);
        head.extend_from_slice(attempt::BLANK_LINE);
        trailer = if chunked { headers.get(TRAILER).cloned() } else { None };
        exchange.story().trace_id = headers.remove(trace_id::X_AMZN_TRACE_ID);
        headers.clear();
        Head::Http1(head)
    };
    Ok(Outgoing {
        method: parts.method,
        head,
        upload,
        chunked,
        trailer,
        fields: RefCell::new(headers),
        response_timeout,
        upload_deadline: listener.timeouts.request.map(|request| began + request),
    })
}

/// The head in HTTP/2's form (RFC 9113 sections 8.2.2 and 8.3.1): Host becomes `:authority`, and
/// nothing is said of the connection. TE stays, which is `trailers` if it is there.
fn http2_head(
    method: Method,
    target: &str,
    mut headers: HeaderMap,
    is_tls: bool,
) -> Result<http::Request<()>, Failure> {
    let bad_host = || Failure::Head(Refusal::Host);
    let host = headers.remove(HOST).ok_or_else(bad_host)?;
    headers.remove(CONNECTION);
    let uri = Uri::builder()
        .scheme(if is_tls { "https" } else { "http" })
        .authority(host.as_bytes())
        .path_and_query(target)
        .build()
        .map_err(|_| bad_host())?;
    let mut request = http::Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers;
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::TE;

    #[test]
    fn a_head_for_http2_names_its_authority_and_says_nothing_of_the_connection() {
        let mut headers = HeaderMap::new();
        for (name, value) in [(HOST, "shop.example:8443"), (CONNECTION, "TE"), (TE, "trailers")] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let request = http2_head(Method::POST, "/a?b=c", headers, true).unwrap();
        assert_eq!(request.uri(), "https://shop.example:8443/a?b=c");
        let names: Vec<_> = request.headers().keys().collect();
        assert_eq!(names, [TE]);
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("::1"));
        assert!(http2_head(Method::GET, "/", headers, false).is_err());
    }
}
