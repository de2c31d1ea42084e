//! Syntax of the texts in the file.

use super::Form;
use crate::base::name::Name;
use crate::config::settings::target_tls::server_name;
use crate::policy::health::matcher::Matcher;
use crate::policy::routing::pattern::Pattern;
use crate::policy::routing::redirect::Template;
use crate::policy::routing::rewrite;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// Any text that is not empty.
pub(super) static ANY: Form =
    Form { what: "text that is not empty", fits: |text| !text.is_empty() };

/// A response body, which may be empty.
pub(super) static BODY: Form =
    Form { what: "text of at most 1024 characters", fits: |text| text.chars().count() <= 1_024 };

/// A path in the file system.
pub(super) static FILE_PATH: Form =
    Form { what: "a path", fits: |text| !text.is_empty() && !text.contains('\0') };

/// The name of a listener, group, rule or zone.
pub(in crate::config) static NAME: Form = Form {
    what: "a name of 1 to 64 letters, digits, `.`, `_`, `-`",
    fits: |text| Name::new(text).is_some(),
};

/// The id of a target.
pub(super) static TARGET_ID: Form = Form {
    what: "an id of 1 to 64 letters, digits and `._-:@/[]`",
    fits: |text| Name::target_id(text).is_some(),
};

/// A listening address.
pub(super) static SOCKET: Form = Form {
    what: "an IP address and a port, such as \"0.0.0.0:80\" or \"[::]:80\"",
    fits: |text| text.parse::<SocketAddr>().is_ok(),
};

/// The address or host name of a target.
pub(super) static TARGET_ADDRESS: Form = Form {
    what: "an address and a port, such as \"10.0.0.11:3000\" or \"app.internal:3000\"",
    fits: |text| text.parse::<SocketAddr>().is_ok() || host_and_port(text).is_some(),
};

/// An address range or one address.
pub(super) static RANGE: Form = Form {
    what: "an IP address or a range of addresses, such as \"192.0.2.0/24\"",
    fits: |text| text.parse::<IpNet>().is_ok() || text.parse::<IpAddr>().is_ok(),
};

/// A host pattern.
pub(super) static HOST_PATTERN: Form = Form {
    what: "a host name of at most 128 characters, in which `*` and `?` are wildcards",
    fits: |text| Pattern::host(text).is_some(),
};

/// A path pattern.
pub(super) static PATH_PATTERN: Form = Form {
    what: "a path of at most 128 characters that begins with `/`, in which `*` and `?` are wildcards",
    fits: |text| Pattern::path(text).is_some(),
};

/// The method of a rule's condition.
pub(super) static METHOD: Form = Form {
    what: "a method of at most 40 characters, such as \"GET\"",
    fits: |text| text.len() <= 40 && http::Method::from_bytes(text.as_bytes()).is_ok(),
};

/// The field name of a rule's condition.
pub(super) static RULE_FIELD: Form = Form {
    what: "a header field name of at most 40 characters; use `hosts` for Host",
    fits: |text| {
        let is_host = text.eq_ignore_ascii_case("host");
        text.len() <= 40 && !is_host && (HEADER_NAME.fits)(text)
    },
};

/// The field value of a rule's condition.
pub(super) static FIELD_PATTERN: Form = Form {
    what: "1 to 128 visible ASCII characters or spaces, in which `*` and `?` are wildcards",
    fits: |text| Pattern::field_value(text).is_some(),
};

/// A key or a value of the query in a rule's condition.
pub(super) static QUERY_PATTERN: Form = Form {
    what: "1 to 128 visible ASCII characters, in which `*` and `?` are wildcards; write `\\*`, \
           `\\?` and `\\\\` for the characters themselves",
    fits: |text| Pattern::query(text).is_some(),
};

/// The destination of `redirect_to`.
pub(super) static HTTPS: Form =
    Form { what: "\"https\" or \"https:PORT\"", fits: |text| https_port(text).is_some() };

/// The port of a redirect, if it is not a number.
pub(super) static REDIRECT_PORT: Form = Form {
    what: "\"#{port}\"",
    fits: |text| text == "#{port}" || text.parse::<u16>().is_ok_and(|port| port > 0),
};

/// The host of a redirect.
pub(super) static REDIRECT_HOST: Form = Form {
    what: "a host name of at most 128 characters, which may contain `#{host}`",
    fits: |text| Template::host(text).is_some(),
};

/// The path of a redirect.
pub(super) static REDIRECT_PATH: Form = Form {
    what: "a path of at most 128 characters that begins with `/`, which may contain `#{host}`, \
           `#{port}` and `#{path}`",
    fits: |text| Template::path(text).is_some(),
};

