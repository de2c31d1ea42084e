//! An answer from the target's head to the client's: what is handed from one file of the way to the next.

use super::local_response::Page;
use super::response_body::ResponseBody;
use super::tunnel::TargetEnd;
use super::upstream_response::UpstreamResponse;
use crate::http1::response::Response;
use crate::model::in_flight::InFlight;

/// A target's head, and what is held while its body is passed on.
pub(super) struct Forwarded {
    pub(super) response: Box<Response>,
    pub(super) side: UpstreamResponse,
    /// The index of the target that answered.
    pub(super) target: usize,
    pub(super) in_flight: Option<InFlight>,
}

/// How a request is answered.
pub(super) enum Served {
    /// By the balancer.
    Here(Page),
    /// By a target.
    ByTarget(Answer),
}

/// An answer on its way to the client.
#[derive(Debug)]
pub struct Answer {
    /// The head, without the fields that frame it.
    pub head: Box<Response>,
    /// The body, or the other protocol that begins behind the head.
    pub rest: Rest,
    /// Whether it is the connection's last (HTTP/1.1).
    pub closes: bool,
}

/// What follows an answer's head.
#[derive(Debug)]
pub enum Rest {
    /// A body.
    Body(ResponseBody),
    /// The bytes of another protocol.
    Switch(TargetEnd),
}
