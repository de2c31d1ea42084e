//! Known field names as numbers. A name is identified once, when a head is parsed; later
//! comparisons are of one byte.

/// Declares the names, each with its lower-case text and the spelling most senders use.
macro_rules! names {
    ($($variant:ident $lower:literal $title:literal)*) => {
        /// A known field name; [`Name::Other`] is any other.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Name {
            /// Any name that is not known.
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
            #[cfg(test)]
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
    /// Identifies a name, in any case.
    #[inline]
    pub fn of(sent: &[u8]) -> Self {
        let ends = Ends::of(sent);
        let index = TABLE[ends.slot(sent.len())];
        let Some(entry) = ENTRIES.get(usize::from(index)) else { return Self::Other };
        let is_it = usize::from(entry.length) == sent.len()
            && is_same(ends.first, entry.ends.first)
            && is_same(ends.last, entry.ends.last)
            && (sent.len() <= 16 || sent.eq_ignore_ascii_case(entry.name.text().as_bytes()));
        if is_it { entry.name } else { Self::Other }
    }

    /// The bit of this name in a set of names.
    pub(super) const fn bit(self) -> u64 {
        1 << (self as u8)
    }
}

/// The first and the last eight bytes of a name, which overlap in names shorter than 16 bytes.
/// Names shorter than eight bytes use four and four; those shorter than four use the whole name.
#[derive(Clone, Copy)]
struct Ends {
    first: u64,
    last: u64,
}

/// The bit by which upper-case and lower-case letters differ, in each byte.
const CASE: u64 = u64::from_ne_bytes([0x20; 8]);

impl Ends {
    #[inline]
    const fn of(name: &[u8]) -> Self {
        if let (Some(first), Some(last)) = (name.first_chunk::<8>(), name.last_chunk::<8>()) {
            return Self { first: u64::from_le_bytes(*first), last: u64::from_le_bytes(*last) };
        }
        if let (Some(first), Some(last)) = (name.first_chunk::<4>(), name.last_chunk::<4>()) {
            let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
            return Self { first: first as u64, last: last as u64 };
        }
        let (mut first, mut at) = (0, 0);
        while at < name.len() {
            first |= (name[at] as u64) << (8 * at);
            at += 1;
        }
        Self { first, last: 0 }
    }

    /// The index in [`TABLE`], the same in any case. The factor was found by search; [`table`]
    /// fails the build if two names collide.
    #[inline]
    const fn slot(self, length: usize) -> usize {
        let mixed = (self.first | CASE).wrapping_add((self.last | CASE).wrapping_mul(5));
        (mixed.wrapping_add(length as u64).wrapping_mul(0x1f44_ebd1_3cc7_5f3f) >> 56) as usize
    }
}

/// Returns true if `sent` equals `known`, ignoring case. `known` is in lower case.
#[inline]
const fn is_same(sent: u64, known: u64) -> bool {
    let differing = sent ^ known;
    // Among the known bytes only letters have the bit 0x40, so only letters may differ in case.
    differing & !CASE == 0 && (differing << 1) & !known == 0
}

/// A known name in a form that compares fast.
struct Entry {
    ends: Ends,
    length: u8,
    name: Name,
}

static ENTRIES: [Entry; Name::ALL.len()] = {
    let mut entries = [const { Entry { ends: Ends { first: 0, last: 0 }, length: 0, name: Name::Other } };
        Name::ALL.len()];
    let mut at = 0;
    while at < entries.len() {
        let name = Name::ALL[at];
        let text = name.text().as_bytes();
        entries[at] = Entry { ends: Ends::of(text), length: text.len() as u8, name };
        at += 1;
    }
    entries
};

/// For each slot, the index of its name in [`ENTRIES`], or `u8::MAX`.
static TABLE: [u8; 256] = table();

const fn table() -> [u8; 256] {
    let mut table = [u8::MAX; 256];
    let mut at = 0;
    while at < Name::ALL.len() {
        let text = Name::ALL[at].text().as_bytes();
        let slot = Ends::of(text).slot(text.len());
        assert!(table[slot] == u8::MAX);
        let mut byte = 0;
        while byte < text.len() {
            // `is_same` takes each byte with this bit for a letter.
            assert!(text[byte].is_ascii_lowercase() || text[byte] & 0x40 == 0);
            byte += 1;
        }
        table[slot] = at as u8;
        at += 1;
    }
    table
}

/// A set of known names, tested with one operation.
#[derive(Clone, Copy, Debug)]
pub struct NameSet(u64);

impl NameSet {
    /// The set of these names.
    pub const fn of(names: &[Name]) -> Self {
        let (mut set, mut at) = (0, 0);
        while at < names.len() {
            set |= names[at].bit();
            at += 1;
        }
        Self(set)
    }

    /// The set as bits; see [`Name::bit`].
    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    /// Returns true if the name is in the set.
    pub fn has(self, name: Name) -> bool {
        self.0 & name.bit() != 0 && name != Name::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_known_names_are_found_in_any_case() {
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
        // Bytes that differ from a known name's only in the case bit and are not letters.
        for other in
            [&b"content_length"[..], b"content\rlength", b"hos\x54", b"\x14e", b"http\x12-settings"]
        {
            let is_case = other.eq_ignore_ascii_case(b"host") || other.eq_ignore_ascii_case(b"te");
            assert_eq!(Name::of(other) != Name::Other, is_case, "{other:?}");
        }
    }
}
