//! The closed list of error reasons, each with its word in the access log, the side at fault, the
//! status of the balancer's answer, and the safety of a retry.

use http::StatusCode;

/// The side to examine first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client: its request, or its connection.
    Client,
    /// The target, or the network between it and the balancer.
    Target,
    /// The balancer: its configuration, its limits, or a request of its operator.
    Balancer,
    /// The client or the target: the balancer cannot distinguish them.
    ClientOrTarget,
}

impl Side {
    /// The word in the manual's table.
    pub fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Target => "target",
            Self::Balancer => "balancer",
            Self::ClientOrTarget => "client or target",
        }
    }
}

/// The safety of sending the same request again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    /// No target has received a request that it must not receive twice.
    Safe,
    /// A target may have received the request, or a part of it.
    Unsafe,
}

/// Declares the reasons in one list.
macro_rules! reasons {
    ($(
        $(#[doc = $doc:literal])+
        $reason:ident: $word:literal, $side:ident, $retry:ident, $status:literal;
    )*) => {
        /// The reason for which the balancer answered a request itself, or for which a response or
        /// a tunnel was cut short.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ErrorReason {
            $($(#[doc = $doc])+ $reason,)*
        }

        impl ErrorReason {
            /// Every reason, for tables and tests.
            pub const ALL: &[Self] = &[$(Self::$reason),*];

            /// The value of `error_reason` in the access log.
            pub fn word(self) -> &'static str {
                match self { $(Self::$reason => $word,)* }
            }

            /// The side at fault.
            pub fn side(self) -> Side {
                match self { $(Self::$reason => Side::$side,)* }
            }

            fn retry(self) -> Retry {
                match self { $(Self::$reason => Retry::$retry,)* }
            }

            fn status_code(self) -> u16 {
                match self { $(Self::$reason => $status,)* }
            }
        }
    };
}

// A status of 0: the response or the tunnel had begun, and keeps its status.
reasons! {
    /// The head or its framing is not HTTP.
    MalformedHead: "malformed_head", Client, Safe, 400;
    /// The Host field or the authority is missing, repeated or malformed.
    BadHost: "bad_host", Client, Safe, 400;
    /// The request target has a form that its method does not allow.
    BadTargetForm: "bad_target_form", Client, Safe, 400;
    /// The method is longer than 127 characters.
    BadMethod: "bad_method", Client, Safe, 400;
    /// Content-Length is no number, or there are values that differ.
    BadContentLength: "bad_content_length", Client, Safe, 400;
    /// Transfer-Encoding is no list of codings, or has `chunked` more than once.
    BadTransferEncoding: "bad_transfer_encoding", Client, Safe, 400;
    /// Connection names a field that must reach the target.
    BadConnectionOption: "bad_connection_option", Client, Safe, 400;
    /// The desync mitigation mode refuses the request.
    DesyncMitigation: "desync_mitigation", Client, Safe, 400;
    /// X-Forwarded-For has more entries than a path without a loop. The log has ALB's 463.
    ForwardingLoop: "forwarding_loop", Client, Safe, 400;
    /// Plain HTTP on a listener with TLS.
    PlainHttp: "plain_http", Client, Safe, 400;
    /// The framing of the request body is malformed.
    BodyMalformed: "body_malformed", Client, Unsafe, 400;
    /// The client closed or reset before its exchange was complete. The log has ALB's 460, unless
    /// the response had begun.
    // It may have closed its half alone, and read the answer.
    ClientGone: "client_gone", Client, Unsafe, 400;
    /// No rule matches, and the listener has no default.
    NoRule: "no_rule", Balancer, Safe, 404;
    /// CONNECT or TRACE.
    MethodNotAllowed: "method_not_allowed", Client, Safe, 405;
    /// The rest of the head or of the body did not come in time.
    RequestTimeout: "request_timeout", Client, Unsafe, 408;
    /// The request body is larger than `limits.body_bytes`.
    BodyTooLarge: "body_too_large", Client, Unsafe, 413;
    /// The request target alone is longer than `limits.header_bytes`.
    UriTooLong: "uri_too_long", Client, Safe, 414;
    /// The Expect field has a value that is not known.
    UnknownExpectation: "unknown_expectation", Client, Safe, 417;
    /// The head has more bytes or more fields than `limits` allow.
    HeadTooLarge: "head_too_large", Client, Safe, 431;
    /// The worker's unfinished heads took too much memory, and this was the oldest.
    HeadsFull: "heads_full", Client, Safe, 431;
    /// The targets of the group do not speak the protocol of the request (ALB's 464).
    ProtocolMismatch: "protocol_mismatch", Client, Safe, 464;
    /// A rewrite made a path or a host that is not valid.
    RewriteFailed: "rewrite_failed", Balancer, Safe, 500;
    /// Transfer-Encoding names a coding that is not known.
    UnknownTransferCoding: "unknown_transfer_coding", Client, Safe, 501;
    /// The host name of the target has no address.
    TargetUnresolved: "target_unresolved", Target, Safe, 502;
    /// The target refused the connection, or did so a moment ago.
    TargetRefused: "target_refused", Target, Safe, 502;
    /// The connection failed for another reason of the network.
    TargetUnreachable: "target_unreachable", Target, Safe, 502;
    /// The TLS handshake with the target failed.
    TargetTlsFailed: "target_tls_failed", Target, Safe, 502;
    /// The certificate of the target is not valid for it.
    TargetCertificateRefused: "target_certificate_refused", Target, Safe, 502;
    /// The target of a group of HTTP/2 does not speak it.
    TargetNotHttp2: "target_not_http2", Target, Safe, 502;
    /// The balancer has no socket, port or memory left for a connection.
    OutOfSockets: "out_of_sockets", Balancer, Safe, 502;
    /// The target closed or reset before it answered.
    TargetLost: "target_lost", Target, Unsafe, 502;
    /// The answer of the target is not HTTP, or its head is too large.
    TargetMalformed: "target_malformed", Target, Unsafe, 502;
    /// The target switched protocols without a request to do so.
    UnaskedUpgrade: "unasked_upgrade", Target, Unsafe, 502;
    /// The deregistration delay of the target ended before its response or tunnel did.
    TargetDeregistered: "target_deregistered", Balancer, Unsafe, 502;
    /// No target of the group can serve.
    NoTarget: "no_target", Target, Safe, 503;
    /// The pinned target cannot serve, and the group is strict.
    StrictRefused: "strict_refused", Target, Safe, 503;
    /// All groups of the rule have weight 0.
    AllWeightsZero: "all_weights_zero", Balancer, Safe, 503;
    /// The target has as many connections as it may, and none came free in time.
    TargetConnectionsFull: "target_connections_full", Balancer, Safe, 503;
    /// The connection to the target was not ready in time.
    TargetConnectTimeout: "target_connect_timeout", Target, Safe, 504;
    /// The target did not answer in time.
    ResponseTimeout: "response_timeout", Target, Unsafe, 504;
    /// An HTTP/2 preface on a connection that agreed on HTTP/1.1.
    // ALB answers 505 on a listener that does not speak HTTP/2.
    Http2Preface: "http2_preface", Client, Safe, 505;
    /// The Location of a redirect is longer than 8 KiB.
    RedirectTooLong: "redirect_too_long", Balancer, Safe, 507;
    /// A redirect leads to the URL of the request itself.
    RedirectLoop: "redirect_loop", Balancer, Safe, 508;
    /// The target closed or reset in the middle of its answer.
    TargetBrokeOff: "target_broke_off", Target, Unsafe, 0;
    /// A response or a tunnel carried no byte for the idle time-out.
    Stalled: "stalled", ClientOrTarget, Unsafe, 0;
    /// One end of a tunnel reset its connection.
    TunnelBrokeOff: "tunnel_broke_off", ClientOrTarget, Unsafe, 0;
    /// The client of a WebSocket moved to another target, and `tunnels_follow` ended it.
    PinMoved: "pin_moved", Balancer, Unsafe, 0;
    /// The process ended, with its drain time-out over.
    Cut: "cut", Balancer, Unsafe, 0;
}

impl ErrorReason {
    /// True if the client may send the request again without effects that happen twice: no target
    /// has received it, or it is one that may be repeated (RFC 9110 section 9.2.2).
    pub fn is_retry_safe(self) -> bool {
        self.retry() == Retry::Safe
    }

    /// The status of the balancer's answer: the standard's, but for ALB's 464. `None` if a response
    /// or a tunnel had begun.
    pub fn status(self) -> Option<StatusCode> {
        StatusCode::from_u16(self.status_code()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANUAL: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operating.md"));

    #[test]
    fn no_two_reasons_share_a_word() {
        let mut words: Vec<_> = ErrorReason::ALL.iter().map(|reason| reason.word()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), ErrorReason::ALL.len());
    }

    #[test]
    fn the_manual_has_each_reason_with_side_status_and_retry() {
        for reason in ErrorReason::ALL {
            let status =
                reason.status().map_or("-".to_owned(), |status| status.as_str().to_owned());
            let retry = if reason.is_retry_safe() { "yes" } else { "no" };
            let row =
                format!("| `{}` | {status} | {} | {retry} |", reason.word(), reason.side().word());
            assert!(MANUAL.contains(&row), "not in docs/operating.md: {row}");
        }
        let rows =
            MANUAL.lines().skip_while(|line| !line.starts_with("| `error_reason` | status |"));
        let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
        assert_eq!(rows.count(), ErrorReason::ALL.len());
    }
}
