//! The body of an answer on its way to the client, and the target's side it comes from.

use super::exchange::Exchange;
use super::upload::without_forbidden_trailers;
use super::upstream_response::UpstreamResponse;
use crate::model::in_flight::InFlight;
use crate::net::http1::BodyError;
use crate::observe::counters::Counters;
use bytes::Bytes;
use http_body::Frame;
use std::task::{Context, Poll, ready};

/// What goes to the client behind a head.
#[derive(Debug)]
pub enum ResponseBody {
    /// A page of the balancer's.
    Own(Bytes),
    /// A target's body, passed on.
    Target(UpstreamLease),
}

/// A target's side while its answer is passed on, and what is given back after it.
#[derive(Debug)]
pub struct UpstreamLease {
    /// The connection or the stream.
    pub side: UpstreamResponse,
    /// Index of the target's group.
    pub group: usize,
    /// Index of the target in its group.
    pub target: usize,
    /// The place under the target's cap.
    pub in_flight: Option<InFlight>,
}

impl ResponseBody {
    /// The next frame.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        counters: &Counters,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Own(bytes) => {
                let all = std::mem::take(bytes);
                Poll::Ready((!all.is_empty()).then(|| Ok(Frame::data(all))))
            }
            Self::Target(lease) => {
                let frame = ready!(lease.side.poll_frame(cx));
                Poll::Ready(frame.map(|frame| {
                    frame.map(|frame| match frame.is_trailers() {
                        true => without_forbidden_trailers(frame, counters),
                        false => frame,
                    })
                }))
            }
        }
    }

    /// Whether nothing of it is left.
    pub fn is_done(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_empty(),
            Self::Target(lease) => lease.side.is_done(),
        }
    }

    /// How much of it is left, where that is known.
    pub fn left(&self) -> Option<u64> {
        match self {
            Self::Own(bytes) => Some(bytes.len() as u64),
            Self::Target(lease) => lease.side.left(),
        }
    }

    /// Gives the place under the target's cap back, where the target is done with the exchange: a client
    /// that has its answer may ask again at once, over another worker.
    pub fn release_place(&mut self) {
        if let Self::Target(lease) = self
            && !lease.side.is_sending()
        {
            lease.in_flight = None;
        }
    }

    /// Whether some of the request is left to be sent to the target that answers.
    pub fn is_sending(&self) -> bool {
        matches!(self, Self::Target(lease) if lease.side.is_sending())
    }

    /// Sends on what is left of the request. The answer's body is not asked for while the client takes
    /// none of it, and the client may take none of it before all of its request has gone.
    pub fn poll_sending(&mut self, cx: &mut Context<'_>) {
        if let Self::Target(lease) = self
            && lease.side.is_sending()
        {
            lease.side.poll_sending(cx);
        }
    }

    /// The same; ready once nothing of the request is left.
    pub fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_sending(cx);
        if self.is_sending() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Gives the target's connection back, all of the answer having been taken.
    pub fn give_back(self, exchange: &Exchange) {
        // A stream ends by itself.
        let Self::Target(UpstreamLease {
            side: UpstreamResponse::Http1(mut connection),
            group,
            target,
            ..
        }) = self
        else {
            return;
        };
        if connection.become_idle() && !exchange.closes_both && !exchange.closes_target {
            let group = &exchange.snapshot.groups[group];
            let worker = &exchange.worker;
            let now = worker.now().monotonic;
            let until = now + group.settings.upstream.keep_alive;
            let target = &group.targets[target].state;
            let (owner, id) = (exchange.info().owner(), exchange.info().id);
            worker.pool.give_back(target, connection, owner, id, until, now);
        }
    }
}
