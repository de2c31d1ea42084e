//! Protocol switches: once the target has said 101, bytes go both ways until one side has had
//! enough, both are silent for the listener's `idle`, or the process cuts.

use super::body::RequestBody;
use super::exchange::Exchange;
use super::follow::{self, Followed};
use super::http2::tunnel::StreamTunnel;
use super::progress::Phase;
use crate::ground::clock::Moment;
use crate::model::places::InFlight;
use crate::net::http1::Connection;
use crate::policy::headers::http2::WebSocketKey;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::task::Poll;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::sync::oneshot;

/// A client that would speak another protocol.
#[derive(Debug)]
pub enum Upgrade {
    /// It said so in an HTTP/1.1 request; resolves when the 101 has gone out.
    Http1(OnUpgrade),
    /// In an extended CONNECT; the stream comes when its 200 has gone out.
    Http2(oneshot::Receiver<StreamTunnel>, WebSocketKey),
}

/// Both ends of a switch that is about to happen.
pub struct Switch {
    /// The client's side, once it has been told.
    pub client: Upgrade,
    /// The target's side.
    pub target: TargetEnd,
}

/// A target that switched.
pub struct TargetEnd {
    /// Its connection.
    pub connection: Box<Connection<RequestBody>>,
    /// The place under its cap, held until the tunnel ends.
    pub in_flight: Option<InFlight>,
}

/// Carries a tunnel to its end, then writes the exchange down: one record for all of it.
pub async fn carry(mut exchange: Exchange, switch: Switch) {
    let progress = exchange.progress.clone();
    exchange.log_mut().is_tunnel = true;
    // Until the answer has gone out, the connection's own task is the one the tick wakes; where it
    // gives up, this ends as well.
    match switch.client {
        Upgrade::Http1(client) => match client.await {
            Ok(client) => copy(exchange, TokioIo::new(client), switch.target).await,
            Err(_) => drop(exchange),
        },
        Upgrade::Http2(client, _) => match client.await {
            Ok(client) => copy(exchange, client, switch.target).await,
            Err(_) => drop(exchange),
        },
    }
    progress.settle_all();
}

async fn copy<S>(mut exchange: Exchange, mut client_side: S, target: TargetEnd)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let TargetEnd { connection, in_flight: _in_flight } = target;
    let (mut target_side, first_bytes, _place) = connection.into_tunnel();
    let progress = exchange.progress.clone();
    progress.enter(Phase::Tunnel, Moment::now().monotonic, None);
    if let Some(followed) = Followed::by(&mut exchange) {
        // Boxed: only these tunnels keep room for it.
        let carried = follow::carry(client_side, target_side, first_bytes, &progress, followed);
        let error = Box::pin(carried).await;
        return finish(exchange, error);
    }
    let copied = async {
        client_side.write_all(&first_bytes).await?;
        copy_bidirectional(&mut client_side, &mut target_side).await
    };
    let expired = poll_fn(|cx| {
        progress.remember_waker(cx.waker());
        progress.expiry().map_or(Poll::Pending, Poll::Ready)
    });
    let error = tokio::select! {
        copied = copied => match copied {
            // Browsers end a WebSocket in its own words, and then close without those of TLS.
            Err(error) if error.kind() != ErrorKind::UnexpectedEof => Some("tunnel_broke_off"),
            Ok(_) | Err(_) => None,
        },
        expiry = expired => Some(expiry.word()),
    };
    finish(exchange, error);
}

fn finish(mut exchange: Exchange, error: Option<&'static str>) {
    let story = exchange.log_mut();
    story.error = error;
    story.is_complete = true;
}
