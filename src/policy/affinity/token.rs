//! The token: the sealed text in the cookie.
