//! The balancer through real sockets: a real `Server` in this process on port 0, scripted origins,
//! visitors that keep cookies. Each module is one subject in the domain's words.

// A scene that cannot be set up should end at that very line.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]
// Scenes run in real time; what they wait for has a bound.
#![allow(clippy::disallowed_methods)]

#[path = "../skips/mod.rs"]
mod skips;
mod support;

/// The access log in the formats that others read.
mod access_log;
/// How targets frame what they answer, and what the next request over their connection gets.
mod answers;
/// The application's cookie as real stacks treat it, and the companion beside it.
mod app_cookie;
/// What a listener says of its clients, of Host, of odd names, of its answers, and what it refuses.
mod attributes;
/// What clients, other nodes and odd files bring, each with one clear outcome.
mod bad_input;
/// Who serves newcomers: each algorithm, a slow start, a failing target.
mod balancing;
/// Targets that fail in the middle of an answer: what came before arrives, and that it broke off shows.
mod broken_answers;
/// What a health check asks, over what, and which answers it takes.
mod checks;
/// The real program, its exit codes, and the demo's own curl lines.
mod command_line;
/// SIGTERM: what is in flight finishes, what stands still is cut.
mod connection_auth;
mod draining;
/// Answers that come before the end of their request, and whose fault it is where that stands still.
mod early_answers;
/// Where a request would go, and the cookies that bring it there, by the real program.
mod explain;
/// Targets that refuse, hang, reset and answer garbage; clients that stall, lie and leave.
mod faults;
/// What crosses the balancer unchanged, and what must not cross.
mod forwarding;
/// Several groups behind one rule: their shares, the cookie that keeps a client with one, failover.
mod groups;
/// Calls of gRPC: the four kinds, failed ones, where they stay, and checks that are calls.
mod grpc;
/// Checks, passive marking, readiness, fail-open.
mod health;
/// Clients that speak HTTP/2: what crosses, what ends a stream, a connection, a WebSocket.
mod http2;
/// Answers over HTTP/2: interim ones, lengths, trailers, the balancer's own, and refusals in the log.
mod http2_answers;
/// HTTP/2 clients that flood and take back what they asked for.
mod http2_attacks;
/// What ends an exchange or a connection over HTTP/2 though nobody means harm.
mod http2_ends;
mod http2_limits;
/// HTTP/2 clients whose requests no target may see, and what of others may cross.
mod http2_smuggling;
/// HTTP/2 clients that hold on to what they have: windows, heads, streams.
mod http2_stalls;
/// Targets that speak HTTP/2: what crosses, what is sent again, what holds back whom.
mod http2_targets;
/// Clients known by a route in the application's cookie or by a header field.
mod keyed;
/// Targets that leave: who asks for it, who stays, what survives a restart, what is cut.
mod leaving;
/// What moves a pin, what leaves it, and which of several counts: writes, clocks, shared caches.
mod moving_pins;
/// Targets known by host names: a restart, and a resolver that is silent.
mod names;
/// Clients whom a balancer in front announces, and who may announce anyone.
mod proxy_protocol;
/// curl, openssl, a browser and Python's clients.
mod real_clients;
/// A group that comes back from an outage, and what becomes of its targets' clients.
mod recovery;
/// Connections to a target that ignores bodies, and the clients that meet on them.
mod reuse_after_body;
/// Conditions, redirects and rewrites, and what `explain` says of them.
mod rules;
/// What is never written down: tokens, and values of the application's cookies.
mod secrets;
/// Targets to whom clients are announced, and whose connection is whose.
mod send_proxy;
/// Logs that are not read, full or closed: what is written down never stops traffic.
mod sinks;
/// What is said of tests that did not run.
mod skipping;
/// A client stays, moves once, and its cookie says what it should.
mod stickiness;
/// Who is told whom a client would go to, and that it goes there.
mod successor;
/// Each change of a target's state is a line with ALB's words.
mod target_states;
/// Clients that come over TLS: certificates, sessions, their own certificates.
mod tls;
/// Clients that show a certificate of their own.
mod tls_clients;
/// Handshakes that stall, lie and leave.
mod tls_faults;
/// HTTPS to targets: whose certificates are taken, what a failed handshake costs, what crosses.
mod tls_targets;
/// WebSockets whose clients' pins move.
mod tunnels_follow;
/// Whose turn it is among targets and among groups.
mod turns;
/// Switches of protocols: who may ask, what waits, what outlives what.
mod upgrades;
/// Pinned requests that wait for their own target: one that refuses, one at its cap.
mod waiting;
/// Groups that keep to a zone, and how few healthy targets are too few.
mod zones;
