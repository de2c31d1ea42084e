//! The fields that a listener writes into each response, a target's or our own (AWS, "HTTP header
//! modification for your Application Load Balancer").

use super::header_flags::{belongs_to_the_hop, is_ours};
use crate::http1::fields::Fields;
use crate::http1::name::Name;
use http::header::{HeaderName, HeaderValue};

/// The treatment of `Server`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerField {
    /// A target's `Server` is forwarded; our own responses have none.
    Pass,
    /// A target's `Server` is forwarded; our own responses have `OWN_NAME`.
    Own,
    /// No response has one.
    Remove,
}

/// The `Server` of our own responses, if they have one. It names no version, because a version
/// tells an attacker which exploits to try.
pub(crate) const OWN_NAME: &str = "stayput";

/// The prepared `response_headers` and `server` of a listener.
#[derive(Clone, Debug)]
pub struct ResponseFields {
    fields: Box<[(HeaderName, HeaderValue)]>,
    server: ServerField,
}

/// The origin of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A target.
    Target,
    /// The balancer.
    Own,
}

impl ResponseFields {
    /// Prepares these fields; each replaces all others of its name.
    pub fn new(
        fields: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
        server: ServerField,
    ) -> Self {
        Self { fields: fields.into_iter().collect(), server }
    }

    /// Writes the fields into a response's head, after hop-by-hop stripping.
    pub fn write(&self, fields: &mut Fields, origin: Origin) {
        for (name, value) in &self.fields {
            fields.set_named(name.as_str(), value.as_bytes());
        }
        match (self.server, origin) {
            (ServerField::Pass, _) | (ServerField::Own, Origin::Target) => {}
            (ServerField::Own, Origin::Own) => {
                fields.set(Name::Server, OWN_NAME.as_bytes());
            }
            (ServerField::Remove, _) => fields.remove(Name::Server),
        }
    }
}

/// The reason why an operator may not set a field of this name, if any.
pub(crate) fn why_reserved(name: &HeaderName) -> Option<&'static str> {
    let name = name.as_str();
    match name {
        "content-length" | "content-encoding" | "content-range" => {
            Some("it describes the framing of the body, which only the sender knows")
        }
        "set-cookie" | "set-cookie2" => {
            Some("it would replace every cookie, the sticky one included")
        }
        "date" => Some("it is the time of the response"),
        "server" => Some("use the listener's key `server`"),
        other if belongs_to_the_hop(other) => {
            Some("it applies to one connection and is set for each")
        }
        other if is_ours(other) => Some("only the balancer sets it"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(server: ServerField, origin: Origin, sent: &[(&str, &str)]) -> Vec<String> {
        let hsts = HeaderName::from_static("strict-transport-security");
        let ours = [(hsts, HeaderValue::from_static("max-age=1"))];
        let mut fields: Fields = sent.iter().copied().collect();
        ResponseFields::new(ours, server).write(&mut fields, origin);
        let mut written = Vec::new();
        fields.write(&mut written);
        let mut lines: Vec<_> =
            std::str::from_utf8(&written).unwrap().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    #[test]
    fn a_field_replaces_all_others_of_its_name() {
        let sent = [("strict-transport-security", "a"), ("strict-transport-security", "b")];
        let got = written(ServerField::Pass, Origin::Target, &sent);
        assert_eq!(got, ["strict-transport-security: max-age=1"]);
    }

    #[test]
    fn server_is_forwarded_ours_or_removed() {
        let server = |rule, origin, sent: &[(&str, &str)]| {
            written(rule, origin, sent).into_iter().find(|line| line.starts_with("server"))
        };
        let theirs = [("server", "nginx/1.22")];
        for (rule, of_target, of_ours) in [
            (ServerField::Pass, Some("server: nginx/1.22"), None),
            (ServerField::Own, Some("server: nginx/1.22"), Some("server: stayput")),
            (ServerField::Remove, None, None),
        ] {
            assert_eq!(server(rule, Origin::Target, &theirs).as_deref(), of_target, "{rule:?}");
            assert_eq!(server(rule, Origin::Target, &[]), None, "{rule:?}");
            assert_eq!(server(rule, Origin::Own, &[]).as_deref(), of_ours, "{rule:?}");
        }
    }

    #[test]
    fn framing_hop_and_own_fields_are_reserved_and_albs_ten_are_not() {
        for name in [
            "connection",
            "transfer-encoding",
            "te",
            "trailer",
            "upgrade",
            "keep-alive",
            "content-length",
            "content-encoding",
            "set-cookie",
            "date",
            "server",
            "x-stayput-verdict",
        ] {
            assert!(why_reserved(&HeaderName::from_static(name)).is_some(), "{name}");
        }
        for name in [
            "strict-transport-security",
            "access-control-allow-origin",
            "access-control-allow-methods",
            "access-control-allow-headers",
            "access-control-allow-credentials",
            "access-control-expose-headers",
            "access-control-max-age",
            "content-security-policy",
            "x-content-type-options",
            "x-frame-options",
            "x-shop",
            "cache-control",
        ] {
            assert_eq!(why_reserved(&HeaderName::from_static(name)), None, "{name}");
        }
    }
}
