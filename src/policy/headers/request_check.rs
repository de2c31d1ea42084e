//! Whether a request's head lets it in: looked at in one order, by the proxy and by `explain`.

use super::desync::{self, Mitigation, Reason, Treatment};
use super::head::{self, Authority, RejectReason};
use super::header_flags::{self, HeaderFlags};
use crate::http1::request::Request;

/// What a head was before anything of it was changed.
#[derive(Clone, Copy, Debug)]
pub struct RequestCheck {
    /// What its fields' names say.
    pub flags: HeaderFlags,
    /// What makes it readable in two ways, if anything does.
    pub found: Option<Reason>,
    /// What is done with it for that.
    pub treatment: Treatment,
}

impl RequestCheck {
    /// Looks at a head as it came, then drops fields with invalid names where that is wanted: they
    /// count for its class, and nothing else sees them.
    pub fn of(request: &mut Request, mitigation: Mitigation, drop_invalid: bool) -> Self {
        let flags = HeaderFlags::of(&request.fields);
        let found = desync::classify(request, flags);
        if drop_invalid && flags.invalid {
            header_flags::drop_invalid(&mut request.fields);
        }
        Self { flags, found, treatment: mitigation.treatment(found) }
    }

    /// Lets it in, and says which authority it asks.
    ///
    /// # Errors
    /// The first reason to refuse; that it could be read in two ways comes last.
    pub fn admit<'r>(&self, request: &'r Request) -> Result<Authority<'r>, RejectReason> {
        let authority = head::check(request, self.flags)?;
        match self.treatment {
            Treatment::Refuse => Err(RejectReason::Desync),
            Treatment::Forward | Treatment::ForwardAndClose => Ok(authority),
        }
    }
}
