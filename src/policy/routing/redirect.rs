//! Redirects: the URL a client is sent to, built from the URL of its request (AWS, "Actions for
//! listener rules", "Redirect actions").

use crate::policy::headers::head;
use std::fmt::Write;

/// A checked redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The status code.
    pub status: Status,
    /// The scheme of the new URL.
    pub scheme: Scheme,
    /// The host of the new URL.
    pub host: Template,
    /// The port of the new URL.
    pub port: Port,
    /// The path of the new URL.
    pub path: Template,
    /// The query; an empty result is left out.
    pub query: Template,
}

/// The status code of a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 301, 302, 303, 307 or 308.
    Fixed(u16),
    /// 301 for GET and HEAD, and 308 for other methods, because a client that follows a 308 keeps
    /// its method (RFC 9110 section 15.4.9).
    ByMethod,
}

/// The scheme of a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// The request's own scheme.
    Same,
    /// `http`
    Http,
    /// `https`
    Https,
}

/// The port of a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// The request's explicit port. A port that is the default of the request's scheme counts as
    /// none.
    Same,
    /// This port.
    Number(u16),
}

/// Text with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Box<[Piece]>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Protocol,
    Host,
    Port,
    Path,
    Query,
}

const PLACEHOLDERS: [(&str, Piece); 5] = [
    ("protocol", Piece::Protocol),
    ("host", Piece::Host),
    ("port", Piece::Port),
    ("path", Piece::Path),
    ("query", Piece::Query),
];

/// The maximum length of a part of a redirect (AWS, `RedirectActionConfig`: 128 characters).
pub(crate) const MAX_PART: usize = 128;

/// The maximum length of the URL (AWS, "Troubleshoot your Application Load Balancers", HTTP 507:
/// 8K).
pub(crate) const MAX_URL: usize = 8 * 1_024;

/// The URL of the request.
#[derive(Clone, Copy, Debug)]
pub struct Original<'r> {
    /// True if the client came over TLS.
    pub is_tls: bool,
    /// The host without the port.
    pub host: &'r str,
    /// The explicit port, if any.
    pub port: Option<u16>,
    /// The path with its leading slash.
    pub path: &'r str,
    /// The query without its question mark; empty if there is none.
    pub query: &'r str,
}

/// The reason a redirect has no URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectError {
    /// It would be the URL of the request.
    Loop,
    /// It would be longer than [`MAX_URL`].
    TooLong,
    /// The request's host is not valid in the place where the redirect uses it.
    Host,
}

impl Redirect {
    /// Makes the redirect of `redirect_to`: the same URL over TLS, at this port.
    pub fn to_https(port: u16) -> Self {
        let one = |piece| Template([piece].into());
        Self {
            status: Status::ByMethod,
            scheme: Scheme::Https,
            host: one(Piece::Host),
            port: Port::Number(port),
            path: Template([Piece::Text("/".into()), Piece::Path].into()),
            query: one(Piece::Query),
        }
    }

    /// Returns true if scheme, host, port and path are all the request's own, so that it could only
    /// lead to a loop.
    pub fn changes_nothing(&self) -> bool {
        let same = Self::to_https(443);
        self.scheme == Scheme::Same
            && self.port == Port::Same
            && (&self.host, &self.path) == (&same.host, &same.path)
    }

    /// Returns the status code for a request of this method.
    pub fn status(&self, method: &str) -> u16 {
        match self.status {
            Status::Fixed(status) => status,
            Status::ByMethod if matches!(method, "GET" | "HEAD") => 301,
            Status::ByMethod => 308,
        }
    }

    /// Returns the URL for a request, of at most [`MAX_URL`] bytes, all allowed in a URI (RFC 3986
    /// section 2). The port is written if it is not the scheme's default.
    ///
    /// # Errors
    /// The reason there is no URL.
    pub fn location(&self, original: &Original<'_>) -> Result<String, RedirectError> {
        let is_tls = match self.scheme {
            Scheme::Same => original.is_tls,
            Scheme::Http => false,
            Scheme::Https => true,
        };
        let own_port = original.port.filter(|port| *port != default_port(original.is_tls));
        let port = match self.port {
            Port::Same => own_port,
            Port::Number(port) => Some(port),
        };
        let port = port.filter(|port| *port != default_port(is_tls));
        let mut url = format!("{}://", scheme(is_tls));
        let host_at = url.len();
        self.host.expand(original, &mut url)?;
        if !head::is_bare_host(&url[host_at..]) {
            return Err(RedirectError::Host);
        }
        let host_end = url.len();
        if let Some(port) = port {
            // Writing to memory cannot fail.
            let _ = write!(url, ":{port}");
        }
        let path_at = url.len();
        self.path.expand(original, &mut url)?;
        let path_end = url.len();
        url.push('?');
        self.query.expand(original, &mut url)?;
        let is_own = is_tls == original.is_tls
            && url[host_at..host_end].eq_ignore_ascii_case(original.host)
            && port == own_port
            && url[path_at..path_end] == *original.path
            && url[path_end + 1..] == *original.query;
        if is_own {
            return Err(RedirectError::Loop);
        }
        if url.len() == path_end + 1 {
            url.truncate(path_end);
        }
        if url.len() > MAX_URL {
            return Err(RedirectError::TooLong);
        }
        Ok(url)
    }
}

