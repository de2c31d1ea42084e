//! Interim responses of a target (1xx) that are forwarded to a client (RFC 9110 section 15.2).

use super::hop_by_hop;
use crate::http1::fields::Fields;
use crate::http1::name::Name;
use http::StatusCode;

/// Bytes of interim responses sent to a client for one request: three times the size of a large
/// page's 103. A client that reads nothing makes the balancer hold as much for each of its streams.
pub(crate) const MAX_INTERIM: usize = 16 << 10;

/// Bytes counted for each interim response beside its fields, so that empty ones are bounded too.
const HEAD_OVERHEAD: usize = 64;

/// Returns true if an interim response is forwarded to the client. 100 belongs to one hop, because
/// this balancer asks its client for the body itself; 101 is not interim but the end of HTTP.
pub(crate) fn passes(status: StatusCode) -> bool {
    status.is_informational()
        && status != StatusCode::CONTINUE
        && status != StatusCode::SWITCHING_PROTOCOLS
}

/// Removes the fields of an interim response that belong to the hop, frame a body, or could
/// override those a listener writes into its final response: a cookie, `Server` and names reserved
/// for the balancer.
pub(crate) fn strip(fields: &mut Fields) {
    hop_by_hop::strip_response(fields);
    for name in [Name::ContentLength, Name::SetCookie, Name::Server] {
        fields.remove(name);
    }
    fields.retain(|_, name, _| {
        !name.get(..OURS.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(OURS))
    });
}

const OURS: &[u8] = b"x-stayput-";

/// Bytes that an interim response takes of [`MAX_INTERIM`].
pub(crate) fn size(fields: &Fields) -> usize {
    HEAD_OVERHEAD + fields.iter().map(|(_, name, value)| name.len() + value.len()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interim_responses_are_forwarded_except_those_of_one_hop() {
        for (status, expected) in
            [(100, false), (101, false), (102, true), (103, true), (199, true), (200, false)]
        {
            assert_eq!(passes(StatusCode::from_u16(status).unwrap()), expected, "{status}");
        }
    }

    #[test]
    fn hints_are_kept_and_fields_of_final_responses_are_removed() {
        let fields = [
            ("link", "</a.css>; rel=preload"),
            ("link", "</b.js>; rel=preload"),
            ("content-security-policy", "default-src 'self'"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("content-length", "4"),
            ("set-cookie", "a=1"),
            ("server", "target"),
            ("x-stayput-verdict", "hit"),
        ];
        let mut left = Fields::from_iter(fields);
        strip(&mut left);
        let names: Vec<_> = left.iter().map(|(_, name, _)| name).collect();
        assert_eq!(names, [&b"link"[..], b"link", b"content-security-policy"]);
        let text = "link</a.css>; rel=preloadlink</b.js>; rel=preload";
        let policy = "content-security-policydefault-src 'self'";
        assert_eq!(size(&left), HEAD_OVERHEAD + text.len() + policy.len());
        assert_eq!(size(&Fields::default()), HEAD_OVERHEAD);
    }
}
