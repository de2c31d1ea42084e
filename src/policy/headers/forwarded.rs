//! X-Forwarded-*: who the client is, who may say so, and what the target is told.

/// What becomes of `X-Forwarded-For` on its way to the target (AWS, "HTTP headers and Application
/// Load Balancers").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedForMode {
    /// The peer's address is added at the right.
    Append,
    /// It goes on as it came, and is not made where it is absent.
    Preserve,
    /// It is removed.
    Remove,
}
