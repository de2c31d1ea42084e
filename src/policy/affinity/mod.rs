//! Affinity: the binding of a client to a target, and its settings.
//!
//! [`token`] is the sealed text in the cookie, [`keys`] the keys that seal it, [`cookie`] finds it
//! in a request and writes it into a response, and [`claim`] evaluates it for one group at one
//! moment. [`app_cookie`] reads a response's changes to the application's own cookie, [`route`] the
//! replica that an application names in a request's session id, and [`cookie_date`] the date in
//! `Expires`.

pub(crate) mod app_cookie;
pub mod claim;
pub mod cookie;
pub(crate) mod cookie_date;
pub(crate) mod keys;
pub(crate) mod route;
pub(crate) mod token;

use std::time::Duration;

/// ALB's name for the cookie that keeps a client with its group.
pub(crate) const GROUP_COOKIE: &str = "AWSALBTG";

/// The lifetime of a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// This time since the pin was last written, 1 second to 7 days; the browser gets the same.
    For(Duration),
    /// As long as the browser keeps the cookie (no `Expires`), at most `MAX_LIFETIME`.
    Session,
}

/// ALB's longest duration, and the maximum inside a session cookie.
pub(crate) const MAX_LIFETIME: Duration = Duration::from_hours(7 * 24);

impl Lifetime {
    /// Seconds after which a pin is `expired`, even if the browser still sends it.
    pub fn seconds(self) -> u32 {
        let duration = match self {
            Lifetime::For(duration) => duration,
            Lifetime::Session => MAX_LIFETIME,
        };
        u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
    }
}

/// The time at which a pin in force is written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// With each response, as ALB does.
    EachResponse,
    /// Once half of its lifetime is used.
    HalfLife,
    /// Never, as the Classic ELB: a pin ends a fixed time after it was made.
    Never,
}

/// The condition under which the `CORS` twin is written beside the main cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CorsTwin {
    /// If the client came over TLS: browsers accept a `Secure` cookie from nowhere else.
    Secure,
    /// Always, as ALB does.
    Always,
    /// Never.
    Never,
}

/// The condition under which a cookie gets `Secure`. The twin always does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecureAttribute {
    /// If no client can reach the group over plain HTTP: a browser refuses to replace a `Secure`
    /// cookie from a response over plain HTTP, and the client would lose its pin.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The `SameSite` attribute of the main cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// No attribute, as ALB; the browser's default applies.
    Unset,
    /// `SameSite=Lax`.
    Lax,
    /// `SameSite=Strict`.
    Strict,
    /// `SameSite=None`.
    None,
}

/// The treatment of a client whose target cannot serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnavailable {
    /// The client moves to the successor.
    Move,
    /// The client gets 503 and its pin stays.
    Strict,
}
