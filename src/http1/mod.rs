//! HTTP/1.1 messages as bytes (RFC 9112): heads read and written, bodies framed. Pure and
//! incremental: no sockets, no clock, no tasks. Client connections and target connections use the
//! same code; HTTP/2 messages are brought into the same form, so that everything that decides about
//! a head reads one type.
//!
//! Reading inward: `request` and `response` parse a head into its start line and its `fields`;
//! `lines` and `scan` find the lines and notes `facts` about spellings that other parsers read differently;
//! `name` gives known field names a number; `value` reads lists and lengths; `decode` and `encode` frame bodies.

pub mod decode;
pub mod encode;
pub mod facts;
pub mod fields;
mod lines;
pub mod name;
pub mod request;
pub mod response;
pub mod scan;
pub mod target;
pub mod value;
