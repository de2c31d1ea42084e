//! Types of a response on its way from the target's head to the client.

use super::local_response::Page;
use super::response_body::ResponseBody;
use super::tunnel::TargetEnd;
use super::upstream_response::UpstreamResponse;
use crate::http1::response::Response;
use crate::model::in_flight::InFlight;

/// A target's head, and the resources held while its body is forwarded.
pub(super) struct Forwarded {
    pub(super) response: Box<Response>,
    pub(super) side: UpstreamResponse,
    /// Index of the target that answered.
    pub(super) target: usize,
    pub(super) in_flight: Option<InFlight>,
}

/// The source of the response to a request.
pub(super) enum Served {
    /// The balancer.
    Here(Page),
    /// A target.
    ByTarget(Answer),
}

/// A response ready to send to the client.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The head, without the fields that frame the body.
    pub head: Box<Response>,
    /// The body, or the other protocol that begins after the head.
    pub rest: Rest,
    /// True if it is the connection's last response (HTTP/1.1).
    pub closes: bool,
}

/// The bytes after a response's head.
#[derive(Debug)]
pub(crate) enum Rest {
    /// A body.
    Body(ResponseBody),
    /// A tunnel to the target after a protocol switch.
    Switch(TargetEnd),
}
