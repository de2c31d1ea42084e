//! The pure part of TLS with clients: certificates and their names, the choice among them, the
//! fields that describe a client's certificate, and the words for failures.

pub(crate) mod alpn;
pub(crate) mod authorities;
pub(crate) mod certificate;
pub(crate) mod choice;
pub(crate) mod client_certificate;
pub(crate) mod fault;
pub(crate) mod openssl;
pub(crate) mod pair;
