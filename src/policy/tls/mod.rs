//! What is pure about TLS with clients: certificates and the names in them, which of them a client
//! is shown, what is told of a client's own, and the words for what goes wrong.

pub mod alpn;
pub mod authorities;
pub mod certificate;
pub mod choice;
pub mod client_certificate;
pub mod fault;
pub mod openssl;
pub mod pair;
