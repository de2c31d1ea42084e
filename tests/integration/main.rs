//! The balancer through real sockets: a real `Server` in this process on port 0, scripted targets,
//! and clients that keep cookies. Each module is one subject, which its first line names.

// A failed set-up ends the test at that line.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]
// Tests run in real time, and every wait has a bound.
#![allow(clippy::disallowed_methods)]

#[path = "../skips/mod.rs"]
mod skips;
mod support;

mod access_log;
mod answers;
mod app_cookie;
mod attributes;
mod bad_input;
mod balancing;
mod broken_answers;
mod checks;
mod command_line;
mod connection_auth;
mod draining;
mod early_answers;
mod explain;
mod faults;
mod forwarding;
mod groups;
mod grpc;
mod health;
mod http2;
mod http2_answers;
mod http2_attacks;
mod http2_ends;
mod http2_limits;
mod http2_smuggling;
mod http2_stalls;
mod http2_targets;
mod idle_worker;
mod keyed;
mod leaving;
mod moving_pins;
mod names;
mod proxy_protocol;
mod real_clients;
mod recovery;
mod reuse_after_body;
mod rules;
mod secrets;
mod send_proxy;
mod sinks;
mod skipping;
mod stickiness;
mod successor;
mod target_states;
mod tls;
mod tls_clients;
mod tls_faults;
mod tls_targets;
mod tunnels_follow;
mod turns;
mod upgrades;
mod waiting;
mod zones;
