//! Protocol switches: after the target's 101, bytes are carried both ways until one side closes,
//! both are silent for the listener's `idle`, or the process cuts the tunnel.

use super::deadline::{Phase, race};
use super::exchange::Exchange;
use super::follow::{self, Followed};
use super::upload::RequestBody;
use crate::model::in_flight::InFlight;
use crate::net::http1::Connection;
use crate::observe::error_reason::ErrorReason;
use crate::policy::headers::http2::WebSocketKey;
use std::io::ErrorKind;
use std::rc::Rc;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy_bidirectional};

/// A protocol switch requested by a client.
#[derive(Debug)]
pub(crate) enum Upgrade {
    /// With Upgrade in an HTTP/1.1 request.
    Http1,
    /// With an extended CONNECT.
    Http2(WebSocketKey),
}

/// A target that switched protocols.
#[derive(Debug)]
pub(crate) struct TargetEnd {
    /// The connection to it.
    pub connection: Box<Connection<RequestBody>>,
    /// The place under its cap, held until the tunnel ends.
    pub in_flight: Option<InFlight>,
}

/// Carries a tunnel to its end, after the client got the head that opens it. One access record
/// covers all of it.
pub(crate) async fn carry<S>(mut exchange: Exchange, mut client: S, target: TargetEnd)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    exchange.log_mut().is_tunnel = true;
    let TargetEnd { connection, in_flight: _in_flight } = target;
    let (mut target, first_bytes, _place) = connection.into_tunnel();
    let deadline = Rc::clone(&exchange.deadline);
    deadline.enter(Phase::Tunnel, exchange.worker.now().monotonic, None);
    let error = match Followed::by(&mut exchange) {
        Some(followed) => follow::carry(client, target, first_bytes, &deadline, followed).await,
        None => {
            let copied = race(&*deadline, async {
                client.write_all(&first_bytes).await?;
                copy_bidirectional(&mut client, &mut target).await
            });
            match copied.await {
                Err(expiry) => Some(expiry.reason()),
                // Browsers end a WebSocket in its own words, and then close without those of TLS.
                Ok(Err(error)) if error.kind() != ErrorKind::UnexpectedEof => {
                    Some(ErrorReason::TunnelBrokeOff)
                }
                Ok(_) => None,
            }
        }
    };
    let log = exchange.log_mut();
    log.error = error;
    log.is_complete = true;
}
