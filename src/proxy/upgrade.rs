//! Protocol switches: once the target has said 101, bytes go both ways until one side has had
//! enough, both are silent for the listener's `idle`, or the process cuts.

use super::body::Lease;
use super::client::Phase;
use super::exchange::Exchange;
use crate::ground::clock::Moment;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use tokio::io::copy_bidirectional;

/// Both ends of a switch that is about to happen.
pub struct Switch {
    /// Resolves when the 101 has gone out to the client.
    pub client: OnUpgrade,
    /// Resolves with the target's side.
    pub target: OnUpgrade,
    /// The target's connection and place, held until the tunnel ends.
    pub lease: Lease,
}

/// Carries a tunnel to its end, then writes the exchange down: one record for all of it.
pub async fn carry(mut exchange: Exchange, switch: Switch) {
    let Switch { client: on_client, target: on_target, lease } = switch;
    let (client, workplace) = (exchange.client.clone(), exchange.workplace.clone());
    exchange.story().is_tunnel = true;
    let tunnel = async {
        let (client_side, target_side) = tokio::try_join!(on_client, on_target).ok()?;
        client.enter(Phase::Tunnel, Moment::now().monotonic, None);
        let (mut client_side, mut target_side) =
            (TokioIo::new(client_side), TokioIo::new(target_side));
        copy_bidirectional(&mut client_side, &mut target_side).await.ok()
    };
    let expired = async {
        // The connection's own task has ended with the switch: the tick wakes this one.
        poll_fn(|cx| {
            client.remember_waker(cx.waker());
            std::task::Poll::Ready(())
        })
        .await;
        client.expired().await
    };
    let error = tokio::select! {
        copied = tunnel => if copied.is_some() { None } else { Some("tunnel_broke_off") },
        _ = expired => Some("stalled"),
    };
    let story = exchange.story();
    story.error = error;
    story.is_complete = true;
    drop(lease);
    drop(exchange);
    for ended in client.take_ended() {
        ended.write(&workplace, &client);
    }
}
