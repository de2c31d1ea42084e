//! Field names that the balancer looks for, as numbers: found once while a head is read, compared
//! as a byte from then on.

/// Declares the names, each with its lower-case text and the spelling most senders use.
macro_rules! names {
    ($($variant:ident $lower:literal $title:literal)*) => {
        /// A known field name; [`Name::Other`] is any other.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Name {
            /// A name without a number.
            Other,
            $(
                #[doc = concat!("`", $title, "`")]
                $variant,
            )*
        }

        impl Name {
            /// Every known name.
            pub const ALL: &[Name] = &[$(Name::$variant),*];

            /// The name in lower case, as HTTP/2 has it; empty for [`Name::Other`].
            pub const fn text(self) -> &'static str {
                match self {
                    Name::Other => "",
                    $(Name::$variant => $lower,)*
                }
            }

            /// The spelling most senders use.
            const fn title(self) -> &'static str {
                match self {
                    Name::Other => "",
                    $(Name::$variant => $title,)*
                }
            }
        }
    };
}

names! {
    Host "host" "Host"
    ContentLength "content-length" "Content-Length"
    TransferEncoding "transfer-encoding" "Transfer-Encoding"
    Connection "connection" "Connection"
    Cookie "cookie" "Cookie"
    SetCookie "set-cookie" "Set-Cookie"
    Expect "expect" "Expect"
    Te "te" "TE"
    Trailer "trailer" "Trailer"
    Upgrade "upgrade" "Upgrade"
    KeepAlive "keep-alive" "Keep-Alive"
    ProxyConnection "proxy-connection" "Proxy-Connection"
    Http2Settings "http2-settings" "HTTP2-Settings"
    Authorization "authorization" "Authorization"
    ProxyAuthorization "proxy-authorization" "Proxy-Authorization"
    WwwAuthenticate "www-authenticate" "WWW-Authenticate"
    ProxyAuthenticate "proxy-authenticate" "Proxy-Authenticate"
    AuthenticationInfo "authentication-info" "Authentication-Info"
    ProxyAuthenticationInfo "proxy-authentication-info" "Proxy-Authentication-Info"
    XForwardedFor "x-forwarded-for" "X-Forwarded-For"
    XForwardedProto "x-forwarded-proto" "X-Forwarded-Proto"
    XForwardedPort "x-forwarded-port" "X-Forwarded-Port"
    XForwardedHost "x-forwarded-host" "X-Forwarded-Host"
    Forwarded "forwarded" "Forwarded"
    XRealIp "x-real-ip" "X-Real-IP"
    XAmznTraceId "x-amzn-trace-id" "X-Amzn-Trace-Id"
    Origin "origin" "Origin"
    AccessControlRequestMethod "access-control-request-method" "Access-Control-Request-Method"
    UserAgent "user-agent" "User-Agent"
    Referer "referer" "Referer"
    Accept "accept" "Accept"
    AcceptEncoding "accept-encoding" "Accept-Encoding"
    AcceptLanguage "accept-language" "Accept-Language"
    ContentType "content-type" "Content-Type"
    CacheControl "cache-control" "Cache-Control"
    Expires "expires" "Expires"
    Date "date" "Date"
    Server "server" "Server"
    Location "location" "Location"
    RetryAfter "retry-after" "Retry-After"
    SecWebSocketKey "sec-websocket-key" "Sec-WebSocket-Key"
    SecWebSocketAccept "sec-websocket-accept" "Sec-WebSocket-Accept"
    GrpcStatus "grpc-status" "grpc-status"
    GrpcMessage "grpc-message" "grpc-message"
    LastModified "last-modified" "Last-Modified"
    Etag "etag" "ETag"
}

