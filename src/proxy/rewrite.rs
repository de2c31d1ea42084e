//! URL changes: redirects of the client, and rewrites for the target.

use super::client_identity::ClientIdentity;
use super::exchange::Exchange;
use super::failure::Failure;
use super::local_response::{self, Page};
use crate::http1::request::Request;
use crate::policy::headers::head::Authority;
use crate::policy::routing::conditions::Subject;
use crate::policy::routing::redirect::{Original, Redirect, RedirectError};
use crate::policy::routing::rewrite::{Failed, Rewrite};
use std::net::IpAddr;

/// The redirect response.
pub(super) fn redirect(
    exchange: &mut Exchange,
    redirect: &Redirect,
    subject: &Subject<'_>,
    authority: &Authority<'_>,
    identity: &ClientIdentity,
) -> Result<Page, Failure> {
    // HTTP/1.0 allows a request without Host (RFC 9112 section 3.3); then the client meant the
    // address it connected to.
    let local = exchange.info().ends().destination;
    let (named, port) = match authority.text {
        Some(_) => (None, authority.port()),
        None => (Some(host_of(local.ip())), Some(local.port())),
    };
    let original = Original {
        is_tls: identity.came_over_tls,
        host: named.as_deref().unwrap_or(subject.host),
        port,
        path: subject.path,
        query: subject.query,
    };
    let url = redirect.location(&original).map_err(Failure::Redirect)?;
    if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::Redirect(RedirectError::Host));
    }
    let (head, status) = (exchange.worker.take_response(), redirect.status(subject.method));
    let page = local_response::redirect(head, status, &url);
    exchange.log_mut().redirect_url = Some(url.into());
    Ok(page)
}

fn host_of(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// Host, and path with query, for the target; `None` for a part that stays the client's.
#[derive(Default)]
pub(super) struct Rewritten {
    pub(super) host: Option<String>,
    pub(super) target: Option<String>,
}

/// Rewrites for the target, and keeps the result for the log.
pub(super) fn rewrite(
    exchange: &mut Exchange,
    rewrite: &Rewrite,
    request: &Request,
    authority: &Authority<'_>,
) -> Result<Rewritten, Failure> {
    let log = exchange.log_mut();
    // The words are ALB's.
    let mut failed = |why: Failed, malformed: &'static str| {
        log.transform_failure = Some(match why {
            Failed::TooLong => "TransformBufferTooSmall",
            Failed::Malformed => malformed,
        });
        Failure::Rewrite
    };
    let host = rewrite.host(authority).map_err(|why| failed(why, "TransformInvalidHost"))?;
    let target = rewrite
        .path(&request.origin_form())
        .map_err(|why| failed(why, "TransformInvalidPath"))?
        .map(|target| target.as_str().to_owned());
    log.transformed_uri = target.as_deref().map(Into::into);
    log.transformed_host = host.as_deref().map(Into::into);
    Ok(Rewritten { host, target })
}
