//! Whose time is over, and the error reason for it.

use crate::observe::error_reason::ErrorReason;

/// Whose time is over, and so what is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Nothing was asked: a silent close.
    Silent,
    /// A head was begun: 408.
    Head,
    /// A head was begun, and the worker's partial heads take too much memory: 431.
    HeadsFull,
    /// The client has ended its half of the connection, and its answer did not come soon: 460.
    Gone,
    /// A body was awaited: 408.
    Request,
    /// The target's answer was: 504.
    Response,
    /// An answer or a tunnel stood still: cut.
    Stalled,
    /// The target has left the group, its deregistration delay too: 502 where its answer was
    /// awaited, else cut (AWS, "Edit target group attributes": deregistration delay).
    Deregistered,
}

impl Expiry {
    /// The error reason if it cuts an answer or a tunnel.
    pub fn reason(self) -> ErrorReason {
        match self {
            Expiry::Deregistered => ErrorReason::TargetDeregistered,
            Expiry::Gone => ErrorReason::ClientGone,
            _ => ErrorReason::Stalled,
        }
    }
}
