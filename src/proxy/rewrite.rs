//! Another URL than the client's: the one it is sent to, or the one its target gets.

use super::exchange::Exchange;
use super::failure::Failure;
use super::request::Trust;
use super::respond;
use super::workplace::header_value;
use crate::decide;
use crate::policy::headers::head::{self, Authority};
use crate::policy::routing::redirect::{Fault, Original, Redirect};
use crate::policy::routing::rewrite::{Failed, Rewrite};
use bytes::Bytes;
use http::{HeaderValue, Response, Uri};
use std::net::IpAddr;

/// The answer that sends the client elsewhere.
pub(super) fn redirect(
    exchange: &mut Exchange,
    redirect: &Redirect,
    request: &decide::Request<'_>,
    authority: &Authority<'_>,
    trust: &Trust,
) -> Result<Response<Bytes>, Failure> {
    // HTTP/1.0 may come without Host (RFC 9112 section 3.3); then the client meant whom it reached.
    let local = exchange.client().ends().destination;
    let (named, port) = match authority.text {
        Some(_) => (None, authority.port()),
        None => (Some(host_of(local.ip())), Some(local.port())),
    };
    let original = Original {
        is_tls: trust.came_over_tls,
        host: named.as_deref().unwrap_or(request.host),
        port,
        path: request.path,
        query: request.query,
    };
    let url = redirect.location(&original).map_err(Failure::Redirect)?;
    let location = HeaderValue::try_from(&url).map_err(|_| Failure::Redirect(Fault::Host))?;
    exchange.story().redirect_url = Some(url.into());
    Ok(respond::redirect(redirect.status(request.method), location))
}

fn host_of(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// What the target gets instead; `None` where it stays as it is.
pub(super) struct Rewritten {
    pub(super) host: Option<HeaderValue>,
    pub(super) uri: Option<Uri>,
}

/// Rewrites for the target, and keeps for the log what came out.
pub(super) fn rewrite(
    exchange: &mut Exchange,
    rewrite: &Rewrite,
    uri: &Uri,
    authority: &Authority<'_>,
) -> Result<Rewritten, Failure> {
    let story = exchange.story();
    // The words are ALB's.
    let mut failed = |why: Failed, malformed: &'static str| {
        story.transform_failure = Some(match why {
            Failed::TooLong => "TransformBufferTooSmall",
            Failed::Malformed => malformed,
        });
        Failure::Rewrite
    };
    let host = rewrite.host(authority).map_err(|why| failed(why, "TransformInvalidHost"))?;
    let target =
        rewrite.path(&head::origin_form(uri)).map_err(|why| failed(why, "TransformInvalidPath"))?;
    story.transformed_uri = target.as_ref().map(|target| target.as_str().into());
    let header = host.as_deref().map(header_value);
    story.transformed_host = host.map(String::into_boxed_str);
    Ok(Rewritten { host: header, uri: target.map(Uri::from) })
}