impl Name {
    /// The number of a name, in whatever case it was sent.
    #[inline]
    pub fn of(sent: &[u8]) -> Self {
        if sent.is_empty() {
            return Self::Other;
        }
        let place = TABLE[slot(sent)];
        if place == 0 {
            return Self::Other;
        }
        let name = Self::ALL[usize::from(place) - 1];
        let lower = name.text().as_bytes();
        if sent.len() != lower.len() {
            return Self::Other;
        }
        let is_lower = sent[0] & 0x20 != 0;
        let usual = if is_lower { lower } else { name.title().as_bytes() };
        let is_it = is_same(sent, usual) || sent.eq_ignore_ascii_case(lower);
        if is_it { name } else { Self::Other }
    }

    /// Its bit in a set of names.
    pub(super) const fn bit(self) -> u64 {
        1 << (self as u8)
    }
}

/// Whether two texts of one length are the same: two loads each, which may overlap, for most names.
#[inline]
fn is_same(sent: &[u8], known: &[u8]) -> bool {
    let ends = |text: &[u8]| {
        let first = u64::from_le_bytes(*text.first_chunk::<8>()?);
        Some((first, u64::from_le_bytes(*text.last_chunk::<8>()?)))
    };
    let short_ends = |text: &[u8]| {
        let first = u32::from_le_bytes(*text.first_chunk::<4>()?);
        Some((first, u32::from_le_bytes(*text.last_chunk::<4>()?)))
    };
    match sent.len() {
        8..=16 => ends(sent) == ends(known),
        4..=7 => short_ends(sent) == short_ends(known),
        _ => sent == known,
    }
}

const SLOTS: usize = 256;

/// A place in [`TABLE`]: the length and the lower-case bits of three letters, mixed. The factors were
/// found by trying; [`table`] fails the build where they do not tell two names apart.
const fn slot(name: &[u8]) -> usize {
    let length = name.len();
    (length * 121
        + (name[0] & 31) as usize * 86
        + (name[length - 1] & 31) as usize * 50
        + (name[length.saturating_sub(4)] & 31) as usize * 38)
        % SLOTS
}

/// For each slot one more than the index of its name in [`Name::ALL`]; 0 is none.
static TABLE: [u8; SLOTS] = table();

const fn table() -> [u8; SLOTS] {
    let mut table = [0; SLOTS];
    let mut at = 0;
    while at < Name::ALL.len() {
        let text = Name::ALL[at].text().as_bytes();
        let slot = slot(text);
        assert!(table[slot] == 0);
        table[slot] = at as u8 + 1;
        at += 1;
    }
    table
}

/// A set of known names, to ask for at once.
#[derive(Clone, Copy, Debug)]
pub struct NameSet(u64);

impl NameSet {
    /// These names.
    pub const fn of(names: &[Name]) -> Self {
        let (mut set, mut at) = (0, 0);
        while at < names.len() {
            set |= names[at].bit();
            at += 1;
        }
        Self(set)
    }

    /// As bits; see [`Name::bit`].
    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    /// Whether a name is one of them.
    pub fn has(self, name: Name) -> bool {
        self.0 & name.bit() != 0 && name != Name::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case_and_nothing_else_is() {
        assert!(Name::ALL.len() < 64, "a set of names is one 64-bit number");
        for &name in Name::ALL {
            let text = name.text();
            assert_eq!(name.title().to_ascii_lowercase(), text);
            for spelled in [text.to_owned(), name.title().to_owned(), text.to_ascii_uppercase()] {
                assert_eq!(Name::of(spelled.as_bytes()), name, "{spelled}");
            }
            for other in [format!("{text}x"), format!("x{text}"), text[1..].to_owned()] {
                let found = Name::of(other.as_bytes());
                assert!(found.text() == other || found == Name::Other, "{other}");
            }
        }
        assert_eq!(Name::of(b""), Name::Other);
        assert_eq!(Name::of(b"x-session-id"), Name::Other);
        // The underscore differs from the hyphen in bits that the slot does not see.
        assert_eq!(Name::of(b"content_length"), Name::Other);
    }
}
