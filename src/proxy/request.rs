//! Builds the request for the target: the client's head, with safe and correct fields, and its
//! body.

use super::client_identity::ClientIdentity;
use super::exchange::Exchange;
use super::failure::Failure;
use super::recv_body::ClientBody;
use super::rewrite::Rewritten;
use super::upload::{Trailers, Upload};
use super::upstream::attempt::{Head, Outgoing};
use crate::config::settings;
use crate::decide::Placement;
use crate::http1::fields::Fields;
use crate::http1::name::Name;
use crate::http1::request::Request;
use crate::policy::affinity::cookie;
use crate::policy::headers::forwarded::{self, Forwarding};
use crate::policy::headers::head::{self, Authority, RejectReason};
use crate::policy::headers::header_flags::HeaderFlags;
use crate::policy::headers::hop_by_hop::{self, Hop};
use crate::policy::headers::trace_id;
use http::{HeaderName, HeaderValue, Method, Uri, Version};
use std::rc::Rc;

/// Facts about a request that were determined before it goes to a target.
pub(super) struct Asked<'a> {
    pub(super) authority: Authority<'a>,
    pub(super) flags: HeaderFlags,
    pub(super) identity: &'a ClientIdentity,
    pub(super) rewritten: Rewritten,
}

/// Builds the request for the target.
///
/// # Errors
/// If Connection names an end-to-end field, if X-Forwarded-For shows a loop, or if the group uses
/// HTTP/2 and the `http` crate's URI cannot hold the request target or Host.
pub(super) fn outgoing(
    exchange: &mut Exchange,
    asked: &Asked<'_>,
    body: ClientBody,
    listener: &settings::Listener,
    placement: &Placement,
) -> Result<(Outgoing, Hop), Failure> {
    let worker = Rc::clone(&exchange.worker);
    let mut copy = worker.take_request();
    let sent = Rc::make_mut(&mut copy);
    sent.copy_from(&exchange.request);
    let hop = prepare(exchange, sent, asked, listener, placement)?;
    let group = &exchange.snapshot.groups[placement.group].settings;
    let upload = (!body.is_end_stream()).then(|| {
        let deadline = Rc::clone(&exchange.deadline);
        let counters = worker.counters.clone();
        let trailers = match group.protocol.is_http2() {
            true => Trailers::All,
            false => Trailers::Named(sent.fields.get(Name::Trailer).unwrap_or_default().into()),
        };
        Rc::new(Upload::new(body, listener.limits.body_bytes, trailers, deadline, counters))
    });
    let own_target = asked.rewritten.target.as_deref();
    let original = exchange.request.origin_form();
    let target = own_target.unwrap_or(&original);
    let is_chunked = upload.is_some() && !sent.fields.has(Name::ContentLength);
    let head = if group.protocol.is_http2() {
        Head::Http2(Box::new(http2_head(sent, target, group.tls.is_some())?))
    } else {
        if is_chunked {
            sent.fields.append(Name::TransferEncoding, b"chunked");
        }
        let mut head = worker.take_buffer();
        for part in [sent.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
        sent.fields.write(&mut head);
        head.extend_from_slice(b"\r\n");
        Head::Http1(head)
    };
    let (method, response_timeout) = (sent.method.clone(), group.upstream.response);
    if worker.writes_log {
        let trace_id = sent.fields.get(Name::XAmznTraceId).unwrap_or_default();
        exchange.log_mut().trace_id.set(trace_id);
    }
    worker.give_back_request(&mut copy);
    let began = exchange.log().began.monotonic;
    let upload_deadline = listener.timeouts.request.map(|request| began + request);
    let outgoing = Outgoing { method, head, upload, is_chunked, response_timeout, upload_deadline };
    Ok((outgoing, hop))
}

/// Builds the head for the target: removes hop-by-hop fields, then writes the fields of the
/// balancer.
fn prepare(
    exchange: &Exchange,
    sent: &mut Request,
    asked: &Asked<'_>,
    listener: &settings::Listener,
    placement: &Placement,
) -> Result<Hop, Failure> {
    let Asked { authority, flags, identity, rewritten } = asked;
    let is_absolute = sent.authority().is_some();
    let fields = &mut sent.fields;
    if flags.transfer_encoding {
        // Transfer-Encoding alone frames the body (RFC 9112 section 6.3).
        fields.remove(Name::ContentLength);
    }
    let mut hop = hop_by_hop::strip_request(fields, *flags).map_err(Failure::Head)?;
    // Over HTTP/2 only an extended CONNECT can request an upgrade, and it was converted to a GET.
    hop.websocket &= sent.version >= Version::HTTP_11 && sent.method == Method::GET;
    let forwarding = Forwarding {
        forwarded_values: exchange.info().forwarded_values(listener.client_port),
        peer_is_trusted: identity.peer_is_trusted,
        mode: listener.x_forwarded_for,
        flags: *flags,
    };
    forwarded::write(fields, forwarding).map_err(Failure::Head)?;
    if let Some(session) = exchange.info().session() {
        for (name, value) in &session.fields {
            fields.set_named(name.as_str(), value.as_bytes());
        }
    }
    if flags.content_length {
        head::canonical_length(fields);
    }
    match &rewritten.host {
        Some(host) => fields.set(Name::Host, host.as_bytes()),
        None => write_host(exchange, fields, listener, authority, is_absolute),
    }
    join_cookies(fields);
    let worker = &exchange.worker;
    let random = (worker.random(), worker.random() as u32);
    trace_id::write(fields, exchange.log().began.unix_seconds(), random);
    let snapshot = &exchange.snapshot;
    let stickiness = &snapshot.groups[placement.group].settings.stickiness;
    if stickiness.as_ref().is_some_and(|stickiness| stickiness.hide_from_target) {
        // Another group's token must not reach this target either.
        hide(fields, &snapshot.cookie_names);
    }
    if hop.takes_trailers {
        hop_by_hop::write_takes_trailers(fields);
    }
    if hop.websocket {
        hop_by_hop::write_websocket(fields);
    }
    Ok(hop)
}

/// Writes the Host for the target, if it differs from the client's.
fn write_host(
    exchange: &Exchange,
    fields: &mut Fields,
    listener: &settings::Listener,
    authority: &Authority<'_>,
    is_absolute: bool,
) {
    match authority.text {
        // If the request target contains the authority, Host equals it.
        Some(text) if listener.preserve_host => {
            if is_absolute {
                fields.set(Name::Host, text.as_bytes());
            }
        }
        text => {
            let local = exchange.info().ends().destination;
            // HTTP/1.0 allows a request without Host (RFC 9112 section 3.3).
            let own = local.to_string();
            let named = Authority { text: Some(text.unwrap_or(&own)) };
            if listener.preserve_host {
                fields.set(Name::Host, own.as_bytes());
            } else if let Some(host) = named.normalised(local.port()) {
                fields.set(Name::Host, host.as_bytes());
            }
        }
    }
}

/// Joins several Cookie lines into one, in their order, because targets expect one line (RFC 9113
/// section 8.2.3, RFC 6265 section 5.4).
fn join_cookies(fields: &mut Fields) {
    if fields.is_repeated(Name::Cookie) {
        let joined = fields.all(Name::Cookie).collect::<Vec<_>>().join(&b"; "[..]);
        fields.set(Name::Cookie, &joined);
    }
}

fn hide(fields: &mut Fields, names: &[Box<str>]) {
    match fields.get(Name::Cookie).and_then(|line| cookie::without(line, names)) {
        None => {}
        Some(left) if left.is_empty() => fields.remove(Name::Cookie),
        Some(left) => fields.set(Name::Cookie, &left),
    }
}

/// Converts the head to HTTP/2's form (RFC 9113 sections 8.2.2 and 8.3.1): Host becomes
/// `:authority`, and Connection is removed. TE stays, because by now it can only be `trailers`. The
/// `http` crate refuses a request target with bytes that its URIs do not allow.
fn http2_head(sent: &Request, target: &str, is_tls: bool) -> Result<http::Request<()>, Failure> {
    let bad_host = || Failure::Head(RejectReason::Host);
    let host = sent.fields.get(Name::Host).ok_or_else(bad_host)?;
    let path = http::uri::PathAndQuery::try_from(target)
        .map_err(|_| Failure::Head(RejectReason::TargetForm))?;
    let uri = Uri::builder()
        .scheme(if is_tls { "https" } else { "http" })
        .authority(host)
        .path_and_query(path)
        .build()
        .map_err(|_| bad_host())?;
    let mut request = http::Request::new(());
    *request.method_mut() = sent.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    let headers = request.headers_mut();
    headers.reserve(sent.fields.len());
    for (known, name, value) in sent.fields.iter() {
        if !matches!(known, Name::Host | Name::Connection)
            && let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::TE;

    fn sent(host: &str) -> Request {
        let mut sent = Request::new(Method::POST, "/a", Version::HTTP_11);
        for (name, value) in [(Name::Host, host), (Name::Connection, "TE"), (Name::Te, "trailers")]
        {
            sent.fields.append(name, value.as_bytes());
        }
        sent
    }

    #[test]
    fn a_head_for_http2_has_an_authority_and_no_connection_fields() {
        let request = http2_head(&sent("shop.example:8443"), "/a?b=c", true).unwrap();
        assert_eq!(request.uri(), "https://shop.example:8443/a?b=c");
        let names: Vec<_> = request.headers().keys().collect();
        assert_eq!(names, [TE]);
        assert!(http2_head(&sent("::1"), "/", false).is_err());
        assert!(http2_head(&sent("a"), "/\u{7f}", false).is_err());
    }

    #[test]
    fn cookie_lines_become_one() {
        let mut fields = Fields::from_iter([("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")]);
        join_cookies(&mut fields);
        assert_eq!(fields.all(Name::Cookie).collect::<Vec<_>>(), [b"a=1; b=2"]);
    }
}