impl Template {
    /// A host of at most [`MAX_PART`] characters, which may contain `#{host}`.
    pub fn host(text: &str) -> Option<Self> {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if head::is_bare_host(text) && text.len() <= MAX_PART {
            return Some(Self([Piece::Text(text.into())].into()));
        }
        Self::parse(text, &[Piece::Host], fine).filter(|template| template.0.contains(&Piece::Host))
    }

    /// A path of at most [`MAX_PART`] characters that begins with `/`, which may contain `#{host}`,
    /// `#{port}` and `#{path}`.
    pub fn path(text: &str) -> Option<Self> {
        let fine = |byte: u8| belongs_in_uri(byte) && byte != b'?';
        let template = Self::parse(text, &[Piece::Host, Piece::Port, Piece::Path], fine)?;
        text.starts_with('/').then_some(template)
    }

    /// A query of at most [`MAX_PART`] characters, which may contain every placeholder.
    pub fn query(text: &str) -> Option<Self> {
        let all = PLACEHOLDERS.map(|(_, piece)| piece);
        (!text.starts_with('?')).then(|| Self::parse(text, &all, belongs_in_uri))?
    }

    fn parse(text: &str, allowed: &[Piece], fine: fn(u8) -> bool) -> Option<Self> {
        if text.len() > MAX_PART {
            return None;
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (fixed, behind) = match rest.find("#{") {
                Some(at) => rest.split_at(at),
                None => (rest, ""),
            };
            if !fixed.bytes().all(fine) {
                return None;
            }
            if !fixed.is_empty() {
                pieces.push(Piece::Text(fixed.into()));
            }
            rest = behind;
            if let Some(placeholder) = behind.strip_prefix("#{") {
                let (name, behind) = placeholder.split_once('}')?;
                let known = PLACEHOLDERS.into_iter().find(|(known, _)| *known == name);
                pieces.push(known.map(|(_, piece)| piece).filter(|one| allowed.contains(one))?);
                rest = behind;
            }
        }
        Some(Self(pieces.into()))
    }

    /// Appends the text with the request's parts for the placeholders.
    fn expand(&self, original: &Original<'_>, url: &mut String) -> Result<(), RedirectError> {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => url.push_str(text),
                Piece::Protocol => url.push_str(scheme(original.is_tls)),
                Piece::Host => url.push_str(original.host),
                Piece::Port => {
                    let port = original.port.unwrap_or(default_port(original.is_tls));
                    let _ = write!(url, "{port}");
                }
                Piece::Path => {
                    encode(original.path.strip_prefix('/').unwrap_or_default(), url);
                }
                Piece::Query => encode(original.query, url),
            }
            // A placeholder may occur many times, and each may be as long as a request's head.
            if url.len() > MAX_URL + 1 {
                return Err(RedirectError::TooLong);
            }
        }
        Ok(())
    }
}

/// Appends text of the client and percent-encodes the bytes that a URI may not hold: a request line
/// may hold bytes at which some parsers would end the Location value.
fn encode(text: &str, url: &mut String) {
    for byte in text.bytes() {
        match belongs_in_uri(byte) {
            true => url.push(char::from(byte)),
            false => {
                let _ = write!(url, "%{byte:02X}");
            }
        }
    }
}

/// Returns true for bytes allowed in a path or a query (RFC 3986 sections 3.3 and 3.4).
fn belongs_in_uri(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte)
}

fn scheme(is_tls: bool) -> &'static str {
    if is_tls { "https" } else { "http" }
}

fn default_port(is_tls: bool) -> u16 {
    if is_tls { 443 } else { 80 }
}

#[cfg(test)]
mod tests;
