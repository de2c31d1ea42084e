//! Protocol switches: once the target has said 101, bytes go both ways until one side has had
//! enough, both are silent for the listener's `idle`, or the process cuts.

use super::body::RequestBody;
use super::exchange::Exchange;
use super::progress::Phase;
use crate::ground::clock::Moment;
use crate::model::live::InFlight;
use crate::net::http1::Connection;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::task::Poll;
use tokio::io::{AsyncWriteExt, copy_bidirectional};

/// Both ends of a switch that is about to happen.
pub struct Switch {
    /// Resolves when the 101 has gone out to the client.
    pub client: OnUpgrade,
    /// The target's side.
    pub connection: Box<Connection<RequestBody>>,
    /// The place under the target's cap, held until the tunnel ends.
    pub in_flight: Option<InFlight>,
}

/// Carries a tunnel to its end, then writes the exchange down: one record for all of it.
pub async fn carry(mut exchange: Exchange, switch: Switch) {
    let Switch { client: on_client, connection, in_flight: _in_flight } = switch;
    let (mut target_side, first_bytes, _place) = connection.into_tunnel();
    let progress = exchange.progress.clone();
    exchange.story().is_tunnel = true;
    // Until the 101 has gone out, the connection's own task is the one the tick wakes; where it
    // gives up, this ends as well.
    if let Ok(upgraded) = on_client.await {
        progress.enter(Phase::Tunnel, Moment::now().monotonic, None);
        let mut client_side = TokioIo::new(upgraded);
        let copied = async {
            client_side.write_all(&first_bytes).await?;
            copy_bidirectional(&mut client_side, &mut target_side).await
        };
        let expired = poll_fn(|cx| {
            progress.remember_waker(cx.waker());
            progress.expiry().map_or(Poll::Pending, Poll::Ready)
        });
        let error = tokio::select! {
            copied = copied => copied.is_err().then_some("tunnel_broke_off"),
            expiry = expired => Some(expiry.word()),
        };
        let story = exchange.story();
        story.error = error;
        story.is_complete = true;
    }
    drop(exchange);
    progress.settle_all();
}
