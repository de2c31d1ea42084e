//! The request protocols each group accepts (AWS, "Target groups for your Application Load
//! Balancers": protocol version), and the detection of gRPC calls.

use crate::config::settings::Protocol;
use crate::http1::fields::Fields;
use crate::http1::name::Name;
use http::{Method, Version};

/// Returns true if a request is a gRPC call ("gRPC over HTTP2": Content-Type). gRPC-Web is not one:
/// it is made for HTTP/1.1.
pub(super) fn is_grpc(version: Version, fields: &Fields) -> bool {
    if version != Version::HTTP_2 {
        return false;
    }
    let Some(content_type) = fields.get(Name::ContentType) else { return false };
    match content_type.split_at_checked(GRPC.len()) {
        Some((begin, rest)) => {
            begin.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';'))
        }
        None => false,
    }
}

const GRPC: &[u8] = b"application/grpc";

/// Returns true if targets of this protocol can serve the request.
pub(super) fn fits(group: Protocol, version: Version, method: &Method, is_grpc: bool) -> bool {
    match group {
        Protocol::Http1 => !is_grpc,
        Protocol::Http2 => version == Version::HTTP_2,
        Protocol::Grpc => version == Version::HTTP_2 && method == Method::POST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_accept_the_request_protocols_of_albs_table() {
        let (one, two) = (Version::HTTP_11, Version::HTTP_2);
        // HTTP/1.1, HTTP/2, HTTP/2 with POST, gRPC.
        let clients = [
            (one, Method::GET, false),
            (two, Method::GET, false),
            (two, Method::POST, false),
            (two, Method::POST, true),
        ];
        for (group, expected) in [
            (Protocol::Http1, [true, true, true, false]),
            (Protocol::Http2, [false, true, true, true]),
            (Protocol::Grpc, [false, false, true, true]),
        ] {
            let fit = clients
                .each_ref()
                .map(|(version, method, is_grpc)| fits(group, *version, method, *is_grpc));
            assert_eq!(fit, expected, "{group:?}");
        }
    }

    #[test]
    fn a_grpc_call_is_detected_by_content_type_over_http2() {
        let says = |version, content_type: &str| {
            is_grpc(version, &Fields::from_iter([("content-type", content_type)]))
        };
        for calls in ["application/grpc", "application/grpc+proto", "Application/gRPC;a=b"] {
            assert!(says(Version::HTTP_2, calls), "{calls}");
            assert!(!says(Version::HTTP_11, calls), "{calls}");
        }
        for none in ["application/grpc-web", "application/grpc-web+proto", "application/json", ""] {
            assert!(!says(Version::HTTP_2, none), "{none}");
        }
    }
}
