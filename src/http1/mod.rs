//! HTTP/1.1 messages as bytes (RFC 9112): parses and writes heads, frames bodies. Pure and
//! incremental: no sockets, no clock, no tasks. Client connections and target connections share
//! this code. HTTP/2 messages are converted to the same form, so that all decisions about a head
//! read one type.
//!
//! From the outside in: `request` and `response` parse a head into its start line and its `fields`;
//! `lines` and `scan` find the lines and record `facts` about spellings that other parsers read
//! differently; `name` numbers the known field names; `value` parses lists and lengths; `decode`
//! and `encode` frame bodies.

pub mod decode;
pub mod encode;
pub mod facts;
pub mod fields;
mod lines;
pub mod name;
pub mod request;
pub mod response;
pub(crate) mod scan;
pub(crate) mod target;
pub(crate) mod value;