/// The query of a redirect.
pub(super) static REDIRECT_QUERY: Form = Form {
    what: "a query of at most 128 characters without its `?`, which may contain `#{protocol}`, \
           `#{host}`, `#{port}`, `#{path}` and `#{query}`",
    fits: |text| Template::query(text).is_some(),
};

/// The regular expression of a rewrite.
pub(super) static REGEX: Form = Form {
    what: "a regular expression of 1 to 1024 ASCII characters",
    fits: |text| (1..=rewrite::MAX_LEN).contains(&text.len()) && text.is_ascii(),
};

/// The replacement of a rewrite.
pub(super) static REPLACEMENT: Form = Form {
    what: "at most 1024 visible ASCII characters, in which `$1` stands for the first group",
    fits: |text| text.len() <= rewrite::MAX_LEN && text.bytes().all(|byte| byte.is_ascii_graphic()),
};

/// The path of a health check.
pub(super) static REQUEST_PATH: Form = Form {
    what: "a path that begins with `/`, of at most 1024 visible ASCII characters and without `#`",
    fits: |text| {
        let fine = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        text.starts_with('/') && text.len() <= 1_024 && text.bytes().all(fine)
    },
};

/// The status codes of a matcher.
pub(super) static MATCHER: Form = Form {
    what: "status codes from 100 to 499, or gRPC codes from 0 to 99, such as \"200\", \"200,202\" \
           or \"200-299\"",
    fits: |text| Matcher::http(text).or_else(|| Matcher::grpc(text)).is_some(),
};

/// A cookie name: a token of RFC 9110 section 5.6.2, as RFC 6265 section 4.1.1 requires.
pub(super) static COOKIE_NAME: Form = Form {
    what: "a cookie name of 1 to 64 letters, digits and ``!#$%&'*+-.^_`|~``",
    fits: |text| {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        (1..=64).contains(&text.len()) && text.bytes().all(fine)
    },
};

/// A route or its separator: bytes that a cookie value may hold (RFC 6265 section 4.1.1).
pub(super) static ROUTE: Form = Form {
    what: "1 to 64 visible ASCII characters other than `\"`, `,`, `;` and `\\`",
    fits: |text| {
        let fine = |byte: u8| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte);
        (1..=64).contains(&text.len()) && text.bytes().all(fine)
    },
};

/// The `Path` of a cookie.
pub(super) static COOKIE_PATH: Form = Form {
    what: "a path that begins with `/`, of at most 256 visible ASCII characters and without `;`",
    fits: |text| {
        let fine = |byte: u8| byte.is_ascii_graphic() && byte != b';';
        text.starts_with('/') && text.len() <= 256 && text.bytes().all(fine)
    },
};

/// The `Domain` of a cookie, or another host name.
pub(super) static HOST: Form = Form {
    what: "a host name, such as \"shop.example\"",
    fits: |text| is_host(text.strip_prefix('.').unwrap_or(text)),
};

/// A name that a certificate can have.
pub(super) static SERVER_NAME: Form = Form {
    what: "a host name, such as \"app.internal\", or an IP address",
    fits: |text| server_name(text).is_some(),
};

/// The name of a header field.
pub(super) static HEADER_NAME: Form =
    Form { what: "a header field name", fits: |text| http::HeaderName::try_from(text).is_ok() };

/// The value of a configured header field; ALB's bound is 1 KB (AWS, "HTTP header modification for
/// your Application Load Balancer").
pub(super) static HEADER_VALUE: Form = Form {
    what: "a header value of 1 to 1024 visible ASCII characters and spaces, without spaces at its \
           ends",
    fits: |text| {
        let fine = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        (1..=1_024).contains(&text.len()) && text.bytes().all(fine) && text.trim() == text
    },
};

/// A media type in a header field.
pub(super) static CONTENT_TYPE: Form = Form {
    what: "a media type, such as \"text/plain\"",
    fits: |text| {
        text.contains('/') && text.len() <= 256 && http::HeaderValue::try_from(text).is_ok()
    },
};

/// Parses a host name and its port, for example `app.internal:3000`.
pub(in crate::config) fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    // A text in the form of an address that is not one, such as `10.0.0.256`, is no host name
    // either: no top-level domain is a number (RFC 3696 section 2).
    let numeric = host.rsplit('.').next()?.bytes().all(|byte| byte.is_ascii_digit());
    (is_host(host) && !numeric).then(|| (host.to_ascii_lowercase(), port))
}

/// Parses the port of `https` or `https:8443`.
pub(in crate::config) fn https_port(text: &str) -> Option<u16> {
    match text.strip_prefix("https")? {
        "" => Some(443),
        port => port.strip_prefix(':')?.parse().ok().filter(|port| *port > 0),
    }
}

fn is_host(text: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(fine);
    text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}
