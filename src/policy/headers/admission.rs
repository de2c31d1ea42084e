//! Whether a request's head lets it in: looked at in one order, by the proxy and by `explain`.

use super::desync::{self, Mitigation, Reason, Treatment};
use super::head::{self, Authority, Refusal};
use super::names::{self, Names};
use http::{HeaderMap, Method, Uri, Version};

/// What a head was before anything of it was changed.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// What its fields' names say.
    pub names: Names,
    /// What makes it readable in two ways, if anything does.
    pub found: Option<Reason>,
    /// What is done with it for that.
    pub treatment: Treatment,
}

impl Seen {
    /// Looks at a head as it came, then drops fields with invalid names where that is wanted: they
    /// count for its class, and nothing else sees them.
    pub fn of(
        method: &Method,
        version: Version,
        headers: &mut HeaderMap,
        mitigation: Mitigation,
        drop_invalid: bool,
    ) -> Self {
        let names = Names::of(headers);
        let found = desync::classify(method, version, headers, names);
        if drop_invalid && names.invalid {
            names::drop_invalid(headers);
        }
        Self { names, found, treatment: mitigation.treatment(found) }
    }

    /// Lets it in, and says whom it asks.
    ///
    /// # Errors
    /// The first reason to refuse; that it could be read in two ways comes last.
    pub fn admit<'h>(
        &self,
        method: &Method,
        uri: &'h Uri,
        version: Version,
        headers: &'h HeaderMap,
    ) -> Result<Authority<'h>, Refusal> {
        let authority = head::check(method, uri, version, headers, self.names)?;
        match self.treatment {
            Treatment::Refuse => Err(Refusal::Desync),
            Treatment::Forward | Treatment::ForwardAndClose => Ok(authority),
        }
    }
}
