//! The check of a request's head, in one order for the proxy and for `explain`.

use super::desync::{self, Mitigation, Reason, Treatment};
use super::head::{self, Authority, RejectReason};
use super::header_flags::{self, HeaderFlags};
use crate::http1::request::Request;

/// The facts about a head before any change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestCheck {
    /// The facts of its field names.
    pub flags: HeaderFlags,
    /// The reason that it can be read in two ways, if any.
    pub found: Option<Reason>,
    /// The treatment for that reason.
    pub treatment: Treatment,
}

impl RequestCheck {
    /// Reads a head as received, then drops fields with invalid names if configured: they count for
    /// its class, and no later step sees them.
    pub(crate) fn of(request: &mut Request, mitigation: Mitigation, drop_invalid: bool) -> Self {
        let flags = HeaderFlags::of(&request.fields);
        let found = desync::classify(request, flags);
        if drop_invalid && flags.invalid {
            header_flags::drop_invalid(&mut request.fields);
        }
        Self { flags, found, treatment: mitigation.treatment(found) }
    }

    /// Admits the request and returns its authority.
    ///
    /// # Errors
    /// The first reason to refuse; an ambiguous reading comes last.
    pub(crate) fn admit<'r>(&self, request: &'r Request) -> Result<Authority<'r>, RejectReason> {
        let authority = head::check(request, self.flags)?;
        match self.treatment {
            Treatment::Refuse => Err(RejectReason::Desync),
            Treatment::Forward | Treatment::ForwardAndClose => Ok(authority),
        }
    }
}
