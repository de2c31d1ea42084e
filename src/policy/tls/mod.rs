//! The pure part of TLS with clients: certificates and their names, the choice among them, the
//! fields that describe a client's certificate, and the words for failures.

pub mod alpn;
pub mod authorities;
pub mod certificate;
pub mod choice;
pub mod client_certificate;
pub mod fault;
pub mod openssl;
pub mod pair;
