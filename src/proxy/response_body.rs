//! The body of a response to the client, and the target's side it comes from.

use super::exchange::Exchange;
use super::upload::without_forbidden_trailers;
use super::upstream_response::UpstreamResponse;
use crate::model::in_flight::InFlight;
use crate::net::http1::BodyError;
use crate::observe::counters::Counters;
use bytes::Bytes;
use http_body::Frame;
use std::task::{Context, Poll, ready};

/// The body after a response's head.
#[derive(Debug)]
pub(crate) enum ResponseBody {
    /// A page of the balancer.
    Own(Bytes),
    /// A target's body, forwarded.
    Target(UpstreamLease),
}

/// A target's side while its response is forwarded, and the resources to give back afterwards.
#[derive(Debug)]
pub(crate) struct UpstreamLease {
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
    pub(crate) fn poll_frame(
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

    /// Returns true if nothing of it is left.
    pub(crate) fn is_done(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_empty(),
            Self::Target(lease) => lease.side.is_done(),
        }
    }

    /// The number of bytes left; `None` if it is not known.
    pub(crate) fn left(&self) -> Option<u64> {
        match self {
            Self::Own(bytes) => Some(bytes.len() as u64),
            Self::Target(lease) => lease.side.left(),
        }
    }

    /// Gives back the place under the target's cap if the target has finished the exchange: a
    /// client with a complete response may send a request on another worker at once.
    pub(crate) fn release_place(&mut self) {
        if let Self::Target(lease) = self
            && !lease.side.is_sending()
        {
            lease.in_flight = None;
        }
    }

    /// Returns true if part of the request is still to be sent to the target that answers.
    pub(crate) fn is_sending(&self) -> bool {
        matches!(self, Self::Target(lease) if lease.side.is_sending())
    }

    /// Sends more of the request. The response's body is not polled while the client reads none of
    /// it, and the client may read none before its whole request was sent.
    pub(crate) fn poll_sending(&mut self, cx: &mut Context<'_>) {
        if let Self::Target(lease) = self
            && lease.side.is_sending()
        {
            lease.side.poll_sending(cx);
        }
    }

    /// Sends more of the request; ready when all of it was sent.
    pub(crate) fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_sending(cx);
        if self.is_sending() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Gives the target's connection back after the whole response was read.
    pub(crate) fn give_back(self, exchange: &Exchange) {
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
