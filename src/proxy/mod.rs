//! Client connections, and each exchange on them, from a request's head to the last byte of its
//! response.
//!
//! The list goes from the outside in. A file imports only files below it in this list;
//! `tests/house.rs` checks that.
//!
//! ```text
//! A client's connection
//!   downstream               serve(): PROXY header, TLS, then HTTP/1.1 or HTTP/2; the close
//!   downstream/http2         an HTTP/2 connection: a loop of turns
//!   downstream/http2_stream  one stream: its request in, its response out
//!   downstream/http1         an HTTP/1.1 connection: read, handle, send the response, again
//!   downstream/send          a response to an HTTP/1.1 client
//!   downstream/proxy_header  the PROXY header of a trusted peer
//!   downstream/handshake     the TLS handshake
//!   downstream/close         the close of a connection
//! One request
//!   handle                   the life of a request in one file
//!   response                 the client's response head, cookies
//!   request                  the target's request head and body
//!   rewrite                  URL changes: redirect, rewrite
//!   client_identity          the client behind a request
//!   upstream                 one try at one target
//!   upstream/http1           over HTTP/1.1
//!   upstream/http2           over HTTP/2
//!   upstream/attempt         the request to send, its outcome, the conditions of a retry
//!   reconnect                dials of targets that refuse, and waiting for them
//!   h2_tunnel                a stream that carries another protocol
//!   answer                   types of a response on its way to the client
//!   tunnel                   bytes both ways after a protocol switch
//!   follow                   a WebSocket that follows its client's pin
//!   live_view                the current state of targets and groups
//!   response_body            the body of a response, and the target's side it comes from
//!   upstream_response        an HTTP/1.1 connection, or an HTTP/2 stream
//!   upstream/kept_body       a request's body that can be sent again
//!   exchange                 one exchange; dropping it writes its access record
//!   log_entry                the access record of an exchange
//!   protocols                the request protocols each group accepts
//! State of a worker and of a connection
//!   h2_slot                  the state an HTTP/2 connection shares with its streams
//!   read_budget              the bytes of a client read in a turn
//!   h2_unopened              streams that the library refuses itself
//!   send_budget              the bytes queued for a client
//!   worker_ctx               the context of a worker
//!   reconnects               targets that refuse, requests that wait for them
//!   partial_heads            memory for incomplete heads
//!   linger                   permits for reading on after a client's response
//!   conn                     one client connection
//!   conn_info                facts about it from accept to close
//!   token_cache              the cache of opened and sealed tokens
//! Leaves
//!   upload                   a client's body on its way to a target
//!   recv_body                a client's body while it is received
//!   stream_body              a client's body over HTTP/2
//!   client_io                the client's side of an HTTP/1.1 connection
//!   interim                  interim responses for an HTTP/2 client
//!   deadline                 the deadline of an exchange; race()
//!   taking                   a target's progress with a body
//!   local_response           pages, redirects, gRPC errors made here
//!   failure                  the failures of an exchange: status, word
//!   expiry                   the side that let a deadline expire
//! ```

pub(crate) mod answer;
mod client_identity;
pub(crate) mod client_io;
pub(crate) mod conn;
pub(crate) mod conn_info;
pub(crate) mod deadline;
pub(crate) mod downstream;
pub(crate) mod exchange;
pub(crate) mod expiry;
pub(crate) mod failure;
mod follow;
mod h2_slot;
mod h2_tunnel;
mod h2_unopened;
pub(crate) mod handle;
mod interim;
pub(crate) mod linger;
pub(crate) mod live_view;
pub(crate) mod local_response;
pub(crate) mod log_entry;
pub(crate) mod partial_heads;
mod protocols;
mod read_budget;
pub(crate) mod reconnect;
pub(crate) mod reconnects;
pub(crate) mod recv_body;
mod request;
mod response;
pub(crate) mod response_body;
mod rewrite;
mod send_budget;
pub(crate) mod stream_body;
mod taking;
mod token_cache;
pub(crate) mod tunnel;
pub(crate) mod upload;
pub(crate) mod upstream;
pub(crate) mod upstream_response;
pub(crate) mod worker_ctx;
