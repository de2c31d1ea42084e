//! Affinity: what binds a client to a target, and the choices an operator has about it.
//!
//! [`token`] is the sealed text in the cookie, [`keys`] what seals it, [`cookie`] how it is found
//! in a request and written into a response, and [`claim`] what it means to one group at a moment.
//! [`app_cookie`] reads what a response does to the application's own cookie, and [`route`] what a
//! request's says where the application names its replica in it. [`cookie_date`] is the one date there is
//! to be read.

pub mod app_cookie;
pub mod claim;
pub mod cookie;
pub mod cookie_date;
pub mod keys;
pub mod route;
pub mod token;

use std::time::Duration;

/// ALB's name for the cookie that keeps a client with its group.
pub const GROUP_COOKIE: &str = "AWSALBTG";

/// How long a pin lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// So long since it was last written, 1 second to 7 days; the browser is told the same.
    For(Duration),
    /// As long as the browser keeps the cookie (no `Expires`), and at most [`MAX_LIFETIME`].
    Session,
}

/// ALB's longest duration, and the bound inside a session cookie.
pub const MAX_LIFETIME: Duration = Duration::from_hours(7 * 24);

impl Lifetime {
    /// Seconds after which a pin is `expired`, whatever the browser thinks.
    pub fn seconds(self) -> u32 {
        let duration = match self {
            Lifetime::For(duration) => duration,
            Lifetime::Session => MAX_LIFETIME,
        };
        u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
    }
}

/// When a good pin is written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// With every response, as ALB does.
    EachResponse,
    /// When half its life is used.
    HalfLife,
    /// Not at all, as the Classic ELB does: it ends so long after it was made.
    Never,
}

/// When the `CORS` twin cookie is written beside the main one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CorsTwin {
    /// When the client came over TLS, for browsers take a `Secure` cookie from nowhere else.
    Secure,
    /// Always, as ALB does.
    Always,
    /// Never.
    Never,
}

/// When a cookie carries `Secure`. The twin always does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecureAttribute {
    /// Where no client can come to it over plain HTTP: a browser refuses to replace a `Secure`
    /// cookie by what an answer over plain HTTP says, and the client would lose its pin.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The `SameSite` attribute of the main cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// No attribute, as ALB; the browser's default holds.
    Unset,
    /// `SameSite=Lax`.
    Lax,
    /// `SameSite=Strict`.
    Strict,
    /// `SameSite=None`.
    None,
}

/// What becomes of a client whose target cannot serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnavailable {
    /// It moves to the successor.
    Move,
    /// It gets 503 and its pin stays.
    Strict,
}
