//! The time-outs of connections and exchanges, and their error reasons.

use crate::observe::error_reason::ErrorReason;

/// The time-out that expired, which decides the reaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// No request had begun: a silent close.
    Silent,
    /// A head had begun: 408.
    Head,
    /// A head had begun, and the worker's partial heads take too much memory: 431.
    HeadsFull,
    /// The client has closed its half of the connection, and no response came soon: 460.
    Gone,
    /// The request body did not arrive: 408.
    Request,
    /// The target's response did not arrive: 504.
    Response,
    /// A response or a tunnel carried no byte: cut.
    Stalled,
    /// The target has left the group, and its deregistration delay is over: 502 before the response
    /// has begun, else cut (AWS, "Edit target group attributes": deregistration delay).
    Deregistered,
}

impl Expiry {
    /// The error reason of a response or tunnel that it cuts.
    pub(crate) fn reason(self) -> ErrorReason {
        match self {
            Expiry::Deregistered => ErrorReason::TargetDeregistered,
            Expiry::Gone => ErrorReason::ClientGone,
            _ => ErrorReason::Stalled,
        }
    }
}
