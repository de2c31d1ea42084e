//! One try at one target.

pub(super) mod attempt;
mod http1;
mod http2;
pub(super) mod kept_body;

use super::exchange::Exchange;
use super::reconnect;
use crate::config::settings::Upstream;
use crate::model::snapshot::Target;
use attempt::{Attempted, Head, Outgoing, TargetHeaders, head_for};

/// Sends to one target.
pub(crate) async fn attempt(
    outgoing: &Outgoing,
    target: &Target,
    headers: TargetHeaders<'_>,
    upstream: &Upstream,
    exchange: &mut Exchange,
) -> Attempted {
    match &outgoing.head {
        Head::Http1(head) => {
            let head = &*head_for(head, headers, target);
            let connect_timeout = reconnect::dial_timeout(&target.state, upstream);
            http1::attempt(outgoing, head, target, headers.proxy_header, connect_timeout, exchange)
                .await
        }
        // Boxed: otherwise every exchange would reserve room for it.
        Head::Http2(request) => {
            Box::pin(http2::attempt(outgoing, request, target, headers, upstream, exchange)).await
        }
    }
}
