//! Client connections, and each exchange on them, from a request's head to the last byte of its answer.
//!
//! Reading down is reading inward. A file imports only files below it in this list, which
//! `tests/house.rs` reads and holds.
//!
//! ```text
//! A client's connection
//!   downstream               serve(): PROXY header, TLS, then HTTP/1.1 or HTTP/2; the close
//!   downstream/http2         an HTTP/2 connection: a loop of turns
//!   downstream/http2_stream  one stream: its request in, its answer out
//!   downstream/http1         an HTTP/1.1 connection: read a head, handle it, send the answer, again
//!   downstream/send          an answer on its way to an HTTP/1.1 client
//!   downstream/proxy_header  the PROXY header of a trusted peer
//!   downstream/handshake     the TLS handshake
//!   downstream/close         how a connection is closed
//! One request
//!   handle                   the whole life of a request on one screen
//!   response                 the target's head as the client gets it, cookies
//!   request                  the client's head as the target gets it
//!   rewrite                  another URL than the client's: redirect, rewrite
//!   client_identity          the client behind a request
//!   upstream                 one try at one target
//!   upstream/http1           over HTTP/1.1
//!   upstream/http2           over HTTP/2
//!   upstream/attempt         what is sent, what came of it, what may be tried again
//!   reconnect                dials of targets that refuse, and waiting for them
//!   h2_tunnel                a stream that carries another protocol
//!   answer                   what is handed from one file of the way to the next
//!   tunnel                   bytes both ways after a switch of protocols
//!   follow                   a WebSocket that follows its client's pin
//!   live_view                targets and groups in the state they are in
//!   response_body            the body of an answer, and the target's side it comes from
//!   upstream_response        a connection, or a stream of one
//!   upstream/kept_body       a request's body that can be sent once more
//!   exchange                 one exchange; dropping it writes it down
//!   log_entry                what is written down
//!   protocols                which client may speak to which group
//! State of a worker and of a connection
//!   h2_slot                  what an HTTP/2 connection shares with its streams
//!   read_budget              how much of a client is read in a turn
//!   h2_unopened              streams that the library refuses unseen
//!   send_budget              how much is queued for a client
//!   worker_ctx               what a worker owns
//!   reconnects               targets that refuse, requests that wait
//!   partial_heads            memory for heads of which a part has come
//!   linger                   places for clients that are read on after their answer
//!   conn                     one client connection
//!   conn_info                what is known of it
//!   token_cache              tokens that were opened and sealed
//! Leaves
//!   upload                   a client's body on its way to a target
//!   recv_body                a client's body as it comes
//!   stream_body              the same over HTTP/2
//!   client_io                the client's side of an HTTP/1.1 connection
//!   interim                  interim answers on their way to an HTTP/2 client
//!   deadline                 how long an exchange may wait; race()
//!   taking                   whether a target takes a body
//!   local_response           pages, redirects, gRPC errors made here
//!   failure                  what an exchange can die of: status, word
//!   expiry                   the side whose time is over
//! ```

pub mod answer;
mod client_identity;
pub mod client_io;
pub mod conn;
pub mod conn_info;
pub mod deadline;
pub mod downstream;
pub mod exchange;
pub mod expiry;
pub mod failure;
mod follow;
mod h2_slot;
mod h2_tunnel;
mod h2_unopened;
pub mod handle;
mod interim;
pub mod linger;
pub mod live_view;
pub mod local_response;
pub mod log_entry;
pub mod partial_heads;
mod protocols;
mod read_budget;
pub mod reconnect;
pub mod reconnects;
pub mod recv_body;
mod request;
mod response;
pub mod response_body;
mod rewrite;
mod send_budget;
pub mod stream_body;
mod taking;
mod token_cache;
pub mod tunnel;
pub mod upload;
pub mod upstream;
pub mod upstream_response;
pub mod worker_ctx;
